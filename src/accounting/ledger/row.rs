//! An attempt as a row.

use chrono::DateTime;
use serde::Serialize;

use crate::accounting::record::LedgerEntry;
use crate::db::CallerKey;
use crate::db::ledger::{LedgerRow, NewLedgerRow};
use crate::domain::ids::PolicyId;

#[derive(Serialize)]
struct Policies<'a> {
    matched: &'a [PolicyId],
    violated: &'a [PolicyId],
}

/// The most bytes of texts in one entry of an index, of which PostgreSQL takes 2,704. As
/// many as a model's name may have, and more than the others are let in with.
const MOST_MODEL: usize = 1_024;
const MOST_KEY: usize = 256;
const MOST_VALUE: usize = 1_024;

/// The row, with nothing in it that a database could refuse: PostgreSQL's text holds no NUL, which
/// callers and upstreams may send, and its time begins some thousand years ago. Here, since nobody
/// can tell later whether the row is refused for what is in it.
pub(super) fn row_of(entry: &LedgerEntry) -> NewLedgerRow {
    let (start, end) = (entry.start.as_ref(), &entry.end);
    let policies = Policies { matched: &start.policies, violated: &end.violated };
    let metadata = (start.metadata.iter())
        .map(|(key, value)| (shorten(clean(key), MOST_KEY), shorten(clean(value), MOST_VALUE)))
        .collect();
    let row = LedgerRow {
        id: start.id,
        organization_id: start.organization_id,
        workspace_id: start.workspace_id,
        request_id: start.request_id,
        attempt: i64::from(start.attempt),
        api_key_id: CallerKey(start.api_key_id),
        user_id: start.user_id,
        configuration_id: start.upstream,
        configuration: clean(&start.configuration),
        route: clean(&start.route),
        model_asked: start.model_asked.as_deref().map(clean),
        model: shorten(clean(&start.model), MOST_MODEL),
        model_used: end.model_used.as_deref().map(clean),
        status: end.status.map(i32::from),
        outcome: end.outcome.as_str().to_owned(),
        code: end.code.as_deref().map(clean),
        tokens: json(&end.usage),
        usage_source: end.usage_source.as_str().to_owned(),
        cost: end.cost.map(|cost| cost.nanos()),
        price_version: end.price_version.as_ref().or(start.price_version.as_ref()).map(clean),
        first_byte_ms: end.first_byte_ms.map(count),
        duration_ms: end.duration_ms.map(count),
        policies: json(&policies),
        metadata: json(&metadata),
        client_request_id: start.client_request_id.as_deref().map(clean),
        list_cost: end.list_cost.map(|cost| cost.nanos()),
        guard_findings: (!end.findings.is_empty()).then(|| json(&end.findings)),
        admitted_at: start.admitted_at.max(DateTime::UNIX_EPOCH).naive_utc(),
    };
    NewLedgerRow { row, tokens: end.usage, metadata }
}

fn clean(text: impl AsRef<str>) -> String {
    let text = text.as_ref();
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.to_owned() }
}

fn shorten(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or_default());
    }
    text
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// None of these values can fail to be written.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}
