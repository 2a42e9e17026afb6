//! Which headers of the caller a configuration may forward, and which headers it may set.
//!
//! The management plane checks this when a configuration is saved, and the data plane at every
//! request, so that a new rule also applies to configurations that were saved before it.

/// Headers that concern one connection and are not forwarded (RFC 9110, section 7.6.1, and older
/// practice).
pub const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Headers that carry the caller's credentials.
const CREDENTIALS: &[&str] =
    &["authorization", "x-api-key", "x-goog-api-key", "api-key", "cookie", "cookie2"];

/// Headers that describe the upstream request, which the gateway sets itself.
const SET_BY_GATEWAY: &[&str] =
    &["host", "content-length", "content-encoding", "accept-encoding", "expect"];

/// The version of Anthropic's API, in which its callers have to name one.
pub const ANTHROPIC_VERSION: &str = "anthropic-version";
/// The only version there is; Anthropic's SDKs send it.
pub const USUAL_ANTHROPIC_VERSION: &str = "2023-06-01";

/// The start of the names of Tollgate's own headers.
pub const OWN_PREFIX: &str = "x-tollgate-";

/// Whether a header concerns one connection only. Ignores letter case.
pub fn is_hop_by_hop(name: &str) -> bool {
    one_of(name, HOP_BY_HOP)
}

/// Headers that choose an account or a project at the provider, or say who the caller is.
const ACCOUNT_OR_CALLER: &[&str] = &[
    "openai-organization",
    "openai-project",
    "x-goog-user-project",
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "true-client-ip",
    "cf-connecting-ip",
];
/// The same by the start of the name. Headers that AWS reads are signed, and `x-gateway-*` is metadata for
/// policies.
const ACCOUNT_OR_CALLER_PREFIXES: &[&str] = &["x-amz-", "x-gateway-", "x-forwarded-", OWN_PREFIX];

/// Whether a header of the caller may be sent on, or settings of a built-in provider may name it: not a
/// credential, not hop-by-hop, not set by the gateway, and not one that chooses an account or tells who
/// the caller is. Ignores letter case.
pub fn is_forwardable(name: &str) -> bool {
    is_name(name)
        && !is_hop_by_hop(name)
        && !one_of(name, CREDENTIALS)
        && !one_of(name, SET_BY_GATEWAY)
        && !one_of(name, ACCOUNT_OR_CALLER)
        && !ACCOUNT_OR_CALLER_PREFIXES.iter().any(|prefix| begins_with(name, prefix))
}

/// Whether a configuration's `extra_headers` may set this header. They may set credentials, since
/// some upstreams want more than one. Ignores letter case.
pub fn is_settable_extra(name: &str) -> bool {
    is_name(name)
        && !is_hop_by_hop(name)
        && !one_of(name, SET_BY_GATEWAY)
        && !name.eq_ignore_ascii_case("content-type")
        && !is_own(name)
}

/// Whether settings of a built-in provider may set this header. Ignores letter case.
pub fn is_settable_for_provider(name: &str) -> bool {
    is_forwardable(name) && is_settable_extra(name)
}

/// Whether a header is one of Tollgate's own. Ignores letter case.
pub fn is_own(name: &str) -> bool {
    begins_with(name, OWN_PREFIX)
}

fn begins_with(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Whether it is a token (RFC 9110, section 5.6.2).
fn is_name(name: &str) -> bool {
    let mark = |b: u8| b"!#$%&'*+-.^_`|~".contains(&b);
    (1..=256).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || mark(b))
}

fn one_of(name: &str, list: &[&str]) -> bool {
    list.iter().any(|listed| name.eq_ignore_ascii_case(listed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_goes_up_is_not_forwarded() {
        for good in ["X-Team", "x-request-id", "openai-beta", "x-amzn-trace-id"] {
            assert!(is_forwardable(good), "{good}");
        }
        for bad in [
            "",
            "a b",
            "a:b",
            "é",
            "Authorization",
            "X-API-Key",
            "x-goog-api-key",
            "Cookie",
            "Host",
            "content-length",
            "Transfer-Encoding",
            "connection",
            "X-Tollgate-Anything",
            "TE",
            "OpenAI-Organization",
            "openai-project",
            "X-Goog-User-Project",
            "X-Amz-Security-Token",
            "X-Gateway-Project",
            "Forwarded",
            "X-Forwarded-For",
            "X-Real-IP",
            "Via",
        ] {
            assert!(!is_forwardable(bad), "{bad}");
        }
    }

    #[test]
    fn an_extra_header_may_be_a_credential_but_not_one_of_the_gateways() {
        for good in ["authorization", "api-key", "x-team", "openai-organization"] {
            assert!(is_settable_extra(good), "{good}");
        }
        for bad in ["Content-Type", "host", "accept-encoding", "upgrade", "x-tollgate-a", "a\nb"] {
            assert!(!is_settable_extra(bad), "{bad}");
        }
    }
}
