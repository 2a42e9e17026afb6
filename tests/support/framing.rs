//! HTTP/1.1 framing for the scripted upstream and the raw client, independent of the library under test.

use bytes::{Buf, Bytes, BytesMut};

/// Headers in the order received; bytes that are not UTF-8 are replaced.
pub(crate) type HeaderList = Vec<(String, String)>;

pub(super) const MAX_HEADERS: usize = 128;

/// Part of a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    Data(Bytes),
    /// The last chunk; trailers are dropped.
    End,
}

/// Takes the next complete chunk from `buffer`; `None` if it is incomplete.
pub(super) fn take_chunk(buffer: &mut BytesMut) -> Result<Option<Chunk>, String> {
    let (line, size) = match httparse::parse_chunk_size(buffer) {
        Ok(httparse::Status::Complete((line, size))) => (line, size as usize),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(format!("not a chunk size: {:?}", &buffer[..buffer.len().min(40)])),
    };
    if size == 0 {
        let rest = &buffer[line..];
        let end = match rest {
            [b'\r', b'\n', ..] => 2,
            _ => match memchr::memmem::find(rest, b"\r\n\r\n") {
                Some(at) => at + 4,
                None => return Ok(None),
            },
        };
        buffer.advance(line + end);
        return Ok(Some(Chunk::End));
    }
    if buffer.len() < line + size + 2 {
        return Ok(None);
    }
    buffer.advance(line);
    let data = buffer.split_to(size).freeze();
    match buffer.starts_with(b"\r\n") {
        true => buffer.advance(2),
        false => return Err("a chunk longer than its size".to_owned()),
    }
    Ok(Some(Chunk::Data(data)))
}

pub(super) fn put_chunk(data: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(data.len() + 20);
    framed.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
    framed.extend_from_slice(data);
    framed.extend_from_slice(b"\r\n");
    framed.freeze()
}

pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

pub(super) fn list(headers: &[httparse::Header<'_>]) -> HeaderList {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    headers.iter().map(|header| (header.name.to_owned(), text(header.value))).collect()
}

/// The first header with this name, in any letter case.
pub(crate) fn find<'a>(headers: &'a HeaderList, name: &str) -> Option<&'a str> {
    all(headers, name).next()
}

/// All headers with this name, in any letter case.
pub(crate) fn all<'a>(headers: &'a HeaderList, name: &str) -> impl Iterator<Item = &'a str> {
    headers
        .iter()
        .filter(move |(given, _)| given.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}
