//! What rows add to the sums.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDateTime;

use super::super::types::CallerKey;
use super::super::usage::{OTHER_KEYS, Period};
use super::super::{Conn, DbError};
use super::metadata_groups::{MetadataGroup, MetadataGroups};
use super::rollups::{self, MAX_SUM, RollupKey, Sums};
use super::{LedgerRow, NewLedgerRow};
use crate::domain::ids::{OrganizationId, UserId, WorkspaceId};
use crate::domain::provider::UpstreamId;

impl Sums {
    /// What one row counts for.
    fn of(NewLedgerRow { row, tokens, .. }: &NewLedgerRow) -> Self {
        let one = i64::from;
        let count = |tokens: Option<u64>| {
            i64::try_from(tokens.unwrap_or(0)).unwrap_or(i64::MAX).min(MAX_SUM)
        };
        let blocked = row.outcome == "blocked";
        let bad_status = row.status.is_some_and(|status| status >= 400);
        Self {
            requests: one(row.attempt <= 1),
            attempts: one(row.attempt >= 1),
            errors: one(!blocked && (row.outcome != "completed" || bad_status)),
            blocks: one(blocked),
            tokens: tokens.counts().map(count),
            cost: row.cost.unwrap_or(0).clamp(0, MAX_SUM),
            unknown_costs: one(!blocked && row.cost.is_none()),
            subscription_cost: row.list_cost.unwrap_or(0).clamp(0, MAX_SUM),
        }
    }
}

/// Adds what rows count for that were just inserted.
pub(super) async fn add(conn: &mut Conn, rows: &[NewLedgerRow]) -> Result<(), DbError> {
    let groups = MetadataGroups::for_rows(conn, rows).await?;
    let mut added: BTreeMap<RowGroup<'_>, Sums> = BTreeMap::new();
    for new in rows {
        let (whole, sums) = (RowGroup::of(&new.row), Sums::of(new));
        let hour = (whole.organization_id, whole.starts_at);
        // A row counts once for all of its keys without sums of their own.
        let entries: BTreeSet<(&str, &str)> = new
            .metadata
            .iter()
            .map(|(key, value)| match groups.group(hour, key, value) {
                MetadataGroup::Value => (key.as_str(), value.as_str()),
                MetadataGroup::OtherValues => (key.as_str(), ""),
                MetadataGroup::OtherKeys => (OTHER_KEYS, ""),
            })
            .collect();
        for (metadata_key, metadata_value) in entries {
            let entry = RowGroup { metadata_key, metadata_value, ..whole };
            added.entry(entry).or_default().add(&sums);
        }
        added.entry(whole).or_default().add(&sums);
    }
    let rollups = added.into_iter().map(|(group, sums)| (group.into(), sums)).collect();
    rollups::add(conn, rollups).await?;
    groups.write(conn).await
}

/// The rows of one hour that are summed together: a [`RollupKey`] that borrows from a row, since a
/// transaction has many rows and few sums.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct RowGroup<'r> {
    organization_id: OrganizationId,
    starts_at: NaiveDateTime,
    workspace_id: WorkspaceId,
    user_id: Option<UserId>,
    api_key_id: CallerKey,
    configuration_id: UpstreamId,
    model: &'r str,
    metadata_key: &'r str,
    metadata_value: &'r str,
}

impl<'r> RowGroup<'r> {
    /// The hour of a row, whatever its metadata.
    fn of(row: &'r LedgerRow) -> Self {
        Self {
            organization_id: row.organization_id,
            starts_at: row.hour(),
            workspace_id: row.workspace_id,
            user_id: row.user_id,
            api_key_id: row.api_key_id,
            configuration_id: row.configuration_id,
            model: &row.model,
            metadata_key: "",
            metadata_value: "",
        }
    }
}

impl From<RowGroup<'_>> for RollupKey {
    fn from(group: RowGroup<'_>) -> Self {
        Self {
            organization_id: group.organization_id,
            period: Period::Hour,
            metadata_key: group.metadata_key.to_owned(),
            starts_at: group.starts_at,
            metadata_value: group.metadata_value.to_owned(),
            workspace_id: group.workspace_id,
            user_id: group.user_id.map(|id| id.to_string()).unwrap_or_default(),
            api_key_id: group.api_key_id,
            configuration_id: group.configuration_id,
            model: group.model.to_owned(),
        }
    }
}
