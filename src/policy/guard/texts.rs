//! What the strings of a request's body are, by format and key: text, an identifier, or something that no
//! detector reads.
//!
//! A string is text unless a table says otherwise, so that a field that a provider adds tomorrow is
//! scanned. Keys that hold media are told by their values as well.

use super::reasoning::DETAILS;
use crate::llm::format::Format;

/// The longest value of a protocol's own constants and ids, in bytes; what is longer is text.
const MAX_CONSTANT: usize = 64;

/// What a part of the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Area {
    /// The format's own fields.
    Body,
    /// What the caller fills as they like: arguments and results of tools, metadata. Keys and numbers
    /// count as text, too.
    Values,
    /// What is not scanned: schemas of structured outputs.
    Excepted,
}

/// What a string is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    /// A value in it is replaced.
    Text,
    /// The provider checks it: a value in it cannot be replaced, so that the request is blocked.
    Identifier,
    /// The same for a constant of the format, which is not searched for a policy's own patterns: a
    /// pattern such as `user` would match every request.
    Constant,
    /// Signed or encrypted by the provider. It is not scanned.
    Opaque,
}

/// What a single word in a string can be. Models take many for names, and what a provider gets in place of
/// `AUTO` or `fahrenheit` has to be what it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// Anything: it is a message.
    Prose,
    /// Anything or an identifier: the caller's own data.
    Value,
    /// A word of the format.
    Format,
}

/// Where a value stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The key of the member that it is the value of, or that the array is the value of.
    pub(super) key: &'a [u8],
    /// The key of the object around it, likewise.
    pub(super) container: &'a [u8],
}

/// What an object or array is, that stands in `area`.
pub(super) fn area_of(format: Format, area: Area, place: Place<'_>, scans_system: bool) -> Area {
    if area != Area::Body {
        return area;
    }
    let Place { key, container } = place;
    if is_output_schema(format, place) || (!scans_system && is_system_prompt(format, place)) {
        return Area::Excepted;
    }
    let is_values = match format {
        Format::Messages | Format::Converse if key == b"input" => true,
        _ => {
            matches!(
                key,
                b"arguments"
                    | b"args"
                    | b"json"
                    | b"metadata"
                    | b"requestMetadata"
                    | b"client_metadata"
                    | b"labels"
                    | b"promptVariables"
                    | b"variables"
            ) || key == b"response"
                && matches!(container, b"functionResponse" | b"function_response")
        }
    };
    if is_values { Area::Values } else { Area::Body }
}

/// The prompts that `scan.system` is about; messages with such a role are found by their role.
pub(super) fn is_system_prompt(format: Format, place: Place<'_>) -> bool {
    let is_top = place.container.is_empty();
    is_top
        && match format {
            Format::Messages | Format::Converse => place.key == b"system",
            Format::Responses => place.key == b"instructions",
            Format::Gemini => matches!(place.key, b"systemInstruction" | b"system_instruction"),
            Format::Chat | Format::Embeddings | Format::GeminiEmbeddings | Format::Invoke => false,
        }
}

/// Whether it is the schema of a structured output.
fn is_output_schema(format: Format, place: Place<'_>) -> bool {
    match format {
        Format::Chat => place.key == b"response_format" && place.container.is_empty(),
        Format::Responses => place.key == b"format" && place.container == b"text",
        Format::Messages => {
            place.key == b"output_format" && place.container.is_empty()
                || place.key == b"format" && place.container == b"output_config"
        }
        Format::Gemini => matches!(
            place.key,
            b"responseSchema"
                | b"response_schema"
                | b"responseJsonSchema"
                | b"response_json_schema"
        ),
        Format::Converse => place.key == b"outputConfig" && place.container.is_empty(),
        Format::Embeddings | Format::GeminiEmbeddings | Format::Invoke => false,
    }
}

/// What a string in the format's own fields is.
pub(super) fn treatment_of(place: Place<'_>, value: &[u8]) -> Treatment {
    let Place { key, container } = place;
    match key {
        b"signature" | b"thoughtSignature" | b"thought_signature" | b"encrypted_content"
        | b"encrypted_index" | b"redactedContent"
            if is_opaque(value) =>
        {
            Treatment::Opaque
        }
        // Encrypted reasoning.
        b"data" if container == DETAILS && is_opaque(value) => Treatment::Opaque,
        b"type" | b"role" | b"status" | b"format" | b"object" | b"service_tier" | b"mimeType"
        | b"mime_type" | b"media_type" | b"detail" | b"effort" | b"phase"
            if is_constant(value) =>
        {
            Treatment::Constant
        }
        // The name of a participant or a document is not a tool's.
        b"name" if matches!(container, b"messages" | b"document" | b"documents") => Treatment::Text,
        b"model"
        | b"name"
        | b"id"
        | b"tool_call_id"
        | b"tool_use_id"
        | b"toolUseId"
        | b"call_id"
        | b"item_id"
        | b"previous_response_id"
        | b"previous_message_id"
        | b"conversation"
        | b"container"
        | b"file_id"
        | b"file_ids"
        | b"vector_store_ids"
        | b"server_label"
        | b"cachedContent"
        | b"cached_content"
        | b"required"
        | b"$ref"
        | b"allowed_tools"
        | b"allowedFunctionNames"
        | b"allowed_function_names" => Treatment::Identifier,
        // What has to arrive as it is.
        b"authorization" | b"authorization_token" => Treatment::Identifier,
        _ if container == b"headers" => Treatment::Identifier,
        key if is_link(key) => Treatment::Identifier,
        _ => Treatment::Text,
    }
}

pub(super) fn is_link(key: &[u8]) -> bool {
    matches!(
        key,
        b"url" | b"uri" | b"image_url" | b"file_url" | b"fileUri" | b"file_uri" | b"server_url"
    )
}

/// Whether the string is a link to an image, a file or the like, that the provider reads.
pub(super) fn is_media_link(place: Place<'_>, value: &[u8]) -> bool {
    let Place { key, container } = place;
    let is_link = match key {
        b"image_url" | b"file_url" | b"fileUri" | b"file_uri" => true,
        b"url" | b"uri" => matches!(
            container,
            b"image_url" | b"video_url" | b"audio_url" | b"source" | b"s3Location" | b"file"
        ),
        _ => false,
    };
    // A data URL holds what it links to, and is looked into.
    is_link && !value.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"data:"))
}

/// What a single word in a string is.
pub(super) fn word_of(area: Area, place: Place<'_>) -> Word {
    match place.key {
        _ if area != Area::Body => Word::Value,
        b"content" | b"text" | b"input" | b"instructions" | b"system" | b"prompt" | b"output"
        | b"thinking" | b"inputText" => Word::Prose,
        b"name" | b"title" | b"user" => Word::Value,
        _ => Word::Format,
    }
}

/// Whether the keys of the object that is the value of `container` are text that the provider checks:
/// the names of a tool's parameters.
pub(super) fn has_identifier_keys(container: &[u8]) -> bool {
    container == b"properties"
}

/// Whether the string is the text of reasoning, which its provider may have signed.
pub(super) fn is_reasoning(place: Place<'_>) -> bool {
    match place.key {
        b"thinking" => true,
        b"text" => place.container == b"reasoningText" || place.container == DETAILS,
        b"summary" => place.container == DETAILS,
        _ => false,
    }
}

/// Whether the value says that a message is a system prompt.
pub(super) fn is_system_role(key: &[u8], value: &[u8]) -> bool {
    key == b"role" && matches!(value, b"system" | b"developer")
}

/// Whether a value can be a signature: one run of the characters of base64, in any of its alphabets.
pub(super) fn is_opaque(value: &[u8]) -> bool {
    !value.is_empty()
        && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/=_-.:~\\".contains(byte))
}

fn is_constant(value: &[u8]) -> bool {
    value.len() <= MAX_CONSTANT
        && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-./+;= ".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place<'a>(container: &'a str, key: &'a str) -> Place<'a> {
        Place { key: key.as_bytes(), container: container.as_bytes() }
    }

    #[test]
    fn areas() {
        let of = |format, container, key| area_of(format, Area::Body, place(container, key), true);
        assert_eq!(of(Format::Chat, "", "response_format"), Area::Excepted);
        assert_eq!(of(Format::Chat, "messages", "response_format"), Area::Body);
        assert_eq!(of(Format::Responses, "text", "format"), Area::Excepted);
        assert_eq!(of(Format::Responses, "", "input"), Area::Body);
        // Schemas of structured outputs.
        assert_eq!(of(Format::Messages, "", "output_format"), Area::Excepted);
        assert_eq!(of(Format::Messages, "output_config", "format"), Area::Excepted);
        assert_eq!(of(Format::Messages, "messages", "output_format"), Area::Body);
        assert_eq!(of(Format::Converse, "", "outputConfig"), Area::Excepted);
        assert_eq!(of(Format::Converse, "messages", "outputConfig"), Area::Body);
        assert_eq!(of(Format::Messages, "content", "input"), Area::Values);
        assert_eq!(of(Format::Gemini, "functionResponse", "response"), Area::Values);
        assert_eq!(of(Format::Gemini, "generationConfig", "responseSchema"), Area::Excepted);
        let system = place("", "system");
        assert_eq!(area_of(Format::Messages, Area::Body, system, false), Area::Excepted);
        assert_eq!(area_of(Format::Messages, Area::Body, system, true), Area::Body);
        // What is nested in values is a value, whatever it is called.
        assert_eq!(
            area_of(Format::Chat, Area::Values, place("", "response_format"), true),
            Area::Values
        );
    }

    #[test]
    fn links_to_media() {
        let is =
            |container, key, value: &str| is_media_link(place(container, key), value.as_bytes());
        assert!(
            is("image_url", "url", "https://a/b.png") && is("content", "image_url", "https://a/")
        );
        assert!(is("source", "url", "https://a/") && is("fileData", "fileUri", "gs://b/c"));
        assert!(!is("image_url", "url", "data:image/png;base64,AA=="));
        assert!(
            !is("annotations", "url", "https://a/") && !is("tools", "server_url", "https://a/")
        );
    }

    #[test]
    fn strings_are_text_unless_a_table_says_otherwise() {
        let of =
            |container, key, value: &str| treatment_of(place(container, key), value.as_bytes());
        assert_eq!(of("messages", "content", "x"), Treatment::Text);
        assert_eq!(of("new", "field", "x"), Treatment::Text);
        assert_eq!(of("messages", "name", "x"), Treatment::Text);
        assert_eq!(of("function", "name", "x"), Treatment::Identifier);
        assert_eq!(of("", "model", "x"), Treatment::Identifier);
        assert_eq!(of("messages", "role", "user"), Treatment::Constant);
        assert_eq!(of("messages", "role", "a@b.co"), Treatment::Text);
        assert_eq!(of("content", "signature", "EqQBCgIYAhIM+/=="), Treatment::Opaque);
        assert_eq!(of("content", "signature", "write to a@b.co"), Treatment::Text);
    }
}
