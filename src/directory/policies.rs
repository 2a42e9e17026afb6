//! The cached gateway policies of one organization.

use crate::db::gateway_policies::{GatewayPolicyRow, list_effective_policies};
use crate::db::{Conn, DbError};
use crate::domain::ids::OrganizationId;
use crate::policy::set::{PolicySet, StoredPolicy};

/// An organization's policies from one database snapshot; an empty set if it has none.
pub(super) struct PoliciesEntry {
    pub(super) organization_id: OrganizationId,
    pub(super) set: std::sync::Arc<PolicySet>,
}

/// Loads the organization's policies. One that cannot be parsed fails the load, so that requests are
/// refused rather than sent without its check.
pub(super) async fn load(
    conn: &mut Conn,
    organization_id: OrganizationId,
) -> Result<Option<PoliciesEntry>, DbError> {
    let rows = list_effective_policies(conn, organization_id).await?;
    let stored = rows.into_iter().map(stored).collect::<Result<Vec<_>, _>>()?;
    let set = PolicySet::compile(stored).map_err(|bad| DbError::Internal(bad.to_string()))?;
    Ok(Some(PoliciesEntry { organization_id, set: set.into() }))
}

fn stored(row: GatewayPolicyRow) -> Result<StoredPolicy, DbError> {
    let subject_matchers = serde_json::from_value(row.subject_matchers).map_err(|error| {
        DbError::Internal(format!("gateway policy {}: subject_matchers: {error}", row.id))
    })?;
    let epochs = serde_json::from_value(row.epochs).map_err(|error| {
        DbError::Internal(format!("gateway policy {}: epochs: {error}", row.id))
    })?;
    Ok(StoredPolicy {
        id: row.id,
        name: row.name,
        policy_type: row.policy_type,
        subject_matchers,
        config: row.config,
        enabled: row.enabled,
        priority: row.priority,
        parent_policy_id: row.parent_policy_id,
        detached: row.detached,
        epochs,
    })
}
