//! Puts answers into the caller's format on their way down: plain ones when they are complete, streams
//! event by event.

use std::sync::Arc;

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use actix_web::web::block;
use bytes::Bytes;
use futures_util::StreamExt;

use super::answer_reader::Watch;
use super::error::ProxyError;
use crate::accounting::budget::{Budget, Share};
use crate::llm::convert::answer::Failure;
use crate::llm::convert::answer_conversion::{Conversion, MAX_KEPT, StreamConverter};
use crate::upstream::{UpstreamBody, UpstreamError};

/// A longer answer is converted on another thread, so that other requests of the worker go on.
const MAX_INLINE: usize = 256 * 1024;

/// A plain answer that is to be converted.
pub struct WholeAnswer {
    /// What was read out of it.
    pub watch: Watch,
    /// The answer in the caller's format.
    pub converted: Result<String, ProxyError>,
    _memory: Option<Share>,
}

impl WholeAnswer {
    /// Reads the answer to its end, as far as there is memory for it, and converts it.
    pub async fn read(
        body: &mut UpstreamBody,
        mut watch: Watch,
        conversion: Arc<Conversion>,
        budget: &Budget,
    ) -> Self {
        let mut memory = budget.take(0);
        let mut whole = Vec::new();
        let read = loop {
            match body.next().await {
                Some(Ok(chunk)) => {
                    // For what came and for what is made of it.
                    let has_room = memory.as_mut().is_some_and(|share| share.grow(2 * chunk.len()));
                    if whole.len() + chunk.len() > MAX_KEPT || !has_room {
                        break Err(ProxyError::UpstreamUnreadable);
                    }
                    whole.extend_from_slice(&chunk);
                    watch.push(chunk);
                }
                Some(Err(error)) => break Err(ProxyError::from(&error)),
                None => break Ok(whole),
            }
        };
        let is_stream = matches!(watch, Watch::Stream(_));
        let converted = match read {
            Err(error) => Err(error),
            Ok(whole) if whole.len() > MAX_INLINE => {
                let run = block(move || conversion.plain(&whole, is_stream));
                run.await.map_err(|_| ProxyError::Internal).and_then(reported_by_provider)
            }
            Ok(whole) => reported_by_provider(conversion.plain(&whole, is_stream)),
        };
        Self { watch, converted, _memory: memory }
    }

    /// What was held back of a stream that turned out to be none, and why it broke off if it did.
    pub fn failed(
        held: &[Bytes],
        mut watch: Watch,
        conversion: &Conversion,
        error: Option<&UpstreamError>,
    ) -> Self {
        held.iter().for_each(|chunk| watch.push(chunk.clone()));
        let is_stream = matches!(watch, Watch::Stream(_));
        let converted = match error {
            Some(error) => Err(ProxyError::from(error)),
            None => reported_by_provider(conversion.plain(&held.concat(), is_stream))
                .and(Err(ProxyError::UpstreamDied)),
        };
        Self { watch, converted, _memory: None }
    }
}

fn reported_by_provider(converted: Result<String, Failure>) -> Result<String, ProxyError> {
    converted.map_err(ProxyError::UpstreamReported)
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

    /// The answer does not go on. Gives the caller's error event, unless the answer is over.
    pub fn fail(&mut self, error: &ProxyError) -> Option<Bytes> {
        let mut out = Vec::new();
        let failure = Failure { code: error.row().code.to_owned(), message: error.to_string() };
        self.converter(false).fail(failure, &mut out);
        Some(out.into()).filter(|out: &Bytes| !out.is_empty())
    }

    /// Whether the caller was told of an error.
    pub fn has_failed(&self) -> bool {
        self.converter.as_ref().is_some_and(StreamConverter::has_failed)
    }

    /// What keeps the connection of a waiting caller open.
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
