//! What is on the list, and what is not.

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
    assert_eq!(route, matched(Method::GET, "/models/gpt/v1/models"));
    let route = matched(Method::GET, "/providers/gpt/v1/models/org%2Fllama%203");
    assert_eq!(route.operation.path_after_v1(), "/models/org%2Fllama%203");
}

#[test]
fn errors_have_the_form_that_the_path_tells() {
    let plain = HeaderMap::new();
    let mut versioned = HeaderMap::new();
    versioned
        .insert(HeaderName::from_static(ANTHROPIC_VERSION), HeaderValue::from_static("2023-06-01"));
    for (path, without, with) in [
        ("/providers/a/v1/messages", Format::Messages, Format::Messages),
        ("/providers/a%2Fb/v1/messages/count_tokens", Format::Messages, Format::Messages),
        ("/providers/a/v1/messages/batches", Format::Messages, Format::Messages),
        ("/providers/a/v1/models", Format::Chat, Format::Messages),
        ("/providers/a/v1/chat/completions", Format::Chat, Format::Chat),
        ("/providers/a/v1/messages_", Format::Chat, Format::Chat),
        ("/v1/models/a/b", Format::Chat, Format::Messages),
        ("/providers/messages", Format::Chat, Format::Chat),
        ("/openai/v1/messages", Format::Messages, Format::Messages),
        ("/openai/v1/chat/completions", Format::Chat, Format::Chat),
        ("/openai/models", Format::Chat, Format::Messages),
        ("/routes/a/v1/messages", Format::Messages, Format::Messages),
        ("/models/a/v1/messages", Format::Messages, Format::Messages),
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
    assert_eq!(matched(Method::GET, "/providers/g/v1beta/models").operation, Operation::ListModels);
    let stable = "/providers/g/v1/models/any:generateContent";
    assert_eq!(matched(Method::POST, stable).operation.label(), "generate_content");
    assert_eq!(match_route(&Method::GET, "/providers/g/v1/models/a:b/c"), RouteMatch::NotServed);
    assert_eq!(error_format(&HeaderMap::new(), stable), Format::Gemini);
    let route = matched(Method::POST, "/providers/b/model/us.anthropic.x-v1%3A0/converse-stream");
    assert_eq!(route.operation.model_in_path(), Some("us.anthropic.x-v1%3A0"));
    for path in [
        "/providers/g/v1beta/chat/completions",
        "/providers/g/models/any:generateContent",
        "/providers/b/model/m/count-tokens",
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
    for path in ["/OpenAI/v1/chat/completions", "/openai_compatible/v1/models", "/open%61i/v1"] {
        assert_eq!(match_route(&Method::POST, path), RouteMatch::NotProxy, "{path}");
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
    for path in ["/", "/api/v1/me", "/providers", "//providers/a/v1/models", "/Providers/a", ""] {
        assert_eq!(match_route(&Method::GET, path), RouteMatch::NotProxy, "{path}");
    }
}

#[test]
fn model_ids_do_not_climb() {
    for id in
        [".", "..", "%2e", "%2E%2e", ".%2e", "%252e%252e", "..%2Fadmin", "a%2f..", "..%5cx", "..;x"]
    {
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
