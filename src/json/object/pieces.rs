//! A body in pieces, most of which are parts of the caller's own.

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

/// A body that is sent piece by piece. A clone shares the bytes.
#[derive(Debug, Clone, Default)]
pub struct BodyPieces(SmallVec<[Bytes; 3]>);

impl BodyPieces {
    /// Adds a piece; nothing if it is empty.
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.0.push(piece);
        }
    }

    /// The pieces, none of them empty.
    pub fn pieces(&self) -> &[Bytes] {
        &self.0
    }

    /// The number of bytes.
    pub fn length(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// The whole body: a copy, unless it is one piece.
    pub fn to_bytes(&self) -> Bytes {
        match self.pieces() {
            [] => Bytes::new(),
            [whole] => whole.clone(),
            pieces => {
                let mut whole = BytesMut::with_capacity(self.length());
                pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
                whole.freeze()
            }
        }
    }
}

impl From<Bytes> for BodyPieces {
    fn from(whole: Bytes) -> Self {
        let mut pieces = Self::default();
        pieces.push(whole);
        pieces
    }
}
