//! From the caller's request to the upstream's: model, parameters, headers, credential, time limits.

use actix_web::HttpRequest;
use bytes::Bytes;

use super::error::ProxyError;
use super::headers::upstream_headers;
use super::route::{Operation, ProxyRoute};
use crate::directory::configuration::{ConfigurationEntry, Credentials};
use crate::domain::model_configuration::StreamUsage;
use crate::json::object::JsonBody;
use crate::upstream::{UpstreamRequest, UpstreamTimeouts};

/// A request ready to be sent, as often as need be.
pub struct Prepared {
    /// What goes up.
    pub request: UpstreamRequest,
    /// What must not come down.
    pub credentials: Credentials,
}

/// Makes the configuration's word count over the caller's: the model always, other parameters where
/// the caller sent none. Says whether the usage event that we ask for is ours to withhold.
pub fn edit_body(
    body: &mut JsonBody,
    operation: &Operation,
    configuration: &ConfigurationEntry,
) -> Result<bool, ProxyError> {
    body.set_str("model", &configuration.model);
    for (name, value) in &configuration.default_parameters {
        body.set_if_absent(name, value.as_str()).map_err(ProxyError::Body)?;
    }
    let streams = *operation == Operation::ChatCompletions && body.get_bool("stream") == Some(true);
    if streams && configuration.stream_usage == StreamUsage::Inject {
        return body.ask_for_usage().map_err(ProxyError::Body);
    }
    Ok(false)
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
