//! Looks into a plain answer that reports no output: whether the model has written anything, or an error is
//! reported inside of it. No other answer comes by here, so that it may take its time.

use super::event::is_error;
use crate::json::scanner::MemberNames;
use crate::json::tokenizer::{SyntaxError, Token, Tokenizer};

/// Members that hold what the model has written, in one format or another.
const CONTAINERS: &[&[u8]] = &[b"choices", b"output", b"content", b"candidates", b"output_text"];

/// Members of them whose texts are none of the model's.
const ENVELOPE: &[&[u8]] = &[
    b"call_id",
    b"created",
    b"finishMessage",
    b"finishReason",
    b"finish_reason",
    b"format",
    b"id",
    b"language",
    b"media_type",
    b"mimeType",
    b"model",
    b"native_finish_reason",
    b"object",
    b"phase",
    b"provider",
    b"role",
    b"status",
    b"stop_reason",
    b"stop_sequence",
    b"type",
];

/// Members of them that say something of the answer and are no part of it.
const REMARKS: &[&[u8]] = &[
    b"citationMetadata",
    b"content_filter_result",
    b"content_filter_results",
    b"groundingMetadata",
    b"logprobs",
    b"logprobsResult",
    b"safetyRatings",
    b"usage",
];

/// What was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PlainContents {
    /// There is a member in which the model's text would be.
    pub(super) has_container: bool,
    /// The model has written something: text, a call of a tool, sound, a picture.
    pub(super) is_written: bool,
    /// An error is reported inside of the answer.
    pub(super) has_error: bool,
}

impl PlainContents {
    /// Reads an answer whose members have these names. An error if it is no JSON object, or not all of one.
    pub(super) fn read(json: &[u8], names: &MemberNames) -> Result<Self, SyntaxError> {
        let json = json.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(json);
        let mut tokens = Tokenizer::new(json);
        let mut contents = Self::default();
        if tokens.next()? != Token::BeginObject {
            return Err(SyntaxError::Invalid);
        }
        while let Token::Key(key) = tokens.next()? {
            let value = tokens.next()?;
            let key = key.raw();
            // A text under this name is that of an error.
            let is_message = key == b"message" && value == Token::BeginObject;
            if is_message || key == names.choices.as_bytes() || CONTAINERS.contains(&key) {
                contents.has_container |= !value.is_null();
                contents.read_value(key, value, &mut tokens, json)?;
            } else {
                contents.has_error |= key == b"object" && is_word(value, b"error");
                tokens.skip(value)?;
            }
        }
        Ok(contents)
    }

    fn read_value<'a>(
        &mut self,
        key: &[u8],
        first: Token<'a>,
        tokens: &mut Tokenizer<'a>,
        json: &[u8],
    ) -> Result<(), SyntaxError> {
        match first {
            _ if REMARKS.contains(&key) => tokens.skip(first),
            _ if key == b"error" => {
                let start = tokens.token_start();
                tokens.skip(first)?;
                let raw = json.get(start..tokens.position()).unwrap_or_default();
                self.has_error |= is_error(raw.iter().copied());
                Ok(())
            }
            Token::String(text) => {
                self.has_error |= key == b"finish_reason" && text.raw() == b"error";
                // A call that runs at the provider's may have no text.
                let is_call = key == b"type" && text.raw().ends_with(b"_call");
                let is_text = !ENVELOPE.contains(&key) && !text.raw().is_empty();
                self.is_written |= is_call || is_text;
                Ok(())
            }
            Token::BeginArray => {
                tokens.elements(|element, tokens| self.read_value(key, element, tokens, json))
            }
            Token::BeginObject => {
                while let Token::Key(key) = tokens.next()? {
                    let value = tokens.next()?;
                    self.read_value(key.raw(), value, tokens, json)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn is_word(value: Token<'_>, word: &[u8]) -> bool {
    matches!(value, Token::String(text) if text.raw() == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::format::Format;

    fn read(format: Format, json: &str) -> (bool, bool, bool) {
        let contents = PlainContents::read(json.as_bytes(), format.member_names()).unwrap();
        let PlainContents { has_container, is_written, has_error } = contents;
        (has_container, is_written, has_error)
    }

    #[test]
    fn what_a_model_writes_is_told_from_what_is_around_it() {
        for (format, json) in [
            (Format::Chat, r#"{"choices":[{"message":{"role":"assistant","content":"a"}}]}"#),
            (Format::Chat, r#"{"choices":[{"message":{"content":[{"type":"text","text":"a"}]}}]}"#),
            (Format::Chat, r#"{"choices":[{"message":{"content":null,"refusal":"a"}}]}"#),
            (Format::Chat, r#"{"choices":[{"message":{"content":"","reasoning_content":"a"}}]}"#),
            (
                Format::Chat,
                r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"i","type":"function","function":{"name":"f","arguments":""}}]}}]}"#,
            ),
            (Format::Chat, r#"{"choices":[{"message":{"audio":{"id":"i","data":"AA"}}}]}"#),
            (
                Format::Chat,
                r#"{"choices":[{"message":{"images":[{"image_url":{"url":"data:"}}]}}]}"#,
            ),
            (Format::Chat, r#"{"choices":[{"text":"a"}]}"#),
            (Format::Chat, "\u{feff}{\"choices\":[{\"text\":\"a\"}]}"),
            (
                Format::Responses,
                r#"{"output":[{"type":"message","content":[{"type":"output_text","text":"a"}]}]}"#,
            ),
            (
                Format::Responses,
                r#"{"output":[{"type":"function_call","name":"f","arguments":"{}"}]}"#,
            ),
            (
                Format::Responses,
                r#"{"output":[{"type":"web_search_call","id":"i","status":"completed"}]}"#,
            ),
            (Format::Responses, r#"{"output":[{"type":"image_generation_call","result":"AA"}]}"#),
            (Format::Messages, r#"{"content":[{"type":"text","text":"a"}]}"#),
            (
                Format::Messages,
                r#"{"content":[{"type":"tool_use","id":"i","name":"f","input":{}}]}"#,
            ),
            (Format::Gemini, r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#),
            (
                Format::Gemini,
                r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f"}}]}}]}"#,
            ),
            (
                Format::Gemini,
                r#"{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":"AA"}}]}}]}"#,
            ),
            (Format::Converse, r#"{"output":{"message":{"content":[{"text":"a"}]}}}"#),
        ] {
            assert_eq!(read(format, json), (true, true, false), "{json}");
        }
        for (format, json) in [
            (Format::Chat, r#"{"choices":[]}"#),
            (Format::Chat, r#"{"choices":[{}]}"#),
            (Format::Chat, r#"{"choices":[null]}"#),
            (
                Format::Chat,
                r#"{"choices":[{"index":0,"message":{"role":"assistant","content":""},"logprobs":{"content":[{"token":"a"}]},"finish_reason":"stop"}]}"#,
            ),
            (
                Format::Chat,
                r#"{"choices":[{"message":{"role":"assistant","content":null,"tool_calls":[]},"content_filter_results":{"hate":{"severity":"safe"}}}]}"#,
            ),
            (
                Format::Responses,
                r#"{"output":[{"type":"message","id":"i","role":"assistant","status":"completed","content":[{"type":"output_text","text":""}]}],"tools":[{"type":"function","name":"f"}]}"#,
            ),
            (
                Format::Messages,
                r#"{"id":"i","type":"message","role":"assistant","content":[],"stop_reason":"end_turn"}"#,
            ),
            (Format::Messages, r#"{"content":[{"type":"text","text":""}]}"#),
            (
                Format::Gemini,
                r#"{"candidates":[{"content":{"role":"model"},"finishReason":"SAFETY","index":0,"safetyRatings":[{"category":"c","probability":"HIGH"}]}]}"#,
            ),
            (
                Format::Converse,
                r#"{"output":{"message":{"role":"assistant","content":[]}},"stopReason":"end_turn"}"#,
            ),
        ] {
            assert_eq!(read(format, json), (true, false, false), "{json}");
        }
        assert_eq!(
            read(Format::Gemini, r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#),
            (false, false, false)
        );
    }

    #[test]
    fn a_message_is_an_answer_if_it_is_an_object() {
        let chat = |json| read(Format::Chat, json);
        assert_eq!(chat(r#"{"message":"Too many requests"}"#), (false, false, false));
        assert_eq!(chat(r#"{"message":{"content":"a"}}"#), (true, true, false));
    }

    #[test]
    fn errors_are_found_where_providers_put_them() {
        for json in [
            r#"{"choices":[{"index":0,"error":{"code":502},"message":{"content":""},"finish_reason":"error"}]}"#,
            r#"{"choices":[{"error":{"code":502},"finish_reason":"stop"}]}"#,
            r#"{"choices":[{"message":{"content":""},"finish_reason":"error"}]}"#,
            r#"{"object":"error","message":"overloaded","choices":[]}"#,
        ] {
            assert_eq!(read(Format::Chat, json), (true, false, true), "{json}");
        }
        let none =
            r#"{"choices":[{"error":null,"message":{"content":"error"},"finish_reason":"stop"}]}"#;
        assert_eq!(read(Format::Chat, none), (true, true, false));
        for odd in ["", "[]", r#"{"choices":[{"text":"a"#, "<html>", r#"{"choices":[NaN]}"#] {
            let read = PlainContents::read(odd.as_bytes(), &MemberNames::USUAL);
            assert!(read.is_err(), "{odd}");
        }
    }
}
