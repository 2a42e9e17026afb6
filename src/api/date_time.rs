//! Instants in bodies and queries, read so that a wrong one says what is missing.

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use serde::{Deserialize, Deserializer};

/// Reads an optional instant in the form of RFC 3339, for `#[serde(deserialize_with)]`.
pub(super) fn optional<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<DateTime<Utc>>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| parse(&text).map_err(serde::de::Error::custom)).transpose()
}

/// What is wrong is said without quoting the text: it may be a secret in the wrong place.
fn parse(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(instant) = text.parse() {
        return Ok(instant);
    }
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Err(format!(
            "must have a time and an offset from UTC behind the date, such as {date}T00:00:00Z"
        ));
    }
    let is_local =
        ["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
            .iter()
            .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    if let Some(local) = is_local {
        let example = local.format("%Y-%m-%dT%H:%M:%SZ");
        return Err(format!("must end in an offset from UTC, such as {example}"));
    }
    if text
        .rsplit_once(' ')
        .is_some_and(|(front, offset)| format!("{front}+{offset}").parse::<DateTime<Utc>>().is_ok())
    {
        return Err(
            "has a space where its offset from UTC begins: write %2B for + in a query".to_owned()
        );
    }
    Err("must be a date, a time and an offset from UTC in the form of RFC 3339, such as \
         2099-12-31T23:59:59Z"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_says_what_it_lacks() {
        for good in
            ["2099-12-31T00:00:00Z", "2099-12-31T00:00:00.123456+02:00", "2099-12-31 00:00:00Z"]
        {
            assert!(parse(good).is_ok(), "{good}");
        }
        for (text, part) in [
            ("2099-12-31", "such as 2099-12-31T00:00:00Z"),
            ("2099-12-31T08:30", "such as 2099-12-31T08:30:00Z"),
            ("2099-12-31T08:30:00", "such as 2099-12-31T08:30:00Z"),
            ("2099-12-31T08:30:00 02:00", "%2B"),
            ("tomorrow", "RFC 3339, such as"),
            ("2099-13-31T00:00:00Z", "RFC 3339, such as"),
            ("", "RFC 3339, such as"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
            assert!(!message.contains("input"), "{text}: {message}");
        }
    }
}
