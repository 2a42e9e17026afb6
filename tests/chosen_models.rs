//! Model configurations without a model: callers choose it.

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    chain::{Chain, good, served_by},
    database::Database,
    fixture::Fixture,
    http::{Answer, Request},
    ledger_rows,
    openai::{self, Usage},
    policies::{self, spend_cap},
    problems::wrong_fields,
    script::Script,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        the_callers_model_goes_up_and_is_priced,
        a_request_without_a_model_is_refused,
        model_access_and_caps_are_those_of_the_chosen_model,
        the_model_of_the_path_is_the_chosen_one,
        a_price_of_the_configuration_is_for_every_model,
        a_model_is_set_and_removed,
        a_check_needs_a_model,
        an_alias_of_a_chain_is_no_model,
        a_name_that_asks_for_more_than_a_model_is_refused,
    ]
}

const PATH: &str = "/providers/open/v1/chat/completions";
const USAGE: Usage = Usage { prompt: 1000, completion: 10, cached: 0, reasoning: 0 };

/// A configuration `open` without a model, at the catalogue's prices for OpenAI.
async fn open(team: &Fixture) -> String {
    team.configure("open", json!({"model": null, "provider": "openai"})).await
}

fn asks(model: &str) -> Request {
    let messages = json!([{"role": "user", "content": "Good morning?"}]);
    let body = json!({"model": model, "max_tokens": 50, "messages": messages});
    Request::post_json(PATH, &body)
}

#[track_caller]
fn is_error(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.json()["error"]["code"], code, "{}", answer.text());
}

async fn the_callers_model_goes_up_and_is_priced(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    open(&team).await;
    // The catalogue's prices: 0.15 and 0.60, 2.5 and 10 dollars a million.
    for (number, (model, cost)) in
        [("gpt-4o-mini", 156_000), ("gpt-4o", 2_600_000)].into_iter().enumerate()
    {
        team.upstream.push(openai::chat_completion("Hi", USAGE));
        team.caller().send(asks(model)).await.expect(200);
        assert_eq!(team.upstream.last_request().json()["model"], model);
        let rows = ledger_rows::rows_at_least(app.database(), number + 1).await;
        assert_eq!(rows[number].cost, Some(cost), "{rows:?}");
    }
    let page = app.admin().get(&team.path("requests")).await.expect(200).json();
    let row = &page["data"][0];
    assert_eq!((&row["model"], &row["model_asked"]), (&json!("gpt-4o"), &json!("gpt-4o")), "{row}");
}

async fn a_request_without_a_model_is_refused(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    open(&team).await;
    for body in [json!({"messages": []}), json!({"model": "", "messages": []})] {
        let answer = team.caller().post_json(PATH, &body).await;
        is_error(&answer, 400, "model_missing");
    }
    assert_eq!(team.upstream.seen().requests.len(), 0);
    // The list of models names none.
    team.caller().get("/providers/open/v1/models").await.expect(200);
}

async fn model_access_and_caps_are_those_of_the_chosen_model(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    open(&team).await;
    let workspace = [("workspace_id", team.workspace_id.as_str())];
    let allowed = json!({"providers": [{"provider": "openai", "models": ["gpt-4o-mini"]}]});
    policies::make(&app.admin(), ("model_access", "small only"), &workspace, allowed).await;
    is_error(&team.caller().send(asks("gpt-4o")).await, 403, "model_access_denied");
    team.caller().send(asks("gpt-4o-mini")).await.expect(200);

    let other = app.workspace().await;
    open(&other).await;
    let workspace = [("workspace_id", other.workspace_id.as_str())];
    // Less than gpt-4o may cost, more than gpt-4o-mini may.
    spend_cap(&app.admin(), "tiny", &workspace, ("monthly", 100_000)).await;
    is_error(&other.caller().send(asks("gpt-4o")).await, 402, "spend_cap_exceeded");
    is_error(&other.caller().send(asks("of-nobody")).await, 402, "price_unknown");
    other.caller().send(asks("gpt-4o-mini")).await.expect(200);
}

async fn the_model_of_the_path_is_the_chosen_one(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    team.configure("google", json!({"model": null, "provider": "gemini"})).await;
    team.configure("bedrock", json!({"model": null, "provider": "bedrock"})).await;
    let caller = team.caller();
    for _ in 0..2 {
        team.upstream.push(Script::json(200, &json!({})));
    }
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]});
    caller
        .post_json("/providers/google/v1beta/models/gemini-2.5-pro:generateContent", &body)
        .await
        .success();
    assert_eq!(team.upstream.last_request().path(), "/v1/models/gemini-2.5-pro:generateContent");
    let body = json!({"messages": [{"role": "user", "content": [{"text": "Hi"}]}]});
    caller.post_json("/providers/bedrock/model/a.b-v1%3A0/converse", &body).await.success();
    assert_eq!(team.upstream.last_request().path(), "/v1/model/a.b-v1%3A0/converse");
    ledger_rows::rows_at_least(app.database(), 2).await;
    let page = app.admin().get(&team.path("requests")).await.expect(200).json();
    let models: Vec<&Value> =
        page["data"].as_array().unwrap().iter().map(|row| &row["model"]).collect();
    assert_eq!(models, [&json!("a.b-v1:0"), &json!("gemini-2.5-pro")]);
}

async fn a_price_of_the_configuration_is_for_every_model(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let id = open(&team).await;
    let path = team.path(&format!("model-configurations/{id}"));
    let price = json!({"price": {"input": 1, "output": 2}});
    app.admin().patch(&path, &price).await.expect(200);
    for (number, model) in ["gpt-4o", "of-nobody"].into_iter().enumerate() {
        team.upstream.push(openai::chat_completion("Hi", USAGE));
        team.caller().send(asks(model)).await.expect(200);
        let rows = ledger_rows::rows_at_least(app.database(), number + 1).await;
        assert_eq!(rows[number].cost, Some(1000 * 1_000 + 10 * 2_000), "{rows:?}");
    }
}

async fn a_model_is_set_and_removed(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let id = open(&team).await;
    let path = team.path(&format!("model-configurations/{id}"));
    assert_eq!(app.admin().get(&path).await.expect(200).json()["model"], Value::Null);
    for model in [json!("gpt-test"), Value::Null] {
        let changed = app.admin().patch(&path, &json!({"model": model})).await.expect(200).json();
        assert_eq!(changed["model"], model);
        team.caller().send(asks("chosen")).await.expect(200);
        let sent = team.upstream.last_request().json()["model"].clone();
        assert_eq!(sent, if model.is_null() { json!("chosen") } else { model });
    }
    let empty = app.admin().patch(&path, &json!({"model": ""})).await;
    assert_eq!(wrong_fields(&empty), ["model"]);
    // A price that was set for one model must not become that of all.
    let (_, editor) = team.key("WORKSPACE_EDITOR").await;
    let priced = json!({"price": {"input": 1, "output": 2}});
    app.admin().patch(&team.configuration_path(), &priced).await.expect(200);
    let opened = json!({"model": null});
    assert_eq!(app.as_key(&editor).patch(&team.configuration_path(), &opened).await.status, 403);
}

async fn a_check_needs_a_model(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let id = open(&team).await;
    let path = team.path(&format!("model-configurations/{id}/check"));
    let without = app.admin().send(Request::new("POST", &path)).await;
    assert_eq!(wrong_fields(&without), ["model"]);
    let empty = app.admin().post_json(&path, &json!({"model": ""})).await;
    assert_eq!(wrong_fields(&empty), ["model"]);
    // So is one that would not be used, because the configuration has its own.
    let unused = format!("{}/check", team.configuration_path());
    let empty = app.admin().post_json(&unused, &json!({"model": ""})).await;
    assert_eq!(wrong_fields(&empty), ["model"]);
    assert_eq!(team.upstream.seen().requests.len(), 0);
    for (model, listed) in [("gpt-4o", false), (Fixture::MODEL, true)] {
        let found = app.admin().post_json(&path, &json!({"model": model})).await.expect(200).json();
        assert_eq!(found["model_listed"], listed, "{found}");
    }
}

/// A target without a model is asked for the model that the request names, which an alias is not.
async fn an_alias_of_a_chain_is_no_model(database: Database) {
    let chain = Chain::start(&database).await;
    let path = chain.team.path(&format!("model-configurations/{}", chain.ids[0]));
    chain.app.admin().patch(&path, &json!({"model": null})).await.expect(200);
    chain.team.put_secret("OPENAI_API_KEY", "sk-of-the-team").await;
    let alias = |name: &str| json!({"type": "alias", "alias": name});
    let both = json!([chain.target(0), chain.target(1)]);
    chain.save("both", json!({}), alias("smart"), both).await.expect(201);
    let one = json!([chain.target(0)]);
    chain.save("one", json!({}), alias("lonely"), one).await.expect(201);
    let caller = chain.team.caller();
    let asks = |model: &str| {
        let messages = json!([{"role": "user", "content": "Good morning?"}]);
        json!({"model": model, "messages": messages})
    };
    chain.others[0].push(good());
    let answer = caller.post_json("/openai/v1/chat/completions", &asks("smart")).await.expect(200);
    served_by(&answer, "custom/second", "1");
    let lonely = caller.post_json("/openai/v1/chat/completions", &asks("lonely")).await;
    is_error(&lonely, 400, "model_missing");
    assert_eq!(chain.counts(), [0, 1, 0]);
    // Under the configuration's own path, the request's model is the one to fall back from.
    let second = json!([chain.target(1)]);
    chain.save("own", json!({}), chain.target(0), second).await.expect(201);
    chain.team.upstream.push(good());
    let own = caller.post_json("/providers/main/v1/chat/completions", &asks("any-model")).await;
    served_by(&own.expect(200), "custom/main", "1");
    assert_eq!(chain.team.upstream.last_request().json()["model"], "any-model");
}

async fn a_name_that_asks_for_more_than_a_model_is_refused(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    team.configure("open", json!({"model": null, "provider": "openrouter"})).await;
    for model in [
        "openai/gpt-4o:online",
        "openai/gpt-4o:NITRO",
        "openai/gpt-4o:online:floor",
        "openai/gpt-4o:online ",
        "openai/gpt-4o@preset/big",
        "@preset/big",
    ] {
        let answer = team.caller().send(asks(model)).await;
        is_error(&answer, 400, "model_override");
        assert_eq!(answer.json()["error"]["param"], "model");
    }
    assert_eq!(team.upstream.seen().requests.len(), 0);
    for model in ["openai/gpt-4o:free", "llama3.1:8b", "claude-opus-4@20250514"] {
        team.caller().send(asks(model)).await.expect(200);
        assert_eq!(team.upstream.last_request().json()["model"], model);
    }
    // The administrator's own choice goes up.
    let own = json!({"model": "openai/gpt-4o:online", "provider": "openrouter"});
    team.configure("own", own).await;
    team.caller()
        .post_json("/providers/own/v1/chat/completions", &json!({"messages": []}))
        .await
        .expect(200);
    assert_eq!(team.upstream.last_request().json()["model"], "openai/gpt-4o:online");
}
