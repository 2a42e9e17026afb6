//! Text kept for counting its tokens later: a bounded part, and how long the whole was.

use bytes::Bytes;

use super::prompt::PromptText;
use super::spread::{BLOCK, Spread};
use crate::json::escapes::{NotText, unescape};
use crate::json::strings::StringValues;

/// The bound of what is kept, in bytes.
pub const LONGEST_SAMPLE: usize = 32 * 1024;

/// Some bytes stand for a token, on average; for where nothing better is to be had.
const BYTES_PER_TOKEN: u64 = 4;

/// A text, or a part of it; cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    kept: Bytes,
    /// The length of the whole, in the same bytes.
    whole: u64,
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

impl Sample {
    /// What is sent: a request's JSON body. A short one is referred to, and looked at when it has to
    /// be counted. Of a longer one, which is not kept alive, a part of its text is kept, from all
    /// over it; `seed`, which the caller can't know, says which.
    pub fn of_body(body: &Bytes, seed: u64) -> Self {
        let whole = body.len() as u64;
        if body.len() <= LONGEST_SAMPLE {
            return Self { kept: body.clone(), whole, form: Form::Request };
        }
        let mut spread = Spread::new(seed);
        for piece in PromptText::new(body) {
            if !spread.is_empty() {
                spread.take(BETWEEN.as_bytes());
            }
            spread.take(piece);
        }
        if spread.is_empty() {
            // In no shape that we know.
            return Self { kept: Bytes::new(), whole, form: Form::Request };
        }
        spread.strings()
    }

    /// The insides of strings: all of them, or blocks from all over a whole of this length.
    pub(super) fn of_strings(kept: Bytes, whole: u64, in_blocks: bool) -> Self {
        Self { kept, whole, form: if in_blocks { Form::Blocks } else { Form::Strings } }
    }

    /// Whether there was nothing.
    pub fn is_empty(&self) -> bool {
        self.whole == 0
    }

    /// The length of the whole in bytes, in JSON's notation: of the text, or of the body it is in.
    pub fn whole(&self) -> u64 {
        self.whole
    }

    /// Tokens of the whole by its length alone.
    pub fn rough(&self) -> u64 {
        self.whole.div_ceil(BYTES_PER_TOKEN)
    }

    /// Tokens of the whole, where `count` is asked for those of what was kept.
    pub(crate) fn tokens(&self, count: impl FnOnce(&str) -> u64) -> Result<u64, NotText> {
        if self.kept.is_empty() {
            return Ok(self.rough());
        }
        Ok(scaled(count(&self.text()?), self.kept.len() as u64, self.whole))
    }

    /// The text in what was kept.
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
                    unescape(without_begun_character(block), &mut text)?;
                }
            }
            Form::Request => PromptText::new(&self.kept).try_for_each(&mut add)?,
            Form::Answer => StringValues::new(&self.kept)
                .filter(|value| is_generated(value.key))
                .try_for_each(|value| add(value.raw))?,
        }
        if text.is_empty() {
            // In no shape that we know.
            unescape(&self.kept, &mut text)?;
        }
        Ok(text)
    }
}

/// Stands for what models have between messages, and between their parts.
const BETWEEN: &str = "\n";

/// A block may begin in the middle of a character.
fn without_begun_character(block: &[u8]) -> &[u8] {
    let is_inside = |byte: &&u8| (0x80..0xc0).contains(*byte);
    let begun = block.iter().take(3).take_while(is_inside).count();
    block.get(begun..).unwrap_or_default()
}

/// Rounded up.
fn scaled(tokens: u64, kept: u64, whole: u64) -> u64 {
    let tokens = u128::from(tokens) * u128::from(whole);
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
            | b"transcript"
    )
}

/// Collects the beginning of an answer's JSON body while it passes. Nothing is allocated before there
/// is some of it.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    kept: Vec<u8>,
    whole: u64,
}

impl Collector {
    /// Takes the next part.
    pub(crate) fn take(&mut self, part: &[u8]) {
        self.whole = self.whole.saturating_add(part.len() as u64);
        let room = LONGEST_SAMPLE.saturating_sub(self.kept.len());
        let part = part.get(..room).unwrap_or(part);
        let needed = self.kept.len() + part.len();
        if needed > self.kept.capacity() {
            // Doubled, but not beyond the bound as it would be by itself.
            let capacity = (self.kept.capacity() * 2).clamp(needed, LONGEST_SAMPLE.max(needed));
            self.kept.reserve_exact(capacity - self.kept.len());
        }
        self.kept.extend_from_slice(part);
    }

    /// Forgets everything, and frees what it took.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The sample of the body. It is handed over.
    pub(crate) fn body(&mut self) -> Sample {
        let Self { kept, whole } = std::mem::take(self);
        Sample { kept: kept.into(), whole, form: Form::Answer }
    }

    /// How much memory is taken, in bytes.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.kept.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(sample: &Sample) -> String {
        sample.text().unwrap()
    }

    #[test]
    fn a_short_body_is_referred_to_and_a_long_one_let_go() {
        let short = Bytes::from(vec![b'x'; LONGEST_SAMPLE]);
        let sample = Sample::of_body(&short, 0);
        assert_eq!(sample.kept.as_ptr(), short.as_ptr());
        let long = Bytes::from(format!("{{\"input\":\"{}\"}}", "x".repeat(LONGEST_SAMPLE * 3)));
        let sample = Sample::of_body(&long, 0);
        assert!((LONGEST_SAMPLE / 2..=LONGEST_SAMPLE).contains(&sample.kept.len()));
        assert_eq!(sample.whole(), LONGEST_SAMPLE as u64 * 3);
        assert!(long.is_unique());
        // In no shape that we know, it has its length.
        let odd = Bytes::from(format!("{{\"n\":[{}1]}}", "1,".repeat(LONGEST_SAMPLE)));
        assert_eq!(Sample::of_body(&odd, 0).tokens(|_| 0), Ok(odd.len().div_ceil(4) as u64));
    }

    #[test]
    fn blocks_are_cut_anywhere() {
        let whole = r"caf\u00e9 ☕ \\".repeat(LONGEST_SAMPLE / 4);
        let mut spread = Spread::new(3);
        spread.take(whole.as_bytes());
        let sample = spread.strings();
        assert_eq!(sample.form, Form::Blocks);
        let text = text(&sample);
        assert!(text.contains(r"café ☕ \café") && text.len() > LONGEST_SAMPLE / 4, "{text}");
    }

    #[test]
    fn the_text_of_a_request() {
        let body = br#"{"model":"m","messages":[{"role":"user","content":"Say \"hi\""},
            {"role":"user","content":[{"type":"text","text":"caf\u00e9"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}],"user":"u"}"#;
        let sample = Sample::of_body(&Bytes::from_static(body), 0);
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
            ("<html>a</html>", "<html>a</html>"),
        ] {
            let mut collector = Collector::default();
            collector.take(body.as_bytes());
            assert_eq!(text(&collector.body()), expected);
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_grows_with_the_text() {
        let mut collector = Collector::default();
        collector.take(b"");
        assert_eq!(collector.capacity(), 0);
        collector.take(b"ab");
        assert!(collector.capacity() < 64);
        for _ in 0..100_000 {
            collector.take(b"word ");
            assert!(collector.capacity() <= LONGEST_SAMPLE);
        }
        let sample = collector.body();
        assert_eq!((sample.kept.len(), sample.whole()), (LONGEST_SAMPLE, 500_002));
        assert!(collector.body().is_empty());
    }

    #[test]
    fn the_whole_is_scaled_and_rounded_up() {
        assert_eq!(scaled(10, 100, 100), 10);
        assert_eq!(scaled(10, 100, 101), 11);
        assert_eq!(scaled(u64::MAX, 1, u64::MAX), u64::MAX);
        assert_eq!(scaled(0, 0, 0), 0);
        let unseen = Sample { whole: 9, ..Sample::default() };
        assert_eq!(unseen.tokens(|_| 0), Ok(3));
        assert_eq!(Sample::default().tokens(|_| 5), Ok(0));
    }
}
