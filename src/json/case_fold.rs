//! Case folding of keys, as lenient parsers do it.
//!
//! Go's `encoding/json` takes U+017F (long s) for `s` and U+212A (Kelvin sign) for `k`; Java's
//! `equalsIgnoreCase` takes U+0130 and U+0131 (dotted and dotless i) for `i`.

/// As long as the longest key that is looked up in its folded form.
pub(crate) type FoldBuffer = [u8; 32];

/// The reserved key, itself folded, that `sent` equals under case folding but not exactly.
pub(crate) fn only_folded(sent: &str, reserved: &[&'static str]) -> Option<&'static str> {
    let mut buffer = FoldBuffer::default();
    let folded = fold(sent, &mut buffer)?;
    reserved.iter().copied().find(|key| key.as_bytes() == folded && *key != sent)
}

/// Whether two keys are equal under case folding.
pub(crate) fn same(one: &str, other: &str) -> bool {
    if one.is_ascii() && other.is_ascii() {
        return one.eq_ignore_ascii_case(other);
    }
    one.chars().flat_map(fold_char).eq(other.chars().flat_map(fold_char))
}

/// A key in its folded form; `None` if that is not ASCII or longer than the buffer.
pub(crate) fn fold<'b>(key: &str, buffer: &'b mut FoldBuffer) -> Option<&'b [u8]> {
    if key.is_ascii() {
        return fold_ascii(key.as_bytes(), buffer);
    }
    let mut length = 0;
    for character in key.chars().flat_map(fold_char) {
        *buffer.get_mut(length)? = u8::try_from(character).ok().filter(u8::is_ascii)?;
        length += 1;
    }
    buffer.get(..length)
}

/// The same for a key that is ASCII.
pub(crate) fn fold_ascii<'b>(key: &[u8], buffer: &'b mut FoldBuffer) -> Option<&'b [u8]> {
    let folded = buffer.get_mut(..key.len())?;
    folded.copy_from_slice(key);
    folded.make_ascii_lowercase();
    Some(folded)
}

/// The lower case of the upper case, so that characters with the same upper case become equal.
fn fold_char(c: char) -> impl Iterator<Item = char> {
    let c = match c {
        '\u{130}' | '\u{131}' => 'i',
        c => c,
    };
    c.to_uppercase().flat_map(char::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_go_and_java_take_for_ascii() {
        for (sent, key) in [
            ("Model", "model"),
            ("\u{17f}tream", "stream"),
            ("max_to\u{212a}ens", "max_tokens"),
            ("\u{130}nput", "input"),
            ("\u{131}nput", "input"),
            ("İNPUT", "input"),
        ] {
            assert_eq!(only_folded(sent, &["stream", "model", "input", "max_tokens"]), Some(key));
            assert_eq!(fold(sent, &mut FoldBuffer::default()), Some(key.as_bytes()));
        }
        assert_eq!(only_folded("model", &["model"]), None);
        assert_eq!(only_folded("models", &["model"]), None);
        assert_eq!(only_folded("mödel", &["model"]), None);
        for other in ["mödel", "a_key_that_is_longer_than_any_that_we_know"] {
            assert_eq!(fold(other, &mut FoldBuffer::default()), None, "{other}");
        }
        assert_eq!(fold("", &mut FoldBuffer::default()), Some(&b""[..]));
    }
}
