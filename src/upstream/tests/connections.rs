//! When a connection is used again, and when it is closed.

use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;

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
    // After the answer, in the same packet, comes the start of a forged one.
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
        let request = server.request();
        let request = client.prepare(request).unwrap();
        let mut sending = std::pin::pin!(client.send(&request));
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
