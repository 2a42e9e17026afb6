//! Images, documents, audio and video. Converse names formats, not media types, and takes content with the
//! request. What is in S3 it would read with the rights of the gateway's account.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::error::ConvertError;
use super::super::request::{Media, MediaKind, MediaSource};
use super::documents::DocumentNames;
use crate::json::writer::JsonWriter;

/// Formats by media type (AWS, `ImageBlock`, `DocumentBlock`, `AudioBlock`, `VideoBlock`).
const IMAGES: &[(&str, &str)] = &[
    ("image/jpeg", "jpeg"),
    ("image/jpg", "jpeg"),
    ("image/png", "png"),
    ("image/gif", "gif"),
    ("image/webp", "webp"),
];
const DOCUMENTS: &[(&str, &str)] = &[
    ("application/pdf", "pdf"),
    ("text/plain", "txt"),
    ("text/markdown", "md"),
    ("text/html", "html"),
    ("text/csv", "csv"),
    ("application/msword", "doc"),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"),
    ("application/vnd.ms-excel", "xls"),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
];
const AUDIO: &[(&str, &str)] = &[
    ("audio/wav", "wav"),
    ("audio/x-wav", "wav"),
    ("audio/mpeg", "mp3"),
    ("audio/mp3", "mp3"),
    ("audio/flac", "flac"),
    ("audio/ogg", "ogg"),
    ("audio/opus", "opus"),
    ("audio/aac", "aac"),
    ("audio/mp4", "mp4"),
    ("audio/m4a", "m4a"),
    ("audio/webm", "webm"),
];
const VIDEO: &[(&str, &str)] = &[
    ("video/mp4", "mp4"),
    ("video/quicktime", "mov"),
    ("video/webm", "webm"),
    ("video/x-matroska", "mkv"),
    ("video/x-flv", "flv"),
    ("video/mpeg", "mpeg"),
    ("video/x-ms-wmv", "wmv"),
    ("video/3gpp", "three_gp"),
];

/// The key of the block, which is also what errors call it.
pub(super) fn kind_name(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Image => "image",
        MediaKind::Document => "document",
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
    }
}

fn formats(kind: MediaKind) -> &'static [(&'static str, &'static str)] {
    match kind {
        MediaKind::Image => IMAGES,
        MediaKind::Document => DOCUMENTS,
        MediaKind::Audio => AUDIO,
        MediaKind::Video => VIDEO,
    }
}

pub(super) fn write_media(
    media: &Media<'_>,
    documents: &mut DocumentNames,
    json: &mut JsonWriter,
) -> Result<(), ConvertError> {
    let kind = kind_name(media.kind);
    let (format, content) = match &media.source {
        MediaSource::Inline { mime, data } => {
            let format = formats(media.kind).iter().find(|(known, _)| known == mime);
            let Some((_, format)) = format else {
                let problem = format!(
                    "hold {kind} of the type '{mime}', which Bedrock's Converse API does not take"
                );
                return Err(ConvertError::unsupported("messages", problem));
            };
            (*format, Cow::Borrowed(&**data))
        }
        MediaSource::Text(text) => ("txt", Cow::Owned(STANDARD.encode(&**text))),
        MediaSource::Url(_) => {
            let problem = format!(
                "hold {kind} by its address, which can't be sent to Bedrock's Converse API; send its \
                 content"
            );
            return Err(ConvertError::unsupported("messages", problem));
        }
    };
    json.object(|json| {
        json.key(kind).object(|json| {
            json.key("format").string(format);
            if media.kind == MediaKind::Document {
                json.key("name").string(&documents.fit(media.name.as_deref()));
            }
            json.key("source").object(|json| json.key("bytes").string(&content));
        });
    });
    Ok(())
}
