//! What the demo's upstream answers.

use actix_web::http::StatusCode;

use super::*;

const KEY: &str = "demo-key-of-the-test";

async fn ask(
    method: &str,
    path: &str,
    credential: Option<&str>,
    body: Option<Value>,
) -> (StatusCode, String) {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let upstream =
        DemoUpstream::start_with_pause(address, KEY.into(), Clock::default(), Duration::ZERO)
            .unwrap();
    let url = format!("http://{}{path}", upstream.address);
    let mut request = awc::Client::default().request(method.parse().unwrap(), url);
    if let Some(credential) = credential {
        request = request.insert_header((AUTHORIZATION, credential));
    }
    let mut response = match body {
        Some(body) => request.send_json(&body).await.unwrap(),
        None => request.send().await.unwrap(),
    };
    assert!(response.headers().contains_key("x-request-id"));
    let text = String::from_utf8(response.body().await.unwrap().to_vec()).unwrap();
    upstream.stop().await;
    (response.status(), text)
}

async fn post(path: &str, body: Value) -> (StatusCode, String) {
    ask("POST", path, Some(&format!("Bearer {KEY}")), Some(body)).await
}

fn json_of((status, text): (StatusCode, String)) -> (u16, Value) {
    (status.as_u16(), serde_json::from_str(&text).unwrap())
}

fn events(text: &str) -> Vec<Value> {
    text.split("\n\n")
        .filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")))
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

fn question(more: Value) -> Value {
    let mut body = json!({"model": MODEL, "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Good morning?"}]},
    ]});
    json_patch::merge(&mut body, &more);
    body
}

const ANSWER: &str =
    "This is Tollgate's built-in demo upstream, not a model. You said: Good morning?";

#[actix_web::test]
async fn without_its_key_nothing() {
    for credential in [None, Some("Bearer other"), Some("Basic demo-key-of-the-test")] {
        let (status, body) = json_of(ask("GET", "/v1/models", credential, None).await);
        assert_eq!(status, 401);
        assert_eq!(body["error"]["type"], "invalid_request_error");
        assert!(!body.to_string().contains("other"), "{body}");
    }
}

#[actix_web::test]
async fn models() {
    let key = format!("bearer {KEY}");
    let (status, body) = json_of(ask("GET", "/v1/models", Some(&key), None).await);
    assert_eq!((status, &body["data"][0]["id"]), (200, &json!(MODEL)));
    let path = format!("/v1/models/{MODEL}");
    let (status, body) = json_of(ask("GET", &path, Some(&key), None).await);
    assert_eq!((status, &body["object"]), (200, &json!("model")));
    let (status, body) = json_of(ask("GET", "/v1/models/gpt", Some(&key), None).await);
    assert_eq!((status, &body["error"]["code"]), (404, &json!("model_not_found")));
    let (status, body) = json_of(ask("GET", "/v1/embeddings", Some(&key), None).await);
    assert_eq!((status, &body["error"]["code"]), (404, &json!("unknown_url")));
}

#[actix_web::test]
async fn a_chat_answers_and_counts() {
    let (status, body) = json_of(post("/v1/chat/completions", question(json!({}))).await);
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["choices"][0]["message"]["content"], ANSWER);
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["usage"]["prompt_tokens"], 4);
    assert_eq!(body["usage"]["completion_tokens"], 13);
    let few = question(json!({"max_tokens": 2}));
    let (_, body) = json_of(post("/v1/chat/completions", few).await);
    assert_eq!(body["choices"][0]["message"]["content"], "This is");
    assert_eq!(body["choices"][0]["finish_reason"], "length");
}

#[actix_web::test]
async fn a_chat_streams_word_by_word() {
    let (_, text) = post("/v1/chat/completions", question(json!({"stream": true}))).await;
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let chunks = events(&text);
    let said: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(said, ANSWER);
    assert_eq!(chunks.len(), 1 + 13 + 1);
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()));

    let counted = json!({"stream": true, "stream_options": {"include_usage": true}});
    let (_, text) = post("/v1/chat/completions", question(counted)).await;
    let chunks = events(&text);
    let last = chunks.last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["total_tokens"]), (&json!([]), &json!(17)));
    assert!(chunks[0]["usage"].is_null() && chunks[0].get("usage").is_some());
}

#[actix_web::test]
async fn responses_plain_and_streamed() {
    let body = json!({"model": MODEL, "input": "Good morning?"});
    let (status, plain) = json_of(post("/v1/responses", body).await);
    assert_eq!((status, &plain["status"]), (200, &json!("completed")), "{plain}");
    assert_eq!(plain["output"][0]["content"][0]["text"], ANSWER);
    assert_eq!(plain["usage"]["output_tokens"], 13);

    let input =
        json!([{"role": "user", "content": [{"type": "input_text", "text": "Good morning?"}]}]);
    let body = json!({"model": MODEL, "input": input, "stream": true});
    let (_, text) = post("/v1/responses", body).await;
    let events = events(&text);
    let numbers: Vec<u64> =
        events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    let said: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(said, ANSWER);
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(last["response"]["output"], plain_output(last));
    assert_eq!(last["response"]["usage"]["output_tokens"], 13);

    let body = json!({"model": MODEL, "input": "x", "stream": true, "max_output_tokens": 1});
    let (_, text) = post("/v1/responses", body).await;
    assert!(text.contains("event: response.incomplete\n"), "{text}");
}

fn plain_output(event: &Value) -> Value {
    let id = &event["response"]["output"][0]["id"];
    json!([{
        "id": id, "type": "message", "status": "completed", "role": "assistant",
        "content": [{"type": "output_text", "text": ANSWER, "annotations": [], "logprobs": []}],
    }])
}

#[actix_web::test]
async fn what_is_wrong_is_said_in_openais_form() {
    for (path, body, status, param) in [
        ("/v1/chat/completions", json!({"model": MODEL}), 400, "messages"),
        ("/v1/chat/completions", json!({"messages": []}), 400, "model"),
        ("/v1/chat/completions", json!({"model": "gpt"}), 404, "model"),
        ("/v1/responses", json!({"model": MODEL}), 400, "input"),
    ] {
        let (got, body) = json_of(post(path, body).await);
        assert_eq!((got, &body["error"]["param"]), (status, &json!(param)), "{body}");
    }
}

#[actix_web::test]
async fn messages_are_answered_in_anthropics_format() {
    let body = |more: Value| {
        let mut body = question(json!({"max_tokens": 50}));
        body["messages"].as_array_mut().unwrap().remove(0);
        json_patch::merge(&mut body, &more);
        body
    };
    let (status, plain) = json_of(post("/v1/messages", body(json!({"system": "Be brief."}))).await);
    assert_eq!((status, &plain["content"][0]["text"]), (200, &json!(ANSWER)));
    assert_eq!(
        (&plain["stop_reason"], &plain["usage"]["input_tokens"]),
        (&json!("end_turn"), &json!(4))
    );
    let (_, streamed) = post("/v1/messages", body(json!({"stream": true, "max_tokens": 3}))).await;
    let events = events(&streamed);
    let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(text, "This is Tollgate's");
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("message_start", "message_stop"));
    assert_eq!(events[events.len() - 2]["delta"]["stop_reason"], "max_tokens");
    let (status, missing) = json_of(post("/v1/messages", question(json!({}))).await);
    assert_eq!((status, &missing["error"]["param"]), (400, &json!("max_tokens")));
    let key = ask("POST", "/v1/messages", None, Some(body(json!({})))).await;
    assert_eq!(key.0, StatusCode::UNAUTHORIZED);
}
