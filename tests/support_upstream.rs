//! Tests of the scripted upstream and the raw client against each other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde_json::json;

use crate::support::{
    case::{Case, cases},
    connection::{BodyEnd, Connection, ReadError},
    http::{Client, Request},
    openai,
    script::{Pause, Script, Step, data},
    upstream::{ClosedBy, ScriptedUpstream},
};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        plain the_upstream_records_what_it_is_sent,
        plain the_upstream_keeps_connections_alive,
        plain the_upstream_answers_as_openai_does,
        plain chunks_arrive_one_by_one_when_sent,
        plain an_interim_head_comes_before_the_answer,
        plain a_complete_body_differs_from_a_broken_one,
        plain a_reset_differs_from_a_close,
        plain the_upstream_notices_a_disconnect,
        plain the_upstream_closes_an_idle_connection_under_a_request,
        plain a_long_stream_is_generated_as_it_is_read,
        plain many_streams_stay_open_concurrently,
        plain requests_can_be_slow_and_half_closed,
        plain a_stopped_upstream_refuses_connections,
    ]
}

async fn the_upstream_records_what_it_is_sent() {
    let upstream = ScriptedUpstream::start().await;
    let client = Client::new(upstream.address());
    let request = Request::new("PUT", "/a%2Fb?x=1&x=%20").header("X-One", "1").header("x-one", "2");
    let answer = client.send(request.clone().body("sized")).await.expect(404);
    assert_eq!(answer.json()["error"]["code"], "unknown_url");
    client.send(request.chunked([Bytes::from("chu"), Bytes::from("nked")])).await.expect(404);

    let seen = upstream.seen();
    assert_eq!((seen.requests.len(), seen.accepted()), (2, 2));
    let request = upstream.request(0).await;
    assert_eq!((request.method.as_str(), request.target.as_str()), ("PUT", "/a%2Fb?x=1&x=%20"));
    assert_eq!((request.path(), request.query()), ("/a%2Fb", Some("x=1&x=%20")));
    let ones: Vec<_> =
        request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-one")).collect();
    assert_eq!(
        ones,
        [&("X-One".to_owned(), "1".to_owned()), &("x-one".to_owned(), "2".to_owned())]
    );
    assert_eq!(request.body, "sized");
    assert_eq!(upstream.last_request().body, "chunked");
}

async fn the_upstream_keeps_connections_alive() {
    let upstream = ScriptedUpstream::start().await;
    let mut connection = Connection::open(upstream.address()).await.unwrap();
    for _ in 0..3 {
        connection.request(&Request::get("/v1/models")).await.unwrap();
        assert_eq!(connection.head().await.unwrap().status, 200);
        assert_eq!(connection.rest().await.1, BodyEnd::Complete);
    }
    assert_eq!((upstream.seen().accepted(), upstream.seen().open()), (1, 1));
    connection.request(&Request::get("/v1/models").header("connection", "close")).await.unwrap();
    assert_eq!(connection.head().await.unwrap().status, 200);
    assert_eq!(connection.rest().await.1, BodyEnd::Complete);
    assert_eq!(connection.closed().await, ReadError::Closed);
    let seen = upstream.wait_for("the connection is closed", |seen| seen.open() == 0).await;
    assert_eq!(seen.connections[0].closed.unwrap().0, ClosedBy::Upstream);
}

async fn the_upstream_answers_as_openai_does() {
    let upstream = ScriptedUpstream::start().await;
    let client = Client::new(upstream.address());
    let text = openai::PARTS.concat();

    let plain = client.post_json("/v1/chat/completions", &json!({})).await.expect(200).json();
    assert_eq!(plain["choices"][0]["message"]["content"], text);
    assert_eq!(plain["usage"]["total_tokens"], 18);

    for include_usage in [false, true] {
        let body = json!({"stream": true, "stream_options": {"include_usage": include_usage}});
        let (_, mut stream) =
            client.stream(Request::post_json("/v1/chat/completions", &body)).await;
        let (events, ending) = stream.events().await;
        assert_eq!(ending, BodyEnd::Complete);
        let (done, events) = events.split_last().unwrap();
        assert_eq!(done.raw, "data: [DONE]\n\n");
        let last = events.last().unwrap().json();
        assert_eq!(last["choices"].as_array().unwrap().is_empty(), include_usage);
        assert_eq!(last["usage"].is_object(), include_usage);
        assert_eq!(events[0].json().get("usage").is_some(), include_usage);
        let deltas = events.iter().filter_map(|event| {
            event.json()["choices"][0]["delta"]["content"].as_str().map(str::to_owned)
        });
        assert_eq!(deltas.collect::<String>(), text);
    }

    let plain = client.post_json("/v1/responses", &json!({})).await.expect(200).json();
    assert_eq!(plain["output"][0]["content"][0]["text"], text);
    let request = Request::post_json("/v1/responses", &json!({"stream": true}));
    let (events, _) = client.stream(request).await.1.events().await;
    let last = events.last().unwrap();
    assert_eq!(last.name.as_deref(), Some("response.completed"));
    assert_eq!(last.json()["response"]["usage"]["input_tokens"], 11);

    let models = client.get("/v1/models").await.expect(200).json();
    let id = models["data"][0]["id"].as_str().unwrap();
    assert_eq!(client.get(&format!("/v1/models/{id}")).await.expect(200).json()["id"], id);
}

async fn chunks_arrive_one_by_one_when_sent() {
    let upstream = ScriptedUpstream::start().await;
    let pause = Pause::new();
    // Split inside `data:` and inside a character.
    let event = data("ë").into_bytes();
    let parts = [&event[..2], &event[2..7], &event[7..]].map(Bytes::copy_from_slice);
    let [one, two, three] = parts.clone();
    upstream.push(
        Script::sse_head().chunk(one).wait(&pause).chunk(two).wait(&pause).chunk(three).end(),
    );
    let (head, mut stream) = Client::new(upstream.address()).stream(Request::get("/")).await;
    assert_eq!(head.header("Content-Type"), Some("text/event-stream; charset=utf-8"));
    let mut last = None;
    for (index, part) in parts.into_iter().enumerate() {
        if index > 0 {
            // Nothing arrives before the pause is released.
            assert!(tokio::time::timeout(Duration::from_millis(30), stream.piece()).await.is_err());
            pause.release();
        }
        let piece = stream.piece().await.unwrap().unwrap();
        assert_eq!(piece.bytes, part);
        assert!(last.replace(piece.at).is_none_or(|last| last < piece.at));
    }
    assert!(stream.piece().await.unwrap().is_none());
}

async fn an_interim_head_comes_before_the_answer() {
    let upstream = ScriptedUpstream::start().await;
    let pause = Pause::new();
    let early =
        Script::new().informational(103, &[("link", "</style.css>; rel=preload")]).wait(&pause);
    upstream.push(early.and(Script::json(200, &json!({"ok": true}))));
    let (head, mut connection) = Client::new(upstream.address()).stream(Request::get("/")).await;
    assert_eq!(head.status, 103);
    pause.release_all();
    assert_eq!(connection.head().await.unwrap().status, 200);
    let (pieces, ending) = connection.rest().await;
    assert_eq!((pieces[0].bytes.as_ref(), ending), (&b"{\"ok\":true}"[..], BodyEnd::Complete));
}

async fn a_complete_body_differs_from_a_broken_one() {
    let upstream = ScriptedUpstream::start().await;
    let whole = [
        (Script::new().sized(200, &[], "four"), BodyEnd::Complete),
        (Script::new().chunked_head(200, &[]).chunk("four").end(), BodyEnd::Complete),
        (Script::new().head(200, &[]).raw("four").close(), BodyEnd::UntilClose),
        (
            Script::new().sized_head(200, &[], 5).raw("four").close(),
            BodyEnd::Broken(ReadError::Closed),
        ),
        (
            Script::new().chunked_head(200, &[]).chunk("four").close(),
            BodyEnd::Broken(ReadError::Closed),
        ),
        (
            Script::new().chunked_head(200, &[]).chunk("four").raw("9\r\nshor").close(),
            BodyEnd::Broken(ReadError::Closed),
        ),
        (
            Script::new().chunked_head(200, &[]).chunk("four").raw("zz\r\n"),
            BodyEnd::Broken(ReadError::Malformed),
        ),
    ];
    let client = Client::new(upstream.address());
    for (index, (script, ending)) in whole.into_iter().enumerate() {
        upstream.push(script);
        let answer = client.get("/").await;
        assert_eq!((answer.text().as_str(), answer.ending), ("four", ending), "script {index}");
    }
    let (head, mut connection) = client.stream(Request::new("HEAD", "/v1/models")).await;
    assert_eq!((head.status, connection.rest().await.1), (404, BodyEnd::Complete));
}

async fn a_reset_differs_from_a_close() {
    let upstream = ScriptedUpstream::start().await;
    let client = Client::new(upstream.address());
    for (script, cut) in
        [(Script::new().close(), ReadError::Closed), (Script::new().reset(), ReadError::Reset)]
    {
        upstream.push(script);
        assert_eq!(client.try_send(Request::get("/")).await.unwrap_err(), cut);
    }
    // In the middle of a stream: the client has read what was sent before.
    let pause = Pause::new();
    upstream.push(Script::sse_head().chunk(data(1)).chunk("data: {\"un").wait(&pause).reset());
    let (_, mut stream) = client.stream(Request::get("/")).await;
    assert_eq!(stream.event().await.unwrap().unwrap().data, "1");
    stream.piece().await.unwrap();
    pause.release_all();
    let (events, ending) = stream.events().await;
    assert_eq!((events.len(), ending), (0, BodyEnd::Broken(ReadError::Reset)));
}

async fn the_upstream_notices_a_disconnect() {
    let upstream = ScriptedUpstream::start().await;
    let client = Client::new(upstream.address());
    // Before the head and in a silent stream, with FIN and with RST.
    for (index, reset) in [(0, false), (1, true)] {
        upstream.push(Script::new().keep_open());
        let quiet = client.open(Request::get("/")).await.unwrap();
        upstream.push(Script::sse_head().chunk(data(1)).wait(&Pause::new()));
        let (_, mut stream) = client.stream(Request::get("/")).await;
        stream.event().await.unwrap();
        upstream.request(index * 2 + 1).await;
        for (connection, caller) in [(index * 2, quiet), (index * 2 + 1, stream)] {
            assert!(upstream.seen().connections[connection].closed.is_none());
            caller.disconnect(reset);
            upstream.left_within(Duration::from_secs(5), connection).await;
            let by = upstream.seen().connections[connection].closed.unwrap().0;
            assert_eq!(by, if reset { ClosedBy::PeerReset } else { ClosedBy::Peer });
        }
    }
    let mut cut = client.open(Request::new("POST", "/").promising(10)).await.unwrap();
    cut.send("only").await.unwrap();
    cut.hang_up();
    let seen = upstream.wait_for("the request is cut", |seen| seen.cut_requests == 1).await;
    assert_eq!((seen.requests.len(), seen.left_by_peer()), (4, 5));
}

async fn the_upstream_closes_an_idle_connection_under_a_request() {
    let upstream = ScriptedUpstream::start().await;
    upstream.push(Script::new().sized(200, &[], "first").then(Step::WaitForNextRequest).close());
    let mut connection = Connection::open(upstream.address()).await.unwrap();
    connection.request(&Request::get("/")).await.unwrap();
    connection.head().await.unwrap();
    assert_eq!(connection.rest().await.1, BodyEnd::Complete);
    connection.request(&Request::get("/again")).await.unwrap();
    assert_eq!(connection.head().await.unwrap_err(), ReadError::Closed);
    assert_eq!(upstream.seen().requests.len(), 1);
}

async fn a_long_stream_is_generated_as_it_is_read() {
    const CHUNKS: usize = 1600;
    let upstream = ScriptedUpstream::start().await;
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
    let chunks = std::iter::repeat_n(chunk, CHUNKS).inspect(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    upstream.push(Script::new().chunked_head(200, &[]).lazy(chunks).end());
    let (_, mut stream) = Client::new(upstream.address()).stream(Request::get("/")).await;
    stream.piece().await.unwrap();
    tokio::task::yield_now().await;
    // Socket buffers limit how much is generated.
    assert!(made.load(Ordering::SeqCst) < CHUNKS / 2);
    let mut total = 0;
    while let Some(piece) = stream.piece().await.unwrap() {
        total += piece.bytes.len();
    }
    assert_eq!(total, (CHUNKS - 1) * 64 * 1024);
}

async fn many_streams_stay_open_concurrently() {
    const STREAMS: usize = 200;
    let pause = Pause::new();
    let waiting = pause.clone();
    let upstream = ScriptedUpstream::with(move |_| {
        Script::sse_head().chunk(data(1)).wait(&waiting).chunk(data(2)).end()
    })
    .await;
    let client = Client::new(upstream.address());
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let (_, mut stream) = client.stream(Request::get("/")).await;
        stream.event().await.unwrap().unwrap();
        streams.push(stream);
    }
    assert_eq!(upstream.seen().open(), STREAMS);
    pause.release_all();
    for stream in &mut streams {
        let (events, ending) = stream.events().await;
        assert_eq!((events.len(), ending), (1, BodyEnd::Complete));
    }
    drop(streams);
    upstream.wait_for("all have left", |seen| seen.left_by_peer() == STREAMS).await;
}

async fn requests_can_be_slow_and_half_closed() {
    let upstream = ScriptedUpstream::start().await;
    let client = Client::new(upstream.address());
    let mut slow = client.open(Request::new("POST", "/").promising(3)).await.unwrap();
    for byte in ["a", "b", "c"] {
        assert!(upstream.seen().requests.is_empty());
        slow.send(byte).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(slow.head().await.unwrap().status, 404);
    assert_eq!(upstream.last_request().body, "abc");
    // A half-close counts as a disconnect; the client still sees the close.
    slow.half_close().await.unwrap();
    upstream.left_within(Duration::from_secs(5), 0).await;
    assert_eq!(slow.closed().await, ReadError::Closed);
}

async fn a_stopped_upstream_refuses_connections() {
    let upstream = ScriptedUpstream::start().await;
    let address = upstream.address();
    upstream.push(Script::new().keep_open());
    let mut open = Client::new(address).open(Request::get("/")).await.unwrap();
    upstream.request(0).await;
    upstream.stop().await;
    assert!(Connection::open(address).await.is_err());
    open.closed().await;
}
