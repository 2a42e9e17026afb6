//! A caller for tests. Requests go out byte by byte as a test writes them, and everyday calls are one
//! line each, on a connection each. What needs to see the answer arrive uses a
//! [`Connection`](super::connection).

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::{
    connection::{Connection, Cut, Ending, Head},
    framing::{self, HeaderList},
};

/// A request to be written.
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
    /// One without a body. The target goes out as it is given.
    pub(crate) fn new(method: &str, target: &str) -> Self {
        let headers = Vec::new();
        Self { method: method.to_owned(), target: target.to_owned(), headers, body: Body::None }
    }

    /// `GET`.
    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// `POST` of JSON.
    pub(crate) fn post_json(target: &str, body: &Value) -> Self {
        Self::new("POST", target).json(body)
    }

    /// Adds a header line.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a bearer credential.
    pub(crate) fn bearer(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    /// A body of JSON.
    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// A body with its length.
    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Body::Sized(body.into());
        self
    }

    /// A body in these chunks.
    pub(crate) fn chunked(mut self, chunks: impl IntoIterator<Item = Bytes>) -> Self {
        self.body = Body::Chunked(chunks.into_iter().collect());
        self
    }

    /// A head that promises `length` bytes, which the test sends itself, or does not.
    pub(crate) fn promising(mut self, length: usize) -> Self {
        self.body = Body::Promised(length);
        self
    }

    /// `POST`.
    pub(super) fn method(&self) -> &str {
        &self.method
    }

    /// Path and query.
    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// In order.
    pub(super) fn headers(&self) -> &HeaderList {
        &self.headers
    }

    /// The body, when it is sent as one.
    pub(super) fn whole_body(&self) -> &[u8] {
        if let Body::Sized(body) = &self.body { body } else { &[] }
    }

    /// As it goes on the wire to `host`.
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

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// `200`.
    pub(crate) status: u16,
    /// In order.
    pub(crate) headers: HeaderList,
    /// As much of it as came.
    pub(crate) body: Bytes,
    /// Whether that is all of it.
    pub(crate) ending: Ending,
}

impl Answer {
    /// The first header of that name, in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        framing::find(&self.headers, name)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON. Fails the case when it is none.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => {
                panic!("{} with what is not JSON ({error}): {}", self.status, self.text())
            }
        }
    }

    /// Itself, if it is a success (any 2xx). Fails the case otherwise, telling what came.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        assert!(self.status / 100 == 2, "expected success: {} {}", self.status, self.text());
        self
    }

    /// Itself, if it has this status and came whole. Fails the case otherwise, telling what came.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        let whole = matches!(self.ending, Ending::Complete);
        assert!(
            self.status == status && whole,
            "expected {status}: {} {:?} {}",
            self.status,
            self.ending,
            self.text()
        );
        self
    }

    /// Fails the case unless it is a 503 with a time to come again, and nothing about what is the
    /// matter.
    #[track_caller]
    pub(crate) fn says_to_come_again(self) {
        let answer = self.expect(503);
        let after = answer.header("retry-after").and_then(|value| value.parse::<u64>().ok());
        assert!(after.is_some_and(|after| after > 0), "{:?}", answer.headers);
        assert!(!answer.text().contains("connection"), "{}", answer.text());
    }
}

/// A caller with an address and headers of its own. Each call takes a new connection, so that no
/// call depends on another.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    headers: HeaderList,
}

impl Client {
    /// One that presents nothing.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, headers: Vec::new() }
    }

    /// The same with one more header on every request.
    pub(crate) fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same, presenting a key.
    pub(crate) fn with_key(self, key: &str) -> Self {
        self.with_header("authorization", &format!("Bearer {key}"))
    }

    /// Where it calls.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a request on a connection of its own and returns that, for a test that reads the answer
    /// itself.
    pub(crate) async fn open(&self, request: Request) -> Result<Connection, Cut> {
        let mut request = request;
        request.headers.extend(self.headers.iter().cloned());
        let mut connection = Connection::open(self.address).await?;
        connection.request(&request).await?;
        Ok(connection)
    }

    /// The same up to the answer's head. Fails the case when there is none.
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

    /// Sends a request and reads the answer. An error is an answer that did not begin; one that broke
    /// off tells so in its `ending`.
    pub(crate) async fn try_send(&self, request: Request) -> Result<Answer, Cut> {
        self.open(request).await?.answer().await
    }

    /// The same for a call that must be answered.
    pub(crate) async fn send(&self, request: Request) -> Answer {
        let what = format!("{} {}", request.method, request.target);
        match self.try_send(request).await {
            Ok(answer) => answer,
            Err(cut) => panic!("{what}: no answer ({cut:?})"),
        }
    }

    /// `GET`.
    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.send(Request::get(target)).await
    }

    /// `POST` of JSON.
    pub(crate) async fn post_json(&self, target: &str, body: &Value) -> Answer {
        self.send(Request::post_json(target, body)).await
    }

    /// `PUT` of JSON.
    pub(crate) async fn put(&self, target: &str, body: &Value) -> Answer {
        self.send(Request::new("PUT", target).json(body)).await
    }

    /// `PATCH` of a JSON merge patch.
    pub(crate) async fn patch(&self, target: &str, body: &Value) -> Answer {
        let request =
            Request::new("PATCH", target).header("content-type", "application/merge-patch+json");
        self.send(request.body(body.to_string())).await
    }

    /// `DELETE`.
    pub(crate) async fn delete(&self, target: &str) -> Answer {
        self.send(Request::new("DELETE", target)).await
    }
}
