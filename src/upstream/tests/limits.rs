//! The time limits.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use super::*;

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
    assert!(!failure.is_stale_connection());
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
