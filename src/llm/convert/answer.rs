//! An answer between formats: events in the order in which the model wrote, what reads and writes them in
//! a format, and the whole that they make.

use super::opaque::Opaque;
use crate::domain::tokens::TokenUsage;
use crate::llm::sse::PING;

/// What happens in an answer. Readers of streams give these; the plain answer is the fold of them.
///
/// Order: `Start` first; a block is opened, gets its deltas, and is closed; `Stop` after the last block;
/// `End` last, only if the provider ended the answer properly. Blocks are numbered by the reader in the
/// order in which they are opened, from 0, without gaps. Readers may leave several open at a time;
/// `sequence` puts them in order before the writers of formats that can't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerEvent {
    Start {
        /// The provider's id of the answer.
        id: Option<String>,
        /// The model that the provider names.
        model: Option<String>,
    },
    Open {
        block: u32,
        kind: BlockKind,
    },
    /// Text of the block: of a text, a refusal, or reasoning.
    Text {
        block: u32,
        text: String,
    },
    /// A piece of the arguments of a tool's call.
    Arguments {
        block: u32,
        json: String,
    },
    /// Belongs to the block. Of several with the same kind the last one counts.
    Opaque {
        block: u32,
        opaque: Opaque<'static>,
    },
    Annotation {
        block: u32,
        annotation: Annotation,
    },
    Close {
        block: u32,
    },
    /// Counts so far; a count that is there replaces the earlier one.
    Usage(AnswerUsage),
    Stop(Stop),
    /// The provider is alive.
    Ping,
    /// The provider's own end of the answer.
    End,
    /// The provider reports an error; nothing follows.
    Failed(Failure),
}

impl AnswerEvent {
    /// Bytes of text in it, for bounds of what is kept.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Text { text, .. } => text.len(),
            Self::Arguments { json, .. } => json.len(),
            Self::Opaque { opaque, .. } => opaque.data.len(),
            Self::Annotation { annotation, .. } => {
                64 + annotation.url.len() + annotation.title.as_ref().map_or(0, String::len)
            }
            // So that events without text count, too.
            _ => 64,
        }
    }
}

/// Reads a provider's stream, in one format, into events.
pub(super) trait ReadEvents {
    /// Reads one event of the stream: its name, where the format has names, and its data.
    fn read(&mut self, name: Option<&str>, data: &str, out: &mut Vec<AnswerEvent>);

    /// The bytes ended. This is the end of the answer only where the format allows that.
    fn finish(&mut self, _out: &mut Vec<AnswerEvent>) {}
}

/// Writes events as the caller's stream, in one format.
pub(super) trait WriteEvents {
    /// Appends the bytes of an event.
    fn write(&mut self, event: AnswerEvent, out: &mut Vec<u8>);

    /// Whether the writer keeps what is in the event beyond the event.
    fn keeps(&self, event: &AnswerEvent) -> bool {
        matches!(event, AnswerEvent::Open { .. } | AnswerEvent::Annotation { .. })
    }

    /// Appends what keeps the connection of a waiting caller open: a comment, which clients ignore.
    fn ping(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(PING);
    }
}

/// What a block of an answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockKind {
    Text,
    Refusal,
    /// `is_summary`: what is shown is a summary of the thoughts.
    Reasoning {
        is_summary: bool,
    },
    /// A call of a tool of the caller's. An empty id means that the provider gave none.
    ToolCall {
        id: String,
        name: String,
    },
}

/// Where something in the text comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    pub url: String,
    pub title: Option<String>,
    /// The part of the block's text, in Unicode code points; `None` if the provider does not say.
    pub span: Option<(u64, u64)>,
}

/// Token counts in parts that add up: the input is without what the cache read and wrote, the output is
/// all that was written, reasoning included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnswerUsage {
    pub input: Option<u64>,
    pub cache_read: Option<u64>,
    /// Written to the cache, for whatever time.
    pub cache_write: Option<u64>,
    /// The part of `cache_write` that is kept for one hour.
    pub cache_write_1h: Option<u64>,
    pub output: Option<u64>,
    /// The part of `output` that is reasoning.
    pub reasoning: Option<u64>,
    pub audio_input: Option<u64>,
    pub audio_output: Option<u64>,
}

impl From<TokenUsage> for AnswerUsage {
    /// The counts as they are. Where the input includes what went through the cache, that has to be taken
    /// from it.
    fn from(counts: TokenUsage) -> Self {
        let TokenUsage {
            input,
            cached_input: cache_read,
            cache_write,
            cache_write_1h,
            output,
            reasoning,
            audio_input,
            audio_output,
        } = counts;
        Self {
            input,
            cache_read,
            cache_write,
            cache_write_1h,
            output,
            reasoning,
            audio_input,
            audio_output,
        }
    }
}

impl AnswerUsage {
    /// All input together, as formats count it that include the cache.
    pub fn total_input(&self) -> Option<u64> {
        let parts = [self.input, self.cache_read, self.cache_write];
        let some = parts.iter().any(Option::is_some);
        some.then(|| parts.iter().flatten().fold(0, |sum: u64, part| sum.saturating_add(*part)))
    }

    /// This, with the counts that `later` has.
    pub fn updated(self, later: Self) -> Self {
        Self {
            input: later.input.or(self.input),
            cache_read: later.cache_read.or(self.cache_read),
            cache_write: later.cache_write.or(self.cache_write),
            cache_write_1h: later.cache_write_1h.or(self.cache_write_1h),
            output: later.output.or(self.output),
            reasoning: later.reasoning.or(self.reasoning),
            audio_input: later.audio_input.or(self.audio_input),
            audio_output: later.audio_output.or(self.audio_output),
        }
    }
}

/// Why the model stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    pub reason: StopReason,
    /// The provider's word for it.
    pub native: String,
    /// The sequence at which it stopped, if the provider says it.
    pub sequence: Option<String>,
}

/// Why the model stopped, in words that all formats are read into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    End,
    StopSequence,
    ToolCall,
    MaxTokens,
    ContextFull,
    /// The model or a filter of the provider's refused.
    Refusal,
    /// The provider paused a long turn (Anthropic `pause_turn`).
    Pause,
    /// A word that is not known: treated as an end, the word is kept.
    Other,
}

/// An error that a provider reports in its answer, or an answer that can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The provider's own code or type, such as `overloaded_error`; else a code of the gateway's, such as
    /// `malformed_function_call`.
    pub code: String,
    pub message: String,
}

impl Failure {
    /// The code of [`unusable`](Self::unusable) answers.
    pub(super) const UNUSABLE: &str = "upstream_error";

    /// The provider's answer can't be used, for this reason.
    pub(super) fn unusable(message: impl Into<String>) -> Self {
        Self { code: Self::UNUSABLE.to_owned(), message: message.into() }
    }

    /// A plain answer of the provider's that is not what its format says.
    pub(super) fn unreadable(problem: &str) -> Self {
        Self::unusable(format!("the answer can't be read: {problem}"))
    }

    /// A value is missing in the provider's answer, or another one is in its place.
    pub(super) fn malformed() -> Self {
        Self::unusable("The provider's answer is not of its format.")
    }
}

/// A whole answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    pub id: Option<String>,
    pub model: Option<String>,
    pub blocks: Vec<AnswerBlock>,
    pub usage: AnswerUsage,
    /// `None` if the provider did not say.
    pub stop: Option<Stop>,
}

/// A block of a whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerBlock {
    pub kind: BlockKind,
    /// The text, or the arguments of a call as the model wrote them.
    pub text: String,
    pub opaque: Vec<Opaque<'static>>,
    pub annotations: Vec<Annotation>,
}

impl Answer {
    /// Takes in an event. `Failed` is left to the caller.
    pub fn fold(&mut self, event: AnswerEvent) {
        match event {
            AnswerEvent::Start { id, model } => {
                self.id = id.or(self.id.take());
                self.model = model.or(self.model.take());
            }
            AnswerEvent::Open { kind, .. } => self.blocks.push(AnswerBlock {
                kind,
                text: String::new(),
                opaque: Vec::new(),
                annotations: Vec::new(),
            }),
            AnswerEvent::Text { block, text } | AnswerEvent::Arguments { block, json: text } => {
                if let Some(block) = self.block(block) {
                    block.text.push_str(&text);
                }
            }
            AnswerEvent::Opaque { block, opaque } => {
                if let Some(block) = self.block(block) {
                    block
                        .opaque
                        .retain(|one| (one.family, one.kind) != (opaque.family, opaque.kind));
                    block.opaque.push(opaque);
                }
            }
            AnswerEvent::Annotation { block, annotation } => {
                if let Some(block) = self.block(block) {
                    block.annotations.push(annotation);
                }
            }
            AnswerEvent::Usage(usage) => self.usage = self.usage.updated(usage),
            AnswerEvent::Stop(stop) => self.stop = Some(stop),
            AnswerEvent::Close { .. }
            | AnswerEvent::Ping
            | AnswerEvent::End
            | AnswerEvent::Failed(_) => {}
        }
    }

    fn block(&mut self, number: u32) -> Option<&mut AnswerBlock> {
        self.blocks.get_mut(usize::try_from(number).ok()?)
    }

    /// Why the model stopped, for formats that report a call of a tool: a plain stop after a call is one.
    pub fn stop_reason(&self) -> StopReason {
        let has_call =
            self.blocks.iter().any(|block| matches!(block.kind, BlockKind::ToolCall { .. }));
        effective_stop(self.stop.as_ref().map_or(StopReason::End, |stop| stop.reason), has_call)
    }
}

/// The reason to report: a plain stop after a call of a tool is a call of a tool, since Gemini and many
/// compatible providers do not show the difference, and a call that did not come is none.
pub fn effective_stop(reason: StopReason, has_call: bool) -> StopReason {
    match reason {
        StopReason::End | StopReason::Other if has_call => StopReason::ToolCall,
        StopReason::ToolCall if !has_call => StopReason::End,
        other => other,
    }
}
