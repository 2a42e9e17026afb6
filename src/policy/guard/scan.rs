//! Scans a text for all that a guard detects.
//!
//! Four passes find candidates: one automaton for all fixed strings (prefixes of tokens, telling names),
//! and searches for digits, `@` and `:`. The detectors check what stands around each candidate. A
//! policy's own patterns follow.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::LazyLock;

use super::category::{Categories, Category};
use super::custom::{Pattern, TimeExceeded};
use super::detect::{
    Detection, Text, connection_string, crypto_address, email, gateway_key, iban, jwt,
    named_secret, names, national, network, number, private_key, strings, token,
};
use super::{placeholder, tables};
use crate::json::bytes;

/// The most placeholders in a request that are remembered as standing there literally.
const MAX_LITERALS: usize = 10_000;
/// A word is an address of a cryptocurrency only with so many characters.
const ADDRESS_LENGTHS: std::ops::RangeInclusive<usize> = 26..=42;
/// How much of a long text is scanned between two looks at the time, in bytes.
const PART: usize = 64 * 1024;
/// The most telling names in one run of characters that can be a value.
const MAX_NAMES: u32 = 16;

/// The letters and digits that words consist of.
const IS_WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    table
};

/// A detected value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// Its place in the text.
    pub(super) range: Range<usize>,
    pub(super) category: Category,
    /// The policy's own pattern that matched, by its place in the scanner's list.
    pub(super) pattern: Option<usize>,
}

/// Detects the values of some categories, and a policy's own patterns.
#[derive(Debug, Clone, Default)]
pub(super) struct Scanner {
    wanted: Categories,
    patterns: Vec<Pattern>,
}

/// What is found in texts.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// In no order, and they may overlap.
    pub(super) found: Vec<Finding>,
    /// Placeholders that stand in the texts as such.
    pub(super) literals: BTreeSet<String>,
}

/// Where a scan stands, and what keeps the work linear where one candidate stands in what another one
/// looked at.
#[derive(Debug)]
struct Progress {
    strings: strings::Position,
    numbers: number::Numbers,
    /// The end of the last private key, URL with a password, and word with a digit.
    block_end: usize,
    url_end: usize,
    word_end: usize,
    /// The end of the last value after a telling name, and how many names stood before it in the same
    /// run of characters.
    value_end: usize,
    names: u32,
}

impl Progress {
    fn new(text: Text<'_>, wanted: Categories) -> Self {
        let mut numbers = number::Numbers::new(wanted);
        let start = STRINGS.automaton.start();
        STRINGS.automaton.find(text.name, 0..text.name.len(), &mut start.clone(), |word, range| {
            if let Some(Candidate::Word(category)) = STRINGS.candidates.get(word) {
                numbers.add_name(text.name, range, *category);
            }
        });
        Self {
            strings: start,
            numbers,
            block_end: 0,
            url_end: 0,
            word_end: 0,
            value_end: 0,
            names: 0,
        }
    }

    /// Counts a telling name. Whether there are too many in one run of characters.
    fn is_name_spent(&mut self, start: usize) -> bool {
        if start >= self.value_end {
            self.names = 0;
        }
        self.names += 1;
        self.names > MAX_NAMES
    }
}

/// What a fixed string begins.
#[derive(Debug, Clone, Copy)]
enum Candidate {
    Token(usize),
    EntraMark,
    GatewayKey,
    PrivateKey,
    Jwt,
    Bech32,
    Name,
    /// What the number after the word is.
    Word(Category),
    /// A placeholder whose underscore is escaped; one without the escape begins like a gateway key.
    EscapedPlaceholder,
}

struct Strings {
    automaton: strings::Strings,
    candidates: Vec<Candidate>,
}

/// Built at first use. It has about 900 states.
static STRINGS: LazyLock<Strings> = LazyLock::new(|| {
    let mut strings: Vec<(&str, Candidate)> = vec![
        (token::ENTRA_MARK, Candidate::EntraMark),
        (gateway_key::PREFIX, Candidate::GatewayKey),
        (private_key::WORD, Candidate::PrivateKey),
        (jwt::PREFIX, Candidate::Jwt),
        (crypto_address::BECH32_PREFIX, Candidate::Bech32),
        ("tg\\", Candidate::EscapedPlaceholder),
    ];
    let forms = token::FORMS.iter().enumerate();
    strings.extend(forms.map(|(place, form)| (form.prefix, Candidate::Token(place))));
    strings.extend(named_secret::NAMES.map(|name| (name, Candidate::Name)));
    strings.extend(names::words().map(|(word, category)| (word, Candidate::Word(category))));
    let automaton = strings::Strings::new(strings.iter().map(|(string, _)| *string));
    tables::built(automaton.memory_usage());
    Strings { automaton, candidates: strings.into_iter().map(|(_, kind)| kind).collect() }
});

impl Scanner {
    pub(super) fn new(wanted: Categories, patterns: Vec<Pattern>) -> Self {
        Self { wanted, patterns }
    }

    /// The most bytes at the end of a text that goes on in which a match of a pattern may begin whose end
    /// is not there yet.
    pub(super) fn lookahead(&self) -> usize {
        self.patterns.iter().map(Pattern::lookahead).max().unwrap_or(0)
    }

    /// Adds what is found in a text, the value of the JSON member `name`. `TimeExceeded` means that the text was
    /// not searched to its end.
    pub(super) fn scan(
        &self,
        bytes: &[u8],
        name: &[u8],
        keep_going: &dyn Fn() -> bool,
        findings: &mut Findings,
    ) -> Result<(), TimeExceeded> {
        self.scan_built_in(bytes, name, keep_going, findings)?;
        for (place, pattern) in self.patterns.iter().enumerate() {
            pattern.find(bytes, keep_going, |range| {
                findings.found.push(Finding {
                    range,
                    category: Category::Custom,
                    pattern: Some(place),
                });
            })?;
        }
        Ok(())
    }

    /// The same without the policy's own patterns.
    pub(super) fn scan_built_in(
        &self,
        bytes: &[u8],
        name: &[u8],
        keep_going: &dyn Fn() -> bool,
        findings: &mut Findings,
    ) -> Result<(), TimeExceeded> {
        let text = Text { bytes, name };
        if self.wanted.contains(Category::NamedSecret) && !name.is_empty() {
            findings.add(named_secret::find_whole(text), self.wanted);
        }
        let mut progress = Progress::new(text, self.wanted);
        let mut start = 0;
        while start < bytes.len() {
            let end = (start + PART).min(bytes.len());
            self.scan_strings(text, start..end, &mut progress, findings);
            let mut add = |found: Option<Detection>| findings.add(found, self.wanted);
            self.scan_words(text, start..end, &mut progress, &mut add);
            if self.wanted.contains(Category::Email) {
                let places = memchr::memchr_iter(b'@', text.slice(start..end));
                places.for_each(|at| add(email::find(text, start + at)));
            }
            scan_colons(text, start..end, &mut progress, &mut add);
            if !keep_going() {
                return Err(TimeExceeded);
            }
            start = end;
        }
        Ok(())
    }

    /// The fixed strings that end in a part.
    fn scan_strings(
        &self,
        text: Text<'_>,
        part: Range<usize>,
        progress: &mut Progress,
        findings: &mut Findings,
    ) {
        let strings = &*STRINGS;
        let mut position = progress.strings;
        strings.automaton.find(text.bytes, part, &mut position, |string, range| {
            let Range { start, end } = range;
            let Some(candidate) = strings.candidates.get(string) else { return };
            let found = match candidate {
                Candidate::Token(form) => {
                    let form = token::FORMS.get(*form);
                    form.and_then(|form| token::find(form, text, start))
                }
                Candidate::EntraMark => token::find_entra_secret(text, start),
                Candidate::GatewayKey => {
                    findings.add_literal(text, start);
                    gateway_key::find(text, start)
                }
                Candidate::PrivateKey => match private_key::start(text, start) {
                    // What stands in a block is part of it.
                    Some(start) if start >= progress.block_end => {
                        let (found, end) = private_key::find(text, start);
                        progress.block_end = end;
                        found
                    }
                    _ => None,
                },
                Candidate::Jwt => jwt::find(text, start),
                Candidate::Bech32 => crypto_address::find_bech32(text, start),
                Candidate::Name if progress.is_name_spent(start) => None,
                Candidate::Name => {
                    let (found, end) = named_secret::find(text, start, end);
                    progress.value_end = progress.value_end.max(end);
                    found
                }
                Candidate::Word(category) => {
                    progress.numbers.add_word(text.bytes, start..end, *category);
                    None
                }
                Candidate::EscapedPlaceholder => {
                    findings.add_literal(text, start);
                    None
                }
            };
            findings.add(found, self.wanted);
        });
        progress.strings = position;
    }

    /// Words of letters and digits whose first digit stands in a part.
    fn scan_words(
        &self,
        text: Text<'_>,
        part: Range<usize>,
        progress: &mut Progress,
        add: &mut impl FnMut(Option<Detection>),
    ) {
        let zeros = u64::from_ne_bytes([b'0'; 8]);
        let is_digit = |word: u64| bytes::below(word ^ zeros, 10);
        let is_word = |byte: u8| IS_WORD.get(usize::from(byte)) == Some(&true);
        let is_near = |at: &usize| text.at(*at).is_some_and(|byte| byte.is_ascii_digit());
        let find_digits = |at: usize| {
            // In lists of numbers the next one is near.
            let near = (at..part.end.min(at + 3)).find(is_near);
            let next = || Some(at + bytes::first(text.slice(at..part.end), is_digit)?);
            let start = near.or_else(next)?;
            Some(start..text.digits_end(start, usize::MAX))
        };
        let mut word_end = progress.word_end;
        let mut at = part.start.max(word_end);
        // The digits of the next group of a number, where they have been found with it.
        let mut following: Option<Range<usize>> = None;
        while let Some(Range { start: digit, end: digits_end }) =
            following.take().or_else(|| find_digits(at)).filter(|digits| digits.start < part.end)
        {
            // Most digits are whole words.
            let (mut start, mut end) = (digit, digits_end);
            if !text.ends_word(end) {
                end = text.run_end(end, usize::MAX, is_word);
            }
            if text.before(digit).is_some_and(is_word) {
                start = text.run_start(digit, 17, is_word).max(word_end);
            }
            if matches!(text.at(start), Some(b'n' | b'r' | b't'))
                && text.before(start) == Some(b'\\')
            {
                start += 1;
            }
            at = end;
            let mut add_word = |found: Option<Detection>| {
                if let Some(found) = &found {
                    at = at.max(found.range.end);
                }
                add(found);
            };
            match digit.saturating_sub(start) {
                0 if digits_end == end => {
                    let numbers = &mut progress.numbers;
                    following = self.scan_number(text, digit..end, numbers, &mut add_word);
                }
                0 => self.scan_word(text, digit..end, &mut add_word),
                1 if matches!(text.at(start), Some(b'X'..=b'Z' | b'x'..=b'z')) => {
                    add_word(national::spain::find(text, digit));
                }
                2 => {
                    add_word(iban::find(text, start));
                    add_word(national::united_kingdom::find(text, start));
                }
                4 if end - start == 18 => add_word(national::mexico::find(text, start)),
                6..16 if end - start == 16 => add_word(national::italy::find(text, start)),
                _ => {}
            }
            if end - start == 2 && network::can_be_in_hyphen_mac(text, start) {
                add_word(network::find_hyphen_mac(text, start));
            }
            word_end = at;
            following = following.filter(|digits| digits.start >= at);
        }
        progress.word_end = word_end;
    }

    /// Digits that no letter stands next to. Returns those of the number's next group, if there may be one.
    fn scan_number(
        &self,
        text: Text<'_>,
        digits: Range<usize>,
        numbers: &mut number::Numbers,
        add: &mut impl FnMut(Option<Detection>),
    ) -> Option<Range<usize>> {
        let Range { start, end } = digits;
        let length = end - start;
        if length <= 3
            && text.at(end) == Some(b'.')
            && !matches!(text.before(start), Some(b'.' | b'-'))
            && number::has_octets(text, end)
            && self.wanted.contains(Category::IpAddress)
        {
            let found = network::find_ipv4(text, start);
            let is_address = found.is_some();
            add(found);
            if is_address {
                return None;
            }
        }
        if length == 2
            && matches!(text.slice(start.saturating_sub(2)..start), [b'A'..=b'Z', b' '])
            && start >= 3
        {
            add(national::united_kingdom::find(text, start - 3));
        }
        match length {
            ..7 | 9 => {}
            // Seven digits are Spanish only after a letter and a hyphen, eight before a letter.
            7 if text.before(start) != Some(b'-') => {}
            8 if !matches!(text.from(end), [b'-' | b' ', b'A'..=b'Z', ..]) => {}
            _ => self.scan_word(text, start..end, add),
        }
        let next = number::next_group(text, end);
        add(numbers.find(text, start..end, next.as_ref()));
        next
    }

    /// A word that begins with a digit.
    fn scan_word(
        &self,
        text: Text<'_>,
        word: Range<usize>,
        add: &mut impl FnMut(Option<Detection>),
    ) {
        let Range { start, end } = word;
        match end - start {
            7..=9 => add(national::spain::find(text, start)),
            18 => add(national::china::find_word(text, start, end)),
            length
                if ADDRESS_LENGTHS.contains(&length)
                    && self.wanted.contains(Category::CryptoAddress) =>
            {
                add(crypto_address::find_word(text, start, end));
            }
            _ => {}
        }
    }
}

/// URLs with a password, and IPv6 and hardware addresses, whose first colon stands in a part.
fn scan_colons(
    text: Text<'_>,
    part: Range<usize>,
    progress: &mut Progress,
    add: &mut impl FnMut(Option<Detection>),
) {
    let is_part =
        |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit() || byte == b':');
    let mut address_end = part.start;
    for offset in memchr::memchr_iter(b':', text.slice(part.clone())) {
        let colon = part.start + offset;
        let next = text.at(colon + 1);
        if next == Some(b'/') && text.at(colon + 2) == next && colon >= progress.url_end {
            let found = connection_string::find(text, colon);
            progress.url_end = found.as_ref().map_or(0, |found| found.range.end);
            add(found);
        }
        let is_address = next == Some(b':') || (is_part(text.before(colon)) && is_part(next));
        if is_address && colon >= address_end {
            let (found, after) = match network::time_end(text, colon) {
                Some(end) => (None, end),
                None => network::find_at_colon(text, colon),
            };
            add(found);
            address_end = after;
        }
    }
}

impl Findings {
    fn add(&mut self, found: Option<Detection>, wanted: Categories) {
        if let Some(Detection { range, category }) = found
            && wanted.contains(category)
        {
            self.found.push(Finding { range, category, pattern: None });
        }
    }

    fn add_literal(&mut self, text: Text<'_>, start: usize) {
        if self.literals.len() < MAX_LITERALS
            && let Some(placeholder) = placeholder::read(text.from(start))
        {
            self.literals.insert(placeholder);
        }
    }
}

#[cfg(test)]
mod tests;
