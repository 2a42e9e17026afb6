//! Conversations that lie at the provider, under a guard: a response that was made under one may be continued,
//! and its placeholders stay the same.

use serde_json::{Value, json};

use crate::data_policy::{EMAIL, guard, placeholder};
use crate::data_policy_limits::{pii, with_providers};
use crate::support::{
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::{Answer, Request},
    openai,
    policies::refused,
    script::{Script, data},
    secrets, sql,
    wait::eventually,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_guarded_response_is_continued_with_the_same_placeholders,
        other_responses_are_refused,
        it_is_known_to_other_replicas_and_without_values,
        a_chain_continues_where_the_response_lies,
    ]
}

const OTHER: &str = "grace.hopper@example.org";
const PATH: &str = "/openai/v1/responses";

fn response(id: &str, text: &str) -> Value {
    let mut response =
        openai::response_object("completed", Some(text), Some(crate::data_policy::USAGE));
    response["id"] = json!(id);
    response
}

fn asks(input: &str, previous: Option<&str>) -> Value {
    let mut body = json!({"model": "gpt-4o", "input": input});
    if let Some(previous) = previous {
        body["previous_response_id"] = json!(previous);
    }
    body
}

/// Asks, and is answered by the response with this id.
async fn turn(team: &Fixture, body: &Value, (id, text): (&str, &str)) -> Answer {
    team.upstream.push(Script::json(200, &response(id, text)));
    team.caller().send(Request::post_json(PATH, body)).await
}

fn said(answer: &Answer) -> String {
    let text = answer.json()["output"][0]["content"][0]["text"].clone();
    text.as_str().unwrap_or_else(|| panic!("{}", answer.text())).to_owned()
}

#[track_caller]
fn is_refused(answer: &Answer) {
    refused(answer, 403, "content_blocked", "No personal data");
    assert!(answer.text().contains("stored_state"), "{}", answer.text());
}

async fn a_guarded_response_is_continued_with_the_same_placeholders(database: Database) {
    secrets::register(OTHER);
    let (_app, team) = with_providers(&database, pii(json!({}))).await;
    let first = asks(&format!("I am {EMAIL}"), None);
    turn(&team, &first, ("resp_1", "Hello")).await.expect(200);
    let mine = placeholder(&team.upstream, "EMAIL");
    // A turn without the value: the placeholder in the stored turn is nobody's here, and stays text.
    let second = asks("Who am I?", Some("resp_1"));
    let answer = turn(&team, &second, ("resp_2", &format!("You are {mine}"))).await.expect(200);
    assert_eq!(said(&answer), format!("You are {mine}"));
    assert_eq!(team.upstream.last_request().json()["previous_response_id"], "resp_1");
    // New values are replaced and restored, and the old one has the placeholder that it had.
    let third = asks(&format!("{OTHER} writes to {EMAIL}"), Some("resp_2"));
    turn(&team, &third, ("resp_3", "Fine.")).await.expect(200);
    let sent = team.upstream.last_request().json();
    let sent = sent["input"].as_str().unwrap();
    assert!(sent.ends_with(&mine) && !sent.contains(OTHER), "{sent}");
    let theirs = sent.split(' ').next().unwrap().to_owned();
    let text = format!("{theirs} and {mine}");
    let answer = turn(&team, &third, ("resp_4", &text)).await.expect(200);
    assert_eq!(said(&answer), format!("{OTHER} and {EMAIL}"));
    // In a stream, too, and by the id that the stream tells.
    let mut streamed = third.clone();
    streamed["stream"] = json!(true);
    let event = |kind: &str, mut fields: Value| {
        fields["type"] = json!(kind);
        format!("event: {kind}\n{}", data(fields))
    };
    let delta = json!({"item_id": "m", "output_index": 0, "content_index": 0, "delta": mine});
    team.upstream.push(Script::sse([
        event("response.created", json!({"response": response("resp_5", "")})),
        event("response.output_text.delta", delta),
        event("response.completed", json!({"response": response("resp_5", &mine)})),
    ]));
    let answer = team.caller().send(Request::post_json(PATH, &streamed)).await.expect(200).text();
    assert!(answer.contains(EMAIL) && !answer.contains(&mine), "{answer}");
    let last = asks(EMAIL, Some("resp_5"));
    turn(&team, &last, ("resp_6", "Fine.")).await.expect(200);
    assert_eq!(placeholder(&team.upstream, "EMAIL"), mine);
}

async fn other_responses_are_refused(database: Database) {
    let (app, team) = with_providers(&database, pii(json!({}))).await;
    turn(&team, &asks("Hello", None), ("resp_1", "Hi")).await.expect(200);
    let mut unstored = asks("Hello", None);
    unstored["store"] = json!(false);
    turn(&team, &unstored, ("resp_2", "Hi")).await.expect(200);
    for other in ["resp_2", "resp_of_nobody"] {
        is_refused(&team.caller().post_json(PATH, &asks("Go on", Some(other))).await);
    }
    // What else it refers to is not known.
    for (name, value) in [
        ("conversation", json!("conv_1")),
        ("input", json!([{"type": "item_reference", "id": "msg_1"}])),
    ] {
        let mut body = asks("Go on", Some("resp_1"));
        body[name] = value;
        is_refused(&team.caller().post_json(PATH, &body).await);
    }
    // A neighbour with a guard of its own, at the same provider.
    let neighbour = app.workspace().await;
    neighbour.put_secret("OPENAI_API_KEY", "key-of-the-neighbour").await;
    let policy = guard(&app.admin(), &neighbour, pii(json!({}))).await;
    app.caught_up().await;
    is_refused(&neighbour.caller().post_json(PATH, &asks("Go on", Some("resp_1"))).await);
    // What was made while there was no guard, or goes on with what no guard has seen.
    let path = format!("/api/v1/gateway-policies/{}", policy["id"].as_str().unwrap());
    let set = async |change: Value| {
        app.admin().patch(&path, &change).await.expect(200);
        app.caught_up().await;
    };
    let make = async |body: Value, id: &str| {
        team.upstream.push(Script::json(200, &response(id, "Hi")));
        neighbour.caller().post_json(PATH, &body).await.expect(200);
    };
    set(json!({"enabled": false})).await;
    make(asks("Hello", None), "resp_7").await;
    set(json!({"enabled": true, "config": pii(json!({"scan": {"stored": "allow"}}))})).await;
    make(asks("Hello", Some("resp_7")), "resp_8").await;
    set(json!({"config": pii(json!({}))})).await;
    for other in ["resp_7", "resp_8"] {
        is_refused(&neighbour.caller().post_json(PATH, &asks("Go on", Some(other))).await);
    }
    make(asks("Hello", None), "resp_9").await;
    make(asks("Go on", Some("resp_9")), "resp_10").await;
}

async fn it_is_known_to_other_replicas_and_without_values(database: Database) {
    let (app, team) = with_providers(&database, pii(json!({}))).await;
    let first = Request::post_json(PATH, &asks(EMAIL, None)).header("x-tollgate-session-id", EMAIL);
    team.upstream.push(Script::json(200, &response("resp_1", "Hi")));
    team.caller().send(first).await.expect(200);
    let mine = placeholder(&team.upstream, "EMAIL");
    let read = "SELECT response_id || ' ' || guarded_conversation AS value FROM own_responses";
    let mut rows = Vec::new();
    eventually("the response is written", async || {
        rows = sql::texts(app.database(), read).await;
        rows.len() == 1
    })
    .await;
    // An id of 32 bytes.
    assert!(rows[0].starts_with("resp_1 ") && rows[0].len() == 7 + 44, "{rows:?}");
    let origin = team.upstream.origin();
    let replica = app.replica_with(&["--provider-origin", &format!("openai={origin}")]).await;
    team.upstream.push(Script::json(200, &response("resp_2", "Hi")));
    let caller = team.caller_at(replica.address());
    caller.post_json(PATH, &asks(EMAIL, Some("resp_1"))).await.expect(200);
    assert_eq!(placeholder(&team.upstream, "EMAIL"), mine);
}

async fn a_chain_continues_where_the_response_lies(database: Database) {
    let chain = crate::support::chain::Chain::start(&database).await;
    chain.usual(json!({})).await;
    let team = &chain.team;
    guard(&chain.app.admin(), team, pii(json!({}))).await;
    chain.app.caught_up().await;
    let path = Fixture::route("responses");
    team.upstream.push(crate::support::chain::bad(503));
    chain.others[0].push(Script::json(200, &response("resp_1", "Hi")));
    team.caller().post_json(&path, &asks("Hello", None)).await.expect(200);
    let before = team.upstream.seen().requests.len();
    chain.others[0].push(Script::json(200, &response("resp_2", "Hi")));
    team.caller().post_json(&path, &asks("Go on", Some("resp_1"))).await.expect(200);
    assert_eq!(team.upstream.seen().requests.len(), before);
    assert_eq!(chain.others[0].last_request().json()["previous_response_id"], "resp_1");
}
