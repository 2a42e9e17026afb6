//! `/v1/chat/completions`, `/v1/messages` and `/v1/responses`: models of any provider by their ids, and
//! requests that stay in their format.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::built_in_providers::is_error;
use crate::support::{
    app::TestApp,
    case::{Case, cases},
    chain::Chain,
    database::Database,
    fixture::Fixture,
    http::Request,
    ledger_rows::rows_at_least,
    openai,
    policies::{make, spend_cap},
    script::Script,
    upstream::{RecordedRequest, ScriptedUpstream},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_model_is_found_by_its_id,
        a_request_in_the_providers_format_stays_as_it_is,
        aliases_and_chains_are_models,
        bare_ids_are_those_of_one_provider,
        ids_that_lead_nowhere_are_told,
        tokens_are_counted_where_the_provider_counts_them,
        access_and_caps_see_the_resolved_target,
        another_workspaces_models_are_not_found,
    ]
}

/// A gateway whose built-in providers are at the test's upstream, which lists these models.
pub(crate) async fn start(database: &Database) -> (TestApp, Fixture) {
    let (app, team, _) = start_with_lists(database).await;
    (app, team)
}

/// The same, with the number of lists that were asked for.
async fn start_with_lists(database: &Database) -> (TestApp, Fixture, Arc<AtomicUsize>) {
    let lists = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&lists);
    let respond = move |request: &RecordedRequest| {
        let listed = |ids: &[&str]| {
            counted.fetch_add(1, Ordering::SeqCst);
            openai::models(ids)
        };
        match (request.method.as_str(), request.path()) {
            ("GET", "/at-openai/v1/models") => listed(&["gpt-5", "twice", "open/model"]),
            ("GET", "/at-groq/openai/v1/models") => listed(&["llama-4", "twice"]),
            ("GET", _) => Script::json(500, &json!({"error": "not now"})),
            (_, path) => {
                let after_origin = path.find("/v1/").unwrap_or_default();
                let target = path[after_origin..].to_owned();
                openai::answer(&RecordedRequest { target, ..request.clone() })
            }
        }
    };
    let upstream = ScriptedUpstream::with(respond).await;
    let origin = upstream.origin();
    let origins = ["openai", "anthropic", "groq", "gemini", "mistral"]
        .map(|name| format!("{name}={origin}/at-{name}"))
        .join(",");
    let app = TestApp::with_stopped_clock(database, &["--provider-origin", &origins]).await;
    let team = Fixture::before(&app.admin(), app.address(), upstream).await;
    for name in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY"] {
        team.put_secret(name, &format!("sk-{}-of-the-team", name.to_lowercase())).await;
    }
    (app, team, lists)
}

pub(crate) fn chat(model: &str) -> Request {
    let messages = json!([{"role": "user", "content": "Good morning?"}]);
    let body = json!({"model": model, "max_tokens": 50, "messages": messages});
    Request::post_json("/v1/chat/completions", &body)
}

fn model_sent(team: &Fixture) -> (String, Value) {
    let sent = team.upstream.last_request();
    (sent.path().to_owned(), sent.json()["model"].clone())
}

async fn a_model_is_found_by_its_id(database: Database) {
    let (app, team) = start(&database).await;
    let open = json!({"model": null});
    team.configure("open", open.clone()).await;
    team.configure("with/slash", json!({"model": "slashed"})).await;
    let chat_path = "/v1/chat/completions";
    let ids = [
        ("openai/gpt-5", "/at-openai/v1/chat/completions", "gpt-5", "openai"),
        ("groq/a/b", "/at-groq/openai/v1/chat/completions", "a/b", "groq"),
        ("custom/main", chat_path, Fixture::MODEL, "main"),
        ("custom/open/any/model", chat_path, "any/model", "open"),
        ("custom/with/slash", chat_path, "slashed", "with/slash"),
    ];
    for (place, (id, path, model, upstream)) in ids.into_iter().enumerate() {
        let answer = team.caller().send(chat(id)).await.expect(200);
        assert_eq!(answer.json()["object"], "chat.completion", "{id}");
        assert_eq!(model_sent(&team), (path.to_owned(), json!(model)), "{id}");
        let rows = rows_at_least(app.database(), place + 1).await;
        assert_eq!((rows.len(), &*rows[place].configuration), (place + 1, upstream), "{id}");
    }
    // The path may end in a slash; a stream is one.
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let body = json!({"model": "openai/gpt-5", "stream": true, "messages": messages});
    let answer = team.caller().post_json("/v1/chat/completions/", &body).await.expect(200);
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
}

async fn a_request_in_the_providers_format_stays_as_it_is(database: Database) {
    let (_app, team) = start(&database).await;
    // Byte for byte, but for the model: the order of keys, numbers, and fields that nobody knows.
    let body = r#"{"zeta":1.50, "model" : "openai/gpt-5","messages":[ {"role":"user","content":"\u0048i"}],"new_field":{"b":1,"a":2}}"#;
    let request = Request::new("POST", "/v1/chat/completions?a=b")
        .header("content-type", "application/json")
        .body(body);
    team.caller().send(request).await.expect(200);
    let sent = team.upstream.last_request();
    assert_eq!(sent.query(), Some("a=b"));
    let expected = body.replace("\"openai/gpt-5\"", "\"gpt-5\"");
    assert_eq!(String::from_utf8_lossy(&sent.body), expected);

    let body = json!({"model": "openai/gpt-5", "input": "Hi", "store": true, "previous_response_id": "resp_1"});
    let answer = team.caller().post_json("/v1/responses", &body).await.expect(200);
    assert_eq!(answer.json()["object"], "response");
    let mut expected = body;
    expected["model"] = "gpt-5".into();
    assert_eq!(team.upstream.last_request().json(), expected);

    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x",
        "content": [{"type": "text", "text": "Hello."}, {"type": "new_block", "x": 1}],
        "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 10, "output_tokens": 5}});
    team.upstream.push(Script::json(200, &message));
    let asked = json!({"model": "anthropic/claude-x", "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hi"}], "context_management": {"edits": []}});
    let request = Request::post_json("/v1/messages?beta=true", &asked)
        .header("anthropic-beta", "context-management-2025-06-27");
    let answer = team.caller().send(request).await.expect(200);
    assert_eq!(answer.json(), message);
    let sent = team.upstream.last_request();
    assert_eq!((sent.path(), sent.query()), ("/at-anthropic/v1/messages", Some("beta=true")));
    assert_eq!(sent.header("anthropic-beta"), Some("context-management-2025-06-27"));
    let mut expected = asked;
    expected["model"] = "claude-x".into();
    assert_eq!(sent.json(), expected);
}

async fn aliases_and_chains_are_models(database: Database) {
    let chain = Chain::start(&database).await;
    let alias = json!({"type": "alias", "alias": "smart"});
    let targets = json!([chain.target(0), chain.target(1)]);
    chain.save("smart", json!({"status_codes": [500]}), alias, targets).await.expect(201);
    chain.team.upstream.push(Script::json(500, &json!({"error": {"message": "down"}})));
    let answer = chain.team.caller().send(chat("smart")).await.expect(200);
    assert_eq!(answer.header("x-tollgate-served-by"), Some("custom/second"));
    assert_eq!(answer.header("x-tollgate-attempts"), Some("2"));
    assert_eq!(chain.others[0].last_request().json()["model"], "second-model");

    // So has a model a chain of its own on this path, too.
    let selector = json!({"type": "model_config", "model_config_id": chain.ids[2]});
    chain.save("third", json!({}), selector, json!([chain.target(1)])).await.expect(201);
    chain.others[1].push(Script::json(503, &json!({"error": {"message": "down"}})));
    let answer = chain.team.caller().send(chat("custom/third")).await.expect(200);
    assert_eq!(answer.header("x-tollgate-served-by"), Some("custom/second"));
    chain.others[1].push(Script::json(503, &json!({"error": {"message": "down"}})));
    let alone = chat("custom/third").header("x-tollgate-fallback", "off");
    assert_eq!(chain.team.caller().send(alone).await.status, 503);
}

async fn bare_ids_are_those_of_one_provider(database: Database) {
    let (_app, team, lists) = start_with_lists(&database).await;
    for (id, path) in [
        ("gpt-5", "/at-openai/v1/chat/completions"),
        ("llama-4", "/at-groq/openai/v1/chat/completions"),
        ("open/model", "/at-openai/v1/chat/completions"),
    ] {
        // Anthropic's list can't be read here, which changes nothing where another one has the model.
        team.caller().send(chat(id)).await.expect(200);
        assert_eq!(model_sent(&team), (path.to_owned(), json!(id)));
    }
    // The lists are kept.
    assert_eq!(lists.load(Ordering::SeqCst), 2);
    let answer = team.caller().send(chat("twice")).await;
    let message = is_error(&answer, 400, "model_ambiguous");
    assert!(message.contains("groq/twice or openai/twice"), "{message}");
    assert_eq!(answer.json()["error"]["param"], "model");
    // It may be Anthropic's, whose list is not there.
    let message = is_error(&team.caller().send(chat("nobodys")).await, 503, "models_unavailable");
    assert!(message.contains("anthropic"), "{message}");
}

async fn ids_that_lead_nowhere_are_told(database: Database) {
    let (app, team) = start(&database).await;
    for (id, status, code) in [
        ("custom/none", 404, "model_not_found"),
        ("custom/main/other", 404, "model_not_found"),
        ("custom/", 404, "model_not_found"),
        ("openai/", 404, "model_not_found"),
        ("mistral/large", 400, "provider_secret_missing"),
    ] {
        is_error(&team.caller().send(chat(id)).await, status, code);
    }
    let off = team.configure("off", json!({"enabled": false})).await;
    assert!(!off.is_empty());
    is_error(&team.caller().send(chat("custom/off")).await, 404, "configuration_disabled");
    let without = json!({"messages": []});
    let answer = team.caller().post_json("/v1/chat/completions", &without).await;
    is_error(&answer, 400, "model_missing");
    // In the form that callers of the format expect.
    let unknown = json!({"model": "custom/none", "max_tokens": 1, "messages": []});
    let answer = team.caller().post_json("/v1/messages", &unknown).await;
    assert_eq!((answer.status, &answer.json()["error"]["type"]), (404, &json!("not_found_error")));
    is_error(&app.as_key("tg_none").send(chat("openai/gpt-5")).await, 401, "invalid_api_key");
    assert_eq!(team.upstream.seen().requests.len(), 0);
}

async fn tokens_are_counted_where_the_provider_counts_them(database: Database) {
    let (_app, team) = start(&database).await;
    let body =
        |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "Hi"}]});
    team.upstream.push(Script::json(200, &json!({"input_tokens": 8})));
    let path = "/v1/messages/count_tokens";
    let answer = team.caller().post_json(path, &body("anthropic/claude-x")).await.expect(200);
    assert_eq!(answer.json(), json!({"input_tokens": 8}));
    let sent = team.upstream.last_request();
    assert_eq!(sent.path(), "/at-anthropic/v1/messages/count_tokens");
    assert_eq!(sent.json()["model"], "claude-x");
    let answer = team.caller().post_json(path, &body("groq/llama-4")).await;
    assert_eq!((answer.status, &answer.json()["type"]), (501, &json!("error")));
}

async fn access_and_caps_see_the_resolved_target(database: Database) {
    let (app, team) = start(&database).await;
    let subject = [("workspace_id", team.workspace_id.as_str())];
    let allowed = json!({"providers": [{"provider": "openai", "models": ["gpt-5"]}]});
    make(&app.admin(), ("model_access", "only one"), &subject, allowed).await;
    team.caller().send(chat("openai/gpt-5")).await.expect(200);
    team.caller().send(chat("gpt-5")).await.expect(200);
    for id in ["openai/gpt-4o", "groq/llama-4", "custom/main", "llama-4"] {
        is_error(&team.caller().send(chat(id)).await, 403, "model_access_denied");
    }
    let rows = rows_at_least(app.database(), 2).await;
    let sent = || rows.iter().filter(|row| row.outcome == "completed");
    assert!(sent().count() == 2 && sent().all(|row| row.configuration == "openai"), "{rows:?}");
    // gpt-5 costs 1.25 dollars a million; this prompt may cost more than is left.
    spend_cap(&app.admin(), "little", &subject, ("monthly", 1)).await;
    is_error(&team.caller().send(chat("gpt-5")).await, 402, "spend_cap_exceeded");
}

async fn another_workspaces_models_are_not_found(database: Database) {
    let (app, team) = start(&database).await;
    team.configure("mine", json!({})).await;
    let other = app.workspace().await;
    is_error(&other.caller().send(chat("custom/mine")).await, 404, "model_not_found");
    is_error(&other.caller().send(chat("openai/gpt-5")).await, 400, "provider_secret_missing");
    is_error(&other.caller().send(chat("gpt-5")).await, 404, "model_not_found");
    assert_eq!(team.upstream.seen().requests.len(), 0);
}
