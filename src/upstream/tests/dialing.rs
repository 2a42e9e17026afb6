//! Opening connections: refusals of the network and of the egress rules.

use std::time::Duration;

use tokio::net::TcpListener;

use super::*;

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
