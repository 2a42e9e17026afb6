//! A gateway that is told to stop: it lets open streams end, within a deadline, and exits with 0.

use std::time::Duration;

use crate::support::{
    case::{Case, cases},
    connection::{Connection, Ending},
    database::Database,
    eventually::{eventually, within},
    fixture::Fixture,
    openai::{self, PARTS, Usage},
    process::Signal,
    script::{Gate, Script},
    served::Served,
};

/// The cases of this file.
pub(crate) fn cases() -> Vec<Case> {
    cases![
        readiness_fails_while_requests_are_still_taken,
        an_open_stream_is_let_finish,
        the_deadline_cuts_a_stream_that_does_not_end,
        an_idle_connection_does_not_hold_the_drain_up,
        a_second_signal_stops_at_once_and_closes_the_journal,
    ]
}

/// Only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

fn held(gate: &Gate) -> Script {
    let events = openai::chat_events(&PARTS, Usage::USUAL, false);
    Script::sse_head().chunk(events[0].clone()).wait(gate).chunks(events[1..].to_vec()).end()
}

async fn draining(served: &Served) {
    let line =
        served.process.line("word of the drain", |line| line.contains("draining").then_some(()));
    within(PATIENCE, "the drain begins", line).await;
}

async fn readiness_fails_while_requests_are_still_taken(database: Database) {
    let options = [("--shutdown-delay", "60s"), ("--shutdown-timeout", "60s")];
    let served = Served::start(&database, &options).await;
    let team = served.workspace().await;
    served.anonymous().get("/readyz").await.expect(200);
    served.process.signal(Signal::Term);
    draining(&served).await;
    served.anonymous().get("/readyz").await.expect(503);
    served.anonymous().get("/healthz").await.expect(200);
    team.caller().send(Fixture::chat()).await.expect(200);
    team.caller().send(Fixture::chat_stream()).await.expect(200);
}

async fn an_open_stream_is_let_finish(database: Database) {
    let mut served = Served::start(&database, &[("--shutdown-timeout", "60s")]).await;
    let team = served.workspace().await;
    let gate = Gate::closed();
    team.upstream.push(held(&gate));
    let (head, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
    assert_eq!(head.status, 200);
    served.process.signal(Signal::Term);
    draining(&served).await;
    let address = served.address();
    eventually("no more connections are taken", async || {
        let Ok(mut connection) = Connection::open(address).await else { return true };
        let _ = connection.request(&Fixture::chat().bearer(&team.caller_key)).await;
        connection.head().await.is_err()
    })
    .await;
    gate.open();
    let (events, ending) = within(PATIENCE, "the stream ends", stream.events()).await;
    assert_eq!(ending, Ending::Complete);
    assert_eq!(events.last().map(|event| event.data.as_str()), Some("[DONE]"));
    assert_eq!(events.len(), openai::chat_events(&PARTS, Usage::USUAL, false).len());
    let status = within(PATIENCE, "the process ends", served.process.ended()).await;
    assert_eq!(status.code(), Some(0), "{:#?}", served.process.lines());
}

async fn the_deadline_cuts_a_stream_that_does_not_end(database: Database) {
    let mut served = Served::start(&database, &[("--shutdown-timeout", "1s")]).await;
    let team = served.workspace().await;
    let gate = Gate::closed();
    team.upstream.push(held(&gate));
    let (_, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
    stream.event().await.unwrap().unwrap();
    served.process.signal(Signal::Term);
    let (events, ending) = within(PATIENCE, "the stream is cut", stream.events()).await;
    assert!(matches!(ending, Ending::Cut(_)), "{ending:?}");
    assert!(events.iter().all(|event| event.data != "[DONE]"));
    team.upstream.left_within(PATIENCE, 0).await;
    let status = within(PATIENCE, "the process ends", served.process.ended()).await;
    assert_eq!(status.code(), Some(0), "{:#?}", served.process.lines());
}

async fn an_idle_connection_does_not_hold_the_drain_up(database: Database) {
    let mut served = Served::start(&database, &[("--shutdown-timeout", "60s")]).await;
    let team = served.workspace().await;
    let (head, mut connection) = team.caller().stream(Fixture::chat()).await;
    assert_eq!(head.status, 200);
    assert_eq!(connection.rest().await.1, Ending::Complete);
    served.process.signal(Signal::Term);
    within(PATIENCE, "the idle connection is closed", connection.closed()).await;
    let status = within(PATIENCE, "the process ends", served.process.ended()).await;
    assert_eq!(status.code(), Some(0), "{:#?}", served.process.lines());
}

async fn a_second_signal_stops_at_once_and_closes_the_journal(database: Database) {
    let options = [("--shutdown-delay", "60s"), ("--shutdown-timeout", "60s")];
    let mut served = Served::start(&database, &options).await;
    let team = served.workspace().await;
    let gate = Gate::closed();
    team.upstream.push(held(&gate));
    let (_, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
    stream.event().await.unwrap().unwrap();
    served.process.signal(Signal::Term);
    draining(&served).await;
    served.process.signal(Signal::Term);
    let status = within(PATIENCE, "the process ends", served.process.ended()).await;
    assert_eq!(status.code(), Some(130), "{:#?}", served.process.lines());
    let lines = served.process.lines();
    assert!(lines.iter().any(|line| line.contains("stopped")), "{lines:#?}");

    served.start_again().await;
    let requests = format!("/api/v1/workspaces/{}/requests", team.workspace_id);
    let page = served.admin().get(&requests).await.expect(200).json();
    assert_eq!(page["data"].as_array().map(Vec::len), Some(1), "{page}");
    served.stop().await;
}
