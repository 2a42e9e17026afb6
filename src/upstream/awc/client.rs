//! The HTTP client for upstreams: awc's codec and pool, with everything else of it replaced.
//! One a worker, since awc's clients cannot leave their thread.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use actix_http::{
    HttpMessage, Method, StatusCode,
    header::{self, HeaderMap},
};
use awc::error::{ConnectError, SendRequestError};
use futures_util::stream;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::{TlsConnector, rustls::ClientConfig};

pub use super::body::UpstreamBody;
use super::{
    attempt::Attempt, date_timers::SuppressedTimers, dialer::Dialer,
    outgoing_stream::OutgoingStream,
};
use crate::json::object::BodyPieces;
use crate::upstream::{
    base_url::RequestTarget,
    egress::EgressRules,
    streamed_body::{BodyBroke, RequestBody, StreamedBody},
};
pub use crate::upstream::{
    error::{UpstreamError, UpstreamFailure},
    tls::tls_config,
};

/// A connection that is in steady use is replaced now and then, so that a changed DNS record is
/// noticed. It does not cut a response that has begun.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// As good as never. awc starts a timer for every dial; the limit is the attempt's, so awc's is put
/// out of the way.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Framing and hop-by-hop headers, which are ours to write.
const OWN_HEADERS: [header::HeaderName; 7] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    // awc would wait for a 100 before the body.
    header::EXPECT,
];

/// What a client needs to know. Cheap to clone; one for all workers.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    /// Where connections may go; asked again at every connect. They hold for the life of a
    /// client: other rules need another one, which has a pool of its own.
    pub egress: EgressRules,
    /// From [`tls_config`].
    pub tls: Arc<ClientConfig>,
    /// How long a connection may wait in the pool. Common servers close idle ones after 5 s.
    pub idle_keep_alive: Duration,
}

/// A worker's client. Clones share the connection pool.
#[derive(Clone)]
pub struct UpstreamClient {
    plain: awc::Client,
    tls: awc::Client,
    timers: Rc<SuppressedTimers>,
}

/// One request.
pub struct UpstreamRequest {
    pub method: Method,
    /// The URL, from [`crate::upstream::BaseUrl::join`].
    pub target: RequestTarget,
    /// The headers that travel. Host, framing and hop-by-hop ones are dropped and written anew.
    pub headers: HeaderMap,
    /// The body; empty for none.
    pub body: RequestBody,
    /// The time limits.
    pub timeouts: UpstreamTimeouts,
}

/// A request that can be sent, more than once unless its body is streamed.
pub struct PreparedRequest {
    request: awc::FrozenClientRequest,
    body: PreparedBody,
    timeouts: UpstreamTimeouts,
}

enum PreparedBody {
    /// For methods that have none.
    None,
    Whole(BodyPieces),
    Streamed {
        /// Until it is sent.
        body: RefCell<Option<StreamedBody>>,
        broke: Rc<Cell<Option<BodyBroke>>>,
    },
}

/// The time limits of one request. There is none on the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamTimeouts {
    /// Resolving, connecting and the TLS handshake together.
    pub connect: Duration,
    /// From having a connection to the head of the answer (minutes: reasoning models think).
    pub first_byte: Duration,
    /// Between two chunks of the body.
    pub idle: Duration,
}

/// The head of an answer, and its body to come.
#[derive(Debug)]
pub struct UpstreamResponse {
    /// The status; never 1xx.
    pub status: StatusCode,
    /// Hop-by-hop ones included.
    pub headers: HeaderMap,
    /// The request went out on a connection from the pool.
    pub reused_connection: bool,
    pub body: UpstreamBody,
}

impl UpstreamTimeouts {
    /// A clock cannot be set to the end of time: a day is as good as no limit.
    fn bounded(self) -> Self {
        Self {
            connect: self.connect.min(NEVER),
            first_byte: self.first_byte.min(NEVER),
            idle: self.idle.min(NEVER),
        }
    }
}

impl UpstreamClient {
    /// A client for this worker, whose tasks run here. Has no connections yet.
    pub fn new(settings: &UpstreamSettings) -> Self {
        let client = |tls: Option<TlsConnector>| {
            let dialer = Dialer::new(settings.egress.clone(), tls, settings.idle_keep_alive);
            let connector = awc::Connector::new()
                .connector(dialer)
                .timeout(NEVER)
                // 0 is no limit: with one, awc queues, and one slow tenant starves the others.
                .limit(0)
                .conn_keep_alive(settings.idle_keep_alive)
                .conn_lifetime(CONNECTION_LIFETIME);
            awc::Client::builder()
                .connector(connector)
                .disable_timeout()
                .disable_redirects()
                .no_default_headers()
                .finish()
        };
        Self {
            plain: client(None),
            tls: client(Some(TlsConnector::from(settings.tls.clone()))),
            timers: Rc::default(),
        }
    }

    /// Sends a request and waits for the head of its answer. Dropping the future closes the
    /// connection, before the head as well.
    pub async fn send(
        &self,
        request: &PreparedRequest,
    ) -> Result<UpstreamResponse, UpstreamFailure> {
        let started = Instant::now();
        let timeouts = request.timeouts;
        let attempt = Attempt::new(timeouts.connect, request.whole_body());
        let result = self.head_of_answer(request, &attempt).await;
        let reused_connection = attempt.reused_connection();
        match result {
            Ok(mut response) => {
                let payload = response.take_payload();
                let status = response.status();
                let mut headers = HeaderMap::new();
                let _ = response.map_body(|head, _| {
                    headers = std::mem::take(&mut head.headers);
                    actix_http::Payload::<actix_http::BoxedPayloadStream>::None
                });
                let body = UpstreamBody::new(payload, attempt, timeouts.idle);
                Ok(UpstreamResponse { status, headers, reused_connection, body })
            }
            Err(error) => Err(UpstreamFailure {
                error: request.body_failure().unwrap_or(error),
                reused_connection,
                elapsed: started.elapsed(),
                response_bytes_seen: attempt.response_seen(),
            }),
        }
    }

    /// The same for a request that may be sent twice. It is if the upstream had just closed the connection,
    /// so that it has not read the request.
    pub async fn send_with_retry(
        &self,
        request: UpstreamRequest,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let request = self.prepare(request)?;
        let response = match self.send(&request).await {
            Err(failure) if failure.is_stale_connection() => self.send(&request).await,
            outcome => outcome,
        };
        response.map_err(|failure| failure.error)
    }

    async fn head_of_answer(
        &self,
        request: &PreparedRequest,
        attempt: &Rc<Attempt>,
    ) -> Result<awc::ClientResponse, UpstreamError> {
        self.timers.begin_request();
        let mut work = pin!(attempt.scope(request.send()));
        let mut limit = pin!(None);
        poll_fn(|cx| {
            if let Poll::Ready(result) = self.timers.poll(work.as_mut(), cx) {
                return Poll::Ready(
                    result
                        .map_err(|error| attempt.take_failure().unwrap_or_else(|| from_awc(error))),
                );
            }
            // Connecting has its own limit; this one begins when that is done.
            if limit.is_none()
                && let Some(connected_at) = attempt.connected_at()
            {
                limit.set(Some(sleep_until(connected_at + request.timeouts.first_byte)));
            }
            match limit.as_mut().as_pin_mut().map(|limit| limit.poll(cx)) {
                Some(Poll::Ready(())) => Poll::Ready(Err(UpstreamError::FirstByteTimeout)),
                Some(Poll::Pending) | None => Poll::Pending,
            }
        })
        .await
    }

    /// Makes the request ready to be sent.
    pub fn prepare(&self, request: UpstreamRequest) -> Result<PreparedRequest, UpstreamError> {
        let UpstreamRequest { method, target, mut headers, body, timeouts } = request;
        let uri = target.uri().map_err(UpstreamError::InvalidRequest)?;
        for name in &OWN_HEADERS {
            headers.remove(name);
        }
        headers.insert(header::HOST, target.host_header().clone());
        let body = match body {
            RequestBody::Whole(body)
                if body.pieces().is_empty() && matches!(method, Method::GET | Method::HEAD) =>
            {
                PreparedBody::None
            }
            RequestBody::Whole(body) => PreparedBody::Whole(body),
            RequestBody::Streamed(body) => {
                let broke = Rc::clone(&body.broke);
                PreparedBody::Streamed { body: RefCell::new(Some(body)), broke }
            }
        };
        let client = if target.is_plain_http() { &self.plain } else { &self.tls };
        let mut request = client.request(method, uri).no_decompress();
        *request.headers_mut() = headers;
        Ok(PreparedRequest {
            request: request
                .freeze()
                .map_err(|error| UpstreamError::InvalidRequest(error.to_string()))?,
            body,
            timeouts: timeouts.bounded(),
        })
    }
}

impl PreparedRequest {
    /// Whether its answer depends on what the caller has already (RFC 9110, section 13.1).
    pub fn is_conditional_get(&self) -> bool {
        let headers = self.request.headers();
        *self.request.get_method() == Method::GET
            && [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE]
                .iter()
                .any(|name| headers.contains_key(name))
    }

    /// Why a streamed body broke off, if it did: then that is what failed.
    fn body_failure(&self) -> Option<UpstreamError> {
        match &self.body {
            PreparedBody::Streamed { broke, .. } => broke.get().map(UpstreamError::Body),
            PreparedBody::None | PreparedBody::Whole(_) => None,
        }
    }

    /// The body that the connection writes behind awc's head.
    fn whole_body(&self) -> Option<BodyPieces> {
        match &self.body {
            PreparedBody::Whole(body) => Some(body.clone()),
            PreparedBody::None | PreparedBody::Streamed { .. } => None,
        }
    }

    /// awc's part of the request, not yet begun.
    fn send(&self) -> awc::SendClientRequest {
        match &self.body {
            PreparedBody::None | PreparedBody::Whole(_) => {
                self.request.send_body(actix_http::body::None::new())
            }
            PreparedBody::Streamed { body, .. } => {
                let spent = || StreamedBody::new(None, stream::iter([Err(BodyBroke::Spent)]));
                let body = body.take().unwrap_or_else(spent);
                self.request.send_body(OutgoingStream::new(body))
            }
        }
    }
}

/// What awc itself objected to; failures of the connection are kept by the attempt.
fn from_awc(error: SendRequestError) -> UpstreamError {
    match error {
        SendRequestError::Url(error) => UpstreamError::InvalidRequest(error.to_string()),
        SendRequestError::Http(error) => UpstreamError::InvalidRequest(error.to_string()),
        SendRequestError::Send(_)
        | SendRequestError::Connect(ConnectError::Disconnected | ConnectError::Io(_)) => {
            UpstreamError::Closed
        }
        SendRequestError::Connect(ConnectError::Timeout) => UpstreamError::ConnectTimeout,
        other => UpstreamError::Protocol(other.to_string()),
    }
}

impl fmt::Debug for UpstreamClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamClient").finish_non_exhaustive()
    }
}

impl fmt::Debug for UpstreamRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Leaves out the headers and the body: they hold a key and somebody's words.
        f.debug_struct("UpstreamRequest")
            .field("method", &self.method)
            .field("path_and_query", &self.target.path_and_query())
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}
