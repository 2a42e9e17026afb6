//! OpenAI Chat Completions, as OpenAI defines it and as the many providers speak it that are compatible.
//!
//! A chat's message has one text, then its calls of tools. What else an answer has goes with it in fields
//! that other providers made known: `reasoning_content` (DeepSeek), `reasoning_details` (OpenRouter) with
//! signatures and encrypted reasoning, and `extra_content` (Google's compatible API) with signatures of
//! calls and texts.

mod answer_reader;
mod answer_writer;
mod message;
mod message_reader;
mod message_writer;
mod part_reader;
mod part_writer;
mod reasoning;
mod request_reader;
mod request_writer;
mod stream_reader;
mod tool_calls;
mod tools;
mod usage;

pub(super) use answer_reader::read_answer;
pub(super) use answer_writer::AnswerWriter;
pub(super) use message::write_answer;
pub(super) use request_reader::read_request;
pub(super) use request_writer::write_request;
pub(super) use stream_reader::StreamReader;

#[cfg(test)]
mod tests;
