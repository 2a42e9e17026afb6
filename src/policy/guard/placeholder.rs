//! Placeholders: what stands for a value on its way to the provider, `TG_EMAIL_K7QZ3M2XW5RA`.
//!
//! They consist of letters, digits and underscores, so that they survive JSON, Markdown, URLs and shells.
//! Each is derived from the workspace, the caller, the conversation and the value: the same value has the
//! same placeholder within a conversation, so that the provider's prompt cache still hits, and nobody can
//! tell whether two conversations have a value in common.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;

use hmac::Mac;
use zeroize::Zeroizing;

use super::category::Category;
use crate::crypto::{derive, keyed};

/// What every placeholder begins with.
pub(super) const PREFIX: &str = "TG_";
/// 60 bits in base 32.
const DIGITS: usize = 12;
/// RFC 4648, section 6.
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// The longest placeholder, in bytes: the prefix, a label of at most 8 letters, and the digits.
const MAX_LENGTH: usize = PREFIX.len() + 8 + 1 + DIGITS;
/// The most backslashes in a row that a model may have put before an underscore.
const MAX_ESCAPES: usize = 4;
/// The longest text that can stand for a placeholder in an answer, in bytes: both of its underscores may
/// be escaped.
#[cfg(test)]
pub(super) const MAX_WRITTEN: usize = MAX_LENGTH + 2 * MAX_ESCAPES;
/// Separates this purpose from others of the data key.
const LABEL: &[u8] = b"tollgate guard placeholders v1";

/// Tells the conversations of a workspace apart: derived from what tells one, which it does not disclose to
/// anybody without the workspace's data key. The key of the placeholders is derived from both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConversationId(pub [u8; 32]);

/// The key that a conversation's placeholders are derived with.
pub struct ConversationKey {
    key: Zeroizing<[u8; 32]>,
    id: ConversationId,
    /// Whether the conversation lies at the provider, all of it guarded.
    is_continued: bool,
}

impl ConversationKey {
    /// Derives it from the workspace's data key, the caller (the id of the user or API key), and what
    /// tells the conversation: its session header, or
    /// [`conversation_digest`](super::conversation::conversation_digest).
    pub fn derive(data_key: &[u8; 32], caller: &[u8], conversation: &[u8]) -> Self {
        let workspace = derive(data_key, LABEL);
        let id = ConversationId(*derive(&derive(&workspace, caller), conversation));
        Self { key: derive(&workspace, &id.0), id, is_continued: false }
    }

    /// The key of a conversation whose earlier turns the provider has stored, and which were guarded: a
    /// reference to its last response is no reason to refuse a request.
    pub fn of_continued(data_key: &[u8; 32], id: ConversationId) -> Self {
        let workspace = derive(data_key, LABEL);
        Self { key: derive(&workspace, &id.0), id, is_continued: true }
    }

    /// What the key can be derived from again.
    pub fn id(&self) -> ConversationId {
        self.id
    }

    pub(super) fn is_continued(&self) -> bool {
        self.is_continued
    }

    /// The placeholder of a value. `attempt` tells apart the placeholders of one value.
    fn placeholder(&self, category: Category, value: &str, attempt: u8) -> String {
        let mut mac = keyed(&self.key);
        mac.update(category.as_str().as_bytes());
        mac.update(&[0, attempt]);
        mac.update(value.as_bytes());
        let digest = mac.finalize().into_bytes();
        let bits = digest.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte));
        let mut text = format!("{PREFIX}{}_", category.label());
        for place in 0..DIGITS {
            let value = bits >> (5 * place) & 31;
            text.extend(ALPHABET.get(value as usize).copied().map(char::from));
        }
        text
    }
}

impl fmt::Debug for ConversationKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ConversationKey(..)")
    }
}

/// Whether the bytes begin with a placeholder, of whatever conversation.
pub(super) fn is_placeholder(text: &[u8]) -> bool {
    read(text).is_some()
}

/// The placeholder that a text begins with, as it is usually written. The letter case does not matter,
/// nor do backslashes before underscores.
pub(super) fn read(text: &[u8]) -> Option<String> {
    let mut normal = Normalizer::new(text);
    if !PREFIX.bytes().all(|byte| normal.next() == Some(byte)) {
        return None;
    }
    let mut placeholder = PREFIX.to_owned();
    let mut label_end = None;
    while placeholder.len() < MAX_LENGTH {
        let byte = normal.next()?;
        match label_end {
            None if byte == b'_' => {
                let label = placeholder.get(PREFIX.len()..)?;
                Category::ALL.iter().find(|category| category.label() == label)?;
                label_end = Some(placeholder.len());
            }
            None if !byte.is_ascii_uppercase() => return None,
            Some(_) if !ALPHABET.contains(&byte) => return None,
            _ => {}
        }
        placeholder.push(char::from(byte));
        if label_end.is_some_and(|end| placeholder.len() == end + 1 + DIGITS) {
            return Some(placeholder);
        }
    }
    None
}

/// Reads characters of a placeholder in capital letters, without backslashes before underscores.
struct Normalizer<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Normalizer<'t> {
    fn new(text: &'t [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// The next character; `None` where there is none that a placeholder can have.
    fn next(&mut self) -> Option<u8> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let escapes = rest.iter().take(MAX_ESCAPES).take_while(|byte| **byte == b'\\').count();
        let byte = rest.get(escapes).copied()?;
        let is_part = byte == b'_' || (escapes == 0 && byte.is_ascii_alphanumeric());
        self.at += escapes + 1;
        is_part.then_some(byte.to_ascii_uppercase())
    }

    /// Whether the text ended before the next character.
    fn is_at_end(&self) -> bool {
        let rest = self.text.get(self.at..).unwrap_or_default();
        rest.len() <= MAX_ESCAPES && rest.iter().all(|byte| *byte == b'\\')
    }
}

/// The placeholders of a request, with the values that they stand for.
#[derive(Clone, Default)]
pub struct Placeholders {
    /// In ascending order.
    entries: Vec<(String, String)>,
    /// Bytes that were put back into the answer so far.
    restored: Cell<usize>,
}

/// The most bytes of values that one answer gets back: an upstream could repeat the placeholder of a long
/// value without end. What is beyond keeps its placeholder.
const MAX_RESTORED: usize = 16 * 1024 * 1024;

/// What a text begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Match<'p> {
    /// A placeholder of this length in bytes, and its value.
    Whole(usize, &'p str),
    /// The beginning of a placeholder, with which the text ends.
    Beginning,
    Nothing,
}

impl Placeholders {
    /// The number of different values that were replaced.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was replaced, so that nothing has to be restored.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What the text begins with. A whole placeholder counts as put back.
    pub(super) fn match_at(&self, text: &[u8]) -> Match<'_> {
        let found = self.look_at(text);
        if let Match::Whole(_, value) = found {
            let restored = self.restored.get().saturating_add(value.len());
            if restored > MAX_RESTORED {
                return Match::Nothing;
            }
            self.restored.set(restored);
        }
        found
    }

    /// The places of all placeholders in a text.
    pub(super) fn find_all(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut places: Vec<Range<usize>> = Vec::new();
        if self.is_empty() {
            return places;
        }
        for at in memchr::memchr2_iter(b'T', b't', text) {
            if places.last().is_some_and(|last| at < last.end) {
                continue;
            }
            if let Match::Whole(length, _) = self.look_at(text.get(at..).unwrap_or_default()) {
                places.push(at..at + length);
            }
        }
        places
    }

    fn look_at(&self, text: &[u8]) -> Match<'_> {
        let mut normal = Normalizer::new(text);
        let mut placeholder = [0_u8; MAX_LENGTH];
        for length in 1..=MAX_LENGTH {
            if normal.is_at_end() {
                return Match::Beginning;
            }
            let (Some(byte), Some(place)) = (normal.next(), placeholder.get_mut(length - 1)) else {
                return Match::Nothing;
            };
            *place = byte;
            let read = placeholder.get(..length).unwrap_or_default();
            let at = self.entries.partition_point(|(entry, _)| entry.as_bytes() < read);
            match self.entries.get(at) {
                Some((entry, value)) if entry.as_bytes() == read => {
                    return Match::Whole(normal.at, value);
                }
                Some((entry, _)) if entry.as_bytes().starts_with(read) => {}
                _ => return Match::Nothing,
            }
        }
        Match::Nothing
    }
}

impl fmt::Debug for Placeholders {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Placeholders({})", self.entries.len())
    }
}

/// Collects the placeholders of a request.
pub(super) struct PlaceholderBuilder<'k> {
    key: &'k ConversationKey,
    /// Placeholders that stand in the request as such. They are no value's.
    literals: BTreeSet<String>,
    by_value: HashMap<(Category, String), String>,
    values: HashMap<String, String>,
}

impl<'k> PlaceholderBuilder<'k> {
    pub(super) fn new(key: &'k ConversationKey, literals: BTreeSet<String>) -> Self {
        Self { key, literals, by_value: HashMap::new(), values: HashMap::new() }
    }

    /// The placeholder of a value. A value whose usual placeholder is taken gets another one; after 256
    /// of them it gets one that is not restored.
    pub(super) fn placeholder(&mut self, category: Category, value: &str) -> String {
        let key = (category, value.to_owned());
        if let Some(placeholder) = self.by_value.get(&key) {
            return placeholder.clone();
        }
        let candidates =
            (0..=u8::MAX).map(|attempt| self.key.placeholder(category, value, attempt));
        let is_free = |placeholder: &String| {
            !self.literals.contains(placeholder) && !self.values.contains_key(placeholder)
        };
        let Some(placeholder) = candidates.into_iter().find(is_free) else {
            return format!("{PREFIX}{}", category.label());
        };
        self.values.insert(placeholder.clone(), value.to_owned());
        self.by_value.insert(key, placeholder.clone());
        placeholder
    }

    pub(super) fn finish(self) -> Placeholders {
        let mut entries: Vec<_> = self.values.into_iter().collect();
        entries.sort_unstable();
        Placeholders { entries, restored: Cell::new(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(data_key: u8, caller: &str, conversation: &str) -> ConversationKey {
        ConversationKey::derive(&[data_key; 32], caller.as_bytes(), conversation.as_bytes())
    }

    #[test]
    fn everything_that_it_is_derived_from_changes_it() {
        let of = |key: &ConversationKey, category, value: &str| key.placeholder(category, value, 0);
        let first = key(1, "a", "s");
        let usual = of(&first, Category::Email, "a@b.co");
        assert_eq!(usual, of(&key(1, "a", "s"), Category::Email, "a@b.co"));
        for other in [
            of(&first, Category::Email, "A@b.co"),
            of(&first, Category::Phone, "a@b.co"),
            of(&key(2, "a", "s"), Category::Email, "a@b.co"),
            of(&key(1, "b", "s"), Category::Email, "a@b.co"),
            of(&key(1, "a", "t"), Category::Email, "a@b.co"),
            first.placeholder(Category::Email, "a@b.co", 1),
        ] {
            assert_ne!(usual, other);
        }
        assert!(usual.starts_with("TG_EMAIL_"));
        // The conversation goes on, whoever asks.
        let continued = ConversationKey::of_continued(&[1; 32], first.id());
        assert_eq!(usual, of(&continued, Category::Email, "a@b.co"));
        let next_door = ConversationKey::of_continued(&[2; 32], first.id());
        assert_ne!(usual, of(&next_door, Category::Email, "a@b.co"));
        for category in Category::ALL {
            let text = of(&first, category, "x");
            assert!(
                text.len() <= MAX_LENGTH
                    && text.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
            );
            assert_eq!(read(text.as_bytes()), Some(text));
        }
    }

    #[test]
    fn what_stands_in_the_request_is_no_placeholder_of_a_value() {
        let key = key(1, "a", "s");
        let usual = key.placeholder(Category::Email, "a@b.co", 0);
        let mut builder = PlaceholderBuilder::new(&key, [usual.clone()].into());
        let other = builder.placeholder(Category::Email, "a@b.co");
        assert_eq!(builder.placeholder(Category::Email, "a@b.co"), other);
        let placeholders = builder.finish();
        assert_eq!(placeholders.len(), 1);
        assert_eq!(placeholders.match_at(usual.as_bytes()), Match::Nothing);
        assert_eq!(placeholders.match_at(other.as_bytes()), Match::Whole(other.len(), "a@b.co"));
    }

    #[test]
    fn what_models_write() {
        let key = key(1, "a", "s");
        let mut builder = PlaceholderBuilder::new(&key, BTreeSet::new());
        let placeholder = builder.placeholder(Category::Phone, "+1");
        let placeholders = builder.finish();
        for written in [
            placeholder.clone(),
            placeholder.to_lowercase(),
            placeholder.replace('_', "\\_"),
            placeholder.replace('_', "\\\\_"),
        ] {
            let text = format!("{written}s and more");
            assert_eq!(placeholders.match_at(text.as_bytes()), Match::Whole(written.len(), "+1"));
            assert_eq!(read(text.as_bytes()).as_ref(), Some(&placeholder));
            for end in 1..written.len() {
                let cut = &written.as_bytes()[..end];
                assert_eq!(placeholders.match_at(cut), Match::Beginning, "{written} {end}");
            }
        }
        for other in ["TG_", "TG_PHONF", "TX", "TG_PHONE_\\A", "TG PHONE"] {
            let is_beginning = placeholders.match_at(other.as_bytes()) == Match::Beginning;
            assert_eq!(is_beginning, other == "TG_", "{other}");
        }
    }
}
