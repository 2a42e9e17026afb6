//! The children of default policies: made when their subject is first seen, changed and deleted
//! with their parent unless somebody edited them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::*;
use crate::domain::policy::{MOST_CHILDREN, MOST_CHILDREN_OF_ORGANIZATION, SubjectMatcher};

/// What became of a child that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildOutcome {
    /// It was made.
    Made,
    /// It had been deleted, and is there again under its id.
    Revived,
    /// It was there.
    Present,
    /// Another live policy of the family is for exactly this subject.
    SubjectTaken,
    /// The parent is not there any more, or now is for subjects of another kind.
    ParentChanged,
    /// The parent or the organization has as many children as it may.
    Full,
}

/// A parent as a transaction finds it.
struct Parent {
    row: GatewayPolicyRow,
    children: i64,
}

/// Makes these children of default policies, each with its id, name, matchers and times; what it
/// says follows the parent as it is now. Tells what became of each, in order. Belongs in a write
/// transaction that concerns the organization; rows of other organizations are
/// [`ChildOutcome::ParentChanged`].
pub async fn ensure_children(
    conn: &mut Conn,
    organization_id: OrganizationId,
    children: Vec<GatewayPolicyRow>,
) -> Result<Vec<ChildOutcome>, DbError> {
    let mut parents: HashMap<PolicyId, Option<Parent>> = HashMap::new();
    let mut all = count_children(conn, organization_id, None).await?;
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
            Some(parent) => ensure_child(conn, parent, all, child).await?,
            None => ChildOutcome::ParentChanged,
        };
        if let (ChildOutcome::Made | ChildOutcome::Revived, Some(parent)) = (outcome, parent) {
            parent.children += 1;
            all += 1;
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

async fn ensure_child(
    conn: &mut Conn,
    parent: &Parent,
    all: i64,
    child: GatewayPolicyRow,
) -> Result<ChildOutcome, DbError> {
    let of = &parent.row;
    let Some(policy_type) = of.policy_type.of_children() else {
        return Ok(ChildOutcome::ParentChanged);
    };
    if keys(&child.subject_matchers) != keys(&of.subject_matchers) {
        return Ok(ChildOutcome::ParentChanged);
    }
    let known: Option<Option<NaiveDateTime>> = optional(on!(conn, c => gateway_policies::table
        .filter(gateway_policies::organization_id.eq(of.organization_id))
        .filter(gateway_policies::id.eq(child.id))
        .select(gateway_policies::deleted_at)
        .first(c)))?;
    if known == Some(None) {
        return Ok(ChildOutcome::Present);
    }
    let taken = find_gateway_policy_for(
        conn,
        of.organization_id,
        policy_type.family(),
        &child.matchers_key,
    );
    if taken.await?.is_some() {
        return Ok(ChildOutcome::SubjectTaken);
    }
    if parent.children >= i64::from(MOST_CHILDREN)
        || all >= i64::from(MOST_CHILDREN_OF_ORGANIZATION)
    {
        return Ok(ChildOutcome::Full);
    }
    let child = GatewayPolicyRow {
        organization_id: of.organization_id,
        policy_type,
        family: policy_type.family().as_str().to_owned(),
        config: of.config.clone(),
        action: of.action.clone(),
        enabled: of.enabled,
        priority: of.priority,
        created_by: None,
        is_system_generated: true,
        parent_policy_id: Some(of.id),
        detached: false,
        epochs: Value::Object(serde_json::Map::new()),
        deleted_at: None,
        ..child
    };
    if known.is_none() {
        insert_gateway_policy(conn, child).await?;
        return Ok(ChildOutcome::Made);
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
        .filter(gateway_policies::organization_id.eq(of.organization_id))
        .filter(gateway_policies::id.eq(child.id))
        .set((&changes, gateway_policies::deleted_at.eq(None::<NaiveDateTime>)))
        .execute(c))?;
    Ok(ChildOutcome::Revived)
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

/// How many live children the parent has, or all parents of the organization together.
async fn count_children(
    conn: &mut Conn,
    organization_id: OrganizationId,
    parent: Option<PolicyId>,
) -> Result<i64, DbError> {
    on!(conn, c => {
        let mut query = gateway_policies::table
            .filter(gateway_policies::organization_id.eq(organization_id))
            .filter(gateway_policies::parent_policy_id.is_not_null())
            .filter(gateway_policies::deleted_at.is_null())
            .select(diesel::dsl::count_star())
            .into_boxed();
        if let Some(parent) = parent {
            query = query.filter(gateway_policies::parent_policy_id.eq(parent));
        }
        query.first(c)
    })
}

/// The keys of matchers, sorted. None where they can't be read.
fn keys(matchers: &Value) -> Option<Vec<String>> {
    let matchers: Vec<SubjectMatcher> = serde_json::from_value(matchers.clone()).ok()?;
    let mut keys: Vec<String> = matchers.into_iter().map(|one| one.key).collect();
    keys.sort_unstable();
    Some(keys)
}

/// Makes the attached children of a default say what it says; how many there are.
pub async fn update_attached_children(
    conn: &mut Conn,
    parent: &GatewayPolicyRow,
) -> Result<usize, DbError> {
    on!(conn, c => diesel::update(gateway_policies::table)
        .filter(gateway_policies::organization_id.eq(parent.organization_id))
        .filter(gateway_policies::parent_policy_id.eq(parent.id))
        .filter(gateway_policies::detached.eq(false))
        .filter(gateway_policies::deleted_at.is_null())
        .set((
            gateway_policies::config.eq(parent.config.clone()),
            gateway_policies::action.eq(parent.action.clone()),
            gateway_policies::enabled.eq(parent.enabled),
            gateway_policies::priority.eq(parent.priority),
            gateway_policies::updated_at.eq(parent.updated_at),
        ))
        .execute(c))
}

/// Marks the attached children of a default as deleted; how many there were.
pub async fn delete_attached_children(
    conn: &mut Conn,
    organization_id: OrganizationId,
    parent: PolicyId,
    now: NaiveDateTime,
) -> Result<usize, DbError> {
    on!(conn, c => diesel::update(gateway_policies::table)
        .filter(gateway_policies::organization_id.eq(organization_id))
        .filter(gateway_policies::parent_policy_id.eq(parent))
        .filter(gateway_policies::detached.eq(false))
        .filter(gateway_policies::deleted_at.is_null())
        .set((
            gateway_policies::deleted_at.eq(Some(now)),
            gateway_policies::updated_at.eq(now),
        ))
        .execute(c))
}
