//! Where a JSON string ends. Prompts are nearly all of a request's body and have many escapes, so they are
//! read 64 bytes at a time, each byte a bit.

use wide::u8x16;

use crate::json::bytes::{below, equal, first};

const BLOCK: usize = 64;
const ODD_BITS: u64 = 0xaaaa_aaaa_aaaa_aaaa;

/// A string without its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StringEnd {
    /// The place of its closing quote.
    pub(super) at: usize,
    /// Whether it has escapes; all of them are valid.
    pub(super) has_escapes: bool,
}

/// The end of the string that `text` begins with, after its opening quote. `None` if it does not end, or has
/// control characters or anything but escapes after a backslash (RFC 8259, section 7).
pub(super) fn string_end(text: &[u8]) -> Option<StringEnd> {
    // Keys and most values are short.
    if let Some(bytes) = text.first_chunk().copied().map(u8x16::new)
        && let at = are_special(bytes).to_bitmask().trailing_zeros() as usize
        && at < 16
        && text.get(at) == Some(&b'"')
    {
        return Some(StringEnd { at, has_escapes: false });
    }
    let mut has_escapes = false;
    // The first bit of a block, if the block before ends with a backslash that belongs to it.
    let mut carried = 0;
    let (blocks, _) = text.as_chunks();
    for (number, bytes) in blocks.iter().enumerate() {
        let block = Block::new(bytes);
        if carried == 0 && !block.has(are_special) {
            continue;
        }
        let (mut ends, mut doubtful) = (block.marks(are_quotes), block.marks(are_controls));
        let backslashes = block.marks(are_backslashes);
        if backslashes | carried != 0 {
            let escaped = escaped(backslashes, carried);
            carried = (backslashes & !escaped) >> (BLOCK - 1);
            ends &= !escaped;
            doubtful |= escaped & !block.marks(are_escapable);
            has_escapes |= escaped & before(ends) != 0;
        }
        doubtful &= before(ends);
        while doubtful != 0 {
            let at = number * BLOCK + doubtful.trailing_zeros() as usize;
            if !is_escape(text.get(at.checked_sub(1)?..)?) {
                return None;
            }
            doubtful &= doubtful - 1;
        }
        if ends != 0 {
            let at = number * BLOCK + ends.trailing_zeros() as usize;
            return Some(StringEnd { at, has_escapes });
        }
    }
    let mut at = blocks.len() * BLOCK - carried as usize;
    loop {
        at += first(text.get(at..)?, |word| {
            equal(word, b'"') | equal(word, b'\\') | below(word, b' ')
        })?;
        match text.get(at..)? {
            [b'"', ..] => return Some(StringEnd { at, has_escapes }),
            rest if is_escape(rest) => at += 2,
            _ => return None,
        }
        has_escapes = true;
    }
}

/// The bytes after a backslash that is not escaped itself. In a row of backslashes every second one is, which
/// a subtraction finds: it borrows through the row, and leaves the bits of every second place.
fn escaped(backslashes: u64, carried: u64) -> u64 {
    let first = backslashes & !carried;
    let alternating = (first << 1 | ODD_BITS).wrapping_sub(first) ^ ODD_BITS;
    alternating ^ (backslashes | carried)
}

fn is_escape(text: &[u8]) -> bool {
    match text {
        [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => true,
        [b'\\', b'u', digits @ ..] => {
            digits.first_chunk::<4>().is_some_and(|four| four.iter().all(u8::is_ascii_hexdigit))
        }
        _ => false,
    }
}

/// The bits before the lowest of these; all, if there is none.
fn before(marks: u64) -> u64 {
    marks.wrapping_sub(1) & !marks
}

struct Block([u8x16; BLOCK / 16]);

impl Block {
    fn new(bytes: &[u8; BLOCK]) -> Self {
        let (quarters, _) = bytes.as_chunks();
        Self(std::array::from_fn(|at| quarters.get(at).copied().map_or(u8x16::ZERO, u8x16::new)))
    }

    /// Whether any byte is of the kind.
    fn has(&self, are: impl Fn(u8x16) -> u8x16) -> bool {
        self.0.into_iter().fold(u8x16::ZERO, |any, bytes| any | are(bytes)).to_bitmask() != 0
    }

    /// Marks the bytes of the kind: a bit a byte, the first byte's is the lowest.
    fn marks(&self, are: impl Fn(u8x16) -> u8x16) -> u64 {
        let marks = |marks, bytes| marks << 16 | u64::from(are(bytes).to_bitmask());
        self.0.into_iter().rev().fold(0, marks)
    }
}

fn are_quotes(bytes: u8x16) -> u8x16 {
    bytes.simd_eq(u8x16::splat(b'"'))
}

fn are_backslashes(bytes: u8x16) -> u8x16 {
    bytes.simd_eq(u8x16::splat(b'\\'))
}

fn are_controls(bytes: u8x16) -> u8x16 {
    bytes.min(u8x16::splat(0x1f)).simd_eq(bytes)
}

/// All that a string can't have as it is.
fn are_special(bytes: u8x16) -> u8x16 {
    are_quotes(bytes) | are_backslashes(bytes) | are_controls(bytes)
}

/// What may stand alone after a backslash.
fn are_escapable(bytes: u8x16) -> u8x16 {
    let equal = b"\"\\/bfnrt".map(|character| bytes.simd_eq(u8x16::splat(character)));
    equal.into_iter().fold(u8x16::ZERO, |any, one| any | one)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, byte by byte.
    fn expected(text: &[u8]) -> Option<StringEnd> {
        let (mut at, mut has_escapes) = (0, false);
        loop {
            match text.get(at..)? {
                [b'"', ..] => return Some(StringEnd { at, has_escapes }),
                [b'\\', ..] if is_escape(&text[at..]) => (at, has_escapes) = (at + 2, true),
                [b'\\' | ..b' ', ..] | [] => return None,
                _ => at += 1,
            }
        }
    }

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let plain = prop::collection::vec(prop_oneof![0x20u8..0x22, 0x23u8..0x5c, 0x5du8..], 0..70);
        let rare = prop_oneof!["\"", "\\\\[u-x]", "\\\\u[0-9a-f]{3}", "[\\x00-\\x1f]", "\\\\"];
        prop_oneof![
            3 => plain,
            3 => "(\\\\[\"\\\\/bfnrt])|(\\\\u[0-9a-fA-F]{4})|(\\\\\\\\){1,40}".prop_map(String::into_bytes),
            1 => rare.prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn the_end_is_found(pieces in prop::collection::vec(piece(), 0..12), ends in any::<bool>()) {
            let mut text = pieces.concat();
            text.extend_from_slice(if ends { b"\" and more" } else { b"" });
            prop_assert_eq!(string_end(&text), expected(&text));
        }
    }

    #[test]
    fn escapes_across_blocks_are_whole() {
        for length in 55..70 {
            for (escape, is_valid) in
                [("\\\"", true), ("\\\\", true), ("\\u00e9", true), ("\\x", false)]
            {
                let text = format!("{}{escape}{}\"", "a".repeat(length), "b".repeat(100));
                let end = StringEnd { at: text.len() - 1, has_escapes: true };
                assert_eq!(
                    string_end(text.as_bytes()),
                    is_valid.then_some(end),
                    "{length} {escape}"
                );
            }
        }
    }
}
