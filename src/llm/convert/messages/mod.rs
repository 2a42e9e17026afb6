//! Anthropic Messages, as a caller's format and as a provider's.

mod answer_reader;
mod answer_writer;
mod block_reader;
mod block_writer;
mod claude;
mod detached_signatures;
mod plain_writer;
mod reasoning_writer;
mod request_reader;
mod request_writer;
#[cfg(test)]
mod tests;
mod tool_reader;
mod turn_reader;
mod turn_writer;
mod usage;

pub(super) use answer_reader::{StreamReader, read_answer};
pub(super) use answer_writer::AnswerWriter;
pub(super) use plain_writer::write_answer;
pub(super) use request_reader::read_request;
pub(super) use request_writer::write_request;

use super::answer::StopReason;

/// The words of `stop_reason` (Anthropic, "Handling stop reasons").
const STOP_REASONS: [(&str, StopReason); 7] = [
    ("end_turn", StopReason::End),
    ("stop_sequence", StopReason::StopSequence),
    ("tool_use", StopReason::ToolCall),
    ("max_tokens", StopReason::MaxTokens),
    ("model_context_window_exceeded", StopReason::ContextFull),
    ("refusal", StopReason::Refusal),
    ("pause_turn", StopReason::Pause),
];
