//! The most that a request can use, and how it is known.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use output::MAX_CHOICES;

mod converse;
mod embeddings;
mod gemini;
mod messages;
mod searches;
mod thinking;

const ASSUMED: AssumedLimits = AssumedLimits { context_tokens: 128_000, output_tokens: 32_768 };
const MODEL: ModelLimits =
    ModelLimits { context_window: Some(200_000), max_output_tokens: Some(16_384) };

fn facts(body: &str) -> BodyFacts {
    BodyFacts::parse(Bytes::copy_from_slice(body.as_bytes())).unwrap().1
}

fn target(format: Format, model: ModelLimits) -> TargetLimits<'static> {
    TargetLimits { format, ignored_limits: &[], image_tokens: 1_000, model, assumed: ASSUMED }
}

fn bound_of(format: Format, body: &Value, model: ModelLimits) -> Bound {
    let body = body.to_string();
    Bound::of_request(&facts(&body), body.len(), &target(format, model))
}

/// At a provider that ignores `max_completion_tokens`.
fn bound_at_ignorant(body: &Value, model: ModelLimits) -> Bound {
    let body = body.to_string();
    let ignored_limits = &["max_completion_tokens"];
    let target = TargetLimits { ignored_limits, ..target(Format::Chat, model) };
    Bound::of_request(&facts(&body), body.len(), &target)
}

/// The kind of input that the value of a field makes the request.
fn kind_of(field: &str, raw: &str) -> InputKind {
    let mut facts = BodyFacts::default();
    facts.add_field(field, raw);
    facts.input.kind
}

fn chat(body: Value) -> Bound {
    bound_of(Format::Chat, &body, MODEL)
}

fn responses(body: Value) -> Bound {
    bound_of(Format::Responses, &body, MODEL)
}

#[test]
fn text_is_bounded_by_its_bytes() {
    let body = json!({"messages": [{"role": "user", "content": "Grüße"}], "max_tokens": 100});
    let length = body.to_string().len() as u64;
    assert_eq!(
        chat(body),
        Bound {
            input_tokens: length,
            output_tokens: 100,
            hard: true,
            estimate_tokens: length.div_ceil(4) as i64,
            metering: Metering::Tokens,
            unknown: false,
            unseen_tokens: 0,
            extras: Extras::NONE,
        }
    );
}

#[test]
fn the_largest_limit_on_the_answer_counts_times_the_choices() {
    for (body, tokens) in [
        (json!({"max_tokens": 10, "max_completion_tokens": 20}), 20),
        (json!({"max_tokens": 10, "max_output_tokens": 30}), 30),
        (json!({"max_tokens": 10, "n": 3}), 30),
        (json!({"max_tokens": 10, "n": 0}), 10),
        (json!({"max_tokens": 10, "n": 2, "best_of": 5}), 50),
        (json!({"max_tokens": null, "max_completion_tokens": 7}), 7),
        (json!({"max_tokens": u64::MAX, "n": 2}), u64::MAX),
        (json!({}), 16_384),
        (json!({"n": 2}), 32_768),
        // What some upstream may read otherwise is as good as not said.
        (json!({"max_tokens": -1}), 16_384),
        (json!({"max_tokens": 0}), 16_384),
        (json!({"max_tokens": "10"}), 16_384),
        (json!({"max_tokens": 10, "max_completion_tokens": "99999"}), 99_999),
        (json!({"max_tokens": 2e4}), 20_000),
        // What other servers take for a limit.
        (json!({"max_tokens": 10, "n_predict": 60_000}), 60_000),
        (json!({"max_tokens": 10, "N_Predict": 60_000}), 60_000),
        (json!({"max_tokens": 10, "n_predict": -1}), 16_384),
        (json!({"max_tokens": 10, "max_new_tokens": 20}), 20),
        (json!({"max_tokens": 10, "max_length": 5}), 10),
        (json!({"max_tokens": 10, "options": {"num_predict": 30}}), 30),
        (json!({"max_tokens": 10, "extra_body": {"a": [{"max_tokens": 40, "n": 2}]}}), 80),
        (json!({"n_predict": 10}), 16_384),
        (json!({"max_tokens": 10, "n_cmpl": 3}), 30),
        // Not a field of this API: most upstreams pass over it.
        (json!({"max_output_tokens": 10}), 16_384),
        (json!({"max_output_tokens": 20_000}), 20_000),
    ] {
        let bound = chat(body.clone());
        assert_eq!((bound.output_tokens, bound.hard), (tokens, true), "{body}");
    }
    assert_eq!(responses(json!({"max_output_tokens": 10})).output_tokens, 10);
    assert_eq!(responses(json!({"max_tokens": 10})).output_tokens, 16_384);
}

#[test]
fn a_limit_that_the_provider_passes_over_bounds_nothing() {
    for (body, tokens, hard) in [
        (json!({"max_completion_tokens": 10}), 32_768, false),
        (json!({"max_completion_tokens": 50_000}), 50_000, false),
        (json!({"max_completion_tokens": "10"}), 32_768, false),
        (json!({"max_tokens": 10}), 10, true),
        (json!({"max_tokens": 10, "max_completion_tokens": 5}), 10, true),
    ] {
        let bound = bound_at_ignorant(&body, ModelLimits::default());
        assert_eq!((bound.output_tokens, bound.hard), (tokens, hard), "{body}");
    }
    let known = bound_at_ignorant(&json!({"max_completion_tokens": 10}), MODEL);
    assert_eq!((known.output_tokens, known.hard), (16_384, true));
}

#[test]
fn rejected_tokens_of_a_prediction_are_output() {
    let prediction = json!({"type": "content", "content": "abc"});
    let bytes = prediction.to_string().len() as u64;
    let bound = chat(json!({"max_tokens": 10, "n": 2, "prediction": prediction}));
    assert_eq!((bound.output_tokens, bound.hard), (2 * (10 + bytes), true));
}

#[test]
fn what_is_assumed_is_not_hard() {
    let nothing = ModelLimits::default();
    let bound = bound_of(Format::Chat, &json!({}), nothing);
    assert_eq!((bound.output_tokens, bound.hard), (32_768, false));
    let bound = bound_of(Format::Chat, &json!({"max_tokens": 1}), nothing);
    assert_eq!((bound.output_tokens, bound.hard), (1, true));
    let stored = json!({"max_output_tokens": 1, "previous_response_id": "resp_1"});
    let bound = bound_of(Format::Responses, &stored, nothing);
    assert_eq!((bound.input_tokens, bound.hard), (128_000, false));
    for n in [json!("3"), json!(100.0), json!([2])] {
        let bound = chat(json!({"max_tokens": 10, "n": n}));
        assert_eq!((bound.output_tokens, bound.hard), (10 * MAX_CHOICES, false), "{n}");
    }
}

#[test]
fn what_changes_the_price_is_noted() {
    let none = Extras::NONE;
    let priority = Extras { is_priority: true, ..none };
    for (fields, extras) in [
        (json!({"service_tier": "auto"}), none),
        (json!({"service_tier": "default"}), none),
        (json!({"service_tier": "flex"}), none),
        (json!({"service_tier": null}), none),
        (json!({"service_tier": "priority"}), priority),
        (json!({"service_tier": "fast"}), priority),
        (json!({"extra_body": {"service_tier": "priority"}}), priority),
        (json!({"service_tier": "scale"}), Extras { unpriced: Some("service_tier"), ..none }),
        (json!({"service_tier": 5}), Extras { unpriced: Some("service_tier"), ..none }),
        (json!({"speed": "standard", "inference_geo": "global"}), none),
        (json!({"speed": "fast"}), Extras { is_fast: true, ..none }),
        (json!({"inference_geo": "us"}), Extras { is_us_inference: true, ..none }),
        (json!({"inference_geo": "eu"}), Extras { unpriced: Some("inference_geo"), ..none }),
        (json!({"tools": [{"type": "mcp"}]}), Extras { unpriced: Some("tools"), ..none }),
        (
            json!({"web_search_options": {}}),
            Extras { unpriced: Some("web_search_options"), ..none },
        ),
        (json!({"previous_response_id": "resp_1"}), none),
        (json!({"modalities": ["text", "audio"], "audio": {"voice": "alloy"}}), none),
        (json!({"modalities": null, "image_config": null}), none),
        (json!({"modalities": ["image", "text"]}), Extras { unpriced: Some("modalities"), ..none }),
        (json!({"modalities": "image"}), Extras { unpriced: Some("modalities"), ..none }),
        (
            json!({"extra_body": {"modalities": ["text", "video"]}}),
            Extras { unpriced: Some("modalities"), ..none },
        ),
        (
            json!({"extra_body": {"google": {"response_modalities": ["IMAGE"]}}}),
            Extras { unpriced: Some("modalities"), ..none },
        ),
        (
            json!({"image_config": {"image_size": "4K"}}),
            Extras { unpriced: Some("image_config"), ..none },
        ),
    ] {
        assert_eq!(chat(fields.clone()).extras, extras, "{fields}");
    }
    let stored = json!({"previous_response_id": "resp_1"});
    let bound = bound_of(Format::Responses, &stored, ModelLimits::default());
    assert_eq!(bound.extras, Extras { is_unbounded: true, ..none });
}

#[test]
fn what_the_body_only_refers_to_takes_the_whole_window() {
    for body in [
        json!({"previous_response_id": "resp_1"}),
        json!({"Previous_Response_Id": "resp_1"}),
        json!({"thread": {"type": "continue", "previous_message_id": "msg_1"}}),
        json!({"conversation": {"id": "conv_1"}}),
        json!({"prompt": {"id": "pmpt_1"}}),
        json!({"background": true}),
        json!({"deferred": true}),
        json!({"input": [{"type": "item_reference", "id": "msg_1"}]}),
        json!({"input": [{"id": "msg_1"}]}),
        json!({"input": [{"type": "message", "id": "msg_1"}]}),
        json!({"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}),
        json!({"input": [{"type": "image_generation_call", "id": "ig_1"}]}),
        json!({"input": [{"type": "something_new", "content": ""}]}),
        json!({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}),
        json!({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "d"}]}]}),
        json!({"input": [{"type": "function_call_output", "call_id": "c",
            "output": [{"type": "input_image", "image_url": "data:image/png;base64,AA"}]}]}),
        json!({"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}]}),
        json!({"messages": [{"role": "user", "content": [{"image_url": {"url": "a"}}]}]}),
        json!({"messages": [{"role": "user", "content": [{"Type": "Image_URL"}]}]}),
        json!({"messages": [{"role": "user", "content": [{"type": 7}]}]}),
        json!({"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}),
        json!({"messages": [{"role": "user", "content": [
            {"type": "input_audio", "input_audio": {"data": "https://example.com/a"}}]}]}),
        json!({"extra_body": {"google": {"cached_content": "cachedContents/1"}}}),
    ] {
        let bound = responses(body.clone());
        assert_eq!((bound.input_tokens, bound.hard), (200_000, true), "{body}");
    }
}

#[test]
fn hosted_tools_may_read_the_window_more_than_once() {
    for body in [
        json!({"tools": [{"type": "web_search"}]}),
        json!({"tools": [{"type": "function", "name": "f"}, {"type": "mcp"}]}),
        json!({"tools": [{"google_search": {}}]}),
        json!({"tools": [{}]}),
        json!({"tools": ["web_search"]}),
        json!({"tools": [{"type": ["function"]}]}),
        json!({"web_search_options": {}}),
        json!({"enable_search": true}),
    ] {
        let bound = chat(body.clone());
        assert_eq!((bound.input_tokens, bound.hard), (200_000, false), "{body}");
    }
}

#[test]
fn text_that_speaks_of_such_things_is_text() {
    for body in [
        json!({"messages": [{"role": "user", "content": "image_url"}]}),
        json!({"messages": [{"role": "user", "content": "{\"type\":\"image_url\"}"}]}),
        json!({"thread": {"type": "create"}, "messages": [{"role": "user", "content": "Hi"}]}),
        json!({"messages": [{"role": "user", "content": "a\\\"type\":\"image_url\""}]}),
        json!({"messages": [{"role": "assistant", "audio": null, "content": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "file_id", "arguments": "{}"}}
        ]}]}),
        json!({"messages": [{"role": "user", "content": [
            {"type": "input_audio", "input_audio": {"data": "UklGRg", "format": "wav"}},
            {"type": "text", "text": "t", "cache_control": {"type": "ephemeral"}}]}]}),
        json!({"tools": [{"type": "function", "function": {"name": "f", "parameters":
            {"type": "object", "properties": {"type": {"type": "string"}, "file_id": {}}}}}]}),
        json!({"tools": [{"type": "custom", "name": "f"}]}),
        json!({"tools": []}),
        json!({"input": "previous_response_id"}),
        json!({"input": [{"type": "reasoning", "id": "rs_1", "encrypted_content": "x"}]}),
        json!({"input": [{"type": "function_call", "id": "fc_1", "arguments": "{}"}]}),
        json!({"background": false, "conversation": null, "prompt": "text"}),
        json!({"messages": 7, "input": {}, "instructions": null}),
    ] {
        let length = body.to_string().len() as u64;
        let bound = responses(body.clone());
        assert_eq!((bound.input_tokens, bound.hard), (length, true), "{body}");
    }
}

#[test]
fn an_escaped_name_is_the_same_name() {
    use InputKind::{Media, Stored, Text};
    for (raw, kind) in [
        (r#"[{"content":[{"type":"image\u005furl"}]}]"#, Media),
        (r#"[{"content":[{"\u0074ype":"image_url"}]}]"#, Media),
        (r#"[{"content":[{"type":"text","image\u005Furl":"x"}]}]"#, Media),
        (r#"[{"content":[{"type":"text","IMAGE_URL":"x"}]}]"#, Media),
        (r#"[{"content":[{"type":"te\ud800xt"}]}]"#, Stored),
        (r#"[{"content":[{"type":"text","type":"file"}]}]"#, Stored),
        (r#"[{"content":[{"type" : "input_audio","data":"http\u003a//a"}]}]"#, Stored),
        (r#"[{"type":"t\u0065xt","data":"aa\/b"}]"#, Text),
        // Not JSON: it never comes so far, and would not be trusted.
        (r#"[{"content":"#, Stored),
        (r#"[{"content"}]"#, Stored),
        (r#"[{"a":tr"ue}]"#, Stored),
    ] {
        assert_eq!(kind_of("messages", raw), kind, "{raw}");
    }
    assert_eq!(kind_of("tools", r#"[{"typ\u0065":"function"}]"#), Text);
}

#[test]
fn depth_is_bounded() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(kind_of("messages", &deep), InputKind::Stored);
    assert_eq!(kind_of("messages", &format!(r#"[{{"file":{deep}}}]"#)), InputKind::Stored);
}

#[test]
fn images_and_inline_files_are_charged_by_what_is_published() {
    let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    let inline = image("data:image/png;base64,iVBORw0KGgo");
    let file = json!({"type": "file", "file": {"filename": "a.pdf",
        "file_data": format!("data:application/pdf;base64,{}", "A".repeat(4_000 - 28))}});
    let audio = json!({"type": "input_audio", "input_audio": {"data": "A".repeat(4_096)}});
    for (parts, tokens) in [
        (json!([{"type": "text", "text": "a"}]), 0),
        (json!([image("https://example.com/a.png")]), 1_000),
        (json!([inline, inline]), 2_000),
        (json!([{"type": "image_url", "image_url": {"url": "a", "detail": "original"}}]), 10_000),
        (json!([{"type": "input_image", "image_url": "a", "detail": "original"}]), 10_000),
        (json!([{"type": "input_image", "image_url": "a", "detail": "low"}]), 1_000),
        (json!([{"type": "input_image", "file_id": "file_1"}]), 1_000),
        (json!([file]), 750),
        (json!([file, inline]), 1_750),
        (json!([audio]), 96),
        // No size is known of these.
        (json!([{"type": "input_file", "file_id": "file_1"}, inline]), 200_000),
        (json!([{"type": "file", "file": {"file_data": "https://example.com/a.pdf"}}]), 200_000),
        (json!([{"type": "file"}]), 200_000),
        (json!([{"type": "video_url", "video_url": {"url": "a"}}]), 200_000),
    ] {
        let bound = chat(json!({"messages": [{"role": "user", "content": parts}]}));
        assert_eq!(bound.unseen_tokens, tokens, "{parts}");
        let is_text = bound.input_tokens < 200_000;
        assert_eq!(is_text, tokens == 0 || tokens == 96, "the window is reserved: {parts}");
    }
    let many = vec![image("a"); 300];
    let bound = chat(json!({"messages": [{"role": "user", "content": many}]}));
    assert_eq!(bound.unseen_tokens, 200_000, "never more than is reserved");
}

/// The same question put to a tree that serde_json has made.
fn naive(value: &Value) -> InputKind {
    match value {
        Value::Array(parts) => parts.iter().map(naive).max().unwrap_or_default(),
        Value::Object(object) => {
            let mut kind = InputKind::Text;
            let (mut is_image, mut is_file, mut has_file_id) = (false, false, false);
            for (key, value) in object {
                match (key.to_ascii_lowercase().as_str(), value) {
                    (_, Value::Null) => {}
                    ("type", Value::String(kind)) if kind == "image_url" => is_image = true,
                    ("type", Value::String(kind)) if kind == "file" => is_file = true,
                    ("type", Value::String(kind))
                        if ["text", "input_text", "content"].contains(&kind.as_str()) => {}
                    ("image_url", _) => {
                        is_image = true;
                        kind = kind.max(if value.is_object() { naive(value) } else { kind });
                    }
                    ("file_id", _) => has_file_id = true,
                    ("type" | "audio", _) => kind = InputKind::Stored,
                    ("file", Value::Object(_)) => {
                        is_file = true;
                        kind = kind.max(naive(value));
                    }
                    ("file", _) => kind = InputKind::Stored,
                    _ => kind = kind.max(naive(value)),
                }
            }
            match (is_image, is_file || has_file_id) {
                (true, _) => kind.max(InputKind::Media),
                (false, true) => InputKind::Stored,
                (false, false) => kind,
            }
        }
        _ => InputKind::Text,
    }
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "type", "Type", "text", "input_text", "image_url", "file_id", "file", "audio", "role",
            "content", "x", "\"type\":\"file\"", "\\", "\"", "é", "\n",
        ])
        .prop_map(str::to_owned),
        1 => "[a-z_\"\\\\]{0,6}",
    ]
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word(), inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// Writes the tree with blanks and escapes as `dice` falls.
fn written(value: &Value, dice: &mut impl Iterator<Item = u8>, out: &mut String) {
    let blank = |out: &mut String, die: u8| match die % 8 {
        0 => out.push(' '),
        1 => out.push_str("\r\n\t"),
        _ => {}
    };
    blank(out, dice.next().unwrap());
    match value {
        Value::String(text) => quote(text, dice, out),
        Value::Array(parts) => {
            out.push('[');
            for (place, part) in parts.iter().enumerate() {
                out.push_str(if place > 0 { "," } else { "" });
                written(part, dice, out);
            }
            blank(out, dice.next().unwrap());
            out.push(']');
        }
        Value::Object(object) => {
            out.push('{');
            for (place, (key, part)) in object.iter().enumerate() {
                out.push_str(if place > 0 { "," } else { "" });
                blank(out, dice.next().unwrap());
                quote(key, dice, out);
                blank(out, dice.next().unwrap());
                out.push(':');
                written(part, dice, out);
            }
            blank(out, dice.next().unwrap());
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
    blank(out, dice.next().unwrap());
}

fn quote(text: &str, dice: &mut impl Iterator<Item = u8>, out: &mut String) {
    use std::fmt::Write;
    out.push('"');
    for unit in text.encode_utf16() {
        let character = char::from_u32(unit.into()).unwrap();
        let must = matches!(character, '"' | '\\' | '\n');
        match dice.next().unwrap() % 6 {
            0 => write!(out, "\\u{unit:04x}").unwrap(),
            1 => write!(out, "\\u{unit:04X}").unwrap(),
            2 if character == '"' => out.push_str("\\\""),
            _ if must => write!(out, "\\u{unit:04x}").unwrap(),
            _ => out.push(character),
        }
    }
    out.push('"');
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn however_it_is_written_the_verdict_is_that_of_the_tree(
        tree in tree(),
        dice in prop::collection::vec(any::<u8>(), 64),
    ) {
        let mut raw = String::new();
        written(&tree, &mut dice.iter().copied().cycle(), &mut raw);
        let read: Value = serde_json::from_str(&raw).unwrap();
        prop_assert_eq!(&read, &tree);
        // Kinds of other words that are text do not come up.
        prop_assert_eq!(kind_of("messages", &raw), naive(&tree), "{}", raw);
    }

    #[test]
    fn nothing_makes_it_panic(raw in "[\\[\\]{}:,\"\\\\a-z0 ]{0,40}") {
        for field in ["messages", "input", "tools", "extra_body"] {
            let _ = kind_of(field, &raw);
        }
    }
}
