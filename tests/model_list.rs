//! `GET /v1/models`: one list of all that the caller may use.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};
use std::time::Duration;

use serde_json::{Value, json};

use crate::proxy_routes::gateway_error;
use crate::support::{
    app::TestApp,
    case::{Case, cases},
    chain::Chain,
    database::Database,
    fixture::Fixture,
    http::{Answer, Request},
    ledger_rows, openai,
    policies::{self, crowd, rate_limit, refused},
    script::{Pause, Script},
    two_tenants::text,
    upstream::{RecordedRequest, ScriptedUpstream},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        all_that_the_caller_may_use_is_listed,
        each_client_gets_its_own_form,
        one_model_is_read_by_its_id,
        model_access_filters_the_list,
        aliases_are_listed_for_those_who_may_use_them,
        a_list_is_fetched_once_and_kept,
        an_old_list_is_shown_while_the_provider_is_away,
        a_list_without_end_is_not_read_to_it,
        the_list_needs_a_key_of_a_workspace,
        rate_limits_count_the_list,
    ]
}

const LIST: &str = "/v1/models";

/// The first part of Anthropic's list.
fn first_part() -> Value {
    json!({"data": [{"type": "model", "id": "claude-sonnet-4-5", "display_name": "Claude Sonnet 4.5",
        "created_at": "2025-09-29T00:00:00Z"}], "has_more": true, "last_id": "claude-sonnet-4-5"})
}

/// What the providers answer; OpenAI with this status, Groq never with a list.
fn answers(request: &RecordedRequest, openai_status: u16) -> Script {
    match (request.path(), request.query()) {
        ("/at-openai/v1/models", _) if openai_status == 200 => openai::models(&["gpt-4o", "o3"]),
        ("/at-anthropic/v1/models", Some("limit=1000")) => Script::json(200, &first_part()),
        ("/at-anthropic/v1/models", Some("limit=1000&after_id=claude-sonnet-4-5")) => Script::json(
            200,
            &json!({"data": [{"type": "model", "id": "claude-haiku-4-5"}], "has_more": false}),
        ),
        ("/at-gemini/v1beta/models", Some("pageSize=1000")) => Script::json(
            200,
            &json!({"models": [{"name": "models/gemini-2.5-pro", "displayName": "Gemini 2.5 Pro"}]}),
        ),
        _ => Script::json(openai_status.max(500), &json!({"error": "not now"})),
    }
}

/// A gateway whose built-in providers are at the test's upstream, a workspace with OpenAI's secret, and
/// the status that OpenAI answers with.
async fn start(database: &Database) -> (TestApp, Fixture, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let told = Arc::clone(&status);
    let respond = move |request: &RecordedRequest| answers(request, told.load(Ordering::SeqCst));
    let (app, team) = start_before(database, ScriptedUpstream::with(respond).await).await;
    (app, team, status)
}

async fn start_before(database: &Database, upstream: ScriptedUpstream) -> (TestApp, Fixture) {
    let origin = upstream.origin();
    let origins = ["openai", "anthropic", "gemini", "groq", "perplexity"]
        .map(|name| format!("{name}={origin}/at-{name}"))
        .join(",");
    let app = TestApp::with_stopped_clock(database, &["--provider-origin", &origins]).await;
    let team = Fixture::before(&app.admin(), app.address(), upstream).await;
    team.put_secret("OPENAI_API_KEY", "sk-openai-of-the-team").await;
    (app, team)
}

fn ids(list: &Value) -> Vec<&str> {
    list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect()
}

async fn list(team: &Fixture) -> Answer {
    team.caller().get(LIST).await.expect(200)
}

fn unavailable(answer: &Answer) -> Option<&str> {
    answer.header("x-tollgate-models-unavailable")
}

/// How many requests the upstream has got.
fn count(team: &Fixture) -> usize {
    team.upstream.seen().requests.len()
}

async fn all_that_the_caller_may_use_is_listed(database: Database) {
    let (app, team, _) = start(&database).await;
    team.put_secret("ANTHROPIC_API_KEY", "sk-ant-of-the-team").await;
    team.put_secret("GOOGLE_API_KEY", "google-of-the-team").await;
    team.put_secret("GROQ_API_KEY", "gsk-of-the-team").await;
    // Has no list that the gateway knows, and is not asked.
    team.put_secret("PERPLEXITY_API_KEY", "pplx-of-the-team").await;
    team.configure("a b/c", json!({"provider": "gemini", "model": null})).await;
    team.configure("off", json!({"enabled": false})).await;
    // What another workspace has is not listed.
    let other = app.workspace().await;
    other.configure("of another", json!({})).await;

    let answer = list(&team).await;
    let listed = answer.json();
    assert_eq!(listed["object"], "list");
    assert_eq!(
        ids(&listed),
        [
            "custom/main",
            "custom/a b/c",
            "anthropic/claude-sonnet-4-5",
            "anthropic/claude-haiku-4-5",
            "gemini/gemini-2.5-pro",
            "openai/gpt-4o",
            "openai/o3",
        ]
    );
    let at = |place: usize| &listed["data"][place];
    for (place, expected) in [
        (0, json!({"path": "/providers/main/v1"})),
        (1, json!({"path": "/providers/a%20b%2Fc/v1beta"})),
        (2, json!({"path": "/anthropic/v1", "model": "claude-sonnet-4-5"})),
        (4, json!({"path": "/gemini/v1beta", "model": "gemini-2.5-pro"})),
        (5, json!({"path": "/openai/v1", "model": "gpt-4o"})),
    ] {
        assert_eq!(at(place)["tollgate"], expected, "{listed}");
        assert_eq!(at(place)["object"], "model");
    }
    assert_eq!(
        (&at(5)["created"], &at(5)["owned_by"], &at(2)["created"], &at(4)["created"]),
        (&json!(1_700_000_000), &json!("openai"), &json!(1_759_104_000), &json!(0))
    );
    assert_eq!(unavailable(&answer), Some("groq"));
    assert_eq!(listed["tollgate"], json!({"unavailable": ["groq"]}));
    assert_eq!(
        ids(&other.caller().get(LIST).await.expect(200).json()),
        ["custom/main", "custom/of another"]
    );

    let requests = team.upstream.seen().requests;
    let sent = |path: &str| requests.iter().find(|request| request.path() == path).unwrap();
    assert_eq!(
        sent("/at-openai/v1/models").header("authorization"),
        Some("Bearer sk-openai-of-the-team")
    );
    let anthropic = sent("/at-anthropic/v1/models");
    assert_eq!(anthropic.header("x-api-key"), Some("sk-ant-of-the-team"));
    assert_eq!(anthropic.header("anthropic-version"), Some("2023-06-01"));
    assert!(requests.iter().all(|request| !request.path().contains("perplexity")));

    // Where the list says that a model is called, it is called, and only that is in the ledger.
    let path = format!("{}/chat/completions", text(&at(0)["tollgate"], "path"));
    team.caller().post_json(&path, &json!({"messages": []})).await;
    let rows = ledger_rows::rows_at_least(app.database(), 1).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
}

async fn each_client_gets_its_own_form(database: Database) {
    let (_app, team, _) = start(&database).await;
    let caller = team.caller();
    let versioned = |path: &str| Request::get(path).header("anthropic-version", "2023-06-01");
    let answer = caller.send(versioned("/v1/models?limit=1000")).await.expect(200).json();
    assert_eq!(ids(&answer), ["custom/main", "openai/gpt-4o", "openai/o3"]);
    assert_eq!(
        (&answer["has_more"], &answer["first_id"], &answer["last_id"]),
        (&json!(false), &json!("custom/main"), &json!("openai/o3"))
    );
    assert_eq!(
        answer["data"][1],
        json!({"type": "model", "id": "openai/gpt-4o", "display_name": "openai/gpt-4o",
            "created_at": "2023-11-14T22:13:20Z",
            "tollgate": {"path": "/openai/v1", "model": "gpt-4o"}})
    );
    let one = caller.send(versioned("/v1/models/openai/o3")).await.expect(200).json();
    assert_eq!((&one["type"], &one["id"]), (&json!("model"), &json!("openai/o3")));
    let error = caller.send(versioned("/v1/models/openai/none")).await.expect(404).json();
    assert_eq!(
        (&error["type"], &error["error"]["code"]),
        (&json!("error"), &json!("model_not_found"))
    );

    let codex = caller.get("/v1/models?client_version=0.99.0").await.expect(200).json();
    let slugs: Vec<&Value> =
        codex["models"].as_array().unwrap().iter().map(|one| &one["slug"]).collect();
    assert_eq!(slugs, ["custom/main", "openai/gpt-4o", "openai/o3"]);
    assert!(codex.get("data").is_none(), "{codex}");
}

async fn one_model_is_read_by_its_id(database: Database) {
    let (_app, team, status) = start(&database).await;
    team.configure("a b/c", json!({})).await;
    let caller = team.caller();
    for (path, id) in [
        ("/v1/models/custom/a%20b%2Fc", "custom/a b/c"),
        ("/v1/models/custom/a%20b/c", "custom/a b/c"),
        ("/v1/models/openai/gpt-4o", "openai/gpt-4o"),
        ("/v1/models/openai%2Fgpt-4o", "openai/gpt-4o"),
    ] {
        let one = caller.get(path).await.expect(200).json();
        assert_eq!((&one["id"], &one["object"]), (&json!(id), &json!("model")), "{path}");
    }
    // Only the list in which the model can be is read.
    assert_eq!(count(&team), 1);
    for path in
        ["/v1/models/custom/none", "/v1/models/gpt-4o", "/v1/models/groq/m", "/v1/models/a/b"]
    {
        gateway_error(&caller.get(path).await, 404, "model_not_found");
    }
    gateway_error(&caller.get("/v1/models/%FF").await, 400, "invalid_model_id");
    status.store(503, Ordering::SeqCst);
    team.put_secret("OPENAI_API_KEY", "sk-another-value").await;
    let away = caller.get("/v1/models/openai/gpt-4o").await;
    gateway_error(&away, 503, "models_unavailable");
    assert!(away.header("retry-after").is_some());
}

async fn model_access_filters_the_list(database: Database) {
    let (app, team, _) = start(&database).await;
    let workspace = [("workspace_id", team.workspace_id.as_str())];
    let allowed = json!({"providers": [{"provider": "openai", "models": ["o3"]}]});
    policies::make(&app.admin(), ("model_access", "o3 only"), &workspace, allowed).await;
    assert_eq!(ids(&list(&team).await.json()), ["openai/o3"]);
    gateway_error(&team.caller().get("/v1/models/openai/gpt-4o").await, 404, "model_not_found");
    // A key may see more than others do.
    let (key_id, key) = team.key("GATEWAY_CALLER").await;
    let matchers = [("api_key_id", key_id.as_str())];
    let allowed = json!({"providers": [{"provider": "openai", "models": "all"},
        {"provider": "model_configuration", "models": ["main"]}]});
    policies::make(&app.admin(), ("model_access", "more"), &matchers, allowed).await;
    let listed = app.as_key(&key).get(LIST).await.expect(200).json();
    assert_eq!(ids(&listed), ["custom/main", "openai/gpt-4o", "openai/o3"]);
    assert_eq!(ids(&list(&team).await.json()), ["openai/o3"]);
    // The providers were asked once: the lists are the workspace's, the filter the key's.
    assert_eq!(count(&team), 1);
}

async fn aliases_are_listed_for_those_who_may_use_them(database: Database) {
    let chain = Chain::start(&database).await;
    let alias = |name: &str| json!({"type": "alias", "alias": name});
    chain.save("all", json!({}), alias("smart"), json!([chain.target(1)])).await.expect(201);
    let gone = json!([{"type": "provider_model", "provider": "groq", "model": "m"}]);
    chain.save("without a secret", json!({}), alias("secretless"), gone).await.expect(201);
    let (key_id, key) = chain.team.key("GATEWAY_CALLER").await;
    let mut narrowed = chain.policy("one key", json!({}), alias("mine"), json!([chain.target(0)]));
    let matcher = json!({"key": "api_key_id", "value": key_id});
    narrowed["subject_matchers"].as_array_mut().unwrap().push(matcher);
    chain.app.admin().post_json(policies::POLICIES, &narrowed).await.expect(201);

    let names = ["custom/main", "custom/second", "custom/third"];
    let listed = list(&chain.team).await.json();
    assert_eq!(ids(&listed), [&names[..], &["smart"]].concat());
    assert_eq!(listed["data"][3]["tollgate"], json!({"path": "/openai/v1", "model": "smart"}));
    let own = chain.app.as_key(&key).get(LIST).await.expect(200).json();
    let mut own = ids(&own);
    own.sort_unstable();
    assert_eq!(own, [&names[..], &["mine", "smart"]].concat());
    chain.team.caller().get("/v1/models/smart").await.expect(200);
    gateway_error(&chain.team.caller().get("/v1/models/mine").await, 404, "model_not_found");

    // Where the list says that it is called, it is called.
    chain.others[0].push(crate::support::chain::good());
    let body = json!({"model": "smart", "messages": [{"role": "user", "content": "Hi"}]});
    chain.team.caller().post_json("/openai/v1/chat/completions", &body).await.expect(200);
}

async fn a_list_is_fetched_once_and_kept(database: Database) {
    let pause = Pause::new();
    let waiting = pause.clone();
    let upstream = ScriptedUpstream::with(move |_: &RecordedRequest| {
        Script::new().wait(&waiting).and(openai::models(&["m"]))
    });
    let (app, team) = start_before(&database, upstream.await).await;
    let release = async {
        team.upstream.request(0).await;
        pause.release_all();
    };
    let (callers, request) = ([team.caller()], Request::get(LIST));
    let (answers, ()) = tokio::join!(crowd(&callers, &request, 20), release);
    for answer in answers {
        assert_eq!(ids(&answer.expect(200).json()), ["custom/main", "openai/m"]);
    }
    app.advance(Duration::from_secs(299));
    list(&team).await;
    assert_eq!(count(&team), 1);
    app.advance(Duration::from_secs(2));
    list(&team).await;
    assert_eq!(count(&team), 2);
    // Another value may see other models.
    team.put_secret("OPENAI_API_KEY", "sk-another-value").await;
    list(&team).await;
    assert_eq!(count(&team), 3);
    let sent = team.upstream.last_request();
    assert_eq!(sent.header("authorization"), Some("Bearer sk-another-value"));
    // Without the secret there is nothing to list.
    app.admin().delete(&team.path("secrets/OPENAI_API_KEY")).await.success();
    assert_eq!(ids(&list(&team).await.json()), ["custom/main"]);
}

async fn an_old_list_is_shown_while_the_provider_is_away(database: Database) {
    let (app, team, status) = start(&database).await;
    let all = ["custom/main", "openai/gpt-4o", "openai/o3"];
    assert_eq!(ids(&list(&team).await.json()), all);
    status.store(503, Ordering::SeqCst);
    app.advance(Duration::from_secs(301));
    for _ in 0..2 {
        let answer = list(&team).await;
        assert_eq!((ids(&answer.json()), unavailable(&answer)), (all.to_vec(), Some("openai")));
    }
    // A provider that has failed is not asked again at once.
    assert_eq!(count(&team), 2);
    app.advance(Duration::from_secs(3600));
    let answer = list(&team).await;
    assert_eq!((ids(&answer.json()), unavailable(&answer)), (vec!["custom/main"], Some("openai")));
    assert_eq!(count(&team), 3);
    status.store(200, Ordering::SeqCst);
    app.advance(Duration::from_secs(31));
    let answer = list(&team).await;
    assert_eq!((ids(&answer.json()), unavailable(&answer)), (all.to_vec(), None));
}

async fn a_list_without_end_is_not_read_to_it(database: Database) {
    let upstream = ScriptedUpstream::with(|request: &RecordedRequest| match request.path() {
        "/at-openai/v1/models" => {
            Script::new().chunked_head(200, &[]).chunk("[").repeat(vec![b' '; 64 * 1024], 65).end()
        }
        _ => Script::json(200, &first_part()),
    });
    let (_app, team) = start_before(&database, upstream.await).await;
    team.put_secret("ANTHROPIC_API_KEY", "sk-ant-of-the-team").await;
    let answer = list(&team).await;
    assert_eq!(unavailable(&answer), Some("openai"));
    assert_eq!(ids(&answer.json()).len(), 1 + 10, "{}", answer.text());
    let pages = team.upstream.seen().requests;
    assert_eq!(pages.iter().filter(|one| one.path().contains("anthropic")).count(), 10);
}

async fn the_list_needs_a_key_of_a_workspace(database: Database) {
    let (app, team, _) = start(&database).await;
    gateway_error(&app.anonymous().get(LIST).await, 401, "missing_api_key");
    gateway_error(&app.admin().get(LIST).await, 403, "workspace_key_required");
    let (_, viewer) = team.key("WORKSPACE_VIEWER").await;
    gateway_error(&app.as_key(&viewer).get(LIST).await, 403, "permission_denied");
    gateway_error(&team.caller().post_json(LIST, &json!({})).await, 501, "not_served");
    gateway_error(&team.caller().get("/v1/models?key=tg_x").await, 400, "credential_in_query");
    assert_eq!(count(&team), 0);
    team.caller().get("/v1/models/").await.expect(200);
    // Neighbours keep their form.
    assert_eq!(team.caller().get("/v1/other").await.status, 404);
}

async fn rate_limits_count_the_list(database: Database) {
    let (app, team, _) = start(&database).await;
    let workspace = [("workspace_id", team.workspace_id.as_str())];
    rate_limit(&app.admin(), "two", &workspace, &[("requests", "minute", 2)]).await;
    let answer = list(&team).await;
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("1"));
    list(&team).await;
    refused(&team.caller().get(LIST).await, 429, "rate_limit_exceeded", "two");
}
