//! How an answer is read while it passes: as a stream of some kind, as one object, or not at all.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use bytes::Bytes;

use crate::accounting::request::AccountedRequest;
use crate::domain::pricing::ToolCalls;
use crate::llm::answer::{
    AnswerContent, BinaryEvents, ObservedAnswer, PlainAnswer, StreamForm, StreamedAnswer,
    first_byte,
};
use crate::llm::format::Format;
use crate::llm::invoke::usage_in_headers;
use crate::llm::usage::ReportedUsage;

/// Whether the body is in one of the codings of the HTTP Content Coding Registry that hide what it
/// says. `identity`, and words that are none of them, hide nothing.
pub fn is_compressed(headers: &HeaderMap) -> bool {
    const CODINGS: [&str; 12] = [
        "aes128gcm",
        "br",
        "compress",
        "dcb",
        "dcz",
        "deflate",
        "exi",
        "gzip",
        "pack200-gzip",
        "x-compress",
        "x-gzip",
        "zstd",
    ];
    headers
        .get_all(CONTENT_ENCODING)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| CODINGS.contains(&coding.trim().to_ascii_lowercase().as_str()))
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    const EVENT_STREAM: &str = "text/event-stream";
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok()?.trim_start().get(..EVENT_STREAM.len()))
        .is_some_and(|start| start.eq_ignore_ascii_case(EVENT_STREAM))
}

/// What is read out of an answer while it passes.
pub enum Watch {
    /// Nothing: an upstream's error.
    None,
    /// Nothing, since it is compressed.
    Unreadable,
    /// A stream was asked for, and the head does not say that this is one: the first bytes will tell.
    Undecided(AnswerReader),
    Plain(PlainAnswer),
    Stream(Box<StreamedAnswer>),
}

/// What an answer is, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerKind {
    None,
    Unreadable,
    Undecided,
    Plain,
    Stream(StreamForm),
}

impl Watch {
    /// What the answer is.
    pub fn kind(&self) -> AnswerKind {
        match self {
            Self::None => AnswerKind::None,
            Self::Unreadable => AnswerKind::Unreadable,
            Self::Undecided(_) => AnswerKind::Undecided,
            Self::Plain(_) => AnswerKind::Plain,
            Self::Stream(answer) => AnswerKind::Stream(answer.form()),
        }
    }

    /// Looks at the next chunk, before it is read, where it may tell what the answer is: the head does not,
    /// or it says that this is a stream of events, which no event begins like JSON.
    pub fn decide(&mut self, chunk: &[u8]) {
        let decided = match self {
            Self::Undecided(reader) => reader.decide(chunk),
            Self::Stream(answer) if answer.is_blank() && answer.form() == StreamForm::Events => {
                first_byte(chunk).and_then(|first| json(first, answer.format()))
            }
            _ => None,
        };
        if let Some(decided) = decided {
            *self = decided;
        }
    }

    /// Reads a chunk that does not pass on.
    pub fn push(&mut self, chunk: Bytes) {
        self.decide(&chunk);
        match self {
            Self::Plain(plain) => plain.push(&chunk),
            Self::Stream(stream) => drop(stream.push(chunk)),
            Self::None | Self::Unreadable | Self::Undecided(_) => {}
        }
    }

    /// Whether the provider has reported an error in its answer.
    pub fn reports_error(&self) -> bool {
        let content = match self {
            Self::Plain(answer) => answer.observed().content,
            Self::Stream(answer) => answer.observed().content,
            Self::None | Self::Unreadable | Self::Undecided(_) => return false,
        };
        content == AnswerContent::Error
    }

    /// Notes what settling the request takes, of the answer as far as it came. Gives the id of a response.
    pub fn note(
        &mut self,
        is_model_answer: bool,
        is_completed: bool,
        request: &mut AccountedRequest,
    ) -> Option<String> {
        let observed = match self {
            Self::None | Self::Unreadable | Self::Undecided(_) => ObservedAnswer::default(),
            Self::Plain(answer) => answer.observed(),
            Self::Stream(answer) => answer.observed().clone(),
        };
        let most = request.max_output_tokens();
        // What was reported before an error is no count of the text after it.
        let is_final = is_completed && observed.content != AnswerContent::Error;
        // Streams of messages count searches at their end; their beginning may say that there are none.
        let counts_at_end = matches!(
            self,
            Self::Stream(answer) if answer.format() == Format::Messages && answer.has_written()
        );
        let counts_calls =
            |report: &ReportedUsage| is_final || !counts_at_end || report.web_searches > 0;
        let summary = &mut request.answer;
        if is_model_answer && !matches!(self, Self::None | Self::Unreadable) {
            summary.content = Some(observed.content);
        }
        summary.calls = observed.usage.filter(counts_calls).map(|report| ToolCalls {
            web_searches: observed.calls.web_searches + u64::from(report.web_searches),
            ..observed.calls
        });
        summary.usage = observed.usage.map(|report| report.tokens(most));
        let has_both_counts =
            summary.usage.is_some_and(|usage| usage.input.is_some() && usage.output.is_some());
        summary.text = match self {
            _ if has_both_counts && is_final => None,
            Self::None | Self::Unreadable | Self::Undecided(_) => None,
            Self::Plain(answer) => Some(answer.take_text()),
            Self::Stream(answer) => Some(answer.take_text()),
        };
        request.record().model_used = observed.model;
        observed.response_id
    }
}

/// How an answer is to be read.
#[derive(Clone, Copy)]
pub struct AnswerReader {
    pub format: Format,
    pub binary_events: Option<BinaryEvents>,
    pub is_stream_expected: bool,
    pub withhold_usage: bool,
}

impl AnswerReader {
    /// At the beginning of an answer with this head.
    pub fn begin(self, status: StatusCode, headers: &HeaderMap) -> Watch {
        if !status.is_success() {
            Watch::None
        } else if is_compressed(headers) {
            Watch::Unreadable
        } else if is_event_stream(headers) {
            self.stream()
        } else if let Some(events) = self.binary_events.filter(|_| self.is_stream_expected) {
            Watch::Stream(Box::new(StreamedAnswer::of_binary(self.format, events)))
        } else if self.is_stream_expected {
            Watch::Undecided(self)
        } else if self.format == Format::Invoke {
            let usage = usage_in_headers(|name| headers.get(name)?.to_str().ok());
            Watch::Plain(PlainAnswer::new(self.format).with_usage(usage))
        } else {
            Watch::Plain(PlainAnswer::new(self.format))
        }
    }

    /// Tells a stream of events, which begins with the name of a field or a comment, from JSON, by the
    /// first byte that is not blank.
    fn decide(self, chunk: &[u8]) -> Option<Watch> {
        let first = first_byte(chunk)?;
        Some(match first {
            b'd' | b'e' | b'i' | b'r' | b':' => self.stream(),
            _ => json(first, self.format)
                .unwrap_or_else(|| Watch::Plain(PlainAnswer::new(self.format))),
        })
    }

    fn stream(self) -> Watch {
        Watch::Stream(Box::new(StreamedAnswer::new(self.format, self.withhold_usage)))
    }
}

/// How JSON that begins with this byte is read, if it is JSON.
fn json(first: u8, format: Format) -> Option<Watch> {
    match first {
        b'[' if format.has_array_streams() => {
            Some(Watch::Stream(Box::new(StreamedAnswer::of_array(format))))
        }
        b'{' => Some(Watch::Plain(PlainAnswer::new(format))),
        _ => None,
    }
}
