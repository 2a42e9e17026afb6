//! The changes of a model configuration that need more than the permission to change one.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::validate::Inspected;
use super::{ModelConfiguration, ModelConfigurationFields, ModelConfigurationPatch};
use crate::api::error::ApiError;
use crate::auth::{Principal, Scope};
use crate::db::Conn;
use crate::db::secrets::list_secrets_of_configuration;
use crate::domain::permissions::Permission;
use crate::domain::scope::WorkspaceScope;
use crate::llm::limits::BodyFacts;
use crate::llm::stored_state::StoredState;
use crate::providers::quirks;

/// The fields after the patch and their mistakes, if the principal may make each of the changes.
pub(super) fn apply_patch(
    patch: &ModelConfigurationPatch,
    before: &ModelConfigurationFields,
    principal: &Principal,
) -> Result<Inspected, ApiError> {
    let found = Inspected::of(patch.apply(before)?)?;
    let permission = match connection_change(before, &found.fields) {
        Some(field) if !principal.may(Permission::ModelConfigurationsConnect) => {
            Err(ApiError::Forbidden {
                code: "permission_denied",
                detail: format!(
                    "Changing {field} needs the permission {}, which the key's role lacks.",
                    Permission::ModelConfigurationsConnect
                ),
            })
        }
        _ => check_price_permission(price_change(Some(before), &found.fields), principal),
    };
    found.if_permitted(permission)
}

/// Spend caps belong to the organization and depend on these fields: without this check, a
/// workspace's administrator could disable them with a price of 0.
pub(super) fn check_price_permission(
    changed: Option<&'static str>,
    principal: &Principal,
) -> Result<(), ApiError> {
    let is_organization_key = matches!(principal.scope, Scope::Organization(_));
    match changed {
        Some(field) if !(is_organization_key && principal.may(Permission::OrganizationManage)) => {
            Err(ApiError::Forbidden {
                code: "permission_denied",
                detail: format!(
                    "Setting {field} needs a key of the organization with the permission {}, because \
                     spend caps depend on it. ('model', 'base_url' and 'provider' need it while the \
                     configuration has a price or limits of its own.)",
                    Permission::OrganizationManage
                ),
            })
        }
        _ => Ok(()),
    }
}

/// The first changed field among those that decide what a request may cost.
pub(super) fn price_change(
    before: Option<&ModelConfigurationFields>,
    after: &ModelConfigurationFields,
) -> Option<&'static str> {
    let was = |limit: fn(&ModelConfigurationFields) -> Option<u64>| before.and_then(limit);
    // A price or limit that was set for one model must not apply to another, more expensive one.
    let own = before.filter(|before| {
        let limits = before.context_window.or(before.max_output_tokens);
        before.price.is_some() || limits.is_some()
    });
    [
        ("price", before.and_then(|before| before.price.as_ref()) != after.price.as_ref()),
        ("context_window", was(|before| before.context_window) != after.context_window),
        ("max_output_tokens", was(|before| before.max_output_tokens) != after.max_output_tokens),
        ("model", own.is_some_and(|own| own.model != after.model)),
        ("base_url", own.is_some_and(|own| own.base_url != after.base_url)),
        ("provider", own.is_some_and(|own| own.provider != after.provider)),
        (
            "default_parameters that may choose another model",
            choose_model(&new_parameters(before, after)),
        ),
    ]
    .into_iter()
    .find_map(|(field, differs)| differs.then_some(field))
}

/// The default parameters that were not there before, or had another value.
fn new_parameters(
    before: Option<&ModelConfigurationFields>,
    after: &ModelConfigurationFields,
) -> Map<String, Value> {
    let was = |name: &str| before.and_then(|before| before.default_parameters.get(name));
    let new = after.default_parameters.iter().filter(|(name, value)| was(name) != Some(*value));
    new.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Whether body fields may choose another model, provider or price than the configured one, at any host.
fn choose_model(parameters: &Map<String, Value>) -> bool {
    let parsed = BodyFacts::parse(Bytes::from(json(parameters)));
    parsed.map_or(true, |(body, facts)| quirks("").model_override(&body, &facts).is_some())
}

/// Whether body fields refer to what the provider stores for the account.
fn refer_to_stored(parameters: &Map<String, Value>) -> bool {
    let state = StoredState::of(json(parameters).as_bytes());
    state.previous_response.is_some() || state.other().is_some()
}

fn json(parameters: &Map<String, Value>) -> String {
    serde_json::to_string(parameters).unwrap_or_default()
}

/// Where the organization's secrets are sent, what is read with them that others have stored, and under which
/// name a configuration has them, is for the organization to say.
pub(super) async fn check_organizations_secrets(
    conn: &mut Conn,
    scope: WorkspaceScope,
    principal: &Principal,
    before: &ModelConfiguration,
    after: &ModelConfigurationFields,
) -> Result<(), ApiError> {
    if matches!(principal.scope, Scope::Organization(_)) {
        return Ok(());
    }
    let refers_to_stored = || {
        refer_to_stored(&new_parameters(Some(&before.fields), after))
            .then_some("default_parameters to refer to what the provider stores")
    };
    let changed = connection_change(&before.fields, after).or_else(refers_to_stored);
    let Some(field) = changed else { return Ok(()) };
    let used = list_secrets_of_configuration(conn, scope, before.id).await?;
    match used.iter().find(|row| row.workspace_id.is_none()) {
        Some(row) => Err(ApiError::Forbidden {
            code: "organization_key_needed",
            detail: format!(
                "Changing {field} needs a key of the organization, because the configuration uses \
                 the organization's secret {}.",
                row.name
            ),
        }),
        None => Ok(()),
    }
}

/// The first changed field among those that decide where requests and secrets are sent.
fn connection_change(
    before: &ModelConfigurationFields,
    after: &ModelConfigurationFields,
) -> Option<&'static str> {
    [
        // Policies and callers use it.
        ("name", before.name != after.name),
        ("provider", before.provider != after.provider),
        ("base_url", before.base_url != after.base_url),
        ("api_key_name", before.api_key_name != after.api_key_name),
        ("oauth", before.oauth != after.oauth),
        ("auth", before.auth != after.auth),
        ("extra_headers", before.extra_headers != after.extra_headers),
        ("forward_headers", before.forward_headers != after.forward_headers),
    ]
    .into_iter()
    .find_map(|(field, differs)| differs.then_some(field))
}
