//! Names, places and organizations, which no form tells: a service recognizes them
//! ([`Presidio`](crate::presidio::Presidio)). Here are the texts that it is asked about, and what it found.
//!
//! A body is read twice: [`Guard::entity_texts`] collects its texts, and after the answer
//! [`Guard::redact`](super::policy::Guard::redact) finds each text again in [`Entities`].

use std::collections::HashMap;
use std::ops::Range;

use super::category::Category;
use super::placeholder;
use super::policy::Guard;
use super::redact::{Redactor, ScanError};
use super::scan::{Finding, Findings};
use super::texts::{Treatment, Word};
use crate::llm::format::Format;

/// The most text of a request, or of an answer, that the service is asked about, in bytes. A small model reads about 15 KB a
/// second on one core, so that more is late at any time-out of a policy.
pub(super) const MAX_TEXT: usize = 4 << 20;

/// What a service found, by text.
#[derive(Default)]
pub struct Entities(HashMap<Vec<u8>, Vec<(Range<usize>, Category)>>);

impl Entities {
    /// Adds what was found in a text; the ranges are in bytes. What overlaps and has one category becomes
    /// one. A placeholder is no name, whatever it looks like.
    pub fn insert(&mut self, text: Vec<u8>, mut found: Vec<(Range<usize>, Category)>) {
        found.retain(|(range, _)| {
            let read = text.get(range.clone()).and_then(placeholder::read);
            read.is_none_or(|placeholder| placeholder.len() < range.len())
        });
        found.sort_by_key(|(range, category)| (*category, range.start));
        found.dedup_by(|next, last| {
            let is_same = next.1 == last.1 && next.0.start < last.0.end;
            if is_same {
                last.0.end = last.0.end.max(next.0.end);
            }
            is_same
        });
        if !found.is_empty() {
            self.0.insert(text, found);
        }
    }

    /// What was found, wherever it was.
    pub(super) fn names(&self) -> impl Iterator<Item = (&[u8], Category)> {
        self.0.iter().flat_map(|(text, found)| {
            found.iter().filter_map(|(range, category)| {
                text.get(range.clone()).map(|name| (name, *category))
            })
        })
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what was found in this text.
    pub(super) fn add_to(&self, text: &[u8], findings: &mut Findings) {
        for (range, category) in self.0.get(text).into_iter().flatten() {
            let finding = Finding { range: range.clone(), category: *category, pattern: None };
            findings.found.push(finding);
        }
    }
}

/// What becomes of the texts of a body.
pub(super) enum EntityPass<'a> {
    /// They are collected for a service.
    Collect(TextsToScan),
    /// They are scanned; this is what the service found.
    Scan(&'a Entities),
}

/// Texts for a service.
#[derive(Default)]
pub(super) struct TextsToScan {
    texts: Vec<Vec<u8>>,
    bytes: usize,
}

impl EntityPass<'_> {
    /// Whether texts are only collected. Then this one is, if there may be names in it.
    pub(super) fn collect(
        &mut self,
        text: &[u8],
        treatment: Treatment,
        word: Word,
    ) -> Result<bool, ScanError> {
        let Self::Collect(collected) = self else { return Ok(false) };
        if can_have_entities(text, treatment, word) {
            collected.bytes += text.len();
            if collected.bytes > MAX_TEXT {
                return Err(ScanError::TooMuchText);
            }
            collected.texts.push(text.to_vec());
        }
        Ok(true)
    }

    /// Adds what the service found in a text. The same text may stand elsewhere, where it is a constant.
    pub(super) fn add_to(
        &self,
        text: &[u8],
        (treatment, word): (Treatment, Word),
        findings: &mut Findings,
    ) {
        if let Self::Scan(entities) = self
            && !entities.is_empty()
            && can_have_entities(text, treatment, word)
        {
            entities.add_to(text, findings);
        }
    }

    /// How many texts are collected so far.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Collect(collected) => collected.texts.len(),
            Self::Scan(_) => 0,
        }
    }

    /// Forgets all but the first texts.
    pub(super) fn truncate(&mut self, len: usize) {
        if let Self::Collect(collected) = self {
            let gone = collected.texts.drain(len.min(collected.texts.len())..);
            collected.bytes -= gone.map(|text| text.len()).sum::<usize>();
        }
    }
}

/// Whether it is worth asking. Ids, URLs and constants are full of what looks like a name to a model, and
/// providers refuse what replaces them; among several words a name is one. A word alone is one if it stands
/// where people write, or is written like one: `Paris`, and words of scripts without capital letters.
pub(super) fn can_have_entities(text: &[u8], treatment: Treatment, word: Word) -> bool {
    let text = text.trim_ascii();
    let has_letters = text.iter().any(|byte| byte.is_ascii_alphabetic() || !byte.is_ascii());
    let has_words = text.iter().any(u8::is_ascii_whitespace);
    has_letters
        && match treatment {
            Treatment::Text if !has_words => match word {
                Word::Prose => true,
                Word::Value => is_written_like_a_name(text),
                Word::Format => false,
            },
            Treatment::Text | Treatment::Identifier => has_words,
            Treatment::Constant | Treatment::Opaque => false,
        }
}

fn is_written_like_a_name(word: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphabetic() || b"-'.,".contains(byte);
    let has_capital = word.first().is_some_and(u8::is_ascii_uppercase);
    !word.is_ascii()
        || (has_capital && word.iter().all(is_part) && word.iter().any(u8::is_ascii_lowercase))
}

impl Guard {
    /// The texts of a body that a service has to look through, each once.
    pub fn entity_texts(
        &self,
        format: Format,
        body: &[u8],
        keep_going: &dyn Fn() -> bool,
    ) -> Result<Vec<Vec<u8>>, ScanError> {
        let pass = EntityPass::Collect(TextsToScan::default());
        let mut redactor = Redactor::new(self, format, keep_going, pass);
        redactor.read_body(body)?;
        let EntityPass::Collect(TextsToScan { mut texts, .. }) = redactor.pass else {
            return Ok(Vec::new());
        };
        texts.sort_unstable();
        texts.dedup();
        Ok(texts)
    }

    /// Those of the texts that cannot be changed, such as headers, that a service has to look through.
    pub fn fixed_entity_texts<'t>(
        &self,
        texts: impl IntoIterator<Item = &'t Vec<u8>>,
    ) -> Vec<Vec<u8>> {
        let texts = texts.into_iter();
        texts
            .filter(|text| can_have_entities(text, Treatment::Identifier, Word::Format))
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::guard::policy::GuardConfig;

    fn guard(scan: &str) -> Guard {
        let config = format!(
            r#"{{"version":1,"detect":{{"pii":["person_name","location"]}},"scan":{scan}}}"#
        );
        let config: GuardConfig = serde_json::from_str(&config).unwrap();
        Guard::new(&[config]).unwrap().unwrap()
    }

    fn texts(guard: &Guard, body: &str) -> Vec<String> {
        let texts = guard.entity_texts(Format::Chat, body.as_bytes(), &|| true).unwrap();
        texts.into_iter().map(|text| String::from_utf8(text).unwrap()).collect()
    }

    #[test]
    fn prose_is_collected_and_what_a_protocol_needs_is_not() {
        let body = r#"{"model":"gpt-4o","user":"u-1","reasoning_effort":"High","messages":[
            {"role":"system","content":"Be brief."},
            {"role":"user","name":"Grace","content":"Ask Jos\u00e9"},
            {"role":"user","content":"nasa"},
            {"role":"user","content":[{"type":"text","text":"Ask Jos\u00e9"},
                {"type":"image_url","image_url":{"url":"https://example.org/Ada"}}]},
            {"role":"assistant","tool_calls":[{"id":"call_1","function":{"name":"find","arguments":
                "{\"city\":\"Paris\",\"unit\":\"fahrenheit\",\"mode\":\"AUTO\",\"Ada L\":\"東京\"}"}}]}]}"#;
        let expected = ["Ada L", "Ask José", "Be brief.", "Grace", "Paris", "nasa", "東京"];
        assert_eq!(texts(&guard("{}"), body), expected);
        let without_system = ["Ada L", "Ask José", "Grace", "Paris", "nasa", "東京"];
        assert_eq!(texts(&guard(r#"{"system":false}"#), body), without_system);
    }

    #[test]
    fn identifiers_of_several_words_are_collected() {
        let guard = guard("{}");
        let given = [b"Ada Lovelace".to_vec(), b"sse".to_vec(), b"2024 10".to_vec()];
        assert_eq!(guard.fixed_entity_texts(&given), [b"Ada Lovelace".to_vec()]);
    }

    #[test]
    fn a_large_request_is_not_collected() {
        let text = "Ada ".repeat(MAX_TEXT / 4);
        let body = format!(r#"{{"messages":[{{"role":"user","content":"{text}, Ada"}}]}}"#);
        let result = guard("{}").entity_texts(Format::Chat, body.as_bytes(), &|| true);
        assert_eq!(result.err(), Some(ScanError::TooMuchText));
    }

    #[test]
    fn parts_of_a_name_become_one_and_placeholders_are_none() {
        let text = b"Ada Lovelace wrote to TG_PERSON_ABCDEFGHIJKL in Paris".to_vec();
        let mut entities = Entities::default();
        let found = [
            (0..3, Category::PersonName),
            (4..12, Category::PersonName),
            (22..44, Category::PersonName),
            (48..53, Category::Location),
            (22..53, Category::Organization),
            (0..12, Category::PersonName),
        ];
        entities.insert(text.clone(), found.to_vec());
        let mut findings = Findings::default();
        entities.add_to(&text, &mut findings);
        let found: Vec<_> = findings.found.into_iter().map(|one| one.range).collect();
        assert_eq!(found, [0..12, 48..53, 22..53]);
    }
}
