//! Text kept for counting its tokens later: a bounded beginning, and how long the whole was.

use bytes::Bytes;

use super::strings::{NotText, StringValues, unescape};

/// The bound of what is kept, in bytes.
pub const LONGEST_SAMPLE: usize = 32 * 1024;

/// Some bytes stand for a token, on average; for where nothing better is to be had.
const BYTES_PER_TOKEN: u64 = 4;

/// A text, or its beginning; cheap to clone.
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
    /// A request's JSON body.
    Request,
    /// An answer's JSON body.
    Answer,
}

impl Sample {
    /// What is sent: a request's JSON body. A body longer than a sample is not kept alive by it.
    pub fn of_body(body: &Bytes) -> Self {
        let kept = match body.get(..LONGEST_SAMPLE) {
            Some(start) if body.len() > LONGEST_SAMPLE => Bytes::copy_from_slice(start),
            _ => body.clone(),
        };
        Self { kept, whole: body.len() as u64, form: Form::Request }
    }

    /// Whether there was nothing.
    pub fn is_empty(&self) -> bool {
        self.whole == 0
    }

    /// The length of the whole in bytes, as it came: in JSON's notation.
    pub fn whole(&self) -> u64 {
        self.whole
    }

    /// Tokens of the whole by its length alone.
    pub fn rough(&self) -> u64 {
        self.whole.div_ceil(BYTES_PER_TOKEN)
    }

    /// Tokens of the whole, where `count` is asked for those of what was kept.
    pub(super) fn tokens(&self, count: impl FnOnce(&str) -> u64) -> Result<u64, NotText> {
        if self.kept.is_empty() {
            return Ok(self.rough());
        }
        Ok(scaled(count(&self.text()?), self.kept.len() as u64, self.whole))
    }

    /// The text in what was kept.
    pub(crate) fn text(&self) -> Result<String, NotText> {
        let mut text = String::new();
        let wanted: fn(&[u8], &[u8]) -> bool = match self.form {
            Form::Strings => {
                unescape(&self.kept, &mut text)?;
                return Ok(text);
            }
            Form::Request => is_prompt,
            Form::Answer => |key, _| is_generated(key),
        };
        for value in StringValues::new(&self.kept) {
            if wanted(value.key, value.raw) {
                if !text.is_empty() {
                    // Stands for what models have between messages, and between their parts.
                    text.push('\n');
                }
                unescape(value.raw, &mut text)?;
            }
        }
        if text.is_empty() {
            // In no shape that we know.
            unescape(&self.kept, &mut text)?;
        }
        Ok(text)
    }
}

/// Rounded up.
fn scaled(tokens: u64, kept: u64, whole: u64) -> u64 {
    let tokens = u128::from(tokens) * u128::from(whole);
    u64::try_from(tokens.div_ceil(u128::from(kept.max(1)))).unwrap_or(u64::MAX)
}

/// Whether the model reads a request's string under this key as text.
fn is_prompt(key: &[u8], raw: &[u8]) -> bool {
    let is_other: bool = matches!(
        key,
        b"b64_json"
            | b"call_id"
            | b"encrypted_content"
            | b"file_data"
            | b"file_id"
            | b"file_url"
            | b"id"
            | b"image_url"
            | b"model"
            | b"previous_response_id"
            | b"prompt_cache_key"
            | b"safety_identifier"
            | b"service_tier"
            | b"tool_call_id"
            | b"type"
            | b"user"
    );
    !is_other && !is_encoded(raw)
}

/// Whether a string is a file in base64, which models do not read as text.
fn is_encoded(raw: &[u8]) -> bool {
    let head = raw.get(..128).unwrap_or(raw);
    raw.starts_with(b"data:") && memchr::memmem::find(head, b";base64,").is_some()
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

/// Collects a sample of an answer while it passes. Nothing is allocated before there is text.
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

    /// Counts what can't be looked at.
    pub(crate) fn pass_over(&mut self, length: u64) {
        self.whole = self.whole.saturating_add(length);
    }

    /// Forgets everything, and frees what it took.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The sample of the insides of strings.
    pub(crate) fn strings(&mut self) -> Sample {
        self.sample(Form::Strings)
    }

    /// The sample of a JSON body.
    pub(crate) fn body(&mut self) -> Sample {
        self.sample(Form::Answer)
    }

    fn sample(&mut self, form: Form) -> Sample {
        let Self { kept, whole } = std::mem::take(self);
        Sample { kept: kept.into(), whole, form }
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
    fn a_short_body_is_referred_to_and_a_long_one_copied_in_part() {
        let short = Bytes::from(vec![b'x'; LONGEST_SAMPLE]);
        let sample = Sample::of_body(&short);
        assert_eq!(sample.kept.as_ptr(), short.as_ptr());
        let long = Bytes::from(vec![b'x'; LONGEST_SAMPLE + 1]);
        let sample = Sample::of_body(&long);
        assert_eq!((sample.kept.len(), sample.whole()), (LONGEST_SAMPLE, long.len() as u64));
        assert!(long.is_unique());
    }

    #[test]
    fn the_text_of_a_request() {
        let body = br#"{"model":"m","messages":[{"role":"user","content":"Say \"hi\""},
            {"role":"user","content":[{"type":"text","text":"caf\u00e9"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}],"user":"u"}"#;
        let sample = Sample::of_body(&Bytes::from_static(body));
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
        collector.pass_over(7);
        let sample = collector.strings();
        assert_eq!((sample.kept.len(), sample.whole()), (LONGEST_SAMPLE, 500_009));
        assert!(collector.strings().is_empty());
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
