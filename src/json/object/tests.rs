//! Bodies taken apart at their top level, and edits spliced into them.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::json::tokenizer::MAX_LEVELS;

fn parse(text: &str) -> Result<JsonBody, BodyError> {
    JsonBody::parse(Bytes::copy_from_slice(text.as_bytes()))
}

fn text(edits: &BodyEdits<'_>) -> String {
    let text = String::from_utf8(edits.to_pieces().to_bytes().to_vec()).unwrap();
    assert_eq!(edits.length(), text.len());
    text
}

#[test]
fn an_untouched_body_is_not_copied() {
    let sent = Bytes::from_static(b" {\"model\" : \"m\", \"x\": [1.0, 1e999, \"\\ud800\"] }\n");
    let body = JsonBody::parse(sent.clone()).unwrap();
    let mut edits = body.edit();
    edits.set_str("model", "m");
    edits.set_if_absent("x", "1").unwrap();
    let out = edits.to_pieces().to_bytes();
    assert_eq!(out, sent);
    assert_eq!(out.as_ptr(), sent.as_ptr());
}

#[test]
fn edits_are_spliced_in() {
    let body = parse("{\n  \"a\": 1.50,\n  \"m\\u006fdel\": \"x\" ,\"b\":[ ]\n} ").unwrap();
    let mut edits = body.edit();
    edits.set_str("model", "a \"b\"");
    edits.set_if_absent("top_p", "0.5").unwrap();
    edits.set("top_p", "0.25");
    assert_eq!(edits.get("model"), Some("\"a \\\"b\\\"\""));
    assert_eq!(edits.get("top_p"), Some("0.25"));
    assert_eq!(
        text(&edits),
        "{\n  \"a\": 1.50,\n  \"m\\u006fdel\": \"a \\\"b\\\"\" ,\"b\":[ ]\n,\"top_p\":0.25} "
    );
    // Another attempt begins with the caller's own body.
    let mut other = body.edit();
    other.set_str("model", "m");
    assert_eq!(text(&other), "{\n  \"a\": 1.50,\n  \"m\\u006fdel\": \"m\" ,\"b\":[ ]\n} ");

    let body = parse("{ }").unwrap();
    let mut edits = body.edit();
    edits.set_str("model", "m");
    edits.set("n", "1");
    assert_eq!(text(&edits), "{ \"model\":\"m\",\"n\":1}");
}

#[test]
fn values_are_read_raw() {
    let body = parse(r#"{"stream": true, "n": 3, "x": {"y": [1]}}"#).unwrap();
    assert_eq!(body.get("x"), Some(r#"{"y": [1]}"#));
    assert_eq!(body.get("y"), None);
}

#[test]
fn what_is_refused() {
    for (sent, code) in [
        ("", "invalid_json"),
        (" \n", "invalid_json"),
        ("{", "invalid_json"),
        ("{\"a\":1}x", "invalid_json"),
        ("{\"a\":1} {}", "invalid_json"),
        ("{\"a\":01}", "invalid_json"),
        ("{\"a\":1,}", "invalid_json"),
        ("{'a':1}", "invalid_json"),
        ("{\"a\":\"\n\"}", "invalid_json"),
        ("[]", "not_a_json_object"),
        ("\"{}\"", "not_a_json_object"),
        ("\u{feff}{}", "not_a_json_object"),
        ("{\"a\":1,\"a\":1}", "duplicate_field"),
        ("{\"model\":1,\"b\":2,\"mod\\u0065l\":1}", "duplicate_field"),
        ("{\"Model\":1}", "ambiguous_field"),
        ("{\"\\u017ftream\":true}", "ambiguous_field"),
        ("{\"max_to\u{212a}ens\":1}", "ambiguous_field"),
    ] {
        assert_eq!(parse(sent).unwrap_err().code(), code, "{sent}");
    }
    let error = JsonBody::parse(Bytes::from_static(b"{\"a\":\"\xff\"}")).unwrap_err();
    assert_eq!(error, BodyError::NotUtf8 { at: 6 });
}

#[test]
fn levels_and_fields_are_bounded() {
    let nested = |levels: usize| {
        let inner = levels - 1;
        format!("{{\"a\":{}{}}}", "[".repeat(inner), "]".repeat(inner))
    };
    assert!(parse(&nested(MAX_LEVELS)).is_ok());
    assert_eq!(parse(&nested(MAX_LEVELS + 1)).unwrap_err(), BodyError::TooDeep);
    assert_eq!(parse(&nested(100_000)).unwrap_err(), BodyError::TooDeep);
    let in_text = format!("{{\"a\":\"\\\"{}\\\\\"}}", "[".repeat(1000));
    assert!(parse(&in_text).is_ok());

    let fields = |count: usize| {
        let fields: Vec<String> = (0..count).map(|i| format!("\"k{i}\":{i}")).collect();
        format!("{{{}}}", fields.join(","))
    };
    assert!(parse(&fields(MAX_FIELDS)).is_ok());
    assert_eq!(parse(&fields(MAX_FIELDS + 1)).unwrap_err(), BodyError::TooManyFields);
}

#[test]
fn defaults_do_not_add_a_second_spelling() {
    let body = parse(r#"{"Temperature": 1}"#).unwrap();
    let error = body.edit().set_if_absent("temperature", "0").unwrap_err();
    assert_eq!((error.code(), error.param()), ("ambiguous_field", Some("Temperature")));
}

#[test]
fn usage_is_asked_for_once() {
    for (sent, asked, options) in [
        ("{}", true, r#"{"include_usage":true}"#),
        (r#"{"stream_options":null}"#, true, r#"{"include_usage":true}"#),
        (r#"{"stream_options":{"include_usage": false}}"#, true, r#"{"include_usage": true}"#),
        (r#"{"stream_options":{"x": 1}}"#, true, r#"{"x": 1,"include_usage":true}"#),
        (r#"{"stream_options":{"include_usage": true}}"#, false, r#"{"include_usage": true}"#),
        (r#"{"stream_options":{"include_usage": 1}}"#, true, r#"{"include_usage": true}"#),
    ] {
        let body = parse(sent).unwrap();
        let mut edits = body.edit();
        assert_eq!(edits.ask_for_usage(), Ok(asked), "{sent}");
        assert_eq!(edits.get("stream_options"), Some(options), "{sent}");
    }
    for (sent, code) in [
        (r#"{"stream_options":[]}"#, "invalid_stream_options"),
        (r#"{"stream_options":{"Include_Usage":false}}"#, "ambiguous_field"),
        (r#"{"stream_options":{"include_usage":true,"Include_usage":false}}"#, "ambiguous_field"),
        (
            r#"{"stream_options":{"\u0131nclude_usage":false,"include_usage":true}}"#,
            "ambiguous_field",
        ),
        (r#"{"stream_options":{"a":1,"a":1}}"#, "duplicate_field"),
    ] {
        let body = parse(sent).unwrap();
        assert_eq!(body.edit().ask_for_usage().unwrap_err().code(), code, "{sent}");
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[\"\\\\\n\\[{]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z\"\\\\é]{0,4}", inner, 0..4)
                .prop_map(|map| Value::from(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn rewriting_equals_editing_the_map(
        fields in prop::collection::btree_map("[a-z\"\\\\ é\n]{0,6}", json_value(), 0..6),
        model in prop::option::of(json_value()),
        pretty in any::<bool>(),
        new in "\\PC{0,10}",
    ) {
        let mut map: Map<String, Value> = fields.into_iter().collect();
        if let Some(model) = model {
            map.insert("model".to_owned(), model);
        }
        let sent = if pretty {
            serde_json::to_string_pretty(&map).unwrap()
        } else {
            serde_json::to_string(&map).unwrap()
        };
        let body = parse(&sent).unwrap();
        let before: Vec<(String, String)> = body
            .keys()
            .filter(|key| *key != "model")
            .map(|key| (key.to_owned(), body.get(key).unwrap().to_owned()))
            .collect();
        let mut edits = body.edit();
        edits.set_str("model", &new);
        let out = text(&edits);

        map.insert("model".to_owned(), json!(new));
        prop_assert_eq!(serde_json::from_str::<Map<String, Value>>(&out).unwrap(), map);
        let after = parse(&out).unwrap();
        for (key, raw) in before {
            prop_assert_eq!(after.get(&key), Some(raw.as_str()));
        }
    }

    #[test]
    fn accepts_what_serde_json_accepts(sent in "[{}\\[\\]\":,a01.e\\\\ -]{0,24}") {
        let sent = format!("{{{sent}");
        let theirs = serde_json::from_str::<Map<String, Value>>(&sent);
        match parse(&sent) {
            Ok(body) => prop_assert_eq!(text(&body.edit()), sent),
            Err(BodyError::NotJson { .. }) => prop_assert!(theirs.is_err()),
            Err(BodyError::DuplicateKey { .. }) => {}
            Err(other) => prop_assert!(false, "{:?}", other),
        }
    }
}

#[test]
fn removed_fields_leave_json() {
    let text = r#" { "a": [1,{}], "b" : "x" , "c":3 ,"d": null } "#;
    let body = parse(text).unwrap();
    let keys = ["a", "b", "c", "d"];
    for chosen in 0..16_u32 {
        for adds in [false, true] {
            let mut edits = body.edit();
            let mut expected: Value = serde_json::from_str(text).unwrap();
            for (at, key) in keys.into_iter().enumerate() {
                if chosen & (1 << at) != 0 {
                    edits.remove(key);
                    expected.as_object_mut().unwrap().remove(key);
                    assert_eq!(edits.get(key), None);
                }
            }
            if adds {
                edits.set("b", "[2]");
                edits.set("e", "5");
                expected["b"] = json!([2]);
                expected["e"] = 5.into();
            }
            let sent = edits.to_pieces().to_bytes();
            let parsed: Value = serde_json::from_slice(&sent).unwrap();
            assert_eq!(parsed, expected, "{sent:?}");
            assert_eq!(edits.length(), sent.len());
        }
    }
}
