//! Tells the caller what is left of the limits of matching policies, in headers of the answer.

use std::fmt::Write;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use chrono::{DateTime, Datelike, Timelike, Utc};
use uuid::fmt::Hyphenated;

use crate::domain::money::NanoUsd;
use crate::domain::policy::RateMetric;
use crate::policy::admission::{PolicyReport, ReportedLimit};
use crate::policy::limit::Limit;

/// The policies that matched and what is left of each of their limits: a JSON array in ASCII.
pub const POLICIES: HeaderName = HeaderName::from_static("x-tollgate-policies");

/// The longest array in bytes. Common servers accept 8 KB of headers in all.
const MAX_BYTES: usize = 4096;
/// Bytes kept for the element that says how many policies were left out.
const REST_BYTES: usize = 24;

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

/// Adds the headers of a report; none if no policy matches.
pub fn insert_policy_headers(headers: &mut HeaderMap, report: Option<&PolicyReport>) {
    let Some(report) = report.filter(|report| !report.policies.is_empty()) else { return };
    if let Ok(value) = HeaderValue::try_from(policies_json(report)) {
        headers.insert(POLICIES, value);
    }
    for (metric, names) in [(RateMetric::Requests, REQUESTS), (RateMetric::Tokens, TOKENS)] {
        let Some(tightest) = report.tightest(metric) else { continue };
        headers.insert(names.limit, HeaderValue::from(tightest.limit.max()));
        headers.insert(names.remaining, HeaderValue::from(tightest.remaining()));
        if let Ok(reset) = HeaderValue::try_from(duration(tightest.status.reset_after)) {
            headers.insert(names.reset, reset);
        }
    }
}

/// As OpenAI's API writes it in these headers: `1s`, `6m0s`, `1h0m0s`.
fn duration(seconds: u64) -> String {
    let mut text = String::new();
    let mut push = |number: u64, unit| {
        text.push_str(itoa::Buffer::new().format(number));
        text.push(unit);
    };
    if seconds >= 3600 {
        push(seconds / 3600, 'h');
    }
    if seconds >= 60 {
        push(seconds / 60 % 60, 'm');
    }
    push(seconds % 60, 's');
    text
}

fn policies_json(report: &PolicyReport) -> String {
    let count = report.policies.len();
    let mut json = String::with_capacity(256 * count.min(8));
    json.push('[');
    for place in 0..count {
        let before = json.len();
        if place > 0 {
            json.push(',');
        }
        write_policy(&mut json, report, place);
        if json.len() > MAX_BYTES - REST_BYTES {
            json.truncate(before);
            let comma = if place > 0 { "," } else { "" };
            let _ = write!(json, "{comma}{{\"more\":{}}}", count - place);
            break;
        }
    }
    json.push(']');
    json
}

fn write_policy(json: &mut String, report: &PolicyReport, place: usize) {
    let Some(reported) = report.policies.get(place) else { return };
    json.push_str("{\"id\":\"");
    json.push_str(reported.id.uuid().as_hyphenated().encode_lower(&mut [0; Hyphenated::LENGTH]));
    json.push_str("\",");
    json.push_str(&reported.policy.json);
    let mut separator = ",\"limits\":[{";
    for (limit, policy_limit) in report.limits_of(place) {
        json.push_str(separator);
        separator = "},{";
        json.push_str(&policy_limit.json);
        write_status(json, report, limit);
    }
    if separator == "},{" {
        json.push_str("}]");
    }
    if reported.policy.is_spend() && !report.is_cost_hard {
        json.push_str(",\"hard\":false");
    }
    json.push('}');
}

fn write_status(json: &mut String, report: &PolicyReport, limit: &ReportedLimit) {
    let remaining = limit.remaining();
    match limit.limit {
        Limit::Spend { window, .. } => {
            json.push_str(",\"remaining_usd\":");
            // Writing to a text cannot fail.
            let _ = NanoUsd::from_nanos(remaining).write_to(json);
            json.push_str(",\"resets_at\":\"");
            push_instant(json, window.end(report.at));
            json.push('"');
        }
        Limit::Rate { .. } => {
            json.push_str(",\"remaining\":");
            json.push_str(itoa::Buffer::new().format(remaining));
            json.push_str(",\"reset_seconds\":");
            json.push_str(itoa::Buffer::new().format(limit.status.reset_after));
        }
    }
    if limit.status.violated {
        json.push_str(",\"violated\":true");
    }
}

/// As RFC 3339 has it, in UTC and whole seconds. Years have four digits.
fn push_instant(json: &mut String, at: DateTime<Utc>) {
    let mut push = |separator: &str, number: u32| {
        json.push_str(separator);
        for digit in [number / 10 % 10, number % 10] {
            json.push(char::from_digit(digit, 10).unwrap_or('0'));
        }
    };
    let year = at.year().unsigned_abs();
    push("", year / 100);
    push("", year % 100);
    push("-", at.month());
    push("-", at.day());
    push("T", at.hour());
    push(":", at.minute());
    push(":", at.second());
    json.push('Z');
}

#[cfg(test)]
mod tests;
