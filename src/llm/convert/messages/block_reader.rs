//! Reads the blocks of a message.

use std::borrow::Cow;

use crate::llm::convert::error::ConvertError;
use crate::llm::convert::fields::{Fields, Path, array, text};
use crate::llm::convert::media::{read_mime, read_url};
use crate::llm::convert::opaque::{Family, Opaque, OpaqueKind};
use crate::llm::convert::request::{
    Block, CacheMark, Media, MediaKind, MediaSource, ReasoningBlock, Role, TextBlock, ToolCall,
    ToolResult,
};

/// Begins the types and names of the tools that search for tools.
pub(super) const TOOL_SEARCH: &str = "tool_search_tool_";

type LeftOut<'l, 'a> = &'l mut Vec<Cow<'a, str>>;

/// Reads the blocks of a message of this role.
pub(super) fn read_blocks<'a>(
    raw: &[&'a str],
    role: Role,
    path: &Path<'_>,
    left_out: LeftOut<'_, 'a>,
) -> Result<Vec<Block<'a>>, ConvertError> {
    let mut blocks = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let path = path.index(index);
        let fields = Fields::parse(raw, &path)?;
        let kind = fields.required_text("type", &path)?;
        match (&*kind, role) {
            ("text", _) => blocks.push(Block::Text(read_text(&fields, &path, left_out)?)),
            ("image" | "document", Role::User) => {
                blocks.push(Block::Media(read_media(&kind, &fields, &path, left_out)?));
            }
            ("search_result", Role::User) => read_search_result(&fields, &path, &mut blocks)?,
            ("tool_result", Role::User) => {
                blocks.push(Block::ToolResult(read_result(&fields, &path, left_out)?));
            }
            ("tool_use", Role::Assistant) => {
                blocks.push(Block::ToolCall(read_call(&fields, &path)?));
            }
            ("thinking" | "redacted_thinking", Role::Assistant) => {
                blocks.extend(read_thinking(&kind, &fields, &path)?.map(Block::Reasoning));
            }
            ("server_tool_use", Role::Assistant)
                if fields
                    .text("name", &path)?
                    .is_some_and(|name| name.starts_with(TOOL_SEARCH)) =>
            {
                left_out.push(Cow::Borrowed("messages.content.tool_search"));
            }
            ("tool_search_tool_result", Role::Assistant) => {
                left_out.push(Cow::Borrowed("messages.content.tool_search"));
            }
            // The tool is in `tools`, and other formats have it from the beginning.
            ("tool_addition", Role::System) => {
                left_out.push(Cow::Borrowed("messages.content.tool_addition"));
            }
            _ => {
                let problem = format!("can't be \"{kind}\" in this message for this model");
                return Err(path.key("type").unsupported(problem));
            }
        }
    }
    Ok(blocks)
}

/// A block of text. Citations of an earlier answer are left out.
pub(super) fn read_text<'a>(
    fields: &Fields<'a>,
    path: &Path<'_>,
    left_out: LeftOut<'_, 'a>,
) -> Result<TextBlock<'a>, ConvertError> {
    if fields.get("citations").is_some_and(|raw| raw != "[]") {
        left_out.push(Cow::Borrowed("messages.content.citations"));
    }
    let text = fields.required_text("text", path)?;
    Ok(TextBlock { text, cache: read_cache(fields, path)?, ..TextBlock::default() })
}

/// `cache_control`.
pub(super) fn read_cache(
    fields: &Fields<'_>,
    path: &Path<'_>,
) -> Result<Option<CacheMark>, ConvertError> {
    let Some(control) = fields.object("cache_control", path)? else { return Ok(None) };
    let ttl = control.text("ttl", &path.key("cache_control"))?;
    let is_long = ttl.as_deref() == Some("1h");
    Ok(Some(if is_long { CacheMark::OneHour } else { CacheMark::FiveMinutes }))
}

/// Thoughts. `None` if there are none, and nothing in their place.
fn read_thinking<'a>(
    kind: &str,
    fields: &Fields<'a>,
    path: &Path<'_>,
) -> Result<Option<ReasoningBlock<'a>>, ConvertError> {
    let (text, opaque) = if kind == "thinking" {
        let signature = fields.text("signature", path)?.unwrap_or_default();
        let opaque = Opaque::from_field(signature, Family::Anthropic, OpaqueKind::Signature);
        (fields.required_text("thinking", path)?, opaque)
    } else {
        let data = fields.required_text("data", path)?;
        let opaque = Opaque::from_field(data, Family::Anthropic, OpaqueKind::Redacted);
        (Cow::default(), opaque)
    };
    // What OpenAI shows is a summary.
    let is_summary = opaque.as_ref().is_some_and(|opaque| opaque.is_of(Family::OpenAi));
    let has_content = opaque.is_some() || !text.is_empty();
    let opaque = opaque.into_iter().collect();
    Ok(has_content.then_some(ReasoningBlock { text, is_summary, opaque }))
}

fn read_call<'a>(fields: &Fields<'a>, path: &Path<'_>) -> Result<ToolCall<'a>, ConvertError> {
    Ok(ToolCall {
        id: fields.required_text("id", path)?,
        name: fields.required_text("name", path)?,
        arguments: Cow::Borrowed(fields.get("input").unwrap_or("{}")),
        opaque: Vec::new(),
        cache: read_cache(fields, path)?,
    })
}

fn read_result<'a>(
    fields: &Fields<'a>,
    path: &Path<'_>,
    left_out: LeftOut<'_, 'a>,
) -> Result<ToolResult<'a>, ConvertError> {
    let place = path.key("content");
    let content = match fields.get("content") {
        None => Vec::new(),
        Some(raw) if raw.starts_with('"') => {
            let text = text(raw, &place)?;
            vec![Block::Text(TextBlock { text, ..TextBlock::default() })]
        }
        Some(raw) => {
            let raw = array(raw, &place);
            let raw = raw.map_err(|_| place.invalid("must be a string or an array"))?;
            read_result_blocks(&raw, &place, left_out)?
        }
    };
    Ok(ToolResult {
        id: fields.required_text("tool_use_id", path)?,
        name: None,
        content,
        is_error: fields.boolean("is_error", path)?.unwrap_or(false),
        cache: read_cache(fields, path)?,
    })
}

fn read_result_blocks<'a>(
    raw: &[&'a str],
    path: &Path<'_>,
    left_out: LeftOut<'_, 'a>,
) -> Result<Vec<Block<'a>>, ConvertError> {
    let mut blocks = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let path = path.index(index);
        let fields = Fields::parse(raw, &path)?;
        let kind = fields.required_text("type", &path)?;
        match &*kind {
            "text" => blocks.push(Block::Text(read_text(&fields, &path, left_out)?)),
            "image" | "document" => {
                blocks.push(Block::Media(read_media(&kind, &fields, &path, left_out)?));
            }
            "search_result" => read_search_result(&fields, &path, &mut blocks)?,
            "tool_reference" => {
                let text = fields.required_text("tool_name", &path)?;
                blocks.push(Block::Text(TextBlock { text, ..TextBlock::default() }));
            }
            _ => {
                let problem = format!("can't be \"{kind}\" in a tool's result for this model");
                return Err(path.key("type").unsupported(problem));
            }
        }
    }
    Ok(blocks)
}

/// The texts that a search found.
fn read_search_result<'a>(
    fields: &Fields<'a>,
    path: &Path<'_>,
    blocks: &mut Vec<Block<'a>>,
) -> Result<(), ConvertError> {
    let place = path.key("content");
    for (index, raw) in fields.array("content", path)?.into_iter().enumerate() {
        let place = place.index(index);
        let text = Fields::parse(raw, &place)?.required_text("text", &place)?;
        blocks.push(Block::Text(TextBlock { text, ..TextBlock::default() }));
    }
    let cache = read_cache(fields, path)?;
    if let Some(Block::Text(last)) = blocks.last_mut() {
        last.cache = cache.or(last.cache);
    }
    Ok(())
}

fn read_media<'a>(
    kind: &str,
    fields: &Fields<'a>,
    path: &Path<'_>,
    left_out: LeftOut<'_, 'a>,
) -> Result<Media<'a>, ConvertError> {
    let is_image = kind == "image";
    if fields.get("context").is_some() {
        left_out.push(Cow::Borrowed("messages.content.context"));
    }
    let citations = fields.object("citations", path)?;
    if citations.is_some_and(|citations| citations.get("enabled") == Some("true")) {
        left_out.push(Cow::Borrowed("messages.content.citations"));
    }
    let place = path.key("source");
    let source = fields.object("source", path)?.ok_or_else(|| place.invalid("is required"))?;
    let source = match &*source.required_text("type", &place)? {
        "url" => read_url(source.required_text("url", &place)?, &place.key("url"))?,
        "base64" => MediaSource::Inline {
            mime: read_mime(source.required_text("media_type", &place)?, &place.key("media_type"))?,
            data: source.required_text("data", &place)?,
        },
        "text" if !is_image => MediaSource::Text(source.required_text("data", &place)?),
        "content" if !is_image => MediaSource::Text(read_content_source(&source, &place)?),
        "file" => {
            let problem = "can't be \"file\": files belong to an account at Anthropic; send the \
                           content";
            return Err(place.key("type").unsupported(problem));
        }
        _ => return Err(place.key("type").invalid("is not known")),
    };
    Ok(Media {
        kind: if is_image { MediaKind::Image } else { MediaKind::Document },
        source,
        name: fields.text("title", path)?,
        detail: None,
        cache: read_cache(fields, path)?,
    })
}

/// A document that the caller cut into texts.
fn read_content_source<'a>(
    source: &Fields<'a>,
    path: &Path<'_>,
) -> Result<Cow<'a, str>, ConvertError> {
    let place = path.key("content");
    let raw = source.get("content").ok_or_else(|| place.invalid("is required"))?;
    if raw.starts_with('"') {
        return text(raw, &place);
    }
    let mut document = String::new();
    for (index, raw) in array(raw, &place)?.into_iter().enumerate() {
        let place = place.index(index);
        let fields = Fields::parse(raw, &place)?;
        if fields.required_text("type", &place)? != "text" {
            return Err(place.key("type").unsupported("must be \"text\" for this model"));
        }
        document.push_str(&fields.required_text("text", &place)?);
    }
    Ok(Cow::Owned(document))
}
