//! Which headers cross the gateway. Up: a short list of what is known to matter. Down: all but a
//! short list of what must not pass.

use std::borrow::Cow;

use actix_web::http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName,
    HeaderValue, UPGRADE,
};
use memchr::memmem;
use smallvec::SmallVec;
use url::form_urlencoded;

use crate::domain::headers::{
    ANTHROPIC_VERSION, USUAL_ANTHROPIC_VERSION, is_forwardable, is_hop_by_hop, is_own,
};
use crate::domain::provider::UpstreamApi;

/// Callers' headers that every upstream gets.
const UP: &[&str] = &[
    "accept",
    "content-type",
    "user-agent",
    "openai-beta",
    "anthropic-version",
    "anthropic-beta",
    "idempotency-key",
    "traceparent",
    "tracestate",
];

/// What SDKs say about themselves.
const UP_PREFIX: &str = "x-stainless-";

/// From callers of Anthropic's API: all that says what it is to do, and Claude Code's of its sessions.
const UP_TO_ANTHROPIC: [&str; 2] = ["anthropic-", "x-claude-code-"];

/// What Google's SDKs say about themselves.
const UP_TO_GEMINI: [&str; 1] = ["x-goog-api-client"];

/// Upstreams' headers that speak for another site than the one that the caller called.
const NOT_DOWN: &[&str] =
    &["set-cookie", "set-cookie2", "alt-svc", "strict-transport-security", "content-length"];

const REQUEST_ID: &str = "x-request-id";
const UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-upstream-request-id");

/// The caller's headers that are sent on: the list, and what the configuration's `forward_headers` names
/// as far as that is allowed at all. Never the caller's credentials. Answers are asked for
/// uncompressed, since usage is read from them.
pub fn upstream_headers(caller: &HeaderMap, forward: &[HeaderName], api: UpstreamApi) -> HeaderMap {
    // With room for what is added here and later: credentials and `Host` mostly take the places of the
    // caller's. An entry of the map takes 200 bytes, so a larger table costs time as well.
    let mut up = HeaderMap::with_capacity(caller.len() + 1);
    let connection = ConnectionOptions::of(caller);
    let prefixes: &[&str] = match api {
        UpstreamApi::OpenAi | UpstreamApi::Converse | UpstreamApi::Vertex | UpstreamApi::Azure => {
            &[]
        }
        UpstreamApi::Anthropic => &UP_TO_ANTHROPIC,
        UpstreamApi::Gemini => &UP_TO_GEMINI,
    };
    for (name, value) in caller {
        let listed = UP.contains(&name.as_str())
            || name.as_str().starts_with(UP_PREFIX)
            || prefixes.iter().any(|prefix| name.as_str().starts_with(prefix));
        let named = || forward.contains(name) && is_forwardable(name.as_str());
        if (listed || named()) && !connection.name(name) {
            up.append(name.clone(), value.clone());
        }
    }
    up.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if api == UpstreamApi::Anthropic && !up.contains_key(ANTHROPIC_VERSION) {
        let version = HeaderValue::from_static(USUAL_ANTHROPIC_VERSION);
        up.insert(HeaderName::from_static(ANTHROPIC_VERSION), version);
    }
    up
}

/// Adds the codings of a body that goes up as it arrives. Other bodies are decoded before they do.
pub fn add_content_encoding(caller: &HeaderMap, up: &mut HeaderMap) {
    for value in caller.get_all(CONTENT_ENCODING) {
        up.append(CONTENT_ENCODING, value.clone());
    }
}

/// Copies the upstream's headers that are passed on. Framing (`content-length`) is left to whoever writes
/// the body. A header in which one of the provider's secrets occurs is dropped whole.
pub fn copy_downstream(upstream: &HeaderMap, provider_secrets: &[&[u8]], down: &mut HeaderMap) {
    // With room for the gateway's own: the policies, the tightest limit, and the id.
    down.reserve(upstream.len() + 4);
    let connection = ConnectionOptions::of(upstream);
    for (name, value) in upstream {
        if stays_up(name.as_str())
            || connection.name(name)
            || holds_secret(value.as_bytes(), provider_secrets)
        {
            continue;
        }
        let name = if name == REQUEST_ID { UPSTREAM_REQUEST_ID } else { name.clone() };
        down.append(name, value.clone());
    }
}

/// The length that the upstream declared for its body.
pub fn content_length(upstream: &HeaderMap) -> Option<u64> {
    upstream.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether the caller asks to turn the connection into a WebSocket, which is not served. (Other
/// upgrades, such as the `h2c` that some clients offer with every request, may be ignored.)
pub fn asks_for_websocket(caller: &HeaderMap) -> bool {
    caller
        .get_all(UPGRADE)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}

/// The first parameter of a query whose name, under any case and encoding, is one that providers read a
/// credential from: Google's `key` and `access_token`, and AWS's signed queries.
pub fn credential_in_query(query: &str) -> Option<String> {
    if query.is_empty() {
        return None;
    }
    let mut names =
        form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name.to_ascii_lowercase());
    let holds_credential = |name: &String| {
        // Google takes its system parameters with and without a dollar sign.
        let name = name.trim().trim_start_matches('$');
        matches!(name, "key" | "access_token" | "oauth_token") || name.starts_with("x-amz-")
    };
    names.find(holds_credential)
}

/// The first parameter of a query that Google's API must not get with a call of a model: its system
/// parameters (Google Cloud, "System parameters") leave the usage out of answers or change their form.
pub fn unsupported_by_gemini(query: &str) -> Option<String> {
    let mut parameters = form_urlencoded::parse(query.as_bytes());
    let is_unsupported = |(name, value): &(Cow<'_, str>, Cow<'_, str>)| {
        name != "alt" || !matches!(value.as_ref(), "sse" | "json")
    };
    parameters.find(is_unsupported).map(|(name, _)| name.into_owned())
}

fn stays_up(name: &str) -> bool {
    NOT_DOWN.contains(&name)
        || is_hop_by_hop(name)
        || is_own(name)
        || name.starts_with("access-control-")
        || name == UPSTREAM_REQUEST_ID.as_str()
}

/// What `Connection` names: those headers end here (RFC 9110, section 7.6.1).
struct ConnectionOptions<'h>(SmallVec<[&'h [u8]; 2]>);

impl<'h> ConnectionOptions<'h> {
    fn of(headers: &'h HeaderMap) -> Self {
        let values = headers.get_all(CONNECTION).map(HeaderValue::as_bytes);
        let options = values.flat_map(|value| value.split(|byte| *byte == b','));
        Self(options.map(<[u8]>::trim_ascii).collect())
    }

    fn name(&self, header: &HeaderName) -> bool {
        self.0.iter().any(|option| option.eq_ignore_ascii_case(header.as_str().as_bytes()))
    }
}

fn holds_secret(value: &[u8], secrets: &[&[u8]]) -> bool {
    // A search has to be prepared, and most values are shorter than any key.
    let may_hold = |secret: &[u8]| (1..=value.len()).contains(&secret.len());
    secrets.iter().any(|secret| may_hold(secret) && memmem::find(value, secret).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    fn names(map: &HeaderMap) -> Vec<String> {
        let mut names: Vec<String> = map.keys().map(ToString::to_string).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn credentials_in_queries_are_found_however_they_are_spelled() {
        for query in
            ["key=1", "a=b&KEY=1", "%6bey", "Access_Token=x", "X-Amz-Signature=1", "+key=1"]
        {
            assert!(credential_in_query(query).is_some(), "{query}");
        }
        for query in ["$key=1", "%24KEY=1", "oauth_token=1"] {
            assert!(credential_in_query(query).is_some(), "{query}");
        }
        for query in ["fields=candidates", "$alt=sse", "alt=proto", "alt=sse&callback=f", "Alt=sse"]
        {
            assert!(unsupported_by_gemini(query).is_some(), "{query}");
        }
        for query in ["", "alt=sse", "alt=json"] {
            assert_eq!(unsupported_by_gemini(query), None, "{query}");
        }
        for query in ["", "alt=sse", "keys=1", "monkey=1", "beta=true&a=key"] {
            assert_eq!(credential_in_query(query), None, "{query}");
        }
    }

    #[test]
    fn only_the_list_goes_up() {
        let caller = map(&[
            ("accept", "*/*"),
            ("accept-encoding", "gzip"),
            ("authorization", "Bearer tg_x"),
            ("connection", "keep-alive, OpenAI-Beta"),
            ("content-length", "3"),
            ("content-type", "application/json"),
            ("cookie", "a=b"),
            ("host", "gateway"),
            ("openai-beta", "x"),
            ("x-api-key", "tg_x"),
            ("x-other", "1"),
            ("x-stainless-lang", "python"),
            ("x-team", "1"),
            ("x-team", "2"),
            ("x-tollgate-error", "gateway"),
        ]);
        let forward: Vec<HeaderName> =
            ["x-team", "authorization", "x-api-key", "cookie", "host", "x-tollgate-error"]
                .into_iter()
                .map(HeaderName::from_static)
                .collect();
        let up = upstream_headers(&caller, &forward, UpstreamApi::OpenAi);
        assert_eq!(
            names(&up),
            ["accept", "accept-encoding", "content-type", "x-stainless-lang", "x-team"]
        );
        assert_eq!(up.get_all("x-team").count(), 2);
        assert_eq!(up.get("accept-encoding").unwrap(), "identity");
    }

    #[test]
    fn anthropics_own_headers_go_up_to_its_api_alone() {
        let caller = map(&[
            ("anthropic-beta", "a"),
            ("anthropic-beta", "b"),
            ("anthropic-dangerous-direct-browser-access", "true"),
            ("x-api-key", "tg_x"),
            ("x-claude-code-session-id", "s"),
        ]);
        let up = upstream_headers(&caller, &[], UpstreamApi::OpenAi);
        assert_eq!(names(&up), ["accept-encoding", "anthropic-beta"]);
        let up = upstream_headers(&caller, &[], UpstreamApi::Anthropic);
        assert_eq!(
            names(&up),
            [
                "accept-encoding",
                "anthropic-beta",
                "anthropic-dangerous-direct-browser-access",
                "anthropic-version",
                "x-claude-code-session-id",
            ]
        );
        assert_eq!(up.get_all("anthropic-beta").count(), 2);
        assert_eq!(up.get("anthropic-version").unwrap(), "2023-06-01");
        let caller = map(&[("anthropic-version", "2099-01-01")]);
        let up = upstream_headers(&caller, &[], UpstreamApi::Anthropic);
        assert_eq!(up.get("anthropic-version").unwrap(), "2099-01-01");
    }

    #[test]
    fn what_does_not_come_down() {
        let upstream = map(&[
            ("access-control-allow-origin", "*"),
            ("alt-svc", "h3"),
            ("connection", "close, X-Hop"),
            ("content-encoding", "gzip"),
            ("content-length", "3"),
            ("content-type", "text/event-stream"),
            ("keep-alive", "timeout=5"),
            ("retry-after", "3"),
            ("set-cookie", "a=b"),
            ("strict-transport-security", "max-age=1"),
            ("transfer-encoding", "chunked"),
            ("x-echo", "Bearer sk-secret!"),
            ("x-hop", "1"),
            ("x-ratelimit-remaining", "7"),
            ("x-request-id", "req_1"),
            ("x-tollgate-error", "gateway"),
            ("x-upstream-request-id", "forged"),
        ]);
        let mut down = HeaderMap::new();
        copy_downstream(&upstream, &[b"", b"sk-secret"], &mut down);
        assert_eq!(
            names(&down),
            [
                "content-encoding",
                "content-type",
                "retry-after",
                "x-ratelimit-remaining",
                "x-upstream-request-id"
            ]
        );
        assert_eq!(down.get("x-upstream-request-id").unwrap(), "req_1");
        assert_eq!(content_length(&upstream), Some(3));
    }

    #[test]
    fn websockets_are_told_from_other_upgrades() {
        assert!(asks_for_websocket(&map(&[("upgrade", "h2c, WebSocket")])));
        assert!(!asks_for_websocket(&map(&[("upgrade", "h2c")])));
    }
}
