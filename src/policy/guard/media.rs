//! Base64 in a request: media pass, and text in base64 is decoded to be scanned.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// A shorter string may be a word that happens to consist of base64's characters.
const MIN_LENGTH: usize = 512;
/// How much is decoded to tell text from media: bytes of base64, a multiple of four.
const SAMPLE: usize = 1024;

const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);

/// A string in base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Encoded<'a> {
    /// The media type that a data URL names.
    media_type: Option<&'a [u8]>,
    base64: &'a [u8],
}

impl<'a> Encoded<'a> {
    /// The base64 that a string is, as the value of `key`: a data URL, or a long run of base64.
    pub(super) fn read(key: &[u8], text: &'a [u8]) -> Option<Self> {
        if text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"data:")) {
            let comma = memchr::memchr(b',', text.get(..256).unwrap_or(text))?;
            let (head, base64) = (text.get(5..comma)?, text.get(comma + 1..)?);
            let media_type = head.strip_suffix(b";base64")?;
            return is_base64(base64).then_some(Self { media_type: Some(media_type), base64 });
        }
        let is_media_key = matches!(
            key,
            b"data" | b"bytes" | b"file_data" | b"b64_json" | b"blob" | b"image" | b"result"
        );
        (is_media_key && text.len() >= MIN_LENGTH && is_base64(text))
            .then_some(Self { media_type: None, base64: text })
    }

    /// Whether it begins like a file of media, so that it is no text that happens to look like base64.
    pub(super) fn is_media_file(self) -> bool {
        let sample = self.base64.get(..64).unwrap_or(self.base64);
        self.media_type.is_some() || decode(sample).is_some_and(|head| begins_like_media(&head))
    }

    /// The text that it encodes; `None` for media. `declared` is what the body says about the type, where
    /// a data URL does not.
    pub(super) fn decode_text(self, declared: Option<bool>) -> Option<Vec<u8>> {
        let of_url = self.media_type.map(is_text_type);
        let is_text = of_url.or(declared) == Some(true)
            || looks_like_text(&decode(self.base64.get(..SAMPLE).unwrap_or(self.base64))?);
        let bytes = if is_text { decode(self.base64)? } else { return None };
        Some(match bytes.get(..2) {
            Some([0xff, 0xfe]) => from_utf16(&bytes, u16::from_le_bytes),
            Some([0xfe, 0xff]) => from_utf16(&bytes, u16::from_be_bytes),
            _ => bytes,
        })
    }
}

fn decode(base64: &[u8]) -> Option<Vec<u8>> {
    let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    if base64.iter().any(is_line_end) {
        let one_line: Vec<u8> = base64.iter().copied().filter(|byte| !is_line_end(byte)).collect();
        return decode(&one_line);
    }
    STANDARD.decode(base64).or_else(|_| URL_SAFE.decode(base64)).ok()
}

fn is_base64(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_\r\n".contains(byte))
}

/// Whether a media type, or Converse's name of a format, is one of text.
pub(super) fn is_text_type(media_type: &[u8]) -> bool {
    let end = memchr::memchr(b';', media_type).unwrap_or(media_type.len());
    let media_type = media_type.get(..end).unwrap_or_default().to_ascii_lowercase();
    media_type.starts_with(b"text/")
        || media_type.ends_with(b"+json")
        || media_type.ends_with(b"+xml")
        || matches!(
            media_type.strip_prefix(b"application/").unwrap_or(&media_type),
            b"json"
                | b"jsonl"
                | b"xml"
                | b"yaml"
                | b"x-yaml"
                | b"javascript"
                | b"sql"
                | b"toml"
                | b"csv"
                | b"html"
                | b"txt"
                | b"md"
                | b"x-ndjson"
                | b"x-sh"
        )
}

/// The signatures of images, audio, video, PDF, and archives, which office documents are. WHATWG MIME
/// Sniffing, section 6.
fn begins_like_media(head: &[u8]) -> bool {
    let signatures: [&[u8]; 16] = [
        b"\x89PNG",
        b"\xff\xd8\xff",
        b"GIF8",
        b"RIFF",
        b"BM",
        b"II*\0",
        b"MM\0*",
        b"%PDF-",
        b"PK\x03\x04",
        b"\xd0\xcf\x11\xe0",
        b"ID3",
        b"OggS",
        b"fLaC",
        b"\x1a\x45\xdf\xa3",
        b"\xff\xfb",
        b"\x1f\x8b",
    ];
    signatures.iter().any(|signature| head.starts_with(signature))
        || head.get(4..8) == Some(b"ftyp")
}

/// WHATWG MIME Sniffing, section 7.2, "binary data byte"; what begins like a PDF is none of text.
fn looks_like_text(bytes: &[u8]) -> bool {
    let is_binary = |byte: &u8| matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    let has_mark = matches!(bytes.get(..2), Some([0xff, 0xfe] | [0xfe, 0xff]));
    has_mark || !(bytes.iter().any(is_binary) || bytes.starts_with(b"%PDF-"))
}

fn from_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Vec<u8> {
    let (units, _) = bytes.as_chunks::<2>();
    let text: String = char::decode_utf16(units.iter().map(|pair| unit(*pair)))
        .map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(key: &str, text: &str, declared: Option<bool>) -> Option<String> {
        let bytes = Encoded::read(key.as_bytes(), text.as_bytes())?.decode_text(declared)?;
        Some(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn text_is_told_from_media() {
        let text = "Mail to a@b.co. ".repeat(40);
        let lines: Vec<u8> =
            STANDARD.encode(&text).into_bytes().chunks(76).collect::<Vec<_>>().join(&b"\r\n"[..]);
        assert_eq!(decoded("data", std::str::from_utf8(&lines).unwrap(), None), Some(text.clone()));
        for engine in [STANDARD, URL_SAFE] {
            assert_eq!(decoded("data", &engine.encode(&text), None), Some(text.clone()));
        }
        let url = format!("data:text/plain;charset=utf-8;base64,{}", STANDARD.encode("a@b.co"));
        assert_eq!(decoded("url", &url, None).as_deref(), Some("a@b.co"));
        // What is declared to be an image and is text is text.
        let url = format!("data:image/png;base64,{}", STANDARD.encode("a@b.co"));
        assert_eq!(decoded("url", &url, None).as_deref(), Some("a@b.co"));
        let image = STANDARD.encode([&b"\x89PNG\r\n\x1a\n"[..], &[0; 600]].concat());
        assert_eq!(decoded("data", &image, None), None);
        assert_eq!(decoded("data", &image, Some(false)), None);
        let utf16: Vec<u8> =
            std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        assert!(decoded("bytes", &STANDARD.encode(utf16), None).unwrap().ends_with(&text));
    }

    #[test]
    fn what_is_not_base64() {
        for (key, text) in [
            ("data", "hello"),
            ("text", &"A".repeat(600)),
            ("url", "https://a/"),
            ("url", "data:,a@b.co"),
        ] {
            assert_eq!(Encoded::read(key.as_bytes(), text.as_bytes()), None);
        }
        assert!(is_text_type(b"Application/JSON; charset=utf-8") && is_text_type(b"md"));
        assert!(!is_text_type(b"application/pdf") && !is_text_type(b"png"));
    }
}
