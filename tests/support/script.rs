//! What the scripted upstream does with one request: a list of steps, each as small as what the
//! network can do.

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

/// Header lines, in the order in which they are sent.
pub(crate) type Headers<'a> = &'a [(&'a str, &'a str)];

/// One step.
pub(crate) enum Step {
    /// Goes on when the test lets it through.
    WaitForRelease(Pause),
    /// Goes on when the peer has sent bytes beyond the request: its next one.
    WaitForNextRequest,
    /// Latency that is part of the script.
    Delay(Duration),
    /// These bytes, in one write.
    Raw(Bytes),
    /// A chunk in chunked framing, in one write.
    Chunk(Bytes),
    /// Chunks made as they are sent, for streams that do not fit in memory.
    Chunks(Box<dyn Iterator<Item = Bytes> + Send>),
    /// The chunk that ends a chunked body.
    EndChunks,
    /// Notes that all steps before this one are done.
    Note(Marker),
    /// Says no more, and closes in order (FIN).
    Close,
    /// Breaks the connection off (RST).
    Reset,
    /// Neither answers nor closes, until the peer does.
    KeepOpen,
}

/// The steps for one request. After the last one the connection is kept for the next request.
#[derive(Default)]
pub(crate) struct Script {
    pub(super) steps: Vec<Step>,
}

impl Script {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a step.
    pub(crate) fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Adds another script's steps.
    pub(crate) fn and(mut self, script: Self) -> Self {
        self.steps.extend(script.steps);
        self
    }

    /// Waits at `pause`.
    pub(crate) fn wait(self, pause: &Pause) -> Self {
        self.then(Step::WaitForRelease(pause.clone()))
    }

    /// Waits for as long.
    pub(crate) fn delay(self, time: Duration) -> Self {
        self.then(Step::Delay(time))
    }

    /// An interim answer, such as 103.
    pub(crate) fn informational(self, status: u16, headers: Headers<'_>) -> Self {
        self.head(status, headers)
    }

    /// A status line and exactly these headers.
    pub(crate) fn head(self, status: u16, headers: Headers<'_>) -> Self {
        let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.raw(head)
    }

    /// The head of an answer whose body is chunked.
    pub(crate) fn chunked_head(self, status: u16, headers: Headers<'_>) -> Self {
        self.head(status, &[headers, &[("transfer-encoding", "chunked")]].concat())
    }

    /// The head of an answer that promises `length` bytes; whether they follow is up to the script.
    pub(crate) fn sized_head(self, status: u16, headers: Headers<'_>, length: usize) -> Self {
        self.head(status, &[headers, &[("content-length", &length.to_string())]].concat())
    }

    /// A whole answer with a `Content-Length`.
    pub(crate) fn sized(self, status: u16, headers: Headers<'_>, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        self.sized_head(status, headers, body.len()).raw(body)
    }

    /// These bytes, in one write.
    pub(crate) fn raw(self, bytes: impl Into<Bytes>) -> Self {
        self.then(Step::Raw(bytes.into()))
    }

    /// One chunk.
    pub(crate) fn chunk(self, bytes: impl Into<Bytes>) -> Self {
        self.then(Step::Chunk(bytes.into()))
    }

    /// Several chunks, a write each.
    pub(crate) fn chunks<B: Into<Bytes>>(self, chunks: impl IntoIterator<Item = B>) -> Self {
        chunks.into_iter().fold(self, |script, chunk| script.chunk(chunk))
    }

    /// Chunks made as they are sent.
    pub(crate) fn lazy(self, chunks: impl Iterator<Item = Bytes> + Send + 'static) -> Self {
        self.then(Step::Chunks(Box::new(chunks)))
    }

    /// `count` copies of `chunk`, made as they are sent.
    pub(crate) fn repeat(self, chunk: impl Into<Bytes>, count: usize) -> Self {
        self.lazy(iter::repeat_n(chunk.into(), count))
    }

    /// Ends a chunked body.
    pub(crate) fn end(self) -> Self {
        self.then(Step::EndChunks)
    }

    /// Notes that the script has come this far.
    pub(crate) fn note(self, mark: &Marker) -> Self {
        self.then(Step::Note(mark.clone()))
    }

    /// Closes in order.
    pub(crate) fn close(self) -> Self {
        self.then(Step::Close)
    }

    /// Breaks off.
    pub(crate) fn reset(self) -> Self {
        self.then(Step::Reset)
    }

    /// Keeps quiet until the peer closes.
    pub(crate) fn keep_open(self) -> Self {
        self.then(Step::KeepOpen)
    }

    /// A JSON answer.
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

    /// A whole event stream, each event a write of its own. The events bring their blank line
    /// ([`data`]).
    pub(crate) fn sse<B: Into<Bytes>>(events: impl IntoIterator<Item = B>) -> Self {
        Self::sse_head().chunks(events).end()
    }
}

/// `data: TEXT` and the blank line.
pub(crate) fn data(text: impl fmt::Display) -> String {
    format!("data: {text}\n\n")
}

/// Where a script waits for the test. Clones are the same pause.
#[derive(Clone)]
pub(crate) struct Pause(Arc<Semaphore>);

impl Pause {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets one script through, now or when it comes.
    pub(crate) fn release(&self) {
        self.0.add_permits(1);
    }

    /// Lets through all that wait and all that will come.
    pub(crate) fn release_all(&self) {
        self.0.close();
    }

    /// Returns when let through.
    pub(super) async fn released(&self) {
        // A closed semaphore is an open pause.
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

/// How far a script has come. Clones are the same mark.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marker(Arc<AtomicBool>);

impl Marker {
    /// Whether it has come there.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    pub(super) fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Only for people who read a capture.
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
