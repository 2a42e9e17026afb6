//! The conversation in requests.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::write_request;
use super::requests::{target, user};
use crate::llm::convert::error::Dropped;
use crate::llm::convert::opaque::{Family, Opaque, OpaqueKind};
use crate::llm::convert::request::{
    Block, Media, MediaKind, MediaSource, ReasoningBlock, Request, Role, TextBlock, ToolCall, Turn,
};
use crate::llm::convert::sample_blocks::{result, text};
use crate::llm::convert::sample_turns::{check_prefixes, turns};

/// The model's newest generation, which wants signatures.
const MODEL: &str = "gemini-3-pro-preview";

fn contents(turns: Vec<Turn<'_>>, model: &str) -> Value {
    let request = Request { turns, ..Request::default() };
    let json = write_request(&request, &target(model), &mut Dropped::new(true)).unwrap();
    serde_json::from_str::<Value>(&json).unwrap()["contents"].take()
}

/// The parts of the model's only turn.
fn model_parts(blocks: Vec<Block<'_>>, model: &str) -> Value {
    contents(vec![Turn { role: Role::Assistant, blocks }], model)[0]["parts"].take()
}

fn signature(family: Family, data: &str) -> Vec<Opaque<'_>> {
    vec![Opaque { family, kind: OpaqueKind::Signature, id: None, data: data.into() }]
}

fn signed_text<'a>(text: &'a str, data: &'a str) -> Block<'a> {
    let opaque = signature(Family::Google, data);
    Block::Text(TextBlock { text: text.into(), opaque, ..TextBlock::default() })
}

fn thoughts<'a>(text: &'a str, data: &'a str) -> Block<'a> {
    let opaque = signature(Family::Google, data);
    Block::Reasoning(ReasoningBlock { text: text.into(), is_summary: true, opaque })
}

fn call<'a>(id: &'a str, data: Option<&'a str>) -> Block<'a> {
    let opaque = data.map(|data| signature(Family::Google, data)).unwrap_or_default();
    Block::ToolCall(ToolCall {
        id: id.into(),
        name: "f".into(),
        arguments: "{}".into(),
        opaque,
        cache: None,
    })
}

fn inline<'a>(kind: MediaKind, mime: &'a str) -> Block<'a> {
    let source = MediaSource::Inline { mime: mime.into(), data: "AAAA".into() };
    Block::Media(Media { kind, source, name: None, detail: None, cache: None })
}

fn at<'a>(url: &'a str) -> Block<'a> {
    let source = MediaSource::Url(url.into());
    Block::Media(Media { kind: MediaKind::Image, source, name: None, detail: None, cache: None })
}

#[test]
fn sides_alternate_and_empty_texts_go() {
    let turn = |role, blocks| Turn { role, blocks };
    let turns = vec![
        turn(Role::User, vec![text("a"), text("")]),
        turn(Role::User, vec![text("b")]),
        turn(Role::Assistant, vec![text("")]),
        turn(Role::System, vec![text(""), text("c")]),
        turn(Role::Assistant, vec![text("d"), Block::Refusal("e".into())]),
    ];
    let expected = json!([
        {"role": "user", "parts": [{"text": "a"}, {"text": "b"}, {"text": "<system>c</system>"}]},
        {"role": "model", "parts": [{"text": "d"}, {"text": "e"}]},
    ]);
    assert_eq!(contents(turns, MODEL), expected);
    let empty = Request { turns: vec![turn(Role::User, vec![text("")])], ..Request::default() };
    assert!(write_request(&empty, &target(MODEL), &mut Dropped::new(false)).is_err());
}

#[test]
fn signatures_return_to_their_parts() {
    let call_part = |id: &str, signature: Option<&str>| {
        let mut part = json!({"functionCall": {"id": id, "name": "f", "args": {}}});
        if let Some(signature) = signature {
            part["thoughtSignature"] = signature.into();
        }
        part
    };
    for (blocks, expected) in [
        // As they came.
        (
            vec![call("1", Some("s")), call("2", None)],
            json!([call_part("1", Some("s")), call_part("2", None)]),
        ),
        (vec![signed_text("a", "s")], json!([{"text": "a", "thoughtSignature": "s"}])),
        (
            vec![text("a"), thoughts("", "s")],
            json!([{"text": "a"}, {"text": "", "thoughtSignature": "s"}]),
        ),
        (
            vec![thoughts("t", "s"), text("a")],
            json!([{"text": "t", "thought": true, "thoughtSignature": "s"}, {"text": "a"}]),
        ),
        // Through a format that has them before what they sign.
        (vec![thoughts("", "s"), call("1", None)], json!([call_part("1", Some("s"))])),
        (vec![thoughts("t", "s"), call("1", None)], json!([call_part("1", Some("s"))])),
        (vec![thoughts("", "s"), text("a")], json!([{"text": "a", "thoughtSignature": "s"}])),
        (
            vec![text("a"), thoughts("", "s1"), thoughts("", "s2"), call("1", None)],
            json!([
                {"text": "a"},
                {"text": "", "thoughtSignature": "s1"},
                call_part("1", Some("s2")),
            ]),
        ),
        (
            vec![thoughts("", "s1"), call("1", Some("s2"))],
            json!([{"text": "", "thoughtSignature": "s1"}, call_part("1", Some("s2"))]),
        ),
        // A call of another model's: the first one of a turn needs a signature.
        (
            vec![call("1", None), call("2", None)],
            json!(
                [call_part("1", Some("skip_thought_signature_validator")), call_part("2", None),]
            ),
        ),
    ] {
        assert_eq!(model_parts(blocks, MODEL), expected);
    }
    let old = model_parts(vec![call("1", None)], "gemini-2.5-flash");
    assert_eq!(old, json!([call_part("1", None)]));
}

#[test]
fn thoughts_of_others_are_left_out() {
    let foreign = |family| ReasoningBlock {
        text: "t".into(),
        is_summary: false,
        opaque: signature(family, "s"),
    };
    let blocks = vec![
        Block::Reasoning(foreign(Family::Anthropic)),
        Block::Reasoning(foreign(Family::OpenAi)),
        Block::Reasoning(ReasoningBlock { text: "t".into(), ..ReasoningBlock::default() }),
        text("a"),
    ];
    assert_eq!(model_parts(blocks, MODEL), json!([{"text": "a"}]));
}

#[test]
fn results_stand_alone_in_the_order_of_their_calls() {
    let turns = vec![
        user("q"),
        Turn { role: Role::Assistant, blocks: vec![call("1", Some("s")), call("2", None)] },
        Turn { role: Role::User, blocks: vec![text("x"), result("2", vec![text("a"), text("b")])] },
        Turn { role: Role::User, blocks: vec![result("1", vec![])] },
        user("y"),
    ];
    let response = |id: &str, output: &str| json!({"functionResponse": {"id": id, "name": "f", "response": {"output": output}}});
    let written = contents(turns.clone(), MODEL);
    let expected = json!([
        {"role": "user", "parts": [response("1", ""), response("2", "a\nb")]},
        {"role": "user", "parts": [{"text": "x"}, {"text": "y"}]},
    ]);
    assert_eq!(json!([written[2], written[3]]), expected);
    // Another turn changes nothing before it.
    let shorter = contents(turns[..4].to_vec(), MODEL);
    assert_eq!(
        json!([written[0], written[1], written[2]]),
        json!([shorter[0], shorter[1], shorter[2]])
    );
}

#[test]
fn results_tell_errors_and_need_a_name() {
    let mut failed = result("1", vec![text("no")]);
    let Block::ToolResult(one) = &mut failed else { panic!() };
    one.is_error = true;
    let part = contents(vec![Turn { role: Role::User, blocks: vec![failed.clone()] }], MODEL);
    let expected = json!({"id": "1", "name": "f", "response": {"error": "no"}});
    assert_eq!(part[0]["parts"][0]["functionResponse"], expected);

    let Block::ToolResult(one) = &mut failed else { panic!() };
    one.name = None;
    let turns = vec![Turn { role: Role::User, blocks: vec![failed] }];
    let request = Request { turns, ..Request::default() };
    let error = write_request(&request, &target(MODEL), &mut Dropped::new(false)).unwrap_err();
    assert_eq!(error.field(), "messages");
}

#[test]
fn results_have_media_within_or_beside() {
    let image = json!({"inlineData": {"mimeType": "image/png", "data": "AAAA"}});
    let turns = || {
        let content = vec![text("a"), inline(MediaKind::Image, "image/png")];
        vec![Turn { role: Role::User, blocks: vec![result("1", content), text("b")] }]
    };
    let newer = contents(turns(), MODEL);
    assert_eq!(newer[0]["parts"][0]["functionResponse"]["parts"], json!([image]));
    assert_eq!(newer[1]["parts"], json!([{"text": "b"}]));
    let older = contents(turns(), "gemini-2.5-flash");
    assert_eq!(older[0]["parts"][0]["functionResponse"].get("parts"), None);
    assert_eq!(older[1]["parts"], json!([image, {"text": "b"}]));
}

#[test]
fn media_are_sent_whole() {
    let document = MediaSource::Text("héllo".into());
    let (kind, name) = (MediaKind::Document, Some("n".into()));
    let document = Block::Media(Media { kind, source: document, name, detail: None, cache: None });
    let blocks = vec![
        inline(MediaKind::Audio, "audio/wav"),
        inline(MediaKind::Document, "application/pdf"),
        document,
    ];
    let expected = json!([
        {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "AAAA"}},
        {"inlineData": {"mimeType": "text/plain", "data": "aMOpbGxv"}},
    ]);
    let written = contents(vec![Turn { role: Role::User, blocks }], MODEL);
    assert_eq!(written[0]["parts"], expected);
    for url in ["https://example.com/a.png", "https://www.youtube.com/watch?v=1", "gs://a/b.png"] {
        let turns = vec![Turn { role: Role::User, blocks: vec![at(url)] }];
        let request = Request { turns, ..Request::default() };
        let error = write_request(&request, &target(MODEL), &mut Dropped::new(false)).unwrap_err();
        assert_eq!(error.field(), "messages");
        assert!(error.to_string().contains("an image by its address"), "{error}");
    }
}

#[test]
fn ids_are_written_where_they_are_taken_and_arguments_are_objects() {
    let mut cut = call("1", Some("s"));
    let Block::ToolCall(one) = &mut cut else { panic!() };
    one.arguments = "{\"b\": 1e400, \"a\"".into();
    let turns = vec![Turn { role: Role::Assistant, blocks: vec![cut, call("2", None)] }];
    let request = Request { turns, ..Request::default() };
    let mut vertex = target(MODEL);
    vertex.takes_call_ids = false;
    let json = write_request(&request, &vertex, &mut Dropped::new(true)).unwrap();
    let expected = concat!(
        r#"{"contents":[{"role":"model","parts":[{"functionCall":{"name":"f","#,
        r#""args":{"INVALID_JSON":"{\"b\": 1e400, \"a\""}},"thoughtSignature":"s"},"#,
        r#"{"functionCall":{"name":"f","args":{}}}]}]}"#,
    );
    assert_eq!(json, expected);
}

proptest! {
    #[test]
    fn any_conversation_is_written_in_the_same_way_however_it_goes_on(turns in turns()) {
        check_prefixes(&turns, |turns| {
            let request = Request { turns: turns.to_vec(), ..Request::default() };
            let json = write_request(&request, &target(MODEL), &mut Dropped::new(false)).unwrap();
            let json: Value = serde_json::from_str(&json).unwrap();
            let contents = json["contents"].as_array().unwrap();
            for content in contents {
                let parts = content["parts"].as_array().unwrap();
                let count = |key| parts.iter().filter(|part| part.get(key).is_some()).count();
                let results = count("functionResponse");
                assert!(!parts.is_empty() && (results == 0 || results == parts.len()));
                let first = parts.iter().find(|part| part.get("functionCall").is_some());
                assert!(first.is_none_or(|call| call.get("thoughtSignature").is_some()));
                if content["role"] == "user" {
                    assert_eq!(count("functionCall") + count("thoughtSignature"), 0);
                }
            }
            contents.clone()
        });
    }
}
