//! The conversation for a provider that speaks the Responses API: turns become items, without ids of their
//! own but for those of reasoning.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::Target;
use super::super::error::{ConvertError, Dropped};
use super::super::media::data_url;
use super::super::opaque::{Family, OpaqueKind};
use super::super::request::{
    Block, CacheMark, Media, MediaKind, MediaSource, ReasoningBlock, Role, SystemPart, Text,
    ToolCall, ToolResult, Turn,
};
use crate::json::writer::JsonWriter;

/// Begins the ids of reasoning items.
const REASONING_ID: &str = "rs_";

/// Writes items one after another, each at once, so that an error leaves nothing half-written.
pub(super) struct ItemWriter<'w, 't> {
    target: &'w Target<'t>,
    dropped: &'w mut Dropped,
    items: Vec<String>,
}

impl<'w, 't> ItemWriter<'w, 't> {
    pub(super) fn new(target: &'w Target<'t>, dropped: &'w mut Dropped) -> Self {
        Self { target, dropped, items: Vec::new() }
    }

    /// The array of all items.
    pub(super) fn finish(self) -> String {
        let mut json = JsonWriter::new();
        json.array(|json| self.items.iter().for_each(|item| json.raw(item)));
        json.finish()
    }

    /// The instructions before the conversation: a message for those in a row that have the same role.
    pub(super) fn write_system(&mut self, parts: &[SystemPart<'_>]) -> Result<(), ConvertError> {
        for run in parts.chunk_by(|one, next| one.is_developer == next.is_developer) {
            let mut content = Vec::new();
            for part in run {
                content.push(self.text_part(&part.text, part.cache)?);
            }
            let is_developer = run.iter().any(|part| part.is_developer);
            let role = if is_developer { "developer" } else { "system" };
            self.push_input(role, &content);
        }
        Ok(())
    }

    pub(super) fn write_turn(&mut self, turn: &Turn<'_>) -> Result<(), ConvertError> {
        match turn.role {
            Role::User => self.write_input("user", &turn.blocks),
            Role::System => self.write_input("system", &turn.blocks),
            Role::Developer => self.write_input("developer", &turn.blocks),
            Role::Assistant => self.write_assistant(&turn.blocks),
        }
    }

    /// Outputs of functions first, then the message.
    fn write_input(&mut self, role: &str, blocks: &[Block<'_>]) -> Result<(), ConvertError> {
        let mut content = Vec::new();
        for block in blocks {
            match block {
                Block::ToolResult(result) => self.write_output(result)?,
                other => content.extend(self.input_part(other)?),
            }
        }
        if !content.is_empty() {
            self.push_input(role, &content);
        }
        Ok(())
    }

    fn write_assistant(&mut self, blocks: &[Block<'_>]) -> Result<(), ConvertError> {
        let mut message = Message::default();
        for (index, block) in blocks.iter().enumerate() {
            match block {
                Block::Text(text) => {
                    if message.phase != text.phase.as_deref() {
                        self.flush(&mut message);
                    }
                    message.phase = text.phase.as_deref();
                    if text.cache.is_some() {
                        self.dropped.drop("cache_control")?;
                    }
                    message.parts.push(Said::Text(&text.text));
                }
                Block::Refusal(refusal) => message.parts.push(Said::Refusal(refusal)),
                Block::ToolCall(call) => {
                    self.flush(&mut message);
                    self.write_call(call)?;
                }
                Block::Reasoning(reasoning) => {
                    self.flush(&mut message);
                    // Reasoning that nothing follows is refused by the provider.
                    let is_followed = blocks
                        .iter()
                        .skip(index + 1)
                        .any(|next| !matches!(next, Block::Reasoning(_)));
                    if is_followed {
                        self.write_reasoning(reasoning);
                    }
                }
                Block::Media(_) => {
                    let problem =
                        "can't hold images or files of the model's to OpenAI's Responses API";
                    return Err(ConvertError::unsupported("messages", problem));
                }
                Block::ToolResult(_) => {}
            }
        }
        self.flush(&mut message);
        Ok(())
    }

    fn flush(&mut self, message: &mut Message<'_>) {
        let Message { phase, parts } = std::mem::take(message);
        if parts.is_empty() {
            return;
        }
        self.push_message("assistant", phase, |json| match &parts[..] {
            [Said::Text(text)] => json.string(text),
            parts => json.array(|json| parts.iter().for_each(|part| part.write(json))),
        });
    }

    fn push_message(
        &mut self,
        role: &str,
        phase: Option<&str>,
        content: impl FnOnce(&mut JsonWriter),
    ) {
        let mut json = JsonWriter::new();
        json.object(|json| {
            json.key("type").string("message");
            json.key("role").string(role);
            content(json.key("content"));
            json.optional_string("phase", phase);
        });
        self.items.push(json.finish());
    }

    /// A message of the caller's.
    fn push_input(&mut self, role: &str, parts: &[String]) {
        self.push_message(role, None, |json| {
            json.array(|json| parts.iter().for_each(|part| json.raw(part)));
        });
    }

    fn write_call(&mut self, call: &ToolCall<'_>) -> Result<(), ConvertError> {
        if call.cache.is_some() {
            self.dropped.drop("cache_control")?;
        }
        let arguments = call.arguments.trim();
        let mut json = JsonWriter::new();
        json.object(|json| {
            json.key("type").string("function_call");
            json.key("call_id").string(&call.id);
            json.key("name").string(&call.name);
            json.key("arguments").string(if arguments.is_empty() { "{}" } else { arguments });
        });
        self.items.push(json.finish());
        Ok(())
    }

    fn write_output(&mut self, result: &ToolResult<'_>) -> Result<(), ConvertError> {
        if result.is_error {
            self.dropped.drop("is_error")?;
        }
        if result.cache.is_some() {
            self.dropped.drop("cache_control")?;
        }
        let mut parts = Vec::new();
        let text = match &result.content[..] {
            [] => Some(""),
            [Block::Text(text)] if text.cache.is_none() => Some(&*text.text),
            content => {
                for block in content {
                    parts.extend(self.input_part(block)?);
                }
                None
            }
        };
        let mut json = JsonWriter::new();
        json.object(|json| {
            json.key("type").string("function_call_output");
            json.key("call_id").string(&result.id);
            match text {
                Some(text) => json.key("output").string(text),
                None => {
                    json.key("output").array(|json| parts.iter().for_each(|part| json.raw(part)))
                }
            }
        });
        self.items.push(json.finish());
        Ok(())
    }

    /// Writes what OpenAI encrypted; all other reasoning means nothing to its models.
    fn write_reasoning(&mut self, reasoning: &ReasoningBlock<'_>) {
        let own = reasoning
            .opaque
            .iter()
            .find(|opaque| opaque.is_of(Family::OpenAi) && opaque.kind == OpaqueKind::Encrypted);
        let Some(own) = own else { return };
        let mut json = JsonWriter::new();
        json.object(|json| {
            json.key("type").string("reasoning");
            let id = own.id.as_deref().filter(|id| id.starts_with(REASONING_ID));
            json.optional_string("id", id);
            let text = Some(&*reasoning.text).filter(|text| !text.is_empty());
            let (summary, content) = if reasoning.is_summary { (text, None) } else { (None, text) };
            json.key("summary").array(|json| write_text(json, "summary_text", summary));
            if content.is_some() {
                json.key("content").array(|json| write_text(json, "reasoning_text", content));
            }
            json.key("encrypted_content").string(&own.data);
        });
        self.items.push(json.finish());
    }

    /// A part of a message of the caller's, or of a function's output.
    fn input_part(&mut self, block: &Block<'_>) -> Result<Option<String>, ConvertError> {
        match block {
            Block::Text(text) => Ok(Some(self.text_part(&text.text, text.cache)?)),
            Block::Media(media) => Ok(Some(self.media_part(media)?)),
            // Nothing that callers say.
            _ => Ok(None),
        }
    }

    fn text_part(&mut self, text: &str, cache: Option<CacheMark>) -> Result<String, ConvertError> {
        let has_mark = self.has_mark(cache)?;
        let mut json = JsonWriter::new();
        json.object(|json| {
            json.key("type").string("input_text");
            json.key("text").string(text);
            write_mark(json, has_mark);
        });
        Ok(json.finish())
    }

    fn media_part(&mut self, media: &Media<'_>) -> Result<String, ConvertError> {
        let has_mark = self.has_mark(media.cache)?;
        let mut json = JsonWriter::new();
        match media.kind {
            MediaKind::Image => json.object(|json| {
                json.key("type").string("input_image");
                match &media.source {
                    MediaSource::Url(url) => json.key("image_url").string(url),
                    MediaSource::Inline { mime, data } => {
                        json.key("image_url").string(&data_url(mime, data));
                    }
                    MediaSource::Text(_) => {}
                }
                json.key("detail").string(media.detail.as_deref().unwrap_or("auto"));
                write_mark(json, has_mark);
            }),
            MediaKind::Document => json.object(|json| {
                json.key("type").string("input_file");
                let (mime, data) = match &media.source {
                    MediaSource::Url(url) => {
                        json.key("file_url").string(url);
                        return write_mark(json, has_mark);
                    }
                    MediaSource::Inline { mime, data } => (&**mime, data.clone()),
                    MediaSource::Text(text) => {
                        ("text/plain", Text::Owned(STANDARD.encode(&**text)))
                    }
                };
                // The provider refuses a file without a name.
                let name = if mime == "application/pdf" { "document.pdf" } else { "document.txt" };
                json.key("filename").string(media.name.as_deref().unwrap_or(name));
                json.key("file_data").string(&data_url(mime, &data));
                write_mark(json, has_mark);
            }),
            MediaKind::Audio | MediaKind::Video => {
                let problem = "can't hold audio or video for this model, which is called through OpenAI's \
                               Responses API";
                return Err(ConvertError::unsupported("messages", problem));
            }
        }
        Ok(json.finish())
    }

    /// Whether a mark is written.
    fn has_mark(&mut self, cache: Option<CacheMark>) -> Result<bool, ConvertError> {
        if cache.is_some() && !self.target.takes_cache_breakpoints {
            self.dropped.drop("cache_control")?;
        }
        Ok(cache.is_some() && self.target.takes_cache_breakpoints)
    }
}

/// A message of the model's that is being collected.
#[derive(Default)]
struct Message<'m> {
    phase: Option<&'m str>,
    parts: Vec<Said<'m>>,
}

/// What the model said.
enum Said<'m> {
    Text(&'m str),
    Refusal(&'m str),
}

impl Said<'_> {
    fn write(&self, json: &mut JsonWriter) {
        json.object(|json| match self {
            Self::Text(text) => {
                json.key("type").string("output_text");
                json.key("text").string(text);
                json.key("annotations").array(|_| {});
            }
            Self::Refusal(refusal) => {
                json.key("type").string("refusal");
                json.key("refusal").string(refusal);
            }
        });
    }
}

fn write_text(json: &mut JsonWriter, kind: &str, text: Option<&str>) {
    if let Some(text) = text {
        json.object(|json| {
            json.key("type").string(kind);
            json.key("text").string(text);
        });
    }
}

fn write_mark(json: &mut JsonWriter, has_mark: bool) {
    if has_mark {
        json.key("prompt_cache_breakpoint").object(|json| json.key("mode").string("explicit"));
    }
}
