//! What is replaced in bodies, blocked and reported.

use serde_json::Value as Json;

use super::super::policy::GuardConfig;
use super::*;

pub(in super::super) fn guard(config: &str) -> Guard {
    let config: GuardConfig = serde_json::from_str(config).unwrap();
    assert_eq!(config.check(true), []);
    Guard::new(&[config]).unwrap().unwrap()
}

pub(in super::super) fn everything() -> Guard {
    guard(r#"{"version":1,"detect":{"secrets":true,"pii":true}}"#)
}

pub(in super::super) fn key() -> ConversationKey {
    ConversationKey::derive(&[7; 32], b"caller", b"conversation")
}

fn redact(guard: &Guard, format: Format, body: &str) -> Guarded {
    guard.redact(format, body.as_bytes(), &key(), &Entities::default(), &|| true).unwrap()
}

/// The new body; the old one where nothing is replaced.
fn redacted(guard: &Guard, format: Format, body: &str) -> String {
    match redact(guard, format, body) {
        Guarded::Passed { body: Some(new), .. } => String::from_utf8(new).unwrap(),
        Guarded::Passed { body: None, .. } => body.to_owned(),
        Guarded::Blocked(report) => panic!("{report:?}"),
    }
}

fn blocking(guard: &Guard, format: Format, body: &str) -> Vec<String> {
    match redact(guard, format, body) {
        Guarded::Blocked(report) => report.blocking.into_iter().collect(),
        Guarded::Passed { report, .. } => {
            assert!(report.blocking.is_empty());
            Vec::new()
        }
    }
}

fn placeholder(category: Category, value: &str) -> String {
    PlaceholderBuilder::new(&key(), BTreeSet::new()).placeholder(category, value)
}

/// `body` with the mark `%` replaced by the address must be the same with its placeholder in its place.
fn assert_replaced(format: Format, body: &str) {
    let email = placeholder(Category::Email, "a@b.co");
    let sent = body.replace('%', "a@b.co");
    let guard =
        guard(r#"{"version":1,"detect":{"secrets":true,"pii":true},"scan":{"stored":"allow"}}"#);
    assert_eq!(redacted(&guard, format, &sent), body.replace('%', &email));
}

#[test]
fn the_body_is_the_same_but_for_its_values() {
    assert_replaced(
        Format::Chat,
        r#" {"model" : "m", "messages":[{"role":"user","name":"%","content":"x \u00e9 % y\n%"},
        {"role":"user","content":[{"type":"text","text":"%"},{"new":{"field":["%"]}}]}],  "user":"%"}"#,
    );
    let untouched = r#"{"messages":[{"content":"\u00e9 nothing \/ here"}]}"#;
    assert!(matches!(
        redact(&everything(), Format::Chat, untouched),
        Guarded::Passed { body: None, placeholders, .. } if placeholders.is_empty()
    ));
}

#[test]
fn prompts_messages_tools_and_metadata_of_every_format() {
    for (format, body) in [
        (
            Format::Chat,
            r#"{"messages":[{"role":"developer","content":"%"},{"role":"assistant","tool_calls":[{"id":"c",
            "type":"function","function":{"name":"f","arguments":"{\"to\": [\"%\"], \"%\":1}"}}]},
            {"role":"tool","tool_call_id":"c","content":"%"}],
            "tools":[{"type":"function","function":{"name":"f","description":"%","parameters":
            {"type":"object","properties":{"to":{"description":"%","enum":["%"]}}}}}],
            "metadata":{"k":"%","%":"v"},"response_format":{"type":"json_schema","json_schema":
            {"schema":{"description":"c@d.co"}}}}"#,
        ),
        (
            Format::Responses,
            r#"{"instructions":"%","input":[{"type":"message","role":"user","content":[{"type":"input_text",
            "text":"%"}]},{"type":"function_call_output","call_id":"c","output":"{\"a\":\"%\"}"},
            {"type":"custom_tool_call","call_id":"c","name":"n","input":"mail %"},
            {"type":"reasoning","id":"r","summary":[{"type":"summary_text","text":"%"}],
            "encrypted_content":"gAAAAA_x-y="}],"prompt":{"id":"p","variables":{"v":"%"}},
            "text":{"format":{"type":"json_schema","schema":{"description":"c@d.co"}}}}"#,
        ),
        (Format::Responses, r#"{"model":"m","input":"Write to %."}"#),
        (
            Format::Messages,
            r#"{"system":[{"type":"text","text":"%","cache_control":{"type":"ephemeral"}}],"messages":[
            {"role":"assistant","content":[{"type":"tool_use","id":"t","name":"n","input":{"to":"%","%":["%"],
            "nested":"{\"x\":\"[\\\"%\\\"]\"}"}}]},{"role":"user","content":[{"type":"tool_result",
            "tool_use_id":"t","content":[{"type":"text","text":"%"}]},{"type":"document","title":"%",
            "source":{"type":"text","media_type":"text/plain","data":"%"}}]}],"metadata":{"user_id":"%"}}"#,
        ),
        (
            Format::Gemini,
            r#"{"systemInstruction":{"parts":[{"text":"%"}]},"contents":[{"role":"model","parts":[{"functionCall":
            {"name":"f","args":{"to":"%"}},"thoughtSignature":"Ab+/c=="}]},{"role":"user","parts":[{"functionResponse":
            {"name":"f","response":{"%":{"y":"%"}}}},{"text":"%","thought":true}]}],
            "generationConfig":{"responseSchema":{"description":"c@d.co"}},"labels":{"team":"%"}}"#,
        ),
        (
            Format::Converse,
            r#"{"system":[{"text":"%"}],"messages":[{"role":"assistant","content":[{"toolUse":{"toolUseId":"t",
            "name":"n","input":{"to":"%"}}}]},{"role":"user","content":[{"toolResult":{"toolUseId":"t",
            "content":[{"json":{"%":"%"}},{"text":"%"}]}},{"document":{"name":"%","format":"txt",
            "source":{"text":"%"}}}]}],"requestMetadata":{"k":"%"}}"#,
        ),
        (Format::Embeddings, r#"{"model":"m","input":["%","x %"],"user":"%"}"#),
        (Format::GeminiEmbeddings, r#"{"content":{"parts":[{"text":"%"}]},"title":"%"}"#),
    ] {
        assert_replaced(format, body);
    }
}

#[test]
fn escapes_are_seen_through() {
    let email = placeholder(Category::Email, "a@b.co");
    let replaced = |body: &str| redacted(&everything(), Format::Chat, body);
    for value in [r"a\u0040b.co", r"\u0061@b\u002eco", r"a\\u0040b.co", r"a\\\\u0040b.co"] {
        let body = format!(r#"{{"messages":[{{"content":"x {value} y"}}]}}"#);
        let expected = format!(r#"{{"messages":[{{"content":"x {email} y"}}]}}"#);
        assert_eq!(replaced(&body), expected, "{value}");
    }
    // JSON in a string has escapes of its own.
    let body = r#"{"content":"{\"x\":\"a\\u0040b.co\",\"y\":\"[\\\"a\\\\u0040b.co\\\"]\"}"}"#;
    let expected = r#"{"content":"{\"x\":\"%\",\"y\":\"[\\\"%\\\"]\"}"}"#.replace('%', &email);
    assert_eq!(replaced(body), expected);
    let body = r#"{"content":"postgres:\\/\\/u:p4ss@db.example.com\\/x"}"#;
    let secret = placeholder(Category::ConnectionString, "postgres://u:p4ss@db.example.com/x");
    assert_eq!(replaced(body), format!(r#"{{"content":"{secret}"}}"#));
}

#[test]
fn the_name_of_a_member_tells_what_its_value_is() {
    let body = r#"{"messages":[{"role":"tool","content":"{\"api_key\":\"k3Jx9Qz7Lm2Vt8Rb4Nw6\",\"ssn\":123456789}"}]}"#;
    let secret = placeholder(Category::NamedSecret, "k3Jx9Qz7Lm2Vt8Rb4Nw6");
    let number = placeholder(Category::UsSsn, "123456789");
    let expected = body
        .replace("k3Jx9Qz7Lm2Vt8Rb4Nw6", &secret)
        .replace("123456789", &format!("\\\"{number}\\\""));
    assert_eq!(redacted(&everything(), Format::Chat, body), expected);
    // A number of the format's own fields is none.
    let body = r#"{"seed":4111111111111111,"messages":[{"content":[{"tool_use":{"input":{"card":4111111111111111}}}]}]}"#;
    let card = placeholder(Category::PaymentCard, "4111111111111111");
    let expected = body.replace("\"card\":4111111111111111", &format!("\"card\":\"{card}\""));
    assert_eq!(redacted(&everything(), Format::Messages, body), expected);
}

#[test]
fn what_providers_check_is_blocked() {
    for body in [
        r#"{"model":"a@b.co","messages":[]}"#,
        r#"{"messages":[{"tool_calls":[{"function":{"name":"a@b.co"}}]}]}"#,
        r#"{"messages":[{"tool_call_id":"a@b.co"}]}"#,
        r#"{"messages":[{"content":[{"image_url":{"url":"https://example.com/?u=a@b.co"}}]}]}"#,
        r#"{"tools":[{"function":{"parameters":{"properties":{"a@b.co":{}}}}}]}"#,
        r#"{"tools":[{"type":"mcp","headers":{"X":"a@b.co"}}]}"#,
    ] {
        assert_eq!(blocking(&everything(), Format::Chat, body), ["email"], "{body}");
    }
    let reports = guard(r#"{"version":1,"detect":{"pii":true},"action":"report"}"#);
    assert_eq!(blocking(&reports, Format::Chat, r#"{"model":"a@b.co"}"#), [""; 0]);
}

#[test]
fn actions() {
    let body = r#"{"messages":[{"content":"a@b.co and a@b.co"}]}"#;
    let blocks = guard(r#"{"version":1,"detect":{"pii":["email"]},"action":"block"}"#);
    assert_eq!(blocking(&blocks, Format::Chat, body), ["email"]);
    let reports = guard(r#"{"version":1,"detect":{"pii":true},"action":"report"}"#);
    let Guarded::Passed { body: None, report, .. } = redact(&reports, Format::Chat, body) else {
        panic!("nothing is replaced")
    };
    assert_eq!(report.found, [("email".to_owned(), 2)].into());
    let custom = guard(
        r#"{"version":1,"detect":{"custom":[{"name":"project","pattern":"PRJ-\\d+"},{"pattern":"user"}]}}"#,
    );
    let body = r#"{"messages":[{"role":"user","content":"PRJ-12 of a user, a@b.co"}]}"#;
    let new = redacted(&custom, Format::Chat, body);
    let value = |text| placeholder(Category::Custom, text);
    let expected = format!(
        r#"{{"messages":[{{"role":"user","content":"{} of a {}, a@b.co"}}]}}"#,
        value("PRJ-12"),
        value("user")
    );
    assert_eq!(new, expected);
    let report = custom.check_text(b"/x/PRJ-12?a=a@b.co", &Entities::default(), &|| true).unwrap();
    assert_eq!(report.blocking, ["project".to_owned()].into());
}

#[test]
fn system_prompts_pass_where_policies_say_so() {
    let lenient = guard(r#"{"version":1,"detect":{"pii":true},"scan":{"system":false}}"#);
    let email = placeholder(Category::Email, "a@b.co");
    for (format, body) in [
        (
            Format::Chat,
            r#"{"messages":[{"content":"a@b.co","role":"system"},{"role":"user","content":"%"},{"role":"developer","content":[{"text":"a@b.co"}]}]}"#,
        ),
        (
            Format::Responses,
            r#"{"instructions":"a@b.co","input":[{"role":"system","content":"a@b.co"},{"role":"user","content":"%"}]}"#,
        ),
        (Format::Messages, r#"{"system":"a@b.co","messages":[{"role":"user","content":"%"}]}"#),
        (
            Format::Messages,
            r#"{"system":[{"text":"a@b.co"}],"messages":[{"role":"user","content":"%"}]}"#,
        ),
        (
            Format::Gemini,
            r#"{"system_instruction":{"parts":{"text":"a@b.co"}},"contents":[{"parts":[{"text":"%"}]}]}"#,
        ),
        (
            Format::Converse,
            r#"{"system":[{"text":"a@b.co"}],"messages":[{"content":[{"text":"%"}]}]}"#,
        ),
    ] {
        let sent = body.replace('%', "a@b.co");
        assert_eq!(redacted(&lenient, format, &sent), body.replace('%', &email));
    }
}

#[test]
fn signed_reasoning_passes_as_it_is() {
    let email = placeholder(Category::Email, "a@b.co");
    for (format, body) in [
        (
            Format::Messages,
            r#"{"messages":[{"content":[{"type":"thinking","thinking":"c@d.co @@","signature":"EqQB+/=="},{"type":"redacted_thinking","data":"Eo8BQ0="},{"type":"text","text":"%"}]}]}"#,
        ),
        (
            Format::Messages,
            r#"{"messages":[{"content":[{"signature":"EqQB+/==","thinking":"c@d.co"},{"thinking":"%"}]}]}"#,
        ),
        (
            Format::Converse,
            r#"{"messages":[{"content":[{"reasoningContent":{"reasoningText":{"text":"c@d.co","signature":"Eq=="}}},{"text":"%"}]}]}"#,
        ),
        (
            Format::Chat,
            r#"{"messages":[{"reasoning_details":[{"type":"reasoning.text","text":"c@d.co","signature":"Eq=="}],"content":"%","reasoning":"%"}]}"#,
        ),
    ] {
        // The placeholders that it keeps go on standing for their values.
        let body = body.replace("@@", &email);
        let sent = body.replace('%', "a@b.co");
        assert_eq!(redacted(&everything(), format, &sent), body.replace('%', &email));
    }
}

#[test]
fn media_pass_and_text_in_base64_is_scanned() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let png = STANDARD.encode([&b"\x89PNG\r\n\x1a\n"[..], &[0; 900]].concat());
    // A control character keeps it from looking like text.
    let text = STANDARD.encode(format!("\u{1}{}a@b.co", " x".repeat(600)));
    let image = r#"{"messages":[{"content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"@"}}]}]}"#;
    let document = image.replace("image/png", "text/plain");
    let converse =
        r#"{"messages":[{"content":[{"document":{"source":{"bytes":"@"},"format":"txt"}}]}]}"#;
    let guard_all = everything();
    let found =
        |format, body: &str, data: &str| blocking(&guard_all, format, &body.replace('@', data));
    assert_eq!(found(Format::Messages, image, &png), [""; 0]);
    assert_eq!(found(Format::Messages, image, &text), [""; 0]);
    assert_eq!(found(Format::Messages, &document, &text), ["email"]);
    assert_eq!(found(Format::Converse, converse, &text), ["email"]);
    let url =
        r#"{"messages":[{"content":[{"file":{"file_data":"data:application/json;base64,@"}}]}]}"#;
    assert_eq!(found(Format::Chat, url, &STANDARD.encode("{\"a\":\"a@b.co\"}")), ["email"]);
    // What a document calls text, and what no media begin with, may be text that looks like base64.
    let keys = "AKIAIOSFODNN7EXAMPLE\n".repeat(30).replace('\n', "\\n");
    assert_eq!(found(Format::Messages, &document, &keys), ["aws_key"]);
    let body = image.replace('@', &keys);
    assert!(!redacted(&guard_all, Format::Messages, &body).contains("AKIA"));
    let strict = guard(r#"{"version":1,"detect":{"pii":true},"scan":{"media":"block"}}"#);
    assert_eq!(blocking(&strict, Format::Messages, &image.replace('@', &png)), ["media"]);
}

#[test]
fn overlapping_values_become_one() {
    let body = r#"{"content":"https://user:pa55word@example.com/a?b=c"}"#;
    let secret = placeholder(Category::ConnectionString, "https://user:pa55word@example.com/a?b=c");
    assert_eq!(redacted(&everything(), Format::Chat, body), format!(r#"{{"content":"{secret}"}}"#));
}

#[test]
fn literal_placeholders_stay_what_they_are() {
    let email = placeholder(Category::Email, "a@b.co");
    let body = format!(r#"{{"content":"{} a@b.co"}}"#, email.to_lowercase());
    let Guarded::Passed { body: Some(new), placeholders, .. } =
        redact(&everything(), Format::Chat, &body)
    else {
        panic!("it is replaced")
    };
    let new: Json = serde_json::from_slice(&new).unwrap();
    let (literal, other) = new["content"].as_str().unwrap().split_once(' ').unwrap();
    assert_eq!(literal, email.to_lowercase());
    assert_ne!(other, email);
    assert_eq!(placeholders.len(), 1);
}

#[test]
fn ten_thousand_values_and_no_end_of_them() {
    let many: Vec<String> = (0..10_000).map(|n| format!("u{n}@example.com")).collect();
    let body = serde_json::json!({"messages": [{"content": many.join(" ")}]}).to_string();
    let Guarded::Passed { placeholders, report, .. } = redact(&everything(), Format::Chat, &body)
    else {
        panic!("it passes")
    };
    assert_eq!(placeholders.len(), 10_000);
    assert_eq!(report.found["email"], 10_000);
    let body = format!(r#"{{"content":"{}"}}"#, "a@b.co ".repeat(MAX_VALUES + 1));
    let result =
        everything().redact(Format::Chat, body.as_bytes(), &key(), &Entities::default(), &|| true);
    assert_eq!(result.unwrap_err(), ScanError::TooManyValues);
}

#[test]
fn what_is_not_scanned_to_its_end_is_an_error() {
    let redact = |body: &str, keep_going: &dyn Fn() -> bool| {
        everything()
            .redact(Format::Chat, body.as_bytes(), &key(), &Entities::default(), keep_going)
            .unwrap_err()
    };
    assert_eq!(redact(r#"{"content":"x"}"#, &|| false), ScanError::TimeExceeded);
    assert_eq!(redact(r#"{"content":"x"#, &|| true), ScanError::NotJson);
    assert_eq!(redact(&"[".repeat(200), &|| true), ScanError::NotJson);
}

#[test]
fn only_messages_are_system_prompts_by_their_role() {
    let guard =
        guard(r#"{"version":1,"detect":{"pii":true},"scan":{"system":false,"answers":false}}"#);
    let email = placeholder(Category::Email, "a@b.co");
    for (format, body) in [
        (Format::Chat, r#"{"role":"system","messages":[{"role":"user","content":"%"}]}"#),
        (Format::Chat, r#"{"messages":[{"role":"system","role":"user","content":"%"}]}"#),
        (Format::Messages, r#"{"messages":[{"role":"user","content":"{\"system\":\"%\"}"}]}"#),
    ] {
        let sent = body.replace('%', "a@b.co");
        assert_eq!(redacted(&guard, format, &sent), body.replace('%', &email), "{body}");
    }
    let system = r#"{"messages":[{"role":"system","content":"a@b.co"}]}"#;
    assert_eq!(redacted(&guard, Format::Chat, system), system);
}
