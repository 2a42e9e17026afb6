//! What the scripted upstream does with one request: a list of small steps.

use std::{
    fmt, iter,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::Semaphore;

/// Headers in the order sent.
pub(crate) type Headers<'a> = &'a [(&'a str, &'a str)];

pub(crate) enum Step {
    /// Waits until the test releases the pause.
    WaitForRelease(Pause),
    /// Waits until the peer has sent bytes of its next request.
    WaitForNextRequest,
    /// Waits for this time.
    Delay(Duration),
    /// Writes these bytes in one write.
    Raw(Bytes),
    /// Writes one chunk in one write.
    Chunk(Bytes),
    /// Writes chunks that are generated while sending.
    Chunks(Box<dyn Iterator<Item = Bytes> + Send>),
    EndChunks,
    /// Sets the marker: all earlier steps are done.
    Note(Marker),
    /// Closes the connection (FIN).
    Close,
    /// Resets the connection (RST).
    Reset,
    /// Waits until the peer closes.
    KeepOpen,
}

/// The steps for one request. After them the connection waits for the next request.
#[derive(Default)]
pub(crate) struct Script {
    pub(super) steps: Vec<Step>,
}

impl Script {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub(crate) fn and(mut self, script: Self) -> Self {
        self.steps.extend(script.steps);
        self
    }

    pub(crate) fn wait(self, pause: &Pause) -> Self {
        self.then(Step::WaitForRelease(pause.clone()))
    }

    pub(crate) fn delay(self, time: Duration) -> Self {
        self.then(Step::Delay(time))
    }

    /// Adds an interim answer, such as 103.
    pub(crate) fn informational(self, status: u16, headers: Headers<'_>) -> Self {
        self.head(status, headers)
    }

    /// Adds a status line and exactly these headers.
    pub(crate) fn head(self, status: u16, headers: Headers<'_>) -> Self {
        let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.raw(head)
    }

    pub(crate) fn chunked_head(self, status: u16, headers: Headers<'_>) -> Self {
        self.head(status, &[headers, &[("transfer-encoding", "chunked")]].concat())
    }

    /// Adds a head that declares `length` bytes; other steps send them or do not.
    pub(crate) fn sized_head(self, status: u16, headers: Headers<'_>, length: usize) -> Self {
        self.head(status, &[headers, &[("content-length", &length.to_string())]].concat())
    }

    /// Adds a complete answer with `Content-Length`.
    pub(crate) fn sized(self, status: u16, headers: Headers<'_>, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        self.sized_head(status, headers, body.len()).raw(body)
    }

    /// Writes these bytes in one write.
    pub(crate) fn raw(self, bytes: impl Into<Bytes>) -> Self {
        self.then(Step::Raw(bytes.into()))
    }

    pub(crate) fn chunk(self, bytes: impl Into<Bytes>) -> Self {
        self.then(Step::Chunk(bytes.into()))
    }

    /// Adds several chunks, one write each.
    pub(crate) fn chunks<B: Into<Bytes>>(self, chunks: impl IntoIterator<Item = B>) -> Self {
        chunks.into_iter().fold(self, |script, chunk| script.chunk(chunk))
    }

    /// Adds chunks that are generated while sending.
    pub(crate) fn lazy(self, chunks: impl Iterator<Item = Bytes> + Send + 'static) -> Self {
        self.then(Step::Chunks(Box::new(chunks)))
    }

    /// Adds `count` copies of `chunk`, generated while sending.
    pub(crate) fn repeat(self, chunk: impl Into<Bytes>, count: usize) -> Self {
        self.lazy(iter::repeat_n(chunk.into(), count))
    }

    pub(crate) fn end(self) -> Self {
        self.then(Step::EndChunks)
    }

    /// Sets the marker when the script gets here.
    pub(crate) fn note(self, mark: &Marker) -> Self {
        self.then(Step::Note(mark.clone()))
    }

    pub(crate) fn close(self) -> Self {
        self.then(Step::Close)
    }

    pub(crate) fn reset(self) -> Self {
        self.then(Step::Reset)
    }

    pub(crate) fn keep_open(self) -> Self {
        self.then(Step::KeepOpen)
    }

    /// A complete JSON answer.
    pub(crate) fn json(status: u16, value: &Value) -> Self {
        Self::new().sized(status, &[("content-type", "application/json")], value.to_string())
    }

    /// The head of an event stream.
    pub(crate) fn sse_head() -> Self {
        Self::new().chunked_head(
            200,
            &[("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")],
        )
    }

    /// A complete event stream, one write per event. The events include their blank line ([`data`]).
    pub(crate) fn sse<B: Into<Bytes>>(events: impl IntoIterator<Item = B>) -> Self {
        Self::sse_head().chunks(events).end()
    }
}

/// An event with this data, including the blank line.
pub(crate) fn data(text: impl fmt::Display) -> String {
    format!("data: {text}\n\n")
}

/// A point where a script waits for the test. Clones share it.
#[derive(Clone)]
pub(crate) struct Pause(Arc<Semaphore>);

impl Pause {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Releases one script, now or when it gets here.
    pub(crate) fn release(&self) {
        self.0.add_permits(1);
    }

    /// Releases all scripts, also those that get here later.
    pub(crate) fn release_all(&self) {
        self.0.close();
    }

    pub(super) async fn released(&self) {
        // The semaphore is closed when all are released.
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

/// Tells whether a script has reached a step. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marker(Arc<AtomicBool>);

impl Marker {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    pub(super) fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        103 => "Early Hints",
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Scripted",
    }
}
