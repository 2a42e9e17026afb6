//! The proof that the grammar is serde_json's.

use std::fmt;

use proptest::prelude::*;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::*;
use crate::json::object::{BodyError, JsonBody, MAX_FIELDS};

fn top_level(text: &[u8]) -> Result<JsonBody, BodyError> {
    JsonBody::parse(::bytes::Bytes::copy_from_slice(text))
}

const BLANK: [char; 4] = [' ', '\t', '\n', '\r'];

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Vec<(String, &'de str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            fields.push((key.into_owned(), map.next_value::<&'de RawValue>()?.get()));
        }
        Ok(fields)
    }
}

fn read_by_serde(text: &str) -> Result<Vec<(String, &str)>, String> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let fields = parser.deserialize_map(FieldsVisitor);
    fields.and_then(|fields| parser.end().map(|()| fields)).map_err(|error| error.to_string())
}

/// Both accept the text, with the same keys and values, or both refuse it, with the same words.
fn same(text: &str) {
    let expected = read_by_serde(text);
    match top_level(text.as_bytes()) {
        Ok(body) => {
            let ours = body.fields().map(|(key, raw)| (key.to_owned(), raw)).collect();
            assert_eq!(Ok(ours), expected, "{text:?}");
        }
        // Checked once the grammar is.
        Err(BodyError::DuplicateKey { .. } | BodyError::AmbiguousKey { .. }) => {
            assert!(expected.is_ok(), "{text:?}")
        }
        Err(BodyError::NotJson { problem }) => assert_eq!(Err(problem), expected, "{text:?}"),
        Err(BodyError::Empty | BodyError::NotAnObject) => {
            assert!(!text.trim_start_matches(BLANK).starts_with('{'), "{text:?}");
        }
        Err(other) => panic!("{other:?}: {text:?}"),
    }
}

/// Every text of at most so many of these characters, between two others.
fn every(before: &str, characters: &str, max_length: u32, after: &str) {
    let characters: Vec<char> = characters.chars().collect();
    for length in 0..=max_length {
        for number in 0..characters.len().pow(length) {
            let mut text = before.to_owned();
            let mut left = number;
            for _ in 0..length {
                text.push(characters[left % characters.len()]);
                left /= characters.len();
            }
            text.push_str(after);
            same(&text);
        }
    }
}

#[test]
fn every_short_text() {
    every("{", "{}[]\":,1 ", 5, "");
    every("{\"a\":", "{}[]\":,1", 5, "}");
    every("{\"\":[", "-01.eE+", 5, "]}");
    every("{\"\":\"", "\"\\u0dnA/\n\u{1f}", 4, "\"}");
    every("{\"\":\"\\u", "0dgG\"é", 5, "");
    every("{\"\\ud8", "0cd\\u", 5, "\":1}");
    every("{\"\":", "truefalsn", 4, "}");
    every("", "{} \t\u{a0}\u{c}", 4, "");
}

#[test]
fn half_a_surrogate_pair_is_for_others_to_judge_but_in_a_top_level_key() {
    same("{\"a\":[\"\\ud800\",{\"\\udc00\":1}]}");
    same("{\"\\ud83d\\ude00\":1}");
    assert!(top_level(b"{\"a\":[\"\\ud800\",{\"\\udc00\":1}]}").is_ok());
    let refused = top_level(b"{\"\\ud800\":1}").map(|_| ());
    assert!(matches!(refused, Err(BodyError::NotJson { .. })));
}

#[test]
fn every_level_remembers_its_kind() {
    let (mut open, mut close) = (String::new(), String::new());
    for level in 0..MAX_LEVELS - 1 {
        let object = level % 3 == 0;
        open.push_str(if object { "{\"a\":" } else { "[" });
        close.insert(0, if object { '}' } else { ']' });
    }
    same(&format!("{{\"a\":{open}1{close}}}"));
    assert!(top_level(format!("{{\"a\":{open}1{close}}}").as_bytes()).is_ok());
    for (place, wrong) in (0..close.len()).map(|place| (place, close[place..].starts_with('}'))) {
        let mut close = close.clone();
        close.replace_range(place..=place, if wrong { "]" } else { "}" });
        same(&format!("{{\"a\":{open}1{close}}}"));
    }
}

#[test]
fn the_first_error_is_reported() {
    let deep = "[".repeat(MAX_LEVELS);
    let error = |text: &str| top_level(text.as_bytes()).map(|_| ()).unwrap_err();
    assert_eq!(error(&format!("{{\"a\":{deep}")), BodyError::TooDeep);
    assert!(matches!(error(&format!("{{\"a\":x{deep}")), BodyError::NotJson { .. }));
    let many: String = (0..MAX_FIELDS).map(|number| format!("\"{number}\":1,")).collect();
    assert_eq!(error(&format!("{{{many}\"a\":x")), BodyError::TooManyFields);
    assert!(matches!(error(&format!("{{\"a\":x,{many}\"a\":1}}")), BodyError::NotJson { .. }));
}

fn json(levels: u32) -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?([eE][-+]?[0-9]{1,3})?",
        string(),
    ];
    leaf.prop_recursive(levels, 40, 6, |inner| {
        let member = (string(), blank(), inner.clone(), blank())
            .prop_map(|(key, one, value, two)| format!("{one}{key}{two}:{one}{value}{two}"));
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(|values| format!("[{}]", values.join(","))),
            prop::collection::vec(member, 0..5)
                .prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}

fn string() -> impl Strategy<Value = String> {
    "\"([a-zé東\u{7f}{}\\[\\],:]{0,20}|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}){0,3}\""
}

fn blank() -> impl Strategy<Value = String> {
    "[ \t\r\n]{0,2}"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn json_and_nearly_json(
        value in json(6),
        blank in blank(),
        changes in prop::collection::vec(
            (any::<prop::sample::Index>(), 0u8..4, "[\u{0}-\u{7f}]|[{}\\[\\]\":,\\\\]|é"),
            0..4,
        ),
    ) {
        let mut text = format!("{{{blank}\"a\":{blank}{value}{blank},\"b\" :{value}}}{blank}");
        same(&text);
        prop_assert!(top_level(text.as_bytes()).is_ok() || text.contains("\\u"));
        for (place, how, with) in changes {
            let place = place.index(text.len() + 1);
            if !text.is_char_boundary(place) {
                continue;
            }
            match how {
                0 => text.truncate(place),
                1 => text.insert_str(place, &with),
                _ => {
                    let after = text.split_off(place);
                    let removed = after.chars().next().map_or(0, char::len_utf8);
                    text.push_str(if how == 2 { &with } else { "" });
                    text.push_str(&after[removed..]);
                }
            }
            same(&text);
        }
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let bytes = [&b"{\""[..], &bytes].concat();
        match std::str::from_utf8(&bytes) {
            Ok(text) => same(text),
            Err(error) => prop_assert_eq!(
                top_level(&bytes).map(|_| ()),
                Err(BodyError::NotUtf8 { at: error.valid_up_to() })
            ),
        }
    }
}
