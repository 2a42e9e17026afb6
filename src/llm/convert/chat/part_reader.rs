//! The parts of a message's content: texts, images, files, audio.

use super::super::error::ConvertError;
use super::super::fields::{Fields, Path, array, text};
use super::super::media::{kind_of, read_audio_format, read_data_url, read_url};
use super::super::request::{Block, CacheMark, Media, MediaKind, MediaSource, TextBlock};

/// Who says the content, which decides what it may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    /// Texts only.
    System,
    /// Texts and media.
    User,
    /// Texts and refusals.
    Assistant,
    /// The result of a tool: texts, and media as some clients send them.
    Tool,
}

/// Reads a content: a string, or an array of parts.
pub(super) fn read_content<'a>(
    raw: &'a str,
    path: &Path<'_>,
    speaker: Speaker,
) -> Result<Vec<Block<'a>>, ConvertError> {
    if raw.starts_with('"') {
        let text = text(raw, path)?;
        return Ok(vec![Block::Text(TextBlock { text, ..TextBlock::default() })]);
    }
    if !raw.starts_with('[') {
        return Err(path.invalid("must be a string or an array of parts"));
    }
    let parts = array(raw, path)?.into_iter().enumerate();
    parts.map(|(index, raw)| read_part(raw, &path.index(index), speaker)).collect()
}

fn read_part<'a>(
    raw: &'a str,
    path: &Path<'_>,
    speaker: Speaker,
) -> Result<Block<'a>, ConvertError> {
    let fields = Fields::parse(raw, path)?;
    let kind = fields.required_text("type", path)?;
    let takes_media = matches!(speaker, Speaker::User | Speaker::Tool);
    let cache = cache_mark(&fields, path)?;
    match &*kind {
        "text" => {
            let text = fields.required_text("text", path)?;
            Ok(Block::Text(TextBlock { text, cache, ..TextBlock::default() }))
        }
        "refusal" if speaker == Speaker::Assistant => {
            Ok(Block::Refusal(fields.required_text("refusal", path)?))
        }
        "image_url" | "video_url" | "file" | "input_audio" if takes_media => {
            let place = path.key(&kind);
            let inner = fields.object(&kind, path)?.ok_or_else(|| place.invalid("is required"))?;
            let media = match &*kind {
                "image_url" => Media {
                    detail: inner.text("detail", &place)?.filter(|detail| detail != "auto"),
                    ..read_link(&inner, &place, MediaKind::Image)?
                },
                "video_url" => read_link(&inner, &place, MediaKind::Video)?,
                "file" => read_file(&inner, &place)?,
                _ => read_audio(&inner, &place)?,
            };
            Ok(Block::Media(Media { cache, ..media }))
        }
        "image_url" | "video_url" | "file" | "input_audio" => {
            Err(path.unsupported("is not supported here; only a user's message can hold media"))
        }
        _ => Err(path.key("type").unsupported("is not supported by this model's provider")),
    }
}

/// OpenAI's `prompt_cache_breakpoint`, or `cache_control` as Anthropic and OpenRouter have it.
pub(super) fn cache_mark(
    fields: &Fields<'_>,
    path: &Path<'_>,
) -> Result<Option<CacheMark>, ConvertError> {
    if let Some(control) = fields.object("cache_control", path)? {
        let is_hour =
            control.text("ttl", &path.key("cache_control"))?.is_some_and(|ttl| ttl == "1h");
        return Ok(Some(if is_hour { CacheMark::OneHour } else { CacheMark::FiveMinutes }));
    }
    let breakpoint = fields.object("prompt_cache_breakpoint", path)?;
    Ok(breakpoint.map(|_| CacheMark::FiveMinutes))
}

fn read_link<'a>(
    fields: &Fields<'a>,
    path: &Path<'_>,
    kind: MediaKind,
) -> Result<Media<'a>, ConvertError> {
    let url = fields.required_text("url", path)?;
    let source = read_url(url, &path.key("url"))?;
    Ok(Media { kind, source, name: None, detail: None, cache: None })
}

fn read_file<'a>(fields: &Fields<'a>, path: &Path<'_>) -> Result<Media<'a>, ConvertError> {
    if fields.get("file_id").is_some() {
        let problem = "is not supported by this model's provider, since a file's id is only known \
                       where it was uploaded; send the content in 'file_data'";
        return Err(path.key("file_id").unsupported(problem));
    }
    let data = fields.required_text("file_data", path)?;
    let source = read_data_url(data, &path.key("file_data"))?;
    let kind = kind_of(&source);
    Ok(Media { kind, source, name: fields.text("filename", path)?, detail: None, cache: None })
}

fn read_audio<'a>(fields: &Fields<'a>, path: &Path<'_>) -> Result<Media<'a>, ConvertError> {
    let data = fields.required_text("data", path)?;
    let mime = read_audio_format(&fields.required_text("format", path)?, &path.key("format"))?;
    let source = MediaSource::Inline { mime, data };
    Ok(Media { kind: MediaKind::Audio, source, name: None, detail: None, cache: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, speaker: Speaker) -> Result<Vec<Block<'_>>, ConvertError> {
        read_content(json, &Path::ROOT.key("content"), speaker)
    }

    fn media(json: &str) -> Media<'_> {
        match read(json, Speaker::User).unwrap().pop() {
            Some(Block::Media(media)) => media,
            other => panic!("{other:?}"),
        }
    }

    fn inline<'a>(mime: &'a str, data: &'a str) -> MediaSource<'a> {
        MediaSource::Inline { mime: mime.into(), data: data.into() }
    }

    #[test]
    fn parts_become_blocks() {
        let json = r#"[{"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"1h"}},
            {"type":"text","text":"b","prompt_cache_breakpoint":{"mode":"explicit"}},
            {"type":"text","text":""}]"#;
        let blocks = read(json, Speaker::System).unwrap();
        let read: Vec<_> = blocks
            .iter()
            .map(|block| match block {
                Block::Text(text) => (&*text.text, text.cache),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected =
            [("a", Some(CacheMark::OneHour)), ("b", Some(CacheMark::FiveMinutes)), ("", None)];
        assert_eq!(read, expected);
        let refusal = r#"[{"type":"refusal","refusal":"no"}]"#;
        assert_eq!(
            read_content(refusal, &Path::ROOT, Speaker::Assistant).unwrap(),
            [Block::Refusal("no".into())]
        );
    }

    #[test]
    fn media_come_as_links_or_data() {
        let image =
            media(r#"[{"type":"image_url","image_url":{"url":"https://x/a.png","detail":"low"}}]"#);
        assert_eq!((image.kind, image.detail.as_deref()), (MediaKind::Image, Some("low")));
        assert_eq!(image.source, MediaSource::Url("https://x/a.png".into()));
        for (json, kind, mime, data) in [
            (
                r#"[{"type":"image_url","image_url":{"url":"DATA:Image/PNG;charset=utf-8;base64,aGk=","detail":"auto"}}]"#,
                MediaKind::Image,
                "image/png",
                "aGk=",
            ),
            (
                r#"[{"type":"image_url","image_url":{"url":"data:image\/png;base64,aG\u006b="}}]"#,
                MediaKind::Image,
                "image/png",
                "aGk=",
            ),
            (
                r#"[{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,JVBE"}}]"#,
                MediaKind::Document,
                "application/pdf",
                "JVBE",
            ),
            (
                r#"[{"type":"input_audio","input_audio":{"data":"UklG","format":"wav"}}]"#,
                MediaKind::Audio,
                "audio/wav",
                "UklG",
            ),
            (
                r#"[{"type":"input_audio","input_audio":{"data":"SUQz","format":"mp3"}}]"#,
                MediaKind::Audio,
                "audio/mpeg",
                "SUQz",
            ),
            (
                r#"[{"type":"video_url","video_url":{"url":"data:video/mp4;base64,AAAA"}}]"#,
                MediaKind::Video,
                "video/mp4",
                "AAAA",
            ),
        ] {
            let media = media(json);
            assert_eq!((media.kind, media.source, media.detail), (kind, inline(mime, data), None));
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (json, speaker, expected) in [
            ("3", Speaker::User, "'content' must be a string or an array of parts"),
            (r#"["a"]"#, Speaker::User, "'content[0]' must be an object"),
            (r#"[{"text":"a"}]"#, Speaker::User, "'content[0].type' is required"),
            (r#"[{"type":"text"}]"#, Speaker::User, "'content[0].text' is required"),
            (r#"[{"type":"image_url"}]"#, Speaker::User, "'content[0].image_url' is required"),
            (
                r#"[{"type":"image_url","image_url":{"url":"data:image/png,abc"}}]"#,
                Speaker::User,
                "'content[0].image_url.url' must be a data URL with base64, such as 'data:image/png;base64,...'",
            ),
            (
                r#"[{"type":"file","file":{"file_data":"JVBE"}}]"#,
                Speaker::User,
                "'content[0].file.file_data' must be a data URL with base64, such as 'data:image/png;base64,...'",
            ),
            (
                r#"[{"type":"image_url","image_url":{"url":"https://x"}}]"#,
                Speaker::Assistant,
                "'content[0]' is not supported here; only a user's message can hold media",
            ),
            (
                r#"[{"type":"refusal","refusal":"no"}]"#,
                Speaker::User,
                "'content[0].type' is not supported by this model's provider",
            ),
        ] {
            assert_eq!(read(json, speaker).unwrap_err().to_string(), expected, "{json}");
        }
        let file = r#"[{"type":"file","file":{"file_id":"file-1"}}]"#;
        assert_eq!(read(file, Speaker::User).unwrap_err().field(), "content[0].file.file_id");
    }
}
