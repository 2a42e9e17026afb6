//! Token counts as providers report them, read from plain answers and from stream events.
//!
//! Reports are not trusted: a count that is negative, not a number or beyond [`MAX_TOKENS`] is treated as
//! absent and is never an error. Fractions, which some providers compute, are rounded up.

use std::borrow::Cow;

use serde::Deserialize;
use smallvec::SmallVec;

use crate::domain::pricing::charged_tokens;
pub use crate::domain::tokens::TokenUsage;
use crate::domain::tokens::{ByKind, KINDS};
use crate::json::tokenizer::{Token, Tokenizer};

/// No request has more tokens than this. The bound keeps sums of money far from overflow; the
/// largest context windows of today are some millions.
pub const MAX_TOKENS: u64 = 1_000_000_000_000;

/// The longest model name that is kept, in bytes.
const MAX_MODEL_BYTES: usize = 256;

/// Where a count may be: in an object of this name within the usage (empty for the usage itself),
/// under this name. The first count that is not zero is taken.
pub(super) type Places = &'static [(&'static str, &'static str)];

/// How the providers of one format name the parts of its usage.
#[derive(Debug)]
pub(super) struct UsageNames {
    pub(super) kinds: ByKind<Places>,
    pub(super) total: Places,
    /// Names that only those providers use who count reasoning in addition to the output, and in no total.
    pub(super) reasoning_beside_output: Places,
}

/// The parts that are no kinds of tokens come after those.
const TOTAL: usize = KINDS;
const REASONING_BESIDE_OUTPUT: usize = KINDS + 1;

impl UsageNames {
    /// No names for any part.
    pub(super) const NONE: Self =
        Self { kinds: NO_KINDS, total: &[], reasoning_beside_output: &[] };

    /// The places of each part: the kinds in their order, then the others.
    fn parts(&self) -> impl Iterator<Item = Places> {
        self.kinds.values().into_iter().chain([self.total, self.reasoning_beside_output])
    }
}

/// No names for any kind.
pub(super) const NO_KINDS: ByKind<Places> = ByKind::all(&[]);

/// What a provider reported of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReportedUsage {
    /// Tokens by kind, each as it was reported.
    pub counts: TokenUsage,
    /// All tokens together.
    pub total: Option<u64>,
    /// The input was reported without what was read from the cache and written to it.
    pub input_excludes_cache: bool,
    /// Searches of the provider's tool for the web.
    pub web_searches: u32,
}

impl ReportedUsage {
    /// Reads a `usage` object. `None` when it is not an object or holds no known count.
    pub(super) fn parse(raw: &str, names: &UsageNames) -> Option<Self> {
        let found = Counts::read(raw, names)?;
        let mut counts = TokenUsage::from_counts(std::array::from_fn(|kind| found.find(kind)));
        if let (Some(output), Some(reasoning)) = (counts.output, counts.reasoning)
            && reasoning <= output
            && found.find(REASONING_BESIDE_OUTPUT).is_some()
        {
            // More reasoning than output is charged in addition to it anyway.
            counts.output = Some(output.saturating_add(reasoning));
        }
        // A total alone says nothing about kinds.
        (counts != TokenUsage::default()).then_some(Self {
            counts,
            total: found.find(TOTAL),
            input_excludes_cache: false,
            web_searches: 0,
        })
    }

    /// Combines this report with a later one of the same answer. Reports are cumulative: a later count
    /// replaces the earlier one, and a kind that only the earlier report has stays. A zero after a
    /// larger input, output or total is taken for a missing value, with the kinds that belong to it.
    pub fn updated(self, later: Self) -> Self {
        let is_missing = |earlier: Option<u64>, later: Option<u64>| {
            later == Some(0) && earlier.is_some_and(|count| count > 0)
        };
        let (earlier, new) = (self.counts, later.counts);
        let input = if is_missing(earlier.input, new.input) { TokenUsage::default() } else { new };
        let output =
            if is_missing(earlier.output, new.output) { TokenUsage::default() } else { new };
        let total = if is_missing(self.total, later.total) { None } else { later.total };
        let counts = TokenUsage {
            input: input.input.or(earlier.input),
            cached_input: input.cached_input.or(earlier.cached_input),
            cache_write: input.cache_write.or(earlier.cache_write),
            cache_write_1h: input.cache_write_1h.or(earlier.cache_write_1h),
            output: output.output.or(earlier.output),
            reasoning: output.reasoning.or(earlier.reasoning),
            audio_input: input.audio_input.or(earlier.audio_input),
            audio_output: output.audio_output.or(earlier.audio_output),
        };
        Self {
            counts,
            total: total.or(self.total),
            input_excludes_cache: self.input_excludes_cache || later.input_excludes_cache,
            web_searches: self.web_searches.max(later.web_searches),
        }
    }

    /// The tokens by kind, with what the total has beyond input and output: some providers count
    /// reasoning in addition to the output, with or without naming it in the details.
    ///
    /// A difference that equals the reasoning is output, and one that equals the cached input is input.
    /// Any other difference is output, unless the output would exceed `max_output`, what the request
    /// allowed: then the total counts something else, which is not charged. A smaller total changes
    /// nothing.
    pub fn tokens(self, max_output: u64) -> TokenUsage {
        let Self { mut counts, total, input_excludes_cache, .. } = self;
        let through_cache =
            counts.cached_input.unwrap_or(0).saturating_add(counts.cache_write.unwrap_or(0));
        if input_excludes_cache {
            counts.input = counts.input.map(|input| input.saturating_add(through_cache));
        }
        if counts.input.is_none() || counts.output.is_none() {
            return counts;
        }
        let (input, output) = charged_tokens(&counts);
        let more = total.unwrap_or(0).saturating_sub(input.saturating_add(output));
        let longer = TokenUsage { output: Some(output.saturating_add(more)), ..counts };
        match more {
            0 => counts,
            _ if counts.reasoning == Some(more) => longer,
            _ if through_cache == more => {
                TokenUsage { input: Some(input.saturating_add(more)), ..counts }
            }
            _ if longer.output <= Some(max_output) => longer,
            _ => counts,
        }
    }
}

/// The counts in a usage object and in the objects within it, each with its part and its rank among
/// the part's places.
struct Counts(SmallVec<[(usize, usize, u64); 12]>);

impl Counts {
    fn read(raw: &str, names: &UsageNames) -> Option<Self> {
        let parts: SmallVec<[Places; KINDS + 2]> = names.parts().collect();
        let mut counts = Self(SmallVec::new());
        let mut tokens = Tokenizer::new(raw.as_bytes());
        if tokens.next().ok()? != Token::BeginObject {
            return None;
        }
        while let Token::Key(name) = tokens.next().ok()? {
            let name = name.text()?;
            match tokens.next().ok()? {
                Token::Literal(number) => counts.add(&parts, "", &name, number),
                Token::BeginObject => {
                    while let Token::Key(detail) = tokens.next().ok()? {
                        let detail = detail.text()?;
                        match tokens.next().ok()? {
                            Token::Literal(number) => counts.add(&parts, &name, &detail, number),
                            other => tokens.skip(other).ok()?,
                        }
                    }
                }
                other => tokens.skip(other).ok()?,
            }
        }
        tokens.finish().ok()?;
        Some(counts)
    }

    /// The later of two numbers of the same name counts, as for JSON parsers.
    fn add(&mut self, parts: &[Places], object: &str, name: &str, raw: &[u8]) {
        let place = parts.iter().enumerate().find_map(|(part, places)| {
            let rank = places.iter().position(|place| place.1 == name && place.0 == object)?;
            Some((part, rank))
        });
        let (Some((part, rank)), Some(count)) = (place, count(raw)) else { return };
        self.0.retain(|(other, at, _)| (*other, *at) != (part, rank));
        self.0.push((part, rank, count));
    }

    /// The first count of the part that is not zero, or zero if there are only zeros.
    fn find(&self, part: usize) -> Option<u64> {
        let counts = || self.0.iter().filter(|(own, ..)| *own == part);
        let filled = counts().filter(|(.., count)| *count > 0).min_by_key(|(_, rank, _)| *rank);
        filled.or_else(|| counts().next()).map(|(.., count)| *count)
    }
}

/// A count from its raw JSON. Fractions are rounded up.
pub(super) fn count(raw: &[u8]) -> Option<u64> {
    let raw = std::str::from_utf8(raw).ok()?;
    let whole = raw.parse::<u64>().ok().filter(|count| *count <= MAX_TOKENS);
    whole.or_else(|| {
        let number: f64 = raw.parse().ok()?;
        (0.0..=MAX_TOKENS as f64).contains(&number).then(|| number.ceil() as u64)
    })
}

/// A model's name from its raw JSON; `None` when it is not text, empty, or too long to keep.
pub fn model_name(raw: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    let quoted = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let is_special = |byte: u8| matches!(byte, ..b' ' | b'"' | b'\\');
    let name = match quoted.filter(|text| !text.bytes().any(is_special)) {
        // As all known names are.
        Some(plain) => Cow::Borrowed(plain),
        None => serde_json::from_str::<Text<'_>>(raw).ok()?.0,
    };
    (1..=MAX_MODEL_BYTES).contains(&name.len()).then(|| name.into_owned())
}

#[cfg(test)]
mod tests;
