//! End to end: an administrator sets up a workspace, an application calls, the upstream receives it.

use serde_json::json;

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    connection::BodyEnd,
    database::Database,
    fixture::Fixture,
    logs, openai,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![a_plain_call_is_answered, a_streamed_call_is_relayed, postgres a_replica_serves_the_same]
}

async fn a_plain_call_is_answered(database: Database) {
    let (app, team) = TestApp::start_with_workspace(&database).await;
    let answer = team.caller().send(Fixture::chat()).await.expect(200);
    assert_eq!(answer.json()["choices"][0]["message"]["content"], openai::PARTS.concat());

    let received = team.upstream.request(0).await;
    assert_eq!(received.target, "/v1/chat/completions");
    assert_eq!(received.json()["model"], Fixture::MODEL);
    let credential = format!("Bearer {}", team.provider_key);
    assert_eq!(received.header("authorization"), Some(credential.as_str()));
    let id = answer.header("x-request-id").expect("every answer has one");
    assert!(!logs::lines_with(id).is_empty(), "the request is logged under its id");
    app.stop().await;
}

async fn a_streamed_call_is_relayed(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let (head, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
    assert_eq!(head.status, 200);
    let (events, ending) = stream.events().await;
    let sent = openai::chat_events(&openai::PARTS, openai::Usage::USUAL, false);
    assert_eq!((events.len(), ending), (sent.len(), BodyEnd::Complete));
    assert_eq!(events.last().map(|event| event.data.as_str()), Some("[DONE]"));
    let received = team.upstream.last_request().json();
    assert_eq!(received["stream_options"], json!({"include_usage": true}));
}

async fn a_replica_serves_the_same(database: Database) {
    let app = TestApp::start(&database).await;
    let replica = app.replica().await;
    let team = app.workspace().await;
    team.caller_at(replica.address()).send(Fixture::chat()).await.expect(200);
}
