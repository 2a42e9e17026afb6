//! Which calls the data plane serves: an allow-list of method and exact path.
//!
//! Works on the raw path, as the caller sent it: a configuration's name may hold an encoded `/`, and
//! decoding before matching would tear it apart.

use actix_web::http::Method;
use actix_web::http::header::HeaderMap;
use percent_encoding::percent_decode_str;

use crate::domain::headers::ANTHROPIC_VERSION;
use crate::domain::names::ConfigurationName;
use crate::llm::format::{Format, Operation};

const SCOPE: &str = "/providers/";

/// What a method and a path amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteMatch {
    /// Not under `/providers/`: no business of the data plane.
    NotProxy,
    /// Under a configuration, but off the allow-list: 501.
    NotServed,
    /// On the list, with a configuration name that can't exist: 404.
    BadName,
    /// On the list, with a model id that would climb out of its path at the upstream: 400.
    BadModelId,
    /// On the list.
    Matched(ProxyRoute),
}

/// One call that is on the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyRoute {
    /// The configuration's name, percent-decoded.
    pub config_name: String,
    /// The requested operation.
    pub operation: Operation,
}

/// Matches a method and an undecoded path, without its query. Where several things are wrong, the
/// order is 501, 404, 400.
pub fn match_route(method: &Method, raw_path: &str) -> RouteMatch {
    let Some(rest) = raw_path.strip_prefix(SCOPE) else {
        return RouteMatch::NotProxy;
    };
    let (name, tail) = rest.split_once('/').unwrap_or((rest, ""));
    let Some(operation) = operation(method, tail) else {
        return RouteMatch::NotServed;
    };
    let Some(config_name) = decode_name(name) else {
        return RouteMatch::BadName;
    };
    if let Operation::GetModel { id } = &operation
        && climbs(id)
    {
        return RouteMatch::BadModelId;
    }
    RouteMatch::Matched(ProxyRoute { config_name, operation })
}

/// The format in which callers of this path expect the gateway's errors. Listings have the same path in
/// all formats; Anthropic's clients say the version of its API.
pub fn error_format(headers: &HeaderMap, raw_path: &str) -> Format {
    let tail = raw_path.strip_prefix(SCOPE).and_then(|rest| rest.split_once('/'));
    let path = tail.and_then(|(_, tail)| tail.strip_prefix("v1")).unwrap_or_default();
    let is_below = |root| {
        path.strip_prefix(root).is_some_and(|rest: &str| rest.is_empty() || rest.starts_with('/'))
    };
    if is_below("/messages") || (is_below("/models") && headers.contains_key(ANTHROPIC_VERSION)) {
        Format::Messages
    } else {
        Format::Chat
    }
}

fn operation(method: &Method, tail: &str) -> Option<Operation> {
    let path = tail.strip_prefix("v1")?;
    match *method {
        Method::POST => Operation::of_post(path),
        Method::GET if path == "/models" => Some(Operation::ListModels),
        Method::GET => {
            let id = path.strip_prefix("/models/")?;
            let one_segment = !id.is_empty() && !id.contains('/');
            one_segment.then(|| Operation::GetModel { id: id.to_owned() })
        }
        _ => None,
    }
}

fn decode_name(raw: &str) -> Option<String> {
    let name = percent_decode_str(raw).decode_utf8().ok()?;
    // No configuration can have such a name, and some databases can't even compare it.
    ConfigurationName::parse(name).ok().map(String::from)
}

/// Whether an id is, or holds behind an encoded slash, a form of `.` or `..`. Upstreams differ in how
/// often they decode and where they split, so encodings of encodings are undone as well.
fn climbs(id: &str) -> bool {
    let mut form = id.as_bytes().to_vec();
    for _ in 0..4 {
        let dots = form
            .split(|b| matches!(b, b'/' | b'\\'))
            .filter_map(|segment| segment.split(|b| *b == b';').next())
            .any(|segment| matches!(segment, b"." | b".."));
        if dots {
            return true;
        }
        let decoded: Vec<u8> = percent_encoding::percent_decode(&form).collect();
        if decoded == form {
            return false;
        }
        form = decoded;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    fn matched(method: Method, path: &str) -> ProxyRoute {
        match match_route(&method, path) {
            RouteMatch::Matched(route) => route,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn the_list() {
        let route = matched(Method::POST, "/providers/gpt/v1/chat/completions");
        assert_eq!(route.config_name, "gpt");
        assert_eq!(route.operation, Operation::Generate(Format::Chat));
        assert_eq!(route.operation.path_after_v1(), "/chat/completions");
        let route = matched(Method::POST, "/providers/gpt/v1/responses");
        assert_eq!(route.operation, Operation::Generate(Format::Responses));
        let route = matched(Method::POST, "/providers/gpt/v1/responses/compact");
        assert_eq!(route.operation, Operation::CompactResponse);
        assert_eq!(route.operation.path_after_v1(), "/responses/compact");
        let route = matched(Method::POST, "/providers/gpt/v1/embeddings");
        assert_eq!(route.operation, Operation::Generate(Format::Embeddings));
        let route = matched(Method::POST, "/providers/claude/v1/messages");
        assert_eq!(route.operation, Operation::Generate(Format::Messages));
        let route = matched(Method::POST, "/providers/claude/v1/messages/count_tokens");
        assert_eq!(route.operation, Operation::CountTokens);
        assert_eq!(route.operation.path_after_v1(), "/messages/count_tokens");
        let route = matched(Method::GET, "/providers/gpt/v1/models");
        assert_eq!(route.operation, Operation::ListModels);
        let route = matched(Method::GET, "/providers/gpt/v1/models/org%2Fllama%203");
        assert_eq!(route.operation.path_after_v1(), "/models/org%2Fllama%203");
    }

    #[test]
    fn errors_have_the_form_that_the_path_tells() {
        let plain = HeaderMap::new();
        let mut versioned = HeaderMap::new();
        versioned.insert(
            HeaderName::from_static(ANTHROPIC_VERSION),
            HeaderValue::from_static("2023-06-01"),
        );
        for (path, without, with) in [
            ("/providers/a/v1/messages", Format::Messages, Format::Messages),
            ("/providers/a%2Fb/v1/messages/count_tokens", Format::Messages, Format::Messages),
            ("/providers/a/v1/messages/batches", Format::Messages, Format::Messages),
            ("/providers/a/v1/models", Format::Chat, Format::Messages),
            ("/providers/a/v1/chat/completions", Format::Chat, Format::Chat),
            ("/providers/a/v1/messages_", Format::Chat, Format::Chat),
            ("/providers/messages", Format::Chat, Format::Chat),
        ] {
            assert_eq!(error_format(&plain, path), without, "{path}");
            assert_eq!(error_format(&versioned, path), with, "{path}");
        }
    }

    #[test]
    fn names_are_decoded_once() {
        for (raw, name) in [
            ("a%2Fb", "a/b"),
            ("50%25", "50%"),
            ("%2525", "%25"),
            ("a+b", "a+b"),
            ("what%3F", "what?"),
            ("%E5%90%8D", "名"),
            ("a%20b", "a b"),
            ("...", "..."),
        ] {
            let route = matched(Method::GET, &format!("/providers/{raw}/v1/models"));
            assert_eq!(route.config_name, name);
        }
        let long = "a".repeat(129);
        for raw in ["", "%FF", ".", "%2e%2E", "%00", "a%0A", "%C2%85", &long] {
            let path = format!("/providers/{raw}/v1/models");
            assert_eq!(match_route(&Method::GET, &path), RouteMatch::BadName, "{raw}");
        }
    }

    #[test]
    fn everything_else_is_not_served() {
        let served = "/providers/gpt/v1/chat/completions";
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE] {
            assert_eq!(match_route(&method, served), RouteMatch::NotServed, "{method}");
        }
        for path in [
            "/providers/",
            "/providers/gpt",
            "/providers/gpt/",
            "/providers/gpt/v1/chat/completions/",
            "/providers/gpt/chat/completions",
            "/providers/gpt//v1/chat/completions",
            "/providers/gpt/v1//chat/completions",
            "/providers/gpt/v1/chat%2Fcompletions",
            "/providers/gpt/V1/chat/completions",
            "/providers/gpt/v1/embeddings",
            "/providers//gpt/v1/chat/completions",
        ] {
            assert_eq!(match_route(&Method::POST, path), RouteMatch::NotServed, "{path}");
        }
        for path in ["/providers/gpt/v1/models/", "/providers/gpt/v1/models/a/b"] {
            assert_eq!(match_route(&Method::GET, path), RouteMatch::NotServed, "{path}");
        }
        assert_eq!(match_route(&Method::HEAD, "/providers/gpt/v1/models"), RouteMatch::NotServed);
    }

    #[test]
    fn other_scopes_are_left_alone() {
        for path in ["/", "/api/v1/me", "/providers", "//providers/a/v1/models", "/Providers/a", ""]
        {
            assert_eq!(match_route(&Method::GET, path), RouteMatch::NotProxy, "{path}");
        }
    }

    #[test]
    fn model_ids_do_not_climb() {
        for id in [
            ".",
            "..",
            "%2e",
            "%2E%2e",
            ".%2e",
            "%252e%252e",
            "..%2Fadmin",
            "a%2f..",
            "..%5cx",
            "..;x",
        ] {
            let path = format!("/providers/gpt/v1/models/{id}");
            assert_eq!(match_route(&Method::GET, &path), RouteMatch::BadModelId, "{id}");
        }
        for id in ["gpt-4.1", "...", "..a", "a..", "llama%3A3", "100%", "org%2Fmodel"] {
            let path = format!("/providers/gpt/v1/models/{id}");
            let route = matched(Method::GET, &path);
            assert_eq!(route.operation, Operation::GetModel { id: id.to_owned() });
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn never_panics(path in ".{0,60}", tail in "[a-z0-9/%.]{0,30}") {
            for method in [Method::GET, Method::POST] {
                let _ = match_route(&method, &path);
                let _ = match_route(&method, &format!("/providers/{path}/v1/models/{tail}"));
            }
        }

        #[test]
        fn any_name_survives_its_encoding(name in "\\PC{1,128}") {
            prop_assume!(name != "." && name != "..");
            let encoded = utf8_percent_encode(&name, NON_ALPHANUMERIC).to_string();
            let route = matched(Method::POST, &format!("/providers/{encoded}/v1/responses"));
            prop_assert_eq!(route.config_name, name);
        }
    }
}
