//! Reading a response's head, and writing it again for awc in a form that has one meaning only.
//! awc then sees nothing of the original that two readers could take in two ways.

use std::mem::MaybeUninit;

use bytes::BytesMut;
use httparse::Status;

use super::framing::{Chunks, Framing};

/// awc's decoder takes 96; one place is for the `connection: close` that may be added.
const MAX_HEADERS: usize = 95;

/// What the bytes at hand are.
#[derive(Debug)]
pub(super) enum Head {
    /// Not yet a whole head.
    Partial,
    /// An interim response (1xx) of so many bytes; the answer is still to come.
    Interim(usize),
    Final(FinalHead),
}

#[derive(Debug)]
pub(super) struct FinalHead {
    /// So many bytes of the connection were the head.
    pub(super) length: usize,
    /// The head as awc gets to read it, with room for the bytes that came behind the original.
    pub(super) rewritten: BytesMut,
    pub(super) framing: Framing,
    /// May the connection serve another request afterwards?
    pub(super) reusable: bool,
}

/// The longest name of a header in the `http` crate, in bytes; awc would panic at a longer one.
const MAX_NAME: usize = u16::MAX as usize;

/// Reads a head at the beginning of `bytes`. An error says why it cannot be trusted.
pub(super) fn read(bytes: &[u8], answers_head_request: bool) -> Result<Head, String> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    // httparse's defaults refuse folded lines, blanks before the colon and control characters. Every
    // name that it accepts is one for awc as well, which would panic at others.
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        bytes,
        &mut headers,
    );
    let length = match parsed.map_err(|error| error.to_string())? {
        Status::Partial => return Ok(Head::Partial),
        Status::Complete(length) => length,
    };
    let (Some(version), Some(status)) = (response.version, response.code) else {
        return Err("the status line is incomplete".into());
    };
    match status {
        101 => return Err("it switches protocols, which nobody asked for".into()),
        100..200 => return Ok(Head::Interim(length)),
        200.. => {}
        _ => return Err("the status is not an HTTP status".into()),
    }

    let mut seen = FramingHeaders::default();
    for header in response.headers.iter() {
        if header.name.len() > MAX_NAME {
            return Err("a header's name is too long".into());
        }
        seen.header(header.name, header.value)?;
    }
    let bodiless = answers_head_request || matches!(status, 204 | 304);
    let framing = match (seen.chunked, seen.content_length) {
        (true, Some(_)) => {
            return Err("it has both a content-length and a transfer-encoding".into());
        }
        (true, None) if version == 0 => return Err("HTTP/1.0 has no transfer-encoding".into()),
        _ if bodiless => Framing::Sized(0),
        (true, None) => Framing::Chunked(Chunks::default()),
        (false, Some(length)) => Framing::Sized(length),
        (false, None) => Framing::UntilClose,
    };
    let reusable = version == 1 && !seen.closes && !framing.ends_at_close();

    let mut rewritten = BytesMut::with_capacity(bytes.len() + 64);
    // awc reads until the close only for HTTP/1.0, and takes a length of 0 in HTTP/1.0 for none.
    let version = if framing.ends_at_close() { 0 } else { 1 };
    rewritten.extend_from_slice(if version == 0 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    rewritten.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    rewritten.extend_from_slice(b"\r\n");
    for header in response.headers.iter() {
        let dropped = [
            // Written below, once, and only where awc is to go by it.
            ("content-length", true),
            ("transfer-encoding", bodiless),
            // `upgrade: websocket` makes awc forget the content-length.
            ("upgrade", true),
        ];
        if dropped.iter().any(|(name, drop)| *drop && header.name.eq_ignore_ascii_case(name)) {
            continue;
        }
        write_header(&mut rewritten, header.name, header.value);
    }
    if let Some(length) = seen.content_length
        && (!bodiless || answers_head_request)
    {
        let mut digits = itoa::Buffer::new();
        write_header(&mut rewritten, "content-length", digits.format(length).as_bytes());
    }
    if !reusable {
        write_header(&mut rewritten, "connection", b"close");
    }
    rewritten.extend_from_slice(b"\r\n");
    Ok(Head::Final(FinalHead { length, rewritten, framing, reusable }))
}

fn write_header(head: &mut BytesMut, name: &str, value: &[u8]) {
    head.extend_from_slice(name.as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

/// What the headers say about framing and reuse.
#[derive(Default)]
struct FramingHeaders {
    content_length: Option<u64>,
    chunked: bool,
    closes: bool,
}

impl FramingHeaders {
    fn header(&mut self, name: &str, value: &[u8]) -> Result<(), String> {
        if name.eq_ignore_ascii_case("content-length") {
            let length = decimal(value).ok_or("its content-length is not a number")?;
            if self.content_length.replace(length).is_some_and(|other| other != length) {
                return Err("it has two different content-lengths".into());
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if self.chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err("its transfer-encoding is not plain chunked".into());
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case("connection") {
            self.closes |=
                value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|option| {
                    option.eq_ignore_ascii_case(b"close") || option.eq_ignore_ascii_case(b"upgrade")
                });
        }
        Ok(())
    }
}

/// Digits only: no sign, no list, no blanks inside.
fn decimal(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii();
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use actix_http::header::HeaderName;

    use super::*;

    fn answer(head: &str) -> FinalHead {
        match read(head.as_bytes(), false) {
            Ok(Head::Final(head)) => head,
            other => panic!("{head:?} was read as {other:?}"),
        }
    }

    #[test]
    fn every_accepted_name_is_one_for_awc() {
        for byte in 0..=u8::MAX {
            let head = [b"HTTP/1.1 200 OK\r\nA", &[byte][..], b": b\r\n\r\n"].concat();
            let name = [b'a', byte];
            let is_accepted = read(&head, false).is_ok() && byte != b':';
            assert!(!is_accepted || HeaderName::from_bytes(&name).is_ok(), "{byte}");
        }
        for (length, is_accepted) in [(MAX_NAME, true), (MAX_NAME + 1, false)] {
            let name = "a".repeat(length);
            let head = format!("HTTP/1.1 200 OK\r\n{name}: b\r\n\r\n");
            assert_eq!(read(head.as_bytes(), false).is_ok(), is_accepted, "{length}");
            assert_eq!(HeaderName::from_bytes(name.as_bytes()).is_ok(), is_accepted, "{length}");
        }
    }

    #[test]
    fn refuses_heads_that_two_readers_could_read_differently() {
        for lines in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 099 No\r\n\r\n",
        ] {
            assert!(read(lines.as_bytes(), false).is_err(), "{lines:?} was accepted");
        }
    }

    #[test]
    fn learns_the_framing() {
        let sized = answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n");
        assert_eq!((sized.framing, sized.reusable), (Framing::Sized(5), true));
        assert_eq!(&sized.rewritten[..], b"HTTP/1.1 200\r\ncontent-length: 5\r\n\r\n");

        let chunked = answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n");
        assert_eq!(chunked.framing, Framing::Chunked(Chunks::default()));

        for version in ["1.0", "1.1"] {
            let closing = answer(&format!("HTTP/{version} 200 OK\r\nA: b\r\n\r\n"));
            assert_eq!((closing.framing, closing.reusable), (Framing::UntilClose, false));
            assert_eq!(
                &closing.rewritten[..],
                b"HTTP/1.0 200\r\nA: b\r\nconnection: close\r\n\r\n"
            );
        }
    }

    #[test]
    fn bodiless_answers_have_no_body_whatever_they_claim() {
        for lines in [
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            let head = answer(lines);
            assert_eq!((head.framing, head.reusable), (Framing::Sized(0), true));
            assert!(!head.rewritten.windows(8).any(|part| part.eq_ignore_ascii_case(b"encoding")));
            assert!(!head.rewritten.windows(6).any(|part| part.eq_ignore_ascii_case(b"length")));
        }
        let head = read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true).unwrap();
        assert!(matches!(head, Head::Final(FinalHead { framing: Framing::Sized(0), .. })));
    }

    #[test]
    fn an_upgrade_offer_does_not_hide_the_body() {
        let head = answer("HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\n");
        assert_eq!(head.framing, Framing::Sized(2));
        assert_eq!(&head.rewritten[..], b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\n");
    }
}
