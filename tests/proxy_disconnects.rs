//! Callers that disconnect or stop reading: the upstream request is cancelled.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    app::TestApp,
    case::{Case, cases},
    connection::BodyEnd,
    database::Database,
    fixture::Fixture,
    script::{Script, data},
    wait::DEADLINE,
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_disconnect_before_the_head_cancels_the_upstream,
        a_disconnect_in_a_stream_cancels_the_upstream,
        a_disconnect_from_a_silent_stream_cancels_the_upstream,
        a_caller_that_stops_reading_cancels_the_upstream,
    ]
}

/// The deadline for the upstream to notice that the caller has disconnected.
const A_SECOND: Duration = Duration::from_secs(1);

async fn a_disconnect_before_the_head_cancels_the_upstream(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    for (count, resets) in [false, true].into_iter().enumerate() {
        team.upstream.push(Script::new().keep_open());
        let caller = team.caller().open(Fixture::chat()).await.unwrap();
        team.upstream.request(count).await;
        caller.disconnect(resets);
        team.upstream.left_within(A_SECOND, count).await;
    }
    for settled in team.settled(&team.configuration_id, 2).await {
        settled.says(&[("outcome", "caller_left"), ("attempts", "1"), ("status", "499")]);
    }
}

async fn a_disconnect_in_a_stream_cancels_the_upstream(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    for (count, resets) in [false, true].into_iter().enumerate() {
        let event = data(json!({"choices": [{}]}));
        let chatty = (0..1_000).fold(Script::sse_head(), |script, _| {
            script.chunk(event.clone()).delay(Duration::from_millis(20))
        });
        team.upstream.push(chatty.end());
        let (_, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
        stream.event().await.unwrap().unwrap();
        stream.disconnect(resets);
        team.upstream.left_within(A_SECOND, count).await;
    }
    for settled in team.settled(&team.configuration_id, 2).await {
        settled.says(&[("outcome", "caller_left"), ("status", "200")]);
    }
}

async fn a_disconnect_from_a_silent_stream_cancels_the_upstream(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let event = data(json!({"choices": [{}]}));
    for (count, resets) in [false, true].into_iter().enumerate() {
        team.upstream.push(Script::sse_head().chunk(event.clone()).keep_open());
        let (_, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
        stream.event().await.unwrap().unwrap();
        stream.disconnect(resets);
        team.upstream.left_within(A_SECOND, count).await;
    }
    for settled in team.settled(&team.configuration_id, 2).await {
        settled.says(&[("outcome", "caller_left"), ("status", "200")]);
    }
}

async fn a_caller_that_stops_reading_cancels_the_upstream(database: Database) {
    let app = TestApp::with(&database, &["--downstream-write-timeout", "1s"]).await;
    let team = app.workspace().await;
    let event = data(json!({"choices": [{"delta": {"content": "x".repeat(16_000)}}]}));
    team.upstream.push(Script::sse_head().repeat(event, 10_000).end());
    let stream = team.caller().open(Fixture::chat_stream()).await.unwrap();
    // The buffers in between must fill first.
    team.upstream.left_within(DEADLINE, 0).await;
    team.settled_once().await.says(&[("outcome", "caller_left")]);
    drop(stream);

    // A slow reader is not disconnected.
    let pieces = 60;
    let event = data(json!({"choices": [{"delta": {"content": "y".repeat(100_000)}}]}));
    team.upstream.push(Script::sse_head().repeat(event, pieces).chunk(data("[DONE]")).end());
    let (_, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
    let (events, ending) = stream.events().await;
    assert_eq!((events.len(), ending), (pieces + 1, BodyEnd::Complete));
}
