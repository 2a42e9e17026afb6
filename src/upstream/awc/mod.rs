//! What is here because of awc: its connector, the response validator between awc and a connection,
//! and the workarounds for its timers and pool. Another HTTP client would replace this directory.

pub(super) mod attempt;
pub(super) mod dialer;
mod guard;
pub(super) mod quiet;
mod sweeper;
mod transport;
