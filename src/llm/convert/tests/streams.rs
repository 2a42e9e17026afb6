//! However an upstream's bytes are split or cut, the caller gets the same answer or an error.

use super::super::answer::{Answer, AnswerBlock, AnswerEvent, BlockKind};
use super::super::answer_conversion::StreamConverter;
use super::super::test_rendering::fold;
use super::recordings::{Recording, recordings};
use super::{CALLERS, conversion, read_back, stream};
use crate::llm::format::Format;

/// The recordings for callers whose format is another.
fn pairs() -> impl Iterator<Item = (Recording, Format)> {
    recordings().into_iter().flat_map(|recording| {
        let callers = CALLERS.into_iter().filter(|caller| *caller != recording.format);
        let callers: Vec<Format> = callers.collect();
        callers.into_iter().map(move |caller| (recording.clone(), caller))
    })
}

/// Places in a body: some twenty, all of a short one.
fn places(body: &[u8]) -> impl Iterator<Item = usize> {
    (0..body.len()).step_by((body.len() / 23).max(1))
}

#[test]
fn splits_change_nothing() {
    for (recording, caller) in pairs() {
        let written = |chunks: &mut dyn Iterator<Item = &[u8]>| {
            stream(conversion(recording.format, caller), recording.is_stream, chunks)
        };
        let whole = written(&mut [&recording.body[..]].into_iter());
        for size in [1, 7, 1000] {
            let split = written(&mut recording.body.chunks(size));
            assert_eq!(split, whole, "{} in pieces of {size}", recording.name);
        }
        for place in places(&recording.body) {
            let (first, second) = recording.body.split_at(place);
            let split = written(&mut [first, second].into_iter());
            assert_eq!(split, whole, "{} at {place}", recording.name);
        }
    }
}

/// What only a stream has that was successful.
fn has_success_mark(caller: Format, text: &str) -> bool {
    let marks: &[&str] = match caller {
        Format::Responses => &["response.completed", "response.incomplete"],
        Format::Messages => &["message_stop", "message_delta"],
        _ => &["[DONE]", "\"finish_reason\":\""],
    };
    marks.iter().any(|mark| text.contains(mark))
}

#[test]
fn cut_answers_end_with_an_error() {
    for (recording, caller) in pairs() {
        let conversion = conversion(recording.format, caller);
        let whole = conversion.plain(&recording.body, recording.is_stream);
        let whole = whole.map(|json| read_back::plain(caller, &json));
        for place in places(&recording.body) {
            let cut = &recording.body[..place];
            let told = format!("{} for {caller:?} until {place}", recording.name);
            let mut converter = StreamConverter::new(conversion.clone(), recording.is_stream);
            let mut out = Vec::new();
            converter.push(cut, &mut out);
            if !converter.finish(&mut out) {
                converter.fail(super::super::answer_conversion::cut_short(), &mut out);
            }
            let text = String::from_utf8(out).unwrap();
            let events = read_back::stream(caller, text.as_bytes());
            let plain = conversion.plain(cut, recording.is_stream);
            assert_eq!(plain.is_err(), converter.has_failed(), "{told}");
            if converter.has_failed() {
                let last = events.last();
                assert!(matches!(last, Some(AnswerEvent::Failed(_))), "{told}: {text}");
                assert!(!has_success_mark(caller, &text), "{told}: {text}");
                continue;
            }
            // All that was cut off is the provider's own end, or counts.
            let (read, whole) = (fold(events), whole.as_ref().unwrap());
            assert_eq!(read.blocks, whole.blocks, "{told}");
            assert_eq!(read.stop, whole.stop, "{told}");
        }
    }
}

/// The answer as a message of a chat shows it: one text, without an order among text and other members.
fn as_message(mut answer: Answer) -> Answer {
    let is_text = |block: &AnswerBlock| block.kind == BlockKind::Text;
    let (texts, mut blocks): (Vec<_>, Vec<_>) = answer.blocks.into_iter().partition(is_text);
    blocks.extend(texts.into_iter().reduce(|mut whole, text| {
        whole.text.push_str(&text.text);
        whole.opaque.extend(text.opaque);
        whole.annotations.extend(text.annotations);
        whole
    }));
    answer.blocks = blocks;
    answer
}

#[test]
fn plain_answers_are_what_streams_add_up_to() {
    for (recording, caller) in pairs() {
        let conversion = conversion(recording.format, caller);
        let Ok(plain) = conversion.plain(&recording.body, recording.is_stream) else { continue };
        let (text, _) = stream(conversion, recording.is_stream, [&recording.body[..]]);
        let mut streamed = fold(read_back::stream(caller, text.as_bytes()));
        let mut plain = read_back::plain(caller, &plain);
        if caller == Format::Chat {
            (streamed, plain) = (as_message(streamed), as_message(plain));
        }
        assert_eq!(streamed, plain, "{} {text}", recording.name);
    }
}

#[test]
fn what_a_writer_keeps_is_counted_and_bounded() {
    let delta = |text: &str| {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
    };
    let piece = "a".repeat(512 * 1024);
    for caller in [Format::Responses, Format::Messages] {
        let mut converter = StreamConverter::new(conversion(Format::Chat, caller), true);
        let mut out = Vec::new();
        for count in 1..64 {
            out.clear();
            converter.push(delta(&piece).as_bytes(), &mut out);
            let expected = if caller == Format::Responses { count * piece.len() } else { 0 };
            assert!((expected..expected + 1024).contains(&converter.held()), "{caller:?} {count}");
        }
        out.clear();
        converter.push(delta(&piece).as_bytes(), &mut out);
        assert_eq!(converter.has_failed(), caller == Format::Responses);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.contains("too long"), converter.has_failed());
        // A response that failed repeats nothing.
        assert!(text.len() < 2 * piece.len(), "{}", text.len());
    }
}

#[test]
fn calls_that_never_get_a_name_are_bounded() {
    let delta = |arguments: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{{\"index\":0,\"function\":{{\"arguments\":\"{arguments}\"}}}}]}}}}]}}\n\n"
        )
    };
    let mut converter = StreamConverter::new(conversion(Format::Chat, Format::Messages), true);
    let mut out = Vec::new();
    for _ in 0..4 {
        assert!(!converter.has_failed());
        converter.push(delta(&"1".repeat(300 * 1024)).as_bytes(), &mut out);
    }
    assert!(converter.has_failed());
}
