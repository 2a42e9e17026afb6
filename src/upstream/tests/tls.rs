//! TLS, from the certificate to the end of a body.

use std::sync::Arc;

use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::crypto::TlsConfigError;

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
