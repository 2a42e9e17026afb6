//! TLS, from the certificate to the end of a body.

use std::sync::Arc;

use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio_rustls::{TlsAcceptor, rustls};

use super::*;
use crate::crypto::TlsConfigError;
use crate::json::object::BodyPieces;

/// What accepts TLS for `name`, and the PEM of the CA to trust.
fn tls_acceptor(name: &str) -> (TlsAcceptor, String) {
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
    (TlsAcceptor::from(Arc::new(config)), pem)
}

/// A TLS server for `name`, and the PEM of the CA to trust.
async fn tls_server(name: &str, answer: &'static [u8], clean_close: bool) -> (Server, String) {
    let (acceptor, pem) = tls_acceptor(name);
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

#[actix_web::test]
async fn a_long_body_in_pieces_arrives_whole() {
    let mut body = BodyPieces::default();
    for (piece, length) in [(0_u8, 1), (1, 700_000), (2, 3), (3, 2_000_000)] {
        body.push((0..length).map(|place: u32| piece ^ place as u8).collect());
    }
    let sent = body.to_bytes();
    let (acceptor, pem) = tls_acceptor("localhost");
    for is_tls in [false, true] {
        let (acceptor, sent) = (acceptor.clone(), sent.clone());
        let server = Server::start(move |mut stream| {
            let (acceptor, sent) = (acceptor.clone(), sent.clone());
            async move {
                match is_tls {
                    true => confirm(acceptor.accept(stream).await.unwrap(), &sent).await,
                    false => confirm(&mut stream, &sent).await,
                }
            }
        })
        .await;
        let scheme = if is_tls { "https" } else { "http" };
        let url = server.url.replace("http://127.0.0.1", &format!("{scheme}://localhost"));
        let client = trusting(&pem);
        for reused in [false, true] {
            let request = UpstreamRequest { body: body.clone().into(), ..request_to(&url) };
            let response = send(&client, request).await;
            assert_eq!(response.reused_connection, reused);
            assert_eq!(text(response.body).await, "whole");
        }
    }
}

/// Answers two requests, and tells whether each had this body.
async fn confirm(mut stream: impl AsyncRead + AsyncWrite + Unpin, body: &[u8]) {
    for _ in 0..2 {
        let (_, came) = read_whole_request(&mut stream).await.unwrap();
        let word = if came == body { "whole" } else { "other" };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{word}");
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
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
