//! The one room that speaks to providers: where a request may go ([`egress`], [`base_url`]) and
//! the HTTP client that takes it there ([`UpstreamClient`]). Everything awc gets wrong for a gateway is put
//! right here, so that no other room has to know awc.
//!
//! What must not live here: who may call what, which headers travel, what a body means.

mod awc;
pub mod base_url;
pub mod egress;
mod endpoint_url;
mod error;
mod streamed_body;
mod tls;

#[cfg(test)]
mod tests;

pub use awc::client::{
    PreparedRequest, UpstreamBody, UpstreamClient, UpstreamError, UpstreamFailure, UpstreamRequest,
    UpstreamResponse, UpstreamSettings, UpstreamTimeouts, tls_config,
};
pub use base_url::{BaseUrl, BaseUrlError, RequestTarget};
pub use egress::{EgressRefusal, EgressRules};
pub use endpoint_url::EndpointUrl;
pub use streamed_body::{BodyBroke, RequestBody, StreamedBody};
