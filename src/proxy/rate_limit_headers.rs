//! A provider's rate limits in the headers that callers of another format read, and the time after which a
//! request may be tried again, however a provider says it.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use crate::llm::format::Format;
use crate::llm::provider_error::retry_delay;

/// OpenAI's and Azure's, in addition to or in place of `Retry-After`.
pub const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// One limit: what is counted, and its headers in OpenAI's form and in Anthropic's, each the limit, what is
/// left, and when it is full again: OpenAI's as a duration (`6m0s`), Anthropic's as a time (RFC 3339).
struct Limit {
    openai: [HeaderName; 3],
    anthropic: [HeaderName; 3],
}

const LIMITS: [Limit; 2] = [
    Limit {
        openai: [
            HeaderName::from_static("x-ratelimit-limit-requests"),
            HeaderName::from_static("x-ratelimit-remaining-requests"),
            HeaderName::from_static("x-ratelimit-reset-requests"),
        ],
        anthropic: [
            HeaderName::from_static("anthropic-ratelimit-requests-limit"),
            HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
            HeaderName::from_static("anthropic-ratelimit-requests-reset"),
        ],
    },
    Limit {
        openai: [
            HeaderName::from_static("x-ratelimit-limit-tokens"),
            HeaderName::from_static("x-ratelimit-remaining-tokens"),
            HeaderName::from_static("x-ratelimit-reset-tokens"),
        ],
        anthropic: [
            HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
            HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
            HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
        ],
    },
];

/// What begins the names of a provider's limits that callers of the other dialect have nothing for, such as
/// those of Anthropic's subscriptions (`anthropic-ratelimit-unified-reset`).
const OF_OPENAI: &[&str] = &["x-ratelimit-"];
const OF_ANTHROPIC: &[&str] = &["anthropic-ratelimit-", "anthropic-priority-"];

/// Renames the rate limits in the head of a converted answer for callers of `to`, and takes out those that
/// have no name there.
pub fn convert_rate_limits(down: &mut HeaderMap, to: Format, now: DateTime<Utc>) {
    for Limit { openai, anthropic } in LIMITS {
        let (from, names) = match to {
            Format::Messages => (openai, anthropic),
            _ => (anthropic, openai),
        };
        for (place, (from, name)) in from.into_iter().zip(names).enumerate() {
            let Some(value) = down.remove(from).next() else { continue };
            let text = value.to_str().unwrap_or_default();
            let converted = match (place, to) {
                (2, Format::Messages) => duration(text)
                    .map(|after| (now + after).to_rfc3339_opts(SecondsFormat::Secs, true)),
                (2, _) => DateTime::parse_from_rfc3339(text)
                    .ok()
                    .map(|at| format!("{}s", (at.to_utc() - now).num_seconds().max(0))),
                _ => Some(text.to_owned()),
            };
            if let Some(value) = converted.and_then(|text| HeaderValue::try_from(text).ok()) {
                down.insert(name, value);
            }
        }
    }
    let foreign = if to == Format::Messages { OF_OPENAI } else { OF_ANTHROPIC };
    down.retain(|name, _| !foreign.iter().any(|prefix| name.as_str().starts_with(prefix)));
}

/// Sets `Retry-After` in the head of an error that does not have it, if the provider says the time in
/// milliseconds, or in the error itself, as Google does.
pub fn complete_retry_after(headers: &mut HeaderMap, error: &[u8]) {
    if headers.contains_key(RETRY_AFTER) {
        return;
    }
    let text = |value: &HeaderValue| value.to_str().ok().map(|text| format!("{}ms", text.trim()));
    let told = headers.get(RETRY_AFTER_MS).and_then(text).or_else(|| retry_delay(error));
    if let Some(after) = told.and_then(|text| duration(&text)) {
        let seconds = after.num_milliseconds().unsigned_abs().div_ceil(1000);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
}

/// A duration as OpenAI writes it: `1s`, `6m0s`, `1h2m3.5s`, `120ms`.
fn duration(text: &str) -> Option<TimeDelta> {
    let (mut millis, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let end = rest.find(|character: char| character.is_ascii_alphabetic())?;
        let (number, after) = rest.split_at(end);
        let length = after.find(|character: char| !character.is_ascii_alphabetic());
        let (unit, after) = after.split_at(length.unwrap_or(after.len()));
        let factor = match unit {
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 60e3,
            "h" => 3600e3,
            "d" => 86400e3,
            _ => return None,
        };
        millis += number.parse::<f64>().ok()? * factor;
        rest = after;
    }
    // Longer than any window, and far from what a time can hold.
    (0.0..1e11).contains(&millis).then(|| TimeDelta::milliseconds(millis.ceil() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_in_the_callers_words() {
        let now = "2026-03-04T05:06:07Z".parse().unwrap();
        let mut down = HeaderMap::new();
        let openai = [
            ("x-ratelimit-limit-requests", "100"),
            ("x-ratelimit-remaining-requests", "99"),
            ("x-ratelimit-reset-requests", "1m0.5s"),
            ("x-ratelimit-reset-tokens", "soon"),
        ];
        for (name, value) in openai {
            down.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        for name in ["x-ratelimit-limit-project-tokens", "retry-after"] {
            down.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        convert_rate_limits(&mut down, Format::Messages, now);
        let text = |down: &HeaderMap, name: &str| {
            down.get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        let named = |part: &str| format!("anthropic-ratelimit-requests-{part}");
        assert_eq!(text(&down, &named("limit")).as_deref(), Some("100"));
        assert_eq!(text(&down, &named("remaining")).as_deref(), Some("99"));
        let reset = text(&down, &named("reset"));
        assert_eq!(reset.as_deref(), Some("2026-03-04T05:07:07Z"));
        assert_eq!(down.len(), 4);
        for name in [
            "anthropic-ratelimit-input-tokens-remaining",
            "anthropic-ratelimit-unified-5h-reset",
            "anthropic-priority-output-tokens-limit",
        ] {
            down.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        convert_rate_limits(&mut down, Format::Chat, now);
        assert_eq!(text(&down, "x-ratelimit-reset-requests").as_deref(), Some("60s"));
        assert_eq!(down.len(), 4);
    }

    #[test]
    fn the_time_to_try_again_is_told_in_seconds() {
        let google = r#"[{"error":{"code":429,"details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure"},
            {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.4s"}]}}]"#;
        for (headers, error, expected) in [
            (&[][..], google, Some("35")),
            (&[("retry-after-ms", "1200")], google, Some("2")),
            (&[("retry-after", "7"), ("retry-after-ms", "1200")], google, Some("7")),
            (&[("retry-after-ms", "soon")], "<html>", None),
            (&[], r#"{"error":{"details":[{"retryDelay":5}]}}"#, None),
        ] {
            let mut down = HeaderMap::new();
            for (name, value) in headers {
                down.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            complete_retry_after(&mut down, error.as_bytes());
            let told = down.get(RETRY_AFTER).map(|value| value.to_str().unwrap());
            assert_eq!(told, expected, "{headers:?} {error}");
        }
    }

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("1s", Some(1_000)),
            ("6m0s", Some(360_000)),
            ("1h2m3.5s", Some(3_723_500)),
            ("120ms", Some(120)),
            ("1d", Some(86_400_000)),
            ("5", None),
            ("1x", None),
            ("-1s", None),
            ("1e300s", None),
        ] {
            assert_eq!(duration(text), millis.map(TimeDelta::milliseconds), "{text}");
        }
    }
}
