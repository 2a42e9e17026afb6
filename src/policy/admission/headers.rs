//! How the policies that matched stand, as headers of the answer.

use std::fmt::Write;

use actix_web::http::header::{HeaderName, HeaderValue};
use chrono::SecondsFormat;

use super::AdmissionRequest;
use crate::domain::money::NanoUsd;
use crate::domain::policy::{PolicyConfig, RateMetric};
use crate::policy::limits::{Claim, Claims, Limit, Standing};
use crate::policy::set::Applied;

/// The policies that matched and how each of their limits stands: a JSON list, in ASCII.
pub const POLICIES: HeaderName = HeaderName::from_static("x-tollgate-policies");

/// Most bytes of the list. Common servers take 8 KB of headers in all.
const MOST_BYTES: usize = 4096;
/// Bytes kept for the element that says how many more there are.
const REST_BYTES: usize = 24;

/// Claims, the places of their policies, and how the limits stand.
type Told<'c> = (&'c Claims, &'c [usize], &'c [Standing]);

struct RateHeaders {
    limit: HeaderName,
    remaining: HeaderName,
    reset: HeaderName,
}

const REQUESTS: RateHeaders = RateHeaders {
    limit: HeaderName::from_static("x-ratelimit-limit-requests"),
    remaining: HeaderName::from_static("x-ratelimit-remaining-requests"),
    reset: HeaderName::from_static("x-ratelimit-reset-requests"),
};
const TOKENS: RateHeaders = RateHeaders {
    limit: HeaderName::from_static("x-ratelimit-limit-tokens"),
    remaining: HeaderName::from_static("x-ratelimit-remaining-tokens"),
    reset: HeaderName::from_static("x-ratelimit-reset-tokens"),
};

/// The headers; of limits that were not asked, no more than what they are.
pub(super) fn of(
    request: &AdmissionRequest<'_>,
    applied: &[Applied<'_>],
    told: Option<Told<'_>>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::with_capacity(8);
    if applied.is_empty() {
        return headers;
    }
    if let Ok(value) = HeaderValue::try_from(list(request, applied, told)) {
        headers.push((POLICIES, value));
    }
    for (metric, names) in [(RateMetric::Requests, REQUESTS), (RateMetric::Tokens, TOKENS)] {
        let Some((value, remaining, reset)) = tightest(metric, applied, told) else { continue };
        headers.push((names.limit, HeaderValue::from(value)));
        headers.push((names.remaining, HeaderValue::from(remaining)));
        if let Ok(reset) = HeaderValue::try_from(duration(reset)) {
            headers.push((names.reset, reset));
        }
    }
    headers
}

/// The limit of a metric that has least left: its value, what is left, and in how many seconds all
/// of it is back.
fn tightest(
    metric: RateMetric,
    applied: &[Applied<'_>],
    told: Option<Told<'_>>,
) -> Option<(i64, i64, u64)> {
    let (claims, owners, standings) = told?;
    // What is beyond is counted and holds nobody.
    let of_applied = claims.claims.iter().zip(owners).zip(standings);
    let of_applied = of_applied.filter(|((_, owner), _)| **owner < applied.len());
    let limits = of_applied.filter_map(|((claim, _), standing)| match claim.limit {
        Limit::Rate { metric: of, value, .. } if of == metric => {
            Some((value, left(value, standing), standing.whole_after))
        }
        _ => None,
    });
    limits.min_by_key(|(_, left, reset)| (*left, std::cmp::Reverse(*reset)))
}

fn left(value: i64, standing: &Standing) -> i64 {
    value.saturating_sub(standing.used).max(0)
}

/// As OpenAI's API writes it in these headers: `1s`, `6m0s`, `1h0m0s`.
fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

fn list(request: &AdmissionRequest<'_>, applied: &[Applied<'_>], told: Option<Told<'_>>) -> String {
    let mut list = String::with_capacity(192 * applied.len().min(8));
    list.push('[');
    for (place, one) in applied.iter().enumerate() {
        let before = list.len();
        if place > 0 {
            list.push(',');
        }
        element(&mut list, request, place, one, told);
        if list.len() > MOST_BYTES - REST_BYTES {
            list.truncate(before);
            let comma = if place > 0 { "," } else { "" };
            let _ = write!(list, "{comma}{{\"more\":{}}}", applied.len() - place);
            break;
        }
    }
    list.push(']');
    list
}

fn element(
    list: &mut String,
    request: &AdmissionRequest<'_>,
    place: usize,
    one: &Applied<'_>,
    told: Option<Told<'_>>,
) {
    let policy_type = one.policy.policy_type;
    let policy_type = policy_type.of_children().unwrap_or(policy_type).as_str();
    let _ = write!(list, "{{\"id\":\"{}\",\"name\":", one.bucket);
    quote(list, &one.policy.name);
    let _ = write!(list, ",\"type\":\"{policy_type}\"");
    let is_spend = matches!(one.policy.config, PolicyConfig::Spend(_));
    if let Some((claims, owners, standings)) = told {
        let mut first = true;
        for ((claim, owner), standing) in claims.claims.iter().zip(owners).zip(standings) {
            if *owner != place {
                continue;
            }
            list.push_str(if first { ",\"limits\":[" } else { "," });
            first = false;
            limit(list, request, claim, standing);
        }
        if !first {
            list.push(']');
        }
    }
    if is_spend && !request.bound.hard {
        list.push_str(",\"hard\":false");
    }
    list.push('}');
}

fn limit(list: &mut String, request: &AdmissionRequest<'_>, claim: &Claim, standing: &Standing) {
    let _ = match claim.limit {
        Limit::Spend { window, limit } => write!(
            list,
            "{{\"window\":\"{}\",\"limit_usd\":{limit},\"remaining_usd\":{},\"resets_at\":\"{}\"",
            window.as_str(),
            NanoUsd::from_nanos(left(limit.nanos(), standing)),
            window.end(request.at).to_rfc3339_opts(SecondsFormat::Secs, true),
        ),
        Limit::Rate { metric, window, value } => write!(
            list,
            "{{\"metric\":\"{}\",\"window\":\"{}\",\"limit\":{value},\"remaining\":{},\"reset_seconds\":{}",
            metric.as_str(),
            window.as_str(),
            left(value, standing),
            standing.whole_after,
        ),
    };
    list.push_str(if standing.violated { ",\"violated\":true}" } else { "}" });
}

/// JSON text with nothing but ASCII in it.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}
