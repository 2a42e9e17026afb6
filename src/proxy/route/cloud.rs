//! The paths of cloud providers: they are those of the providers' own APIs, with the account left out or
//! named once more.

use actix_web::http::Method;

use super::{decode_model_id, operation, split_version, without_version};
use crate::credentials::cloud::Place;
use crate::domain::connection::{is_host_label, is_project};
use crate::domain::provider::{Provider, UpstreamApi};
use crate::llm::format::{Format, Operation};
use crate::proxy::unmetered::unmetered_operation;

/// What a path below a cloud provider's name amounts to.
pub(super) enum CloudPath {
    /// Off the list.
    None,
    /// On the list.
    Call(Operation, Option<Place>),
    /// On the list, with a location that can't be one.
    BadRegion,
    /// On the list but for a second version.
    DoubledVersion,
}

/// Matches a path below the provider's name, without a slash at its end.
pub(super) fn match_path(method: &Method, provider: Provider, path: &str) -> CloudPath {
    let found = match provider.api() {
        UpstreamApi::Vertex => return match_vertex(method, path),
        UpstreamApi::Azure => azure_operation(method, path).or_else(|| {
            let is_of_an_api = path.starts_with("/openai/") || path.starts_with("/anthropic/");
            unmetered_operation(method, path).filter(|_| is_of_an_api)
        }),
        _ => {
            let metered = Operation::of_bedrock_post(path).filter(|_| *method == Method::POST);
            metered.or_else(|| unmetered_operation(method, path))
        }
    };
    found.map_or(CloudPath::None, |operation| CloudPath::Call(operation, None))
}

/// Google Cloud, "Vertex AI API": with the project and the location, as SDKs send it, or without.
fn match_vertex(method: &Method, path: &str) -> CloudPath {
    let (version, rest) = vertex_version(path);
    let is_doubled = version.is_some() && vertex_version(rest).0.is_some();
    let (_, rest) = if is_doubled { vertex_version(rest) } else { (None, rest) };
    let Some((project, region, rest)) = vertex_account(rest) else { return CloudPath::None };
    let found = match rest.strip_prefix("/publishers/") {
        _ if *method != Method::POST => None,
        Some(rest) => {
            let google = rest.strip_prefix("google").and_then(Operation::of_gemini_post);
            google.or_else(|| rest.strip_prefix("anthropic").and_then(Operation::of_raw_predict))
        }
        None => {
            let chat = Operation::Generate(Format::Chat);
            (rest == "/endpoints/openapi/chat/completions").then_some(chat)
        }
    };
    let metered = found.filter(|found| found.is_in(UpstreamApi::Vertex));
    let is_doubled = is_doubled && metered.is_some();
    let Some(operation) = metered.or_else(|| unmetered_operation(method, rest)) else {
        return CloudPath::None;
    };
    if is_doubled {
        return CloudPath::DoubledVersion;
    }
    let decoded = |part: Option<&str>| part.map(|part| decode_model_id(part).unwrap_or_default());
    let (project, region) = (decoded(project), decoded(region));
    let is_bad = |part: &Option<String>, is_good: fn(&str) -> bool| {
        part.as_ref().is_some_and(|part| !is_good(part))
    };
    if is_bad(&project, is_project) || is_bad(&region, is_host_label) {
        return CloudPath::BadRegion;
    }
    CloudPath::Call(operation, Some(Place { version, project, region }))
}

/// The version that the path begins with, and the rest.
fn vertex_version(path: &str) -> (Option<&'static str>, &str) {
    split_version(path, ["v1", "v1beta1"])
}

/// The project and the location that the path begins with, as they are encoded, and the rest.
fn vertex_account(path: &str) -> Option<(Option<&str>, Option<&str>, &str)> {
    let Some(rest) = path.strip_prefix("/projects/") else { return Some((None, None, path)) };
    let (project, rest) = rest.split_once("/locations/")?;
    let (region, _) = rest.split_once('/')?;
    Some((Some(project), Some(region), rest.get(region.len()..)?))
}

/// OpenAI's API below `/openai`, with its version or without, or with a deployment in its place; and
/// Anthropic's below `/anthropic`.
fn azure_operation(method: &Method, path: &str) -> Option<Operation> {
    if let Some(path) = path.strip_prefix("/anthropic") {
        let found = operation(method, without_version(path))?;
        return Some(found).filter(|found| found.family() == Some(UpstreamApi::Anthropic));
    }
    let path = path.strip_prefix("/openai")?;
    if *method == Method::POST && path.starts_with("/deployments/") {
        return Operation::of_deployment_post(path);
    }
    let found = operation(method, without_version(path))?;
    Some(found).filter(|found| found.family() != Some(UpstreamApi::Anthropic))
}

/// The format in which callers of this path below the provider's name expect the gateway's errors.
pub(super) fn error_format(provider: Provider, path: &str) -> Format {
    match provider.api() {
        UpstreamApi::Vertex if path.contains("/publishers/anthropic/") => Format::Messages,
        UpstreamApi::Vertex if path.contains("/endpoints/") => Format::Chat,
        UpstreamApi::Vertex => Format::Gemini,
        UpstreamApi::Azure if path.starts_with("/anthropic/") => Format::Messages,
        UpstreamApi::Azure => Format::Chat,
        _ => Format::Converse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(provider: Provider, path: &str) -> (Operation, Option<Place>) {
        match match_path(&Method::POST, provider, path) {
            CloudPath::Call(operation, place) => (operation, place),
            _ => panic!("{path}"),
        }
    }

    /// It is off the list, and at most an organization's setting lets it through.
    fn is_none(provider: Provider, method: &Method, path: &str) {
        let found = match_path(method, provider, path);
        let is_none =
            matches!(found, CloudPath::None | CloudPath::Call(Operation::Unmetered { .. }, _));
        assert!(is_none, "{path}");
    }

    #[test]
    fn what_is_not_metered_goes_up_as_it_is() {
        for (provider, path, sent) in [
            (Provider::Bedrock, "/model/m/count-tokens", "/model/m/count-tokens"),
            (Provider::Azure, "/openai/v1/files", "/openai/v1/files"),
            (
                Provider::Vertex,
                "/v1/projects/p/locations/us/publishers/google/models/imagen-4:predict",
                "/publishers/google/models/imagen-4:predict",
            ),
        ] {
            let (operation, _) = found(provider, path);
            assert!(matches!(operation, Operation::Unmetered { .. }), "{path}");
            assert_eq!(operation.path_after_v1(), sent);
        }
        for (provider, path) in [
            (Provider::Bedrock, "/model/m%2Fx/count-tokens"),
            (Provider::Bedrock, "/model/../admin"),
            (Provider::Azure, "/v1/files"),
            (Provider::Azure, "/openai//files"),
        ] {
            let found = match_path(&Method::POST, provider, path);
            assert!(matches!(found, CloudPath::None), "{path}");
        }
    }

    #[test]
    fn vertex_is_called_with_its_account_or_without() {
        let google = "/publishers/google/models/gemini-2.5-pro:streamGenerateContent";
        for (path, version, project, region) in [
            (google.to_owned(), None, None, None),
            (format!("/v1{google}"), Some("v1"), None, None),
            (
                format!("/v1beta1/projects/my-project/locations/us-central1{google}"),
                Some("v1beta1"),
                Some("my-project"),
                Some("us-central1"),
            ),
            (
                format!("/v1/projects/example.com%3Amine/locations/global{google}"),
                Some("v1"),
                Some("example.com:mine"),
                Some("global"),
            ),
        ] {
            let (operation, place) = found(Provider::Vertex, &path);
            let place = place.unwrap();
            assert_eq!(place.version, version, "{path}");
            assert_eq!((place.project.as_deref(), place.region.as_deref()), (project, region));
            assert_eq!(operation.label(), "stream_generate_content");
        }
        let path = "/v1/projects/p/locations/eu/publishers/anthropic/models/claude-x@1:rawPredict";
        let claude = Operation::RawPredict { model: "claude-x@1".to_owned(), is_stream: false };
        assert_eq!(found(Provider::Vertex, path).0, claude);
        let counting = "/v1/publishers/anthropic/models/count-tokens:rawPredict";
        assert_eq!(found(Provider::Vertex, counting).0, Operation::CountTokens);
        let open = "/v1/projects/p/locations/us/endpoints/openapi/chat/completions";
        assert_eq!(found(Provider::Vertex, open).0, Operation::Generate(Format::Chat));
        let path = |region| format!("/v1/projects/p/locations/{region}{google}");
        for region in ["a.b", "evil.example%2Fx", "%2e%2e", "A", "", "us%40x", "us%FF"] {
            let found = match_path(&Method::POST, Provider::Vertex, &path(region));
            assert!(matches!(found, CloudPath::BadRegion), "{region}");
        }
        let doubled = match_path(&Method::POST, Provider::Vertex, &format!("/v1/v1beta1{google}"));
        assert!(matches!(doubled, CloudPath::DoubledVersion));
        for path in [
            "/v2/publishers/google/models/m:generateContent",
            "/v1/publishers/meta/models/m:rawPredict",
            "/v1/publishers/google/models/m:predict",
            "/v1/publishers/google/models/m:batchEmbedContents",
            "/v1/publishers/anthropic/models/m:predict",
            "/v1/publishers/anthropic/models/a/b:rawPredict",
            "/v1/projects/p/publishers/google/models/m:generateContent",
            "/v1/projects/p/locations/us/endpoints/1234:predict",
            "/v1/models/m:generateContent",
            "/v1beta1/projects/p/locations/us/cachedContents",
        ] {
            is_none(Provider::Vertex, &Method::POST, path);
        }
        is_none(Provider::Vertex, &Method::GET, &path("us"));
    }

    #[test]
    fn azure_is_called_in_both_forms() {
        let chat = Operation::Generate(Format::Chat);
        for path in ["/openai/v1/chat/completions", "/openai/chat/completions"] {
            assert_eq!(found(Provider::Azure, path), (chat.clone(), None), "{path}");
        }
        let path = "/openai/deployments/my%20gpt/chat/completions";
        let deployment =
            Operation::Deployment { name: "my%20gpt".to_owned(), format: Format::Chat };
        assert_eq!(found(Provider::Azure, path).0, deployment);
        assert_eq!(deployment.path_after_v1(), "/deployments/my%20gpt/chat/completions");
        let embeddings = found(Provider::Azure, "/openai/deployments/d/embeddings").0;
        assert_eq!(embeddings.format(), Some(Format::Embeddings));
        let messages = found(Provider::Azure, "/anthropic/v1/messages").0;
        assert_eq!(messages, Operation::Generate(Format::Messages));
        let count = found(Provider::Azure, "/anthropic/v1/messages/count_tokens").0;
        assert_eq!(count, Operation::CountTokens);
        for path in [
            "/v1/chat/completions",
            "/openai/v1/messages",
            "/anthropic/v1/chat/completions",
            "/openai/deployments/d/images/generations",
            "/openai/deployments//chat/completions",
            "/openai/deployments/a/b/chat/completions",
            "/openai/deployments/d/chat/completions/",
        ] {
            is_none(Provider::Azure, &Method::POST, path);
        }
        is_none(Provider::Azure, &Method::GET, "/openai/deployments");
    }

    #[test]
    fn bedrock_is_called_by_its_models() {
        let path = "/model/us.anthropic.claude-x-v1%3A0/invoke-with-response-stream";
        let (invoke, _) = found(Provider::Bedrock, path);
        assert_eq!((invoke.label(), invoke.format()), ("invoke_stream", Some(Format::Messages)));
        assert_eq!(invoke.path_after_v1(), path);
        let (other, _) = found(Provider::Bedrock, "/model/meta.llama3-v1:0/invoke");
        assert_eq!((other.label(), other.format()), ("invoke", Some(Format::Invoke)));
        assert_eq!(other.path_after_v1(), "/model/meta.llama3-v1:0/invoke");
        for path in [
            "/v1/model/m/converse",
            "/model/m/count-tokens",
            "/model//converse",
            "/model/a/b/converse",
            "/foundation-models",
        ] {
            is_none(Provider::Bedrock, &Method::POST, path);
        }
        is_none(Provider::Bedrock, &Method::GET, "/model/m/converse");
    }

    #[test]
    fn errors_have_the_form_that_the_path_tells() {
        for (provider, path, format) in [
            (Provider::Bedrock, "/model/m/invoke", Format::Converse),
            (Provider::Vertex, "/v1/publishers/google/models/m:x", Format::Gemini),
            (Provider::Vertex, "/v1/publishers/anthropic/models/m:x", Format::Messages),
            (Provider::Vertex, "/v1/endpoints/openapi/chat/completions", Format::Chat),
            (Provider::Azure, "/anthropic/v1/messages", Format::Messages),
            (Provider::Azure, "/openai/v1/responses", Format::Chat),
        ] {
            assert_eq!(error_format(provider, path), format, "{path}");
        }
    }
}
