//! An HTTP client that sends requests exactly as a test writes them, each on its own connection. Tests
//! that read an answer as it arrives use a [`Connection`](super::connection).

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::{
    connection::{BodyEnd, Connection, Head, ReadError},
    framing::{self, HeaderList},
};

#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: String,
    target: String,
    headers: HeaderList,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    None,
    Sized(Bytes),
    Chunked(Vec<Bytes>),
    Promised(usize),
}

impl Request {
    /// A request without a body. The target is sent unchanged.
    pub(crate) fn new(method: &str, target: &str) -> Self {
        let headers = Vec::new();
        Self { method: method.to_owned(), target: target.to_owned(), headers, body: Body::None }
    }

    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub(crate) fn post_json(target: &str, body: &Value) -> Self {
        Self::new("POST", target).json(body)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn bearer(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// Adds a body with `Content-Length`.
    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Body::Sized(body.into());
        self
    }

    /// Adds a chunked body.
    pub(crate) fn chunked(mut self, chunks: impl IntoIterator<Item = Bytes>) -> Self {
        self.body = Body::Chunked(chunks.into_iter().collect());
        self
    }

    /// Declares a body of `length` bytes, which the test sends itself or not at all.
    pub(crate) fn promising(mut self, length: usize) -> Self {
        self.body = Body::Promised(length);
        self
    }

    pub(super) fn method(&self) -> &str {
        &self.method
    }

    pub(super) fn target(&self) -> &str {
        &self.target
    }

    pub(super) fn headers(&self) -> &HeaderList {
        &self.headers
    }

    /// The body, if it has a declared length.
    pub(super) fn whole_body(&self) -> &[u8] {
        if let Body::Sized(body) = &self.body { body } else { &[] }
    }

    /// The bytes to send to `host`.
    pub(super) fn bytes(&self, host: SocketAddr) -> Bytes {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if framing::find(&self.headers, "host").is_none() {
            text.push_str(&format!("host: {host}\r\n"));
        }
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        match &self.body {
            Body::None => {}
            Body::Sized(body) => text.push_str(&format!("content-length: {}\r\n", body.len())),
            Body::Promised(length) => text.push_str(&format!("content-length: {length}\r\n")),
            Body::Chunked(_) => text.push_str("transfer-encoding: chunked\r\n"),
        }
        text.push_str("\r\n");
        let mut bytes = BytesMut::from(text.as_str());
        match &self.body {
            Body::None | Body::Promised(_) => {}
            Body::Sized(body) => bytes.extend_from_slice(body),
            Body::Chunked(chunks) => {
                for chunk in chunks {
                    bytes.extend_from_slice(&framing::put_chunk(chunk));
                }
                bytes.extend_from_slice(framing::LAST_CHUNK);
            }
        }
        bytes.freeze()
    }
}

/// A response that was read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderList,
    pub(crate) body: Bytes,
    pub(crate) ending: BodyEnd,
}

impl Answer {
    /// The first header with this name, in any letter case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        framing::find(&self.headers, name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON. Fails the test if it is not JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => {
                panic!("{} with what is not JSON ({error}): {}", self.status, self.text())
            }
        }
    }

    /// Returns itself if the status is 2xx; fails the test otherwise.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        assert!(self.status / 100 == 2, "expected success: {} {}", self.status, self.text());
        self
    }

    /// Returns itself if it is complete and has this status; fails the test otherwise.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        let whole = matches!(self.ending, BodyEnd::Complete);
        assert!(
            self.status == status && whole,
            "expected {status}: {} {:?} {}",
            self.status,
            self.ending,
            self.text()
        );
        self
    }

    /// Fails the test unless it is a 503 with `Retry-After` that does not reveal the cause.
    #[track_caller]
    pub(crate) fn expect_retry_later(self) {
        let answer = self.expect(503);
        let after = answer.header("retry-after").and_then(|value| value.parse::<u64>().ok());
        assert!(after.is_some_and(|after| after > 0), "{:?}", answer.headers);
        assert!(!answer.text().contains("connection"), "{}", answer.text());
    }
}

/// A client with an address and default headers. Each request uses a new connection.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    headers: HeaderList,
}

impl Client {
    /// A client without a key.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, headers: Vec::new() }
    }

    /// Adds a header to every request.
    pub(crate) fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a key to every request.
    pub(crate) fn with_key(self, key: &str) -> Self {
        self.with_header("authorization", &format!("Bearer {key}"))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a request on a new connection, and returns the connection to read the answer from.
    pub(crate) async fn open(&self, request: Request) -> Result<Connection, ReadError> {
        let mut request = request;
        request.headers.extend(self.headers.iter().cloned());
        let mut connection = Connection::open(self.address).await?;
        connection.request(&request).await?;
        Ok(connection)
    }

    /// The same up to the head of the answer. Fails the test if there is none.
    pub(crate) async fn stream(&self, request: Request) -> (Head, Connection) {
        let what = format!("{} {}", request.method, request.target);
        let mut connection = match self.open(request).await {
            Ok(connection) => connection,
            Err(cut) => panic!("{what}: no connection ({cut:?})"),
        };
        match connection.head().await {
            Ok(head) => (head, connection),
            Err(cut) => panic!("{what}: no answer ({cut:?})"),
        }
    }

    /// Sends a request and reads the answer. An error means that there was no head; `ending` tells
    /// whether the body is complete.
    pub(crate) async fn try_send(&self, request: Request) -> Result<Answer, ReadError> {
        self.open(request).await?.answer().await
    }

    /// The same; fails the test if there is no answer.
    pub(crate) async fn send(&self, request: Request) -> Answer {
        let what = format!("{} {}", request.method, request.target);
        match self.try_send(request).await {
            Ok(answer) => answer,
            Err(cut) => panic!("{what}: no answer ({cut:?})"),
        }
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.send(Request::get(target)).await
    }

    pub(crate) async fn post_json(&self, target: &str, body: &Value) -> Answer {
        self.send(Request::post_json(target, body)).await
    }

    pub(crate) async fn put(&self, target: &str, body: &Value) -> Answer {
        self.send(Request::new("PUT", target).json(body)).await
    }

    /// All items of a list, read in pages.
    pub(crate) async fn get_pages(&self, target: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut next = target.to_owned();
        loop {
            let page = self.get(&next).await.expect(200).json();
            items.extend(page["data"].as_array().expect("a page").iter().cloned());
            match page["next_cursor"].as_str() {
                Some(cursor) => next = format!("{target}&cursor={cursor}"),
                None => return items,
            }
        }
    }

    /// Sends a JSON merge patch.
    pub(crate) async fn patch(&self, target: &str, body: &Value) -> Answer {
        let request =
            Request::new("PATCH", target).header("content-type", "application/merge-patch+json");
        self.send(request.body(body.to_string())).await
    }

    pub(crate) async fn delete(&self, target: &str) -> Answer {
        self.send(Request::new("DELETE", target)).await
    }
}
