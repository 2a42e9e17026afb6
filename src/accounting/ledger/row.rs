//! An attempt as a row.

use std::collections::BTreeMap;
use std::fmt::Write;

use chrono::DateTime;
use serde::Serialize;

use crate::accounting::record::LedgerEntry;
use crate::db::ledger::{LedgerRow, NewLedgerRow};
use crate::domain::ids::PolicyId;
use crate::domain::tokens::TokenUsage;

#[derive(Serialize)]
struct Policies<'a> {
    matched: &'a [PolicyId],
    violated: &'a [PolicyId],
}

/// Bytes of texts in one entry of an index, of which PostgreSQL takes 2,704: a model's name may have as
/// many, and the others are accepted with fewer.
const MAX_MODEL: usize = 1_024;
const MAX_KEY: usize = 256;
const MAX_VALUE: usize = 1_024;

/// The row, with nothing in it that a database could refuse: PostgreSQL's text holds no NUL, which
/// callers and upstreams may send, and its timestamps begin some thousand years ago.
pub(super) fn row_of(entry: &LedgerEntry) -> NewLedgerRow {
    let (start, end) = (entry.start.as_ref(), &entry.end);
    let policies = Policies { matched: &start.policies, violated: &end.violated };
    let metadata: BTreeMap<String, String> = (start.metadata.iter())
        .map(|(key, value)| (shorten(clean(key), MAX_KEY), shorten(clean(value), MAX_VALUE)))
        .collect();
    let row = LedgerRow {
        id: start.id,
        organization_id: start.organization_id,
        workspace_id: start.workspace_id,
        request_id: start.request_id,
        attempt: i64::from(start.attempt),
        // The column takes no null: the nil id stands for a request without an API key.
        api_key_id: start.api_key_id.unwrap_or_else(|| uuid::Uuid::nil().into()),
        user_id: start.user_id,
        configuration_id: start.configuration_id,
        configuration: clean(&start.configuration),
        route: clean(&start.route),
        model_asked: start.model_asked.as_deref().map(clean),
        model: shorten(clean(&start.model), MAX_MODEL),
        model_used: end.model_used.as_deref().map(clean),
        status: end.status.map(i32::from),
        outcome: end.outcome.as_str().to_owned(),
        code: end.code.as_deref().map(clean),
        tokens: token_json(&end.usage),
        usage_source: end.usage_source.as_str().to_owned(),
        cost: end.cost.map(|cost| cost.nanos()),
        price_version: start.price_version.as_deref().map(clean),
        first_byte_ms: end.first_byte_ms.map(count),
        duration_ms: end.duration_ms.map(count),
        policies: match (policies.matched, policies.violated) {
            ([], []) => r#"{"matched":[],"violated":[]}"#.to_owned(),
            _ => json(&policies),
        },
        metadata: if metadata.is_empty() { "{}".to_owned() } else { json(&metadata) },
        client_request_id: start.client_request_id.as_deref().map(clean),
        admitted_at: start.admitted_at.max(DateTime::UNIX_EPOCH).naive_utc(),
    };
    NewLedgerRow { row, tokens: end.usage, metadata }
}

/// The reported kinds as a JSON object.
fn token_json(usage: &TokenUsage) -> String {
    let mut json = String::with_capacity(64);
    for (name, tokens) in TokenUsage::NAMES.iter().zip(usage.counts()) {
        if let Some(tokens) = tokens {
            json.push(if json.is_empty() { '{' } else { ',' });
            // Writing to a string does not fail.
            let _ = write!(json, "\"{name}\":{}", count(tokens));
        }
    }
    json.push_str(if json.is_empty() { "{}" } else { "}" });
    json
}

fn clean(text: impl AsRef<str>) -> String {
    let text = text.as_ref();
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.to_owned() }
}

fn shorten(mut text: String, max: usize) -> String {
    if text.len() > max {
        let end = (0..=max).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or_default());
    }
    text
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Neither of the two can fail to serialize.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}
