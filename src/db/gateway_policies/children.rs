//! The children of default policies: created when their subject is first seen, and updated and deleted
//! with their parent unless they were edited.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::*;
use crate::domain::policy::{MAX_CHILDREN, MAX_CHILDREN_OF_ORGANIZATION, SubjectMatcher};

/// The result of creating a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildOutcome {
    Created,
    /// It had been deleted and was restored with its id.
    Restored,
    /// It existed already.
    Present,
    /// Another policy of the family has exactly this subject.
    SubjectTaken,
    /// The parent does not exist any more, or has subjects of another kind.
    ParentChanged,
    /// The parent or the organization has the most children that it may have.
    Full,
}

/// A parent, and the number of its children.
struct Parent {
    row: GatewayPolicyRow,
    children: i64,
}

/// Creates these children of default policies with their ids, names, matchers and times; the other
/// columns are taken from the current parent. Returns the outcomes in the same order. Has to run in a
/// write transaction of the organization; rows of other organizations are
/// [`ChildOutcome::ParentChanged`].
pub async fn ensure_children(
    conn: &mut Conn,
    organization_id: OrganizationId,
    children: Vec<GatewayPolicyRow>,
) -> Result<Vec<ChildOutcome>, DbError> {
    let mut parents: HashMap<PolicyId, Option<Parent>> = HashMap::new();
    let mut total = count_children(conn, organization_id, None).await?;
    let mut outcomes = Vec::with_capacity(children.len());
    for child in children {
        let parent = match child.parent_policy_id {
            Some(id) if child.organization_id == organization_id => match parents.entry(id) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(find_parent(conn, organization_id, id).await?),
            },
            _ => {
                outcomes.push(ChildOutcome::ParentChanged);
                continue;
            }
        };
        let outcome = match parent {
            Some(parent) => ensure_child(conn, parent, total, child).await?,
            None => ChildOutcome::ParentChanged,
        };
        if let (ChildOutcome::Created | ChildOutcome::Restored, Some(parent)) = (outcome, parent) {
            parent.children += 1;
            total += 1;
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

async fn ensure_child(
    conn: &mut Conn,
    parent: &Parent,
    total: i64,
    child: GatewayPolicyRow,
) -> Result<ChildOutcome, DbError> {
    let parent_row = &parent.row;
    let Some(policy_type) = parent_row.policy_type.child_type() else {
        return Ok(ChildOutcome::ParentChanged);
    };
    if matcher_keys(&child.subject_matchers) != matcher_keys(&parent_row.subject_matchers) {
        return Ok(ChildOutcome::ParentChanged);
    }
    let existing: Option<Option<NaiveDateTime>> = optional(on!(conn, c => gateway_policies::table
        .filter(gateway_policies::organization_id.eq(parent_row.organization_id))
        .filter(gateway_policies::id.eq(child.id))
        .select(gateway_policies::deleted_at)
        .first(c)))?;
    if existing == Some(None) {
        return Ok(ChildOutcome::Present);
    }
    let taken = find_gateway_policy_for(
        conn,
        parent_row.organization_id,
        policy_type.family(),
        &child.matchers_key,
    );
    if taken.await?.is_some() {
        return Ok(ChildOutcome::SubjectTaken);
    }
    if parent.children >= i64::from(MAX_CHILDREN)
        || total >= i64::from(MAX_CHILDREN_OF_ORGANIZATION)
    {
        return Ok(ChildOutcome::Full);
    }
    let child = GatewayPolicyRow {
        organization_id: parent_row.organization_id,
        policy_type,
        family: policy_type.family().as_str().to_owned(),
        config: parent_row.config.clone(),
        action: parent_row.action.clone(),
        enabled: parent_row.enabled,
        priority: parent_row.priority,
        created_by: None,
        is_system_generated: true,
        parent_policy_id: Some(parent_row.id),
        detached: false,
        epochs: Value::Object(serde_json::Map::new()),
        deleted_at: None,
        ..child
    };
    if existing.is_none() {
        insert_gateway_policy(conn, child).await?;
        return Ok(ChildOutcome::Created);
    }
    let changes = GatewayPolicyChanges {
        name: child.name,
        description: child.description,
        subject_matchers: child.subject_matchers,
        matchers_key: child.matchers_key,
        config: child.config,
        action: child.action,
        enabled: child.enabled,
        priority: child.priority,
        is_system_generated: true,
        detached: false,
        epochs: child.epochs,
        updated_at: child.updated_at,
    };
    on!(conn, c => diesel::update(gateway_policies::table)
        .filter(gateway_policies::organization_id.eq(parent_row.organization_id))
        .filter(gateway_policies::id.eq(child.id))
        .set((&changes, gateway_policies::deleted_at.eq(None::<NaiveDateTime>)))
        .execute(c))?;
    Ok(ChildOutcome::Restored)
}

async fn find_parent(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: PolicyId,
) -> Result<Option<Parent>, DbError> {
    let Some(row) = find_gateway_policy(conn, organization_id, id).await? else { return Ok(None) };
    let children = count_children(conn, organization_id, Some(id)).await?;
    Ok(Some(Parent { row, children }))
}

/// How many children the parent has, or all parents of the organization for `None`.
async fn count_children(
    conn: &mut Conn,
    organization_id: OrganizationId,
    parent: Option<PolicyId>,
) -> Result<i64, DbError> {
    on!(conn, c => {
        let query = gateway_policies::table
            .filter(live_of!(gateway_policies, organization_id))
            .filter(gateway_policies::parent_policy_id.is_not_null())
            .select(diesel::dsl::count_star())
            .into_boxed();
        filter_given(query, gateway_policies::parent_policy_id, parent).first(c)
    })
}

/// The keys of matchers, sorted. `None` if they cannot be parsed.
fn matcher_keys(matchers: &Value) -> Option<Vec<String>> {
    let matchers: Vec<SubjectMatcher> = serde_json::from_value(matchers.clone()).ok()?;
    let mut keys: Vec<String> = matchers.into_iter().map(|one| one.key).collect();
    keys.sort_unstable();
    Some(keys)
}

/// Updates the children of a default policy that are not detached. Returns their number.
pub async fn update_attached_children(
    conn: &mut Conn,
    parent: &GatewayPolicyRow,
) -> Result<usize, DbError> {
    on!(conn, c => diesel::update(gateway_policies::table)
        .filter(live_of!(gateway_policies, parent.organization_id))
        .filter(gateway_policies::parent_policy_id.eq(parent.id))
        .filter(gateway_policies::detached.eq(false))
        .set((
            gateway_policies::config.eq(parent.config.clone()),
            gateway_policies::action.eq(parent.action.clone()),
            gateway_policies::enabled.eq(parent.enabled),
            gateway_policies::priority.eq(parent.priority),
            gateway_policies::updated_at.eq(parent.updated_at),
        ))
        .execute(c))
}

/// Marks the children of a default policy that are not detached as deleted. Returns their number.
pub async fn delete_attached_children(
    conn: &mut Conn,
    organization_id: OrganizationId,
    parent: PolicyId,
    now: NaiveDateTime,
) -> Result<usize, DbError> {
    on!(conn, c => diesel::update(gateway_policies::table)
        .filter(live_of!(gateway_policies, organization_id))
        .filter(gateway_policies::parent_policy_id.eq(parent))
        .filter(gateway_policies::detached.eq(false))
        .set(deleted!(gateway_policies, now))
        .execute(c))
}
