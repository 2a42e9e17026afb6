//! Endpoints of a built-in provider that an organization lets through although nothing there is metered or
//! scanned. Their bodies are streamed in both directions and looked at in neither.

use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use actix_web::web::Payload;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::time::timeout;

use super::error::ProxyError;
use crate::directory::upstream_entry::UpstreamEntry;
use crate::domain::provider_settings::{UnmeteredEndpoint, UnmeteredMethod, is_administration};
use crate::llm::format::Operation;
use crate::upstream::{BodyBroke, StreamedBody};

/// The limits of a streamed body.
#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    /// Maximum length in bytes.
    pub bytes: u64,
    /// Maximum time in which nothing comes.
    pub idle: Duration,
}

/// What a method and a path after the version ask for, if they can be let through: the path has to say
/// the same to everybody who reads it, so it holds nothing encoded and no empty or dotted segment.
pub fn unmetered_operation(method: &Method, path: &str) -> Option<Operation> {
    let method = UnmeteredMethod::parse(method.as_str())?;
    let is_plain = |segment: &str| {
        !segment.is_empty()
            && !matches!(segment, "." | "..")
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~:@".contains(&b))
    };
    let segments = path.strip_prefix('/')?;
    segments
        .split('/')
        .all(is_plain)
        .then(|| Operation::Unmetered { method, path: path.to_owned() })
}

/// The setting that lets the request through. Never what administers an account, and never with the
/// organization's own credential, which all of its workspaces share.
pub fn endpoint_for<'e>(
    upstream: &'e UpstreamEntry,
    method: UnmeteredMethod,
    path: &str,
) -> Result<&'e UnmeteredEndpoint, ProxyError> {
    let Some(provider) = upstream.id.provider() else { return Err(ProxyError::NotServed) };
    let mut endpoints = upstream.unmetered_endpoints.iter();
    let found = endpoints.find(|endpoint| endpoint.matches(method, path));
    let endpoint = found
        .filter(|_| !is_administration(path))
        .ok_or(ProxyError::UnmeteredNotAllowed { provider })?;
    if upstream.is_inherited {
        return Err(ProxyError::UnmeteredNeedsOwnSecret { provider });
    }
    Ok(endpoint)
}

/// What the ledger names in place of a model: the endpoint as the setting has it.
pub fn label(endpoint: &UnmeteredEndpoint) -> String {
    format!("{} {}", endpoint.method.as_str(), endpoint.path)
}

/// The caller's body as it arrives; none if there is none.
pub fn streamed_body(
    headers: &HeaderMap,
    payload: Payload,
    limits: StreamLimits,
) -> Result<Option<StreamedBody>, ProxyError> {
    let declared: Option<u64> =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let is_given = declared.is_some_and(|length| length > 0)
        || (declared.is_none() && headers.contains_key(TRANSFER_ENCODING));
    if !is_given {
        return Ok(None);
    }
    if declared.is_some_and(|length| length > limits.bytes) {
        let limit = usize::try_from(limits.bytes).unwrap_or(usize::MAX);
        return Err(ProxyError::BodyTooLarge { limit });
    }
    Ok(Some(StreamedBody::new(declared, chunks(payload, limits))))
}

/// The chunks within the limits.
fn chunks(
    payload: Payload,
    limits: StreamLimits,
) -> impl Stream<Item = Result<Bytes, BodyBroke>> + 'static {
    stream::unfold((Some(payload), 0), move |(payload, received)| async move {
        let mut payload = payload?;
        let next = timeout(limits.idle, payload.next()).await;
        let chunk = match next {
            Err(_) => Err(BodyBroke::TooSlow),
            Ok(None) => return None,
            Ok(Some(Err(_))) => Err(BodyBroke::Incomplete),
            Ok(Some(Ok(chunk))) => Ok(chunk),
        };
        let length = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        let received = received + length;
        match chunk {
            Ok(_) if received > limits.bytes => {
                Some((Err(BodyBroke::TooLarge { limit: limits.bytes }), (None, received)))
            }
            Ok(chunk) => Some((Ok(chunk), (Some(payload), received))),
            Err(broke) => Some((Err(broke), (None, received))),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_plain() {
        let found = |path| unmetered_operation(&Method::GET, path).is_some();
        for good in ["/files", "/files/file-1/content", "/models/a:b", "/a.b/c~d"] {
            assert!(found(good), "{good}");
        }
        for bad in ["", "/", "files", "/files/", "//files", "/a/../b", "/a/./b", "/a%2Fb", "/a;b"] {
            assert!(!found(bad), "{bad}");
        }
        assert!(unmetered_operation(&Method::OPTIONS, "/files").is_none());
        assert!(unmetered_operation(&Method::HEAD, "/files").is_none());
    }
}
