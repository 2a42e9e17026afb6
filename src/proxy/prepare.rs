//! From the caller's request to the upstream's: model, parameters, headers, credential, time limits.

use actix_web::HttpRequest;
use bytes::Bytes;

use super::error::ProxyError;
use super::headers::upstream_headers;
use super::route::{Operation, ProxyRoute};
use crate::directory::configuration::{ConfigurationEntry, Credentials};
use crate::domain::model_configuration::StreamUsage;
use crate::json::object::{BodyEdits, JsonBody};
use crate::llm::limits::BodyFacts;
use crate::providers::quirks;
use crate::upstream::{UpstreamRequest, UpstreamTimeouts};

/// A request ready to be sent, as often as need be.
pub struct Prepared {
    /// What goes up.
    pub request: UpstreamRequest,
    /// What must not come down.
    pub credentials: Credentials,
}

/// Applies the configuration to the caller's body: its model always, its default parameters where the
/// caller sent none. Returns also whether the usage event has to be withheld from the caller.
pub fn edit_body<'b>(
    body: &'b JsonBody,
    facts: &BodyFacts,
    operation: &Operation,
    configuration: &'b ConfigurationEntry,
) -> Result<(BodyEdits<'b>, bool), ProxyError> {
    if let Some(field) = quirks(&configuration.provider_name).model_override(body, facts) {
        return Err(ProxyError::ModelOverride { field });
    }
    let mut edits = body.edit();
    edits.set_str("model", &configuration.model);
    for (name, value) in &configuration.default_parameters {
        edits.set_if_absent(name, value).map_err(ProxyError::Body)?;
    }
    let streams = *operation == Operation::ChatCompletions && body.get_bool("stream") == Some(true);
    let withhold_usage = streams
        && configuration.stream_usage == StreamUsage::Inject
        && edits.ask_for_usage().map_err(ProxyError::Body)?;
    Ok((edits, withhold_usage))
}

/// Puts the upstream's request together.
pub fn prepare(
    caller: &HttpRequest,
    route: &ProxyRoute,
    configuration: &ConfigurationEntry,
    credentials: Credentials,
    body: Bytes,
    defaults: UpstreamTimeouts,
) -> Prepared {
    let mut headers = upstream_headers(caller.headers(), &configuration.forward_headers);
    for (name, value) in &credentials.headers {
        headers.insert(name.clone(), value.clone());
    }
    let query = Some(caller.query_string()).filter(|query| !query.is_empty());
    let limits = configuration.timeouts;
    let or = |own: Option<u32>, default| {
        own.map_or(default, |millis| std::time::Duration::from_millis(u64::from(millis)))
    };
    let request = UpstreamRequest {
        method: caller.method().clone(),
        target: configuration.base_url.join(&route.operation.path_after_v1(), query),
        headers,
        body,
        timeouts: UpstreamTimeouts {
            connect: or(limits.connect_ms, defaults.connect),
            first_byte: or(limits.first_byte_ms, defaults.first_byte),
            idle: or(limits.idle_ms, defaults.idle),
        },
    };
    Prepared { request, credentials }
}
