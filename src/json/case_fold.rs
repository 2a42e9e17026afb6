//! Keys that are the same to a parser that ignores letter case.
//!
//! Go's `encoding/json` takes U+017F (long s) for `s` and U+212A (Kelvin sign) for `k`; Java's
//! `equalsIgnoreCase` takes U+0130 and U+0131 (dotted and dotless i) for `i`.

/// The reserved key that `sent` equals under case folding, when it does not equal it exactly.
pub(crate) fn only_folded(sent: &str, reserved: &[&'static str]) -> Option<&'static str> {
    reserved.iter().copied().find(|key| *key != sent && same(sent, key))
}

/// Whether two keys are equal under case folding.
pub(crate) fn same(one: &str, other: &str) -> bool {
    if one.is_ascii() && other.is_ascii() {
        return one.eq_ignore_ascii_case(other);
    }
    one.chars().flat_map(fold).eq(other.chars().flat_map(fold))
}

/// Lower case of upper case, so that characters with a common capital meet as well.
fn fold(c: char) -> impl Iterator<Item = char> {
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
        }
        assert_eq!(only_folded("model", &["model"]), None);
        assert_eq!(only_folded("models", &["model"]), None);
        assert_eq!(only_folded("mödel", &["model"]), None);
    }
}
