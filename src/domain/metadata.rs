//! What callers say about a request in `X-Gateway-*` headers, in normal form: policies match by it,
//! the ledger keeps it, and usage is grouped by it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// The start of every header that speaks of the request. Any letter case.
const PREFIX: &str = "x-gateway-";
/// The header whose JSON object holds any number of keys.
const OBJECT: &str = "x-gateway-metadata";
/// The most entries that are kept.
pub const MOST_ENTRIES: usize = 32;
/// The longest key in normal form, in bytes.
pub const MOST_KEY: usize = 64;
/// The longest value, in bytes.
pub const MOST_VALUE: usize = 256;

/// What the gateway itself says of a request; no caller says it.
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

/// A request's metadata: normalized keys and their values, at most [`MOST_ENTRIES`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    /// Reads it out of a request's headers; those that are no metadata are passed over.
    ///
    /// A header of its own wins over the same key of the JSON object. Of several headers, or
    /// several keys of the object, that are one key in normal form, the first in the order of
    /// their names as they were written counts, and of several headers of one name the first.
    /// What has no key in normal form, an empty value, one that is too long or one that is no
    /// printable text is as if it had not been sent.
    pub fn from_headers<'h>(headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Self {
        let mut own: Vec<(&str, &[u8])> = headers.filter(|(name, _)| has_prefix(name)).collect();
        own.sort_by_key(|(name, _)| *name);
        let (objects, dedicated): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|(name, _)| name.eq_ignore_ascii_case(OBJECT));
        let mut metadata = Self::default();
        for (name, value) in dedicated {
            if let Ok(value) = std::str::from_utf8(value) {
                metadata.add(name, value);
            }
        }
        for (_, object) in objects {
            let Ok(Value::Object(object)) = serde_json::from_slice(object) else { continue };
            for (name, value) in &object {
                match value {
                    Value::String(text) => metadata.add(name, text),
                    Value::Number(number) => metadata.add(name, &number.to_string()),
                    Value::Bool(flag) => metadata.add(name, if *flag { "true" } else { "false" }),
                    Value::Null | Value::Array(_) | Value::Object(_) => {}
                }
            }
        }
        metadata
    }

    /// Adds an entry, unless it can't be kept or its key is there.
    fn add(&mut self, name: &str, value: &str) {
        if self.0.len() >= MOST_ENTRIES || !is_value(value) {
            return;
        }
        if let Some(key) = normalize_key(name) {
            self.0.entry(key).or_insert_with(|| value.to_owned());
        }
    }

    /// The value under a normalized key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Keys and values, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The canonical JSON, as the ledger keeps it: an object with sorted keys.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_else(|_| "{}".to_owned())
    }
}

/// The normal form of a header's name, with or without its prefix, or of a key of the JSON object:
/// ASCII lower case, every character outside `a-z0-9_` an underscore. `None` when it is empty, too
/// long, or what the gateway itself says.
pub fn normalize_key(name: &str) -> Option<String> {
    let bare = without_prefix(name).unwrap_or(name);
    // A character is at least a byte, and becomes one.
    if bare.is_empty() || bare.chars().nth(MOST_KEY).is_some() {
        return None;
    }
    let key: String = bare.chars().map(normal).collect();
    (!is_reserved(&key)).then_some(key)
}

/// What becomes of a character of a key.
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

/// Whether a normalized key is one of those that the gateway itself fills in.
fn is_reserved(key: &str) -> bool {
    key.starts_with("gateway") || RESERVED.contains(&key)
}

/// Whether a value can be kept: printable text, not empty, not too long.
pub fn is_value(value: &str) -> bool {
    (1..=MOST_VALUE).contains(&value.len()) && !value.chars().any(char::is_control)
}

fn has_prefix(name: &str) -> bool {
    without_prefix(name).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(headers: &[(&str, &str)]) -> Metadata {
        Metadata::from_headers(headers.iter().map(|(name, value)| (*name, value.as_bytes())))
    }

    fn json(headers: &[(&str, &str)]) -> String {
        of(headers).to_json()
    }

    #[test]
    fn headers_are_normalized() {
        let metadata = of(&[
            ("X-Gateway-Customer-Id", "Acme 1"),
            ("x-gateway-cost.center", "7"),
            ("X-Team", "not ours"),
            ("X-Gateway-", "no name"),
            ("x-gateway-empty", ""),
            ("X-GATEWAY-User-Id", "forged"),
            ("x-gateway-Applied.Policy_Names", "forged"),
            ("X-Gateway-Gateway-Version", "forged"),
            ("X-Gateway-X-Gateway-User-Id", "a name like any other"),
        ]);
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
        let object = r#"{"Team": "a", "count": 1.50, "flag": false, "none": null, "list": [1],
            "object": {"a": 1}, "user_id": "forged", "X-Gateway-Region": "eu", "Ä-b": "c"}"#;
        assert_eq!(
            json(&[("X-Gateway-Metadata", object)]),
            r#"{"__b":"c","count":"1.50","flag":"false","region":"eu","team":"a"}"#
        );
        for broken in ["", "[1]", "\"text\"", "{", "null"] {
            assert!(of(&[("X-Gateway-Metadata", broken)]).is_empty(), "{broken}");
        }
    }

    #[test]
    fn one_key_has_one_value() {
        let both = [("x-gateway-metadata", r#"{"team":"object"}"#), ("X-Gateway-Team", "header")];
        assert_eq!(of(&both).get("team"), Some("header"));
        let two = [("x-gateway-a_b", "second"), ("x-gateway-a-b", "first")];
        assert_eq!(of(&two).get("a_b"), Some("first"));
        let twice = [("x-gateway-a", "first"), ("x-gateway-a", "second")];
        assert_eq!(of(&twice).get("a"), Some("first"));
        let object = [("x-gateway-metadata", r#"{"a b":"second","a b":"same","A-B":"first"}"#)];
        assert_eq!(of(&object).get("a_b"), Some("first"));
        // What can't be kept was not said.
        let long = "x".repeat(MOST_VALUE + 1);
        let discarded = [("x-gateway-metadata", r#"{"team":"object"}"#), ("x-gateway-team", &long)];
        assert_eq!(of(&discarded).get("team"), Some("object"));
    }

    #[test]
    fn it_is_bounded() {
        let names: Vec<String> = (0..100).map(|n| format!("x-gateway-k{n:03}")).collect();
        let metadata =
            Metadata::from_headers(names.iter().map(|name| (name.as_str(), b"v".as_slice())));
        assert_eq!(metadata.iter().count(), MOST_ENTRIES);
        assert_eq!(metadata.get("k000"), Some("v"));
        assert_eq!(normalize_key(&"a".repeat(MOST_KEY)).map(|key| key.len()), Some(MOST_KEY));
        assert_eq!(normalize_key(&"a".repeat(MOST_KEY + 1)), None);
        let control = Metadata::from_headers([("x-gateway-a", b"a\tb".as_slice())].into_iter());
        assert!(control.is_empty());
        let no_text = Metadata::from_headers([("x-gateway-a", b"\xff".as_slice())].into_iter());
        assert!(no_text.is_empty());
    }

    proptest! {
        #[test]
        fn a_key_in_normal_form_stays_and_is_nobodys_identity(name in "(?i)(x-gateway-)?(gateway|user.id|[a-z0-9 ._äÖ-]{0,70})?.{0,10}") {
            if let Some(key) = normalize_key(&name) {
                prop_assert!((1..=MOST_KEY).contains(&key.len()));
                prop_assert!(key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
                prop_assert!(!RESERVED.contains(&key.as_str()) && !key.starts_with("gateway"));
                prop_assert_eq!(normalize_key(&key), Some(key.clone()));
                prop_assert_eq!(normalize_key(&format!("X-Gateway-{key}")), Some(key));
            }
        }

        #[test]
        fn letter_case_and_punctuation_tell_nothing_apart(name in "[a-z0-9._ -]{1,40}") {
            let key = normalize_key(&name);
            prop_assert_eq!(normalize_key(&name.to_uppercase()), key.clone());
            prop_assert_eq!(normalize_key(&name.replace(['.', '-', ' '], "_")), key);
        }

        #[test]
        fn any_headers_give_bounded_metadata(headers in prop::collection::vec(("(?i)x-gateway-.{0,80}|.{0,20}", prop::collection::vec(any::<u8>(), 0..300)), 0..50)) {
            let metadata = Metadata::from_headers(headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
            prop_assert!(metadata.iter().count() <= MOST_ENTRIES);
            for (key, value) in metadata.iter() {
                prop_assert!(is_value(value));
                prop_assert_eq!(normalize_key(key), Some(key.to_owned()));
            }
            let read: BTreeMap<String, String> = serde_json::from_str(&metadata.to_json()).unwrap();
            prop_assert_eq!(read, metadata.0);
        }

        #[test]
        fn the_order_of_different_headers_does_not_matter(mut headers in prop::collection::btree_map("x-gateway-[a-c_.-]{1,3}", "[a-z]{1,3}", 0..8).prop_map(|map| map.into_iter().collect::<Vec<_>>())) {
            let read = |headers: &[(String, String)]| Metadata::from_headers(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
            let forwards = read(&headers);
            headers.reverse();
            prop_assert_eq!(read(&headers), forwards);
        }
    }
}
