//! The client against real servers on loopback that say exactly what a test wants said.

use std::{cell::Cell, future::Future, rc::Rc, sync::Arc, time::Duration};

use actix_http::{
    Method,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, future::join_all};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::*;

/// Far longer than anything takes here; a test that hangs fails with a line number.
const PATIENCE: Duration = Duration::from_secs(10);
const GENEROUS: UpstreamTimeouts =
    UpstreamTimeouts { connect: PATIENCE, first_byte: PATIENCE, idle: PATIENCE };

fn settings() -> UpstreamSettings {
    UpstreamSettings {
        egress: EgressRules::new(vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]),
        tls: tls_config(None).unwrap(),
        idle_keep_alive: client::DEFAULT_IDLE_KEEP_ALIVE,
    }
}

fn client() -> UpstreamClient {
    UpstreamClient::new(&settings())
}

fn request_to(base: &str) -> UpstreamRequest {
    UpstreamRequest {
        method: Method::POST,
        target: BaseUrl::parse(base).unwrap().join("/chat/completions", None),
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{}"),
        timeouts: GENEROUS,
    }
}

/// Serves every connection with a copy of `script`, and counts them.
struct Server {
    url: String,
    accepted: Rc<Cell<usize>>,
}

impl Server {
    async fn start<F, W>(script: F) -> Self
    where
        F: Fn(TcpStream) -> W + 'static,
        W: Future<Output = ()> + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let accepted = Rc::new(Cell::new(0));
        let count = Rc::clone(&accepted);
        actix_rt::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.set(count.get() + 1);
                actix_rt::spawn(script(stream));
            }
        });
        Self { url, accepted }
    }

    /// A server that answers each request of a connection with the same bytes, and closes the
    /// connection after `requests` of them.
    async fn answering(answer: &'static str, requests: usize) -> Self {
        Self::start(move |mut stream| async move {
            for _ in 0..requests {
                if read_request(&mut stream).await.is_none() {
                    return;
                }
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        })
        .await
    }

    fn request(&self) -> UpstreamRequest {
        request_to(&self.url)
    }
}

/// Reads one request with a content-length; `None` when the connection ends before it.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = BytesMut::new();
    loop {
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                return Some(head);
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

async fn send(client: &UpstreamClient, request: UpstreamRequest) -> UpstreamResponse {
    timeout(PATIENCE, client.send(request)).await.expect("no answer").unwrap()
}

async fn send_err(client: &UpstreamClient, request: UpstreamRequest) -> UpstreamFailure {
    timeout(PATIENCE, client.send(request)).await.expect("no answer").unwrap_err()
}

/// The whole body, or what came of it and the error.
async fn read_all(mut body: UpstreamBody) -> (String, Option<UpstreamError>) {
    let mut bytes = Vec::new();
    let error = timeout(PATIENCE, async {
        loop {
            match body.next().await {
                Some(Ok(chunk)) => bytes.extend_from_slice(&chunk),
                Some(Err(error)) => {
                    assert!(body.next().await.is_none(), "a body goes on after an error");
                    return Some(error);
                }
                None => return None,
            }
        }
    })
    .await
    .expect("the body does not end");
    (String::from_utf8(bytes).unwrap(), error)
}

async fn text(body: UpstreamBody) -> String {
    match read_all(body).await {
        (text, None) => text,
        (text, Some(error)) => panic!("{error} after {text:?}"),
    }
}

#[actix_web::test]
async fn sends_the_request_as_given_and_reads_the_answer() {
    let (seen, mut requests) = mpsc::unbounded_channel();
    let server = Server::start(move |mut stream| {
        let seen = seen.clone();
        async move {
            seen.send(read_request(&mut stream).await.unwrap()).unwrap();
            stream
                .write_all(
                    b"HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nslow",
                )
                .await
                .unwrap();
        }
    })
    .await;
    let mut request = request_to(&format!("{}/v1?v=1", server.url));
    for (name, value) in [
        ("authorization", "Bearer upstream"),
        ("host", "evil"),
        ("content-length", "999"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("expect", "100-continue"),
    ] {
        request.headers.insert(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    let response = send(&client(), request).await;
    assert_eq!(response.status, 429);
    assert_eq!(response.headers.get(header::RETRY_AFTER).unwrap(), "7");
    assert!(!response.reused_connection);
    assert_eq!(text(response.body).await, "slow");

    let head = requests.recv().await.unwrap();
    let mut lines: Vec<_> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST /v1/chat/completions?v=1 HTTP/1.1");
    // awc's encoder always writes a date.
    lines.retain(|line| !line.starts_with("date: "));
    lines.sort_unstable();
    let host = server.url.strip_prefix("http://").unwrap();
    let host = format!("host: {host}");
    assert_eq!(lines, ["authorization: Bearer upstream", "content-length: 2", host.as_str()]);
}

#[actix_web::test]
async fn a_body_that_is_cut_short_is_an_error_and_its_connection_is_gone() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let server = Server::answering(answer, 1).await;
        let client = client();
        for connections in 1..=2 {
            let response = send(&client, server.request()).await;
            let (text, error) = read_all(response.body).await;
            assert!(matches!(error, Some(UpstreamError::Closed)), "{answer:?}: {text} {error:?}");
            assert!(text.is_empty() || text == "hello", "{text}");
            assert_eq!(server.accepted.get(), connections, "{answer:?}");
        }
    }
}

#[actix_web::test]
async fn a_body_that_ends_with_its_connection_is_complete() {
    for answer in [
        "HTTP/1.1 200 OK\r\nA: b\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\nA: b\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let server = Server::answering(answer, 1).await;
        let client = client();
        for connections in 1..=2 {
            let response = send(&client, server.request()).await;
            assert_eq!(text(response.body).await, "hello", "{answer:?}");
            assert_eq!(server.accepted.get(), connections, "{answer:?}");
        }
    }
}

#[actix_web::test]
async fn an_empty_answer_ends_at_its_head() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nDigest: x\r\n\r\n",
    ] {
        let server = Server::answering(answer, usize::MAX).await;
        let client = client();
        for reused in [false, true] {
            let response = send(&client, server.request()).await;
            assert_eq!(response.reused_connection, reused, "{answer:?}");
            assert_eq!(text(response.body).await, "");
        }
        assert_eq!(server.accepted.get(), 1);
    }
    // HTTP/1.0 with a length of 0 does not wait for the close.
    let server =
        Server::answering("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", usize::MAX).await;
    assert_eq!(text(send(&client(), server.request()).await.body).await, "");
}

#[actix_web::test]
async fn interim_responses_are_skipped_and_the_connection_goes_on() {
    for answer in [
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let server = Server::answering(answer, usize::MAX).await;
        let client = client();
        for reused in [false, true, true] {
            let response = send(&client, server.request()).await;
            assert_eq!((response.status.as_u16(), response.reused_connection), (200, reused));
            assert!(!response.headers.contains_key(header::LINK));
            assert_eq!(text(response.body).await, "hello");
        }
        assert_eq!(server.accepted.get(), 1);
    }
}

#[actix_web::test]
async fn an_interim_response_may_come_long_before_the_answer() {
    let (go, wait) = oneshot::channel::<()>();
    let wait = Rc::new(Cell::new(Some(wait)));
    let server = Server::start(move |mut stream| {
        let wait = wait.take().unwrap();
        async move {
            read_request(&mut stream).await.unwrap();
            stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await.unwrap();
            wait.await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        }
    })
    .await;
    let client = client();
    let mut sending = std::pin::pin!(client.send(server.request()));
    // Not ready while only the hint has come.
    assert!(timeout(Duration::from_millis(50), &mut sending).await.is_err());
    go.send(()).unwrap();
    let response = timeout(PATIENCE, sending).await.unwrap().unwrap();
    assert_eq!(text(response.body).await, "ok");
}

#[actix_web::test]
async fn answers_that_are_not_http_are_protocol_errors() {
    let endless = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100).leak();
    let large = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "a".repeat(70_000)).leak();
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 4\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        "SSH-2.0-OpenSSH_9.9\r\n",
        endless,
        large,
    ] {
        let server = Server::answering(answer, usize::MAX).await;
        let client = client();
        for connections in 1..=2 {
            let failure = send_err(&client, server.request()).await;
            assert!(matches!(failure.error, UpstreamError::Protocol(_)), "{failure:?}");
            assert!(failure.response_bytes_seen && !failure.is_stale_connection());
            assert_eq!(server.accepted.get(), connections, "{answer:?}");
        }
    }
}

#[actix_web::test]
async fn a_connection_is_reused_after_each_clean_end() {
    let server = Server::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        usize::MAX,
    )
    .await;
    let client = client();
    for request in 0..20 {
        let response = send(&client, server.request()).await;
        assert_eq!(response.reused_connection, request > 0);
        assert_eq!(text(response.body).await, "hello");
    }
    assert_eq!(server.accepted.get(), 1);
}

#[actix_web::test]
async fn a_reader_that_takes_all_bytes_and_never_asks_for_the_end_leaves_a_usable_connection() {
    let server =
        Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", usize::MAX).await;
    let client = client();
    for reused in [false, true] {
        let mut response = send(&client, server.request()).await;
        assert_eq!(response.reused_connection, reused);
        let mut length = 0;
        while length < 5 {
            length += response.body.next().await.unwrap().unwrap().len();
        }
        drop(response);
    }
    assert_eq!(server.accepted.get(), 1);
}

#[actix_web::test]
async fn bytes_that_nobody_asked_for_are_never_an_answer() {
    // Behind the answer, in the same packet: the start of a forged one.
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
        "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nforged",
    ] {
        let server = Server::answering(answer, usize::MAX).await;
        let client = client();
        for connections in 1..=3 {
            let response = send(&client, server.request()).await;
            assert!(!response.reused_connection);
            assert_ne!(text(response.body).await, "forged");
            assert_eq!(server.accepted.get(), connections);
        }
    }
}

#[actix_web::test]
async fn bytes_on_an_idle_connection_condemn_it() {
    let (wrote, mut written) = mpsc::unbounded_channel();
    let proceed = Rc::new(tokio::sync::Notify::new());
    let go = Rc::clone(&proceed);
    let server = Server::start(move |mut stream| {
        let (wrote, go) = (wrote.clone(), Rc::clone(&go));
        async move {
            read_request(&mut stream).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            go.notified().await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged").await.unwrap();
            wrote.send(()).unwrap();
            let _ = read_request(&mut stream).await;
        }
    })
    .await;
    let client = client();
    assert_eq!(text(send(&client, server.request()).await.body).await, "ok");
    proceed.notify_one();
    written.recv().await.unwrap();
    let response = send(&client, server.request()).await;
    assert!(!response.reused_connection);
    assert_eq!(text(response.body).await, "ok");
    assert_eq!(server.accepted.get(), 2);
}

#[actix_web::test]
async fn the_close_race_is_told_from_other_failures() {
    // The second request on a connection meets a close, as if it had crossed it.
    let server = Server::start(|mut stream| async move {
        read_request(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        let mut byte = [0];
        let _ = stream.read_exact(&mut byte).await;
    })
    .await;
    let client = client();
    assert_eq!(text(send(&client, server.request()).await.body).await, "ok");
    let failure = send_err(&client, server.request()).await;
    assert!(matches!(failure.error, UpstreamError::Closed), "{failure:?}");
    assert!(failure.reused_connection && !failure.response_bytes_seen);
    assert!(failure.is_stale_connection());
    // The one retry finds the pool empty and dials.
    let response = send(&client, server.request()).await;
    assert!(!response.reused_connection);
    assert_eq!(text(response.body).await, "ok");

    // On a fresh connection the same close is no race.
    let server = Server::start(|mut stream| async move {
        let _ = read_request(&mut stream).await;
    })
    .await;
    let failure = send_err(&client, server.request()).await;
    assert!(matches!(failure.error, UpstreamError::Closed));
    assert!(!failure.reused_connection && !failure.is_stale_connection());

    // A reused connection that had begun to answer may have been billed.
    let server = Server::start(|mut stream| async move {
        read_request(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        read_request(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\nHT").await.unwrap();
    })
    .await;
    assert_eq!(text(send(&client, server.request()).await.body).await, "ok");
    let failure = send_err(&client, server.request()).await;
    assert!(matches!(failure.error, UpstreamError::Closed));
    assert!(failure.reused_connection && failure.response_bytes_seen);
    assert!(!failure.is_stale_connection());
}

#[actix_web::test]
async fn a_connection_that_was_closed_while_idle_is_not_used() {
    let (closed, mut closes) = mpsc::unbounded_channel();
    let server = Server::start(move |mut stream| {
        let closed = closed.clone();
        async move {
            read_request(&mut stream).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            drop(stream);
            closed.send(()).unwrap();
        }
    })
    .await;
    let client = client();
    for _ in 0..3 {
        let response = send(&client, server.request()).await;
        assert_eq!(text(response.body).await, "ok");
        closes.recv().await.unwrap();
    }
}

/// Reports when the client has closed the connection.
async fn until_closed(mut stream: TcpStream, closed: mpsc::UnboundedSender<()>) {
    let mut byte = [0];
    let _ = stream.read(&mut byte).await;
    closed.send(()).unwrap();
}

#[actix_web::test]
async fn dropping_send_before_the_head_closes_the_connection() {
    let (received, mut requests) = mpsc::unbounded_channel();
    let (closed, mut closes) = mpsc::unbounded_channel();
    let server = Server::start(move |mut stream| {
        let (received, closed) = (received.clone(), closed.clone());
        async move {
            read_request(&mut stream).await.unwrap();
            received.send(()).unwrap();
            until_closed(stream, closed).await;
        }
    })
    .await;
    let client = client();
    {
        let mut sending = std::pin::pin!(client.send(server.request()));
        tokio::select! {
            result = &mut sending => panic!("an answer: {result:?}"),
            _ = requests.recv() => {}
        }
    }
    timeout(Duration::from_secs(1), closes.recv()).await.expect("still open").unwrap();
}

#[actix_web::test]
async fn dropping_a_body_before_its_end_closes_the_connection() {
    for head in ["Content-Length: 1000", "Transfer-Encoding: chunked", "A: b"] {
        let (closed, mut closes) = mpsc::unbounded_channel();
        let server = Server::start(move |mut stream| {
            let closed = closed.clone();
            async move {
                read_request(&mut stream).await.unwrap();
                let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                until_closed(stream, closed).await;
            }
        })
        .await;
        let mut response = send(&client(), server.request()).await;
        assert!(response.body.next().await.unwrap().is_ok());
        drop(response);
        timeout(Duration::from_secs(1), closes.recv()).await.expect("still open").unwrap();
    }
}

#[actix_web::test]
async fn an_expired_idle_connection_is_closed_without_another_request() {
    let (closed, mut closes) = mpsc::unbounded_channel();
    let server = Server::start(move |mut stream| {
        let closed = closed.clone();
        async move {
            read_request(&mut stream).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            until_closed(stream, closed).await;
        }
    })
    .await;
    let settings = UpstreamSettings { idle_keep_alive: Duration::from_millis(100), ..settings() };
    let client = UpstreamClient::new(&settings);
    assert_eq!(text(send(&client, server.request()).await.body).await, "ok");
    timeout(Duration::from_secs(2), closes.recv()).await.expect("still open").unwrap();
    assert_eq!(text(send(&client, server.request()).await.body).await, "ok");
    assert_eq!(server.accepted.get(), 2);
}

#[actix_web::test]
async fn the_time_limits_are_separate() {
    let brief = Duration::from_millis(80);
    // Never answers.
    let server = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let mut request = server.request();
    request.timeouts.first_byte = brief;
    let failure = send_err(&client(), request).await;
    assert!(matches!(failure.error, UpstreamError::FirstByteTimeout), "{failure:?}");
    assert!(failure.error.is_timeout() && !failure.is_stale_connection());
    assert!(failure.elapsed >= brief);

    // Answers, then goes silent.
    let server = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            .await
            .unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let mut request = server.request();
    request.timeouts.idle = brief;
    let response = send(&client(), request).await;
    let (text, error) = read_all(response.body).await;
    assert_eq!(text, "hello");
    assert!(matches!(error, Some(UpstreamError::IdleTimeout)), "{error:?}");

    // Keeps talking for longer than the limits on silence.
    let server = Server::start(move |mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        let mut tick = tokio::time::interval(brief / 4);
        for _ in 0..12 {
            tick.tick().await;
            stream.write_all(b"1\r\nx\r\n").await.unwrap();
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    })
    .await;
    let mut request = server.request();
    request.timeouts =
        UpstreamTimeouts { connect: PATIENCE, first_byte: brief * 2, idle: brief * 2 };
    let response = send(&client(), request).await;
    assert_eq!(read_all(response.body).await.0.len(), 12);
}

#[actix_web::test]
async fn the_time_in_which_nobody_reads_is_not_the_upstreams() {
    let server = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
            .await
            .unwrap();
        let mut byte = [0];
        let _ = stream.read(&mut byte).await;
    })
    .await;
    let mut request = server.request();
    request.timeouts.idle = Duration::from_millis(150);
    let mut response = send(&client(), request).await;
    assert_eq!(response.body.next().await.unwrap().unwrap(), "a");
    let asked = tokio::time::Instant::now();
    // A slow reader: the clock starts when it comes back.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(matches!(response.body.next().await, Some(Err(UpstreamError::IdleTimeout))));
    assert!(asked.elapsed() >= Duration::from_millis(350));
}

#[actix_web::test]
async fn a_limit_may_be_endless() {
    let server = Server::answering("HTTP/1.1 200 OK\r\nA: b\r\n\r\nhello", 1).await;
    let mut request = server.request();
    let endless = Duration::MAX;
    request.timeouts = UpstreamTimeouts { connect: endless, first_byte: endless, idle: endless };
    assert_eq!(text(send(&client(), request).await.body).await, "hello");
}

#[actix_web::test]
async fn failures_to_connect_are_told_apart() {
    let client = client();
    // A port that was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let failure = send_err(&client, request_to(&url)).await;
    assert!(matches!(failure.error, UpstreamError::Connect(_)), "{failure:?}");
    assert_eq!(failure.error.reason(), "connect");
    assert!(!failure.reused_connection && !failure.is_stale_connection());

    let failure = send_err(&client, request_to("https://nowhere.invalid")).await;
    assert!(matches!(failure.error, UpstreamError::Resolve(_)), "{failure:?}");

    // Accepts, and never says a word of TLS.
    let server = Server::start(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let mut request = request_to(&server.url.replace("http:", "https:"));
    request.timeouts.connect = Duration::from_millis(80);
    let failure = send_err(&client, request).await;
    assert!(matches!(failure.error, UpstreamError::ConnectTimeout), "{failure:?}");
    assert!(failure.error.is_timeout());
}

#[actix_web::test]
async fn the_egress_rules_hold_at_connect() {
    let server = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 1).await;
    let port = server.url.rsplit(':').next().unwrap();
    let strict =
        UpstreamClient::new(&UpstreamSettings { egress: EgressRules::default(), ..settings() });
    for scheme in ["http", "https"] {
        for host in ["127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "[::1]", "localhost"] {
            let failure = send_err(&strict, request_to(&format!("{scheme}://{host}:{port}"))).await;
            let UpstreamError::Refused(refusal) = &failure.error else {
                panic!("{host}: {failure:?}")
            };
            assert_eq!(refusal.rule(), "loopback", "{host}");
        }
    }
    let failure = send_err(&strict, request_to("http://1.1.1.1")).await;
    assert!(
        matches!(&failure.error, UpstreamError::Refused(refusal) if refusal.rule() == "plain_http")
    );
    assert_eq!(server.accepted.get(), 0);

    // A name with an address that is refused and one that is not goes to the one that is not.
    let v4_only = UpstreamClient::new(&UpstreamSettings {
        egress: EgressRules::new(vec!["127.0.0.0/8".parse().unwrap()]),
        ..settings()
    });
    send(&v4_only, request_to(&format!("http://localhost:{port}"))).await;
    assert_eq!(server.accepted.get(), 1);
}

#[actix_web::test]
async fn redirects_are_not_followed() {
    let target = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 1).await;
    let answer =
        format!("HTTP/1.1 307 Moved\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", target.url);
    let server = Server::answering(answer.leak(), 1).await;
    let mut request = server.request();
    request.method = Method::GET;
    request.body = Bytes::new();
    let response = send(&client(), request).await;
    assert_eq!(response.status, 307);
    assert!(response.headers.contains_key(header::LOCATION));
    assert_eq!(target.accepted.get(), 0);
}

#[actix_web::test]
async fn a_compressed_answer_is_relayed_as_it_is() {
    let server = Server::answering(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        1,
    )
    .await;
    let response = send(&client(), server.request()).await;
    assert_eq!(response.headers.get(header::CONTENT_ENCODING).unwrap(), "gzip");
    assert_eq!(text(response.body).await, "nope");
}

#[actix_web::test]
async fn a_long_request_that_is_refused_early_gets_its_answer() {
    const ANSWER: &[u8] = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig";
    // One upstream goes on without reading, the other hangs up.
    for hangs_up in [false, true] {
        let server = Server::start(move |mut stream| async move {
            let mut bytes = [0; 1024];
            stream.read_exact(&mut bytes).await.unwrap();
            stream.write_all(ANSWER).await.unwrap();
            if hangs_up {
                stream.shutdown().await.unwrap();
            }
            std::future::pending::<()>().await;
        })
        .await;
        let client = client();
        for connections in 1..=2 {
            let mut request = server.request();
            request.body = Bytes::from(vec![b' '; 32 * 1024 * 1024]);
            let response = send(&client, request).await;
            assert_eq!(response.status, 413);
            assert_eq!(text(response.body).await, "big");
            assert_eq!(server.accepted.get(), connections);
        }
    }
}

#[actix_web::test]
async fn many_streams_run_at_once_without_a_queue() {
    const STREAMS: usize = 200;
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let release = Rc::new(tokio::sync::Semaphore::new(0));
    let gate = Rc::clone(&release);
    let server = Server::start(move |mut stream| {
        let (arrived, gate) = (arrived.clone(), Rc::clone(&gate));
        async move {
            read_request(&mut stream).await.unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
                .await
                .unwrap();
            arrived.send(()).unwrap();
            let _permit = gate.acquire().await.unwrap();
            stream.write_all(b"1\r\nb\r\n0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let client = client();
    let streams = join_all((0..STREAMS).map(|_| async {
        let response = send(&client, server.request()).await;
        text(response.body).await
    }));
    // No stream may end before all have begun.
    let all_began = async {
        for _ in 0..STREAMS {
            timeout(PATIENCE, arrivals.recv()).await.expect("a stream waits in a queue").unwrap();
        }
        release.add_permits(STREAMS);
    };
    let (texts, ()) = futures_util::future::join(streams, all_began).await;
    assert!(texts.iter().all(|text| text == "ab"));
}

#[actix_web::test]
async fn each_chunk_comes_out_as_it_goes_in() {
    let (next, steps) = mpsc::unbounded_channel::<()>();
    let steps = Rc::new(Cell::new(Some(steps)));
    let server = Server::start(move |mut stream| {
        let mut steps = steps.take().unwrap();
        async move {
            stream.set_nodelay(true).unwrap();
            read_request(&mut stream).await.unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await
                .unwrap();
            while steps.recv().await.is_some() {
                stream.write_all(b"5\r\nhello\r\n").await.unwrap();
            }
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let mut response = send(&client(), server.request()).await;
    for _ in 0..5 {
        next.send(()).unwrap();
        let chunk = timeout(PATIENCE, response.body.next()).await.expect("held back");
        assert_eq!(chunk.unwrap().unwrap(), "hello");
    }
    drop(next);
    assert!(timeout(PATIENCE, response.body.next()).await.expect("no end").is_none());
}

/// A TLS server for `name`, and the PEM of the CA to trust.
async fn tls_server(name: &str, answer: &'static [u8], clean_close: bool) -> (Server, String) {
    use tokio_rustls::{TlsAcceptor, rustls};
    let key = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let pem = key.cert.pem();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            rustls_pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = Server::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            while read_request(&mut stream).await.is_some() {
                stream.write_all(answer).await.unwrap();
                stream.flush().await.unwrap();
                if !answer.starts_with(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello") {
                    if clean_close {
                        close(&mut stream).await;
                    }
                    return;
                }
            }
        }
    })
    .await;
    (server, pem)
}

async fn close(stream: &mut (impl AsyncWrite + Unpin)) {
    stream.shutdown().await.unwrap();
}

fn trusting(pem: &str) -> UpstreamClient {
    let tls = tls_config(Some(pem.as_bytes())).unwrap();
    UpstreamClient::new(&UpstreamSettings { tls, ..settings() })
}

#[actix_web::test]
async fn tls_works_with_an_extra_ca_and_only_for_its_names() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let (server, pem) = tls_server("localhost", answer, true).await;
    let port = server.url.rsplit(':').next().unwrap();
    let right_name = format!("https://localhost:{port}");
    let client = trusting(&pem);
    for reused in [false, true] {
        let response = send(&client, request_to(&right_name)).await;
        assert_eq!(response.reused_connection, reused);
        assert_eq!(text(response.body).await, "hello");
    }

    for (client, url) in [
        // The certificate is for another name.
        (client, format!("https://127.0.0.1:{port}")),
        // Nobody vouches for it.
        (super::tests::client(), right_name),
    ] {
        let failure = send_err(&client, request_to(&url)).await;
        assert!(matches!(failure.error, UpstreamError::Tls(_)), "{failure:?}");
        assert_eq!(failure.error.reason(), "tls");
    }
}

#[actix_web::test]
async fn under_tls_too_a_cut_body_is_an_error_and_a_closed_one_is_not() {
    for (answer, clean_close, complete) in [
        (&b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nhello"[..], true, true),
        // Without TLS's own goodbye, anyone on the way may have cut it.
        (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nhello", false, false),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", true, false),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false, false),
    ] {
        let (server, pem) = tls_server("localhost", answer, clean_close).await;
        let url = server.url.replace("http://127.0.0.1", "https://localhost");
        let response = send(&trusting(&pem), request_to(&url)).await;
        let (text, error) = read_all(response.body).await;
        assert_eq!(text, "hello");
        assert_eq!(error.is_none(), complete, "{error:?}");
        assert!(complete || matches!(error, Some(UpstreamError::Closed)));
    }
}

#[test]
fn extra_cas_are_checked_when_they_are_read() {
    assert!(matches!(tls_config(Some(b"nothing")), Err(TlsConfigError::NoCertificate)));
    let broken = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    assert!(matches!(tls_config(Some(broken)), Err(TlsConfigError::Pem(_))));
    let not_one = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(tls_config(Some(not_one)), Err(TlsConfigError::Rustls(_))));
    let protocols = &tls_config(None).unwrap().alpn_protocols;
    assert_eq!(*protocols, [b"http/1.1".to_vec()]);
}
