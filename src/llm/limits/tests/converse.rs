//! Requests of Bedrock's Converse API.

use super::*;

fn converse(body: &Value) -> Bound {
    let body = body.to_string();
    let bytes = Bytes::copy_from_slice(body.as_bytes());
    let (_, facts) = BodyFacts::parse_in(Format::Converse, bytes).unwrap();
    Bound::of_request(&facts, body.len(), &target(Format::Converse, MODEL))
}

fn block(block: &Value) -> Bound {
    converse(&json!({"messages": [{"role": "user", "content": [block]}]}))
}

#[test]
fn text_is_bounded_by_its_bytes() {
    for block in [
        json!({"text": "t"}),
        json!({"toolUse": {"toolUseId": "i", "name": "f", "input": {"video": {"a": 1}}}}),
        json!({"toolResult": {"toolUseId": "i", "content": [{"json": {"image": 1}}, {"text": "t"}]}}),
        json!({"reasoningContent": {"reasoningText": {"text": "t", "signature": "AAAA"}}}),
        json!({"guardContent": {"text": {"text": "t"}}}),
        json!({"document": {"name": "d", "format": "txt", "source": {"text": "t"}}}),
        json!({"cachePoint": {"type": "default"}}),
    ] {
        let body = json!({"messages": [{"role": "user", "content": [block]}], "system": [{"text": "s"}],
            "inferenceConfig": {"maxTokens": 10, "temperature": 1}, "serviceTier": {"type": "flex"},
            "additionalModelRequestFields": {"top_k": 5}});
        let bound = converse(&body);
        let length = body.to_string().len() as u64;
        assert_eq!((bound.input_tokens, bound.output_tokens), (length, 10), "{body}");
        assert!(bound.hard, "{body}");
    }
}

#[test]
fn what_is_not_text_is_bounded_by_the_window() {
    let data = "A".repeat(4_000);
    let image = json!({"image": {"format": "png", "source": {"bytes": "AAAA"}}});
    let document = |source: Value| json!({"document": {"source": source, "name": "d"}});
    for (content, unseen) in [
        (image.clone(), 1_000),
        (json!({"toolResult": {"content": [image]}}), 1_000),
        (document(json!({"bytes": data})), 750),
        // No size is known of these.
        (document(json!({"s3Location": {"uri": "s3://a"}})), 200_000),
        (json!({"document": {}}), 200_000),
        (json!({"video": {"source": {"bytes": data}}}), 200_000),
        (json!({"somethingNew": {}}), 200_000),
    ] {
        let bound = block(&content);
        assert_eq!((bound.input_tokens, bound.hard), (200_000, true), "{content}");
        assert_eq!(bound.unseen_tokens, unseen, "{content}");
    }
    assert_eq!(converse(&json!({"promptVariables": {}})).unseen_tokens, 200_000);
}

#[test]
fn tools_are_the_callers_or_the_providers() {
    let own = json!({"toolSpec": {"name": "f", "inputSchema": {"json": {}}}});
    let body = json!({"toolConfig": {"tools": [own, {"cachePoint": {"type": "default"}}]}, "messages": []});
    let bound = converse(&body);
    let length = body.to_string().len() as u64;
    assert_eq!((bound.input_tokens, bound.hard), (length + 1_060, true));
    let bound = converse(&json!({"toolConfig": {"tools": [{"systemTool": {"name": "x"}}]}}));
    assert_eq!((bound.input_tokens, bound.hard), (200_000, false));
}

#[test]
fn the_answer_is_bounded_by_its_limit() {
    for (body, tokens, hard) in [
        (json!({"inferenceConfig": {"maxTokens": 100}}), 100, true),
        (json!({}), 16_384, true),
        (json!({"max_tokens": 1}), 16_384, true),
        // The model's own request may have another limit.
        (
            json!({"inferenceConfig": {"maxTokens": 100},
                "additionalModelRequestFields": {"max_tokens": 500}}),
            500,
            true,
        ),
    ] {
        let bound = converse(&body);
        assert_eq!((bound.output_tokens, bound.hard), (tokens, hard), "{body}");
    }
    for (body, unpriced) in [
        (json!({"serviceTier": {"type": "flex"}}), None),
        (json!({"serviceTier": {"type": "priority"}}), Some("serviceTier")),
        (json!({"performanceConfig": {"latency": "optimized"}}), Some("performanceConfig")),
    ] {
        assert_eq!(converse(&body).extras.unpriced, unpriced, "{body}");
    }
}
