//! Requests and answers together: what is replaced comes back as it was.

mod corpus;
mod published;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::entities::Entities;
use super::placeholder::{ConversationKey, Placeholders};
use super::policy::{Guard, GuardConfig};
use super::redact::Guarded;
use super::restore::restore_answer;
use crate::llm::format::Format;

/// Values with all that has to be escaped, by a pattern of the policy's own.
const CONFIG: &str = r#"{"version":1,"detect":{"secrets":true,"pii":true,
    "custom":[{"name":"marked","pattern":"(?s)<<.*?>>"}]}}"#;

fn guard() -> Guard {
    let config: GuardConfig = serde_json::from_str(CONFIG).unwrap();
    Guard::new(&[config]).unwrap().unwrap()
}

fn redact(format: Format, body: &[u8]) -> (Vec<u8>, Placeholders) {
    let key = ConversationKey::derive(&[3; 32], b"caller", b"conversation");
    match guard().redact(format, body, &key, &Entities::default(), &|| true).unwrap() {
        Guarded::Passed { body: new, placeholders, .. } => {
            (new.unwrap_or_else(|| body.to_vec()), placeholders)
        }
        Guarded::Blocked(report) => panic!("{report:?}"),
    }
}

/// A text with values and without; one that begins like JSON is JSON.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("a@b.co".to_owned()),
        Just("A@b.co".to_owned()),
        Just("+1 415 555 2671".to_owned()),
        Just("4111 1111 1111 1111".to_owned()),
        Just("AKIAIOSFODNN7EXAMPLE".to_owned()),
        Just("TG_EMAIL_ABCDEFGH2345".to_owned()),
        Just("password: hunter2hunter2".to_owned()),
        "<<[ a\"\\\\\nné<]{1,6}>>",
        "[ a-z\"\\\\\n{}\\[\\]:,é😀_TG]{0,8}",
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| format!("x {}", parts.join(" ")))
}

/// A text, or JSON in strings in strings.
fn nested() -> impl Strategy<Value = String> {
    text().prop_recursive(3, 8, 3, |inner| {
        (inner.clone(), inner, "[a-z@.<>]{0,4}").prop_map(|(first, second, key)| {
            json!({key: first, "b": [second, 1, null, true]}).to_string()
        })
    })
}

/// What callers put into arguments: text everywhere, in keys, too.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![nested().prop_map(Value::from), Just(json!(null)), Just(json!(1.5))];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            (text(), inner.clone(), inner)
                .prop_map(|(key, first, second)| json!({key: first, "k": second})),
        ]
    })
}

fn body(format: Format, texts: &[String], values: &Value) -> Value {
    let text = |at: usize| texts[at % texts.len()].clone();
    match format {
        Format::Chat => json!({"model":"m","messages":[
            {"role":"system","content":text(0)},
            {"role":"user","content":[{"type":"text","text":text(1)},{"new":text(2)}]},
            {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function",
                "function":{"name":"f","arguments":values.to_string()}}]},
            {"role":"tool","tool_call_id":"c","content":text(3)}],"metadata":{"k":text(4)}}),
        Format::Responses => json!({"model":"m","instructions":text(0),"input":[
            {"type":"message","role":"user","content":[{"type":"input_text","text":text(1)}]},
            {"type":"function_call","call_id":"c","name":"f","arguments":values.to_string()},
            {"type":"function_call_output","call_id":"c","output":text(2)}]}),
        Format::Messages => json!({"model":"m","system":text(0),"messages":[
            {"role":"user","content":text(1)},
            {"role":"assistant","content":[{"type":"tool_use","id":"t","name":"n","input":values}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":text(2)}]}]}),
        Format::Gemini => json!({"systemInstruction":{"parts":[{"text":text(0)}]},"contents":[
            {"role":"user","parts":[{"text":text(1)}]},
            {"role":"model","parts":[{"functionCall":{"name":"f","args":values}}]},
            {"role":"user","parts":[{"functionResponse":{"name":"f","response":values}}]}]}),
        Format::Converse => json!({"system":[{"text":text(0)}],"messages":[
            {"role":"assistant","content":[{"toolUse":{"toolUseId":"t","name":"n","input":values}}]},
            {"role":"user","content":[{"toolResult":{"toolUseId":"t","content":[{"json":values}]}}]}]}),
        Format::Embeddings => json!({"model":"m","input":texts}),
        Format::GeminiEmbeddings => json!({"content":{"parts":[{"text":text(0)}]}}),
        Format::Invoke => {
            json!({"inputText":text(0),"textGenerationConfig":{"stopSequences":texts}})
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn redacted_and_restored_is_as_it_was(
        format in prop::sample::select(vec![
            Format::Chat, Format::Responses, Format::Messages, Format::Gemini, Format::Converse,
            Format::Embeddings, Format::GeminiEmbeddings, Format::Invoke,
        ]),
        texts in prop::collection::vec(nested(), 1..5),
        values in value(),
    ) {
        let body = body(format, &texts, &values);
        let (sent, placeholders) = redact(format, body.to_string().as_bytes());
        let restored = restore_answer(format, &sent, &placeholders).unwrap_or_else(|| sent.clone());
        prop_assert_eq!(serde_json::from_slice::<Value>(&restored).unwrap(), body);
        // Nothing is left of the values themselves.
        let sent = String::from_utf8(sent).unwrap();
        // Four letters of the key may stand in a placeholder by chance; eight do not.
        for value in ["a@b.co", "A@b.co", "415 555", "4111 1111", "AKIAIOSF", "hunter2"] {
            prop_assert!(!sent.contains(value), "{} in {}", value, sent);
        }
    }

    #[test]
    fn any_json_is_read(value in value(), format in prop::sample::select(vec![
        Format::Chat, Format::Responses, Format::Messages, Format::Gemini, Format::Converse,
    ])) {
        let body = json!({"messages": value}).to_string();
        let (sent, _) = redact(format, body.as_bytes());
        prop_assert!(serde_json::from_slice::<Value>(&sent).is_ok());
    }
}

#[test]
fn a_body_of_32_mib() {
    let value = "Please write to someone@example.com about it. ";
    let text = value.repeat(7) + &"Nothing to see in this sentence. ".repeat(32 * 1024);
    let messages: Vec<Value> = (0..32).map(|_| json!({"role": "user", "content": text})).collect();
    let body = json!({"model": "m", "messages": messages}).to_string().into_bytes();
    assert!(body.len() > 32 << 20);
    let (sent, placeholders) = redact(Format::Chat, &body);
    assert_eq!(placeholders.len(), 1);
    let restored = restore_answer(Format::Chat, &sent, &placeholders).unwrap();
    assert!(restored == body);
}

#[test]
fn ten_thousand_placeholders_next_to_each_other() {
    let values: Vec<String> = (0..10_000).map(|n| format!("<<{n}>>")).collect();
    let body = json!({"input": values.concat()}).to_string();
    let (sent, placeholders) = redact(Format::Embeddings, body.as_bytes());
    assert_eq!(placeholders.len(), 10_000);
    let restored = restore_answer(Format::Embeddings, &sent, &placeholders).unwrap();
    assert_eq!(restored, body.as_bytes());
}
