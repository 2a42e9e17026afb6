//! How a call to an upstream can fail.

use std::{io, time::Duration};

use super::egress::EgressRefusal;
use super::streamed_body::BodyBroke;

/// A reused connection that fails later than this was not simply closed while idle.
const STALE_LIMIT: Duration = Duration::from_secs(1);

/// What went wrong between us and an upstream.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("the egress rules refuse the upstream: {0}")]
    Refused(#[from] EgressRefusal),
    #[error("the upstream's name does not resolve: {0}")]
    Resolve(#[source] io::Error),
    /// No address accepted a connection; the error of the last one tried.
    #[error("could not connect to the upstream: {0}")]
    Connect(#[source] io::Error),
    /// Resolving, connecting and the TLS handshake took longer than the connect limit.
    #[error("connecting to the upstream took too long")]
    ConnectTimeout,
    /// The TLS handshake failed, e.g. over the certificate.
    #[error("the TLS handshake with the upstream failed: {0}")]
    Tls(#[source] io::Error),
    /// Connected, but the response's head did not come in time.
    #[error("the upstream took too long to answer")]
    FirstByteTimeout,
    #[error("the upstream went silent in the middle of its answer")]
    IdleTimeout,
    #[error("the upstream closed the connection before its answer was complete")]
    Closed,
    /// What came is not a response that can be read only one way.
    #[error("the upstream's answer is not valid HTTP: {0}")]
    Protocol(String),
    /// The caller's body, which was sent as it arrived, did not come to its end.
    #[error("the body could not be sent: {0}")]
    Body(BodyBroke),
    /// The request cannot be written as HTTP, e.g. because its URL is too long.
    #[error("the request cannot be sent: {0}")]
    InvalidRequest(String),
}

impl UpstreamError {
    /// A stable, bounded name for metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused(_) => "egress_refused",
            Self::Resolve(_) => "resolve",
            Self::Connect(_) => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls(_) => "tls",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::Closed => "closed",
            Self::Protocol(_) => "protocol",
            Self::Body(_) => "request_body",
            Self::InvalidRequest(_) => "invalid_request",
        }
    }

    /// Whether the upstream may have got the request before it failed.
    pub fn is_after_sending(&self) -> bool {
        matches!(
            self,
            Self::FirstByteTimeout | Self::IdleTimeout | Self::Closed | Self::Protocol(_)
        )
    }
}

/// A request that got no response head, and what is known about how far it came.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct UpstreamFailure {
    /// What went wrong.
    #[source]
    pub error: UpstreamError,
    /// Did the request go out on a connection from the pool?
    pub reused_connection: bool,
    /// Since the call to `send`.
    pub elapsed: Duration,
    /// Had any byte of a response come, an interim one included?
    pub response_bytes_seen: bool,
}

impl UpstreamFailure {
    /// The close race: we reused a connection in the moment when the other side gave it up. Only
    /// then is one retry safe, because a server that closes an idle connection has not read the
    /// request.
    pub fn is_stale_connection(&self) -> bool {
        self.reused_connection
            && !self.response_bytes_seen
            && self.elapsed < STALE_LIMIT
            && matches!(self.error, UpstreamError::Closed)
    }
}
