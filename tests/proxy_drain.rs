//! Stopping a gateway: open streams may end within a deadline, and it exits with code 0.

use crate::support::{
    case::{Case, cases},
    connection::{BodyEnd, Connection},
    database::Database,
    fixture::Fixture,
    openai::{self, PARTS, Usage, paused_chat_stream},
    process::Signal,
    script::Pause,
    server_process::ServerProcess,
    wait::{DEADLINE, eventually, within},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        readiness_fails_while_requests_are_still_served,
        an_open_stream_finishes,
        the_deadline_ends_an_open_stream,
        an_idle_connection_does_not_delay_the_stop,
        a_second_signal_stops_at_once_and_closes_the_journal,
    ]
}

async fn drain_has_begun(served: &ServerProcess) {
    let line =
        served.process.line("word of the drain", |line| line.contains("draining").then_some(()));
    within(DEADLINE, "the drain begins", line).await;
}

async fn readiness_fails_while_requests_are_still_served(database: Database) {
    let options = [("--shutdown-delay", "60s"), ("--shutdown-timeout", "60s")];
    let served = ServerProcess::start(&database, &options).await;
    let team = served.workspace().await;
    served.anonymous().get("/readyz").await.expect(200);
    served.process.signal(Signal::Term);
    drain_has_begun(&served).await;
    served.anonymous().get("/readyz").await.expect(503);
    served.anonymous().get("/healthz").await.expect(200);
    team.caller().send(Fixture::chat()).await.expect(200);
    team.caller().send(Fixture::chat_stream()).await.expect(200);
}

async fn an_open_stream_finishes(database: Database) {
    let mut served = ServerProcess::start(&database, &[("--shutdown-timeout", "60s")]).await;
    let team = served.workspace().await;
    let pause = Pause::new();
    team.upstream.push(paused_chat_stream(&pause));
    let (head, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
    assert_eq!(head.status, 200);
    served.process.signal(Signal::Term);
    drain_has_begun(&served).await;
    let address = served.address();
    eventually("no more connections are taken", async || {
        let Ok(mut connection) = Connection::open(address).await else { return true };
        let _ = connection.request(&Fixture::chat().bearer(&team.caller_key)).await;
        connection.head().await.is_err()
    })
    .await;
    pause.release_all();
    let (events, ending) = within(DEADLINE, "the stream ends", stream.events()).await;
    assert_eq!(ending, BodyEnd::Complete);
    assert_eq!(events.last().map(|event| event.data.as_str()), Some("[DONE]"));
    assert_eq!(events.len(), openai::chat_events(&PARTS, Usage::USUAL, false).len());
    let status = within(DEADLINE, "the process ends", served.process.ended()).await;
    assert_eq!(status.code(), Some(0), "{:#?}", served.process.lines());
}

async fn the_deadline_ends_an_open_stream(database: Database) {
    let mut served = ServerProcess::start(&database, &[("--shutdown-timeout", "1s")]).await;
    let team = served.workspace().await;
    let pause = Pause::new();
    team.upstream.push(paused_chat_stream(&pause));
    let (_, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
    stream.event().await.unwrap().unwrap();
    served.process.signal(Signal::Term);
    let (events, ending) = within(DEADLINE, "the stream is cut", stream.events()).await;
    assert!(matches!(ending, BodyEnd::Broken(_)), "{ending:?}");
    assert!(events.iter().all(|event| event.data != "[DONE]"));
    team.upstream.left_within(DEADLINE, 0).await;
    let status = within(DEADLINE, "the process ends", served.process.ended()).await;
    assert_eq!(status.code(), Some(0), "{:#?}", served.process.lines());
}

async fn an_idle_connection_does_not_delay_the_stop(database: Database) {
    let mut served = ServerProcess::start(&database, &[("--shutdown-timeout", "60s")]).await;
    let team = served.workspace().await;
    let (head, mut connection) = team.caller().stream(Fixture::chat()).await;
    assert_eq!(head.status, 200);
    assert_eq!(connection.rest().await.1, BodyEnd::Complete);
    served.process.signal(Signal::Term);
    within(DEADLINE, "the idle connection is closed", connection.closed()).await;
    let status = within(DEADLINE, "the process ends", served.process.ended()).await;
    assert_eq!(status.code(), Some(0), "{:#?}", served.process.lines());
}

async fn a_second_signal_stops_at_once_and_closes_the_journal(database: Database) {
    let options = [("--shutdown-delay", "60s"), ("--shutdown-timeout", "60s")];
    let mut served = ServerProcess::start(&database, &options).await;
    let team = served.workspace().await;
    let pause = Pause::new();
    team.upstream.push(paused_chat_stream(&pause));
    let (_, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
    stream.event().await.unwrap().unwrap();
    served.process.signal(Signal::Term);
    drain_has_begun(&served).await;
    served.process.signal(Signal::Term);
    let status = within(DEADLINE, "the process ends", served.process.ended()).await;
    assert_eq!(status.code(), Some(130), "{:#?}", served.process.lines());
    let lines = served.process.lines();
    assert!(lines.iter().any(|line| line.contains("stopped")), "{lines:#?}");

    served.start_again().await;
    let requests = format!("/api/v1/workspaces/{}/requests", team.workspace_id);
    let page = served.admin().get(&requests).await.expect(200).json();
    assert_eq!(page["data"].as_array().map(Vec::len), Some(1), "{page}");
}
