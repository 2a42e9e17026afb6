//! Takes the blanks out of a JSON text.

use std::borrow::Cow;

/// The text without the blanks between its tokens; all else, numbers and strings too, stays as it was
/// written. The text has to be valid JSON.
pub(crate) fn compact(json: &str) -> Cow<'_, str> {
    let is_blank = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    if !json.bytes().any(is_blank) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    let (mut in_string, mut is_escaped) = (false, false);
    for character in json.chars() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = in_string,
            '"' => in_string = !in_string,
            ' ' | '\t' | '\n' | '\r' if !in_string => continue,
            _ => {}
        }
        out.push(character);
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_in_strings_and_the_rest_stay() {
        let json = "{ \"a b\" : [ 1.0 ,\n\t1e400 ], \"c\": \"x \\\" y\\\\\" , \"é\": \"\" }";
        assert_eq!(compact(json), r#"{"a b":[1.0,1e400],"c":"x \" y\\","é":""}"#);
        assert!(matches!(compact("[1,2]"), Cow::Borrowed("[1,2]")));
    }
}
