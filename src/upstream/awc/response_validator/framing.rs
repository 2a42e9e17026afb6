//! Where a response's body ends: a second opinion to awc's decoder, which cannot tell a body
//! that is complete from one that was cut short.

/// Longest chunk extension and longest trailer line; longer ones serve no one.
const MAX_LINE: usize = 8 * 1024;
/// All trailer lines together.
const MAX_TRAILERS: usize = 32 * 1024;
/// Hexadecimal digits of a chunk size: 60 bits, so that no sum overflows.
const MAX_SIZE_DIGITS: u8 = 15;

/// How the end of the body is marked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes are still to come; also for responses without a body.
    Sized(u64),
    /// Chunks, up to the last one and its trailers.
    Chunked(Chunks),
    /// Whatever comes until the connection closes.
    UntilClose,
}

/// What a piece of the connection's bytes was.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// So many of the bytes belong to this response.
    pub(super) used: usize,
    /// The response is complete.
    pub(super) ended: bool,
}

impl Framing {
    /// Takes note of bytes that came in. An error says what is wrong with the chunk coding.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<Progress, &'static str> {
        match self {
            Self::Sized(left) => {
                let used = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= used as u64;
                Ok(Progress { used, ended: *left == 0 })
            }
            Self::Chunked(chunks) => chunks.advance(bytes),
            Self::UntilClose => Ok(Progress { used: bytes.len(), ended: false }),
        }
    }

    /// Is a close the proper end of this body?
    pub(super) fn ends_at_close(&self) -> bool {
        matches!(self, Self::UntilClose)
    }
}

/// The chunk coding of RFC 9112, 7.1, read strictly: CRLF only, no bare line feeds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chunks {
    at: At,
    trailers: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum At {
    Size { value: u64, digits: u8 },
    Padding { size: u64 },
    Extension { size: u64, length: usize },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    LineStart,
    Trailer { length: usize },
    TrailerLf,
    LastLf,
}

impl Default for At {
    fn default() -> Self {
        Self::Size { value: 0, digits: 0 }
    }
}

impl Chunks {
    fn advance(&mut self, bytes: &[u8]) -> Result<Progress, &'static str> {
        let mut rest = bytes;
        while let Some((&byte, tail)) = rest.split_first() {
            if let At::Data { left } = &mut self.at {
                let skip = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                *left -= skip as u64;
                if *left == 0 {
                    self.at = At::DataCr;
                }
                rest = rest.get(skip..).unwrap_or_default();
                continue;
            }
            rest = tail;
            if matches!((&self.at, byte), (At::LastLf, b'\n')) {
                return Ok(Progress { used: bytes.len() - rest.len(), ended: true });
            }
            self.step(byte)?;
        }
        Ok(Progress { used: bytes.len(), ended: false })
    }

    /// One byte outside of chunk data.
    fn step(&mut self, byte: u8) -> Result<(), &'static str> {
        self.at = match (&self.at, byte) {
            (&At::Size { value, digits }, digit) if digit.is_ascii_hexdigit() => {
                if digits == MAX_SIZE_DIGITS {
                    return Err("a chunk size is too large");
                }
                let digit = (digit as char).to_digit(16).unwrap_or_default();
                At::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
            }
            (At::Size { digits: 0, .. }, _) => return Err("a chunk size is missing"),
            (&(At::Size { value: size, .. } | At::Padding { size }), b' ' | b'\t') => {
                At::Padding { size }
            }
            (&(At::Size { value: size, .. } | At::Padding { size }), b';') => {
                At::Extension { size, length: 0 }
            }
            (&(At::Size { value: size, .. } | At::Padding { size }), b'\r') => At::SizeLf { size },
            (At::Extension { length: MAX_LINE, .. }, _) => {
                return Err("a chunk extension is too long");
            }
            (&At::Extension { size, .. }, b'\r') => At::SizeLf { size },
            (&At::Extension { size, length }, b'\t' | b' '..=b'~' | 0x80..) => {
                At::Extension { size, length: length + 1 }
            }
            (At::SizeLf { size: 0 }, b'\n') => At::LineStart,
            (&At::SizeLf { size }, b'\n') => At::Data { left: size },
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::default(),
            (At::LineStart, b'\r') => At::LastLf,
            (At::LineStart, b'\t' | b' '..=b'~' | 0x80..) => At::Trailer { length: 1 },
            (&At::Trailer { length }, b'\r') => {
                self.trailers += length;
                if self.trailers > MAX_TRAILERS {
                    return Err("the trailers are too long");
                }
                At::TrailerLf
            }
            (At::Trailer { length: MAX_LINE }, _) => return Err("a trailer is too long"),
            (&At::Trailer { length }, b'\t' | b' '..=b'~' | 0x80..) => {
                At::Trailer { length: length + 1 }
            }
            (At::TrailerLf, b'\n') => At::LineStart,
            _ => return Err("the chunk coding is broken"),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunked() -> Framing {
        Framing::Chunked(Chunks::default())
    }

    #[test]
    fn finds_the_end_of_a_chunked_body_and_leaves_the_rest() {
        let body = b"5;ext=1\r\nhello\r\n0005 \r\nworld\r\n0\r\nDigest: x\r\n\r\nHTTP/1.1 200";
        let progress = chunked().advance(body).unwrap();
        assert_eq!(progress, Progress { used: body.len() - 12, ended: true });
    }

    #[test]
    fn refuses_what_decoders_read_differently() {
        for body in [
            &b"\r\n"[..],
            b"+5\r\n",
            b"0x5\r\n",
            b"5\nhello",
            b"5\r\nhello!\r\n",
            b"5;a\nb\r\n",
            b"ffffffffffffffff\r\n",
            b"0\r\nTrailer: a\nb\r\n\r\n",
        ] {
            let text = String::from_utf8_lossy(body);
            assert!(chunked().advance(body).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn bounds_extensions_and_trailers() {
        let mut long = b"5;".to_vec();
        long.resize(MAX_LINE + 10, b'a');
        assert!(chunked().advance(&long).is_err());
        let mut many = b"0\r\n".to_vec();
        for _ in 0..MAX_TRAILERS {
            many.extend_from_slice(b"a: b\r\n");
        }
        assert!(chunked().advance(&many).is_err());
    }

    #[test]
    fn a_sized_body_ends_at_its_size() {
        let mut framing = Framing::Sized(5);
        assert_eq!(framing.advance(b"hel").unwrap(), Progress { used: 3, ended: false });
        assert_eq!(framing.advance(b"lo!").unwrap(), Progress { used: 2, ended: true });
    }

    proptest! {
        /// However the network cuts the bytes, the end is found at the same place.
        #[test]
        fn the_end_does_not_depend_on_the_cuts(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            cuts in proptest::collection::vec(1_usize..20, 1..60),
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
            let length = body.len();
            body.extend_from_slice(b"surplus");

            let mut framing = chunked();
            let (mut position, mut cuts) = (0, cuts.iter().cycle());
            loop {
                let piece = &body[position..(position + cuts.next().unwrap()).min(body.len())];
                let progress = framing.advance(piece).unwrap();
                position += progress.used;
                if progress.ended {
                    break;
                }
                prop_assert!(position < length);
            }
            prop_assert_eq!(position, length);
        }
    }
}
