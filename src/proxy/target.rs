//! The upstreams that a request may be sent to, in the order in which they are tried, and what the
//! request becomes for each: the caller's body is kept, and every target has its own edits of it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderName, HeaderValue};

use super::DataPlane;
use super::error::ProxyError;
use super::headers::upstream_headers;
use super::read::CallerBody;
use super::route::ProxyRoute;
use crate::accounting::engine::TargetFacts;
use crate::directory::configuration::ConfigurationEntry;
use crate::domain::model_configuration::StreamUsage;
use crate::json::object::{BodyEdits, BodyPieces};
use crate::llm::format::{Format, Operation};
use crate::llm::limits::Bound;
use crate::providers::quirks;
use crate::upstream::{UpstreamRequest, UpstreamTimeouts};

/// One upstream that the request may be sent to.
pub struct Target<'r> {
    pub configuration: &'r Arc<ConfigurationEntry>,
    /// The most that the request can use there.
    pub bound: Bound,
    /// The gateway asks for usage and the caller did not, so the usage event is not the caller's.
    pub withhold_usage: bool,
    /// The caller asked for a stream.
    pub is_stream_expected: bool,
    /// None for operations without a body.
    edits: Option<BodyEdits<'r>>,
}

impl<'r> Target<'r> {
    /// Applies the configuration to the caller's body: its model always, its default parameters
    /// where the caller sent none.
    pub fn new(
        plane: &DataPlane,
        operation: &Operation,
        configuration: &'r Arc<ConfigurationEntry>,
        body: Option<&'r CallerBody>,
    ) -> Result<Self, ProxyError> {
        let (Some(format), Some(CallerBody { json, facts, .. })) = (operation.format(), body)
        else {
            return Ok(Self {
                configuration,
                bound: Bound::FREE,
                withhold_usage: false,
                is_stream_expected: false,
                edits: None,
            });
        };
        let quirks = quirks(&configuration.provider_name);
        if let Some(field) = quirks.model_override(json, facts) {
            return Err(ProxyError::ModelOverride { field });
        }
        let mut edits = json.edit();
        edits.set_str("model", &configuration.model);
        let allowed = operation.parameters();
        for (name, value) in &configuration.default_parameters {
            if allowed.is_none_or(|allowed| allowed.contains(&name.as_str())) {
                edits.set_if_absent(name, value).map_err(ProxyError::Body)?;
            }
        }
        if *operation == Operation::CountTokens {
            return Ok(Self {
                configuration,
                bound: Bound::FREE,
                withhold_usage: false,
                is_stream_expected: false,
                edits: Some(edits),
            });
        }
        let is_stream_expected = edits.get("stream") == Some("true");
        let withhold_usage = format == Format::Chat
            && is_stream_expected
            && configuration.stream_usage == StreamUsage::Inject
            && edits.ask_for_usage().map_err(ProxyError::Body)?;
        let mut facts = Cow::Borrowed(facts);
        edits.added().for_each(|(key, raw)| facts.to_mut().add_field(key, raw));
        if !operation.bounds_answers() {
            facts.to_mut().ignore_answer_limits();
        }
        let bound = plane.accounting.bound(format, configuration, edits.length(), &facts);
        Ok(Self { configuration, bound, withhold_usage, is_stream_expected, edits: Some(edits) })
    }

    /// What admission and the ledger need to know of it.
    pub fn facts(&self) -> TargetFacts<'_> {
        TargetFacts { configuration: self.configuration, bound: self.bound }
    }

    /// The body that this target gets.
    pub fn body(&self) -> BodyPieces {
        self.edits.as_ref().map(BodyEdits::to_pieces).unwrap_or_default()
    }

    /// The request that this target gets.
    pub fn request(
        &self,
        caller: &HttpRequest,
        route: &ProxyRoute,
        credentials: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
        body: BodyPieces,
        defaults: UpstreamTimeouts,
    ) -> UpstreamRequest {
        let configuration = self.configuration;
        let mut headers = upstream_headers(
            caller.headers(),
            &configuration.forward_headers,
            configuration.provider.api(),
        );
        for (name, value) in credentials {
            headers.insert(name, value);
        }
        let query = Some(caller.query_string()).filter(|query| !query.is_empty());
        let limits = configuration.timeouts;
        let or = |own: Option<u32>, default| {
            own.map_or(default, |millis| Duration::from_millis(u64::from(millis)))
        };
        UpstreamRequest {
            method: caller.method().clone(),
            target: configuration.base_url.join(&route.operation.path_after_v1(), query),
            headers,
            body,
            timeouts: UpstreamTimeouts {
                connect: or(limits.connect_ms, defaults.connect),
                first_byte: or(limits.first_byte_ms, defaults.first_byte),
                idle: or(limits.idle_ms, defaults.idle),
            },
        }
    }
}
