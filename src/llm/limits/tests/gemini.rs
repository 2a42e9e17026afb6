//! Requests of Google's API, in both spellings of their keys.

use super::*;
use crate::json::object::BodyError;

fn parse(format: Format, body: &str) -> Result<BodyFacts, BodyError> {
    let parsed = BodyFacts::parse_in(format, Bytes::copy_from_slice(body.as_bytes()));
    parsed.map(|(_, facts)| facts)
}

fn bound_in(format: Format, body: &Value) -> Bound {
    let body = body.to_string();
    let facts = parse(format, &body).unwrap();
    Bound::of_request(&facts, body.len(), &target(format, MODEL))
}

/// The bound, which is the same in both spellings but for the bytes of the text.
fn gemini(body: &Value) -> Bound {
    let bound = bound_in(Format::Gemini, body);
    let snake: Value = serde_json::from_str(&snake_case(&body.to_string())).unwrap();
    let other = bound_in(Format::Gemini, &snake);
    assert_eq!(
        (bound.output_tokens, bound.hard, bound.unseen_tokens),
        (other.output_tokens, other.hard, other.unseen_tokens),
        "{snake}"
    );
    assert_eq!(bound.input_tokens == 200_000, other.input_tokens == 200_000, "{snake}");
    bound
}

/// The text with its keys in snake case.
fn snake_case(json: &str) -> String {
    let mut snake = String::new();
    for (number, piece) in json.split('"').enumerate() {
        let is_key = piece.chars().next().is_some_and(|first| first.is_ascii_lowercase());
        if number > 0 {
            snake.push('"');
        }
        for character in piece.chars() {
            if is_key && character.is_ascii_uppercase() {
                snake.push('_');
            }
            snake.push(if is_key { character.to_ascii_lowercase() } else { character });
        }
    }
    snake
}

fn part(part: &Value) -> Bound {
    gemini(&json!({"contents": [{"role": "user", "parts": [part]}]}))
}

#[test]
fn text_is_bounded_by_its_bytes() {
    for part in [
        json!({"text": "t"}),
        json!({"text": "t", "thought": true, "thoughtSignature": "AAAA"}),
        json!({"functionCall": {"name": "f", "args": {"fileData": 1, "inlineData": "x"}}}),
        json!({"functionResponse": {"name": "f", "response": {"fileData": {"fileUri": "a"}}}}),
        json!({"executableCode": {"language": "PYTHON", "code": "1"}}),
        json!({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}),
    ] {
        let content = json!({"role": "user", "parts": [part]});
        for body in [
            json!({"contents": [content], "systemInstruction": content,
                "generationConfig": {"maxOutputTokens": 10, "responseSchema": {"type": "OBJECT"}},
                "tools": [{"functionDeclarations": [{"name": "f"}]}, {}], "cachedContent": null}),
            json!({"contents": content, "tools": {"functionDeclarations": []},
                "generationConfig": {"maxOutputTokens": 10}}),
        ] {
            let bound = gemini(&body);
            let length = body.to_string().len() as u64;
            assert_eq!((bound.input_tokens, bound.output_tokens), (length, 10), "{body}");
            assert!(bound.hard, "{body}");
        }
    }
}

#[test]
fn what_is_not_text_is_bounded_by_the_window() {
    let data = |media_type: &str| {
        let data = "A".repeat(4_000);
        json!({"inlineData": {"data": data, "mimeType": media_type}})
    };
    let file =
        |media_type: &str, uri: &str| json!({"fileData": {"mimeType": media_type, "fileUri": uri}});
    for (body, unseen) in [
        (data("image/png"), 1_000),
        (data("audio/wav"), 94),
        (data("application/pdf"), 750),
        (json!({"functionResponse": {"name": "f", "parts": [data("image/png")]}}), 1_000),
        (file("image/png", "https://example.com/a"), 1_000),
        (file("IMAGE/jpeg", "gs://bucket/a.jpeg"), 1_000),
        (file("image/webp", "https://generativelanguage.googleapis.com/v1beta/files/a"), 1_000),
        (json!({"file_data": {"mime_type": "image/png", "file_uri": "https://a"}}), 1_000),
        (json!({"functionResponse": {"name": "f", "parts": [file("image/png", "gs://a")]}}), 1_000),
        // No size is known of these.
        (data("video/mp4"), 200_000),
        (data(""), 200_000),
        (json!({"inlineData": {"mimeType": "image/png"}}), 200_000),
        (json!({"fileData": {"mimeType": "video/mp4", "fileUri": "https://a"}}), 200_000),
        (json!({"fileData": {"mimeType": "application/pdf", "fileUri": "gs://a"}}), 200_000),
        (json!({"fileData": {"fileUri": "https://a/b.png"}}), 200_000),
        (json!({"fileData": {"mimeType": ["image/png"], "fileUri": "https://a"}}), 200_000),
        (json!({"fileData": "image/png"}), 200_000),
        (json!({"somethingNew": {"text": "t"}}), 200_000),
    ] {
        let bound = part(&body);
        assert_eq!((bound.input_tokens, bound.hard), (200_000, true), "{body}");
        assert_eq!(bound.unseen_tokens, unseen, "{body}");
    }
    let cached = gemini(&json!({"cachedContent": "cachedContents/1"}));
    assert_eq!((cached.input_tokens, cached.unseen_tokens), (200_000, 200_000));
}

#[test]
fn tools_other_than_functions_are_the_providers() {
    for tool in [
        json!({"googleSearch": {}}),
        json!({"codeExecution": {}, "functionDeclarations": []}),
        json!({"urlContext": {}}),
        json!({"somethingNew": {}}),
    ] {
        let bound = gemini(&json!({"tools": [tool], "contents": []}));
        assert_eq!((bound.input_tokens, bound.hard), (200_000, false), "{tool}");
    }
}

#[test]
fn the_answer_is_bounded_by_its_limit_for_each_candidate() {
    for (config, tokens, hard) in [
        (json!({"maxOutputTokens": 100}), 100, true),
        (json!({"maxOutputTokens": 100, "candidateCount": 3}), 300, true),
        (json!({"maxOutputTokens": 100, "thinkingConfig": {"thinkingBudget": 50}}), 150, true),
        (json!({"maxOutputTokens": 100, "thinkingConfig": {"thinkingBudget": -1}}), 100, true),
        (json!({"maxOutputTokens": 100, "thinkingConfig": {"thinkingLevel": "HIGH"}}), 100, true),
        (json!({"candidateCount": 2}), 32_768, true),
        (json!({"maxOutputTokens": null}), 16_384, true),
        (json!({"maxOutputTokens": "100"}), 16_384, true),
        (json!({"maxOutputTokens": 100, "responseModalities": ["TEXT", "AUDIO"]}), 100, true),
        (json!({"maxOutputTokens": 100, "responseModalities": ["IMAGE"]}), 100, true),
        (json!({"maxOutputTokens": 100, "candidateCount": "2"}), 100 * MAX_CHOICES, false),
    ] {
        let bound = gemini(&json!({"contents": [], "generationConfig": config}));
        assert_eq!((bound.output_tokens, bound.hard), (tokens, hard), "{config}");
    }
    // Limits of other formats are none here.
    assert_eq!(gemini(&json!({"max_tokens": 1, "maxOutputTokens": 1})).output_tokens, 16_384);
    for (fields, unpriced) in [
        (json!({"serviceTier": "flex"}), None),
        (json!({"serviceTier": "standard"}), None),
        (json!({"serviceTier": "priority"}), Some("serviceTier")),
        (json!({"generationConfig": {"responseModalities": ["TEXT", "AUDIO"]}}), None),
        (
            json!({"generationConfig": {"responseModalities": ["IMAGE"]}}),
            Some("responseModalities"),
        ),
        (json!({"generation_config": {"image_config": {"imageSize": "4K"}}}), Some("imageConfig")),
    ] {
        assert_eq!(gemini(&fields).extras.unpriced, unpriced, "{fields}");
    }
}

#[test]
fn embeddings_have_several_inputs_and_no_output() {
    let image = json!({"inlineData": {"mimeType": "image/png", "data": "AAAA"}});
    let request = |part: &Value| json!({"model": "models/m", "content": {"parts": [part]}});
    let text = json!({"text": "t"});
    for (body, window) in [
        (request(&text), None),
        (json!({"requests": [request(&text), request(&text)]}), None),
        (request(&image), Some(200_000)),
        (json!({"requests": [request(&image), request(&text)]}), Some(400_000)),
    ] {
        let bound = bound_in(Format::GeminiEmbeddings, &body);
        let tokens = window.unwrap_or(body.to_string().len() as u64);
        assert_eq!((bound.input_tokens, bound.output_tokens), (tokens, 0), "{body}");
        assert!(bound.hard, "{body}");
    }
}

#[test]
fn one_object_has_one_spelling_of_a_key() {
    for (body, expected) in [
        (r#"{"generationConfig":{},"generation_config":{}}"#, Some("generationconfig")),
        (
            r#"{"generationConfig":{"max_output_tokens":1,"maxOutputTokens":9}}"#,
            Some("maxoutputtokens"),
        ),
        (
            r#"{"generation_config":{"thinkingConfig":{"thinking_budget":1,"thinkingBudget":2}}}"#,
            Some("thinkingbudget"),
        ),
        (
            r#"{"contents":[{"parts":[{"text":"t"},{"inline_data":{},"inlineD\u0061ta":{}}]}]}"#,
            Some("inlinedata"),
        ),
        (
            r#"{"tools":[{"function_declarations":[],"functionDeclarations":[]}]}"#,
            Some("functiondeclarations"),
        ),
        (
            r#"{"requests":[{"system_instruction":{},"systemInstruction":{}}]}"#,
            Some("systeminstruction"),
        ),
        // In objects of their own, or where nothing is read.
        (r#"{"contents":[{"parts":[{"inline_data":{}},{"inlineData":{}}]}]}"#, None),
        (
            r#"{"contents":[{"parts":[{"functionCall":{"args":{"file_data":1,"fileData":2}}}]}]}"#,
            None,
        ),
        (r#"{"generationConfig":{"max_output_tokens":1,"topK":1,"top_p":1}}"#, None),
    ] {
        let found = parse(Format::Gemini, body).err();
        let expected = expected.map(|key| BodyError::TwoSpellings { key: key.to_owned() });
        assert_eq!(found, expected, "{body}");
    }
    // Other formats have one spelling, and the other is a key of its own.
    let body = r#"{"generationConfig":{},"generation_config":{}}"#;
    assert!(parse(Format::Chat, body).is_ok());
}

#[test]
fn another_model_in_the_body_is_found() {
    for (body, other) in [
        (r#"{"contents":[]}"#, None),
        (r#"{"model":"models/m"}"#, None),
        (r#"{"model":"m"}"#, None),
        (r#"{"model":"models/dear"}"#, Some("dear")),
        (r#"{"generateContentRequest":{"model":"models/dear"}}"#, Some("dear")),
        (
            r#"{"requests":[{"model":"models/m"},{"model":"models/m"},{"model":"models/dear"}]}"#,
            Some("dear"),
        ),
        (r#"{"contents":[{"parts":[{"functionCall":{"args":{"model":"dear"}}}]}]}"#, None),
    ] {
        let facts = parse(Format::Gemini, body).unwrap();
        assert_eq!(facts.names_other_model("models/m"), other, "{body}");
        assert_eq!(facts.names_other_model("m"), other, "{body}");
    }
    assert_eq!(facts(r#"{"model":"models/dear"}"#).names_other_model("m"), None);
}

proptest! {
    #[test]
    fn any_text_is_read_without_harm(text in "[{}\\[\\]\":,a-z_0-9]{0,60}") {
        let _ = parse(Format::Gemini, &text);
    }
}
