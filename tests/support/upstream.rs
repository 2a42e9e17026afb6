//! A scripted provider: a TCP server that follows a [`Script`], records the requests it receives and
//! notices when its peer disconnects.
//!
//! Built on sockets and httparse instead of the gateway's HTTP library, so that it can violate HTTP on
//! purpose. The answers of OpenAI's API are in [`openai`](super::openai).

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
    wait::{DEADLINE, within},
};

#[derive(Clone, Debug)]
pub(crate) struct RecordedRequest {
    pub(crate) connection: usize,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HeaderList,
    pub(crate) body: Bytes,
}

impl RecordedRequest {
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub(crate) fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// The first header with this name, in any letter case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        framing::find(&self.headers, name)
    }

    /// The body as JSON, or null if it is not JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClosedBy {
    /// The peer closed it or its sending direction.
    Peer,
    PeerReset,
    /// The script closed it, or the request asked for it.
    Upstream,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SeenConnection {
    pub(crate) closed: Option<(ClosedBy, Instant)>,
}

/// What the upstream has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// In the order received.
    pub(crate) requests: Vec<Arc<RecordedRequest>>,
    /// In the order accepted.
    pub(crate) connections: Vec<SeenConnection>,
    /// The number of incomplete requests.
    pub(crate) cut_requests: usize,
}

impl Seen {
    /// The number of accepted connections.
    pub(crate) fn accepted(&self) -> usize {
        self.connections.len()
    }

    /// The number of open connections.
    pub(crate) fn open(&self) -> usize {
        self.connections.iter().filter(|connection| connection.closed.is_none()).count()
    }

    /// The number of connections that the peer closed or reset.
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

/// The server. It runs on the test's runtime and ends when dropped.
pub(crate) struct ScriptedUpstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl ScriptedUpstream {
    /// Starts one that answers like OpenAI's API ([`openai::answer`]) if no script is queued.
    pub(crate) async fn start() -> Self {
        Self::with(openai::answer).await
    }

    /// Starts one that calls `handler` if no script is queued.
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

    /// Queues a script. Requests take scripts in order, on whatever connection.
    pub(crate) fn push(&self, script: Script) {
        self.shared.queue.lock().unwrap().push_back(script);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The origin in place of a provider's own.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The base URL for a model configuration.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub(crate) fn seen(&self) -> Seen {
        self.shared.seen.borrow().clone()
    }

    /// Waits until `condition` holds, and fails the test, naming `what`, if it does not.
    pub(crate) async fn wait_for(&self, what: &str, condition: impl Fn(&Seen) -> bool) -> Seen {
        self.wait_within(DEADLINE, what, condition).await
    }

    /// The same with a deadline that is under test.
    pub(crate) async fn wait_within(
        &self,
        deadline: Duration,
        what: &str,
        condition: impl Fn(&Seen) -> bool,
    ) -> Seen {
        let mut changes = self.shared.seen.subscribe();
        within(deadline, what, async { changes.wait_for(condition).await.unwrap().clone() }).await
    }

    pub(crate) async fn request(&self, index: usize) -> Arc<RecordedRequest> {
        let what = format!("the upstream's request {index}");
        Arc::clone(&self.wait_for(&what, |seen| seen.requests.len() > index).await.requests[index])
    }

    pub(crate) fn last_request(&self) -> Arc<RecordedRequest> {
        Arc::clone(self.seen().requests.last().expect("a request has reached the upstream"))
    }

    /// Waits until the peer has closed the connection with this index, and fails the test if it has not
    /// within the deadline.
    pub(crate) async fn left_within(&self, deadline: Duration, connection: usize) {
        let what = format!("the peer leaves the upstream's connection {connection}");
        let left = |seen: &Seen| {
            let closed = seen.connections.get(connection).and_then(|connection| connection.closed);
            matches!(closed, Some((ClosedBy::Peer | ClosedBy::PeerReset, _)))
        };
        self.wait_within(deadline, &what, left).await;
    }

    /// Stops it: from now on the port refuses connections.
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
    // Dropped with this task, which closes every connection.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        // Each step is sent on its own, at once.
        stream.set_nodelay(true).unwrap();
        let mut number = 0;
        shared.seen.send_modify(|seen| {
            number = seen.connections.len();
            seen.connections.push(SeenConnection { closed: None });
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

/// What to do after a script.
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

/// Runs the steps; a peer that disconnects ends the script.
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

/// Waits until the peer disconnects. Bytes that it sends meanwhile are kept for its next request.
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
                // Otherwise a socket that always accepts data would starve other tasks of the test.
                tokio::task::yield_now().await;
            }
        }
        Step::Note(mark) => mark.set(),
        Step::EndChunks => writer.write_all(framing::LAST_CHUNK).await?,
        // Handled by `play`.
        Step::WaitForNextRequest | Step::KeepOpen | Step::Close | Step::Reset => {}
    }
    writer.flush().await
}

/// The next request; `None` if the peer closed before it.
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
    Ok(Some(RecordedRequest { connection, method, target, headers, body: body.freeze() }))
}

/// Method, target and headers, if they are complete. Panics if they are not HTTP.
fn take_head(buffer: &mut BytesMut) -> Option<(String, String, HeaderList)> {
    let mut headers = [httparse::EMPTY_HEADER; framing::MAX_HEADERS];
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
