//! Google's API under its own name and on a configuration: what goes up, what comes down, what it costs.

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    connection::BodyEnd,
    database::Database,
    fixture::Fixture,
    http::{Answer, Request},
    ledger_rows::last_row,
    policies::{self, spend_cap},
    script::Script,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_recorded_answer_is_charged_to_the_nano_dollar,
        a_recorded_stream_passes_unchanged_however_it_is_cut,
        a_stream_may_be_one_array,
        a_truncated_stream_is_never_completed,
        counting_is_free_and_embeddings_are_input,
        the_path_decides_the_model,
        errors_have_googles_form,
        a_configuration_replaces_the_model_of_the_path,
        models_within_a_batch_are_replaced_with_the_one_of_the_path,
        the_version_of_the_path_goes_up,
        caps_see_the_limits_of_this_format,
    ]
}

const FLASH: &str = "/gemini/v1beta/models/gemini-2.5-flash";

async fn start(database: &Database) -> (TestApp, Fixture) {
    let (app, team) = TestApp::in_place_of(database, &["gemini"]).await;
    team.put_secret("GOOGLE_API_KEY", "AIza-key-of-the-team").await;
    (app, team)
}

fn question() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "Count to thirty."}]}]})
}

/// The recorded request and answer.
fn recording(text: &str) -> (Value, Value) {
    let recording: Value = serde_json::from_str(text).unwrap();
    let exchange = &recording["exchanges"][0];
    (exchange["request"]["json"].clone(), exchange["response"].clone())
}

fn counted_stream() -> (Value, String) {
    let (request, response) = recording(include_str!("fixtures/gemini/counted_stream.json"));
    (request, response["text"].as_str().unwrap().to_owned())
}

#[track_caller]
fn google_error(answer: &Answer, status: u16, name: &str, code: &str) {
    let body = answer.json();
    let error = &body["error"];
    assert_eq!((answer.status, &error["code"]), (status, &json!(status)), "{body}");
    assert_eq!(error["status"], name, "{body}");
    assert_eq!(error["details"][0]["reason"], code, "{body}");
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
}

async fn a_recorded_answer_is_charged_to_the_nano_dollar(database: Database) {
    let (app, team) = start(&database).await;
    let (request, response) = recording(include_str!("fixtures/gemini/max_tokens.json"));
    team.upstream.push(Script::json(200, &response["json"]));
    // As Google's SDK sends it, with the gateway's key where its own would be.
    let asked =
        Request::post_json("/gemini/v1beta/models/gemini-2.5-pro:generateContent", &request)
            .header("x-goog-api-key", &team.caller_key)
            .header("x-goog-api-client", "google-genai-sdk/1")
            .header("x-goog-user-project", "somebody-elses");
    let answer = app.anonymous().send(asked).await.expect(200);
    assert_eq!(answer.json(), response["json"]);
    let sent = team.upstream.last_request();
    assert_eq!(sent.path(), "/v1beta/models/gemini-2.5-pro:generateContent");
    assert_eq!(sent.json(), request);
    for (name, value) in [
        ("x-goog-api-key", Some("AIza-key-of-the-team")),
        ("x-goog-api-client", Some("google-genai-sdk/1")),
        ("x-goog-user-project", None),
        ("authorization", None),
    ] {
        assert_eq!(sent.header(name), value, "{name}");
    }
    // The catalogue's gemini-2.5-pro: 1.25 and 10 dollars a million. Thoughts are output.
    let row = last_row(&app, 1).await;
    let tokens = (row.input_tokens, row.output_tokens, row.reasoning_tokens);
    assert_eq!(tokens, (Some(15), Some(2), Some(2)), "{row:?}");
    assert_eq!((row.cost, row.usage_source.as_str()), (Some(15 * 1_250 + 2 * 10_000), "provider"));
    assert_eq!((row.configuration.as_str(), row.outcome.as_str()), ("gemini", "completed"));
}

async fn a_recorded_stream_passes_unchanged_however_it_is_cut(database: Database) {
    let (app, team) = start(&database).await;
    let (request, whole) = counted_stream();
    let path = format!("{FLASH}:streamGenerateContent?alt=sse");
    let pieces = |size: usize| -> Vec<Vec<u8>> {
        whole.as_bytes().chunks(size).map(<[u8]>::to_vec).collect()
    };
    for (number, size) in [whole.len(), 7, 100, 333].into_iter().enumerate() {
        team.upstream.push(Script::sse(pieces(size)));
        let answer = team.caller().post_json(&path, &request).await.expect(200);
        assert_eq!(answer.text(), whole);
        assert_eq!(team.upstream.last_request().query(), Some("alt=sse"));
        let row = last_row(&app, number + 1).await;
        let tokens = (row.input_tokens, row.output_tokens, row.reasoning_tokens);
        assert_eq!(tokens, (Some(18), Some(115), Some(35)), "{row:?}");
        let charged = (row.cost, row.usage_source.as_str(), row.outcome.as_str());
        assert_eq!(charged, (Some(18 * 300 + 115 * 2_500), "provider", "completed"), "{row:?}");
    }
}

/// The stream without `alt=sse`.
fn array_stream() -> String {
    let (_, whole) = counted_stream();
    let events: Vec<&str> = whole.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    format!("[{}\n]\n", events.join("\n,\r\n"))
}

async fn a_stream_may_be_one_array(database: Database) {
    let (app, team) = start(&database).await;
    let whole = array_stream();
    let json = [("content-type", "application/json")];
    for (number, size) in [whole.len(), 11].into_iter().enumerate() {
        let pieces: Vec<Vec<u8>> = whole.as_bytes().chunks(size).map(<[u8]>::to_vec).collect();
        team.upstream.push(Script::new().chunked_head(200, &json).chunks(pieces).end());
        let path = format!("{FLASH}:streamGenerateContent");
        let answer = team.caller().post_json(&path, &question()).await.expect(200);
        assert_eq!(answer.text(), whole);
        let row = last_row(&app, number + 1).await;
        assert_eq!((row.input_tokens, row.output_tokens), (Some(18), Some(115)), "{row:?}");
        assert_eq!(row.outcome, "completed", "{row:?}");
    }
}

async fn a_truncated_stream_is_never_completed(database: Database) {
    let (app, team) = start(&database).await;
    let (_, whole) = counted_stream();
    let begun: Vec<String> = whole.split_inclusive("\r\n\r\n").take(2).map(str::to_owned).collect();
    let path = format!("{FLASH}:streamGenerateContent?alt=sse");
    for (number, script) in
        [Script::sse(begun.clone()), Script::sse_head().chunks(begun.clone()).close()]
            .into_iter()
            .enumerate()
    {
        team.upstream.push(script);
        let (_, mut answer) = team.caller().stream(Request::post_json(&path, &question())).await;
        let (pieces, end) = answer.rest().await;
        assert!(!matches!(end, BodyEnd::Complete), "{end:?}");
        let relayed: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
        let relayed = String::from_utf8(relayed).unwrap();
        let told = relayed.strip_prefix(&begun.concat()).unwrap();
        let error: Value = serde_json::from_str(told.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(error["error"]["status"], "UNAVAILABLE", "{error}");
        assert_eq!(last_row(&app, number + 1).await.outcome, "upstream_broke");
    }
}

async fn counting_is_free_and_embeddings_are_input(database: Database) {
    let (app, team) = start(&database).await;
    team.upstream.push(Script::json(200, &json!({"totalTokens": 4})));
    let path = format!("{FLASH}:countTokens");
    team.caller().post_json(&path, &question()).await.expect(200);
    let row = last_row(&app, 1).await;
    assert_eq!((row.cost, row.outcome.as_str()), (Some(0), "completed"), "{row:?}");

    let embedding =
        json!({"embedding": {"values": [0.1, 0.2]}, "usageMetadata": {"promptTokenCount": 9}});
    team.upstream.push(Script::json(200, &embedding));
    let path = "/gemini/v1beta/models/gemini-embedding-001:embedContent";
    let body = json!({"content": {"parts": [{"text": "Hello"}]}});
    team.caller().post_json(path, &body).await.expect(200);
    let row = last_row(&app, 2).await;
    assert_eq!((row.input_tokens, row.output_tokens), (Some(9), Some(0)), "{row:?}");
}

async fn the_path_decides_the_model(database: Database) {
    let (app, team) = start(&database).await;
    let workspace = [("workspace_id", team.workspace_id.as_str())];
    let allowed = json!({"providers": [{"provider": "gemini", "models": ["gemini-2.5-flash"]}]});
    policies::make(&app.admin(), ("model_access", "flash"), &workspace, allowed).await;
    let caller = team.caller();
    let pro = "/gemini/v1beta/models/gemini-2.5-pro:generateContent";
    let denied = caller.post_json(pro, &question()).await;
    google_error(&denied, 403, "PERMISSION_DENIED", "model_access_denied");
    let path = format!("{FLASH}:generateContent");
    let mut body = question();
    body["model"] = "models/gemini-2.5-pro".into();
    google_error(&caller.post_json(&path, &body).await, 400, "INVALID_ARGUMENT", "model_mismatch");
    body["model"] = "models/gemini-2.5-flash".into();
    let answer = json!({"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1}});
    team.upstream.push(Script::json(200, &answer));
    caller.post_json(&path, &body).await.expect(200);
    assert_eq!(team.upstream.seen().requests.len(), 1);
}

async fn errors_have_googles_form(database: Database) {
    let (app, team) = start(&database).await;
    let path = format!("{FLASH}:generateContent");
    let answer = app.anonymous().post_json(&path, &question()).await;
    google_error(&answer, 401, "UNAUTHENTICATED", "missing_api_key");
    let caller = team.caller();
    let both =
        json!({"contents": [], "generationConfig": {"maxOutputTokens": 1, "max_output_tokens": 9}});
    let answer = caller.post_json(&path, &both).await;
    google_error(&answer, 400, "INVALID_ARGUMENT", "two_spellings");
    for query in ["key=AIza", "%4Bey=AIza", "alt=sse&access_token=x", "X-Amz-Credential=x"] {
        let answer = caller.post_json(&format!("{path}?{query}"), &question()).await;
        google_error(&answer, 400, "INVALID_ARGUMENT", "credential_in_query");
    }
    // What would hide the usage, or could.
    for query in ["fields=candidates", "%24alt=sse", "alt=proto", "alt=sse&callback=f"] {
        let answer = caller.post_json(&format!("{path}?{query}"), &question()).await;
        google_error(&answer, 400, "INVALID_ARGUMENT", "unsupported_query");
    }
    let answer = caller.post_json(&format!("{FLASH}:predict"), &question()).await;
    google_error(&answer, 501, "UNIMPLEMENTED", "unmetered_not_allowed");
    // The upstream's own errors pass as they are.
    let error = json!({"error": {"code": 429, "message": "Quota", "status": "RESOURCE_EXHAUSTED"}});
    team.upstream.push(Script::json(429, &error));
    assert_eq!(caller.post_json(&path, &question()).await.expect(429).json(), error);
}

async fn a_configuration_replaces_the_model_of_the_path(database: Database) {
    let (app, team) = start(&database).await;
    let base = team.upstream.base_url().replace("/v1", "/v1beta");
    let more = json!({"provider": "gemini", "base_url": base, "model": "gemini 2/5"});
    team.configure("google", more).await;
    let answer = json!({"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2}});
    team.upstream.push(Script::json(200, &answer));
    let path = "/providers/google/v1beta/models/any:generateContent";
    team.caller().post_json(path, &question()).await.expect(200);
    let sent = team.upstream.last_request();
    assert_eq!(sent.path(), "/v1beta/models/gemini%202%2F5:generateContent");
    assert_eq!(sent.header("x-goog-api-key"), Some(team.provider_key.as_str()));
    assert_eq!(last_row(&app, 1).await.input_tokens, Some(3));
    // Google's SDKs call the stable version, and repeat the model in the body of what is embedded.
    team.upstream.push(Script::json(200, &answer));
    let stable = "/providers/google/v1/models/any:generateContent";
    team.caller().post_json(stable, &question()).await.expect(200);
    team.upstream.push(Script::json(200, &json!({"embedding": {"values": [0.5]}})));
    let embed = json!({"model": "models/any", "content": {"parts": [{"text": "Hi"}]}});
    let path = "/providers/google/v1/models/any:embedContent";
    team.caller().post_json(path, &embed).await.expect(200);
    assert_eq!(team.upstream.last_request().json()["model"], "models/gemini 2/5");
    let other = json!({"model": "models/other", "content": {"parts": [{"text": "Hi"}]}});
    let refused = team.caller().post_json(path, &other).await;
    google_error(&refused, 400, "INVALID_ARGUMENT", "model_mismatch");
    let path = "/providers/google/v1beta/models/any:generateContent";
    let mut body = question();
    body["model"] = "models/any".into();
    team.upstream.push(Script::json(200, &answer));
    team.caller().post_json(path, &body).await.expect(200);
    assert_eq!(team.upstream.last_request().json()["model"], "models/gemini 2/5");
    // Nor may a default and the caller spell one key in two ways.
    let defaults = json!({"generationConfig": {"maxOutputTokens": 5}});
    let more = json!({"provider": "gemini", "base_url": base, "model": "m", "default_parameters": defaults});
    team.configure("short", more).await;
    let mut body = question();
    body["generation_config"] = json!({"temperature": 1});
    let path = "/providers/short/v1beta/models/any:generateContent";
    let refused = team.caller().post_json(path, &body).await;
    google_error(&refused, 400, "INVALID_ARGUMENT", "two_spellings");
    let chat = Request::post_json("/providers/google/v1/chat/completions", &question());
    assert_eq!(
        team.caller().send(chat).await.expect(501).json()["error"]["code"],
        "format_not_served"
    );
}

async fn models_within_a_batch_are_replaced_with_the_one_of_the_path(database: Database) {
    let (app, team) = start(&database).await;
    let base = team.upstream.base_url().replace("/v1", "/v1beta");
    let more = json!({"provider": "gemini", "base_url": base, "model": "gemini-embedding-001"});
    team.configure("google", more).await;
    let embed = |model: &str| json!({"model": model, "content": {"parts": [{"text": "Hi"}]}});
    let batch = |one: &str, two: &str| json!({"requests": [embed(one), embed(two)]});
    let path = "/providers/google/v1beta/models/any:batchEmbedContents";
    let vectors = json!({"embeddings": [{"values": [0.5]}, {"values": [0.5]}]});
    team.upstream.push(Script::json(200, &vectors));
    team.caller().post_json(path, &batch("models/any", "models/any")).await.expect(200);
    let sent = team.upstream.last_request();
    assert_eq!(sent.path(), "/v1beta/models/gemini-embedding-001:batchEmbedContents");
    let own = "models/gemini-embedding-001";
    assert_eq!(sent.json(), batch(own, own));
    let refused = team.caller().post_json(path, &batch("models/any", "models/other")).await;
    google_error(&refused, 400, "INVALID_ARGUMENT", "model_mismatch");
    let count = json!({"generateContentRequest": {"model": "models/any", "contents": []}});
    team.upstream.push(Script::json(200, &json!({"totalTokens": 4})));
    let path = "/providers/google/v1beta/models/any:countTokens";
    team.caller().post_json(path, &count).await.expect(200);
    assert_eq!(team.upstream.last_request().json()["generateContentRequest"]["model"], own);
    // An alias stands for another model, too.
    let target =
        |model: &str| json!({"type": "provider_model", "provider": "gemini", "model": model});
    let chain = json!({"strategy": "priority_fallback", "triggers": {},
        "chain": {"selector": {"type": "alias", "alias": "vectors"},
            "candidates": [target("gemini-embedding-001")]}});
    let workspace = [("workspace_id", team.workspace_id.as_str())];
    policies::make(&app.admin(), ("model_fallback", "vectors"), &workspace, chain).await;
    team.upstream.push(Script::json(200, &vectors));
    let path = "/gemini/v1beta/models/vectors:batchEmbedContents";
    let named = batch("models/vectors", "models/vectors");
    team.caller().post_json(path, &named).await.expect(200);
    assert_eq!(team.upstream.last_request().json(), batch(own, own));
}

async fn the_version_of_the_path_goes_up(database: Database) {
    let (_app, team) = start(&database).await;
    let answer = json!({"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2}});
    for (version, sent) in [("/v1", "/v1"), ("/v1beta", "/v1beta"), ("", "/v1beta")] {
        team.upstream.push(Script::json(200, &answer));
        let path = format!("/gemini{version}/models/gemini-2.5-flash:generateContent");
        team.caller().post_json(&path, &question()).await.expect(200);
        let expected = format!("{sent}/models/gemini-2.5-flash:generateContent");
        assert_eq!(team.upstream.last_request().path(), expected);
    }
    team.upstream.push(Script::json(200, &json!({"models": []})));
    team.caller().get("/gemini/v1/models").await.expect(200);
    assert_eq!(team.upstream.last_request().path(), "/v1/models");
}

async fn caps_see_the_limits_of_this_format(database: Database) {
    let (app, team) = start(&database).await;
    let workspace = [("workspace_id", team.workspace_id.as_str())];
    // 1,000 tokens of output cost 2,500,000 nano-dollars.
    spend_cap(&app.admin(), "cap", &workspace, ("monthly", 3_000_000)).await;
    let path = format!("{FLASH}:generateContent");
    let ask = async |config: Value| {
        let mut body = question();
        body["generationConfig"] = config;
        team.caller().post_json(&path, &body).await
    };
    for config in [
        json!({"maxOutputTokens": 2000}),
        json!({"max_output_tokens": 2000}),
        json!({"maxOutputTokens": 1000, "candidateCount": 2}),
        json!({}),
    ] {
        let answer = ask(config).await;
        google_error(&answer, 402, "PERMISSION_DENIED", "spend_cap_exceeded");
    }
    let answer = json!({"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1}});
    team.upstream.push(Script::json(200, &answer));
    ask(json!({"maxOutputTokens": 500, "thinkingConfig": {"thinkingBudget": 0}})).await.expect(200);
}
