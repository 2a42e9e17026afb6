//! The count of a message's tokens, for providers that count in another way than Anthropic's API. The request
//! is the one whose tokens are counted, as it would be sent, in the envelope of the endpoint that counts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::answer::Failure;
use super::error::ConvertError;
use super::fields::{Fields, Path, parse_object};
use super::{ConvertedRequest, RequestOptions, Target, convert_request};
use crate::json::writer::JsonWriter;
use crate::llm::format::Format;

/// What counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenCounter {
    /// OpenAI, "Get input token counts".
    Responses,
    /// Google, "models.countTokens".
    Gemini,
    /// Google Cloud, "countTokens".
    Vertex,
}

/// Which messages a body on Bedrock holds (AWS, "Anthropic Claude Messages API").
pub const BEDROCK_MESSAGES: &str = "bedrock-2023-05-31";

/// The members of a request that OpenAI counts.
const OF_RESPONSES: [&str; 8] = [
    "model",
    "input",
    "instructions",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "text",
];
/// The same of Google's API, and of Vertex'.
const OF_GEMINI: [&str; 4] = ["contents", "systemInstruction", "tools", "toolConfig"];
const OF_VERTEX: [&str; 3] = ["contents", "systemInstruction", "tools"];

/// Puts a caller's request for a count, which is one of messages without a limit, into the form of another
/// provider's endpoint.
pub fn convert_count(
    json: &str,
    counter: TokenCounter,
    target: &Target<'_>,
    options: RequestOptions,
) -> Result<ConvertedRequest, ConvertError> {
    let to = match counter {
        TokenCounter::Responses => Format::Responses,
        TokenCounter::Gemini | TokenCounter::Vertex => Format::Gemini,
    };
    let mut converted = convert_request(&with_limit(json), Format::Messages, to, target, options)?;
    let path = Path::ROOT;
    let request = Fields::parse(&converted.json, &path)?;
    let mut counted = JsonWriter::new();
    counted.object(|json| match counter {
        TokenCounter::Responses => write_members(&request, &OF_RESPONSES, json),
        TokenCounter::Vertex => {
            write_members(&request, &OF_VERTEX, json);
            write_form(&request, json);
        }
        TokenCounter::Gemini => json.key("generateContentRequest").object(|json| {
            let name = target.model.strip_prefix("models/").unwrap_or(target.model);
            json.key("model").string(&format!("models/{name}"));
            write_members(&request, &OF_GEMINI, json);
            write_form(&request, json);
        }),
    });
    converted.json = counted.finish();
    Ok(converted)
}

/// The request for a count of Bedrock's: what would be sent to Claude, in base64 (AWS, "CountTokens").
/// `betas` are those of the caller's header, as an array.
pub fn wrap_invocation(json: &str, betas: Option<&str>) -> Result<String, ConvertError> {
    let request = with_limit(json);
    let request = Fields::parse(&request, &Path::ROOT)?;
    let mut body = JsonWriter::new();
    body.object(|json| {
        json.key("anthropic_version").string(BEDROCK_MESSAGES);
        let betas = betas.filter(|_| request.get("anthropic_beta").is_none());
        json.optional_raw("anthropic_beta", betas);
        for (key, raw) in request.iter() {
            if !matches!(key, "model" | "stream" | "anthropic_version") {
                json.key(key).raw(raw);
            }
        }
    });
    let mut json = JsonWriter::new();
    json.object(|json| {
        json.key("input").object(|json| {
            json.key("invokeModel").object(|json| {
                json.key("body").string(&STANDARD.encode(body.finish()));
            });
        });
    });
    Ok(json.finish())
}

/// Puts the provider's count into the words of Anthropic's API.
pub(super) fn convert_answer(body: &[u8]) -> Result<String, Failure> {
    let text = std::str::from_utf8(body).unwrap_or_default();
    let answer = parse_object(text);
    let count = answer.and_then(|answer| {
        let mut names = ["input_tokens", "totalTokens", "inputTokens"].into_iter();
        names.find_map(|name| answer.get(name)?.parse::<u64>().ok())
    });
    let Some(count) = count else {
        return Err(Failure::unusable("The provider's answer holds no count"));
    };
    let mut json = JsonWriter::new();
    json.object(|json| json.key("input_tokens").number(count));
    Ok(json.finish())
}

/// The request with the limit that messages need, and that counts nothing.
fn with_limit(json: &str) -> String {
    let has_limit =
        Fields::parse(json, &Path::ROOT).is_ok_and(|fields| fields.get("max_tokens").is_some());
    match json.trim_start().strip_prefix('{') {
        Some(members) if !has_limit => format!("{{\"max_tokens\":1,{members}"),
        _ => json.to_owned(),
    }
}

/// Writes the form of the answer, which is all that counts of Google's configuration.
fn write_form(request: &Fields<'_>, json: &mut JsonWriter) {
    let config = request.find_object("generationConfig");
    let schema = config.as_ref().and_then(|config| config.get("responseJsonSchema"));
    if let Some(schema) = schema {
        json.key("generationConfig").object(|json| {
            json.key("responseMimeType").string("application/json");
            json.key("responseJsonSchema").raw(schema);
        });
    }
}

/// Writes those of the members that are there.
fn write_members(request: &Fields<'_>, keys: &[&str], json: &mut JsonWriter) {
    for (key, raw) in request.iter().filter(|(key, _)| keys.contains(key)) {
        json.key(key).raw(raw);
    }
}

#[cfg(test)]
mod tests {
    use super::super::IdRule;
    use super::*;

    const ASKED: &str = r#"{"model":"m","system":"Be brief.","messages":[{"role":"user","content":"Hi"}],"thinking":{"type":"enabled","budget_tokens":2048}}"#;

    fn counted(counter: TokenCounter) -> String {
        let ids = IdRule::of(Format::Responses);
        let options = RequestOptions { ids, is_strict: true };
        let target = Target::new("gemini-2.5-flash", 8192);
        convert_count(ASKED, counter, &target, options).unwrap().json
    }

    #[test]
    fn requests_are_those_of_the_endpoint_that_counts() {
        assert_eq!(
            counted(TokenCounter::Responses),
            r#"{"model":"gemini-2.5-flash","instructions":"Be brief.","input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"Hi"}]}],"reasoning":{"effort":"medium"}}"#
        );
        let members = r#""contents":[{"role":"user","parts":[{"text":"Hi"}]}],"systemInstruction":{"parts":[{"text":"Be brief."}]}"#;
        assert_eq!(counted(TokenCounter::Vertex), format!("{{{members}}}"));
        assert_eq!(
            counted(TokenCounter::Gemini),
            format!(
                r#"{{"generateContentRequest":{{"model":"models/gemini-2.5-flash",{members}}}}}"#
            )
        );
        let wrapped = wrap_invocation(ASKED, Some("[\"b\"]")).unwrap();
        let data = wrapped.split('"').nth(7).unwrap();
        let body = String::from_utf8(STANDARD.decode(data).unwrap()).unwrap();
        let members = ASKED.strip_prefix(r#"{"model":"m","#).unwrap();
        assert_eq!(
            body,
            format!(
                r#"{{"anthropic_version":"bedrock-2023-05-31","anthropic_beta":["b"],"max_tokens":1,{members}"#
            )
        );
    }

    #[test]
    fn answers_are_anthropics() {
        for body in [
            r#"{"object":"response.input_tokens","input_tokens":8}"#,
            r#"{"totalTokens": 8, "promptTokensDetails": []}"#,
            r#"{"inputTokens":8}"#,
        ] {
            assert_eq!(convert_answer(body.as_bytes()).unwrap(), r#"{"input_tokens":8}"#);
        }
        for body in ["", "[]", r#"{"inputTokens":-1}"#, r#"{"inputTokens":"8"}"#] {
            assert!(convert_answer(body.as_bytes()).is_err(), "{body}");
        }
    }
}
