//! Where the long texts of a body end, told by whoever has read it before, so that nobody has to
//! look through them again.

use std::ops::Range;

/// Texts of fewer bytes are not worth being remembered.
pub const LONG: usize = 128;

/// The long texts of one value, from where the walk over it has come to.
#[derive(Clone, Copy, Debug, Default)]
pub struct LongTexts<'a> {
    /// Between their quotes, as places in the body; in order.
    ahead: &'a [Range<usize>],
    /// Where the value begins in the body.
    value: usize,
}

impl<'a> LongTexts<'a> {
    /// Those of a body that stand in, or after, this value of it.
    pub fn from(all: &'a [Range<usize>], value: usize) -> Self {
        let before = all.partition_point(|text| text.start < value);
        Self { ahead: all.get(before..).unwrap_or_default(), value }
    }

    /// Where the text ends (at its closing quote) that begins at this place of the value, if it is
    /// known. To be asked in order.
    pub(crate) fn end_of(&mut self, begin: usize) -> Option<usize> {
        let begin = self.value + begin;
        while let [first, rest @ ..] = self.ahead {
            if first.start > begin {
                return None;
            }
            self.ahead = rest;
            if first.start == begin {
                return Some(first.end - self.value);
            }
        }
        None
    }
}
