//! What a chain holds back of an answer, and how often it sends a request again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    case::{Case, cases},
    chain::{Chain, USAGE, bad, good, served_by},
    connection::BodyEnd,
    database::Database,
    fixture::Fixture,
    fixture::question,
    http::Request,
    openai,
    script::{Pause, Script},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_long_beginning_is_not_held_back,
        the_last_target_holds_nothing_back,
        a_request_is_retried_once_over_all_targets,
    ]
}

fn event_of(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn role() -> String {
    event_of(&json!({"choices": [{"index": 0, "delta": {"role": "assistant"}}]}))
}

fn padding(bytes: usize) -> String {
    format!(": {}\n\n", "x".repeat(bytes))
}

async fn a_long_beginning_is_not_held_back(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    let error = event_of(&json!({"error": {"message": "overloaded", "code": 529}}));
    // Within 64 KiB another target can still answer.
    chain.team.upstream.push(Script::sse([role(), padding(60 * 1024), error.clone()]));
    chain.others[0].push(openai::chat_stream(&["Good ", "morning."], USAGE, true));
    let answer = chain.team.caller().send(Fixture::chat_stream()).await.expect(200);
    served_by(&answer, "custom/second", "2");
    chain.app.advance(Duration::from_secs(120));
    // Beyond, the caller has it before the upstream goes on.
    let pause = Pause::new();
    let begun = [role(), padding(66 * 1024)];
    let script = Script::sse_head().chunks(begun.clone()).wait(&pause).chunk(error.clone());
    chain.team.upstream.push(script.end());
    let (head, mut answer) = chain.team.caller().stream(Fixture::chat_stream()).await;
    assert_eq!(head.status, 200);
    pause.release_all();
    let (pieces, end) = answer.rest().await;
    assert!(matches!(end, BodyEnd::Complete), "{end:?}");
    let relayed: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
    assert_eq!(String::from_utf8(relayed).unwrap(), begun.concat() + &error);
    assert_eq!(chain.counts(), [2, 1, 0]);
}

async fn the_last_target_holds_nothing_back(database: Database) {
    let chain = Chain::start(&database).await;
    chain.usual(json!({})).await;
    chain.team.upstream.push(bad(500));
    chain.others[0].push(bad(500));
    let alone = Fixture::chat_stream().header("x-tollgate-fallback", "off");
    for (upstream, request) in [
        (&chain.others[1], Fixture::chat_stream()),
        // Nor does a request without a chain.
        (&chain.team.upstream, alone),
    ] {
        let pause = Pause::new();
        let rest = openai::chat_events(&["Good ", "morning."], USAGE, true);
        upstream.push(Script::sse_head().chunk(role()).wait(&pause).chunks(rest).end());
        let (head, mut answer) = chain.team.caller().stream(request).await;
        assert_eq!(head.status, 200);
        pause.release_all();
        let (_, end) = answer.rest().await;
        assert!(matches!(end, BodyEnd::Complete), "{end:?}");
    }
    assert_eq!(chain.counts(), [2, 1, 1]);
}

async fn a_request_is_retried_once_over_all_targets(database: Database) {
    // One worker has one pool, so that connections are used again.
    let chain = Chain::start_with(&database, &["--workers", "1"]).await;
    chain.usual(json!({})).await;
    for (upstream, name) in [(&chain.team.upstream, "main"), (&chain.others[0], "second")] {
        upstream.push(good());
        let path = format!("/providers/{name}/v1/chat/completions");
        let request = Request::post_json(&path, &question(false));
        chain.team.caller().send(request).await.expect(200);
    }
    // The first is tried again on a new connection, which is closed as well; the second is not.
    chain.team.upstream.push(Script::new().close());
    chain.team.upstream.push(Script::new().close());
    chain.others[0].push(Script::new().close());
    chain.others[1].push(good());
    served_by(&chain.ask().await.expect(200), "custom/third", "4");
    assert_eq!(chain.counts(), [3, 2, 1]);
    let connections = |at: usize| -> Vec<_> {
        let upstream = [&chain.team.upstream, &chain.others[0]][at];
        upstream.seen().requests.iter().map(|request| request.connection).collect()
    };
    assert_eq!((connections(0), connections(1)), (vec![0, 0, 1], vec![0, 0]));
}
