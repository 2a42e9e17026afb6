//! What only the `config` of guards has to be checked for.

use serde_json::Value;

use super::GatewayPolicyFields;
use crate::api::error::{ApiError, FieldError};
use crate::db::Conn;
use crate::db::gateway_policies::{MAX_POLICIES, list_gateway_policies};
use crate::domain::ids::{OrganizationId, PolicyId};
use crate::domain::policy::{PolicyConfig, PolicyType};
use crate::policy::guard::policy::GuardConfig;

/// The most patterns of all guards of an organization.
const MAX_PATTERNS: usize = 500;

/// What is wrong with a guard's `config`; nothing is with that of another type. `has_recognizer` says
/// whether there is a service that recognizes names.
pub(super) fn check_config(
    config: &PolicyConfig,
    has_recognizer: bool,
) -> Result<(), Vec<FieldError>> {
    let PolicyConfig::Guard(config) = config else { return Ok(()) };
    let invalid = match GuardConfig::parse(config) {
        Ok(config) => config.check(has_recognizer),
        Err(invalid) => vec![invalid],
    };
    let errors: Vec<FieldError> = invalid
        .into_iter()
        .map(|invalid| FieldError { field: invalid.field, message: invalid.message })
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Bounds the patterns of the organization, counting these fields in place of those of the policy `own`.
pub(super) async fn check_patterns(
    conn: &mut Conn,
    organization_id: OrganizationId,
    own: Option<PolicyId>,
    fields: &GatewayPolicyFields,
) -> Result<(), ApiError> {
    if fields.policy_type != PolicyType::Guard {
        return Ok(());
    }
    let count = |config: &Value| config["detect"]["custom"].as_array().map_or(0, Vec::len);
    let kind = Some(PolicyType::Guard);
    let rows = list_gateway_policies(conn, organization_id, kind, 0, MAX_POLICIES).await?;
    let others = rows.iter().filter(|row| Some(row.id) != own).map(|row| count(&row.config));
    let sum = others.sum::<usize>() + count(&fields.config);
    if sum > MAX_PATTERNS && count(&fields.config) > 0 {
        let message = format!("an organization has at most {MAX_PATTERNS} patterns");
        return Err(ApiError::field("config.detect.custom", message));
    }
    Ok(())
}
