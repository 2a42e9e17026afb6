//! Limits of size, memory, time and concurrency, and that they are released.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    proxy_routes::gateway_error,
    support::{
        app::TestApp,
        case::{Case, cases},
        connection::{BodyEnd, Connection, ReadError},
        database::Database,
        fixture::{Fixture, question},
        http::{Answer, Client, Request},
        openai::{self, Usage, paused_chat_stream},
        script::{Pause, Script, data},
        wait::{DEADLINE, eventually, within},
    },
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_body_over_the_limit_gets_413,
        a_slow_body_gets_408,
        an_incomplete_body_is_not_sent_upstream,
        all_bodies_share_a_memory_budget,
        a_slow_connect_gets_504,
        a_slow_first_byte_gets_504,
        a_silent_stream_is_ended,
        a_silent_plain_answer_is_ended,
        a_whole_request_has_no_time_limit,
        a_configuration_overrides_time_limits,
        concurrent_requests_of_a_configuration_are_limited,
        concurrent_requests_of_the_process_are_limited,
    ]
}

/// The answer to a request that was sent.
async fn answer(mut connection: Connection) -> Answer {
    let head = within(DEADLINE, "an answer", connection.head()).await.unwrap();
    let (pieces, ending) = connection.rest().await;
    let body: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
    Answer { status: head.status, headers: head.headers, body: body.into(), ending }
}

async fn a_body_over_the_limit_gets_413(database: Database) {
    let app = TestApp::with(&database, &["--max-body-bytes", "1MiB"]).await;
    let team = app.workspace().await;
    let route = Fixture::route("chat/completions");
    let text = |length: usize| {
        let start = "{\"x\":\"";
        Bytes::from(format!("{start}{}\"}}", "a".repeat(length - start.len() - 2)))
    };
    let most = 1 << 20;
    let chunks = |body: Bytes| body.chunks(50_000).map(Bytes::copy_from_slice).collect::<Vec<_>>();
    team.caller().send(Request::new("POST", &route).body(text(most))).await.expect(200);
    team.caller().send(Request::new("POST", &route).chunked(chunks(text(most)))).await.expect(200);
    // Declared but not sent.
    let declared = Request::new("POST", &route).promising(most + 1);
    let refused = answer(team.caller().open(declared).await.unwrap()).await;
    gateway_error(&refused, 413, "body_too_large");
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert_eq!(refused.header("connection"), Some("close"));
    // Sent completely, in either framing.
    for request in [
        Request::new("POST", &route).body(text(most + 1)),
        Request::new("POST", &route).chunked(chunks(text(most + 1))),
    ] {
        gateway_error(&team.caller().send(request).await, 413, "body_too_large");
    }
    assert_eq!(team.upstream.seen().requests.len(), 2);
}

async fn a_slow_body_gets_408(database: Database) {
    let app = TestApp::with(&database, &["--body-timeout", "300ms"]).await;
    let team = app.workspace().await;
    let request = Request::new("POST", &Fixture::route("responses")).promising(100);
    let mut connection = team.caller().open(request).await.unwrap();
    connection.send("{\"input\":").await.unwrap();
    let refused = answer(connection).await;
    gateway_error(&refused, 408, "body_timeout");
    assert_eq!(refused.header("connection"), Some("close"));
    assert_eq!(team.upstream.seen().accepted(), 0);
    // Behind another request, and without any of its body.
    let pipelined = Request::new("POST", &Fixture::route("responses")).promising(100);
    let mut connection = team.caller().open(Fixture::chat()).await.unwrap();
    let pipelined = pipelined.bearer(&team.caller_key);
    connection.request(&pipelined).await.unwrap();
    assert_eq!(within(DEADLINE, "an answer", connection.answer()).await.unwrap().status, 200);
    gateway_error(&answer(connection).await, 408, "body_timeout");
    assert_eq!(team.upstream.seen().requests.len(), 1);
}

async fn an_incomplete_body_is_not_sent_upstream(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let request =
        Request::new("POST", &Fixture::route("responses")).header("transfer-encoding", "chunked");
    let mut connection = team.caller().open(request).await.unwrap();
    connection.send("5\r\n{\"a\":\r\nzz\r\n").await.unwrap();
    // The HTTP library decides whether there is an answer.
    match within(DEADLINE, "an end", connection.head()).await {
        Ok(head) => assert_eq!(head.status, 400),
        Err(cut) => assert!(matches!(cut, ReadError::Closed | ReadError::Reset), "{cut:?}"),
    }
    assert_eq!(team.upstream.seen().accepted(), 0);
}

async fn all_bodies_share_a_memory_budget(database: Database) {
    let options = ["--max-body-bytes", "1MiB", "--body-memory-bytes", "1MiB"];
    let app = TestApp::with(&database, &options).await;
    let team = app.workspace().await;
    let route = Fixture::route("chat/completions");
    let large = || Bytes::from(format!("{{\"x\":\"{}\"}}", "a".repeat(700_000)));
    let whole = || Request::new("POST", &route).body(large());
    // The body is kept until the upstream has answered, because it may be sent again.
    let pause = Pause::new();
    let script = Script::new().wait(&pause).and(openai::chat_completion("held", Usage::USUAL));
    team.upstream.push(script);
    let first = team.caller().open(whole()).await.unwrap();
    team.upstream.request(0).await;
    let refused = team.caller().send(whole()).await;
    gateway_error(&refused, 503, "overloaded");
    assert!(refused.header("retry-after").is_some());
    // Small bodies still fit, and memory is released.
    team.caller().send(Fixture::chat()).await.expect(200);
    pause.release_all();
    assert_eq!(answer(first).await.status, 200);
    team.caller().send(whole()).await.expect(200);
    let left = Request::new("POST", &route).promising(large().len());
    let mut left = team.caller().open(left).await.unwrap();
    left.send(&large()[..600_000]).await.unwrap();
    left.hang_up();
    eventually("what a caller held that left is given back", async || {
        team.caller().send(whole()).await.status == 200
    })
    .await;
}

async fn a_slow_connect_gets_504(database: Database) {
    let app = TestApp::with(&database, &["--connect-timeout", "300ms"]).await;
    let team = app.workspace().await;
    // A full backlog neither accepts nor refuses connections.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener: TcpListener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    loop {
        let connect = tokio::net::TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(200), connect).await {
            Ok(stream) => filling.push(stream.unwrap()),
            Err(_) => break,
        }
    }
    team.configure("full", json!({"base_url": format!("http://{address}/v1")})).await;
    let answer =
        team.caller().post_json("/providers/full/v1/chat/completions", &question(false)).await;
    gateway_error(&answer, 504, "upstream_connect_timeout");
}

async fn a_slow_first_byte_gets_504(database: Database) {
    let app = TestApp::with(&database, &["--first-byte-timeout", "300ms"]).await;
    let team = app.workspace().await;
    let interim = Script::new().informational(103, &[]).keep_open();
    for (count, script) in [Script::new().keep_open(), interim].into_iter().enumerate() {
        team.upstream.push(script);
        let refused = team.caller().send(Fixture::chat()).await;
        gateway_error(&refused, 504, "upstream_first_byte_timeout");
        assert_eq!(refused.json()["error"]["type"], "upstream_error");
        team.upstream.left_within(DEADLINE, count).await;
    }
    assert_eq!(team.upstream.seen().requests.len(), 2, "a limit is no reason to try again");
}

async fn a_silent_stream_is_ended(database: Database) {
    let app = TestApp::with(&database, &["--idle-timeout", "300ms"]).await;
    let team = app.workspace().await;
    let event = data(json!({"choices": [{}]}));
    team.upstream.push(Script::sse_head().chunk(event.clone()).keep_open());
    let (_, mut stream) = team.caller().stream(Fixture::chat_stream()).await;
    let (events, ending) = within(DEADLINE, "an end", stream.events()).await;
    assert!(matches!(ending, BodyEnd::Broken(_)), "{ending:?}");
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].raw, event);
    assert_eq!(events[1].json()["error"]["code"], "upstream_idle_timeout");
    team.upstream.left_within(DEADLINE, 0).await;
    team.settled_once().await.says(&[("outcome", "upstream_broke"), ("code", "idle_timeout")]);
}

async fn a_silent_plain_answer_is_ended(database: Database) {
    let app = TestApp::with(&database, &["--idle-timeout", "300ms"]).await;
    let team = app.workspace().await;
    for status in [200, 500] {
        team.upstream.push(Script::new().sized_head(status, &[], 10).raw("{").keep_open());
        let caller = team.caller();
        let answer = within(DEADLINE, "an end", caller.try_send(Fixture::chat())).await;
        assert!(answer.is_err() || matches!(answer.unwrap().ending, BodyEnd::Broken(_)));
    }
}

async fn a_whole_request_has_no_time_limit(database: Database) {
    let options = ["--idle-timeout", "600ms", "--first-byte-timeout", "600ms"];
    let app = TestApp::with(&database, &options).await;
    let team = app.workspace().await;
    let event = data(json!({"choices": [{}]}));
    let script = (0..10).fold(Script::sse_head(), |script, _| {
        script.chunk(event.clone()).delay(Duration::from_millis(150))
    });
    team.upstream.push(script.chunk(data("[DONE]")).end());
    let answer = team.caller().send(Fixture::chat_stream()).await.expect(200);
    assert_eq!(answer.text(), event.repeat(10) + &data("[DONE]"));
}

async fn a_configuration_overrides_time_limits(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    let limits = json!({"timeouts": {"first_byte_ms": 300, "idle_ms": 300}});
    team.configure("hasty", limits).await;
    let request = || Request::post_json("/providers/hasty/v1/chat/completions", &question(true));
    team.upstream.push(Script::new().keep_open());
    let caller = team.caller();
    let answer = within(DEADLINE, "an answer", caller.send(request())).await;
    gateway_error(&answer, 504, "upstream_first_byte_timeout");
    team.upstream.push(Script::sse_head().chunk(data("{}")).keep_open());
    let (_, mut stream) = team.caller().stream(request()).await;
    let (events, ending) = within(DEADLINE, "an end", stream.events()).await;
    assert_eq!(events.last().unwrap().json()["error"]["code"], "upstream_idle_timeout");
    assert!(matches!(ending, BodyEnd::Broken(_)));
}

/// Opens streams and reads the head of each.
async fn open_streams(caller: &Client, route: &str, count: usize) -> Vec<Connection> {
    let mut open = Vec::new();
    for _ in 0..count {
        let (head, stream) = caller.stream(Request::post_json(route, &question(true))).await;
        assert_eq!(head.status, 200);
        open.push(stream);
    }
    open
}

async fn concurrent_requests_of_a_configuration_are_limited(database: Database) {
    let (_app, team) = TestApp::start_with_workspace(&database).await;
    team.configure("narrow", json!({"max_concurrent_requests": 2})).await;
    let route = "/providers/narrow/v1/chat/completions";
    let pause = Pause::new();
    for _ in 0..3 {
        team.upstream.push(paused_chat_stream(&pause));
    }
    let mut open = open_streams(&team.caller(), route, 2).await;
    for request in
        [Request::post_json(route, &question(false)), Request::get("/providers/narrow/v1/models")]
    {
        let refused = team.caller().send(request).await;
        gateway_error(&refused, 429, "concurrency_limit_exceeded");
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    }
    assert_eq!(team.upstream.seen().requests.len(), 2);
    // Another configuration is not affected. (It gets the remaining script.)
    let other = open_streams(&team.caller(), &Fixture::route("chat/completions"), 1).await;
    // A disconnect and the end of a stream release their slots.
    open.pop().unwrap().hang_up();
    let free = async || {
        let request = Request::get("/providers/narrow/v1/models");
        team.caller().send(request).await.status == 200
    };
    eventually("a place is given back by a caller that left", free).await;
    team.upstream.push(paused_chat_stream(&pause));
    open.extend(open_streams(&team.caller(), route, 1).await);
    assert_eq!(team.caller().post_json(route, &question(false)).await.status, 429);
    pause.release_all();
    for mut stream in open.into_iter().chain(other) {
        assert_eq!(stream.events().await.1, BodyEnd::Complete);
    }
    eventually("both places are given back", free).await;
    // A failed request releases its slot.
    team.upstream.push(Script::new().raw("HTTP/1.1 2").close());
    team.caller().post_json(route, &question(false)).await.expect(502);
    let pause = Pause::new();
    team.upstream.push(paused_chat_stream(&pause));
    team.upstream.push(paused_chat_stream(&pause));
    let open = open_streams(&team.caller(), route, 2).await;
    pause.release_all();
    drop(open);
}

async fn concurrent_requests_of_the_process_are_limited(database: Database) {
    let app = TestApp::with(&database, &["--max-concurrent-requests", "2"]).await;
    let team = app.workspace().await;
    let pause = Pause::new();
    team.upstream.push(paused_chat_stream(&pause));
    team.upstream.push(paused_chat_stream(&pause));
    let open = open_streams(&team.caller(), &Fixture::route("chat/completions"), 2).await;
    let refused = team.caller().send(Fixture::chat()).await;
    gateway_error(&refused, 503, "overloaded");
    assert!(refused.header("retry-after").is_some());
    // The limit does not apply to the management plane.
    app.admin().get("/api/v1/me").await.expect(200);
    pause.release_all();
    for mut stream in open {
        assert_eq!(stream.events().await.1, BodyEnd::Complete);
    }
    eventually("the places are given back", async || {
        team.caller().send(Fixture::chat()).await.status == 200
    })
    .await;
}
