//! Reads server-sent events that a caller got.

use serde_json::Value;

use super::{connection::BodyEnd, http::Answer};

/// The data of the events of a stream, but for `[DONE]`.
#[track_caller]
pub(crate) fn events(stream: &str) -> Vec<Value> {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    let data = data.filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| panic!("no JSON: {data}")))
        .collect()
}

/// The strings at this JSON pointer in the events, joined.
pub(crate) fn joined(stream: &str, pointer: &str) -> String {
    let events = events(stream);
    events.iter().filter_map(|event| event.pointer(pointer)?.as_str()).collect()
}

/// The texts of a chat stream, joined.
pub(crate) fn chat_text(stream: &str) -> String {
    joined(stream, "/choices/0/delta/content")
}

/// The arguments of the first call of a tool in a chat stream.
pub(crate) fn call_arguments(stream: &str) -> Value {
    let arguments = joined(stream, "/choices/0/delta/tool_calls/0/function/arguments");
    serde_json::from_str(&arguments).unwrap_or_else(|_| panic!("no JSON: {arguments} in {stream}"))
}

/// What came of a stream that began well and was cut.
#[track_caller]
pub(crate) fn broken_off(answer: &Answer) -> String {
    let got = answer.text();
    let is_cut = !matches!(answer.ending, BodyEnd::Complete);
    assert!(answer.status == 200 && is_cut, "{} {:?} {got}", answer.status, answer.ending);
    got
}
