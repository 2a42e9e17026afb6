//! What callers say about a request in `X-Gateway-*` headers, in normal form: policies match by it,
//! the ledger keeps it, and usage is grouped by it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// The start of every metadata header's name, in any letter case.
const PREFIX: &str = "x-gateway-";
/// The header whose JSON object holds any number of keys.
const OBJECT: &str = "x-gateway-metadata";
/// The most entries of one request.
pub const MAX_ENTRIES: usize = 32;
/// The longest key in normal form, in bytes.
pub const MAX_KEY: usize = 64;
/// The longest value, in bytes of UTF-8.
pub const MAX_VALUE: usize = 256;

/// Keys that only the gateway itself may fill in.
const RESERVED: [&str; 11] = [
    "organization_id",
    "workspace_id",
    "workspace_handle",
    "user_id",
    "user_email",
    "api_key_id",
    "api_key_short",
    "auth_mode",
    "user_agent",
    "applied_policy_ids",
    "applied_policy_names",
];

/// A request's metadata: normalized keys and their values, at most [`MAX_ENTRIES`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Metadata(BTreeMap<String, String>);

/// Metadata that cannot be read. The request has to be refused: without the entry, a policy that
/// matches by it would not apply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place} {problem}")]
pub struct InvalidMetadata {
    /// The header, or the key in the JSON object of a header.
    place: String,
    problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("needs a name of 1 to {MAX_KEY} characters")]
    Key,
    #[error("may have a value of at most {MAX_VALUE} bytes (in UTF-8)")]
    ValueTooLong,
    #[error("has a control character in its value")]
    ControlCharacter,
    #[error("must be text, a number or a boolean")]
    NotAScalar,
    #[error("must be a JSON object such as {{\"customer_id\": \"acme\"}}")]
    NotAnObject,
    #[error("occurs twice with different values")]
    TwoValues,
    #[error("brings the request's metadata above the limit of {MAX_ENTRIES} entries")]
    TooMany,
}

impl Metadata {
    /// Reads the metadata out of a request's headers; other headers are passed over. Values are
    /// UTF-8, or else ISO-8859-1, as several HTTP clients send them.
    ///
    /// A header of its own wins over the same key of the JSON object. Reserved keys, empty values
    /// and JSON's null are ignored; everything else that cannot be taken as it was sent is an error.
    pub fn from_headers<'h>(
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    ) -> Result<Self, InvalidMetadata> {
        let (objects, dedicated): (Vec<_>, Vec<_>) = headers
            .filter(|(name, _)| without_prefix(name).is_some())
            .partition(|(name, _)| name.eq_ignore_ascii_case(OBJECT));
        let mut metadata = Self::default();
        for (name, value) in dedicated {
            metadata.add(Place::Header(name), name, &decode(value))?;
        }
        let mut from_objects = Self::default();
        for (_, object) in objects {
            from_objects.add_object(&decode(object))?;
        }
        for (key, value) in from_objects.0 {
            metadata.0.entry(key).or_insert(value);
        }
        if metadata.0.len() > MAX_ENTRIES {
            return Err(Place::Header(OBJECT).error(Problem::TooMany));
        }
        Ok(metadata)
    }

    fn add_object(&mut self, json: &str) -> Result<(), InvalidMetadata> {
        if json.is_empty() {
            return Ok(());
        }
        let Entries(entries) = serde_json::from_str(json)
            .map_err(|_| Place::Header(OBJECT).error(Problem::NotAnObject))?;
        for (key, value) in &entries {
            let place = Place::Key(key);
            match value {
                Value::String(text) => self.add(place, key, text)?,
                Value::Number(number) => self.add(place, key, &number.to_string())?,
                Value::Bool(flag) => self.add(place, key, &flag.to_string())?,
                Value::Null => {}
                Value::Array(_) | Value::Object(_) => return Err(place.error(Problem::NotAScalar)),
            }
        }
        Ok(())
    }

    fn add(&mut self, place: Place<'_>, name: &str, value: &str) -> Result<(), InvalidMetadata> {
        let key = normal_form(name).ok_or_else(|| place.error(Problem::Key))?;
        if is_reserved(&key) || value.is_empty() {
            return Ok(());
        }
        if value.len() > MAX_VALUE {
            return Err(place.error(Problem::ValueTooLong));
        }
        if !is_value(value) {
            return Err(place.error(Problem::ControlCharacter));
        }
        match self.0.get(&key) {
            Some(other) if other != value => return Err(place.error(Problem::TwoValues)),
            Some(_) => {}
            None if self.0.len() >= MAX_ENTRIES => return Err(place.error(Problem::TooMany)),
            None => {
                self.0.insert(key, value.to_owned());
            }
        }
        Ok(())
    }

    /// The value under a normalized key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Keys and values, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// Where an entry was found.
#[derive(Clone, Copy)]
enum Place<'a> {
    Header(&'a str),
    /// Of the JSON object.
    Key(&'a str),
}

impl Place<'_> {
    fn error(self, problem: Problem) -> InvalidMetadata {
        // A name may be as long as the caller likes.
        let shown = |name: &str| name.chars().take(MAX_KEY + PREFIX.len()).collect::<String>();
        let place = match self {
            Self::Header(name) => format!("The header '{}'", shown(name).to_ascii_lowercase()),
            Self::Key(name) => format!("The key '{}' in the header '{OBJECT}'", shown(name)),
        };
        InvalidMetadata { place, problem }
    }
}

/// The entries of a JSON object in their order, keys that occur twice included.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

/// The text of a header's value: UTF-8, or else ISO-8859-1, whose bytes are the first 256 characters
/// of Unicode.
fn decode(value: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(value) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(value.iter().copied().map(char::from).collect()),
    }
}

/// The normal form of a header's name, with or without its prefix, or of a key of the JSON object:
/// ASCII lower case, every character outside `a-z0-9_` an underscore. `None` when it is empty, too
/// long, or reserved for the gateway itself.
pub fn normalize_key(name: &str) -> Option<String> {
    normal_form(name).filter(|key| !is_reserved(key))
}

fn normal_form(name: &str) -> Option<String> {
    let bare = without_prefix(name).unwrap_or(name);
    // A character is at least a byte, and becomes one.
    if bare.is_empty() || bare.chars().nth(MAX_KEY).is_some() {
        return None;
    }
    Some(bare.chars().map(normal).collect())
}

/// The normal form of one character of a key.
pub(super) fn normal(character: char) -> char {
    match character.to_ascii_lowercase() {
        kept @ ('a'..='z' | '0'..='9' | '_') => kept,
        _ => '_',
    }
}

/// What follows [`PREFIX`], in any letter case, at the beginning of a header's name.
pub(super) fn without_prefix(name: &str) -> Option<&str> {
    let (start, rest) = name.split_at_checked(PREFIX.len())?;
    start.eq_ignore_ascii_case(PREFIX).then_some(rest)
}

/// Whether only the gateway itself may fill in a normalized key.
fn is_reserved(key: &str) -> bool {
    key.starts_with("gateway") || RESERVED.contains(&key)
}

/// Whether a policy can match by a value: not empty, not too long, no control characters.
pub fn is_value(value: &str) -> bool {
    (1..=MAX_VALUE).contains(&value.len()) && !value.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(headers: &[(&str, &str)]) -> Result<Metadata, InvalidMetadata> {
        Metadata::from_headers(headers.iter().map(|(name, value)| (*name, value.as_bytes())))
    }

    fn json(headers: &[(&str, &str)]) -> String {
        serde_json::to_string(&read(headers).unwrap().0).unwrap()
    }

    fn error(headers: &[(&str, &str)]) -> String {
        read(headers).unwrap_err().to_string()
    }

    #[test]
    fn headers_are_normalized() {
        let metadata = read(&[
            ("X-Gateway-Customer-Id", "Acme 1"),
            ("x-gateway-cost.center", "7"),
            ("X-Team", "not ours"),
            ("x-gateway-empty", ""),
            ("X-GATEWAY-User-Id", "forged"),
            ("x-gateway-Applied.Policy_Names", "forged"),
            ("X-Gateway-Gateway-Version", "forged"),
            ("X-Gateway-X-Gateway-User-Id", "a name like any other"),
        ])
        .unwrap();
        let all: Vec<(&str, &str)> = metadata.iter().collect();
        let expected = [
            ("cost_center", "7"),
            ("customer_id", "Acme 1"),
            ("x_gateway_user_id", "a name like any other"),
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn the_object_contributes_its_keys() {
        let object = r#"{"Team": "a", "count": 1.50, "flag": false, "none": null, "empty": "",
            "user_id": "forged", "X-Gateway-Region": "eu", "Ä-b": "c"}"#;
        assert_eq!(
            json(&[("X-Gateway-Metadata", object)]),
            r#"{"__b":"c","count":"1.50","flag":"false","region":"eu","team":"a"}"#
        );
        assert_eq!(json(&[("X-Gateway-Metadata", "")]), "{}");
        for broken in ["[1]", "\"text\"", "{", "null"] {
            let message = error(&[("X-Gateway-Metadata", broken)]);
            assert!(message.contains("'x-gateway-metadata' must be a JSON object"), "{message}");
        }
        for nested in [r#"{"list": [1]}"#, r#"{"list": {"a": 1}}"#] {
            let message = error(&[("X-Gateway-Metadata", nested)]);
            assert!(message.contains("'list' in the header 'x-gateway-metadata'"), "{message}");
        }
    }

    #[test]
    fn one_key_has_one_value() {
        let both = [("x-gateway-metadata", r#"{"team":"object"}"#), ("X-Gateway-Team", "header")];
        assert_eq!(read(&both).unwrap().get("team"), Some("header"));
        assert_eq!(
            json(&[("x-gateway-a_b", "same"), ("x-gateway-a-b", "same")]),
            r#"{"a_b":"same"}"#
        );
        for two in [
            &[("x-gateway-a_b", "one"), ("x-gateway-a-b", "two")][..],
            &[("x-gateway-a", "one"), ("x-gateway-a", "two")],
            &[("x-gateway-metadata", r#"{"a b":"one","A-B":"two"}"#)],
            &[("x-gateway-metadata", r#"{"a":"one","a":"two"}"#)],
        ] {
            assert!(error(two).contains("twice"), "{two:?}");
        }
    }

    #[test]
    fn what_is_not_utf_8_is_read_as_iso_8859_1() {
        let read = |value: &[u8]| Metadata::from_headers([("x-gateway-name", value)].into_iter());
        assert_eq!(read(b"Zo\xeb").unwrap(), read("Zoë".as_bytes()).unwrap());
        assert!(read(b"Zo\x80").is_err(), "a control character");
        assert!(read(&[0xeb; MAX_VALUE / 2]).is_ok());
        assert!(read(&[0xeb; MAX_VALUE / 2 + 1]).is_err(), "two bytes each in UTF-8");
    }

    #[test]
    fn it_is_bounded() {
        let names: Vec<String> = (0..=MAX_ENTRIES).map(|n| format!("x-gateway-k{n}")).collect();
        let mut headers: Vec<(&str, &str)> =
            names.iter().map(|name| (name.as_str(), "v")).collect();
        assert!(error(&headers).contains("32 entries"));
        headers.pop();
        assert_eq!(read(&headers).unwrap().iter().count(), MAX_ENTRIES);
        headers.push(("x-gateway-metadata", r#"{"one_more": 1}"#));
        assert!(error(&headers).contains("32 entries"));

        assert_eq!(normalize_key(&"a".repeat(MAX_KEY)).map(|key| key.len()), Some(MAX_KEY));
        assert_eq!(normalize_key(&"a".repeat(MAX_KEY + 1)), None);
        let long_name = format!("x-gateway-{}", "a".repeat(MAX_KEY + 1));
        for (name, value) in [
            ("x-gateway-", "v"),
            (&long_name, "v"),
            ("x-gateway-a", "a\tb"),
            ("x-gateway-a", &"v".repeat(MAX_VALUE + 1)),
        ] {
            // A name that is too long is cut in the message.
            let shown: String = name.chars().take(MAX_KEY).collect();
            assert!(error(&[(name, value)]).contains(&shown), "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_normalized_key_stays_and_is_not_reserved(name in "(?i)(x-gateway-)?(gateway|user.id|[a-z0-9 ._äÖ-]{0,70})?.{0,10}") {
            if let Some(key) = normalize_key(&name) {
                prop_assert!((1..=MAX_KEY).contains(&key.len()));
                prop_assert!(key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
                prop_assert!(!RESERVED.contains(&key.as_str()) && !key.starts_with("gateway"));
                prop_assert_eq!(normalize_key(&key), Some(key.clone()));
                prop_assert_eq!(normalize_key(&format!("X-Gateway-{key}")), Some(key));
            }
        }

        #[test]
        fn letter_case_and_punctuation_make_no_difference(name in "[a-z0-9._ -]{1,40}") {
            let key = normalize_key(&name);
            prop_assert_eq!(normalize_key(&name.to_uppercase()), key.clone());
            prop_assert_eq!(normalize_key(&name.replace(['.', '-', ' '], "_")), key);
        }

        #[test]
        fn any_headers_give_bounded_metadata(headers in prop::collection::vec(("(?i)x-gateway-.{0,80}|.{0,20}", prop::collection::vec(any::<u8>(), 0..300)), 0..50)) {
            let metadata = Metadata::from_headers(headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
            let metadata = metadata.unwrap_or_default();
            prop_assert!(metadata.iter().count() <= MAX_ENTRIES);
            for (key, value) in metadata.iter() {
                prop_assert!(is_value(value));
                prop_assert_eq!(normalize_key(key), Some(key.to_owned()));
            }
        }

        #[test]
        fn the_order_of_different_headers_does_not_matter(mut headers in prop::collection::btree_map("x-gateway-[a-c_.-]{1,3}", "[a-z]{1,3}", 0..8).prop_map(|map| map.into_iter().collect::<Vec<_>>())) {
            let read = |headers: &[(String, String)]| Metadata::from_headers(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
            let forwards = read(&headers);
            headers.reverse();
            prop_assert_eq!(read(&headers).ok(), forwards.ok());
        }
    }
}
