//! The blocks of a message.

use super::super::error::{ConvertError, Dropped};
use super::super::opaque::{Family, OpaqueKind};
use super::super::request::{
    Block, CacheMark, Media, MediaKind, ReasoningBlock, ToolCall, ToolResult,
};
use super::documents::DocumentNames;
use super::media::{kind_name, write_media};
use crate::json::writer::JsonWriter;

/// Writes the blocks of all messages, in order.
#[derive(Debug)]
pub(super) struct ContentWriter<'d> {
    documents: DocumentNames,
    dropped: &'d mut Dropped,
}

/// Whether something is written for the block. Converse refuses empty texts, and reasoning goes back only
/// to the models that signed it.
pub(super) fn is_written(block: &Block<'_>) -> bool {
    match block {
        Block::Text(text) => !text.text.is_empty(),
        Block::Refusal(text) => !text.is_empty(),
        Block::Reasoning(reasoning) => {
            reasoning.opaque.iter().any(|opaque| opaque.is_of(Family::Bedrock))
        }
        Block::Media(_) | Block::ToolCall(_) | Block::ToolResult(_) => true,
    }
}

/// Writes the mark after a block up to which the prompt is to be cached.
pub(super) fn write_cache_point(mark: Option<CacheMark>, json: &mut JsonWriter) {
    let Some(mark) = mark else { return };
    json.object(|json| {
        json.key("cachePoint").object(|json| {
            json.key("type").string("default");
            // Five minutes are the default.
            if mark == CacheMark::OneHour {
                json.key("ttl").string("1h");
            }
        });
    });
}

impl<'d> ContentWriter<'d> {
    pub(super) fn new(dropped: &'d mut Dropped) -> Self {
        Self { documents: DocumentNames::default(), dropped }
    }

    /// Writes a block with its mark. It has to be one of which something [`is_written`].
    pub(super) fn write(
        &mut self,
        block: &Block<'_>,
        is_model: bool,
        json: &mut JsonWriter,
    ) -> Result<(), ConvertError> {
        let cache = match block {
            Block::Text(text) => {
                json.object(|json| json.key("text").string(&text.text));
                text.cache
            }
            Block::Refusal(text) => {
                json.object(|json| json.key("text").string(text));
                None
            }
            Block::Media(media) if is_model => {
                return Err(unsupported(media, "in what the assistant said"));
            }
            Block::Media(media) => {
                self.write_media(media, json)?;
                media.cache
            }
            Block::ToolCall(call) => {
                write_call(call, json);
                call.cache
            }
            Block::ToolResult(result) => {
                self.write_result(result, json)?;
                // A mark within it has no place but after it.
                result.content.iter().fold(result.cache, |last, block| match block {
                    Block::Text(text) => last.or(text.cache),
                    Block::Media(media) => last.or(media.cache),
                    _ => last,
                })
            }
            Block::Reasoning(reasoning) => {
                write_reasoning(reasoning, json);
                None
            }
        };
        write_cache_point(cache, json);
        Ok(())
    }

    fn write_media(
        &mut self,
        media: &Media<'_>,
        json: &mut JsonWriter,
    ) -> Result<(), ConvertError> {
        if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
            self.dropped.drop("detail")?;
        }
        write_media(media, &mut self.documents, json)
    }

    fn write_result(
        &mut self,
        result: &ToolResult<'_>,
        json: &mut JsonWriter,
    ) -> Result<(), ConvertError> {
        json.object(|json| {
            json.key("toolResult").object(|json| {
                json.key("toolUseId").string(&result.id);
                json.key("content").array(|json| {
                    result.content.iter().try_for_each(|block| match block {
                        Block::Text(text) if !text.text.is_empty() => {
                            json.object(|json| json.key("text").string(&text.text));
                            Ok(())
                        }
                        Block::Media(media) if media.kind == MediaKind::Audio => {
                            Err(unsupported(media, "in the result of a tool"))
                        }
                        Block::Media(media) => self.write_media(media, json),
                        _ => Ok(()),
                    })
                })?;
                if result.is_error {
                    json.key("status").string("error");
                }
                Ok(())
            })
        })
    }
}

/// Converse takes this kind elsewhere.
fn unsupported(media: &Media<'_>, place: &str) -> ConvertError {
    let kind = kind_name(media.kind);
    let problem = format!("hold {kind} {place}, which Bedrock's Converse API does not take");
    ConvertError::unsupported("messages", problem)
}

fn write_call(call: &ToolCall<'_>, json: &mut JsonWriter) {
    json.object(|json| {
        json.key("toolUse").object(|json| {
            json.key("toolUseId").string(&call.id);
            json.key("name").string(&call.name);
            json.key("input").raw(&call.object());
        });
    });
}

fn write_reasoning(reasoning: &ReasoningBlock<'_>, json: &mut JsonWriter) {
    for opaque in reasoning.opaque.iter().filter(|opaque| opaque.is_of(Family::Bedrock)) {
        json.object(|json| {
            json.key("reasoningContent").object(|json| match opaque.kind {
                OpaqueKind::Redacted => json.key("redactedContent").string(&opaque.data),
                OpaqueKind::Signature | OpaqueKind::Encrypted => {
                    json.key("reasoningText").object(|json| {
                        json.key("text").string(&reasoning.text);
                        json.key("signature").string(&opaque.data);
                    });
                }
            });
        });
    }
}
