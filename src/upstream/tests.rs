//! The client against real servers on loopback that say exactly what a test wants said.

use std::{cell::Cell, future::Future, rc::Rc, time::Duration};

use actix_http::{Method, header::HeaderMap};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;

mod answers;
mod connections;
mod dialing;
mod limits;
mod tls;

/// Far longer than anything takes here; a test that hangs fails with a line number.
const PATIENCE: Duration = Duration::from_secs(10);
const GENEROUS: UpstreamTimeouts =
    UpstreamTimeouts { connect: PATIENCE, first_byte: PATIENCE, idle: PATIENCE };

fn settings() -> UpstreamSettings {
    UpstreamSettings {
        egress: EgressRules::new(vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]),
        tls: tls_config(None).unwrap(),
        idle_keep_alive: Duration::from_secs(4),
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
        body: Bytes::from_static(b"{}").into(),
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

/// Reads one request with a content-length, and gives its head; `None` when the connection ends before it.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    Some(read_whole_request(stream).await?.0)
}

/// The same with its body.
async fn read_whole_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, Bytes)> {
    let mut bytes = BytesMut::new();
    loop {
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                return Some((head, bytes.freeze().slice(end + 4..)));
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

async fn send(client: &UpstreamClient, request: UpstreamRequest) -> UpstreamResponse {
    let request = client.prepare(request).unwrap();
    timeout(PATIENCE, client.send(&request)).await.expect("no answer").unwrap()
}

async fn send_err(client: &UpstreamClient, request: UpstreamRequest) -> UpstreamFailure {
    let request = client.prepare(request).unwrap();
    timeout(PATIENCE, client.send(&request)).await.expect("no answer").unwrap_err()
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
