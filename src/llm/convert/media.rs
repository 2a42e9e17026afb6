//! Where the content of media is: at an address on the web, or in a data URL.

use std::borrow::Cow;

use super::error::ConvertError;
use super::fields::Path;
use super::request::{MediaKind, MediaSource, Text};

/// Reads an address or a data URL. Addresses of other kinds, such as `gs://` and `s3://`, name what the
/// provider would read with the rights of the gateway's account, not with the caller's.
pub(super) fn read_url<'a>(
    url: Text<'a>,
    path: &Path<'_>,
) -> Result<MediaSource<'a>, ConvertError> {
    let begins = |scheme: &str| {
        url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    if begins("https://") || begins("http://") {
        return Ok(MediaSource::Url(url));
    }
    match begins("data:") {
        true => read_data_url(url, path),
        false => Err(path.invalid("must be an address that begins with 'https://', or a data URL")),
    }
}

/// Reads `data:<type>[;parameters];base64,<data>` (RFC 2397). The type becomes lower case and loses its
/// parameters; the data stay as they are.
pub(super) fn read_data_url<'a>(
    url: Text<'a>,
    path: &Path<'_>,
) -> Result<MediaSource<'a>, ConvertError> {
    let (mime, length) = split_data_url(&url).ok_or_else(|| {
        path.invalid("must be a data URL with base64, such as 'data:image/png;base64,...'")
    })?;
    let from = url.len() - length;
    let data = match url {
        Cow::Borrowed(url) => Cow::Borrowed(url.get(from..).unwrap_or_default()),
        Cow::Owned(mut url) => Cow::Owned(url.split_off(from)),
    };
    Ok(MediaSource::Inline { mime: mime.into(), data })
}

pub(super) fn data_url(mime: &str, data: &str) -> String {
    format!("data:{mime};base64,{data}")
}

/// The type, and the length of the data in bytes.
fn split_data_url(url: &str) -> Option<(String, usize)> {
    let (head, data) = url.split_once(',')?;
    let (scheme, kind) = head.split_once(':')?;
    let mut parameters = kind.split(';').map(str::trim);
    let mime = parameters.next().unwrap_or_default().to_ascii_lowercase();
    let is_base64 = parameters.any(|one| one.eq_ignore_ascii_case("base64"));
    (scheme.eq_ignore_ascii_case("data") && is_base64 && is_mime(&mime))
        .then_some((mime, data.len()))
}

/// Reads a media type: in lower case and without parameters.
pub(super) fn read_mime<'a>(mime: Text<'a>, path: &Path<'_>) -> Result<Text<'a>, ConvertError> {
    let essence = mime.split(';').next().unwrap_or_default().trim();
    if !is_mime(essence) {
        return Err(path.invalid("must be a media type, such as 'image/png'"));
    }
    let is_plain =
        essence.len() == mime.len() && !mime.bytes().any(|byte| byte.is_ascii_uppercase());
    Ok(if is_plain { mime } else { Cow::Owned(essence.to_ascii_lowercase()) })
}

/// Reads the format of audio, such as `wav`, as a media type.
pub(super) fn read_audio_format(
    format: &str,
    path: &Path<'_>,
) -> Result<Text<'static>, ConvertError> {
    let format = match &*format.to_ascii_lowercase() {
        // The registered name of MP3 (RFC 3003).
        "mp3" => "audio/mpeg".to_owned(),
        other => format!("audio/{other}"),
    };
    match is_mime(&format) {
        true => Ok(Cow::Owned(format)),
        false => Err(path.invalid("must be a format of audio, such as 'wav'")),
    }
}

/// Two names of RFC 6838 with a slash between them.
fn is_mime(mime: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    mime.split_once('/').is_some_and(|(kind, subtype)| is_name(kind) && is_name(subtype))
}

/// What a file of this type is.
pub(super) fn kind_of(source: &MediaSource<'_>) -> MediaKind {
    let mime = match source {
        MediaSource::Inline { mime, .. } => &**mime,
        MediaSource::Url(_) | MediaSource::Text(_) => "",
    };
    match mime.split('/').next() {
        Some("image") => MediaKind::Image,
        Some("audio") => MediaKind::Audio,
        Some("video") => MediaKind::Video,
        _ => MediaKind::Document,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_urls_are_taken_apart() {
        for (url, mime, data) in [
            ("data:image/png;base64,AA==", "image/png", "AA=="),
            ("DATA:Image/PNG;charset=utf-8; base64,a,b", "image/png", "a,b"),
            ("data:application/pdf;base64,", "application/pdf", ""),
        ] {
            let expected = MediaSource::Inline { mime: mime.into(), data: data.into() };
            for url in [Cow::Borrowed(url), Cow::Owned(url.to_owned())] {
                assert_eq!(read_url(url, &Path::ROOT.key("url")).unwrap(), expected);
            }
        }
        for url in [
            "",
            "data:",
            "data:,x",
            "data:image/png,x",
            "data:;base64,x",
            "data:a;base64,x",
            "x;base64,x",
        ] {
            assert!(read_data_url(url.into(), &Path::ROOT.key("url")).is_err(), "{url}");
        }
    }

    #[test]
    fn media_types_lose_case_and_parameters() {
        let path = Path::ROOT.key("media_type");
        for (mime, expected) in [
            ("image/png", Some("image/png")),
            ("Image/SVG+xml; charset=utf-8", Some("image/svg+xml")),
            (",image/png", None),
            ("image", None),
            ("image/", None),
            ("", None),
        ] {
            assert_eq!(read_mime(mime.into(), &path).ok().as_deref(), expected, "{mime}");
        }
        for (format, expected) in
            [("MP3", Some("audio/mpeg")), ("wav", Some("audio/wav")), ("a b", None), ("", None)]
        {
            assert_eq!(read_audio_format(format, &path).ok().as_deref(), expected, "{format}");
        }
    }

    #[test]
    fn only_the_web_can_be_named() {
        for url in ["https://example.com/a.png", "HTTP://example.com"] {
            let read = read_url(url.into(), &Path::ROOT.key("url"));
            assert_eq!(read.unwrap(), MediaSource::Url(url.into()));
        }
        for url in ["gs://bucket/a.png", "s3://bucket/a.png", "file:///etc/passwd", "a.png", ""] {
            assert!(read_url(url.into(), &Path::ROOT.key("url")).is_err(), "{url}");
        }
    }
}
