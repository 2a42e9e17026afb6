//! Recognizes the URL of a call in the place of a base URL: what people copy from a provider's
//! documentation often is one.

use crate::upstream::BaseUrl;

/// Ends of paths that no base URL has.
const OPERATIONS: [&[&str]; 7] = [
    &["chat", "completions"],
    &["responses"],
    &["responses", "compact"],
    &["responses", "input_tokens"],
    &["messages"],
    &["messages", "count_tokens"],
    &["messages", "batches"],
];

/// Ends of paths that base URLs may have, such as Azure's `https://NAME.services.ai.azure.com/models`,
/// but not right after the version of an API or the name of a deployment.
const OPERATIONS_OF_VERSION: [&[&str]; 12] = [
    &["completions"],
    &["embeddings"],
    &["models"],
    &["moderations"],
    &["rerank"],
    &["images", "generations"],
    &["images", "edits"],
    &["audio", "speech"],
    &["audio", "transcriptions"],
    &["audio", "translations"],
    &["files"],
    &["batches"],
];

/// What is called in `/models/NAME:METHOD`.
const GOOGLE_METHODS: [&str; 7] = [
    "generateContent",
    "streamGenerateContent",
    "countTokens",
    "embedContent",
    "batchEmbedContents",
    "rawPredict",
    "streamRawPredict",
];

/// What is called in `/model/ID/METHOD`.
const BEDROCK_METHODS: [&str; 5] =
    ["converse", "converse-stream", "invoke", "invoke-with-response-stream", "count-tokens"];

/// The URL without the path of one operation at its end, if it has one there, in any letter case.
pub(super) fn without_operation(base_url: &BaseUrl) -> Option<String> {
    let (url, query) = match base_url.as_str().split_once('?') {
        Some((url, query)) => (url, format!("?{query}")),
        None => (base_url.as_str(), String::new()),
    };
    let (scheme, rest) = url.split_once("://")?;
    let (host, path) = rest.split_once('/')?;
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let kept = before_operation(&segments)?.iter();
    let path: String = kept.map(|segment| format!("/{segment}")).collect();
    Some(format!("{scheme}://{host}{path}{query}"))
}

fn before_operation<'s, 'u>(segments: &'s [&'u str]) -> Option<&'s [&'u str]> {
    let before = |operation: &&[&str]| before_end(segments, operation);
    OPERATIONS
        .iter()
        .find_map(before)
        .or_else(|| OPERATIONS_OF_VERSION.iter().find_map(before).filter(|kept| is_version(kept)))
        .or(match segments {
            [kept @ .., models, call] if models.eq_ignore_ascii_case("models") => {
                let method = call.rsplit_once(':').map(|(_, method)| method);
                method.is_some_and(|method| is_one_of(method, &GOOGLE_METHODS)).then_some(kept)
            }
            [kept @ .., model, _, method] if model.eq_ignore_ascii_case("model") => {
                is_one_of(method, &BEDROCK_METHODS).then_some(kept)
            }
            _ => None,
        })
}

fn before_end<'s, 'u>(segments: &'s [&'u str], end: &[&str]) -> Option<&'s [&'u str]> {
    let (kept, last) = segments.split_at_checked(segments.len().checked_sub(end.len())?)?;
    let is_end = last.iter().zip(end).all(|(segment, word)| segment.eq_ignore_ascii_case(word));
    is_end.then_some(kept)
}

/// Whether a path ends in the version of an API, such as `v1` or `v1beta`, or in a deployment of Azure.
fn is_version(segments: &[&str]) -> bool {
    match segments {
        [.., deployments, _] if deployments.eq_ignore_ascii_case("deployments") => true,
        [.., last] => {
            let number = last.strip_prefix(['v', 'V']).unwrap_or_default();
            number.starts_with(|first: char| first.is_ascii_digit())
                && number.bytes().all(|byte| byte.is_ascii_alphanumeric())
        }
        [] => false,
    }
}

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.iter().any(|one| one.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shorter(url: &str) -> Option<String> {
        without_operation(&BaseUrl::parse(url).unwrap())
    }

    #[test]
    fn the_url_of_a_call_is_recognized() {
        const V1: &str = "https://api.example.com/v1";
        for (path, base_url) in [
            ("/chat/completions", V1),
            ("/chat/completions/", V1),
            ("/CHAT/Completions", V1),
            ("//chat//completions", V1),
            ("/responses", V1),
            ("/responses/compact", V1),
            ("/messages/", V1),
            ("/messages/count_tokens", V1),
            ("/completions", V1),
            ("/embeddings", V1),
            ("/models", V1),
            ("/images/generations", V1),
            ("/models/gemini-2.5-pro:generateContent", V1),
            ("/publishers/google/models/g:streamGenerateContent?alt=sse", ""),
            ("/model/anthropic.claude-v2%3A1/converse", V1),
            ("/model/m/Invoke-With-Response-Stream", V1),
        ] {
            let url = format!("{V1}{path}");
            let google = format!("{V1}/publishers/google?alt=sse");
            let base_url = if base_url.is_empty() { &google } else { base_url };
            assert_eq!(shorter(&url).as_deref(), Some(base_url), "{url}");
        }
        for (url, base_url) in [
            (
                "https://a.example.com/x/responses?api-version=1",
                "https://a.example.com/x?api-version=1",
            ),
            ("http://127.0.0.1:8000/v1beta/models", "http://127.0.0.1:8000/v1beta"),
            ("https://a.example.com/chat/completions", "https://a.example.com"),
            (
                "https://a.example.com/openai/deployments/d/embeddings?api-version=1",
                "https://a.example.com/openai/deployments/d?api-version=1",
            ),
        ] {
            assert_eq!(shorter(url).as_deref(), Some(base_url), "{url}");
        }
    }

    #[test]
    fn a_base_url_may_have_such_words() {
        for url in [
            "https://x",
            "https://x/my-responses",
            "https://chat/completions",
            "https://models",
            "https://name.services.ai.azure.com/models?api-version=1",
            "https://x.example.com/models/llama/v1",
            "https://x.example.com/v1/models/llama",
            "https://x.example.com/embeddings",
            "https://x.example.com/vendor/models",
            "https://x.example.com/chat",
            "https://bedrock-runtime.us-east-1.amazonaws.com",
            "https://x.example.com/v1/projects/p/locations/l/publishers/google",
            "https://x.example.com/openai/deployments/completions",
        ] {
            assert_eq!(shorter(url), None, "{url}");
        }
    }
}
