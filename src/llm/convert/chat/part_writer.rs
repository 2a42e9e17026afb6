//! Media in a user's message.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::error::ConvertError;
use super::super::media::data_url;
use super::super::request::{Media, MediaKind, MediaSource};
use crate::json::writer::JsonWriter;

/// The name of a document that has none. OpenAI refuses a file without a name.
const UNNAMED: &str = "document.pdf";

/// An error for media that chats have nothing for.
pub(super) fn check_media(media: &Media<'_>) -> Result<(), ConvertError> {
    let problem = match (media.kind, &media.source) {
        (MediaKind::Document, MediaSource::Url(_)) => {
            "hold a document by its URL, which this model's provider does not take; send its data"
        }
        (MediaKind::Audio, MediaSource::Url(_)) => {
            "hold audio by its URL, which this model's provider does not take; send its data"
        }
        (MediaKind::Video, _) => "hold a video, which this model's provider does not take",
        _ => return Ok(()),
    };
    Err(ConvertError::unsupported("messages", problem))
}

/// Writes a part. Media that [`check_media`] refuses write nothing.
pub(super) fn write_media(json: &mut JsonWriter, media: &Media<'_>) {
    match (media.kind, &media.source) {
        (_, MediaSource::Text(text)) => write_text(json, text),
        (MediaKind::Image, MediaSource::Url(url)) => write_image(json, url, media),
        (MediaKind::Image, MediaSource::Inline { mime, data }) => {
            write_image(json, &data_url(mime, data), media);
        }
        (MediaKind::Document, MediaSource::Inline { mime, data }) => {
            match decode_text(mime, data) {
                Some(text) => write_text(json, &text),
                None => json.object(|json| {
                    json.key("type").string("file");
                    json.key("file").object(|json| {
                        json.key("filename").string(media.name.as_deref().unwrap_or(UNNAMED));
                        json.key("file_data").string(&data_url(mime, data));
                    });
                }),
            }
        }
        (MediaKind::Audio, MediaSource::Inline { mime, data }) => json.object(|json| {
            json.key("type").string("input_audio");
            json.key("input_audio").object(|json| {
                json.key("data").string(data);
                json.key("format").string(audio_format(mime));
            });
        }),
        _ => {}
    }
}

pub(super) fn write_text(json: &mut JsonWriter, text: &str) {
    json.object(|json| {
        json.key("type").string("text");
        json.key("text").string(text);
    });
}

fn write_image(json: &mut JsonWriter, url: &str, media: &Media<'_>) {
    json.object(|json| {
        json.key("type").string("image_url");
        json.key("image_url").object(|json| {
            json.key("url").string(url);
            json.optional_string("detail", media.detail.as_ref());
        });
    });
}

/// A document of plain text, which chats have as text alone.
fn decode_text(mime: &str, data: &str) -> Option<String> {
    let bytes = mime.starts_with("text/").then(|| STANDARD.decode(data).ok())??;
    String::from_utf8(bytes).ok()
}

fn audio_format(mime: &str) -> &str {
    match mime.strip_prefix("audio/").unwrap_or(mime) {
        "mpeg" => "mp3",
        "x-wav" | "wave" => "wav",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media<'a>(kind: MediaKind, source: MediaSource<'a>) -> Media<'a> {
        Media { kind, source, name: None, detail: None, cache: None }
    }

    #[test]
    fn media_are_written_as_parts() {
        let inline = |mime: &'static str, data: &'static str| MediaSource::Inline {
            mime: mime.into(),
            data: data.into(),
        };
        for (media, expected) in [
            (
                Media {
                    detail: Some("low".into()),
                    ..media(MediaKind::Image, MediaSource::Url("https://x/a".into()))
                },
                r#"{"type":"image_url","image_url":{"url":"https://x/a","detail":"low"}}"#,
            ),
            (
                media(MediaKind::Image, inline("image/png", "aGk=")),
                r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,aGk="}}"#,
            ),
            (
                media(MediaKind::Document, inline("application/pdf", "JVBE")),
                r#"{"type":"file","file":{"filename":"document.pdf","file_data":"data:application/pdf;base64,JVBE"}}"#,
            ),
            (
                media(MediaKind::Document, inline("text/plain", "aGk=")),
                r#"{"type":"text","text":"hi"}"#,
            ),
            (
                media(MediaKind::Document, MediaSource::Text("hi".into())),
                r#"{"type":"text","text":"hi"}"#,
            ),
            (
                media(MediaKind::Audio, inline("audio/mpeg", "SUQz")),
                r#"{"type":"input_audio","input_audio":{"data":"SUQz","format":"mp3"}}"#,
            ),
        ] {
            check_media(&media).unwrap();
            let mut json = JsonWriter::new();
            write_media(&mut json, &media);
            assert_eq!(json.finish(), expected);
        }
    }

    #[test]
    fn media_without_a_counterpart_are_refused() {
        let url = || MediaSource::Url("https://x/a".into());
        for kind in [MediaKind::Document, MediaKind::Audio, MediaKind::Video] {
            assert!(check_media(&media(kind, url())).is_err(), "{kind:?}");
        }
    }
}
