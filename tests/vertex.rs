//! Google Cloud's Vertex AI under its own name: service accounts and their tokens, paths, chains.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::{Answer, Request},
    ledger_rows::last_row,
    policies::{self, spend_cap},
    script::Script,
    secrets,
    token_endpoint::token_endpoint,
    upstream::ScriptedUpstream,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_service_account_is_the_whole_setup,
        claude_is_called_in_its_own_format,
        open_models_are_called_in_openais_format,
        the_path_may_name_the_account,
        models_are_listed_and_endpoints_passed_through,
        tokens_are_shared_and_replaced_before_they_end,
        a_new_service_account_takes_effect_at_once,
        a_refused_token_is_replaced_once,
        without_a_token_the_answer_is_503,
        the_token_endpoint_is_googles_or_the_operators,
        egress_rules_apply_to_the_token_endpoint,
        an_unpriced_model_is_refused_under_a_cap,
        vertex_is_a_target_of_chains,
    ]
}

const ACCOUNT: &str = include_str!("fixtures/vertex/service_account.json");
const NAME: &str = "VERTEX_SERVICE_ACCOUNT_JSON";
const GOOGLE: &str = "/vertex/v1/publishers/google/models/gemini-2.5-flash";
const CLAUDE: &str = "/vertex/v1/publishers/anthropic/models/claude-sonnet-4-5@20250929";

pub(crate) struct Setup {
    pub(crate) app: TestApp,
    pub(crate) team: Fixture,
    endpoint: ScriptedUpstream,
    /// What all tokens begin with; the first ends in `-0`.
    tokens: String,
}

impl Setup {
    pub(crate) async fn start(database: &Database) -> Self {
        let (endpoint, tokens) = token_endpoint(json!(3600)).await;
        let upstream = ScriptedUpstream::start().await;
        let origin = upstream.origin();
        let token_url = format!("http://{}/token", endpoint.address());
        let origins = format!(
            "vertex={origin},google-token={token_url},gemini={origin}/gemini,anthropic={origin}/anthropic,bedrock={origin}/b"
        );
        let app = TestApp::with_stopped_clock(database, &["--provider-origin", &origins]).await;
        let team = Fixture::before(&app.admin(), app.address(), upstream).await;
        let setup = Self { app, team, endpoint, tokens };
        setup.put(account()).await;
        setup
    }

    async fn put(&self, account: Value) {
        let key = account["private_key"].as_str().unwrap_or_default();
        key.lines().filter(|line| line.len() > 40).for_each(secrets::register);
        self.team.put_secret(NAME, &account.to_string()).await;
    }

    pub(crate) async fn ask(&self) -> Answer {
        self.team.upstream.push(generated());
        self.team.caller().post_json(&format!("{GOOGLE}:generateContent"), &question()).await
    }

    /// Asks, and fails the test unless the upstream gets the token with this number.
    async fn ask_with(&self, number: usize) {
        self.ask().await.expect(200);
        self.is_sent_with(number);
    }

    #[track_caller]
    fn is_sent_with(&self, number: usize) {
        let bearer = format!("Bearer {}-{number}", self.tokens);
        let sent = self.team.upstream.last_request();
        assert_eq!(sent.header("authorization"), Some(bearer.as_str()));
    }

    fn token_requests(&self) -> usize {
        self.endpoint.seen().requests.len()
    }

    async fn price(&self, model: &str) {
        let price =
            json!({"provider": "vertex", "model": model, "price": {"input": 1, "output": 2}});
        self.app.admin().post_json("/api/v1/model-prices", &price).await.expect(201);
    }
}

fn account() -> Value {
    serde_json::from_str(ACCOUNT).unwrap()
}

pub(crate) fn question() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]})
}

/// 10 tokens in, 7 out.
pub(crate) fn generated() -> Script {
    let answer = json!({"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 7, "totalTokenCount": 17},
        "modelVersion": "gemini-2.5-flash"});
    Script::json(200, &answer)
}

pub(crate) fn message() -> Value {
    json!({"anthropic_version": "vertex-2023-10-16", "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hello"}]})
}

/// 10 tokens in, 7 out.
fn answered() -> Value {
    json!({"id": "msg_1", "type": "message", "role": "assistant",
        "model": "claude-sonnet-4-5-20250929", "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn", "usage": {"input_tokens": 10, "output_tokens": 7}})
}

#[track_caller]
pub(crate) fn google_error(answer: &Answer, status: u16, code: &str) -> String {
    let body = answer.json();
    assert_eq!(
        (answer.status, &body["error"]["details"][0]["reason"]),
        (status, &json!(code)),
        "{body}"
    );
    body["error"]["message"].as_str().unwrap().to_owned()
}

async fn a_service_account_is_the_whole_setup(database: Database) {
    let setup = Setup::start(&database).await;
    setup.price("gemini-2.5-flash").await;
    setup.team.upstream.push(generated());
    // As Google's SDK sends it, with the gateway's key where its own token would be.
    let asked = Request::post_json(&format!("{GOOGLE}:generateContent"), &question())
        .header("authorization", &format!("Bearer {}", setup.team.caller_key))
        .header("x-goog-api-client", "google-genai-sdk/1")
        .header("x-goog-user-project", "somebody-elses");
    setup.app.anonymous().send(asked).await.expect(200);
    setup.is_sent_with(0);
    let sent = setup.team.upstream.last_request();
    assert_eq!(
        sent.path(),
        "/v1/projects/project-of-tests/locations/global/publishers/google/models/gemini-2.5-flash:generateContent"
    );
    assert_eq!(sent.header("x-goog-api-client"), Some("google-genai-sdk/1"));
    assert_eq!(sent.header("x-goog-user-project"), None);
    let row = last_row(&setup.app, 1).await;
    assert_eq!(row.cost, Some(10 * 1_000 + 7 * 2_000), "{row:?}");
    assert_eq!((row.configuration.as_str(), row.outcome.as_str()), ("vertex", "completed"));

    let request = setup.endpoint.last_request();
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/token"));
    let form: Vec<(String, String)> = form_urlencoded::parse(&request.body).into_owned().collect();
    assert_eq!(form[0].1, "urn:ietf:params:oauth:grant-type:jwt-bearer");
    assert_eq!((form[0].0.as_str(), form[1].0.as_str()), ("grant_type", "assertion"));
    let claims = form[1].1.split('.').nth(1).unwrap();
    let claims: Value =
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert_eq!(claims["aud"], "https://oauth2.googleapis.com/token");
    assert_eq!(claims["iss"], account()["client_email"]);

    let count = format!("{GOOGLE}:countTokens");
    setup.team.upstream.push(Script::json(200, &json!({"totalTokens": 3})));
    setup.team.caller().post_json(&count, &question()).await.expect(200);
    assert_eq!(last_row(&setup.app, 2).await.cost, Some(0));
    let other = setup.app.workspace().await;
    let answer = other.caller().post_json(&count, &question()).await;
    let message = google_error(&answer, 400, "provider_secret_missing");
    assert!(message.contains(NAME), "{message}");
    assert_eq!(setup.token_requests(), 1);
}

async fn claude_is_called_in_its_own_format(database: Database) {
    let setup = Setup::start(&database).await;
    setup.price("claude-sonnet-4-5@20250929").await;
    setup.team.upstream.push(Script::json(200, &answered()));
    let path = format!("{CLAUDE}:rawPredict");
    let answer = setup.team.caller().post_json(&path, &message()).await.expect(200);
    assert_eq!(answer.json(), answered());
    let sent = setup.team.upstream.last_request();
    assert_eq!(
        sent.path(),
        "/v1/projects/project-of-tests/locations/global/publishers/anthropic/models/claude-sonnet-4-5@20250929:rawPredict"
    );
    assert_eq!(sent.body, message().to_string());
    assert_eq!(last_row(&setup.app, 1).await.cost, Some(10 * 1_000 + 7 * 2_000));

    let events = [
        json!({"type": "message_start", "message": {"model": "claude-sonnet-4-5-20250929",
            "usage": {"input_tokens": 10, "output_tokens": 1}}}),
        json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}}),
        json!({"type": "message_delta", "usage": {"output_tokens": 7}}),
        json!({"type": "message_stop"}),
    ];
    let events = events
        .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()));
    let head = [("content-type", "text/event-stream")];
    setup.team.upstream.push(Script::new().chunked_head(200, &head).chunks(events.clone()).end());
    let path = format!("{CLAUDE}:streamRawPredict");
    let answer = setup.team.caller().post_json(&path, &message()).await.expect(200);
    assert_eq!(answer.text(), events.concat());
    let row = last_row(&setup.app, 2).await;
    assert_eq!((row.input_tokens, row.output_tokens), (Some(10), Some(7)), "{row:?}");

    let counting = "/vertex/v1/publishers/anthropic/models/count-tokens:rawPredict";
    let mut body = message();
    body["model"] = "claude-sonnet-4-5@20250929".into();
    setup.team.upstream.push(Script::json(200, &json!({"input_tokens": 9})));
    setup.team.caller().post_json(counting, &body).await.expect(200);
    let sent = setup.team.upstream.last_request();
    assert!(sent.path().ends_with("/publishers/anthropic/models/count-tokens:rawPredict"));
    assert_eq!(sent.json(), body);
    assert_eq!(last_row(&setup.app, 3).await.cost, Some(0));

    body["model"] = "claude-opus-4@20250514".into();
    let answer = setup.team.caller().post_json(&format!("{CLAUDE}:rawPredict"), &body).await;
    let error = answer.json();
    assert_eq!((answer.status, &error["type"]), (400, &json!("error")), "{error}");
    assert_eq!(error["error"]["code"], "model_mismatch", "{error}");
}

async fn open_models_are_called_in_openais_format(database: Database) {
    let setup = Setup::start(&database).await;
    setup.price("meta/llama-4").await;
    let answer = json!({"choices": [{"index": 0, "message": {"content": "Hi"}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17}});
    setup.team.upstream.push(Script::json(200, &answer));
    let path = "/vertex/v1beta1/projects/project-of-tests/locations/us-east5/endpoints/openapi/chat/completions";
    let body = json!({"model": "meta/llama-4", "messages": [{"role": "user", "content": "Hello"}]});
    setup.team.caller().post_json(path, &body).await.expect(200);
    assert_eq!(setup.team.upstream.last_request().path(), path.trim_start_matches("/vertex"));
    assert_eq!(last_row(&setup.app, 1).await.cost, Some(10 * 1_000 + 7 * 2_000));
}

async fn models_are_listed_and_endpoints_passed_through(database: Database) {
    let setup = Setup::start(&database).await;
    let google = json!({"publisherModels": [{"name": "publishers/google/models/gemini-2.5-flash"},
        {"name": "publishers/google/models/imagen-4"}]});
    let claude =
        json!({"publisherModels": [{"name": "publishers/anthropic/models/claude-sonnet-4-5"}]});
    setup.team.upstream.push(Script::json(200, &google));
    setup.team.upstream.push(Script::json(200, &claude));
    let listed = setup.team.caller().get("/v1/models").await.expect(200).json();
    let shown: Vec<Value> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|model| model["owned_by"] == "vertex")
        .map(|model| json!([model["id"], model["tollgate"]["path"]]))
        .collect();
    assert_eq!(
        shown,
        [
            json!(["vertex/gemini-2.5-flash", "/vertex/v1/publishers/google"]),
            json!(["vertex/claude-sonnet-4-5", "/vertex/v1/publishers/anthropic"]),
        ]
    );
    let sent = setup.team.upstream.last_request();
    assert_eq!(sent.path(), "/v1beta1/publishers/anthropic/models");
    setup.is_sent_with(0);
    let predict = "/vertex/v1/publishers/google/models/imagen-4:predict";
    let refused = setup.team.caller().post_json(predict, &json!({})).await;
    google_error(&refused, 501, "unmetered_not_allowed");
    let endpoints = json!({"unmetered_endpoints": [
        {"method": "POST", "path": "/publishers/google/models/imagen-4:predict"}]});
    let settings = "/api/v1/provider-settings/vertex";
    setup.app.admin().put(settings, &endpoints).await.expect(200);
    setup.team.upstream.push(Script::json(200, &json!({"predictions": []})));
    setup.team.caller().post_json(predict, &json!({"instances": []})).await.expect(200);
    assert_eq!(
        setup.team.upstream.last_request().path(),
        "/v1/projects/project-of-tests/locations/global/publishers/google/models/imagen-4:predict"
    );
    setup.is_sent_with(0);
}

async fn the_path_may_name_the_account(database: Database) {
    let setup = Setup::start(&database).await;
    let path = |project: &str, region: &str| {
        format!(
            "/v1beta1/projects/{project}/locations/{region}/publishers/google/models/m:streamGenerateContent"
        )
    };
    let ask = async |path: String| {
        setup.team.caller().post_json(&format!("/vertex{path}?alt=sse"), &question()).await
    };
    setup.team.upstream.push(generated());
    ask(path("project-of-tests", "europe-west4")).await.expect(200);
    let sent = setup.team.upstream.last_request();
    assert_eq!(sent.path(), path("project-of-tests", "europe-west4"));
    assert_eq!(sent.query(), Some("alt=sse"));
    google_error(&ask(path("another-project", "global")).await, 400, "project_mismatch");
    for region in ["evil.example%2F", "a.b", "%2e%2e"] {
        google_error(&ask(path("project-of-tests", region)).await, 400, "region_invalid");
    }
    for wrong in ["/v1/v1beta1/publishers/google/models/m:generateContent"] {
        google_error(&ask(wrong.to_owned()).await, 400, "doubled_version");
    }
    for wrong in ["/v1/models/m:generateContent", "/v1/projects/p/locations/us/datasets"] {
        google_error(&ask(wrong.to_owned()).await, 501, "unmetered_not_allowed");
    }
    assert_eq!(setup.team.upstream.seen().requests.len(), 1);
}

async fn tokens_are_shared_and_replaced_before_they_end(database: Database) {
    let setup = Setup::start(&database).await;
    let answers = join_all((0..20).map(|_| setup.ask())).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(setup.token_requests(), 1);
    setup.app.advance(Duration::from_secs(3539));
    setup.ask_with(0).await;
    setup.app.advance(Duration::from_secs(1));
    setup.ask_with(1).await;
    assert_eq!(setup.token_requests(), 2);
}

async fn a_new_service_account_takes_effect_at_once(database: Database) {
    let setup = Setup::start(&database).await;
    setup.ask_with(0).await;
    let mut other = account();
    other["project_id"] = "another-project".into();
    setup.put(other).await;
    setup.ask_with(1).await;
    let sent = setup.team.upstream.last_request();
    assert!(sent.path().starts_with("/v1/projects/another-project/"), "{}", sent.path());
}

async fn a_refused_token_is_replaced_once(database: Database) {
    let setup = Setup::start(&database).await;
    setup.ask_with(0).await;
    let refused = || Script::json(401, &json!({"error": {"status": "UNAUTHENTICATED"}}));
    setup.team.upstream.push(refused());
    setup.ask_with(1).await;
    setup.team.upstream.push(refused());
    setup.team.upstream.push(refused());
    let path = format!("{GOOGLE}:generateContent");
    let answer = setup.team.caller().post_json(&path, &question()).await;
    let message = google_error(&answer, 502, "provider_credential_refused");
    assert!(message.contains("service account"), "{message}");
    assert_eq!(setup.token_requests(), 3);
}

async fn without_a_token_the_answer_is_503(database: Database) {
    let setup = Setup::start(&database).await;
    let large = format!("{{\"access_token\":\"{}\"}}", "x".repeat(64 * 1024));
    let redirect = Script::new().sized(302, &[("location", "http://127.0.0.1:1/")], "");
    for script in [
        Script::json(500, &json!({})),
        Script::json(400, &json!({"error": "invalid_grant"})),
        redirect,
        Script::new().sized(200, &[("content-type", "application/json")], large),
    ] {
        setup.endpoint.push(script);
        let path = format!("{GOOGLE}:generateContent");
        let answer = setup.team.caller().post_json(&path, &question()).await;
        let message = google_error(&answer, 503, "token_unavailable");
        assert!(message.contains(NAME) && message.contains("127.0.0.1"), "{message}");
        assert!(answer.header("retry-after").is_some());
        setup.app.advance(Duration::from_secs(2));
    }
    assert_eq!(setup.team.upstream.seen().requests.len(), 0);
    setup.ask_with(0).await;
}

async fn the_token_endpoint_is_googles_or_the_operators(database: Database) {
    let setup = Setup::start(&database).await;
    for wrong in [
        json!("https://oauth2.example.com/token"),
        json!("http://169.254.169.254/token"),
        json!("https://oauth2.googleapis.com/token/../x"),
    ] {
        let mut account = account();
        account["token_uri"] = wrong;
        setup.put(account).await;
        let path = format!("{GOOGLE}:generateContent");
        let answer = setup.team.caller().post_json(&path, &question()).await;
        let message = google_error(&answer, 503, "secret_unavailable");
        assert!(message.contains(NAME), "{message}");
    }
    assert_eq!(setup.token_requests(), 0);
    let mut account = account();
    account["token_uri"] = format!("http://{}/token", setup.endpoint.address()).into();
    setup.put(account).await;
    setup.ask_with(0).await;
    setup.team.put_secret(NAME, "no JSON at all").await;
    let path = format!("{GOOGLE}:generateContent");
    let answer = setup.team.caller().post_json(&path, &question()).await;
    google_error(&answer, 503, "secret_unavailable");
}

async fn egress_rules_apply_to_the_token_endpoint(database: Database) {
    let setup = Setup::start(&database).await;
    let port = setup.endpoint.address().port();
    let origins = format!("google-token=http://127.0.0.2:{port}/token");
    let options = ["--egress-allow", "127.0.0.1/32", "--provider-origin", &origins];
    let strict = setup.app.replica_with(&options).await;
    strict.caught_up().await;
    let path = format!("{GOOGLE}:generateContent");
    let answer = setup.team.caller_at(strict.address()).post_json(&path, &question()).await;
    let message = google_error(&answer, 503, "token_unavailable");
    assert!(message.contains("127.0.0.2"), "{message}");
    assert_eq!(setup.token_requests(), 0);
}

async fn an_unpriced_model_is_refused_under_a_cap(database: Database) {
    let setup = Setup::start(&database).await;
    let workspace = [("workspace_id", setup.team.workspace_id.as_str())];
    spend_cap(&setup.app.admin(), "cap", &workspace, ("monthly", 1_000_000_000)).await;
    let path = "/vertex/v1/publishers/google/models/nobody-knows:generateContent";
    let answer = setup.team.caller().post_json(path, &question()).await;
    google_error(&answer, 402, "price_unknown");
    setup.price("nobody-knows").await;
    let mut bounded = question();
    bounded["generationConfig"] = json!({"maxOutputTokens": 100});
    setup.team.upstream.push(generated());
    setup.team.caller().post_json(path, &bounded).await.expect(200);
}

async fn vertex_is_a_target_of_chains(database: Database) {
    let setup = Setup::start(&database).await;
    setup.team.put_secret("ANTHROPIC_API_KEY", "sk-ant-of-the-team").await;
    setup.team.put_secret("GOOGLE_API_KEY", "AIza-key-of-the-team").await;
    let workspace = [("workspace_id", setup.team.workspace_id.as_str())];
    let target = |provider: &str, model: &str| json!({"type": "provider_model", "provider": provider, "model": model});
    let claude = "claude-sonnet-4-5@20250929";
    for (name, selector, candidate) in [
        ("messages", target("anthropic", "claude-sonnet-4-5"), target("vertex", claude)),
        ("gemini", target("gemini", "gemini-2.5-pro"), target("vertex", "gemini-2.5-pro")),
        ("back", target("vertex", claude), target("anthropic", "claude-sonnet-4-5")),
    ] {
        let chain = json!({"strategy": "priority_fallback", "triggers": {},
            "chain": {"selector": selector, "candidates": [candidate]}});
        policies::make(&setup.app.admin(), ("model_fallback", name), &workspace, chain).await;
    }
    let upstream = &setup.team.upstream;
    let busy = || Script::json(503, &json!({}));
    let mut body = message();
    body.as_object_mut().unwrap().remove("anthropic_version");
    body["model"] = "claude-sonnet-4-5".into();
    upstream.push(busy());
    upstream.push(Script::json(200, &answered()));
    let asked = "/anthropic/v1/messages?beta=true";
    let answer = setup.team.caller().post_json(asked, &body).await.expect(200);
    assert_eq!(answer.json(), answered());
    let sent = upstream.last_request();
    assert!(sent.path().ends_with("/claude-sonnet-4-5@20250929:rawPredict"), "{}", sent.path());
    assert_eq!((sent.query(), sent.header("x-api-key")), (None, None));
    assert_eq!(sent.json(), message());
    setup.is_sent_with(0);

    // The first target cools down no more.
    setup.app.advance(Duration::from_secs(600));
    upstream.push(busy());
    upstream.push(Script::json(200, &answered()));
    let asked = format!("{CLAUDE}:rawPredict");
    setup.team.caller().post_json(&asked, &message()).await.expect(200);
    let sent = upstream.last_request();
    assert_eq!(sent.path(), "/anthropic/v1/messages");
    assert_eq!(sent.header("x-api-key"), Some("sk-ant-of-the-team"));
    assert_eq!(sent.json(), body);

    upstream.push(busy());
    upstream.push(generated());
    let asked = "/gemini/v1beta/models/gemini-2.5-pro:generateContent";
    setup.team.caller().post_json(asked, &question()).await.expect(200);
    let sent = upstream.last_request();
    assert!(sent.path().ends_with("/publishers/google/models/gemini-2.5-pro:generateContent"));
    assert_eq!(sent.header("x-goog-api-key"), None);
    setup.is_sent_with(0);
}
