//! E-mail addresses: the common form of RFC 5321 and RFC 6531, without quotes and comments.

use super::super::category::Category;
use super::{Detection, Text};

/// RFC 5321, section 4.5.3.1: the longest local part and domain, in bytes.
const MAX_LOCAL: usize = 64;
const MAX_DOMAIN: usize = 255;
/// What looks like a top-level domain and is the end of a file's name: `icon@2x.png`.
const FILE_ENDINGS: [&str; 9] = ["png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "ts"];

/// The address around an `@`.
pub(in super::super) fn find(text: Text<'_>, at: usize) -> Option<Detection> {
    let end = domain_end(text, at + 1)?;
    let start = local_start(text, at)?;
    // The user of all repositories is no person.
    let is_git = text.slice(start..at) == b"git";
    (!is_git).then_some(Detection { range: start..end, category: Category::Email })
}

fn is_atom(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_{|}~-.".contains(&byte)
}

/// Whether a letter of an address may stand in this two-byte sequence: Latin, Greek and Cyrillic
/// letters. Other scripts write text without blanks around an address.
fn is_two_byte_letter(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| *first >= 0xc2)
        && std::str::from_utf8(bytes)
            .is_ok_and(|text| text.chars().all(|char| char.is_alphabetic() && char < '\u{530}'))
}

fn local_start(text: Text<'_>, at: usize) -> Option<usize> {
    let mut start = at;
    while at - start < MAX_LOCAL {
        let one = text.run_start(start, MAX_LOCAL, is_atom);
        let two = one.checked_sub(2).filter(|two| is_two_byte_letter(text.slice(*two..one)));
        let next = two.unwrap_or(one);
        if next == start {
            break;
        }
        start = next;
    }
    let start = start.max(at.saturating_sub(MAX_LOCAL));
    let mut start =
        start + text.slice(start..at).iter().take_while(|byte| byte.is_ascii_punctuation()).count();
    // What an address is written after, and can't be told from its characters.
    let is_mark = |byte: &u8| b"=/?&'*|{}%".contains(byte);
    start += text.slice(start..at).iter().rposition(is_mark).map_or(0, |place| place + 1);
    if matches!(text.at(start), Some(b'n' | b'r' | b't')) && text.before(start) == Some(b'\\') {
        start += 1;
    }
    let local = text.slice(start..at);
    let is_local = !local.is_empty()
        && local.first() != Some(&b'.')
        && local.last() != Some(&b'.')
        && !local.windows(2).any(|pair| pair == b"..");
    is_local.then_some(start)
}

fn domain_end(text: Text<'_>, start: usize) -> Option<usize> {
    let is_domain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    if !text.at(start).is_some_and(|byte| byte.is_ascii_alphanumeric() || byte >= 0x80) {
        return None;
    }
    let mut end = start;
    while end - start < MAX_DOMAIN {
        let one = text.run_end(end, MAX_DOMAIN, is_domain);
        let two = text.slice(one..one + 2);
        let next = if !two.is_empty() && is_two_byte_letter(two) { one + 2 } else { one };
        if next == end {
            break;
        }
        end = next;
    }
    while matches!(text.before(end), Some(b'.' | b'-')) && end > start {
        end -= 1;
    }
    let domain = text.slice(start..end);
    memchr::memchr(b'.', domain)?;
    let mut labels = domain.split(|byte| *byte == b'.');
    let top = labels.next_back()?;
    let is_label = |label: &[u8]| {
        (1..=63).contains(&label.len()) && !label.starts_with(b"-") && !label.ends_with(b"-")
    };
    let is_top = top.len() >= 2
        && top.len() <= 63
        && (top.iter().all(u8::is_ascii_alphabetic)
            || top.starts_with(b"xn--")
            || std::str::from_utf8(top).is_ok_and(|top| top.chars().all(char::is_alphabetic)));
    let is_file = FILE_ENDINGS.iter().any(|ending| top.eq_ignore_ascii_case(ending.as_bytes()));
    let mut others = 0;
    let are_labels = labels.all(|label| {
        others += 1;
        is_label(label)
    });
    (is_top && !is_file && are_labels && others > 0).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_in(text: &str) -> Option<&str> {
        let found = find(Text::new(text.as_bytes()), text.rfind('@')?)?;
        Some(&text[found.range])
    }

    #[test]
    fn addresses() {
        for address in [
            "a@b.co",
            "first.last+tag@mail.example.com",
            "o'neil@example.org",
            "müller@exämple.de",
            "иван@пример.рф",
            "x_1@xn--bcher-kva.example",
            "x@sub-domain.example.museum",
        ] {
            let expected = address.strip_prefix("o'").unwrap_or(address);
            for text in
                ["%", "<%>", "mailto:%", "Write to %.", "(%)", "a=%&b", "邮箱是%，谢谢", "x\\n%"]
            {
                assert_eq!(
                    find_in(&text.replace('%', address)),
                    Some(expected),
                    "{text} {address}"
                );
            }
        }
    }

    #[test]
    fn near_misses() {
        for text in [
            "@user",
            "a@b",
            "a@1.2.3",
            "icon@2x.png",
            "git@github.com:a/b.git",
            "a@-b.com",
            "a@b..com",
            "a.@b.com",
            "package@1.0.0-beta",
            "a @b.com",
            "a@ b.com",
        ] {
            assert_eq!(find_in(text), None, "{text}");
        }
    }
}
