//! A provider's rate limits in the headers that callers of another format read.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use crate::llm::format::Format;

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

/// Renames the rate limits in the head of a converted answer for callers of `to`.
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
        convert_rate_limits(&mut down, Format::Messages, now);
        let text = |down: &HeaderMap, name: &str| {
            down.get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        let named = |part: &str| format!("anthropic-ratelimit-requests-{part}");
        assert_eq!(text(&down, &named("limit")).as_deref(), Some("100"));
        assert_eq!(text(&down, &named("remaining")).as_deref(), Some("99"));
        let reset = text(&down, &named("reset"));
        assert_eq!(reset.as_deref(), Some("2026-03-04T05:07:07Z"));
        assert_eq!(down.len(), 3);
        convert_rate_limits(&mut down, Format::Chat, now);
        assert_eq!(text(&down, "x-ratelimit-reset-requests").as_deref(), Some("60s"));
        assert_eq!(down.len(), 3);
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
