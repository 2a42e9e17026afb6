//! Puts values back into a text that arrives in pieces. It holds back only what may be the beginning of a
//! placeholder of the request, which is at most its length.

use super::super::placeholder::{Match, Placeholders};
use super::nesting::Nesting;

/// Restores one text: a string, or a block of an answer.
#[derive(Debug, Default)]
pub(super) struct TextRestorer {
    nesting: Nesting,
    held: String,
}

impl TextRestorer {
    /// The bytes that are kept.
    pub(super) fn kept(&self) -> usize {
        self.held.len()
    }

    /// Whether something is held back.
    pub(super) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Appends to `out` what follows in the restored text after this piece of it.
    pub(super) fn push(&mut self, placeholders: &Placeholders, piece: &str, out: &mut String) {
        if self.held.is_empty() {
            self.restore(placeholders, piece, false, out);
        } else {
            let mut text = std::mem::take(&mut self.held);
            text.push_str(piece);
            self.restore(placeholders, &text, false, out);
        }
    }

    /// Appends the rest.
    pub(super) fn finish(&mut self, placeholders: &Placeholders, out: &mut String) {
        let text = std::mem::take(&mut self.held);
        self.restore(placeholders, &text, true, out);
    }

    fn restore(&mut self, placeholders: &Placeholders, text: &str, is_end: bool, out: &mut String) {
        let bytes = text.as_bytes();
        let mut done = 0;
        let mut at = 0;
        while let Some(offset) = memchr::memchr2(b'T', b't', bytes.get(at..).unwrap_or_default()) {
            at += offset;
            match placeholders.match_at(bytes.get(at..).unwrap_or_default()) {
                Match::Whole(length, value) => {
                    self.copy(text.get(done..at), out);
                    self.put(value, out);
                    at += length;
                    done = at;
                }
                Match::Beginning if !is_end => {
                    self.copy(text.get(done..at), out);
                    self.held.push_str(text.get(at..).unwrap_or_default());
                    return;
                }
                Match::Beginning | Match::Nothing => at += 1,
            }
        }
        self.copy(text.get(done..), out);
    }

    fn copy(&mut self, text: Option<&str>, out: &mut String) {
        let text = text.unwrap_or_default();
        self.nesting.read(text.as_bytes());
        out.push_str(text);
    }

    /// Puts a value, with the escapes of the strings that it stands in.
    fn put(&mut self, value: &str, out: &mut String) {
        let depth = self.nesting.depth();
        // To the text around it, a value is a word.
        self.nesting.read(b"x");
        let mut value = std::borrow::Cow::Borrowed(value);
        for _ in 0..depth {
            value = escaped(&value).into();
        }
        out.push_str(&value);
    }
}

/// The text as it stands between the quotes of a JSON string.
pub(super) fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::super::category::Category;
    use super::super::super::placeholder::{ConversationKey, MAX_WRITTEN, PlaceholderBuilder};
    use super::super::tests::cut;
    use super::*;

    const VALUES: [&str; 5] = ["a@b.co", "A@b.co", "p\"w\\n", "line\nline", "é😀"];

    /// The placeholders of [`VALUES`], and all of them.
    fn placeholders() -> (Vec<String>, Placeholders) {
        let key = ConversationKey::derive(&[1; 32], b"a", b"b");
        let mut builder = PlaceholderBuilder::new(&key, BTreeSet::new());
        let texts =
            VALUES.iter().map(|value| builder.placeholder(Category::Custom, value)).collect();
        (texts, builder.finish())
    }

    fn restored(pieces: &[&str]) -> String {
        let (_, all) = placeholders();
        let (mut restorer, mut out) = (TextRestorer::default(), String::new());
        for piece in pieces {
            restorer.push(&all, piece, &mut out);
            assert!(restorer.held.len() < MAX_WRITTEN);
        }
        restorer.finish(&all, &mut out);
        assert!(!restorer.is_holding());
        out
    }

    #[test]
    fn what_models_make_of_placeholders() {
        let (texts, _) = placeholders();
        let first = &texts[0];
        let escaped = first.replace('_', "\\_");
        for (text, expected) in [
            (first.clone(), "a@b.co".to_owned()),
            (first.to_lowercase(), "a@b.co".to_owned()),
            (format!("[{first}]"), "[a@b.co]".to_owned()),
            (format!("**{escaped}**"), "**a@b.co**".to_owned()),
            (format!("{first}{}", texts[1]), "a@b.coA@b.co".to_owned()),
            (format!("{first}'s"), "a@b.co's".to_owned()),
            (format!("tTG_T{first}"), "tTG_Ta@b.co".to_owned()),
            ("TG_EMAIL_ABCDEFGH2345".to_owned(), "TG_EMAIL_ABCDEFGH2345".to_owned()),
            (first[..20].to_owned(), first[..20].to_owned()),
            (format!("{{\"x\":\"{}\"}}", texts[2]), r#"{"x":"p\"w\\n"}"#.to_owned()),
            (
                format!("{{\"x\":\"[\\\"{}\\\"]\"}}", texts[3]),
                r#"{"x":"[\"line\\nline\"]"}"#.to_owned(),
            ),
            (format!("say \"{}\"", texts[2]), "say \"p\"w\\n\"".to_owned()),
        ] {
            assert_eq!(restored(&[&text]), expected, "{text}");
        }
    }

    #[test]
    fn nothing_is_held_back_where_no_placeholder_can_begin() {
        let (_, all) = placeholders();
        for (piece, held) in [
            ("Write to", ""),
            ("that", "t"),
            ("TG", "TG"),
            ("tg_x", ""),
            ("TG_VALUE", "TG_VALUE"),
            ("TG_EMAIL", ""),
        ] {
            let (mut restorer, mut out) = (TextRestorer::default(), String::new());
            restorer.push(&all, piece, &mut out);
            assert_eq!(restorer.held, held);
            assert_eq!(format!("{out}{held}"), piece);
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(
            parts in prop::collection::vec((0..7_usize, "[tTgG_\\\\ a\"{\\[é]{0,4}"), 0..12),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let (texts, _) = placeholders();
            let mut text = String::new();
            for (place, other) in &parts {
                text.push_str(texts.get(*place).map_or("", |placeholder| placeholder));
                text.push_str(other);
            }
            prop_assert_eq!(restored(&cut(&text, &cuts)), restored(&[&text]));
        }
    }
}
