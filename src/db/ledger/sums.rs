//! What rows add to the sums.

use std::collections::BTreeSet;

use chrono::{NaiveDateTime, Timelike};

use super::super::usage::{OTHER_KEYS, Period};
use super::super::{Conn, DbError};
use super::metadata_groups::{MetadataGroup, MetadataGroups};
use super::rollups::{self, MAX_SUM, RollupKey, Rollups, Sums};
use super::{LedgerRow, NewLedgerRow};

impl Sums {
    /// What one row counts for.
    fn of(new: &NewLedgerRow) -> Self {
        let row = &new.row;
        let one = i64::from;
        let is_blocked = row.outcome == "blocked";
        let is_bad_status = row.status.is_some_and(|status| status >= 400);
        let tokens =
            |count: Option<u64>| i64::try_from(count.unwrap_or(0)).unwrap_or(i64::MAX).min(MAX_SUM);
        Self {
            requests: one(row.attempt <= 1),
            attempts: one(row.attempt >= 1),
            errors: one(!is_blocked && (row.outcome != "completed" || is_bad_status)),
            blocks: one(is_blocked),
            tokens: new.tokens.counts().map(tokens),
            cost: row.cost.unwrap_or(0).clamp(0, MAX_SUM),
            unknown_costs: one(!is_blocked && row.cost.is_none()),
        }
    }
}

/// The hour that a row belongs to.
pub(super) fn hour_of(row: &LedgerRow) -> NaiveDateTime {
    let hour = row.admitted_at.with_minute(0).and_then(|at| at.with_second(0));
    hour.and_then(|at| at.with_nanosecond(0)).unwrap_or(row.admitted_at)
}

/// Adds what rows count for that were just inserted.
pub(super) async fn add(conn: &mut Conn, rows: &[NewLedgerRow]) -> Result<(), DbError> {
    let groups = MetadataGroups::of(conn, rows).await?;
    let mut hours = Rollups::new();
    for new in rows {
        let (key, sums) = (RollupKey::of(&new.row), Sums::of(new));
        // Of the keys that are not kept separately, a row counts once.
        let entries: BTreeSet<(&str, &str)> = new
            .metadata
            .iter()
            .map(|(name, value)| {
                match groups.group((key.organization_id, key.starts_at), name, value) {
                    MetadataGroup::Value => (name.as_str(), value.as_str()),
                    MetadataGroup::OtherValues => (name.as_str(), ""),
                    MetadataGroup::OtherKeys => (OTHER_KEYS, ""),
                }
            })
            .collect();
        for (name, value) in entries {
            let (metadata_key, metadata_value) = (name.to_owned(), value.to_owned());
            let key = RollupKey { metadata_key, metadata_value, ..key.clone() };
            hours.entry(key).or_default().add(&sums);
        }
        hours.entry(key).or_default().add(&sums);
    }
    rollups::add(conn, hours).await?;
    groups.write(conn).await
}

impl RollupKey {
    fn of(row: &LedgerRow) -> Self {
        Self {
            organization_id: row.organization_id,
            period: Period::Hour,
            metadata_key: String::new(),
            starts_at: hour_of(row),
            metadata_value: String::new(),
            workspace_id: row.workspace_id,
            user_id: row.user_id.map(|id| id.to_string()).unwrap_or_default(),
            api_key_id: row.api_key_id,
            configuration_id: row.configuration_id,
            model: row.model.clone(),
        }
    }
}
