//! Requests for embeddings, which have several inputs and no output.

use super::*;

fn embeddings(body: &Value) -> Bound {
    bound_of(Format::Embeddings, body, MODEL)
}

#[test]
fn texts_and_tokens_are_bounded_by_their_bytes() {
    for input in [json!("text"), json!(["a", "", "b"]), json!([1, 2, 3]), json!([[1, 2], [3]])] {
        let body = json!({"model": "m", "input": input, "dimensions": 256, "max_tokens": 10});
        let bound = embeddings(&body);
        let length = body.to_string().len() as u64;
        assert_eq!((bound.input_tokens, bound.output_tokens), (length, 0), "{body}");
        assert!(bound.hard, "{body}");
        assert_eq!(bound.unseen_tokens, 0, "{body}");
    }
}

#[test]
fn every_input_has_the_window_to_itself() {
    let image = json!({"image": "https://a"});
    let file = json!({"type": "file", "file_id": "f"});
    for (input, tokens) in [
        (json!([image]), 200_000),
        (json!([image, "text", image]), 600_000),
        (json!([file, file]), 400_000),
        (file, 200_000),
    ] {
        let bound = embeddings(&json!({"input": input}));
        assert_eq!((bound.input_tokens, bound.output_tokens), (tokens, 0), "{input}");
        assert!(bound.hard, "{input}");
        let unknown = ModelLimits::default();
        let bound = bound_of(Format::Embeddings, &json!({"input": input}), unknown);
        let assumed = tokens / 200_000 * ASSUMED.context_tokens;
        assert_eq!((bound.input_tokens, bound.hard), (assumed, false), "{input}");
    }
}
