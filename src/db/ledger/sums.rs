//! What rows add to the sums.

use std::collections::BTreeSet;

use chrono::{NaiveDateTime, Timelike};

use super::super::{Conn, DbError};
use super::metadata_groups::{MetadataGroup, MetadataGroups};
use super::rollups::{self, Entry, MOST, Of, Sums, SumsOf, Whole};
use super::{LedgerRow, NewLedgerRow};

impl Sums {
    /// What one row counts for.
    fn of(row: &LedgerRow) -> Self {
        let one = i64::from;
        let some = |count: Option<i64>| count.unwrap_or(0).clamp(0, MOST);
        let blocked = row.outcome == "blocked";
        let bad_status = row.status.is_some_and(|status| status >= 400);
        Self {
            requests: one(row.attempt <= 1),
            attempts: one(row.attempt >= 1),
            errors: one(!blocked && (row.outcome != "completed" || bad_status)),
            blocks: one(blocked),
            input_tokens: some(row.input_tokens),
            cached_input_tokens: some(row.cached_input_tokens),
            cache_write_tokens: some(row.cache_write_tokens),
            output_tokens: some(row.output_tokens),
            reasoning_tokens: some(row.reasoning_tokens),
            audio_input_tokens: some(row.audio_input_tokens),
            audio_output_tokens: some(row.audio_output_tokens),
            cost: some(row.cost),
            unknown_costs: one(!blocked && row.cost.is_none()),
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
    let groups = MetadataGroups::for_rows(conn, rows).await?;
    let (mut hours, mut hours_by_entry) = (SumsOf::new(), SumsOf::new());
    for new in rows {
        let (of, sums) = (Of::row(&new.row), Sums::of(&new.row));
        // Of the keys that are not told apart, a row counts once.
        let entries: BTreeSet<(&str, &str)> = new
            .metadata
            .iter()
            .map(|(key, value)| match groups.group((of.organization_id, of.since), key, value) {
                MetadataGroup::Value => (key.as_str(), value.as_str()),
                MetadataGroup::OtherValues => (key.as_str(), ""),
                MetadataGroup::OtherKeys => ("", ""),
            })
            .collect();
        for (key, value) in entries {
            let of = of.with([key.to_owned(), value.to_owned()]);
            hours_by_entry.entry(of).or_insert_with(Sums::default).add(&sums);
        }
        hours.entry(of).or_insert_with(Sums::default).add(&sums);
    }
    rollups::add(conn, hours, hours_by_entry).await?;
    groups.write(conn).await
}

impl Of<Whole> {
    fn row(row: &LedgerRow) -> Self {
        Self {
            organization_id: row.organization_id,
            since: hour_of(row),
            entry: [],
            workspace_id: row.workspace_id,
            user_id: row.user_id.map(|id| id.to_string()).unwrap_or_default(),
            api_key_id: row.api_key_id,
            configuration_id: row.configuration_id,
            model: row.model.clone(),
        }
    }

    fn with(&self, entry: Entry) -> Of<Entry> {
        Of {
            organization_id: self.organization_id,
            since: self.since,
            entry,
            workspace_id: self.workspace_id,
            user_id: self.user_id.clone(),
            api_key_id: self.api_key_id,
            configuration_id: self.configuration_id,
            model: self.model.clone(),
        }
    }
}
