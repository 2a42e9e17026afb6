//! What is here because of awc: its connector, the response validator between awc and a connection,
//! and the workarounds for its timers and pool. Another HTTP client would replace this directory.

pub(super) mod attempt;
mod body;
pub(super) mod client;
mod date_timers;
mod dialer;
mod outgoing_request;
mod outgoing_stream;
mod response_validator;
mod sweeper;
mod transport;
