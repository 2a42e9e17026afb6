//! Keys of this gateway, told by their checksum.

use super::super::category::Category;
use super::{Detection, Text};
use crate::crypto::ApiKeyText;

/// What every key begins with.
pub(in super::super) const PREFIX: &str = "tg_";
/// The longest run of key characters that is looked at, in bytes.
const MAX_LENGTH: usize = 66;

/// A key whose prefix begins at `start`.
pub(in super::super) fn find(text: Text<'_>, start: usize) -> Option<Detection> {
    if !text.starts_word(start) {
        return None;
    }
    let end = text.run_end(start, MAX_LENGTH, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let key = std::str::from_utf8(text.slice(start..end)).ok()?;
    ApiKeyText::parse(key).ok()?;
    Some(Detection { range: start..end, category: Category::GatewayKey })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_decides() {
        let mut seed = 7_u8;
        let mut random = |buffer: &mut [u8]| {
            for byte in buffer {
                seed = seed.wrapping_mul(13).wrapping_add(41);
                *byte = seed;
            }
            Ok(())
        };
        let key = ApiKeyText::generate(&mut random).unwrap().text;
        let key = key.expose();
        let text = format!("key={key}.");
        let found = find(Text::new(text.as_bytes()), 4).unwrap();
        assert_eq!(&text[found.range], key);
        let last = if key.ends_with('0') { '1' } else { '0' };
        let typo = format!("{}{last}", &key[..key.len() - 1]);
        assert_eq!(find(Text::new(typo.as_bytes()), 0), None);
        assert_eq!(find(Text::new(format!("{key}_").as_bytes()), 0), None);
    }
}
