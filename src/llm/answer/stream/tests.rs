//! What is read out of streams, withheld from them and added at their end, however they are split.

use proptest::prelude::*;

use super::*;
use crate::llm::sse::MAX_EVENT_BYTES;

const CONTENT: &str = "data: {\"id\":\"1\",\"model\":\"m-1\",\"choices\":[{\"delta\":{\"content\":\"é \\\"usage\\\":{\"}}],\"usage\":null}\n\n";
const USAGE: &str = "data: {\"id\":\"1\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn upstream_closed() -> GatewayError<'static> {
    GatewayError {
        message: "The provider closed the connection.",
        kind: "upstream_error",
        code: "upstream_closed",
        param: None,
        status: 502,
        request_id: uuid::Uuid::nil().into(),
    }
}

fn push_all(answer: &mut StreamedAnswer, stream: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in stream.chunks(size) {
        if let Some(bytes) = answer.push(Bytes::copy_from_slice(chunk)) {
            assert!(!bytes.is_empty());
            out.extend_from_slice(&bytes);
        }
    }
    out
}

fn tokens(answer: &StreamedAnswer) -> (Option<u64>, Option<u64>) {
    answer
        .observed()
        .usage
        .map(|usage| (usage.counts.input, usage.counts.output))
        .unwrap_or_default()
}

#[test]
fn chunks_pass_without_being_copied() {
    for withhold in [false, true] {
        let mut answer = StreamedAnswer::new(Format::Chat, withhold);
        let chunk = Bytes::from(format!("{CONTENT}{CONTENT}"));
        let out = answer.push(chunk.clone()).unwrap();
        assert_eq!((out.as_ptr(), out.len()), (chunk.as_ptr(), chunk.len()));
        assert_eq!(answer.observed().model.as_deref(), Some("m-1"));
        assert_eq!(answer.observed().usage, None);
        assert_eq!(answer.push(Bytes::new()), None);
    }
}

#[test]
fn exactly_the_usage_event_is_withheld() {
    for (end, size) in [("\n", 1), ("\n", 17), ("\n", 10_000), ("\r\n", 1), ("\r\n", 50), ("\r", 1)]
    {
        let all = [": wait\n\n", CONTENT, USAGE, ": wait\n\n", DONE].concat().replace('\n', end);
        let left = [": wait\n\n", CONTENT, ": wait\n\n", DONE].concat().replace('\n', end);
        let mut answer = StreamedAnswer::new(Format::Chat, true);
        let out = push_all(&mut answer, all.as_bytes(), size);
        assert_eq!(String::from_utf8(out).unwrap(), left, "{end:?} {size}");
        assert_eq!(tokens(&answer), (Some(3), Some(4)));
        assert!(answer.is_terminal() && answer.at_event_boundary());
        assert_eq!(answer.finish(StreamEnd::Complete), StreamRest { last: None, abort: false });

        let mut answer = StreamedAnswer::new(Format::Chat, false);
        assert_eq!(push_all(&mut answer, all.as_bytes(), size), all.as_bytes());
        assert_eq!(tokens(&answer), (Some(3), Some(4)));
    }
}

#[test]
fn what_is_not_usage_is_passed_on() {
    let with_timings = "data: {\"id\":\"1\",\"choices\":[],\"timings\":{\"prompt_n\":3},\
        \"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n";
    let rest = "data: {\"id\":\"1\",\"choices\":[{\"delta\":{},\"finish_reason\":null,\"index\":0}],\"timings\":{\"prompt_n\":3}}\n\n";
    for end in ["\n", "\r\n"] {
        let all = [CONTENT, with_timings, DONE].concat().replace('\n', end);
        let expected = [&CONTENT.replace('\n', end), rest, &DONE.replace('\n', end)].concat();
        for size in [1, 17, 10_000] {
            let mut answer = StreamedAnswer::new(Format::Chat, true);
            let out = push_all(&mut answer, all.as_bytes(), size);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{end:?} {size}");
            assert_eq!(tokens(&answer), (Some(3), Some(4)));
        }
    }
    let mut answer = StreamedAnswer::new(Format::Chat, true);
    assert_eq!(answer.push(with_timings.trim_end().into()), None);
    let end = answer.finish(StreamEnd::Complete);
    assert_eq!(end, StreamRest { last: Some(rest.into()), abort: false });
}

#[test]
fn errors_and_missing_answers_differ_from_answers() {
    use crate::llm::answer::AnswerContent::{Answer, Error, Nothing};

    let error = "data: {\"error\":{\"message\":\"overloaded\"}}\n\n";
    let ping = ": wait\n\nevent: ping\ndata: {}\n\n";
    let created = "data: {\"type\":\"response.created\",\"response\":{\"error\":null}}\n\n";
    let failed =
        "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"x\"}}}\n\n";
    let long =
        format!("data: {{\"x\":\"{}\",\"error\":{{\"code\":1}}}}\n\n", "x".repeat(MAX_EVENT_BYTES));
    for (format, stream, content) in [
        (Format::Chat, [ping, DONE].concat(), Nothing),
        (Format::Chat, [CONTENT, DONE].concat(), Answer),
        (Format::Chat, [USAGE, DONE].concat(), Answer),
        (Format::Chat, [error, DONE].concat(), Error),
        (Format::Chat, [CONTENT, error, USAGE].concat(), Error),
        (Format::Chat, [CONTENT, &long].concat(), Error),
        (Format::Responses, created.to_owned(), Nothing),
        (Format::Responses, [created, failed].concat(), Error),
        (Format::Responses, "event: response.output_text.delta\ndata: {}\n\n".to_owned(), Answer),
    ] {
        for size in [1, 50, 100_000] {
            let mut answer = StreamedAnswer::new(format, true);
            push_all(&mut answer, stream.as_bytes(), size);
            assert_eq!(answer.observed().content, content, "{stream}");
        }
    }
}

#[test]
fn events_similar_to_the_usage_event_pass() {
    let filter = "data: {\"choices\":[],\"usage\":null,\"prompt_filter_results\":[{}]}\n\n";
    let cumulative = "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":1}}\n\n";
    let all = [filter, cumulative, cumulative, DONE].concat();
    for size in [1, 1000] {
        let mut answer = StreamedAnswer::new(Format::Chat, true);
        assert_eq!(push_all(&mut answer, all.as_bytes(), size), all.as_bytes());
        assert_eq!(tokens(&answer), (Some(1), None));
    }
}

#[test]
fn content_is_not_held_back_once_it_is_known_as_such() {
    let mut answer = StreamedAnswer::new(Format::Chat, true);
    assert_eq!(answer.push("data: {\"id\":\"1\",\"cho".into()), None);
    assert!(answer.at_event_boundary(), "the caller has got nothing of it");
    let out = answer.push("ices\":[{\"delta\":".into()).unwrap();
    assert_eq!(out, "data: {\"id\":\"1\",\"choices\":[{\"delta\":");
    assert!(!answer.at_event_boundary());
    assert_eq!(answer.push("{".into()).unwrap(), "{");
    assert_eq!(answer.push("}}]}\n\nda".into()).unwrap(), "}}]}\n\n");
    assert_eq!(answer.push("ta: [".into()).unwrap(), "data: [");
    assert_eq!(answer.push("DONE]\n\n".into()).unwrap(), "DONE]\n\n");
}

#[test]
fn no_more_is_held_than_the_bound() {
    let mut answer = StreamedAnswer::new(Format::Chat, true);
    let mut sent = 0;
    let mut got = answer.push("data: {\"choices\":[],\"x\":\"".into()).map_or(0, |out| out.len());
    assert_eq!(got, 0);
    for _ in 0..3000 {
        sent += 1000;
        got += answer.push(Bytes::from_static(&[b'x'; 1000])).map_or(0, |out| out.len());
        assert!(sent <= got + MAX_HELD_BYTES);
    }
    got += answer.push("\",\"usage\":{}}\n\n".into()).unwrap().len();
    assert_eq!(got, sent + 25 + 15);
}

#[test]
fn a_failure_is_told_where_an_event_may_stand() {
    let error = upstream_closed();
    let told = StreamRest { last: Some(Format::Chat.error_event(&error, 0).into()), abort: true };
    let untold = StreamRest { last: None, abort: true };
    for (withhold, stream, expected) in [
        (false, String::new(), &told),
        (false, CONTENT.to_owned(), &told),
        (false, format!("{CONTENT}: wait\n"), &told),
        (false, format!("{CONTENT}data: {{\"cho"), &untold),
        // Held back, so the caller is still at a boundary.
        (true, format!("{CONTENT}data: {{\"cho"), &told),
        (true, format!("{CONTENT}data: {{\"choices\":[{{"), &untold),
    ] {
        let mut answer = StreamedAnswer::new(Format::Chat, withhold);
        push_all(&mut answer, stream.as_bytes(), 1000);
        assert_eq!(answer.finish(StreamEnd::Failed(error)), *expected, "{withhold} {stream}");
    }
    let mut answer = StreamedAnswer::new(Format::Chat, true);
    push_all(&mut answer, format!("{CONTENT}{DONE}").as_bytes(), 7);
    assert_eq!(answer.finish(StreamEnd::Failed(error)), StreamRest { last: None, abort: false });
}

#[test]
fn what_was_held_is_released_at_the_end() {
    let mut answer = StreamedAnswer::new(Format::Chat, true);
    assert_eq!(answer.push("data: {\"x\"".into()), None);
    let last = Some("data: {\"x\"".into());
    assert_eq!(answer.finish(StreamEnd::Complete), StreamRest { last, abort: false });
    // A usage event that lacks only its blank line.
    let mut answer = StreamedAnswer::new(Format::Chat, true);
    assert_eq!(answer.push(USAGE.trim_end().into()), None);
    assert_eq!(answer.finish(StreamEnd::Complete), StreamRest { last: None, abort: false });
    assert_eq!(tokens(&answer), (Some(3), Some(4)));
}

#[test]
fn responses_streams() {
    let created = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"model\":\"r-1\",\"usage\":null}}\n\n";
    let delta = "event: response.output_text.delta\ndata: {\"delta\":\"x\"}\n\n";
    let completed = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"r-1\",\"usage\":{\"input_tokens\":5,\"output_tokens\":6,\"output_tokens_details\":{\"reasoning_tokens\":2}}}}\n\n";
    for nameless in [false, true] {
        let mut all = [created, delta, completed].concat();
        if nameless {
            all = all
                .lines()
                .filter(|line| !line.starts_with("event:"))
                .fold(String::new(), |all, line| all + line + "\n");
        }
        let mut answer = StreamedAnswer::new(Format::Responses, true);
        assert_eq!(push_all(&mut answer, all.as_bytes(), 9), all.as_bytes());
        assert!(answer.is_terminal());
        assert_eq!(tokens(&answer), (Some(5), Some(6)));
        assert_eq!(answer.observed().model.as_deref(), Some("r-1"));
        let end = answer.finish(StreamEnd::Failed(upstream_closed()));
        assert_eq!(end, StreamRest { last: None, abort: false });
    }
    let mut answer = StreamedAnswer::new(Format::Responses, false);
    push_all(&mut answer, format!("{created}{delta}").as_bytes(), 1000);
    assert!(!answer.is_terminal());
    let end = answer.finish(StreamEnd::Failed(upstream_closed()));
    let event = Format::Responses.error_event(&upstream_closed(), 2);
    assert_eq!(end, StreamRest { last: Some(event.into()), abort: true });
}

#[test]
fn an_event_too_long_to_keep_is_read_as_it_passes() {
    let filler = "x".repeat(3 * MAX_EVENT_BYTES);
    let usage = r#"{"input_tokens":5,"output_tokens":6}"#;
    for named in [true, false] {
        let name = if named { "event: response.completed\n" } else { "" };
        let stream = format!(
            "{name}data: {{\"type\":\"response.completed\",\"response\":{{\"output\":[\"{filler}\"],\
             \"model\":\"r-1\",\"usage\":{usage}}}}}\n\n"
        );
        for size in [777, 20_000, 40_000, stream.len()] {
            let mut answer = StreamedAnswer::new(Format::Responses, false);
            assert_eq!(push_all(&mut answer, stream.as_bytes(), size), stream.as_bytes());
            assert!(answer.is_terminal());
            assert_eq!(tokens(&answer), (Some(5), Some(6)), "{named} {size}");
            assert_eq!(answer.observed().model.as_deref(), Some("r-1"));
            assert!(answer.take_text().is_empty());
            assert!(answer.partial.is_none());
        }
    }
    let stream = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{filler}\"}}}}],\
         \"usage\":{{\"prompt_tokens\":1}}}}\n\n"
    );
    for size in [777, stream.len()] {
        let mut answer = StreamedAnswer::new(Format::Chat, true);
        assert_eq!(push_all(&mut answer, stream.as_bytes(), size), stream.as_bytes());
        assert_eq!(tokens(&answer), (Some(1), None));
        assert_eq!(answer.take_text().length(), stream.len() as u64);
    }
}

#[test]
fn a_long_usage_event_is_withheld_but_for_what_is_not_usage() {
    let filler = "x".repeat(MAX_EVENT_BYTES);
    let rest = format!(
        "data: {{\"choices\":[{{\"delta\":{{}},\"finish_reason\":null,\"index\":0}}],\"timings\":\"{filler}\"}}\n\n"
    );
    for (member, passed) in [("id", ""), ("timings", rest.as_str())] {
        let usage = format!(
            "data: {{\"choices\":[],\"{member}\":\"{filler}\",\"usage\":{{\"prompt_tokens\":3,\
             \"completion_tokens\":4}}}}\n\n"
        );
        let all = [CONTENT, &usage, DONE].concat();
        for size in [777, all.len()] {
            let mut answer = StreamedAnswer::new(Format::Chat, true);
            let out = push_all(&mut answer, all.as_bytes(), size);
            assert!(out == [CONTENT, passed, DONE].concat().as_bytes(), "{member} {size}");
            assert_eq!(tokens(&answer), (Some(3), Some(4)));
        }
    }
}

#[test]
fn an_event_is_read_the_same_wherever_it_is_cut() {
    let filler = "x".repeat(MAX_EVENT_BYTES);
    let all = format!(
        "{CONTENT}event: e\ndata: {{\"model\":\"m\",\"choices\":[{{}}],\ndata: \"x\":\"{filler}\",\
         \r\ndata:\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":4}}}}\n\n{DONE}"
    );
    for cut in (0..250).chain(all.len() - 200..all.len()) {
        for withhold in [false, true] {
            let mut answer = StreamedAnswer::new(Format::Chat, withhold);
            let (first, second) = all.as_bytes().split_at(cut);
            let mut out = push_all(&mut answer, first, cut.max(1));
            out.extend(push_all(&mut answer, second, 30_000));
            assert!(out == all.as_bytes(), "{cut}");
            assert_eq!(tokens(&answer), (Some(3), Some(4)), "{cut} {withhold}");
            assert!(answer.is_terminal());
        }
    }
}

#[test]
fn reports_are_cumulative_and_null_is_none() {
    let event = |usage: &str| {
        format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"a\"}}}}],\"usage\":{usage}}}\n\n")
    };
    let details =
        r#"{"prompt_tokens":7,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}"#;
    let stream = [
        event("null"),
        event(r#"{"prompt_tokens":0,"completion_tokens":1}"#),
        event(details),
        event(r#"{"prompt_tokens":7,"completion_tokens":3}"#),
        event("null"),
        event("{}"),
    ];
    let mut answer = StreamedAnswer::new(Format::Chat, false);
    push_all(&mut answer, stream[0].as_bytes(), 1000);
    assert_eq!(answer.observed().usage, None);
    push_all(&mut answer, stream[1..].concat().as_bytes(), 1000);
    assert_eq!(tokens(&answer), (Some(7), Some(3)));
    assert_eq!(answer.observed().usage.and_then(|usage| usage.counts.cached_input), Some(4));
    assert_eq!(answer.take_text().length(), 2, "what came after the last report");
}

#[test]
fn the_text_is_collected_until_usage_is_reported() {
    let mut answer = StreamedAnswer::new(Format::Chat, true);
    assert_eq!(answer.contents.text.capacity(), 0);
    push_all(&mut answer, CONTENT.repeat(3).as_bytes(), 50);
    assert!(answer.contents.text.capacity() > 0);
    push_all(&mut answer, USAGE.as_bytes(), 50);
    assert_eq!(answer.contents.text.capacity(), 0);
    push_all(&mut answer, DONE.as_bytes(), 50);
    assert!(answer.take_text().is_empty());

    let mut answer = StreamedAnswer::new(Format::Chat, true);
    push_all(&mut answer, CONTENT.repeat(3).as_bytes(), 50);
    let sample = answer.take_text();
    assert_eq!(sample.text().unwrap(), "é \"usage\":{".repeat(3));
    assert!(answer.take_text().is_empty());
}

#[test]
fn what_was_relayed_of_an_unfinished_event_counts() {
    let mut answer = StreamedAnswer::new(Format::Chat, false);
    answer.push("data: {\"choices\":[{\"delta\":{\"content\":\"hello wor".into());
    answer.finish(StreamEnd::Failed(upstream_closed()));
    assert_eq!(answer.take_text().text().unwrap(), "hello wor");

    let mut answer = StreamedAnswer::new(Format::Chat, false);
    let begun = format!("data: {{\"choices\":[{{\"x\":\"{}", "x".repeat(MAX_EVENT_BYTES));
    push_all(&mut answer, begun.as_bytes(), 1000);
    assert_eq!(answer.take_text().length(), begun.len() as u64);
}

#[test]
fn the_end_is_known_before_it_is_given_on() {
    let mut answer = StreamedAnswer::new(Format::Chat, false);
    let last = answer.push([CONTENT, USAGE, DONE].concat().into());
    assert!(answer.is_terminal());
    assert_eq!(tokens(&answer), (Some(3), Some(4)));
    drop(last);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn chunking_changes_nothing(
        events in prop::collection::vec(
            prop::sample::select(vec![CONTENT, USAGE, ": wait\n\n", "\n", "data: [DO", "id: 1\n", DONE]),
            0..8,
        ),
        end in prop::sample::select(vec!["\n", "\r", "\r\n"]),
        cuts in prop::collection::vec(1usize..90, 1..30),
        withhold in any::<bool>(),
    ) {
        let stream = events.concat().replace('\n', end);
        let bytes = stream.as_bytes();
        let mut whole = StreamedAnswer::new(Format::Chat, withhold);
        let mut expected = push_all(&mut whole, bytes, bytes.len().max(1));
        let mut cut = StreamedAnswer::new(Format::Chat, withhold);
        let mut out = Vec::new();
        let mut rest = bytes;
        for size in cuts.iter().cycle() {
            let (chunk, after) = rest.split_at((*size).min(rest.len()));
            out.extend(cut.push(Bytes::copy_from_slice(chunk)).unwrap_or_default());
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(cut.observed(), whole.observed());
        expected.extend(whole.finish(StreamEnd::Complete).last.unwrap_or_default());
        out.extend(cut.finish(StreamEnd::Complete).last.unwrap_or_default());
        if !withhold {
            prop_assert_eq!(&expected, bytes);
        }
        prop_assert_eq!(String::from_utf8(out), String::from_utf8(expected));
    }
}

#[test]
fn searches_of_responses_count_once_with_and_without_names_of_events() {
    let item = r#"{"type":"web_search_call","id":"ws_1","action":{"type":"search"}}"#;
    let events = [
        ("response.web_search_call.completed", r#""item_id":"ws_1""#.to_owned()),
        ("response.output_item.done", format!(r#""output_index":0,"item":{item}"#)),
        ("response.file_search_call.completed", r#""item_id":"fs_1""#.to_owned()),
        ("response.output_text.delta", r#""delta":"_search_call\"""#.to_owned()),
        ("response.completed", format!(r#""response":{{"id":"resp_1","output":[{item}]}}"#)),
    ];
    for is_named in [true, false] {
        let mut answer = StreamedAnswer::new(Format::Responses, false);
        for (name, members) in &events {
            let field = if is_named { format!("event: {name}\n") } else { String::new() };
            let event = format!("{field}data: {{\"type\":\"{name}\",{members}}}\n\n");
            push_all(&mut answer, event.as_bytes(), 50);
        }
        let calls = answer.observed().calls;
        assert_eq!((calls.web_searches, calls.file_searches), (1, 1));
    }
}
