//! The calls for the texts of a request, and the answers to them. A long text is sent in pieces that
//! overlap, so that what the end of one cuts is whole in the next.
//!
//! Presidio counts in characters (Unicode code points), we in bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::policy::guard::category::{Categories, Category};
use crate::policy::guard::entities::Entities;

/// The longest piece of a text, in bytes.
const MAX_PIECE: usize = 16 * 1024;
/// How much of a piece is in the next one, too, in bytes. Names are shorter, and models look at the words
/// around them.
const OVERLAP: usize = 512;
/// A piece ends at a blank, if there is one in so many bytes before its end.
const BLANK_WITHIN: usize = 256;
/// The most text of one call, in bytes.
const MAX_CALL: usize = 64 * 1024;
/// The most pieces of one call.
const MAX_PIECES: usize = 256;

/// What is asked for, by Presidio's names
/// (<https://microsoft.github.io/presidio/supported_entities/>).
const ENTITIES: [(Category, &str); 3] = [
    (Category::PersonName, "PERSON"),
    (Category::Location, "LOCATION"),
    (Category::Organization, "ORGANIZATION"),
];

/// What was found: the place of the text in the request's list, and the range in it, in bytes.
pub(super) type FoundPlaces = Vec<(usize, Range<usize>, Category)>;

pub(super) struct Call<'t> {
    pieces: Vec<Piece<'t>>,
    language: &'t str,
    wanted: Categories,
}

struct Piece<'t> {
    /// The place of its text in the list.
    text: usize,
    /// Where it begins in the text.
    start: usize,
    bytes: &'t [u8],
}

#[derive(Serialize)]
struct Request<'t> {
    text: Vec<Cow<'t, str>>,
    language: &'t str,
    entities: Vec<&'static str>,
}

#[derive(Deserialize)]
struct EntityMatch {
    entity_type: String,
    start: usize,
    end: usize,
}

/// The calls for these texts.
pub(super) fn calls<'t>(
    texts: &'t [Vec<u8>],
    wanted: Categories,
    language: &'t str,
) -> Vec<Call<'t>> {
    let mut calls: Vec<Call<'t>> = Vec::new();
    let mut bytes = MAX_CALL;
    for piece in texts.iter().enumerate().flat_map(|(place, text)| pieces(place, text)) {
        bytes += piece.bytes.len();
        match calls.last_mut() {
            Some(call) if bytes <= MAX_CALL && call.pieces.len() < MAX_PIECES => {
                call.pieces.push(piece);
            }
            _ => {
                bytes = piece.bytes.len();
                calls.push(Call { pieces: vec![piece], language, wanted });
            }
        }
    }
    calls
}

/// What was found in each text.
pub(super) fn join(
    texts: Vec<Vec<u8>>,
    found: impl Iterator<Item = (usize, Range<usize>, Category)>,
) -> Entities {
    let mut by_text: BTreeMap<usize, Vec<(Range<usize>, Category)>> = BTreeMap::new();
    for (text, range, category) in found {
        by_text.entry(text).or_default().push((range, category));
    }
    let mut entities = Entities::default();
    for (place, text) in texts.into_iter().enumerate() {
        if let Some(found) = by_text.remove(&place) {
            entities.insert(text, found);
        }
    }
    entities
}

fn pieces(place: usize, text: &[u8]) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    loop {
        let rest = text.get(start..).unwrap_or_default();
        let length = if rest.len() <= MAX_PIECE { rest.len() } else { cut(rest, MAX_PIECE) };
        let bytes = rest.get(..length).unwrap_or_default();
        pieces.push(Piece { text: place, start, bytes });
        if length == rest.len() {
            return pieces;
        }
        start += cut(rest, length - OVERLAP);
    }
}

/// Where to cut a text at or before `end`: after a blank, otherwise between two characters.
fn cut(text: &[u8], end: usize) -> usize {
    let before = text.get(..end).unwrap_or_default().iter().rev();
    if let Some(back) = before.take(BLANK_WITHIN).position(u8::is_ascii_whitespace) {
        return end - back;
    }
    let is_inside = |at: &usize| text.get(*at).is_some_and(|byte| byte & 0xC0 == 0x80);
    // A character has at most four bytes.
    (end.saturating_sub(3)..=end).rev().find(|at| !is_inside(at)).unwrap_or(end)
}

impl Call<'_> {
    /// The size of its texts, in bytes.
    pub(super) fn text_bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.bytes.len()).sum()
    }

    pub(super) fn body(&self) -> Vec<u8> {
        let wanted = ENTITIES.iter().filter(|(category, _)| self.wanted.contains(*category));
        let request = Request {
            text: self.pieces.iter().map(|piece| String::from_utf8_lossy(piece.bytes)).collect(),
            language: self.language,
            entities: wanted.map(|(_, name)| *name).collect(),
        };
        // Texts and fixed words can always be written.
        serde_json::to_vec(&request).unwrap_or_default()
    }

    /// What the answer says. An error is what is wrong with it.
    pub(super) fn read_answer(&self, answer: &[u8]) -> Result<FoundPlaces, &'static str> {
        let answer: Vec<Vec<EntityMatch>> = serde_json::from_slice(answer)
            .map_err(|_| "is no list of what was found in each text")?;
        if answer.len() != self.pieces.len() {
            return Err("is about another number of texts");
        }
        let mut places = FoundPlaces::new();
        for (piece, found) in self.pieces.iter().zip(answer) {
            if found.is_empty() {
                continue;
            }
            let offsets = offsets(piece.bytes);
            for EntityMatch { entity_type, start, end } in found {
                let range = match (offsets.get(start), offsets.get(end)) {
                    (Some(start), Some(end)) if start < end => {
                        piece.start + start..piece.start + end
                    }
                    _ => return Err("has a place outside of the text"),
                };
                let known = ENTITIES.iter().find(|(_, name)| *name == entity_type);
                if let Some((category, _)) = known.filter(|(one, _)| self.wanted.contains(*one)) {
                    places.push((piece.text, range, *category));
                }
            }
        }
        Ok(places)
    }
}

/// The offset of each character, and the length, in bytes. What is not UTF-8 counts as it is sent: a
/// replacement character for each sequence.
fn offsets(bytes: &[u8]) -> Vec<usize> {
    let mut offsets = Vec::with_capacity(bytes.len() + 1);
    let mut at = 0;
    for chunk in bytes.utf8_chunks() {
        offsets.extend(chunk.valid().char_indices().map(|(offset, _)| at + offset));
        at += chunk.valid().len();
        if !chunk.invalid().is_empty() {
            offsets.push(at);
            at += chunk.invalid().len();
        }
    }
    offsets.push(bytes.len());
    offsets
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::guard::category::Group;

    fn all() -> Categories {
        Categories::of_group(Group::Entities)
    }

    /// Answers as Presidio does: every `Ada` is a person.
    fn answer(call: &Call<'_>) -> Vec<u8> {
        let asked: Value = serde_json::from_slice(&call.body()).unwrap();
        let texts = asked["text"].as_array().unwrap().iter();
        let found = texts.map(|text| {
            let text: Vec<char> = text.as_str().unwrap().chars().collect();
            let found =
                text.windows(3).enumerate().filter(|(_, window)| *window == ['A', 'd', 'a']);
            let found = found.map(|(at, _)| {
                json!({"entity_type": "PERSON", "start": at, "end": at + 3, "score": 0.85,
                    "analysis_explanation": null})
            });
            found.collect::<Value>()
        });
        serde_json::to_vec(&found.collect::<Value>()).unwrap()
    }

    /// The texts that are found, each once.
    fn found(texts: &[Vec<u8>]) -> Vec<(usize, Range<usize>)> {
        let calls = calls(texts, all(), "en");
        let places = calls.iter().flat_map(|call| call.read_answer(&answer(call)).unwrap());
        let mut places: Vec<_> = places.map(|(text, range, _)| (text, range)).collect();
        places.sort_by_key(|(text, range)| (*text, range.start));
        places.dedup();
        places
    }

    #[test]
    fn places_are_characters_and_become_bytes() {
        let texts = ["😀é Ada".as_bytes().to_vec(), b"\xff\xc3( Ada \xf0\x9f".to_vec()];
        assert_eq!(found(&texts), [(0, 7..10), (1, 4..7)]);
    }

    #[test]
    fn long_texts_are_sent_in_pieces_that_overlap() {
        for filler in ["lorem ipsum ", "é", "x"] {
            let mut text = filler.repeat(40_000 / filler.len());
            for at in [0, 15_900, 16_382, 16_384, 31_000, 39_990] {
                let at = (at..).find(|at| text.is_char_boundary(*at)).unwrap();
                text.insert_str(at, "Ada");
            }
            text.push_str("Ada");
            let texts = [text.clone().into_bytes()];
            let expected: Vec<_> =
                text.match_indices("Ada").map(|(at, _)| (0, at..at + 3)).collect();
            assert_eq!(found(&texts), expected);
            let calls = calls(&texts, all(), "en");
            let pieces: Vec<_> = calls.iter().flat_map(|call| &call.pieces).collect();
            assert!(pieces.len() == 3 && pieces.iter().all(|one| one.bytes.len() <= MAX_PIECE));
            for pair in pieces.windows(2) {
                assert!(pair[0].start + pair[0].bytes.len() >= pair[1].start + OVERLAP / 2);
            }
        }
    }

    #[test]
    fn calls_are_few_and_bounded() {
        let many = vec![b"Ada".to_vec(); 600];
        let sizes = |texts: &[Vec<u8>]| {
            let calls = calls(texts, all(), "en");
            assert!(calls.iter().all(|call| call.text_bytes() <= MAX_CALL));
            calls.iter().map(|call| call.pieces.len()).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&many), [256, 256, 88]);
        assert_eq!(sizes(&vec![vec![b'x'; 10_000]; 13]), [6, 6, 1]);
        assert_eq!(sizes(&[]), [0; 0]);
    }

    #[test]
    fn only_what_is_wanted_is_asked_for_and_taken() {
        let texts = [b"Ada".to_vec()];
        let wanted = [Category::PersonName, Category::Organization].into_iter().collect();
        let calls = calls(&texts, wanted, "de");
        let asked: Value = serde_json::from_slice(&calls[0].body()).unwrap();
        let expected =
            json!({"text": ["Ada"], "language": "de", "entities": ["PERSON", "ORGANIZATION"]});
        assert_eq!(asked, expected);
        let answer = r#"[[{"entity_type":"LOCATION","start":0,"end":3},
            {"entity_type":"URL","start":0,"end":3},
            {"entity_type":"ORGANIZATION","start":1,"end":3}]]"#;
        let places = calls[0].read_answer(answer.as_bytes()).unwrap();
        assert_eq!(places, [(0, 1..3, Category::Organization)]);
    }

    #[test]
    fn wrong_answers_are_refused() {
        let texts = ["é Ada".as_bytes().to_vec()];
        let calls = calls(&texts, all(), "en");
        for answer in [
            "",
            "{}",
            "[]",
            "[[],[]]",
            r#"[{"entity_type":"PERSON","start":0,"end":3}]"#,
            r#"[[{"entity_type":"PERSON","start":0}]]"#,
            r#"[[{"entity_type":"PERSON","start":-1,"end":3}]]"#,
            r#"[[{"entity_type":"PERSON","start":2,"end":6}]]"#,
            r#"[[{"entity_type":"PERSON","start":3,"end":3}]]"#,
            r#"[[{"entity_type":"PERSON","start":4,"end":2}]]"#,
        ] {
            assert!(calls[0].read_answer(answer.as_bytes()).is_err(), "{answer}");
        }
        assert_eq!(calls[0].read_answer(b"[[]]"), Ok(FoundPlaces::new()));
    }
}
