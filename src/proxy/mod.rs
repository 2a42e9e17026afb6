//! The data plane.

pub mod body;
pub mod error;
pub mod headers;
pub mod redact;
pub mod route;
pub mod sse;
