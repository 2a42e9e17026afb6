//! Requests, answers and streams of responses.

mod answers;
mod mutations;
mod read_requests;
mod streams;
mod write_requests;

use serde_json::Value;

use super::super::answer::{
    Answer, AnswerEvent, BlockKind, ReadEvents, Stop, StopReason, WriteEvents,
};
use super::super::error::{ConvertError, Dropped};
use super::super::request::{Named, Reasoning, Request};
use super::super::sample_events::{arguments, close, open, text};
use super::super::sequence::in_order;
use super::super::test_rendering::fold;
use super::super::{AnswerContext, Target};
use super::{AnswerWriter, StreamReader, read_request, write_request};

const TARGET: Target<'static> =
    Target { takes_cache_breakpoints: true, ..Target::new("gpt-5", 8192) };

/// What the target gets, and what was left out.
fn written(request: &Request<'_>) -> Result<(Value, Vec<String>), ConvertError> {
    let mut dropped = Dropped::new(false);
    let json = write_request(request, &TARGET, &mut dropped)?;
    Ok((serde_json::from_str(&json).unwrap(), dropped.fields().to_vec()))
}

/// The request, written and read again, is the same.
fn assert_survives(json: &str) {
    let request = read_request(json).unwrap();
    let written = write_request(&request, &TARGET, &mut Dropped::new(true)).unwrap();
    let expected = Request { model: TARGET.model.into(), left_out: Vec::new(), ..request.clone() };
    assert_eq!(read_request(&written).unwrap(), expected, "{written}");
}

fn context() -> AnswerContext {
    AnswerContext {
        model: "anthropic/claude".to_owned(),
        created: 1_700_000_000,
        seed: "s33d".to_owned(),
        include_usage: true,
        estimated_input: 7,
        echo: Vec::new(),
    }
}

/// Reads the data of a stream's events.
fn read_stream<'d>(data: impl IntoIterator<Item = &'d str>) -> Vec<AnswerEvent> {
    let (mut reader, mut events) = (StreamReader::default(), Vec::new());
    data.into_iter().for_each(|data| reader.read(None, data, &mut events));
    reader.finish(&mut events);
    events
}

fn write_stream(events: impl IntoIterator<Item = AnswerEvent>) -> String {
    let (mut writer, mut out) = (AnswerWriter::new(context()), Vec::new());
    in_order(events).into_iter().for_each(|event| writer.write(event, &mut out));
    String::from_utf8(out).unwrap()
}

/// The data of the events of a stream's text.
fn data_of(stream: &str) -> Vec<&str> {
    stream.lines().filter_map(|line| line.strip_prefix("data: ")).collect()
}

fn start() -> AnswerEvent {
    AnswerEvent::Start { id: Some("msg_1".to_owned()), model: Some("claude".to_owned()) }
}

fn call(block: u32) -> AnswerEvent {
    let kind = BlockKind::ToolCall { id: format!("toolu_{block}"), name: "f".to_owned() };
    open(block, kind)
}

fn stop(reason: StopReason) -> AnswerEvent {
    AnswerEvent::Stop(Stop { reason, native: "end_turn".to_owned(), sequence: None })
}
