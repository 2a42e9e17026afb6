//! The parts of which the turns consist.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::error::ConvertError;
use super::super::request::{Block, Media, MediaKind, MediaSource, ToolCall, ToolResult};
use super::thinking::Model;
use crate::json::writer::JsonWriter;

#[derive(Debug)]
pub(super) enum Part<'p> {
    Text { text: &'p str, is_thought: bool, signature: Option<&'p str> },
    Call { call: &'p ToolCall<'p>, signature: Option<&'p str> },
    Result { result: &'p ToolResult<'p>, name: &'p str, media: Vec<Part<'p>> },
    Inline { mime: &'p str, data: Cow<'p, str> },
}

impl<'p> Part<'p> {
    pub(super) fn text(text: &'p str) -> Self {
        Self::Text { text, is_thought: false, signature: None }
    }

    /// Content that is given with the request. What Google fetches itself it reads with the rights of the
    /// gateway's account.
    pub(super) fn media(media: &'p Media<'_>) -> Result<Self, ConvertError> {
        match &media.source {
            MediaSource::Inline { mime, data } => {
                Ok(Self::Inline { mime, data: Cow::Borrowed(data) })
            }
            MediaSource::Text(text) => {
                Ok(Self::Inline { mime: "text/plain", data: Cow::Owned(STANDARD.encode(&**text)) })
            }
            MediaSource::Url(_) => {
                let problem = format!(
                    "hold {} by its address, which can't be sent to Google's API; send its content",
                    kind_name(media.kind)
                );
                Err(ConvertError::unsupported("messages", problem))
            }
        }
    }

    /// The result of a call. Newer models take media within it; otherwise media next to it goes to
    /// `beside`.
    pub(super) fn result(
        result: &'p ToolResult<'_>,
        model: Model<'_>,
        beside: &mut Vec<Part<'p>>,
    ) -> Result<Self, ConvertError> {
        let Some(name) = &result.name else {
            let problem = format!(
                "hold a result for the tool call '{}', which is not before it; Google's API needs \
                 the tool's name",
                result.id
            );
            return Err(ConvertError::invalid("messages", problem));
        };
        let mut media = Vec::new();
        for block in &result.content {
            let Block::Media(one) = block else { continue };
            let part = Self::media(one)?;
            let is_inside = model.is_3_or_newer() && matches!(part, Self::Inline { .. });
            if is_inside { &mut media } else { &mut *beside }.push(part);
        }
        Ok(Self::Result { result, name, media })
    }

    /// Ids are written where the target takes them.
    pub(super) fn write(&self, takes_ids: bool, json: &mut JsonWriter) {
        json.object(|json| match self {
            Self::Text { text, is_thought, signature } => {
                json.key("text").string(text);
                if *is_thought {
                    json.key("thought").boolean(true);
                }
                json.optional_string("thoughtSignature", *signature);
            }
            Self::Call { call, signature } => {
                json.key("functionCall").object(|json| {
                    if takes_ids {
                        json.key("id").string(&call.id);
                    }
                    json.key("name").string(&call.name);
                    json.key("args").raw(&call.object());
                });
                json.optional_string("thoughtSignature", *signature);
            }
            Self::Result { result, name, media } => {
                json.key("functionResponse").object(|json| {
                    if takes_ids {
                        json.key("id").string(&result.id);
                    }
                    json.key("name").string(name);
                    // One form for all, whatever the text is, so that the same result is always the same.
                    json.key("response").object(|json| {
                        let key = if result.is_error { "error" } else { "output" };
                        json.key(key).string(&text_of(result));
                    });
                    if !media.is_empty() {
                        json.key("parts").array(|json| {
                            media.iter().for_each(|part| part.write(takes_ids, json));
                        });
                    }
                });
            }
            Self::Inline { mime, data } => json.key("inlineData").object(|json| {
                json.key("mimeType").string(mime);
                json.key("data").string(data);
            }),
        });
    }
}

/// The texts of a result, each on lines of its own.
fn text_of<'t>(result: &'t ToolResult<'_>) -> Cow<'t, str> {
    let mut texts = result.content.iter().filter_map(|block| match block {
        Block::Text(text) => Some(&*text.text),
        _ => None,
    });
    let first = Cow::Borrowed(texts.next().unwrap_or_default());
    texts.fold(first, |all, text| Cow::Owned(format!("{all}\n{text}")))
}

fn kind_name(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Image => "an image",
        MediaKind::Document => "a document",
        MediaKind::Audio => "audio",
        MediaKind::Video => "a video",
    }
}
