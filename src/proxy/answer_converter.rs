//! Puts answers into the caller's format on their way down: plain ones when they are complete, streams
//! event by event.

use std::sync::Arc;

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use bytes::Bytes;
use futures_util::StreamExt;

use super::answer_reader::Watch;
use super::error::ProxyError;
use crate::accounting::budget::{Budget, Share};
use crate::llm::convert::answer::Failure;
use crate::llm::convert::conversion::{Conversion, StreamConverter};
use crate::upstream::{UpstreamBody, UpstreamError};

/// The longest plain answer that is converted, in bytes.
const MAX_PLAIN: usize = 32 * 1024 * 1024;

/// A plain answer that is to be converted, as far as it came.
pub struct WholeAnswer {
    pub chunks: Vec<Bytes>,
    pub end: WholeEnd,
    _memory: Option<Share>,
}

/// How a plain answer ended.
pub enum WholeEnd {
    Complete,
    TooLong,
    BrokeOff(UpstreamError),
}

impl WholeAnswer {
    /// Reads the answer to its end, as far as there is memory for it.
    pub async fn read(body: &mut UpstreamBody, memory: &Budget) -> Self {
        let mut memory = memory.take(0);
        let (mut chunks, mut length) = (Vec::new(), 0);
        let end = loop {
            match body.next().await {
                Some(Ok(chunk)) => {
                    length += chunk.len();
                    let has_room = memory.as_mut().is_some_and(|share| share.grow(chunk.len()));
                    chunks.push(chunk);
                    if length > MAX_PLAIN || !has_room {
                        break WholeEnd::TooLong;
                    }
                }
                Some(Err(error)) => break WholeEnd::BrokeOff(error),
                None => break WholeEnd::Complete,
            }
        };
        Self { chunks, end, _memory: memory }
    }

    /// The answer in the caller's format.
    pub fn convert(&self, conversion: &Conversion, watch: &Watch) -> Result<String, ProxyError> {
        match &self.end {
            WholeEnd::TooLong => return Err(ProxyError::UpstreamUnreadable),
            WholeEnd::BrokeOff(error) => return Err(ProxyError::from(error)),
            WholeEnd::Complete => {}
        }
        let body = self.chunks.concat();
        let converted = conversion.plain(&body, matches!(watch, Watch::Stream(_)));
        converted.map_err(|Failure { message, .. }| ProxyError::UpstreamReported { message })
    }
}

/// Converts the stream of one request.
pub struct AnswerConverter {
    conversion: Arc<Conversion>,
    /// Once it is known how the upstream answers.
    converter: Option<StreamConverter>,
    /// For what is buffered, and the bytes of it that are taken.
    memory: Share,
    held: usize,
}

impl AnswerConverter {
    /// `memory` is a share of the budget for bodies.
    pub fn new(conversion: Arc<Conversion>, memory: Share) -> Self {
        Self { conversion, converter: None, memory, held: 0 }
    }

    /// Takes a chunk of the upstream's and gives what the caller gets now.
    pub fn push(&mut self, chunk: &[u8], watch: &Watch) -> Option<Bytes> {
        // Blank until it is known what it is.
        let is_stream = is_stream(watch)?;
        let mut out = Vec::with_capacity(chunk.len());
        let converter = self.converter(is_stream);
        converter.push(chunk, &mut out);
        let held = converter.held();
        let more = held.saturating_sub(self.held);
        if more > 0 && !self.memory.grow(more) {
            let message = "The gateway has no memory left for the answer.".to_owned();
            let failure = Failure { code: "gateway_overloaded".to_owned(), message };
            self.converter(is_stream).fail(failure, &mut out);
        }
        self.held += more;
        Some(out.into()).filter(|out: &Bytes| !out.is_empty())
    }

    /// The upstream's body has ended well. Gives what the caller still gets, and whether the answer is
    /// whole; [`AnswerConverter::fail`] has to follow otherwise.
    pub fn finish(&mut self) -> (Option<Bytes>, bool) {
        let mut out = Vec::new();
        let is_whole = self.converter(false).finish(&mut out);
        (Some(out.into()).filter(|out: &Bytes| !out.is_empty()), is_whole)
    }

    /// The upstream broke off. Gives the caller's error event, unless the answer is over.
    pub fn fail(&mut self, error: &ProxyError) -> Option<Bytes> {
        let mut out = Vec::new();
        let row = error.row();
        let failure = Failure { code: row.code.to_owned(), message: row.message.into_owned() };
        self.converter(false).fail(failure, &mut out);
        Some(out.into()).filter(|out: &Bytes| !out.is_empty())
    }

    /// A sign of life.
    pub fn ping(&mut self, watch: &Watch) -> Option<Bytes> {
        let mut out = Vec::new();
        self.converter(is_stream(watch)?).ping(&mut out);
        Some(out.into()).filter(|out: &Bytes| !out.is_empty())
    }

    fn converter(&mut self, is_stream: bool) -> &mut StreamConverter {
        self.converter.get_or_insert_with(|| {
            StreamConverter::new(Conversion::clone(&self.conversion), is_stream)
        })
    }
}

/// Whether the upstream streams; `None` as long as that is not known.
fn is_stream(watch: &Watch) -> Option<bool> {
    match watch {
        Watch::Undecided(_) => None,
        Watch::Stream(_) => Some(true),
        Watch::None | Watch::Unreadable | Watch::Plain(_) => Some(false),
    }
}

/// Tells what the body is now, where that was said of the upstream's.
pub fn set_type(down: &mut HeaderMap, is_stream: bool) {
    let name = if is_stream { "text/event-stream; charset=utf-8" } else { "application/json" };
    down.remove(CONTENT_ENCODING);
    down.insert(CONTENT_TYPE, HeaderValue::from_static(name));
}
