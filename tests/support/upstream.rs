//! A provider for tests: a real TCP server that does what a [`Script`] says, records what it is sent
//! and knows when its peer leaves.
//!
//! Written on sockets and httparse, not on the library that the gateway is built of: it can break
//! every rule of HTTP on purpose. What OpenAI's API answers is in [`openai`](super::openai).

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use super::{
    framing::{self, Chunk, HeaderList},
    openai,
    script::{Script, Step},
    wait::within,
};

/// Only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct RecordedRequest {
    /// The connection it came on, counted from 0 as accepted.
    pub(crate) connection: usize,
    /// `POST`.
    pub(crate) method: String,
    /// Path and query, as sent.
    pub(crate) target: String,
    /// In order.
    pub(crate) headers: HeaderList,
    /// Without its framing.
    pub(crate) body: Bytes,
    /// When it was complete.
    pub(crate) at: Instant,
}

impl RecordedRequest {
    /// The target up to the query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// What follows the question mark.
    pub(crate) fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// The first header of that name, in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        framing::find(&self.headers, name)
    }

    /// The body as JSON; null when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClosedBy {
    /// By the peer, in order, or by a half-close: the upstream takes both for gone.
    Peer,
    /// By the peer, broken off.
    PeerReset,
    /// By the script, or because the request asked for it.
    Upstream,
}

/// A connection that was accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeenConnection {
    /// When.
    pub(crate) accepted: Instant,
    /// How and when it ended.
    pub(crate) closed: Option<(ClosedBy, Instant)>,
}

/// All that the upstream has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// In the order in which they were complete.
    pub(crate) requests: Vec<Arc<RecordedRequest>>,
    /// In the order in which they were accepted.
    pub(crate) connections: Vec<SeenConnection>,
    /// Requests that broke off before they were complete.
    pub(crate) cut_requests: usize,
}

impl Seen {
    /// Connections accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.connections.len()
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        self.connections.iter().filter(|connection| connection.closed.is_none()).count()
    }

    /// Connections that the peer ended, in whichever way.
    pub(crate) fn left_by_peer(&self) -> usize {
        let left = |closed: Option<(ClosedBy, Instant)>| {
            matches!(closed, Some((ClosedBy::Peer | ClosedBy::PeerReset, _)))
        };
        self.connections.iter().filter(|connection| left(connection.closed)).count()
    }
}

type Handler = Box<dyn Fn(&RecordedRequest) -> Script + Send + Sync>;

struct Shared {
    handler: Handler,
    queue: Mutex<VecDeque<Script>>,
    seen: watch::Sender<Seen>,
}

/// The server. It runs on the case's runtime and ends when dropped.
pub(crate) struct ScriptedUpstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl ScriptedUpstream {
    /// One that answers as OpenAI's API does ([`openai::answer`]) where no script was queued.
    pub(crate) async fn start() -> Self {
        Self::with(openai::answer).await
    }

    /// One that asks `handler` what to do where no script was queued.
    pub(crate) async fn with(
        handler: impl Fn(&RecordedRequest) -> Script + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            queue: Mutex::default(),
            seen: watch::Sender::new(Seen::default()),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    /// The next request without a script gets this one. Scripts are taken in order, whatever the
    /// connection.
    pub(crate) fn push(&self, script: Script) {
        self.shared.queue.lock().unwrap().push_back(script);
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// As a model configuration names it, `/v1` included.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// All seen so far.
    pub(crate) fn seen(&self) -> Seen {
        self.shared.seen.borrow().clone()
    }

    /// Waits until what was seen satisfies `condition`, and fails the case, naming `what`, if that
    /// never happens.
    pub(crate) async fn wait_for(&self, what: &str, condition: impl Fn(&Seen) -> bool) -> Seen {
        self.wait_within(PATIENCE, what, condition).await
    }

    /// The same with a deadline that is part of the contract under test.
    pub(crate) async fn wait_within(
        &self,
        deadline: Duration,
        what: &str,
        condition: impl Fn(&Seen) -> bool,
    ) -> Seen {
        let mut changes = self.shared.seen.subscribe();
        within(deadline, what, async { changes.wait_for(condition).await.unwrap().clone() }).await
    }

    /// The request of that index (from 0), waited for.
    pub(crate) async fn request(&self, index: usize) -> Arc<RecordedRequest> {
        let what = format!("the upstream's request {index}");
        Arc::clone(&self.wait_for(&what, |seen| seen.requests.len() > index).await.requests[index])
    }

    /// The latest request, which must be there already.
    pub(crate) fn last_request(&self) -> Arc<RecordedRequest> {
        Arc::clone(self.seen().requests.last().expect("a request has reached the upstream"))
    }

    /// Waits until the peer has left the connection of that index, and fails the case if it has not
    /// within the deadline.
    pub(crate) async fn left_within(&self, deadline: Duration, connection: usize) {
        let what = format!("the peer leaves the upstream's connection {connection}");
        let left = |seen: &Seen| {
            let closed = seen.connections.get(connection).and_then(|connection| connection.closed);
            matches!(closed, Some((ClosedBy::Peer | ClosedBy::PeerReset, _)))
        };
        self.wait_within(deadline, &what, left).await;
    }

    /// Ends it: the port refuses connections from now on.
    pub(crate) async fn stop(mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for ScriptedUpstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and ends every connection.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        // Each step is to leave on its own, when it is due.
        stream.set_nodelay(true).unwrap();
        let mut number = 0;
        shared.seen.send_modify(|seen| {
            number = seen.connections.len();
            seen.connections.push(SeenConnection { accepted: Instant::now(), closed: None });
        });
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let closed_by = serve(stream, number, &shared).await;
            shared.seen.send_modify(|seen| {
                seen.connections[number].closed = Some((closed_by, Instant::now()));
            });
        });
        while connections.try_join_next().is_some() {}
    }
}

/// What follows a script.
enum Next {
    Request,
    Close,
    Reset,
    Gone(ClosedBy),
}

async fn serve(mut stream: TcpStream, number: usize, shared: &Shared) -> ClosedBy {
    let mut buffer = BytesMut::new();
    loop {
        let request = match read_request(&mut stream, &mut buffer, number).await {
            Ok(Some(request)) => Arc::new(request),
            Ok(None) => return ClosedBy::Peer,
            Err(error) => {
                shared.seen.send_modify(|seen| seen.cut_requests += 1);
                return gone(&error);
            }
        };
        let last =
            request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let queued = shared.queue.lock().unwrap().pop_front();
        let script = queued.unwrap_or_else(|| (shared.handler)(&request));
        shared.seen.send_modify(|seen| seen.requests.push(request));
        let next = {
            let (mut reader, mut writer) = stream.split();
            play(&mut reader, &mut writer, &mut buffer, script).await
        };
        match next {
            Next::Request if !last => {}
            Next::Request | Next::Close => {
                let _ = stream.shutdown().await;
                return ClosedBy::Upstream;
            }
            Next::Reset => {
                stream.set_zero_linger().unwrap();
                return ClosedBy::Upstream;
            }
            Next::Gone(by) => return by,
        }
    }
}

fn gone(error: &io::Error) -> ClosedBy {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ClosedBy::Peer,
        _ => ClosedBy::PeerReset,
    }
}

/// Does the steps, with an eye on the peer: one that leaves ends the script.
async fn play(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    buffer: &mut BytesMut,
    script: Script,
) -> Next {
    for step in script.steps {
        match step {
            Step::Close => return Next::Close,
            Step::Reset => return Next::Reset,
            Step::KeepOpen => return Next::Gone(peer_leaves(reader, buffer).await),
            Step::WaitForNextRequest if !buffer.is_empty() => {}
            Step::WaitForNextRequest => match reader.read_buf(buffer).await {
                Ok(0) => return Next::Gone(ClosedBy::Peer),
                Ok(_) => {}
                Err(error) => return Next::Gone(gone(&error)),
            },
            step => {
                let done = tokio::select! {
                    biased;
                    done = perform(writer, step) => done,
                    by = peer_leaves(reader, buffer) => return Next::Gone(by),
                };
                if let Err(error) = done {
                    return Next::Gone(gone(&error));
                }
            }
        }
    }
    Next::Request
}

/// Returns when the peer has left. What it sends meanwhile is kept as its next request.
async fn peer_leaves(reader: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> ClosedBy {
    loop {
        match reader.read_buf(buffer).await {
            Ok(0) => return ClosedBy::Peer,
            Ok(_) => {}
            Err(error) => return gone(&error),
        }
    }
}

async fn perform(writer: &mut (impl AsyncWrite + Unpin), step: Step) -> io::Result<()> {
    match step {
        Step::WaitForRelease(pause) => pause.released().await,
        Step::Delay(time) => tokio::time::sleep(time).await,
        Step::Raw(bytes) => writer.write_all(&bytes).await?,
        Step::Chunk(bytes) => writer.write_all(&framing::put_chunk(&bytes)).await?,
        Step::Chunks(chunks) => {
            for bytes in chunks {
                writer.write_all(&framing::put_chunk(&bytes)).await?;
                // A socket that always has room would starve the rest of the case's thread.
                tokio::task::yield_now().await;
            }
        }
        Step::Note(mark) => mark.set(),
        Step::EndChunks => writer.write_all(framing::LAST_CHUNK).await?,
        // `play` has dealt with these.
        Step::WaitForNextRequest | Step::KeepOpen | Step::Close | Step::Reset => {}
    }
    writer.flush().await
}

/// The next request; `None` when the peer closed between two.
async fn read_request(
    reader: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    connection: usize,
) -> io::Result<Option<RecordedRequest>> {
    let (method, target, headers) = loop {
        if let Some(head) = take_head(buffer) {
            break head;
        }
        if reader.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() {
                Ok(None)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
    };
    let chunked = framing::find(&headers, "transfer-encoding").is_some();
    let length =
        framing::find(&headers, "content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = BytesMut::new();
    loop {
        if !chunked && buffer.len() >= length {
            body = buffer.split_to(length);
            break;
        }
        match if chunked { framing::take_chunk(buffer).unwrap() } else { None } {
            Some(Chunk::Data(data)) => body.extend_from_slice(&data),
            Some(Chunk::End) => break,
            None => {
                if reader.read_buf(buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
    Ok(Some(RecordedRequest {
        connection,
        method,
        target,
        headers,
        body: body.freeze(),
        at: Instant::now(),
    }))
}

/// Method, target and headers, when they have all arrived. A gateway that sends what is not HTTP
/// fails the case here.
fn take_head(buffer: &mut BytesMut) -> Option<(String, String, HeaderList)> {
    let mut headers = [httparse::EMPTY_HEADER; framing::MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return None,
        Err(error) => panic!("the upstream was sent what is not HTTP: {error}"),
    };
    let method = request.method.unwrap_or_default().to_owned();
    let target = request.path.unwrap_or_default().to_owned();
    let headers = framing::list(request.headers);
    let _ = buffer.split_to(length);
    Some((method, target, headers))
}
