//! Responses that a provider stores for an organization's account: a workspace continues those that it had
//! made itself, and no others.

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::Answer,
    script::{Script, data},
    secrets, sql,
    upstream::ScriptedUpstream,
    wait::eventually,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_workspace_continues_its_own_responses_only,
        a_streamed_response_is_its_own_too,
        what_is_not_stored_is_not_remembered,
        it_is_known_after_a_restart_and_for_a_month,
    ]
}

const NAME: &str = "OPENAI_API_KEY";
const SHARED: &str = "sk-shared-by-all-workspaces";
const RESPONSES: &str = "/openai/v1/responses";

async fn start(database: &Database) -> (TestApp, Fixture) {
    secrets::register(SHARED);
    let upstream = ScriptedUpstream::start().await;
    let origin = upstream.origin();
    let origin = format!("openai={origin}");
    let app = TestApp::with_stopped_clock(database, &["--provider-origin", &origin]).await;
    let team = Fixture::before(&app.admin(), app.address(), upstream).await;
    app.admin()
        .put(&format!("/api/v1/secrets/{NAME}"), &json!({"value": SHARED}))
        .await
        .expect(201);
    (app, team)
}

fn response(id: &str, status: &str) -> Value {
    let output = json!([{"type": "message", "id": "msg_1", "role": "assistant",
        "content": [{"type": "output_text", "text": "Hi."}]}]);
    let usage = json!({"input_tokens": 5, "output_tokens": 1, "total_tokens": 6});
    json!({"id": id, "object": "response", "status": status, "model": "gpt-4o-mini",
        "output": output, "usage": usage})
}

fn asks(previous: Option<&str>) -> Value {
    let mut body = json!({"model": "gpt-4o-mini", "input": "Hi"});
    if let Some(previous) = previous {
        body["previous_response_id"] = previous.into();
    }
    body
}

/// Has the response with this id made, after another one.
async fn make(team: &Fixture, id: &str, previous: Option<&str>) {
    team.upstream.push(Script::json(200, &response(id, "completed")));
    team.caller().post_json(RESPONSES, &asks(previous)).await.expect(200);
}

#[track_caller]
fn is_refused(answer: &Answer, field: &str) {
    assert_eq!(answer.status, 400, "{}", answer.text());
    let error = &answer.json()["error"];
    assert_eq!((&error["code"], &error["param"]), (&json!("shared_account_state"), &json!(field)));
}

async fn continues(team: &Fixture, previous: &str) -> Answer {
    team.caller().post_json(RESPONSES, &asks(Some(previous))).await
}

async fn a_workspace_continues_its_own_responses_only(database: Database) {
    let (app, team) = start(&database).await;
    make(&team, "resp_1", None).await;
    make(&team, "resp_2", Some("resp_1")).await;
    make(&team, "resp_3", Some("resp_1")).await;
    is_refused(&continues(&team, "resp_4").await, "previous_response_id");
    // Another workspace of the organization, which uses the same account.
    let other = app.workspace().await;
    is_refused(&continues(&other, "resp_1").await, "previous_response_id");
    // A response that is its own opens nothing else.
    let mut body = asks(Some("resp_1"));
    body["input"] = json!([{"id": "msg_of_somebody"}]);
    is_refused(&team.caller().post_json(RESPONSES, &body).await, "item_reference");
    // An account elsewhere has other responses.
    let base_url = team.upstream.base_url();
    let shared = json!({"name": "shared", "provider": "openai_compatible", "base_url": base_url,
        "model": "m", "api_key_name": NAME});
    app.admin().post_json(&team.path("model-configurations"), &shared).await.expect(201);
    let path = "/providers/shared/v1/responses";
    let refused = team.caller().post_json(path, &asks(Some("resp_1"))).await;
    is_refused(&refused, "previous_response_id");
    assert_eq!(team.upstream.seen().requests.len(), 3);
}

async fn a_streamed_response_is_its_own_too(database: Database) {
    let (_app, team) = start(&database).await;
    let event = |kind: &str, status: &str| {
        let event = json!({"type": kind, "response": response("resp_1", status)});
        format!("event: {kind}\n{}", data(event))
    };
    let events =
        [event("response.created", "in_progress"), event("response.completed", "completed")];
    let mut body = asks(None);
    body["stream"] = true.into();
    team.upstream.push(Script::sse(events));
    team.caller().post_json(RESPONSES, &body).await.expect(200);
    make(&team, "resp_2", Some("resp_1")).await;
}

async fn what_is_not_stored_is_not_remembered(database: Database) {
    let (_app, team) = start(&database).await;
    let mut body = asks(None);
    body["store"] = false.into();
    team.upstream.push(Script::json(200, &response("resp_1", "completed")));
    team.caller().post_json(RESPONSES, &body).await.expect(200);
    is_refused(&continues(&team, "resp_1").await, "previous_response_id");
    // The provider decides what an error is, and has stored nothing.
    team.upstream.push(Script::json(429, &json!({"id": "resp_2", "error": {"message": "no"}})));
    team.caller().post_json(RESPONSES, &asks(None)).await.expect(429);
    is_refused(&continues(&team, "resp_2").await, "previous_response_id");
}

async fn it_is_known_after_a_restart_and_for_a_month(database: Database) {
    let (app, team) = start(&database).await;
    make(&team, "resp_1", None).await;
    let written = async || {
        let query = "SELECT response_id AS value FROM own_responses ORDER BY response_id";
        sql::texts(app.database(), query).await
    };
    eventually("the response is written", async || written().await == ["resp_1"]).await;
    let replica = app.replica().await;
    let caller = team.caller_at(replica.address());
    team.upstream.push(Script::json(200, &response("resp_2", "completed")));
    caller.post_json(RESPONSES, &asks(Some("resp_1"))).await.expect(200);
    eventually("both are written", async || written().await == ["resp_1", "resp_2"]).await;
    // A process that starts deletes what is too old.
    app.advance(std::time::Duration::from_secs(31 * 24 * 3600));
    let app = app.restart().await;
    eventually("both are deleted", async || {
        let query = "SELECT response_id AS value FROM own_responses";
        sql::texts(app.database(), query).await.is_empty()
    })
    .await;
}
