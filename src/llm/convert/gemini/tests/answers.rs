//! Answers, plain and streamed, recorded and made up.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{StreamReader, read_answer};
use crate::llm::convert::answer::{Answer, AnswerEvent, AnswerUsage, Failure, ReadEvents};
use crate::llm::convert::test_rendering::{check_order, folded, shown};

const TEXT_STREAM: &str =
    include_str!("../../../../../tests/fixtures/gemini/text_stream.chunks.txt");
const TOOL_STREAM: &str =
    include_str!("../../../../../tests/fixtures/gemini/tool_stream.chunks.txt");
const CALL_STREAM: &str =
    include_str!("../../../../../tests/fixtures/gemini/call_stream.chunks.txt");
const TWO_CALLS_STREAM: &str =
    include_str!("../../../../../tests/fixtures/gemini/two_calls_stream.chunks.txt");
const NO_ARGUMENTS_STREAM: &str =
    include_str!("../../../../../tests/fixtures/gemini/no_arguments_stream.chunks.txt");
const SIGNED_TEXT: &str = include_str!("../../../../../tests/fixtures/gemini/signed_text.json");
const MAX_TOKENS: &str = include_str!("../../../../../tests/fixtures/gemini/max_tokens.json");

fn streamed<'a>(parts: impl IntoIterator<Item = &'a str>) -> Vec<AnswerEvent> {
    let (mut reader, mut events) = (StreamReader::default(), Vec::new());
    for part in parts {
        reader.read(None, part, &mut events);
    }
    reader.finish(&mut events);
    check_order(&events);
    events
}

fn plain(answer: &Value) -> Answer {
    folded(&read_answer(&answer.to_string()).unwrap())
}

fn of_parts(parts: Value) -> Value {
    json!({"candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": "STOP"}]})
}

#[test]
fn recorded_streams_are_read() {
    for (stream, expected) in [
        (
            TEXT_STREAM,
            "text: There are **3** \"r\"s in strawberry.\\n\\nst**r**awbe**rr**y\n\
             summary:  <google Signature EqsFCqgF>\n\
             End STOP",
        ),
        (
            CALL_STREAM,
            "call  weather: {\"location\":\"San Francisco\"} <google Signature EqUCCqIC>\nEnd STOP",
        ),
        (
            TWO_CALLS_STREAM,
            "call  getWeather: {\"location\":\"Boston\"} <google Signature CiMBjz1r>\n\
             call  getWeather: {\"location\":\"San Francisco\"}\n\
             End STOP",
        ),
        (
            TOOL_STREAM,
            "call  writeItems: {\"operations\":[{\"action\":\"add\",\
             \"description\":\"Fresh red apple\",\"itemid\":\"apple_001\",\"price\":0.5},\
             {\"action\":\"add\",\"description\":\"Ripe yellow banana\",\
             \"itemid\":\"banana_001\",\"price\":0.3}]} <google Signature AY89a19Z>\n\
             End STOP",
        ),
    ] {
        let events = streamed(stream.lines());
        assert_eq!(events.last(), Some(&AnswerEvent::End));
        assert_eq!(shown(&folded(&events)), expected);
    }
    let answer = folded(&streamed(NO_ARGUMENTS_STREAM.lines()));
    let blocks = shown(&answer);
    let blocks: Vec<&str> = blocks.lines().collect();
    assert!(blocks[0].starts_with("summary: **Processing User Requests**"), "{blocks:?}");
    let expected = [
        "call  read_theme: {} <google Signature AY89a18a>",
        "call  read_screen: {\"id\":\"A\"}",
        "call  read_screen: {\"id\":\"B\"}",
        "call  read_screen: {\"id\":\"C\"}",
        "End STOP",
    ];
    assert_eq!(blocks[1..], expected);
    assert_eq!(answer.model.as_deref(), Some("gemini-3-flash-preview"));
    assert_eq!(answer.id.as_deref(), Some("_vr4aYiWEJnYodAPkujX0QM"));
}

#[test]
fn recorded_answers_are_read() {
    let answer = folded(&read_answer(SIGNED_TEXT).unwrap());
    let expected = "text: There are **3** \"r\"s in strawberry.\\n\\nHere is the breakdown: \
                    st**r**awbe**rr**y. <google Signature EswFCskF>\nEnd STOP";
    assert_eq!(shown(&answer), expected);
    let usage = AnswerUsage {
        input: Some(9),
        output: Some(29 + 258),
        reasoning: Some(258),
        ..AnswerUsage::default()
    };
    assert_eq!(answer.usage, usage);

    let recording: Value = serde_json::from_str(MAX_TOKENS).unwrap();
    let answer = plain(&recording["exchanges"][0]["response"]["json"]);
    assert_eq!(shown(&answer), "MaxTokens MAX_TOKENS");
    assert_eq!((answer.usage.output, answer.usage.reasoning), (Some(2), Some(2)));
}

#[test]
fn a_stream_without_a_reason_for_its_end_is_cut_off() {
    let lines: Vec<&str> = TEXT_STREAM.lines().collect();
    for count in 0..lines.len() {
        let events = streamed(lines[..count].iter().copied());
        let is_proper = |event: &AnswerEvent| {
            matches!(event, AnswerEvent::Stop(_) | AnswerEvent::End | AnswerEvent::Failed(_))
        };
        assert!(!events.iter().any(is_proper), "{events:?}");
    }
}

#[test]
fn a_stream_makes_what_its_parts_make_in_one_answer() {
    let parts = [
        r#"{"text": "a", "thought": true}"#,
        r#"{"text": "b", "thought": true}"#,
        r#"{"text": "c"}"#,
        r#"{"text": "d", "thoughtSignature": "s1"}"#,
        r#"{"text": "e"}"#,
        r#"{"text": "", "thoughtSignature": "s2"}"#,
        r#"{"functionCall": {"id": "x", "name": "f", "args": {"b": 1e400, "a": 1.0}},
            "thoughtSignature": "s3"}"#,
        r#"{"functionCall": {"name": "g"}}"#,
        r#"{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}"#,
        r#"{"executableCode": {"language": "PYTHON", "code": "1"}}"#,
        r#"{"text": "h", "thought": true, "thoughtSignature": "s4"}"#,
        r#"{"text": "i", "thought": true}"#,
        r#"{"text": ""}"#,
    ];
    let chunk = |parts: &str, end| {
        format!(r#"{{"candidates":[{{"content":{{"parts":[{parts}],"role":"model"}}{end}}}]}}"#)
    };
    let plain = chunk(&parts.join(","), r#","finishReason":"STOP""#);
    let whole = folded(&read_answer(&plain).unwrap());
    let expected = "summary: ab\n\
                    text: cd <google Signature s1>\n\
                    text: e\n\
                    summary:  <google Signature s2>\n\
                    call x f: {\"b\":1e400,\"a\":1.0} <google Signature s3>\n\
                    call  g: {}\n\
                    summary: h <google Signature s4>\n\
                    summary: i\n\
                    End STOP";
    assert_eq!(shown(&whole), expected);
    let mut chunks: Vec<String> = parts.iter().map(|part| chunk(part, "")).collect();
    chunks.push(json!({"candidates": [{"finishReason": "STOP", "index": 0}]}).to_string());
    let events = streamed(chunks.iter().map(String::as_str));
    assert_eq!(folded(&events), whole);
    // Formats with the signature before the call get it before its arguments.
    let opaque = events.iter().position(
        |event| matches!(event, AnswerEvent::Opaque { opaque, .. } if opaque.data == "s3"),
    );
    assert!(matches!(events[opaque.unwrap() - 1], AnswerEvent::Open { .. }));
}

#[test]
fn reasons_are_translated() {
    for (native, expected) in [
        ("STOP", "End"),
        ("MAX_TOKENS", "MaxTokens"),
        ("SAFETY", "Refusal"),
        ("RECITATION", "Refusal"),
        ("BLOCKLIST", "Refusal"),
        ("PROHIBITED_CONTENT", "Refusal"),
        ("SPII", "Refusal"),
        ("IMAGE_SAFETY", "Refusal"),
        ("OTHER", "Other"),
        ("SOMETHING_NEW", "Other"),
    ] {
        let answer = plain(&json!({"candidates": [{"finishReason": native}]}));
        assert_eq!(shown(&answer), format!("{expected} {native}"));
    }
    for native in ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"] {
        let part = json!({"candidates": [{"finishReason": native, "finishMessage": "Bad call"}]});
        let failure =
            Failure { code: "malformed_function_call".to_owned(), message: "Bad call".to_owned() };
        let events = read_answer(&part.to_string()).unwrap();
        assert_eq!(events.last(), Some(&AnswerEvent::Failed(failure)));
        assert_eq!(streamed([&*part.to_string()]), events);
    }
    for reason in ["SAFETY", "MODEL_ARMOR", "NEW"] {
        let part = json!({"promptFeedback": {"blockReason": reason}, "modelVersion": "m"});
        assert_eq!(shown(&plain(&part)), format!("Refusal {reason}"));
        let events = streamed([&*part.to_string()]);
        assert_eq!(events.last(), Some(&AnswerEvent::End));
    }
    let none = json!({"candidates": [{"finishReason": "FINISH_REASON_UNSPECIFIED"}]}).to_string();
    assert!(!streamed([&*none]).contains(&AnswerEvent::End));
}

#[test]
fn errors_in_place_of_an_answer_end_it() {
    let error = r#"{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED"}}"#;
    let expected = Failure { code: "RESOURCE_EXHAUSTED".to_owned(), message: "Quota".to_owned() };
    let expected = AnswerEvent::Failed(expected);
    for text in [error.to_owned(), format!("[{error}]"), format!("[{error}\n]\n")] {
        assert_eq!(streamed([&*text]), std::slice::from_ref(&expected));
        assert_eq!(read_answer(&text).unwrap(), std::slice::from_ref(&expected));
    }
    let begun = TEXT_STREAM.lines().next().unwrap();
    let events = streamed([begun, error, begun]);
    assert_eq!(events.last(), Some(&expected));
    assert!(!events.contains(&AnswerEvent::End));
}

#[test]
fn what_is_no_answer_is_an_error() {
    for odd in [
        "<html>",
        "[]",
        "3",
        r#"{"candidates":3}"#,
        r#"{"candidates":[3]}"#,
        r#"{"candidates":[{"content":{"parts":{}}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":3}]}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{}}]}}]}"#,
        r#"[{"candidates":[]}]"#,
    ] {
        assert!(read_answer(odd).is_err(), "{odd}");
        let events = streamed([odd]);
        let Some(AnswerEvent::Failed(failure)) = events.last() else { panic!("{odd}: {events:?}") };
        assert_eq!(failure.code, "upstream_error");
    }
    assert!(read_answer("{}").is_err() && read_answer("").is_err());
    assert!(streamed(["", "  "]).is_empty());
    for piece in [
        json!({"jsonPath": "$.a[7]", "stringValue": "x"}),
        json!({"jsonPath": "$.a[99999999999999999999]", "stringValue": "x"}),
        json!({"jsonPath": "a", "stringValue": "x"}),
        json!({"jsonPath": format!("${}", ".a".repeat(65)), "stringValue": "x"}),
        json!({"stringValue": "x"}),
    ] {
        let call = json!({"functionCall": {"name": "f", "partialArgs": [piece]}});
        assert!(read_answer(&of_parts(json!([call])).to_string()).is_err(), "{piece}");
    }
}

#[test]
fn other_candidates_are_left_out() {
    let answer = json!({"candidates": [
        {"index": 1, "content": {"parts": [{"text": "b"}]}, "finishReason": "SAFETY"},
        {"index": 0, "content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"},
    ]});
    assert_eq!(shown(&plain(&answer)), "text: a\nEnd STOP");
}

#[test]
fn sources_are_annotations_with_places_in_characters() {
    let with = |text: &str, supports: Value| {
        let mut answer = of_parts(json!([{"text": "before", "thought": true}, {"text": text}]));
        answer["candidates"][0]["groundingMetadata"] = json!({"groundingChunks": [
            {"web": {"uri": "https://a.example", "title": "A"}},
            {"retrievedContext": {"uri": "gs://x"}},
            {"web": {"uri": "https://b.example"}},
        ], "groundingSupports": supports});
        let annotations = plain(&answer).blocks.remove(1).annotations.into_iter();
        annotations.map(|one| (one.url, one.title, one.span)).collect::<Vec<_>>()
    };
    let (a, b) = ("https://a.example".to_owned(), "https://b.example".to_owned());
    let title = Some("A".to_owned());
    let all = [(a.clone(), title.clone(), None), (b.clone(), None, None)];
    assert_eq!(with("é", json!(null)), all);
    let supports = json!([
        {"segment": {"endIndex": 2}, "groundingChunkIndices": [0, 1, 9]},
        {"segment": {"startIndex": 2, "endIndex": 4}, "groundingChunkIndices": [2, 0]},
        // In the middle of a character, past the end, and nowhere.
        {"segment": {"startIndex": 1, "endIndex": 4}, "groundingChunkIndices": [2]},
        {"segment": {"startIndex": 1, "endIndex": 99}, "groundingChunkIndices": [2]},
        {"groundingChunkIndices": [2]},
        {"segment": {"endIndex": 2}},
    ]);
    let expected = [
        (a.clone(), title.clone(), Some((0, 1))),
        (b.clone(), None, Some((1, 3))),
        (a, title, Some((1, 3))),
        (b.clone(), None, None),
        (b.clone(), None, None),
        (b.clone(), None, None),
    ];
    assert_eq!(with("éab", supports), expected);
    let support = json!({"segment": {"endIndex": 2}, "groundingChunkIndices": [2]});
    assert_eq!(with(&"x".repeat(70_000), json!([support])), [(b, None, None)]);
    assert_eq!(with("é", json!(vec![support; 300])).len(), 256);
}

#[test]
fn usage_is_told_in_parts() {
    let part = |usage: Value| {
        json!({"candidates": [{"finishReason": "STOP"}], "usageMetadata": usage}).to_string()
    };
    let first = part(json!({"promptTokenCount": 100, "cachedContentTokenCount": 40,
        "toolUsePromptTokenCount": 7, "totalTokenCount": 107}));
    let last = part(json!({"promptTokenCount": 100, "cachedContentTokenCount": 40,
        "toolUsePromptTokenCount": 7, "candidatesTokenCount": 20, "thoughtsTokenCount": 300,
        "totalTokenCount": 427}));
    let usage = AnswerUsage {
        input: Some(67),
        cache_read: Some(40),
        output: Some(320),
        reasoning: Some(300),
        ..AnswerUsage::default()
    };
    assert_eq!(folded(&streamed([&*first, &*last])).usage, usage);
    assert_eq!(folded(&read_answer(&last).unwrap()).usage, usage);
    assert_eq!(usage.total_input(), Some(107));
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(
        stream in prop::sample::select(vec![TEXT_STREAM, CALL_STREAM, TWO_CALLS_STREAM, TOOL_STREAM]),
        edits in prop::collection::vec((any::<prop::sample::Index>(), "[\\[\\]{}\",:0-9a-z$.-]{0,3}"), 0..6),
    ) {
        let mut text: Vec<char> = stream.chars().collect();
        for (place, new) in edits {
            let place = place.index(text.len());
            text.splice(place..place + 1, new.chars());
        }
        let text: String = text.into_iter().collect();
        streamed(text.lines());
        for line in text.lines() {
            if let Ok(events) = read_answer(line) {
                check_order(&events);
                let is_last = matches!(
                    events.last(),
                    Some(AnswerEvent::End | AnswerEvent::Failed(_))
                );
                prop_assert!(is_last);
            }
        }
    }
}
