//! Compressed request bodies: reads what `Content-Encoding` names (RFC 9110, section 8.4).
//!
//! A small body may decode to an enormous one, so decoding stops at the body limit, counts against
//! the memory budget as it goes, and gives way to other requests in between.

use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read};

use actix_web::http::header::{CONTENT_ENCODING, HeaderMap};
use bytes::{Bytes, BytesMut};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

use super::error::ProxyError;
use crate::accounting::budget::Share;

/// More codings, one around the other, serve only to make decoding expensive.
const MAX_CODINGS: usize = 2;
/// Decoded at a time, in bytes.
const PIECE: usize = 64 * 1024;
/// Maximum window of zstd as a content coding (RFC 9659).
const MAX_ZSTD_WINDOW: u64 = 8 * 1024 * 1024;

/// Why a body is not decoded although it may be what its coding says.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Excess {
    #[error("the window is too large")]
    Window,
    #[error("what is skipped is longer than a body may be")]
    Skipped,
}

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `gzip` (RFC 1952)
    Gzip,
    /// `deflate`: the zlib format (RFC 1950)
    Deflate,
    /// `br` (RFC 7932)
    Brotli,
    /// `zstd` (RFC 8878)
    Zstd,
}

/// The codings of a request's body, in the order in which they were applied.
pub fn codings(headers: &HeaderMap) -> Result<Vec<Coding>, ProxyError> {
    let unsupported = |named: &str| ProxyError::UnsupportedContentEncoding {
        named: named.chars().take(64).collect(),
    };
    let mut codings = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        let value = value.to_str().map_err(|_| unsupported("?"))?;
        for named in value.split(',').map(str::trim).filter(|named| !named.is_empty()) {
            let coding = match named.to_ascii_lowercase().as_str() {
                "identity" => continue,
                "gzip" | "x-gzip" => Coding::Gzip,
                "deflate" => Coding::Deflate,
                "br" => Coding::Brotli,
                "zstd" => Coding::Zstd,
                _ => return Err(unsupported(named)),
            };
            if codings.len() == MAX_CODINGS {
                return Err(unsupported(value));
            }
            codings.push(coding);
        }
    }
    Ok(codings)
}

/// Decodes a body, up to `limit` bytes. What is decoded is added to `memory`.
pub async fn decode(
    encoded: Bytes,
    codings: &[Coding],
    limit: usize,
    memory: &mut Share,
) -> Result<Bytes, ProxyError> {
    let mut reader: Box<dyn BufRead> = Box::new(Cursor::new(encoded));
    for coding in codings.iter().rev() {
        reader = Box::new(BufReader::new(decoder(*coding, reader, limit)));
    }
    let mut body = BytesMut::new();
    loop {
        let piece = reader.fill_buf().map_err(|error| {
            let excess = error.get_ref().and_then(|cause| cause.downcast_ref::<Excess>());
            match excess {
                Some(Excess::Window) => {
                    ProxyError::UndecodableBody { max_window: Some(MAX_ZSTD_WINDOW) }
                }
                Some(Excess::Skipped) => ProxyError::BodyTooLarge { limit },
                None => ProxyError::UndecodableBody { max_window: None },
            }
        })?;
        if piece.is_empty() {
            return Ok(body.freeze());
        }
        if body.len() + piece.len() > limit {
            return Err(ProxyError::BodyTooLarge { limit });
        }
        if !memory.grow(piece.len()) {
            return Err(ProxyError::Overloaded);
        }
        body.extend_from_slice(piece);
        let length = piece.len();
        reader.consume(length);
        if body.len() / PIECE != (body.len() - length) / PIECE {
            tokio::task::yield_now().await;
        }
    }
}

/// A decoder that fails where anything follows the end of the encoded data. `limit` is the most that a
/// body may have in bytes.
fn decoder(coding: Coding, source: Box<dyn BufRead>, limit: usize) -> Box<dyn Read> {
    match coding {
        Coding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Coding::Deflate => {
            let decoder = flate2::bufread::ZlibDecoder::new(source);
            Box::new(UntilEnd { decoder, check_end: |decoder| nothing_left(decoder.get_mut()) })
        }
        Coding::Brotli => {
            use brotli_decompressor::BrotliDecoderParameter::BROTLI_DECODER_PARAM_LARGE_WINDOW;
            let mut decoder = brotli_decompressor::Decompressor::new(source, 4096);
            // An extension of the format whose window may take a gigabyte.
            decoder.set_parameter(BROTLI_DECODER_PARAM_LARGE_WINDOW, 0);
            Box::new(UntilEnd {
                decoder,
                check_end: |decoder| {
                    // At its end, it fails at the next call if it has read further.
                    match decoder.read(&mut [0])? {
                        0 => nothing_left(decoder.get_mut()),
                        _ => Err(io::ErrorKind::InvalidData.into()),
                    }
                },
            })
        }
        Coding::Zstd => {
            let mut decoder = ruzstd::decoding::FrameDecoder::new();
            decoder.set_max_window_size(MAX_ZSTD_WINDOW);
            Box::new(ZstdFrames { decoder, source, in_frame: false, skippable: limit as u64 })
        }
    }
}

/// A decoder of one stream, after whose end nothing may follow.
struct UntilEnd<D> {
    decoder: D,
    check_end: fn(&mut D) -> io::Result<()>,
}

impl<D: Read> Read for UntilEnd<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.decoder.read(buffer)?;
        if length == 0 && !buffer.is_empty() {
            (self.check_end)(&mut self.decoder)?;
        }
        Ok(length)
    }
}

fn nothing_left(source: &mut impl BufRead) -> io::Result<()> {
    match source.fill_buf()?.is_empty() {
        true => Ok(()),
        false => Err(ErrorKind::InvalidData.into()),
    }
}

/// One frame of zstd after the other. Skippable frames (RFC 8878, section 3.1.2) hold nothing of the body.
struct ZstdFrames {
    decoder: ruzstd::decoding::FrameDecoder,
    source: Box<dyn BufRead>,
    in_frame: bool,
    /// Bytes that may still be skipped, so that skipping costs no more than decoding may.
    skippable: u64,
}

impl ZstdFrames {
    fn skip(&mut self, length: u64) -> io::Result<()> {
        const HEAD: u64 = 8;
        self.skippable = self
            .skippable
            .checked_sub(HEAD + length)
            .ok_or_else(|| io::Error::other(Excess::Skipped))?;
        let skipped = io::copy(&mut (&mut self.source).take(length), &mut io::sink())?;
        if skipped < length { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

impl Read for ZstdFrames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy::UptoBlocks;
        loop {
            if !self.in_frame {
                if self.source.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                match self.decoder.init(&mut self.source) {
                    Ok(()) => self.in_frame = true,
                    Err(FrameDecoderError::ReadFrameHeaderError(
                        ReadFrameHeaderError::SkipFrame { length, .. },
                    )) => {
                        self.skip(length.into())?;
                        continue;
                    }
                    Err(FrameDecoderError::WindowSizeTooBig { .. }) => {
                        return Err(io::Error::other(Excess::Window));
                    }
                    Err(error) => return Err(io::Error::other(error)),
                }
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, UptoBlocks(1))
                    .map_err(io::Error::other)?;
            }
            let length = self.decoder.read(buffer)?;
            if length > 0 {
                return Ok(length);
            }
            self.in_frame = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn codings_of(values: &[&'static str]) -> Result<Vec<Coding>, ProxyError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
        }
        codings(&headers)
    }

    #[test]
    fn codings_are_named_in_any_case_and_order() {
        use Coding::{Brotli, Gzip, Zstd};
        for (values, expected) in [
            (&[][..], vec![]),
            (&["identity"][..], vec![]),
            (&["GZip"][..], vec![Gzip]),
            (&["zstd, br"][..], vec![Zstd, Brotli]),
            (&["x-gzip , identity", "zstd"][..], vec![Gzip, Zstd]),
        ] {
            assert_eq!(codings_of(values), Ok(expected), "{values:?}");
        }
        for unsupported in ["compress", "gzip;q=1", "gzip, gzip, gzip"] {
            let refused = codings_of(&[unsupported]);
            let named = unsupported.to_owned();
            assert_eq!(refused, Err(ProxyError::UnsupportedContentEncoding { named }));
        }
    }
}
