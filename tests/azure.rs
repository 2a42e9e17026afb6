//! Azure AI Foundry under its own name: both forms of its paths, its key, and Microsoft Entra's tokens.

use std::time::Duration;

use serde_json::{Value, json};
use url::form_urlencoded;

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::{Answer, Request},
    ledger_rows::last_row,
    openai::{self, Usage},
    policies,
    script::Script,
    token_endpoint::token_endpoint,
    upstream::ScriptedUpstream,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        listed_endpoints_are_passed_through,
        a_key_and_a_resource_are_the_whole_setup,
        the_older_form_names_its_deployment_in_the_path,
        claude_is_called_in_anthropics_format,
        what_is_missing_or_wrong_is_named,
        without_a_key_an_application_gets_tokens,
        azure_is_a_target_of_chains,
        a_deployment_stands_for_a_model,
        only_the_organization_says_what_a_deployment_is,
    ]
}

const KEY: &str = "azure-key-of-the-team";

pub(crate) struct Setup {
    app: TestApp,
    pub(crate) team: Fixture,
    entra: ScriptedUpstream,
    /// What all tokens begin with; the first ends in `-0`.
    tokens: String,
}

impl Setup {
    async fn start(database: &Database) -> Self {
        let (entra, tokens) = token_endpoint(json!(3600)).await;
        let upstream = ScriptedUpstream::start().await;
        let origin = upstream.origin();
        let origins =
            format!("azure={origin},entra=http://{}/e,openai={origin}/o", entra.address());
        let app = TestApp::with_stopped_clock(database, &["--provider-origin", &origins]).await;
        let team = Fixture::before(&app.admin(), app.address(), upstream).await;
        Self { app, team, entra, tokens }
    }

    pub(crate) async fn start_with_key(database: &Database) -> Self {
        let setup = Self::start(database).await;
        setup.team.put_secret("AZURE_FOUNDRY_API_KEY", KEY).await;
        setup.team.put_secret("AZURE_FOUNDRY_RESOURCE_NAME", "my-resource").await;
        setup
    }

    pub(crate) async fn ask(&self, path: &str, body: &Value) -> Answer {
        self.team.caller().post_json(path, body).await
    }
}

pub(crate) fn question(model: &str) -> Value {
    json!({"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]})
}

const CHAT: &str = "/azure/openai/v1/chat/completions";

fn answer() -> Script {
    openai::chat_completion("Hi", Usage { prompt: 10, completion: 7, cached: 0, reasoning: 0 })
}

#[track_caller]
fn is_error(answer: &Answer, status: u16, code: &str) -> String {
    let body = answer.json();
    assert_eq!((answer.status, &body["error"]["code"]), (status, &json!(code)), "{body}");
    body["error"]["message"].as_str().unwrap().to_owned()
}

async fn listed_endpoints_are_passed_through(database: Database) {
    let setup = Setup::start_with_key(&database).await;
    let endpoints = json!({"unmetered_endpoints": [
        {"method": "POST", "path": "/openai/v1/files"},
        {"method": "GET", "path": "/anthropic/v1/files/*"}]});
    let settings = "/api/v1/provider-settings/azure";
    setup.app.admin().put(settings, &endpoints).await.expect(200);
    setup.team.upstream.push(Script::json(200, &json!({"id": "file-1"})));
    setup.ask("/azure/openai/v1/files", &json!({})).await.expect(200);
    let sent = setup.team.upstream.last_request();
    assert_eq!((sent.path(), sent.header("api-key")), ("/openai/v1/files", Some(KEY)));
    setup.team.upstream.push(Script::json(200, &json!({"id": "file-1"})));
    setup.team.caller().get("/azure/anthropic/v1/files/file-1").await.expect(200);
    let sent = setup.team.upstream.last_request();
    assert_eq!((sent.path(), sent.header("x-api-key")), ("/anthropic/v1/files/file-1", Some(KEY)));
    let other = setup.ask("/azure/openai/v1/batches", &json!({})).await;
    is_error(&other, 501, "unmetered_not_allowed");
    let administration = json!({"unmetered_endpoints": [
        {"method": "GET", "path": "/openai/v1/organization/**"}]});
    setup.app.admin().put(settings, &administration).await.expect(422);
}

async fn a_key_and_a_resource_are_the_whole_setup(database: Database) {
    let setup = Setup::start_with_key(&database).await;
    let price = json!({"provider": "azure", "model": "my-gpt", "price": {"input": 1, "output": 2}});
    setup.app.admin().post_json("/api/v1/model-prices", &price).await.expect(201);
    setup.team.upstream.push(answer());
    setup.ask(CHAT, &question("my-gpt")).await.expect(200);
    let sent = setup.team.upstream.last_request();
    assert_eq!(sent.path(), "/openai/v1/chat/completions");
    assert_eq!((sent.header("api-key"), sent.header("authorization")), (Some(KEY), None));
    assert_eq!(sent.body, question("my-gpt").to_string());
    let row = last_row(&setup.app, 1).await;
    assert_eq!(row.cost, Some(10 * 1_000 + 7 * 2_000), "{row:?}");
    for (path, upstream_path) in [
        ("/azure/openai/v1/responses?api-version=preview", "/openai/v1/responses"),
        ("/azure/openai/embeddings", "/openai/v1/embeddings"),
    ] {
        setup.team.upstream.push(Script::json(200, &json!({"usage": {"prompt_tokens": 1}})));
        setup.ask(path, &json!({"model": "other", "input": "Hello"})).await.expect(200);
        assert_eq!(setup.team.upstream.last_request().path(), upstream_path);
    }
    // The name of a deployment tells no price.
    let row = last_row(&setup.app, 3).await;
    assert_eq!((row.configuration.as_str(), row.cost), ("azure", None), "{row:?}");
}

async fn the_older_form_names_its_deployment_in_the_path(database: Database) {
    let setup = Setup::start_with_key(&database).await;
    let path = "/azure/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21";
    let body = json!({"max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]});
    for body in [body, question("my-gpt")] {
        setup.team.upstream.push(answer());
        // As Azure's SDK sends it, with the gateway's key where its own would be.
        let asked = Request::post_json(path, &body).header("api-key", &setup.team.caller_key);
        setup.app.anonymous().send(asked).await.expect(200);
        let sent = setup.team.upstream.last_request();
        assert_eq!(sent.header("api-key"), Some(KEY));
        assert_eq!(sent.path(), "/openai/deployments/my-gpt/chat/completions");
        assert_eq!(sent.query(), Some("api-version=2024-10-21"));
        assert_eq!(sent.json(), body);
    }
    is_error(&setup.ask(path, &question("another")).await, 400, "model_mismatch");
    let workspace = [("workspace_id", setup.team.workspace_id.as_str())];
    let allowed = json!({"providers": [{"provider": "azure", "models": ["another"]}]});
    policies::make(&setup.app.admin(), ("model_access", "one"), &workspace, allowed).await;
    is_error(&setup.ask(path, &question("my-gpt")).await, 403, "model_access_denied");
    for (path, code) in [
        ("/azure/openai/deployments/my-gpt/images/generations", "unmetered_not_allowed"),
        ("/azure/openai/deployments/..%2Fx/files", "not_served"),
        ("/azure/v1/chat/completions", "not_served"),
    ] {
        is_error(&setup.ask(path, &question("my-gpt")).await, 501, code);
    }
    let climbing = "/azure/openai/deployments/..%2Fx/chat/completions";
    assert_eq!(setup.ask(climbing, &question("x")).await.status, 400);
    assert_eq!(setup.team.upstream.seen().requests.len(), 2);
}

async fn claude_is_called_in_anthropics_format(database: Database) {
    let setup = Setup::start_with_key(&database).await;
    let answered = json!({"type": "message", "content": [{"type": "text", "text": "Hi"}],
        "usage": {"input_tokens": 10, "output_tokens": 7}});
    setup.team.upstream.push(Script::json(200, &answered));
    setup.ask("/azure/anthropic/v1/messages", &question("my-claude")).await.expect(200);
    let sent = setup.team.upstream.last_request();
    assert_eq!(sent.path(), "/anthropic/v1/messages");
    for (name, value) in [
        ("x-api-key", Some(KEY)),
        ("api-key", None),
        ("authorization", None),
        ("anthropic-version", Some("2023-06-01")),
    ] {
        assert_eq!(sent.header(name), value, "{name}");
    }
    let row = last_row(&setup.app, 1).await;
    assert_eq!((row.input_tokens, row.output_tokens), (Some(10), Some(7)), "{row:?}");
    setup.team.upstream.push(Script::json(200, &json!({"input_tokens": 9})));
    let count = "/azure/anthropic/v1/messages/count_tokens";
    setup.ask(count, &question("my-claude")).await.expect(200);
    assert_eq!(last_row(&setup.app, 2).await.cost, Some(0));
}

async fn what_is_missing_or_wrong_is_named(database: Database) {
    let setup = Setup::start(&database).await;
    let ask = async || setup.ask(CHAT, &question("m")).await;
    let message = is_error(&ask().await, 400, "provider_secret_missing");
    assert!(message.contains("'AZURE_FOUNDRY_API_KEY'"), "{message}");
    setup.team.put_secret("AZURE_FOUNDRY_API_KEY", KEY).await;
    let message = is_error(&ask().await, 400, "provider_secret_missing");
    assert!(message.contains("'AZURE_FOUNDRY_RESOURCE_NAME'"), "{message}");
    for wrong in ["evil.example/", "a", "My-Resource", "a@b"] {
        setup.team.put_secret("AZURE_FOUNDRY_RESOURCE_NAME", wrong).await;
        let message = is_error(&ask().await, 503, "secret_unavailable");
        assert!(message.contains("'AZURE_FOUNDRY_RESOURCE_NAME'"), "{message}");
    }
    setup.team.put_secret("AZURE_FOUNDRY_RESOURCE_NAME", "my-resource").await;
    setup.team.upstream.push(Script::json(401, &json!({"error": {"message": "no"}})));
    let message = is_error(&ask().await, 502, "provider_credential_refused");
    assert!(message.contains("'AZURE_FOUNDRY_API_KEY'"), "{message}");
}

async fn without_a_key_an_application_gets_tokens(database: Database) {
    let setup = Setup::start(&database).await;
    for (name, value) in [
        ("AZURE_FOUNDRY_RESOURCE_NAME", "my-resource"),
        ("AZURE_TENANT_ID", "11111111-2222-4333-8444-555555555555"),
        ("AZURE_CLIENT_ID", "66666666-7777-4888-8999-000000000000"),
        ("AZURE_CLIENT_SECRET", "client-secret~of.the_team"),
    ] {
        setup.team.put_secret(name, value).await;
    }
    for path in [CHAT, "/azure/anthropic/v1/messages"] {
        setup.team.upstream.push(answer());
        setup.ask(path, &question("my-model")).await.expect(200);
        let sent = setup.team.upstream.last_request();
        let bearer = format!("Bearer {}-0", setup.tokens);
        assert_eq!(sent.header("authorization"), Some(bearer.as_str()));
        assert_eq!((sent.header("api-key"), sent.header("x-api-key")), (None, None));
    }
    let request = setup.entra.last_request();
    assert_eq!(request.target, "/e/11111111-2222-4333-8444-555555555555/oauth2/v2.0/token");
    let form: Vec<(String, String)> = form_urlencoded::parse(&request.body).into_owned().collect();
    let expected = [
        ("grant_type", "client_credentials"),
        ("scope", "https://cognitiveservices.azure.com/.default"),
        ("client_id", "66666666-7777-4888-8999-000000000000"),
        ("client_secret", "client-secret~of.the_team"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(form, expected);
    setup.team.put_secret("AZURE_CLIENT_SECRET", "rotated-secret").await;
    setup.team.put_secret("AZURE_TENANT_ID", "../../evil").await;
    let message = is_error(&setup.ask(CHAT, &question("m")).await, 503, "secret_unavailable");
    assert!(message.contains("'AZURE_TENANT_ID'"), "{message}");
    assert_eq!(setup.entra.seen().requests.len(), 1);
    // A key wins.
    setup.team.put_secret("AZURE_FOUNDRY_API_KEY", KEY).await;
    setup.team.upstream.push(answer());
    setup.ask(CHAT, &question("m")).await.expect(200);
    assert_eq!(setup.team.upstream.last_request().header("api-key"), Some(KEY));
}

async fn azure_is_a_target_of_chains(database: Database) {
    let setup = Setup::start_with_key(&database).await;
    setup.team.put_secret("OPENAI_API_KEY", "sk-of-the-team").await;
    let target = |provider: &str, model: &str| json!({"type": "provider_model", "provider": provider, "model": model});
    let workspace = [("workspace_id", setup.team.workspace_id.as_str())];
    for (name, selector, candidate) in [
        ("there", target("openai", "gpt-4o"), target("azure", "my-gpt")),
        ("back", target("azure", "my-gpt"), target("openai", "gpt-4o")),
    ] {
        let chain = json!({"strategy": "priority_fallback", "triggers": {},
            "chain": {"selector": selector, "candidates": [candidate]}});
        policies::make(&setup.app.admin(), ("model_fallback", name), &workspace, chain).await;
    }
    let upstream = &setup.team.upstream;
    upstream.push(openai::error(503, "server_error", "busy", "Not now."));
    upstream.push(answer());
    setup.ask("/openai/v1/chat/completions", &question("gpt-4o")).await.expect(200);
    let sent = upstream.last_request();
    assert_eq!((sent.path(), sent.header("api-key")), ("/openai/v1/chat/completions", Some(KEY)));
    assert_eq!(sent.json(), question("my-gpt"));

    // The first target cools down no more.
    setup.app.advance(Duration::from_secs(600));
    upstream.push(openai::error(503, "server_error", "busy", "Not now."));
    upstream.push(answer());
    let path = "/azure/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21";
    let mut body = question("my-gpt");
    body.as_object_mut().unwrap().remove("model");
    let answer = setup.ask(path, &body).await.expect(200);
    assert_eq!(answer.header("x-tollgate-served-by"), Some("openai/gpt-4o"));
    let sent = upstream.last_request();
    assert_eq!((sent.path(), sent.query()), ("/o/v1/chat/completions", None));
    assert_eq!(sent.json()["model"], "gpt-4o");
}

async fn a_deployment_stands_for_a_model(database: Database) {
    let setup = Setup::start_with_key(&database).await;
    let admin = setup.app.admin();
    let price =
        json!({"provider": "azure", "model": "house-model", "price": {"input": 1, "output": 2}});
    admin.post_json("/api/v1/model-prices", &price).await.expect(201);
    let workspace = [("workspace_id", setup.team.workspace_id.as_str())];
    let allowed = json!({"providers": [{"provider": "azure", "models": ["house-model"]}]});
    policies::make(&admin, ("model_access", "one"), &workspace, allowed).await;
    let cap = policies::spend_cap(&admin, "cap", &workspace, ("monthly", 1_000_000)).await;
    let older = "/azure/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21";
    is_error(&setup.ask(CHAT, &question("my gpt")).await, 403, "model_access_denied");

    let settings = "/api/v1/provider-settings/azure";
    let models = json!({"models": {"my gpt": "house-model"}});
    let shown = admin.put(settings, &models).await.expect(200).json();
    assert_eq!(shown["models"], models["models"]);
    for path in [CHAT, older] {
        setup.team.upstream.push(answer());
        setup.ask(path, &question("my gpt")).await.expect(200);
        assert_eq!(setup.team.upstream.last_request().body, question("my gpt").to_string());
    }
    let sent = setup.team.upstream.last_request();
    assert_eq!(sent.path(), "/openai/deployments/my%20gpt/chat/completions");
    let row = last_row(&setup.app, 3).await;
    assert_eq!(row.cost, Some(10 * 1_000 + 7 * 2_000), "{row:?}");
    policies::has_spent(&admin, &cap, 2 * 24_000).await;
    let row = admin.get(&setup.team.path("requests")).await.expect(200).json()["data"][0].clone();
    let names = (&row["model_asked"], &row["model"]);
    assert_eq!(names, (&json!("my gpt"), &json!("house-model")), "{row}");
    // 50 tokens of output are 100,000 nano-dollars.
    let small = json!({"config": {"window": "monthly", "limit_usd": 0.0001}});
    let cap = format!("{}/{}", policies::POLICIES, cap["id"].as_str().unwrap());
    admin.patch(&cap, &small).await.expect(200);
    is_error(&setup.ask(older, &question("my gpt")).await, 402, "spend_cap_exceeded");
    // A change holds for the next request.
    admin.put(settings, &json!({"models": {"my gpt": "dear-model"}})).await.expect(200);
    is_error(&setup.ask(older, &question("my gpt")).await, 403, "model_access_denied");
    assert_eq!(setup.team.upstream.seen().requests.len(), 2);
}

async fn only_the_organization_says_what_a_deployment_is(database: Database) {
    let setup = Setup::start_with_key(&database).await;
    let admin = setup.app.admin();
    let own = setup.team.path("provider-settings/azure");
    let (_, key) = setup.team.key("WORKSPACE_ADMIN").await;
    let workspace_key = setup.app.as_key(&key);
    let models = json!({"models": {"my-gpt": "cheap-model"}});
    let refused = workspace_key.put(&own, &models).await.expect(403);
    assert_eq!(refused.json()["code"], "permission_denied", "{}", refused.text());
    admin.put(&own, &models).await.expect(200);
    // What was set stays, and other fields may be changed.
    let more = json!({"models": {"my-gpt": "cheap-model"}, "extra_headers": {"x-team": "blue"}});
    workspace_key.put(&own, &more).await.expect(200);
    workspace_key.put(&own, &json!({"extra_headers": {"x-team": "blue"}})).await.expect(403);
    workspace_key.delete(&own).await.expect(403);
    // The workspace's come before its organization's.
    let price =
        json!({"provider": "azure", "model": "cheap-model", "price": {"input": 1, "output": 2}});
    admin.post_json("/api/v1/model-prices", &price).await.expect(201);
    let models = json!({"models": {"my-gpt": "dear-model", "other": "cheap-model"}});
    admin.put("/api/v1/provider-settings/azure", &models).await.expect(200);
    for (number, deployment) in ["my-gpt", "other"].into_iter().enumerate() {
        setup.team.upstream.push(answer());
        setup.ask(CHAT, &question(deployment)).await.expect(200);
        let row = last_row(&setup.app, number + 1).await;
        assert_eq!(row.cost, Some(10 * 1_000 + 7 * 2_000), "{row:?}");
    }
    // The audit log has the change.
    let events = admin.get("/api/v1/audit-log?limit=200").await.expect(200).json();
    let mut events = events["data"].as_array().unwrap().iter();
    let is_set = |event: &&Value| event["after"]["models"]["my-gpt"] == "dear-model";
    assert_eq!(events.find(is_set).unwrap()["operation"], "put_provider_settings");
}
