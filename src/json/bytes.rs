//! Searches for sets of bytes eight bytes at a time, where `memchr` does not support the set or the
//! next match is often near. A set is a function that marks its bytes in a word of eight.

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);

/// Marks the bytes of `word` that equal this ASCII character.
#[inline]
pub(crate) const fn equal(word: u64, character: u8) -> u64 {
    below(word ^ (ONES * character as u64), 1)
}

/// Marks the bytes of `word` that are smaller than `bound`, which is at most 0x80.
#[inline]
pub(crate) const fn below(word: u64, bound: u8) -> u64 {
    word.wrapping_sub(ONES * bound as u64)
}

/// The number of ASCII digits that `bytes` begins with.
#[inline]
pub(crate) fn leading_digits(bytes: &[u8]) -> usize {
    let (words, tail) = bytes.as_chunks::<8>();
    for (place, word) in words.iter().enumerate() {
        // 0 to 9 for digits, more for others, of which 0x76 sets the highest bit or it is set already.
        let values = u64::from_le_bytes(*word) ^ (ONES * b'0' as u64);
        let others = (values.wrapping_add(ONES * 0x76) | values) & HIGH;
        if others != 0 {
            return place * 8 + others.trailing_zeros() as usize / 8;
        }
    }
    words.len() * 8 + tail.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// `word` with these bits set in every byte.
#[inline]
pub(crate) const fn with_bits(word: u64, bits: u8) -> u64 {
    word | (ONES * bits as u64)
}

/// The position of the first marked byte.
#[inline]
pub(crate) fn first(bytes: &[u8], marks: impl Fn(u64) -> u64) -> Option<usize> {
    let (words, tail) = bytes.as_chunks();
    for (place, word) in words.iter().enumerate() {
        if let Some(at) = first_in(*word, &marks) {
            return Some(place * 8 + at);
        }
    }
    let mut word = [0; 8];
    word.get_mut(..tail.len())?.copy_from_slice(tail);
    let at = first_in(word, marks).filter(|at| *at < tail.len())?;
    Some(words.len() * 8 + at)
}

/// A mark is the highest bit of a byte, set by a borrow in the subtraction. The borrow may mark later
/// bytes wrongly, so only the first mark counts; bytes outside ASCII have the bit set already.
#[inline]
fn first_in(word: [u8; 8], marks: impl Fn(u64) -> u64) -> Option<usize> {
    let word = u64::from_le_bytes(word);
    let marked = marks(word) & !word & HIGH;
    (marked != 0).then(|| marked.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn byte() -> impl Strategy<Value = u8> {
        prop_oneof![any::<u8>(), 0x1fu8..0x24, 0x5au8..0x5e, 0x9fu8..0xa4]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn digits_are_counted(
            digits in "[0-9]{0,20}",
            rest in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let bytes = [digits.as_bytes(), &rest].concat();
            let expected = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
            prop_assert_eq!(leading_digits(&bytes), expected);
        }

        #[test]
        fn the_first_is_found(
            bytes in prop::collection::vec(byte(), 0..40),
            wanted in 0x1fu8..0x24,
            bound in 0u8..=0x80,
        ) {
            let place = |is: &dyn Fn(u8) -> bool| bytes.iter().position(|byte| is(*byte));
            prop_assert_eq!(first(&bytes, |word| equal(word, wanted)), place(&|byte| byte == wanted));
            prop_assert_eq!(first(&bytes, |word| below(word, bound)), place(&|byte| byte < bound));
            prop_assert_eq!(
                first(&bytes, |word| {
                    equal(with_bits(word, b' '), b'{') | equal(word, wanted) | below(word, b' ')
                }),
                place(&|byte| matches!(byte, b'[' | b'{' | ..b' ') || byte == wanted)
            );
        }
    }
}
