//! Writes the blocks of a message.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::json::writer::JsonWriter;
use crate::llm::convert::error::{ConvertError, Dropped};
use crate::llm::convert::opaque::{Family, OpaqueKind};
use crate::llm::convert::request::{
    Block, CacheMark, Media, MediaKind, MediaSource, ReasoningBlock, ToolCall, ToolResult,
};

/// Whether there is anything of the block to write: the API refuses texts without content, and thoughts
/// that it did not sign.
pub(super) fn is_written(block: &Block<'_>) -> bool {
    match block {
        Block::Text(text) => !text.text.trim().is_empty(),
        Block::Refusal(text) => !text.trim().is_empty(),
        Block::Reasoning(reasoning) => has_thoughts(reasoning),
        Block::Media(_) | Block::ToolCall(_) | Block::ToolResult(_) => true,
    }
}

/// Whether the API can read these thoughts.
pub(super) fn has_thoughts(reasoning: &ReasoningBlock<'_>) -> bool {
    let is_read = |kind| matches!(kind, OpaqueKind::Signature | OpaqueKind::Redacted);
    reasoning.opaque.iter().any(|one| one.is_of(Family::Anthropic) && is_read(one.kind))
}

/// Writes a block of which there is something to write.
pub(super) fn write_block(
    block: &Block<'_>,
    role: &'static str,
    json: &mut JsonWriter,
    dropped: &mut Dropped,
) -> Result<(), ConvertError> {
    match block {
        Block::Text(text) => write_text(&text.text, text.cache, json),
        Block::Refusal(text) => write_text(text, None, json),
        Block::Reasoning(reasoning) => write_thoughts(reasoning, json),
        Block::ToolCall(call) => write_call(call, json),
        Block::ToolResult(result) => write_result(result, json, dropped)?,
        Block::Media(_) if role != "user" => {
            let problem = "can hold images and files only in the user's messages for Anthropic's \
                           API";
            return Err(ConvertError::unsupported("messages", problem));
        }
        Block::Media(media) => write_media(media, json, dropped)?,
    }
    Ok(())
}

pub(super) fn write_text(text: &str, cache: Option<CacheMark>, json: &mut JsonWriter) {
    json.object(|json| {
        json.key("type").string("text");
        json.key("text").string(text);
        write_cache(cache, json);
    });
}

/// Writes `cache_control`, if there is a mark.
pub(super) fn write_cache(cache: Option<CacheMark>, json: &mut JsonWriter) {
    let Some(mark) = cache else { return };
    json.key("cache_control").object(|json| {
        json.key("type").string("ephemeral");
        if mark == CacheMark::OneHour {
            json.key("ttl").string("1h");
        }
    });
}

fn write_thoughts(reasoning: &ReasoningBlock<'_>, json: &mut JsonWriter) {
    for opaque in reasoning.opaque.iter().filter(|one| one.is_of(Family::Anthropic)) {
        match opaque.kind {
            OpaqueKind::Signature => json.object(|json| {
                json.key("type").string("thinking");
                json.key("thinking").string(&reasoning.text);
                json.key("signature").string(&opaque.data);
            }),
            OpaqueKind::Redacted => json.object(|json| {
                json.key("type").string("redacted_thinking");
                json.key("data").string(&opaque.data);
            }),
            OpaqueKind::Encrypted => {}
        }
    }
}

fn write_call(call: &ToolCall<'_>, json: &mut JsonWriter) {
    json.object(|json| {
        json.key("type").string("tool_use");
        json.key("id").string(&call.id);
        json.key("name").string(&call.name);
        json.key("input").raw(&call.object());
        write_cache(call.cache, json);
    });
}

fn write_result(
    result: &ToolResult<'_>,
    json: &mut JsonWriter,
    dropped: &mut Dropped,
) -> Result<(), ConvertError> {
    json.object(|json| {
        json.key("type").string("tool_result");
        json.key("tool_use_id").string(&result.id);
        let mut content = result.content.iter().filter(|block| is_written(block)).peekable();
        if content.peek().is_some() {
            json.key("content");
            json.array(|json| {
                content.try_for_each(|block| write_block(block, "user", json, dropped))
            })?;
        }
        if result.is_error {
            json.key("is_error").boolean(true);
        }
        write_cache(result.cache, json);
        Ok(())
    })
}

fn write_media(
    media: &Media<'_>,
    json: &mut JsonWriter,
    dropped: &mut Dropped,
) -> Result<(), ConvertError> {
    if media.detail.as_ref().is_some_and(|detail| detail != "auto") {
        dropped.drop("detail")?;
    }
    let kind = match media.kind {
        MediaKind::Image => "image",
        MediaKind::Document => "document",
        MediaKind::Audio => return Err(unsupported("audio")),
        MediaKind::Video => return Err(unsupported("video")),
    };
    json.object(|json| {
        json.key("type").string(kind);
        json.key("source");
        json.object(|json| write_source(media, json))?;
        let title = media.name.as_ref().filter(|_| media.kind == MediaKind::Document);
        json.optional_string("title", title);
        write_cache(media.cache, json);
        Ok(())
    })
}

fn write_source(media: &Media<'_>, json: &mut JsonWriter) -> Result<(), ConvertError> {
    match (&media.source, media.kind) {
        (MediaSource::Url(url), _) => {
            json.key("type").string("url");
            json.key("url").string(url);
        }
        (MediaSource::Text(text), MediaKind::Document) => write_text_source(text, json),
        (MediaSource::Text(_), _) => return Err(unsupported("a text as an image")),
        (MediaSource::Inline { mime, data }, MediaKind::Document) if mime.starts_with("text/") => {
            let text = STANDARD.decode(data.as_bytes()).ok().map(String::from_utf8);
            let Some(Ok(text)) = text else { return Err(unsupported("a text that is not UTF-8")) };
            write_text_source(&text, json);
        }
        (MediaSource::Inline { mime, .. }, MediaKind::Document) if mime != "application/pdf" => {
            return Err(unsupported(&format!("documents of the type {mime}")));
        }
        (MediaSource::Inline { mime, data }, _) => {
            json.key("type").string("base64");
            json.key("media_type").string(mime);
            json.key("data").string(data);
        }
    }
    Ok(())
}

fn write_text_source(text: &str, json: &mut JsonWriter) {
    json.key("type").string("text");
    json.key("media_type").string("text/plain");
    json.key("data").string(text);
}

fn unsupported(what: &str) -> ConvertError {
    let problem = format!("hold what Anthropic's API does not take: {what}");
    ConvertError::unsupported("messages", problem)
}
