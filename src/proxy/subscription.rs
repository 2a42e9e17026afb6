//! Callers who pay Anthropic themselves: where an organization allows it, the bearer of their own
//! subscription is sent in place of the stored key, and nowhere else. Their key of the gateway is sent in
//! `X-Api-Key`.

use std::fmt;

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use crate::auth::bearer_of_others;
use crate::crypto::SecretBytes;
use crate::directory::upstream_entry::{Credentials, UpstreamEntry};
use crate::domain::provider::{Provider, UpstreamId};
use crate::llm::format::Operation;

/// The caller's own credential at Anthropic. It is kept for its request only.
#[derive(Clone)]
pub struct Subscription(HeaderValue);

impl Subscription {
    /// The one that a request of this upstream brings along, if the organization allows it.
    pub fn of(
        upstream: &UpstreamEntry,
        operation: &Operation,
        headers: &HeaderMap,
    ) -> Option<Self> {
        let is_for_it = upstream.id == UpstreamId::Provider(Provider::Anthropic)
            && upstream.subscription_pass_through
            && !matches!(operation, Operation::Unmetered { .. });
        let mut value = is_for_it.then(|| bearer_of_others(headers)).flatten()?.clone();
        value.set_sensitive(true);
        Some(Self(value))
    }

    /// What the request is sent with.
    pub fn credentials(&self) -> Credentials {
        let token = self.0.as_bytes().splitn(2, |byte| *byte == b' ').nth(1).unwrap_or_default();
        Credentials {
            headers: [(AUTHORIZATION, self.0.clone())].into_iter().collect(),
            secrets: vec![SecretBytes::from(token.trim_ascii().to_vec())],
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription(..)")
    }
}
