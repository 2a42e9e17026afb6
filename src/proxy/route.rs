//! Which calls the data plane serves: an allow-list of method and path. Below `/providers/{name}` the
//! path has to be exact; below a built-in provider's name it may lack the version or end in a slash, as
//! its SDKs send it.
//!
//! Works on the raw path, as the caller sent it: a configuration's name may hold an encoded `/`, and
//! decoding before matching would tear it apart.

use actix_web::http::Method;
use actix_web::http::header::HeaderMap;
use percent_encoding::percent_decode_str;

use super::unmetered::unmetered_operation;
use crate::domain::headers::ANTHROPIC_VERSION;
use crate::domain::names::ConfigurationName;
use crate::domain::provider::{Provider, UpstreamApi};
use crate::llm::format::{Format, Operation};
use crate::providers::built_in::provider_of_segment;

const SCOPE: &str = "/providers/";
const ROUTES: &str = "/routes/";

/// What a method and a path amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteMatch {
    /// Neither under `/providers/` or `/routes/` nor under a provider's name: no business of the data plane.
    NotProxy,
    /// Under a configuration or a provider, but off the allow-list: 501.
    NotServed,
    /// Under a provider, on the list but for a second version in the path: 400.
    DoubledVersion(Provider),
    /// On the list, with a configuration name that can't exist: 404.
    BadName,
    /// The same with the name of a route: 404.
    BadRoute,
    /// On the list, with a model id that would climb out of its path at the upstream: 400.
    BadModelId,
    /// On the list.
    Matched(ProxyRoute),
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamName {
    /// The configuration's name, percent-decoded.
    Configuration(String),
    /// A built-in provider.
    Provider(Provider),
    /// The route's name, percent-decoded: a policy with chains.
    Route(String),
}

/// One call that is on the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyRoute {
    pub upstream: UpstreamName,
    /// The requested operation.
    pub operation: Operation,
}

/// Matches a method and an undecoded path, without its query. Where several things are wrong, the
/// order is 501, 404, 400.
pub fn match_route(method: &Method, raw_path: &str) -> RouteMatch {
    let (rest, is_route) = match (raw_path.strip_prefix(SCOPE), raw_path.strip_prefix(ROUTES)) {
        (Some(rest), _) => (rest, false),
        (None, Some(rest)) => (rest, true),
        (None, None) => {
            return match provider_path(raw_path) {
                Some((provider, path)) => match_provider_path(method, provider, path),
                None => RouteMatch::NotProxy,
            };
        }
    };
    let (name, tail) = rest.split_once('/').unwrap_or((rest, ""));
    let Some(operation) = exact_operation(method, tail) else {
        return RouteMatch::NotServed;
    };
    if is_route && operation.format().is_none() {
        return RouteMatch::NotServed;
    }
    let Some(name) = decode_name(name) else {
        return if is_route { RouteMatch::BadRoute } else { RouteMatch::BadName };
    };
    let upstream = match is_route {
        true => UpstreamName::Route(name),
        false => UpstreamName::Configuration(name),
    };
    matched(upstream, operation)
}

fn match_provider_path(method: &Method, provider: Provider, path: &str) -> RouteMatch {
    let path = without_version(path.strip_suffix('/').unwrap_or(path));
    let find = |path| match (provider.api(), method) {
        (UpstreamApi::Gemini, &Method::POST) => Operation::of_gemini_post(path),
        _ => operation(method, path),
    };
    match find(path) {
        Some(operation) => matched(UpstreamName::Provider(provider), operation),
        None if find(without_version(path)).is_some() => RouteMatch::DoubledVersion(provider),
        None => match unmetered_operation(method, path) {
            Some(operation) => matched(UpstreamName::Provider(provider), operation),
            None => RouteMatch::NotServed,
        },
    }
}

fn matched(upstream: UpstreamName, operation: Operation) -> RouteMatch {
    if operation.model_in_path().is_some_and(climbs) {
        return RouteMatch::BadModelId;
    }
    RouteMatch::Matched(ProxyRoute { upstream, operation })
}

/// The provider that a path begins with, and the rest of the path.
fn provider_path(raw_path: &str) -> Option<(Provider, &str)> {
    let path = raw_path.strip_prefix('/')?;
    let (segment, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
    Some((provider_of_segment(segment)?, rest))
}

/// The path after its version, if it begins with one.
fn without_version(path: &str) -> &str {
    let versions = ["/v1beta", "/v1"];
    let mut rests = versions.iter().filter_map(|version| path.strip_prefix(version));
    rests.find(|rest| rest.starts_with('/')).unwrap_or(path)
}

/// Whether this is the call with which Anthropic's clients find out whether anybody is there.
pub fn is_reachability_check(method: &Method, raw_path: &str) -> bool {
    const BELOW: [&str; 3] = ["", "/", "/api/hello"];
    let path = provider_path(raw_path);
    *method == Method::HEAD
        && path.is_some_and(|(provider, path)| {
            provider.api() == UpstreamApi::Anthropic && BELOW.contains(&path)
        })
}

/// The format in which callers of this path expect the gateway's errors. Listings have the same path in
/// all formats; Anthropic's clients say the version of its API.
pub fn error_format(headers: &HeaderMap, raw_path: &str) -> Format {
    let rest = raw_path.strip_prefix(SCOPE).or_else(|| raw_path.strip_prefix(ROUTES));
    let tail = rest.and_then(|rest| rest.split_once('/'));
    let path = match (tail, provider_path(raw_path)) {
        (Some((_, tail)), _) if tail.starts_with("v1beta/") => return Format::Gemini,
        (Some((_, tail)), _) if tail.starts_with("model/") => return Format::Converse,
        (Some((_, tail)), _) => tail.strip_prefix("v1").unwrap_or_default(),
        (None, Some((provider, _))) if provider.api() == UpstreamApi::Anthropic => {
            return Format::Messages;
        }
        (None, Some((provider, _))) if provider.api() == UpstreamApi::Gemini => {
            return Format::Gemini;
        }
        (None, Some((_, path))) => without_version(path),
        (None, None) => "",
    };
    let is_below = |root| {
        path.strip_prefix(root).is_some_and(|rest: &str| rest.is_empty() || rest.starts_with('/'))
    };
    if is_below("/messages") || (is_below("/models") && headers.contains_key(ANTHROPIC_VERSION)) {
        Format::Messages
    } else {
        Format::Chat
    }
}

/// The operation at a path below a configuration, without its first slash.
fn exact_operation(method: &Method, tail: &str) -> Option<Operation> {
    if let Some(path) = tail.strip_prefix("v1beta").filter(|path| path.starts_with('/')) {
        return match *method {
            Method::POST => Operation::of_gemini_post(path),
            _ => operation(method, path).filter(|operation| operation.format().is_none()),
        };
    }
    if tail.starts_with("model/") && *method == Method::POST {
        return Operation::of_converse_post(&format!("/{tail}"));
    }
    tail.strip_prefix("v1").and_then(|path| operation(method, path))
}

/// The operation at a path after its version.
fn operation(method: &Method, path: &str) -> Option<Operation> {
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

/// The id of a path as the provider knows it.
pub fn decode_model_id(id: &str) -> Option<String> {
    percent_decode_str(id).decode_utf8().ok().map(Into::into)
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
        assert_eq!(route.upstream, UpstreamName::Configuration("gpt".to_owned()));
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
            ("/openai/v1/messages", Format::Messages, Format::Messages),
            ("/openai/v1/chat/completions", Format::Chat, Format::Chat),
            ("/openai/models", Format::Chat, Format::Messages),
            ("/routes/a/v1/messages", Format::Messages, Format::Messages),
            ("/anthropic/v1/files", Format::Messages, Format::Messages),
        ] {
            assert_eq!(error_format(&plain, path), without, "{path}");
            assert_eq!(error_format(&versioned, path), with, "{path}");
        }
    }

    #[test]
    fn configurations_have_the_paths_of_all_formats() {
        let route = matched(Method::POST, "/providers/g/v1beta/models/any:streamGenerateContent");
        assert_eq!(route.operation.label(), "stream_generate_content");
        assert_eq!(
            matched(Method::GET, "/providers/g/v1beta/models").operation,
            Operation::ListModels
        );
        let route =
            matched(Method::POST, "/providers/b/model/us.anthropic.x-v1%3A0/converse-stream");
        assert_eq!(route.operation.model_in_path(), Some("us.anthropic.x-v1%3A0"));
        for path in [
            "/providers/g/v1beta/chat/completions",
            "/providers/g/models/any:generateContent",
            "/providers/b/model/m/invoke",
            "/providers/b/v1/model/m/converse",
        ] {
            assert_eq!(match_route(&Method::POST, path), RouteMatch::NotServed, "{path}");
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
            assert_eq!(route.upstream, UpstreamName::Configuration(name.to_owned()));
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
            "/providers/gpt/v1/images/generations",
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
    fn providers_are_called_by_their_names() {
        let chat = Operation::Generate(Format::Chat);
        for (path, provider, operation) in [
            ("/openai/v1/chat/completions", Provider::Openai, &chat),
            ("/openai/chat/completions", Provider::Openai, &chat),
            ("/fireworks/v1/chat/completions/", Provider::Fireworks, &chat),
            ("/groq/v1/responses", Provider::Groq, &Operation::Generate(Format::Responses)),
            ("/anthropic/v1/messages", Provider::Anthropic, &Operation::Generate(Format::Messages)),
            ("/anthropic/messages/count_tokens/", Provider::Anthropic, &Operation::CountTokens),
        ] {
            let route = matched(Method::POST, path);
            assert_eq!(route.upstream, UpstreamName::Provider(provider), "{path}");
            assert_eq!(&route.operation, operation, "{path}");
        }
        assert_eq!(matched(Method::GET, "/xai/v1/models/").operation, Operation::ListModels);
        for path in [
            "/gemini/v1beta/models/gemini-2.5-pro:generateContent",
            "/gemini/v1/models/gemini-2.5-pro:generateContent",
            "/gemini/models/gemini-2.5-pro%3AgenerateContent/",
        ] {
            let route = matched(Method::POST, path);
            assert_eq!(route.operation.model_in_path(), Some("gemini-2.5-pro"), "{path}");
            assert_eq!(route.operation.label(), "generate_content", "{path}");
        }
        for path in [
            "/gemini/v1beta/chat/completions",
            "/gemini/v1beta/models/m:predict",
            "/openai/v1",
            "/openai/v1/files",
            "/openai/v1/v1/v1/chat/completions",
            "/openai/v2/chat/completions",
            "/openai/V1/chat/completions",
        ] {
            assert_eq!(matched(Method::POST, path).operation.label(), "unmetered", "{path}");
        }
        let climbing = "/gemini/v1beta/models/..%2Ffiles:generateContent";
        assert_eq!(match_route(&Method::POST, climbing), RouteMatch::BadModelId);
        for path in ["/openai/v1/v1/chat/completions", "/openai/v1/v1/responses/"] {
            let doubled = RouteMatch::DoubledVersion(Provider::Openai);
            assert_eq!(match_route(&Method::POST, path), doubled, "{path}");
        }
        for path in [
            "/openai",
            "/openai/",
            "/openai//v1/chat/completions",
            "/openai/v1//chat/completions",
            "/openai/v1/chat/completions//",
            "/openai/./v1/chat/completions",
            "/openai/v1/chat%2fcompletions",
        ] {
            assert_eq!(match_route(&Method::POST, path), RouteMatch::NotServed, "{path}");
        }
        for path in ["/openai/v1/models/..%2ffiles", "/openai/models/%2e%2e/"] {
            assert_eq!(match_route(&Method::GET, path), RouteMatch::BadModelId, "{path}");
        }
        for path in ["/OpenAI/v1/chat/completions", "/openai_compatible/v1/models", "/open%61i/v1"]
        {
            assert_eq!(match_route(&Method::POST, path), RouteMatch::NotProxy, "{path}");
        }
        for provider in crate::providers::built_in::providers() {
            assert!(!["api", "providers", "routes", "v1", "docs"].contains(&provider.as_str()));
        }
    }

    #[test]
    fn routes_are_called_in_all_formats_of_models() {
        let name = UpstreamName::Route("a/b".to_owned());
        for path in ["chat/completions", "responses", "messages", "messages/count_tokens"] {
            let route = matched(Method::POST, &format!("/routes/a%2Fb/v1/{path}"));
            assert_eq!(route.upstream, name, "{path}");
        }
        for path in ["/routes/a/chat/completions", "/routes/"] {
            assert_eq!(match_route(&Method::POST, path), RouteMatch::NotServed, "{path}");
        }
        assert_eq!(match_route(&Method::GET, "/routes/a/v1/models"), RouteMatch::NotServed);
    }

    #[test]
    fn anthropics_clients_may_ask_whether_anybody_is_there() {
        for path in ["/anthropic", "/anthropic/", "/anthropic/api/hello"] {
            assert!(is_reachability_check(&Method::HEAD, path), "{path}");
            assert!(!is_reachability_check(&Method::GET, path), "{path}");
        }
        for path in ["/openai", "/anthropic/v1/messages", "/providers/a/api/hello"] {
            assert!(!is_reachability_check(&Method::HEAD, path), "{path}");
        }
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
            prop_assert_eq!(route.upstream, UpstreamName::Configuration(name));
        }
    }
}
