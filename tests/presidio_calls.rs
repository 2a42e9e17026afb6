//! Calls of Presidio: how many there are at a time, how workspaces share them, and when there are none.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::data_policy::{chat, says};
use crate::entities::{USAGE, ask, guard, is_blocked, names, sent, start};
use crate::support::{
    case::{Case, cases},
    database::Database,
    fixture::Fixture,
    http::Client,
    openai,
    script::{Pause, Script},
    two_tenants::text,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        calls_at_a_time_are_bounded,
        a_workspace_leaves_calls_to_others,
        the_breaker_stops_calls_and_one_tries_again,
    ]
}

async fn calls_at_a_time_are_bounded(database: Database) {
    let (presidio, app, first) = start(&database, json!({})).await;
    let mut teams = vec![first];
    for _ in 0..3 {
        let team = app.workspace().await;
        guard(&app.admin(), &team, names(json!({}))).await;
        teams.push(team);
    }
    let impatient = app.workspace().await;
    guard(&app.admin(), &impatient, names(json!({"timeout_seconds": 0.1}))).await;
    let pause = Pause::new();
    for number in 0..32 {
        presidio.push(Script::new().wait(&pause).and(Script::json(200, &json!([[]]))));
        teams[number % 4].upstream.push(openai::chat_completion("Fine.", USAGE));
    }
    let question = says("Hello");
    let callers: Vec<Client> = teams.iter().map(Fixture::caller).collect();
    let waiting = join_all((0..32).map(|number| callers[number % 4].send(chat(&question))));
    let others = async {
        presidio.wait_for("32 calls", |seen| seen.requests.len() == 32).await;
        is_blocked(&impatient, "Hello").await;
        assert_eq!(presidio.seen().requests.len(), 32);
        pause.release_all();
    };
    let (answers, ()) = tokio::join!(waiting, others);
    assert!(answers.iter().all(|answer| answer.status == 200));
    ask(&teams[0], "Hello").await.expect(200);
    assert_eq!(presidio.seen().requests.len(), 33);
}

async fn a_workspace_leaves_calls_to_others(database: Database) {
    let (presidio, app, team) = start(&database, json!({})).await;
    let other = app.workspace().await;
    guard(&app.admin(), &other, names(json!({}))).await;
    let pause = Pause::new();
    for _ in 0..8 {
        presidio.push(Script::new().wait(&pause).and(Script::json(200, &json!([[]]))));
    }
    for _ in 0..40 {
        team.upstream.push(openai::chat_completion("Fine.", USAGE));
    }
    let (caller, question) = (team.caller(), says("Hello"));
    let waiting = join_all((0..40).map(|_| caller.send(chat(&question))));
    let others = async {
        presidio.wait_for("8 calls", |seen| seen.requests.len() == 8).await;
        // It waits for none of the 32 requests that wait for their workspace's turn.
        ask(&other, "Maria Mitchell").await.expect(200);
        assert!(sent(&other).starts_with("TG_PERSON_"), "{}", sent(&other));
        assert_eq!(presidio.seen().requests.len(), 9);
        pause.release_all();
    };
    let (answers, ()) = tokio::join!(waiting, others);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(presidio.seen().requests.len(), 41);
}

async fn the_breaker_stops_calls_and_one_tries_again(database: Database) {
    let (presidio, app, team) = start(&database, json!({})).await;
    let state = async || {
        let ready = app.platform().get("/readyz").await.expect(200).json();
        let open: f64 = app.metric("tollgate_presidio_breaker_open").await;
        (text(&ready["details"], "presidio_breaker"), open)
    };
    let unavailable = || Script::json(503, &json!({}));
    for _ in 0..5 {
        assert_eq!(state().await, ("closed".to_owned(), 0.0));
        presidio.push(unavailable());
        is_blocked(&team, "Hello").await;
    }
    assert_eq!(state().await, ("open".to_owned(), 1.0));
    is_blocked(&team, "Hello").await;
    assert_eq!(presidio.seen().requests.len(), 5);
    assert_eq!(app.counter("tollgate_presidio_calls_total{outcome=\"not_called\"}").await, 1);
    // One that tries and fails.
    app.advance(Duration::from_secs(5));
    presidio.push(unavailable());
    is_blocked(&team, "Hello").await;
    is_blocked(&team, "Hello").await;
    assert_eq!(presidio.seen().requests.len(), 6);
    app.advance(Duration::from_secs(5));
    ask(&team, "Hello").await.expect(200);
    assert_eq!(state().await, ("closed".to_owned(), 0.0));

    // Stopped altogether: connections are refused.
    presidio.stop().await;
    for _ in 0..5 {
        is_blocked(&team, "Hello").await;
    }
    assert_eq!(state().await, ("open".to_owned(), 1.0));
}
