//! What is sent, and what counts as an answer to it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use actix_http::Method;
use actix_http::header;
use actix_http::header::HeaderName;
use actix_http::header::HeaderValue;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;

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
    let request = server.request();
    let request = client.prepare(request).unwrap();
    let mut sending = std::pin::pin!(client.send(&request));
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
async fn redirects_are_not_followed() {
    let target = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 1).await;
    let answer =
        format!("HTTP/1.1 307 Moved\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", target.url);
    let server = Server::answering(answer.leak(), 1).await;
    let mut request = server.request();
    request.method = Method::GET;
    request.body = Bytes::new().into();
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
            request.body = Bytes::from(vec![b' '; 32 * 1024 * 1024]).into();
            let response = send(&client, request).await;
            assert_eq!(response.status, 413);
            assert_eq!(text(response.body).await, "big");
            assert_eq!(server.accepted.get(), connections);
        }
    }
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
