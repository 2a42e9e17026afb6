//! The parts of a message, and of a function's output.

use super::super::error::ConvertError;
use super::super::fields::{Fields, Path, array, text};
use super::super::media::{kind_of, read_audio_format, read_data_url, read_url};
use super::super::request::{Block, CacheMark, Media, MediaKind, MediaSource, TextBlock};
use super::only_openai;

const FILE_ID: &str = "names a file in an account at OpenAI; send the content itself";

/// Whose content it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    /// The caller, or a function.
    Input,
    Assistant,
}

/// Reads a string, or an array of parts.
pub(super) fn read_content<'a>(
    raw: &'a str,
    path: &Path<'_>,
    author: Author,
) -> Result<Vec<Block<'a>>, ConvertError> {
    if raw.starts_with('"') {
        let text = text(raw, path)?;
        return Ok(vec![Block::Text(TextBlock { text, ..TextBlock::default() })]);
    }
    if !raw.starts_with('[') {
        return Err(path.invalid("must be a string or an array"));
    }
    let parts = array(raw, path)?.into_iter().enumerate();
    parts.map(|(index, raw)| read_part(raw, &path.index(index), author)).collect()
}

fn read_part<'a>(raw: &'a str, path: &Path<'_>, author: Author) -> Result<Block<'a>, ConvertError> {
    let fields = Fields::parse(raw, path)?;
    let kind = fields.required_text("type", path)?;
    match (&*kind, author) {
        ("input_text", Author::Input) | ("output_text", Author::Assistant) => {
            Ok(Block::Text(TextBlock {
                text: fields.required_text("text", path)?,
                cache: cache_mark(&fields),
                ..TextBlock::default()
            }))
        }
        ("refusal", Author::Assistant) => {
            Ok(Block::Refusal(fields.required_text("refusal", path)?))
        }
        ("input_image", Author::Input) => read_image(&fields, path),
        ("input_file", Author::Input) => read_file(&fields, path),
        ("input_audio", Author::Input) => read_audio(&fields, path),
        ("input_text" | "input_image" | "input_file" | "input_audio", Author::Assistant) => {
            Err(path
                .key("type")
                .invalid("must be 'output_text' or 'refusal' in what the model said"))
        }
        ("output_text" | "refusal", Author::Input) => {
            Err(path.key("type").invalid("must be the type of an input, such as 'input_text'"))
        }
        _ => Err(path.key("type").unsupported(only_openai(&kind, "content"))),
    }
}

fn read_image<'a>(fields: &Fields<'a>, path: &Path<'_>) -> Result<Block<'a>, ConvertError> {
    refuse_file_id(fields, path)?;
    let url = fields.required_text("image_url", path)?;
    let source = read_url(url, &path.key("image_url"))?;
    let detail = fields.text("detail", path)?.filter(|detail| detail != "auto");
    let kind = MediaKind::Image;
    Ok(Block::Media(Media { kind, source, name: None, detail, cache: cache_mark(fields) }))
}

fn read_file<'a>(fields: &Fields<'a>, path: &Path<'_>) -> Result<Block<'a>, ConvertError> {
    refuse_file_id(fields, path)?;
    let source = match fields.text("file_url", path)? {
        Some(url) => read_url(url, &path.key("file_url"))?,
        None => {
            let data = fields.required_text("file_data", path)?;
            read_data_url(data, &path.key("file_data"))?
        }
    };
    let kind = kind_of(&source);
    let name = fields.text("filename", path)?;
    Ok(Block::Media(Media { kind, source, name, detail: None, cache: cache_mark(fields) }))
}

fn read_audio<'a>(fields: &Fields<'a>, path: &Path<'_>) -> Result<Block<'a>, ConvertError> {
    let place = path.key("input_audio");
    let audio = fields.object("input_audio", path)?.ok_or_else(|| place.invalid("is required"))?;
    let format = audio.required_text("format", &place)?;
    let mime = read_audio_format(&format, &place.key("format"))?;
    let source = MediaSource::Inline { mime, data: audio.required_text("data", &place)? };
    let kind = MediaKind::Audio;
    Ok(Block::Media(Media { kind, source, name: None, detail: None, cache: cache_mark(fields) }))
}

fn refuse_file_id(fields: &Fields<'_>, path: &Path<'_>) -> Result<(), ConvertError> {
    match fields.get("file_id") {
        Some(_) => Err(path.key("file_id").unsupported(FILE_ID)),
        None => Ok(()),
    }
}

/// OpenAI's marks all have the same lifetime.
fn cache_mark(fields: &Fields<'_>) -> Option<CacheMark> {
    fields.get("prompt_cache_breakpoint").map(|_| CacheMark::FiveMinutes)
}
