//! Validates policies and stores them together with the changes of their children.

use serde_json::{Map, Value};

use super::{GatewayPolicy, GatewayPolicyFields, WHAT, fallback, fields_of, guard_config};
use crate::api::body::MergePatch;
use crate::api::error::{ApiError, FieldError};
use crate::api::shared::{as_json, check_description};
use crate::audit::{self, Actor, Event};
use crate::db::api_keys::has_api_key;
use crate::db::gateway_policies::{
    GatewayPolicyChanges, GatewayPolicyRow, MAX_POLICIES, count_created_gateway_policies,
    delete_attached_children, delete_gateway_policy, find_gateway_policy, find_gateway_policy_for,
    insert_gateway_policy, update_attached_children, update_gateway_policy,
};
use crate::db::users::find_user;
use crate::db::workspaces::find_workspace;
use crate::db::{Conn, DbError};
use crate::domain::ids::{OrganizationId, PolicyId};
use crate::domain::policy::{
    Audience, Epochs, InvalidField, Matchers, PolicyConfig, PolicyFamily, PolicyType,
};
use crate::domain::scope::WorkspaceScope;

/// Priorities lie between this and its negative.
const MAX_PRIORITY: i64 = 1_000_000_000;

/// Valid fields with the matchers in normal form.
pub(super) struct Checked {
    fields: GatewayPolicyFields,
    audience: Audience,
    matchers_key: String,
}

/// Checks everything that needs no database; names every wrong field. `has_recognizer` says whether there is
/// a service that recognizes names for guards.
pub(super) fn check(
    mut fields: GatewayPolicyFields,
    has_recognizer: bool,
) -> Result<Checked, ApiError> {
    let mut errors = Vec::new();
    if let Err(ApiError::Invalid(more)) = check_description(fields.description.as_deref()) {
        errors.extend(more);
    }
    if !(-MAX_PRIORITY..=MAX_PRIORITY).contains(&fields.priority) {
        let message = format!("must be -{MAX_PRIORITY} to {MAX_PRIORITY}");
        errors.push(FieldError { field: "priority".to_owned(), message });
    }
    let field_error = |InvalidField { field, message }: InvalidField| FieldError { field, message };
    let config = match PolicyConfig::parse(fields.policy_type, &fields.config) {
        Ok(config) => Some(config),
        Err(wrong) => {
            errors.extend(wrong.into_iter().map(field_error));
            None
        }
    };
    match Audience::parse(fields.policy_type, &fields.subject_matchers) {
        Ok((audience, matchers)) if errors.is_empty() => {
            if let Some(config) = config {
                if let Err(wrong) = fallback::check_audience(&config, &audience) {
                    return Err(ApiError::Invalid(vec![field_error(wrong)]));
                }
                guard_config::check_config(&config, has_recognizer).map_err(ApiError::Invalid)?;
            }
            let matchers_key = match fields.policy_type.family() {
                PolicyFamily::Fallback => fallback::matchers_key(&fields),
                _ => Audience::digest(&matchers),
            };
            fields.subject_matchers = matchers;
            return Ok(Checked { fields, audience, matchers_key });
        }
        Ok(_) => {}
        Err(wrong) => errors.extend(wrong.into_iter().map(field_error)),
    }
    Err(ApiError::Invalid(errors))
}

/// Creates a policy, or updates the existing one of the same family and subject.
pub(super) async fn put(
    conn: &mut Conn,
    organization_id: OrganizationId,
    actor: &Actor,
    checked: Checked,
) -> Result<GatewayPolicyRow, ApiError> {
    check_subjects_exist(conn, organization_id, &checked.audience).await?;
    let family = checked.fields.policy_type.family();
    fallback::check_targets(conn, organization_id, None, (&checked.fields, &checked.audience))
        .await?;
    let present =
        find_gateway_policy_for(conn, organization_id, family, &checked.matchers_key).await?;
    let own = present.as_ref().map(|present| present.id);
    guard_config::check_patterns(conn, organization_id, own, &checked.fields).await?;
    match present {
        Some(present) if family == PolicyFamily::Fallback => return Err(name_is_taken(&present)),
        Some(present) => return change(conn, actor, present, checked).await,
        None => {}
    }
    if count_created_gateway_policies(conn, organization_id).await? >= MAX_POLICIES {
        return Err(ApiError::Conflict {
            code: "too_many_policies",
            detail: format!(
                "An organization has at most {MAX_POLICIES} policies besides the children of \
                 defaults; delete some, or let one policy match several subjects."
            ),
        });
    }
    let now = actor.now.naive_utc();
    let Checked { fields, matchers_key, .. } = checked;
    let row = GatewayPolicyRow {
        id: actor.clock.new_id(),
        organization_id,
        name: fields.name.into(),
        description: fields.description,
        policy_type: fields.policy_type,
        family: family.as_str().to_owned(),
        subject_matchers: as_json(&fields.subject_matchers)?,
        matchers_key,
        config: fields.config,
        action: fields.action.as_str().to_owned(),
        enabled: fields.enabled,
        priority: fields.priority,
        created_by: actor.principal.and_then(|principal| principal.api_key_id()),
        is_system_generated: false,
        parent_policy_id: None,
        detached: false,
        epochs: Value::Object(Map::new()),
        created_at: now,
        updated_at: now,
        deleted_at: None,
    };
    insert_gateway_policy(conn, row.clone()).await?;
    let after = as_json(&GatewayPolicy::of(&row)?)?;
    record(conn, actor, "create_gateway_policy", &row, None, Some(after)).await?;
    Ok(row)
}

/// Applies a patch. A patch without a change does nothing.
pub(super) async fn patch(
    conn: &mut Conn,
    organization_id: OrganizationId,
    actor: &Actor,
    id: PolicyId,
    patch: &MergePatch<GatewayPolicyFields>,
    has_recognizer: bool,
) -> Result<GatewayPolicyRow, ApiError> {
    let present = existing(conn, organization_id, id).await?;
    let mut current = fields_of(&present)?;
    // A complete configuration replaces the present one and is not merged with it.
    if let Some(Value::Object(config)) = patch.value("config")
        && PolicyConfig::is_complete(present.policy_type, config)
    {
        current.config = Value::Object(Map::new());
    }
    let checked = patch.apply(&current)?.check(|patched| {
        if patched.policy_type != present.policy_type {
            let message = "can't change; delete the policy and create another";
            return Err(ApiError::field("policy_type", message));
        }
        // What can't be served any more can still be disabled.
        let is_kept = patched.config == present.config;
        check(patched, has_recognizer || is_kept)
    })?;
    if checked.fields == fields_of(&present)? {
        return Ok(present);
    }
    let own = Some(present.id);
    fallback::check_targets(conn, organization_id, own, (&checked.fields, &checked.audience))
        .await?;
    guard_config::check_patterns(conn, organization_id, own, &checked.fields).await?;
    if present.policy_type.family() == PolicyFamily::Fallback {
        check_subjects_exist(conn, organization_id, &checked.audience).await?;
    }
    if checked.matchers_key != present.matchers_key {
        if present.parent_policy_id.is_some() {
            let message =
                "can't change: the policy was created from a default policy for this subject";
            return Err(ApiError::field("subject_matchers", message));
        }
        check_subjects_exist(conn, organization_id, &checked.audience).await?;
        let family = checked.fields.policy_type.family();
        let other =
            find_gateway_policy_for(conn, organization_id, family, &checked.matchers_key).await?;
        if let Some(other) = other {
            if family == PolicyFamily::Fallback {
                return Err(name_is_taken(&other));
            }
            return Err(ApiError::Conflict {
                code: "already_exists",
                detail: format!(
                    "Another policy of the same family ({}) has these subject_matchers; change \
                     that one.",
                    other.id
                ),
            });
        }
    }
    change(conn, actor, present, checked).await
}

fn name_is_taken(other: &GatewayPolicyRow) -> ApiError {
    ApiError::Conflict {
        code: "already_exists",
        detail: format!("Another fallback ({}) has this name; change that one.", other.id),
    }
}

/// Deletes a policy, and with a default its children that have not been edited.
pub(super) async fn delete(
    conn: &mut Conn,
    organization_id: OrganizationId,
    actor: &Actor,
    id: PolicyId,
) -> Result<(), ApiError> {
    let present = existing(conn, organization_id, id).await?;
    let now = actor.now.naive_utc();
    delete_gateway_policy(conn, organization_id, id, now).await?;
    let mut after = None;
    if present.policy_type.is_default() {
        let children = delete_attached_children(conn, organization_id, id, now).await?;
        after = Some(serde_json::json!({"deleted": {"children": children}}));
    }
    let before = as_json(&GatewayPolicy::of(&present)?)?;
    record(conn, actor, "delete_gateway_policy", &present, Some(before), after).await
}

/// The organization's policy with this id.
pub(super) async fn existing(
    conn: &mut Conn,
    organization_id: OrganizationId,
    id: PolicyId,
) -> Result<GatewayPolicyRow, ApiError> {
    find_gateway_policy(conn, organization_id, id).await?.ok_or(ApiError::NotFound(WHAT))
}

/// Updates a policy. A child is detached from its default. The attached children of a default are
/// updated too, or deleted if the default has other subjects now.
async fn change(
    conn: &mut Conn,
    actor: &Actor,
    present: GatewayPolicyRow,
    checked: Checked,
) -> Result<GatewayPolicyRow, ApiError> {
    let Checked { fields, matchers_key, .. } = checked;
    let before = as_json(&GatewayPolicy::of(&present)?)?;
    let has_new_subject = matchers_key != present.matchers_key;
    // Spend that was not counted, or that was of other subjects, has to be read into the counters again.
    let counted = match has_new_subject || !present.enabled {
        true => Vec::new(),
        false => limit_names(present.policy_type, &present.config),
    };
    let limits = limit_names(present.policy_type, &fields.config);
    let epochs = epochs_of(conn, &present).await?;
    let epochs = epochs.after(&counted, &limits, actor.clock.new_id());
    let changes = GatewayPolicyChanges {
        name: fields.name.into(),
        description: fields.description,
        subject_matchers: as_json(&fields.subject_matchers)?,
        matchers_key,
        config: fields.config,
        action: fields.action.as_str().to_owned(),
        enabled: fields.enabled,
        priority: fields.priority,
        is_system_generated: false,
        detached: present.parent_policy_id.is_some(),
        epochs: as_json(&epochs)?,
        updated_at: actor.now.naive_utc(),
    };
    let row = update_gateway_policy(conn, present.organization_id, present.id, changes).await?;
    let mut after = as_json(&GatewayPolicy::of(&row)?)?;
    if row.policy_type.is_default() {
        let (change, children) = if has_new_subject {
            let (of, now) = (row.organization_id, row.updated_at);
            ("deleted", delete_attached_children(conn, of, row.id, now).await?)
        } else {
            ("updated", update_attached_children(conn, &row).await?)
        };
        if let Value::Object(after) = &mut after {
            after.insert(change.to_owned(), serde_json::json!({"children": children}));
        }
    }
    record(conn, actor, "update_gateway_policy", &row, Some(before), Some(after)).await?;
    Ok(row)
}

/// The epochs of the policy's counters; those of an attached child are its default's.
async fn epochs_of(conn: &mut Conn, row: &GatewayPolicyRow) -> Result<Epochs, ApiError> {
    let stored = match row.parent_policy_id.filter(|_| !row.detached) {
        Some(parent) => {
            find_gateway_policy(conn, row.organization_id, parent).await?.map(|row| row.epochs)
        }
        None => Some(row.epochs.clone()),
    };
    let epochs = stored.map(serde_json::from_value).transpose();
    epochs.map(Option::unwrap_or_default).map_err(|error| {
        DbError::Internal(format!("gateway policy {}: epochs: {error}", row.id)).into()
    })
}

/// The names of the limits of a stored configuration; none if it can't be read.
fn limit_names(policy_type: PolicyType, config: &Value) -> Vec<&'static str> {
    PolicyConfig::parse(policy_type, config).map_or_else(|_| Vec::new(), |one| one.limit_names())
}

/// Checks that everything that the matchers name exists in this organization.
async fn check_subjects_exist(
    conn: &mut Conn,
    organization_id: OrganizationId,
    audience: &Audience,
) -> Result<(), ApiError> {
    let Audience::Matching(matchers) = audience else { return Ok(()) };
    if matchers.organization_ids().iter().any(|id| *id != organization_id) {
        return Err(ApiError::NotFound("organization"));
    }
    check_identities_exist(conn, organization_id, matchers).await
}

async fn check_identities_exist(
    conn: &mut Conn,
    organization_id: OrganizationId,
    matchers: &Matchers,
) -> Result<(), ApiError> {
    for workspace_id in matchers.workspace_ids().iter().copied() {
        let scope = WorkspaceScope { organization_id, workspace_id };
        find_workspace(conn, scope).await?.ok_or(ApiError::NotFound("workspace"))?;
    }
    for user_id in matchers.user_ids().iter().copied() {
        find_user(conn, organization_id, user_id).await?.ok_or(ApiError::NotFound("user"))?;
    }
    for api_key_id in matchers.api_key_ids().iter().copied() {
        if !has_api_key(conn, organization_id, api_key_id).await? {
            return Err(ApiError::NotFound("API key"));
        }
    }
    Ok(())
}

async fn record(
    conn: &mut Conn,
    actor: &Actor,
    operation: &'static str,
    row: &GatewayPolicyRow,
    before: Option<Value>,
    after: Option<Value>,
) -> Result<(), ApiError> {
    let event = Event {
        operation,
        resource_type: "gateway_policy",
        resource_id: row.id.to_string(),
        organization_id: Some(row.organization_id),
        workspace_id: None,
        before,
        after,
    };
    Ok(audit::record(conn, actor, event).await?)
}
