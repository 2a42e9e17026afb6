//! Which calls the data plane serves: an allow-list of method and path. Below `/providers/{name}`, or
//! `/models/{name}`, the path has to be exact; below a built-in provider's name it may lack the version
//! or end in a slash, as its SDKs send it.
//!
//! Works on the raw path, as the caller sent it: a configuration's name may hold an encoded `/`, and
//! decoding before matching would tear it apart.

mod cloud;

use actix_web::http::Method;
use actix_web::http::header::HeaderMap;
use percent_encoding::percent_decode_str;

use super::unmetered::unmetered_operation;
use crate::credentials::cloud::Place;
use crate::domain::headers::ANTHROPIC_VERSION;
use crate::domain::names::ConfigurationName;
use crate::domain::provider::{Provider, UpstreamApi};
use crate::llm::format::{Format, Operation};
use crate::providers::built_in::provider_of_segment;
use crate::providers::cloud::credential_sets;
use cloud::CloudPath;

/// The beginnings of the data plane's paths, besides the names of built-in providers and
/// [`model_list::PATH`](super::model_list::PATH).
pub const SCOPES: [&str; 6] =
    ["providers", "models", "routes", "v1/chat", "v1/messages", "v1/responses"];

const ROUTES: &str = "/routes/";

/// What a method and a path amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteMatch {
    /// Under none of [`SCOPES`] nor a provider's name: no business of the data plane.
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
    /// On the list, with a project or a location that can't be one: 400.
    BadRegion,
    /// On the list.
    Matched(ProxyRoute),
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamName {
    /// The configuration's name, percent-decoded.
    Configuration(String),
    Provider(Provider),
    /// The route's name, percent-decoded: a policy with chains.
    Route(String),
    /// The model that the body names determines it.
    OfModel,
}

/// One call that is on the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyRoute {
    pub upstream: UpstreamName,
    pub operation: Operation,
    /// What the path says of the account at a cloud provider, and of the version of Google's APIs.
    pub place: Option<Place>,
}

/// Matches a method and an undecoded path, without its query. Where several things are wrong, the
/// order is 501, 404, 400.
pub fn match_route(method: &Method, raw_path: &str) -> RouteMatch {
    let (rest, is_route) = match (configuration_path(raw_path), raw_path.strip_prefix(ROUTES)) {
        (Some(rest), _) => (rest, false),
        (None, Some(rest)) => (rest, true),
        (None, None) => {
            return match (provider_path(raw_path), raw_path.strip_prefix("/v1")) {
                (Some((provider, path)), _) => match_provider_path(method, provider, path),
                (None, Some(path)) => match_model_path(method, path),
                (None, None) => RouteMatch::NotProxy,
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

/// The calls under `/v1`, for models of any provider.
fn match_model_path(method: &Method, path: &str) -> RouteMatch {
    let path = path.strip_suffix('/').unwrap_or(path);
    match operation(method, path) {
        Some(
            operation @ (Operation::Generate(Format::Chat | Format::Responses | Format::Messages)
            | Operation::CountTokens),
        ) => matched(UpstreamName::OfModel, operation),
        _ => RouteMatch::NotServed,
    }
}

fn match_provider_path(method: &Method, provider: Provider, path: &str) -> RouteMatch {
    let path = path.strip_suffix('/').unwrap_or(path);
    if !credential_sets(provider).is_empty() {
        return match cloud::match_path(method, provider, path) {
            CloudPath::None => RouteMatch::NotServed,
            CloudPath::BadRegion => RouteMatch::BadRegion,
            CloudPath::DoubledVersion => RouteMatch::DoubledVersion(provider),
            CloudPath::Call(operation, place) => {
                match matched(UpstreamName::Provider(provider), operation) {
                    RouteMatch::Matched(route) => {
                        RouteMatch::Matched(ProxyRoute { place, ..route })
                    }
                    other => other,
                }
            }
        };
    }
    let (version, path) = split_version(path, ["v1beta", "v1"]);
    let is_stable = provider.api() == UpstreamApi::Gemini && version == Some("v1");
    let place = is_stable.then(|| Place { version, ..Place::default() });
    let at_place = |operation| match matched(UpstreamName::Provider(provider), operation) {
        RouteMatch::Matched(route) => RouteMatch::Matched(ProxyRoute { place, ..route }),
        other => other,
    };
    let find = |path| match (provider.api(), method) {
        (UpstreamApi::Gemini, &Method::POST) => Operation::of_gemini_post(path),
        _ => operation(method, path),
    };
    match find(path) {
        Some(operation) => at_place(operation),
        None if find(without_version(path)).is_some() => RouteMatch::DoubledVersion(provider),
        None => match unmetered_operation(method, path) {
            Some(operation) => at_place(operation),
            None => RouteMatch::NotServed,
        },
    }
}

fn matched(upstream: UpstreamName, operation: Operation) -> RouteMatch {
    if operation.model_in_path().is_some_and(climbs) {
        return RouteMatch::BadModelId;
    }
    RouteMatch::Matched(ProxyRoute { upstream, operation, place: None })
}

/// What follows `/providers/` or `/models/`, which mean the same.
fn configuration_path(raw_path: &str) -> Option<&str> {
    ["/providers/", "/models/"].iter().find_map(|scope| raw_path.strip_prefix(scope))
}

/// The provider that a path begins with, and the rest of the path.
fn provider_path(raw_path: &str) -> Option<(Provider, &str)> {
    let path = raw_path.strip_prefix('/')?;
    let (segment, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
    Some((provider_of_segment(segment)?, rest))
}

/// The path after its version, if it begins with one.
fn without_version(path: &str) -> &str {
    split_version(path, ["v1beta", "v1"]).1
}

/// The one of these versions that the path begins with, and the rest.
fn split_version<'p>(
    path: &'p str,
    versions: [&'static str; 2],
) -> (Option<&'static str>, &'p str) {
    let mut rests = versions.into_iter().filter_map(|version| {
        let rest = path.strip_prefix('/')?.strip_prefix(version)?;
        rest.starts_with('/').then_some((Some(version), rest))
    });
    rests.next().unwrap_or((None, path))
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
    let rest = configuration_path(raw_path).or_else(|| raw_path.strip_prefix(ROUTES));
    let tail = rest.and_then(|rest| rest.split_once('/'));
    let path = match (tail, provider_path(raw_path)) {
        (Some((_, tail)), _) if tail.starts_with("v1beta/") => return Format::Gemini,
        (Some((_, tail)), _) if tail.starts_with("model/") => return Format::Converse,
        (Some((_, tail)), _) => {
            let path = tail.strip_prefix("v1").unwrap_or_default();
            if Operation::of_gemini_post(path).is_some() {
                return Format::Gemini;
            }
            path
        }
        (None, Some((provider, _))) if provider.api() == UpstreamApi::Anthropic => {
            return Format::Messages;
        }
        (None, Some((provider, _))) if provider.api() == UpstreamApi::Gemini => {
            return Format::Gemini;
        }
        (None, Some((provider, path))) if !credential_sets(provider).is_empty() => {
            return cloud::error_format(provider, path);
        }
        (None, Some((_, path))) => without_version(path),
        (None, None) => without_version(raw_path),
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
        return Operation::of_bedrock_post(&format!("/{tail}"));
    }
    let path = tail.strip_prefix("v1")?;
    // Google's SDKs call the stable version of its API.
    let of_gemini = || Operation::of_gemini_post(path).filter(|_| *method == Method::POST);
    operation(method, path).or_else(of_gemini)
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
pub(super) fn climbs(id: &str) -> bool {
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
mod tests;
