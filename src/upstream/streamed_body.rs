//! A request's body that is sent on as it arrives, and how that can fail.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::Stream;

use crate::json::object::BodyPieces;

/// The body of a request.
pub enum RequestBody {
    /// In memory; it can be sent again.
    Whole(BodyPieces),
    /// Sent once, as it arrives.
    Streamed(StreamedBody),
}

/// A body that is not kept.
pub struct StreamedBody {
    /// In bytes, if it was declared.
    pub length: Option<u64>,
    /// Its chunks. After an error nothing more comes.
    pub chunks: Pin<Box<dyn Stream<Item = Result<Bytes, BodyBroke>>>>,
    /// Why it broke off, for whoever sent it.
    pub(super) broke: Rc<Cell<Option<BodyBroke>>>,
}

/// Why a streamed body did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyBroke {
    /// It ended early, or its framing is wrong.
    #[error("the request body broke off")]
    Incomplete,
    #[error("the request body is too large")]
    TooLarge {
        /// In bytes.
        limit: u64,
    },
    #[error("the request body came too slowly")]
    TooSlow,
    #[error("the request body can't be sent again")]
    Spent,
}

impl StreamedBody {
    /// A body of these chunks.
    pub fn new(
        length: Option<u64>,
        chunks: impl Stream<Item = Result<Bytes, BodyBroke>> + 'static,
    ) -> Self {
        Self { length, chunks: Box::pin(chunks), broke: Rc::default() }
    }
}

impl RequestBody {
    /// The pieces of a body that is in memory.
    pub fn pieces(&self) -> &[Bytes] {
        match self {
            Self::Whole(body) => body.pieces(),
            Self::Streamed(_) => &[],
        }
    }
}

impl From<BodyPieces> for RequestBody {
    fn from(pieces: BodyPieces) -> Self {
        Self::Whole(pieces)
    }
}

impl From<Bytes> for RequestBody {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes.into())
    }
}
