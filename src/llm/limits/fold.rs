//! Names as the most lenient parser reads them: without regard to letter case.
//!
//! Go's `encoding/json` takes the long s for `s` and the Kelvin sign for `k`; Java's
//! `equalsIgnoreCase` takes the dotted and the dotless i for `i`.

/// Bytes of the longest name that anybody here asks for.
pub(crate) const LONGEST: usize = 24;

/// The name in lower case; nothing if it is longer than all that are asked for, or can't be one of
/// them.
pub(crate) fn folded<'b>(name: &str, buffer: &'b mut [u8; LONGEST]) -> Option<&'b [u8]> {
    let mut length = 0;
    if name.is_ascii() {
        let target = buffer.get_mut(..name.len())?;
        target.copy_from_slice(name.as_bytes());
        target.make_ascii_lowercase();
        length = name.len();
    } else {
        for character in name.chars() {
            let folded = match character {
                '\u{17f}' => 's',
                '\u{212a}' => 'k',
                '\u{130}' | '\u{131}' => 'i',
                other => other.to_ascii_lowercase(),
            };
            *buffer.get_mut(length)? = u8::try_from(folded).ok().filter(u8::is_ascii)?;
            length += 1;
        }
    }
    buffer.get(..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_some_take_for_others() {
        for (name, read) in [
            ("Type", Some("type")),
            ("file_\u{131}d", Some("file_id")),
            ("FILE_\u{130}D", Some("file_id")),
            ("\u{17f}ystem", Some("system")),
            ("bac\u{212a}ground", Some("background")),
            ("typé", None),
            ("a_name_that_is_longer_than_any", None),
            ("", Some("")),
        ] {
            let mut buffer = [0; LONGEST];
            assert_eq!(folded(name, &mut buffer), read.map(str::as_bytes), "{name}");
        }
    }
}
