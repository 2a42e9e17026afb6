//! Bounded samples of texts, from which their tokens are estimated.
//!
//! A text that passes in parts and may be of any length is cut into blocks, and every n-th block is kept.
//! When the sample is full, every other block of it is dropped, and n doubles. So the sample is always
//! spread evenly over the whole text, and the same text always gives the same sample.

use bytes::Bytes;

use super::prompt_text::{PromptText, count_input_tokens};
use crate::json::escapes::{NotText, unescape};
use crate::json::strings::{StringValue, StringValues};

/// The most that is kept of a text, in bytes.
pub const MAX_SAMPLE_BYTES: usize = 32 * 1024;

/// Bytes of a block. Each begins and ends with a cut, which costs about a token.
const BLOCK: usize = 256;

/// Average bytes per token, where there is no text to count.
const BYTES_PER_TOKEN: u64 = 4;

/// A text, or a sample of it; cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextSample {
    kept: Bytes,
    /// The length of the whole, in the same notation.
    length: u64,
    form: Form,
}

/// What the bytes are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Form {
    /// The insides of JSON strings, one after the other.
    #[default]
    Strings,
    /// The same in blocks from all over them.
    Blocks,
    /// A request's JSON body.
    Request,
    /// An answer's JSON body.
    Answer,
}

impl TextSample {
    /// The text of a request's JSON body. A short body is kept by reference, and read when it has to be
    /// counted. Of a longer one a sample of its text is kept, so that the body can be freed.
    pub fn of_request(body: &Bytes) -> Self {
        let given_tokens = count_input_tokens(body);
        if given_tokens > 0 {
            let text: usize = PromptText::new(body).map(<[u8]>::len).sum();
            return Self::of_length(given_tokens * BYTES_PER_TOKEN + text as u64);
        }
        let length = body.len() as u64;
        if body.len() <= MAX_SAMPLE_BYTES {
            return Self { kept: body.clone(), length, form: Form::Request };
        }
        let mut sampler = TextSampler::default();
        for piece in PromptText::new(body) {
            if sampler.passed > 0 {
                sampler.take(BETWEEN.as_bytes());
            }
            sampler.take(piece);
        }
        if sampler.passed == 0 {
            // Not of a known shape.
            return Self::of_length(length);
        }
        sampler.sample()
    }

    /// Of a text of which nothing is kept.
    fn of_length(length: u64) -> Self {
        Self { kept: Bytes::new(), length, form: Form::Request }
    }

    /// Whether there was no text.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The length of the whole in bytes, in JSON's notation: of the text, or of the body it is in.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Tokens of the whole by its length alone.
    pub fn tokens_by_length(&self) -> u64 {
        self.length.div_ceil(BYTES_PER_TOKEN)
    }

    /// Tokens of the whole, with `count` for those of the text that is kept.
    pub(crate) fn tokens(&self, count: impl FnOnce(&str) -> u64) -> Result<u64, NotText> {
        if self.kept.is_empty() {
            return Ok(self.tokens_by_length());
        }
        Ok(scaled(count(&self.text()?), self.kept.len() as u64, self.length))
    }

    /// The text in what is kept.
    pub(crate) fn text(&self) -> Result<String, NotText> {
        let mut text = String::new();
        let mut add = |piece: &[u8]| {
            if !text.is_empty() {
                text.push_str(BETWEEN);
            }
            unescape(piece, &mut text)
        };
        match self.form {
            Form::Strings => unescape(&self.kept, &mut text)?,
            Form::Blocks => {
                for block in self.kept.chunks(BLOCK) {
                    unescape(without_cut_character(block), &mut text)?;
                }
            }
            Form::Request => PromptText::new(&self.kept).try_for_each(&mut add)?,
            Form::Answer => StringValues::new(&self.kept)
                .filter(|value| is_written(*value))
                .try_for_each(|value| add(value.raw))?,
        }
        if text.is_empty() {
            // Not of a known shape.
            unescape(&self.kept, &mut text)?;
        }
        Ok(text)
    }
}

/// Stands for what models have between messages, and between their parts.
const BETWEEN: &str = "\n";

/// A block may begin in the middle of a character.
fn without_cut_character(block: &[u8]) -> &[u8] {
    let is_inside = |byte: &&u8| (0x80..0xc0).contains(*byte);
    let cut = block.iter().take(3).take_while(is_inside).count();
    block.get(cut..).unwrap_or_default()
}

/// Rounded up.
fn scaled(tokens: u64, kept: u64, length: u64) -> u64 {
    let tokens = u128::from(tokens) * u128::from(length);
    u64::try_from(tokens.div_ceil(u128::from(kept.max(1)))).unwrap_or(u64::MAX)
}

/// Whether an answer's string under this key is text that the model wrote.
pub(crate) fn is_generated(key: &[u8]) -> bool {
    matches!(
        key,
        b"arguments"
            | b"content"
            | b"name"
            | b"reasoning"
            | b"reasoning_content"
            | b"refusal"
            | b"text"
            | b"thinking"
            | b"transcript"
    )
}

/// Whether a string of an answer is the model's.
fn is_written(value: StringValue<'_>) -> bool {
    value.is_argument || is_generated(value.key)
}

/// Appends as much as fits into [`MAX_SAMPLE_BYTES`]. The buffer doubles, but not beyond that bound, as
/// it would by itself.
fn append(kept: &mut Vec<u8>, part: &[u8]) {
    let room = MAX_SAMPLE_BYTES.saturating_sub(kept.len());
    let part = part.get(..room).unwrap_or(part);
    let needed = kept.len() + part.len();
    if needed > kept.capacity() {
        let capacity = (kept.capacity() * 2).clamp(needed, MAX_SAMPLE_BYTES);
        kept.reserve_exact(capacity - kept.len());
    }
    kept.extend_from_slice(part);
}

/// Takes a sample of the insides of JSON strings while they pass. Allocates nothing before there is
/// text.
#[derive(Debug)]
pub(crate) struct TextSampler {
    kept: Vec<u8>,
    /// Bytes that have passed.
    passed: u64,
    /// Bytes that were counted without being seen.
    unseen: u64,
    /// One of so many blocks is kept; a power of two.
    stride: u64,
}

impl Default for TextSampler {
    fn default() -> Self {
        Self { kept: Vec::new(), passed: 0, unseen: 0, stride: 1 }
    }
}

impl TextSampler {
    pub(crate) fn take(&mut self, part: &[u8]) {
        let block = BLOCK as u64;
        let mut rest = part;
        while !rest.is_empty() {
            let mut in_stride = self.passed % (self.stride * block);
            if in_stride == 0 && self.kept.len() >= MAX_SAMPLE_BYTES {
                self.drop_every_other_block();
                in_stride = self.passed % (self.stride * block);
            }
            let is_kept = in_stride < block;
            let end = if is_kept { block } else { self.stride * block };
            let length = usize::try_from(end - in_stride).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at(length);
            if is_kept {
                append(&mut self.kept, now);
            }
            self.passed = self.passed.saturating_add(now.len() as u64);
            rest = later;
        }
    }

    /// Whether nothing has passed.
    pub(crate) fn is_empty(&self) -> bool {
        self.passed == 0 && self.unseen == 0
    }

    /// Counts bytes that cannot be read.
    pub(crate) fn count_unseen(&mut self, length: u64) {
        self.unseen = self.unseen.saturating_add(length);
    }

    /// Forgets everything, and frees its memory.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns the sample, and begins a new one.
    pub(crate) fn sample(&mut self) -> TextSample {
        let Self { kept, passed, unseen, stride } = std::mem::take(self);
        let form = if stride > 1 { Form::Blocks } else { Form::Strings };
        TextSample { kept: kept.into(), length: passed.saturating_add(unseen), form }
    }

    fn drop_every_other_block(&mut self) {
        let blocks = self.kept.len() / BLOCK;
        for block in 1..blocks.div_ceil(2) {
            self.kept.copy_within(block * 2 * BLOCK..(block * 2 + 1) * BLOCK, block * BLOCK);
        }
        self.kept.truncate(blocks.div_ceil(2) * BLOCK);
        self.stride = self.stride.saturating_mul(2);
    }

    /// How much memory is taken, in bytes.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.kept.capacity()
    }
}

/// Keeps the beginning of an answer's JSON body while it passes. Allocates nothing before there is some
/// of it.
#[derive(Debug, Default)]
pub(crate) struct BodyBeginning {
    kept: Vec<u8>,
    length: u64,
}

impl BodyBeginning {
    pub(crate) fn take(&mut self, part: &[u8]) {
        self.length = self.length.saturating_add(part.len() as u64);
        append(&mut self.kept, part);
    }

    /// Whether nothing has been taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether all that was taken is kept.
    pub(crate) fn is_whole(&self) -> bool {
        self.length == self.kept.len() as u64
    }

    /// What is kept.
    pub(crate) fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Whether what is kept holds text that the model wrote.
    pub(crate) fn has_generated_text(&self) -> bool {
        StringValues::new(&self.kept).any(|value| is_written(value) && !value.raw.is_empty())
    }

    /// Forgets everything, and frees its memory.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Hands over the sample of the body.
    pub(crate) fn sample(&mut self) -> TextSample {
        let Self { kept, length } = std::mem::take(self);
        TextSample { kept: kept.into(), length, form: Form::Answer }
    }

    /// How much memory is taken, in bytes.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.kept.capacity()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(sample: &TextSample) -> String {
        sample.text().unwrap()
    }

    #[test]
    fn a_short_body_is_kept_by_reference_and_a_long_one_freed() {
        let short = Bytes::from(vec![b'x'; MAX_SAMPLE_BYTES]);
        let sample = TextSample::of_request(&short);
        assert_eq!(sample.kept.as_ptr(), short.as_ptr());
        let long = Bytes::from(format!("{{\"input\":\"{}\"}}", "x".repeat(MAX_SAMPLE_BYTES * 3)));
        let sample = TextSample::of_request(&long);
        assert!((MAX_SAMPLE_BYTES / 2..=MAX_SAMPLE_BYTES).contains(&sample.kept.len()));
        assert_eq!(sample.length(), MAX_SAMPLE_BYTES as u64 * 3);
        assert!(long.is_unique());
        // Not of a known shape, it is estimated by its length.
        let odd = Bytes::from(format!("{{\"n\":[{}1]}}", "1,".repeat(MAX_SAMPLE_BYTES)));
        assert_eq!(TextSample::of_request(&odd).tokens(|_| 0), Ok(odd.len().div_ceil(4) as u64));
    }

    #[test]
    fn tokens_in_place_of_text_are_counted() {
        let tokens = |body: &'static str| {
            TextSample::of_request(&Bytes::from_static(body.as_bytes())).tokens(|_| 1_000).unwrap()
        };
        assert_eq!(tokens(r#"{"model":"m","input":[1,22,333],"user":"u"}"#), 3);
        assert_eq!(tokens(r#"{"input":[[1,2],[3],[]],"encoding_format":"float"}"#), 5);
        // No way to have a text counted as less.
        assert_eq!(tokens(r#"{"input":[1],"prompt":"twelve bytes"}"#), 4);
        for text in [r#"{"input":["1"]}"#, r#"{"input":"[1]"}"#, r#"{"input":[1,{"text":"t"}]}"#] {
            assert_eq!(tokens(text), 1_000, "{text}");
        }
    }

    #[test]
    fn blocks_may_be_cut_anywhere() {
        let whole = r"caf\u00e9 ☕ \\".repeat(MAX_SAMPLE_BYTES / 4);
        let mut sampler = TextSampler::default();
        sampler.take(whole.as_bytes());
        let sample = sampler.sample();
        assert_eq!(sample.form, Form::Blocks);
        let text = text(&sample);
        assert!(text.contains(r"café ☕ \café") && text.len() > MAX_SAMPLE_BYTES / 4, "{text}");
    }

    #[test]
    fn the_text_of_a_request() {
        let body = br#"{"model":"m","messages":[{"role":"user","content":"Say \"hi\""},
            {"role":"user","content":[{"type":"text","text":"caf\u00e9"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}],"user":"u"}"#;
        let sample = TextSample::of_request(&Bytes::from_static(body));
        assert_eq!(text(&sample), "user\nSay \"hi\"\nuser\ncafé");
    }

    #[test]
    fn the_text_of_an_answer() {
        for (body, expected) in [
            (
                r#"{"id":"c","model":"m","choices":[{"message":{"role":"assistant","content":"a\nb",
                  "tool_calls":[{"id":"t","function":{"name":"f","arguments":"{\"x\":1}"}}]},
                  "finish_reason":"stop"}]}"#,
                "a\nb\nf\n{\"x\":1}",
            ),
            (
                r#"{"object":"response","instructions":"long","output":[{"type":"message",
                  "content":[{"type":"output_text","text":"hel"#,
                "hel",
            ),
            (
                r#"{"content":[{"type":"tool_use","id":"i","name":"f","input":{"city":"Paris",
                  "days":["Monday"]}},{"type":"text","text":"b"}],"stop_reason":"tool_use"}"#,
                "f\ncity\nParis\ndays\nMonday\nb",
            ),
            (
                r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":"b"}}}],
                  "role":"model"}}]}"#,
                "f\na\nb",
            ),
            ("<html>a</html>", "<html>a</html>"),
        ] {
            let mut beginning = BodyBeginning::default();
            beginning.take(body.as_bytes());
            assert_eq!(text(&beginning.sample()), expected);
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_grows_with_the_text() {
        let mut beginning = BodyBeginning::default();
        beginning.take(b"");
        assert_eq!(beginning.capacity(), 0);
        beginning.take(b"ab");
        assert!(beginning.capacity() < 64);
        for _ in 0..100_000 {
            beginning.take(b"word ");
            assert!(beginning.capacity() <= MAX_SAMPLE_BYTES);
        }
        let sample = beginning.sample();
        assert_eq!((sample.kept.len(), sample.length()), (MAX_SAMPLE_BYTES, 500_002));
        assert!(beginning.sample().is_empty());
    }

    #[test]
    fn tokens_are_scaled_to_the_whole_and_rounded_up() {
        assert_eq!(scaled(10, 100, 100), 10);
        assert_eq!(scaled(10, 100, 101), 11);
        assert_eq!(scaled(u64::MAX, 1, u64::MAX), u64::MAX);
        assert_eq!(scaled(0, 0, 0), 0);
        let unseen = TextSample { length: 9, ..TextSample::default() };
        assert_eq!(unseen.tokens(|_| 0), Ok(3));
        assert_eq!(TextSample::default().tokens(|_| 5), Ok(0));
    }

    fn sampled(text: &[u8], size: usize) -> TextSampler {
        let mut sampler = TextSampler::default();
        for part in text.chunks(size) {
            sampler.take(part);
            assert!(sampler.capacity() <= MAX_SAMPLE_BYTES);
        }
        sampler
    }

    #[test]
    fn a_short_text_is_kept_whole() {
        for length in [0, 1, BLOCK, BLOCK + 1, MAX_SAMPLE_BYTES - 1, MAX_SAMPLE_BYTES] {
            let text: Vec<u8> = (0..length).map(|at| (at % 253) as u8).collect();
            let sampler = sampled(&text, 100);
            assert_eq!((sampler.kept.as_slice(), sampler.stride), (text.as_slice(), 1));
        }
    }

    #[test]
    fn memory_is_taken_as_there_is_text() {
        let mut sampler = TextSampler::default();
        sampler.take(b"");
        assert_eq!(sampler.capacity(), 0);
        sampler.take(b"ab");
        assert!(sampler.capacity() < 64);
        sampler.count_unseen(7);
        assert_eq!(sampler.sample().length(), 9);
        assert!(sampler.sample().is_empty());
    }

    proptest! {
        #[test]
        fn every_nth_block_is_kept(length in 0..600_000_usize, size in 1..5_000_usize) {
            let text: Vec<u8> = (0..length).map(|at| (at / BLOCK % 251) as u8).collect();
            let sampler = sampled(&text, size);
            prop_assert_eq!(sampler.passed, length as u64);
            let stride = usize::try_from(sampler.stride).unwrap();
            let expected: Vec<u8> = text.chunks(BLOCK).step_by(stride).flatten().copied().collect();
            prop_assert!(sampler.kept == expected);
            prop_assert!(stride == 1 || expected.len() > MAX_SAMPLE_BYTES / 2);
            // The parts that it comes in make no difference.
            prop_assert_eq!(sampled(&text, usize::MAX).kept, sampler.kept);
        }
    }
}
