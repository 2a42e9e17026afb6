//! Which headers a configuration may pass on from the caller, and which it may set itself.
//!
//! Both planes ask: the management plane when a configuration is saved, the data plane at every
//! request, so that a rule that is added later also holds for what was saved before.

/// Headers of one connection (RFC 9110, section 7.6.1, and its older custom): a relay takes them as
/// its own and passes none on.
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

/// Where callers put keys, ours among them.
const CREDENTIALS: &[&str] =
    &["authorization", "x-api-key", "x-goog-api-key", "api-key", "cookie", "cookie2"];

/// What describes the request as we send it, which is not as the caller sent it.
const OURS: &[&str] = &["host", "content-length", "content-encoding", "accept-encoding", "expect"];

/// The start of every header that speaks of the gateway itself.
pub const OWN_PREFIX: &str = "x-tollgate-";

/// Whether a header is of one connection only. Any letter case.
pub fn is_hop_by_hop(name: &str) -> bool {
    one_of(name, HOP_BY_HOP)
}

/// Whether a configuration's `forward_headers` may name this header: a valid name that is no
/// credential, not of one connection, and not ours. Any letter case.
pub fn is_forwardable(name: &str) -> bool {
    is_name(name)
        && !is_hop_by_hop(name)
        && !one_of(name, CREDENTIALS)
        && !one_of(name, OURS)
        && !is_own(name)
}

/// Whether a configuration's `extra_headers` may set this header. Unlike the caller's, its
/// credentials may go up: some upstreams want more than one. Any letter case.
pub fn is_settable_extra(name: &str) -> bool {
    is_name(name)
        && !is_hop_by_hop(name)
        && !one_of(name, OURS)
        && !name.eq_ignore_ascii_case("content-type")
        && !is_own(name)
}

/// Whether a header speaks of the gateway itself. Any letter case.
pub fn is_own(name: &str) -> bool {
    name.get(..OWN_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWN_PREFIX))
}

/// RFC 9110, section 5.6.2: a token.
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
    fn what_may_be_passed_on() {
        for good in ["X-Team", "openai-organization", "x-request-id", "X-Gateway-Project"] {
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
        ] {
            assert!(!is_forwardable(bad), "{bad}");
        }
    }

    #[test]
    fn what_may_be_set() {
        for good in ["authorization", "api-key", "x-team", "openai-organization"] {
            assert!(is_settable_extra(good), "{good}");
        }
        for bad in ["Content-Type", "host", "accept-encoding", "upgrade", "x-tollgate-a", "a\nb"] {
            assert!(!is_settable_extra(bad), "{bad}");
        }
    }
}
