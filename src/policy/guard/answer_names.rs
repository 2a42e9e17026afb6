//! Names, places and organizations in answers: the texts that a service is asked about, and what it found.
//!
//! A name is looked for wherever it stands in the answer, since a stream has it in pieces, and in
//! arguments of tools behind escapes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use aho_corasick::AhoCorasick;

use super::category::Category;
use super::entities::{Entities, MAX_TEXT, can_have_entities};
use super::redact::{ScanError, hides_text};
use super::texts::{Area, Place, Treatment, Word, word_of};
use crate::json::escapes::UnescapedText;

/// The longest name that is looked for, in bytes.
const MAX_NAME: usize = 256;

/// What a service found in an answer.
pub struct AnswerNames {
    automaton: AhoCorasick,
    /// Of each name.
    categories: Vec<BTreeSet<Category>>,
    longest: usize,
}

impl AnswerNames {
    /// The names; `None` if there are none.
    pub fn new(entities: &Entities) -> Result<Option<Self>, ScanError> {
        let mut names: BTreeMap<&[u8], BTreeSet<Category>> = BTreeMap::new();
        for (name, category) in entities.names() {
            let name = name.trim_ascii();
            if (2..=MAX_NAME).contains(&name.len()) {
                names.entry(name).or_default().insert(category);
            }
        }
        if names.is_empty() {
            return Ok(None);
        }
        let automaton = AhoCorasick::new(names.keys()).map_err(|_| ScanError::TooManyValues)?;
        let longest = names.keys().map(|name| name.len()).max().unwrap_or(0);
        Ok(Some(Self { automaton, categories: names.into_values().collect(), longest }))
    }

    /// The length of the longest name, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// The names in a text, but for those that are a part of a word.
    pub(super) fn find<'s>(
        &'s self,
        text: &'s [u8],
    ) -> impl Iterator<Item = (Range<usize>, Category)> + 's {
        let is_letter = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let is_inside = move |left: Option<usize>, right: usize| {
            is_letter(left.and_then(|left| text.get(left))) && is_letter(text.get(right))
        };
        let found = self.automaton.find_overlapping_iter(text).filter(move |found| {
            let (start, end) = (found.start(), found.end());
            !is_inside(start.checked_sub(1), start) && !is_inside(end.checked_sub(1), end)
        });
        found.flat_map(|found| {
            let categories = self.categories.get(found.pattern().as_usize()).into_iter().flatten();
            categories.map(move |category| (found.range(), *category))
        })
    }
}

/// Texts that a model has written, for a service.
#[derive(Debug, Default)]
pub(super) struct AnswerTexts {
    texts: BTreeSet<Vec<u8>>,
    bytes: usize,
}

impl AnswerTexts {
    /// Adds the text of the JSON member `name`, if there may be names in it.
    pub(super) fn add(&mut self, text: &[u8], name: &[u8]) {
        let word = match word_of(Area::Body, Place { key: name, container: b"" }) {
            Word::Prose => Word::Prose,
            Word::Value | Word::Format => Word::Value,
        };
        if can_have_entities(text, Treatment::Text, word) && self.bytes <= MAX_TEXT {
            let unescaped = hides_text(text).then(|| UnescapedText::read(text)).flatten();
            let texts = [Some(text.to_vec()), unescaped.map(|unescaped| unescaped.text)];
            for text in texts.into_iter().flatten() {
                let bytes = text.len();
                if self.texts.insert(text) {
                    self.bytes += bytes;
                }
            }
        }
    }

    /// All of them, each once.
    pub(super) fn finish(self) -> Result<Vec<Vec<u8>>, ScanError> {
        match self.bytes <= MAX_TEXT {
            true => Ok(self.texts.into_iter().collect()),
            false => Err(ScanError::TooMuchText),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_where_they_are_words() {
        let mut entities = Entities::default();
        let text = b"Ada Lovelace met Al in \xe6\x9d\xb1\xe4\xba\xac ".to_vec();
        let found = [
            (0..12, Category::PersonName),
            (0..3, Category::Organization),
            (17..19, Category::PersonName),
            (23..30, Category::Location),
        ];
        entities.insert(text, found.to_vec());
        let names = AnswerNames::new(&entities).unwrap().unwrap();
        assert_eq!(names.longest(), 12);
        let found = |text: &str| {
            let mut found: Vec<_> = names.find(text.as_bytes()).collect();
            found.sort_by_key(|(range, _)| (range.start, range.end));
            found
        };
        assert_eq!(
            found("Ada Lovelace"),
            [(0..3, Category::Organization), (0..12, Category::PersonName)]
        );
        assert_eq!(found("Also Adamant, 2Al"), []);
        assert_eq!(found("(Al) は東京です").len(), 2);
        assert!(AnswerNames::new(&Entities::default()).unwrap().is_none());
    }

    #[test]
    fn texts_are_collected_once_and_up_to_a_limit() {
        let mut texts = AnswerTexts::default();
        for (text, name) in [
            (&b"Ask Ada"[..], &b"content"[..]),
            (b"Ask Ada", b"content"),
            (b"nasa", b"content"),
            (b"nasa", b"mode"),
            (br"to Jos\u00e9 ", b"x"),
        ] {
            texts.add(text, name);
        }
        let expected: Vec<Vec<u8>> = ["Ask Ada", "nasa", "to Jos\\u00e9 ", "to José "]
            .map(|text| text.as_bytes().to_vec())
            .into();
        assert_eq!(texts.finish().unwrap(), expected);
        let mut texts = AnswerTexts::default();
        for number in 0..5 {
            texts.add(format!("{number} {}", "Ada ".repeat(MAX_TEXT / 16)).as_bytes(), b"content");
        }
        assert_eq!(texts.finish(), Err(ScanError::TooMuchText));
    }
}
