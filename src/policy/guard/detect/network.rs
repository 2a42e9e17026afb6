//! IP addresses (RFC 4291, section 2.2, and dotted quads) and hardware addresses (IEEE 802).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::category::Category;
use super::{Detection, Text};

/// The longest IPv6 address, in bytes.
const MAX_IPV6: usize = 45;

/// The IPv4 address that begins with the digit at `start`. Loopback, `0.0.0.0` and netmasks tell nothing
/// of anybody, and after a letter and a slash or a `v` it is a version.
pub(in super::super) fn find_ipv4(text: Text<'_>, start: usize) -> Option<Detection> {
    let mut end = text.run_end(start, 17, |byte| byte.is_ascii_digit() || byte == b'.');
    if text.before(end) == Some(b'.') {
        end -= 1;
    }
    let is_part = matches!(text.before(start), Some(b'.' | b'-'));
    if is_part {
        return None;
    }
    let address: Ipv4Addr = std::str::from_utf8(text.slice(start..end)).ok()?.parse().ok()?;
    let is_version = text.before(start) == Some(b'/')
        && start
            .checked_sub(2)
            .and_then(|at| text.at(at))
            .is_some_and(|byte| byte.is_ascii_alphabetic());
    let is_plain = text.ends_word(end) && !matches!(text.from(end), [b'.' | b'-', b'0'..=b'9', ..]);
    let tells = !(address.is_loopback()
        || address.is_unspecified()
        || address.octets().starts_with(&[255]));
    (is_plain && tells && !is_version)
        .then_some(Detection { range: start..end, category: Category::IpAddress })
}

/// The end of a time of day whose first colon this is, as most colons between digits are: `12:30:45`.
pub(in super::super) fn time_end(text: Text<'_>, colon: usize) -> Option<usize> {
    let is_time = match text.from(colon) {
        [b':', b'0'..=b'5', b'0'..=b'9', b':', b'0'..=b'6', b'0'..=b'9', rest @ ..] => {
            !rest.first().is_some_and(|byte| byte.is_ascii_hexdigit() || *byte == b':')
        }
        _ => false,
    };
    is_time.then_some(colon + 6)
}

/// The IPv6 or hardware address around a colon, and where the run of its characters ends.
pub(in super::super) fn find_at_colon(text: Text<'_>, colon: usize) -> (Option<Detection>, usize) {
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || byte == b':';
    let start = text.run_start(colon, MAX_IPV6, is_part);
    let end = text.run_end(colon, MAX_IPV6, |byte| is_part(byte) || byte == b'.');
    let after = end.max(colon + 1);
    if !text.starts_word(start) || text.before(start) == Some(b'.') {
        return (None, after);
    }
    let run = text.slice(start..end);
    let colons = run.iter().filter(|byte| **byte == b':').count();
    // Most are times of day.
    if colons < 5 && !run.windows(2).any(|pair| pair == b"::") {
        return (None, after);
    }
    if let Some(found) = find_mac(text, start, b':') {
        return (Some(found), after);
    }
    // A sentence may end after it.
    let end =
        text.run_start(end, 1, |byte| matches!(byte, b'.' | b':') && text.from(end - 1) != b"::");
    (find_ipv6(text, start, end), after)
}

fn find_ipv6(text: Text<'_>, start: usize, end: usize) -> Option<Detection> {
    let address: Ipv6Addr = std::str::from_utf8(text.slice(start..end)).ok()?.parse().ok()?;
    let digits = text.slice(start..end).iter().filter(|byte| byte.is_ascii_hexdigit()).count();
    // `a::b` is a name in a program more often than an address.
    let tells = !address.is_loopback() && !address.is_unspecified() && digits >= 4;
    (tells && text.ends_word(end))
        .then_some(Detection { range: start..end, category: Category::IpAddress })
}

/// Whether hyphens stand around a pair of hexadecimal digits like in a hardware address: after it and the
/// next pair, or before it and the three pairs before.
pub(in super::super) fn can_be_in_hyphen_mac(text: Text<'_>, start: usize) -> bool {
    let is_hyphen = |place: usize| text.at(place) == Some(b'-');
    let is_before = |distance: usize| start.checked_sub(distance).is_some_and(is_hyphen);
    is_hyphen(start + 2) && is_hyphen(start + 5) || [1, 4, 7, 10].into_iter().all(is_before)
}

/// Six pairs of hexadecimal digits with hyphens, around the pair at `start..start + 2`.
pub(in super::super) fn find_hyphen_mac(text: Text<'_>, start: usize) -> Option<Detection> {
    let first = text.run_start(start, 15, |byte| byte.is_ascii_hexdigit() || byte == b'-');
    let first = first + text.slice(first..start).iter().take_while(|byte| **byte == b'-').count();
    find_mac(text, first, b'-').filter(|found| found.range.contains(&start))
}

fn find_mac(text: Text<'_>, start: usize, separator: u8) -> Option<Detection> {
    let end = start + 17;
    let bytes = text.slice(start..end);
    let is_form = bytes.len() == 17
        && bytes.iter().enumerate().all(|(place, byte)| match place % 3 {
            2 => *byte == separator,
            _ => byte.is_ascii_hexdigit(),
        });
    let is_whole = text.starts_word(start)
        && text.ends_word(end)
        && text.at(end) != Some(separator)
        && text.before(start) != Some(separator);
    // All zeros and all ones are nobody's.
    let tells = !bytes.iter().all(|byte| *byte == b'0' || *byte == separator)
        && !bytes.iter().all(|byte| matches!(byte, b'f' | b'F') || *byte == separator);
    (is_form && is_whole && tells)
        .then_some(Detection { range: start..end, category: Category::MacAddress })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colon(text: &str) -> Option<&str> {
        let found = find_at_colon(Text::new(text.as_bytes()), text.find(':')?).0?;
        Some(&text[found.range])
    }

    fn quad(text: &str) -> Option<&str> {
        let start = text.find(|char: char| char.is_ascii_digit())?;
        Some(&text[find_ipv4(Text::new(text.as_bytes()), start)?.range])
    }

    #[test]
    fn ipv4() {
        assert_eq!(quad("from 203.0.113.7."), Some("203.0.113.7"));
        assert_eq!(quad("http://10.1.2.3:80/"), Some("10.1.2.3"));
        assert_eq!(quad("10.1.2.0/24"), Some("10.1.2.0"));
        for text in [
            "127.0.0.1",
            "0.0.0.0",
            "255.255.255.0",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.256",
            "Chrome/120.0.0.0",
            "01.2.3.4",
        ] {
            assert_eq!(quad(text), None, "{text}");
        }
    }

    #[test]
    fn ipv6() {
        for address in [
            "2001:db8::8a2e:370:7334",
            "fe80::1ff:fe23:4567:890a",
            "2001:db8:0:1:1:1:1:1",
            "::ffff:192.0.2.128",
        ] {
            assert_eq!(colon(&format!("at {address}, x")), Some(address));
            assert_eq!(colon(&format!("[{address}]")), Some(address));
        }
        for text in ["::1", "std::io", "a::b", "12:30:45", "abc::def::", "dead:beef"] {
            assert_eq!(colon(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_told_from_addresses() {
        let end = |text: &str| time_end(Text::new(text.as_bytes()), 2);
        for text in ["12:30:45", "12:30:45 x", "12:30:45.5"] {
            assert_eq!(end(text), Some(8), "{text}");
        }
        for text in ["12:30", "12:30:4", "12:30:45:", "12:30:45a", "12:70:45", "12:30 45"] {
            assert_eq!(end(text), None, "{text}");
        }
    }

    #[test]
    fn each_pair_of_a_hyphen_mac_is_told() {
        let can_be = |text: &str, start| can_be_in_hyphen_mac(Text::new(text.as_bytes()), start);
        assert!((0..18).step_by(3).all(|start| can_be("AC-DE-48-00-11-22", start)));
        assert!([5, 8].into_iter().all(|start| !can_be("2026-11-27", start)));
    }

    #[test]
    fn mac() {
        assert_eq!(colon("00:1A:2b:3c:4D:5e"), Some("00:1A:2b:3c:4D:5e"));
        for text in
            ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "00:1A:2b:3c:4D", "00:1A:2b:3c:4D:5e:6f"]
        {
            assert_eq!(colon(text), None, "{text}");
        }
        let hyphen = |text: &str, start| {
            find_hyphen_mac(Text::new(text.as_bytes()), start).map(|found| found.range)
        };
        assert_eq!(hyphen("x AC-DE-48-00-11-22", 8), Some(2..19));
        assert_eq!(hyphen("AC-DE-48-00-11", 6), None);
        assert_eq!(hyphen("AC-DE-48-00-11-22-33", 6), None);
    }
}
