//! Which changes of a model configuration take more than the right to change one.

use super::validate::{Checked, check};
use super::{ModelConfigurationFields, ModelConfigurationPatch};
use crate::api::error::ApiError;
use crate::auth::{Principal, Scope};
use crate::domain::permissions::Permission;

/// What the fields are after the patch, if this principal may make it so.
pub(super) fn patched(
    patch: &ModelConfigurationPatch,
    before: &ModelConfigurationFields,
    principal: &Principal,
) -> Result<Checked, ApiError> {
    let checked = check(patch.apply(before)?)?;
    match connecting_change(before, &checked.fields) {
        Some(field) if !principal.may(Permission::ModelConfigurationsConnect) => {
            Err(ApiError::Forbidden {
                code: "permission_denied",
                detail: format!(
                    "Changing {field} needs the permission {}, which the key's role lacks.",
                    Permission::ModelConfigurationsConnect
                ),
            })
        }
        _ => {
            may_price(priced_change(Some(before), &checked.fields), principal)?;
            Ok(checked)
        }
    }
}

/// Spend caps are the organization's, and they go by these fields: who runs a workspace could lift
/// them with a price of nothing.
pub(super) fn may_price(
    changed: Option<&'static str>,
    principal: &Principal,
) -> Result<(), ApiError> {
    let organizations = matches!(principal.scope, Scope::Organization(_));
    match changed {
        Some(field) if !(organizations && principal.may(Permission::OrganizationManage)) => {
            Err(ApiError::Forbidden {
                code: "permission_denied",
                detail: format!(
                    "Setting {field} takes a key of the organization with the permission {} where \
                     a configuration has a price or limits of its own: spend caps go by them.",
                    Permission::OrganizationManage
                ),
            })
        }
        _ => Ok(()),
    }
}

/// The first field that differs among those that say what a request may cost.
pub(super) fn priced_change(
    before: Option<&ModelConfigurationFields>,
    after: &ModelConfigurationFields,
) -> Option<&'static str> {
    let was = |limit: fn(&ModelConfigurationFields) -> Option<u64>| before.and_then(limit);
    // What was set for one model does not go to another, which may be dearer.
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
    ]
    .into_iter()
    .find_map(|(field, differs)| differs.then_some(field))
}

/// The first field that differs among those that say where requests and secrets go.
fn connecting_change(
    before: &ModelConfigurationFields,
    after: &ModelConfigurationFields,
) -> Option<&'static str> {
    [
        ("provider", before.provider != after.provider),
        ("base_url", before.base_url != after.base_url),
        ("api_key_name", before.api_key_name != after.api_key_name),
        ("auth", before.auth != after.auth),
        ("extra_headers", before.extra_headers != after.extra_headers),
        ("forward_headers", before.forward_headers != after.forward_headers),
    ]
    .into_iter()
    .find_map(|(field, differs)| differs.then_some(field))
}
