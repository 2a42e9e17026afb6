//! Plain answers, and recorded streams of Google's API, as events and as an array.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::GeminiMethod;
use crate::domain::tokens::TokenUsage;
use crate::llm::answer::{AnswerContent, PlainAnswer, StreamEnd, StreamedAnswer};
use crate::llm::format::{Format, Operation};
use crate::llm::test_support::{self, closed, tokens};

/// The parts of the recorded streams, with their usage and text.
fn recorded() -> Vec<(Vec<String>, TokenUsage, &'static str)> {
    let recording = include_str!("../../../tests/fixtures/gemini/counted_stream.json");
    let recording: Value = serde_json::from_str(recording).unwrap();
    let text = recording["exchanges"][0]["response"]["text"].as_str().unwrap();
    let parts = text.split("\r\n\r\n").filter_map(|event| event.strip_prefix("data: "));
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let usage = |input, output, reasoning| TokenUsage {
        input: Some(input),
        output: Some(output),
        reasoning: Some(reasoning),
        ..TokenUsage::default()
    };
    vec![
        (parts.map(str::to_owned).collect(), usage(18, 115, 35), "1\n2\n3\n"),
        (
            lines(include_str!("../../../tests/fixtures/gemini/text_stream.chunks.txt")),
            usage(9, 208, 185),
            "There are **3**",
        ),
        (
            lines(include_str!("../../../tests/fixtures/gemini/tool_stream.chunks.txt")),
            usage(54, 195, 121),
            "{\"name\":\"writeItems\"",
        ),
    ]
}

/// How the parts of a stream are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Events,
    Array,
}

impl Framing {
    const BOTH: [Self; 2] = [Self::Events, Self::Array];

    /// A stream that breaks off after these parts.
    fn begun(self, parts: &[String]) -> String {
        match self {
            Self::Events => parts.iter().map(|part| format!("data: {part}\r\n\r\n")).collect(),
            Self::Array => format!("[{}", parts.join("\n,\r\n")),
        }
    }

    fn whole(self, parts: &[String]) -> String {
        let end = if self == Self::Array { "\n]\n" } else { "" };
        format!("{}{end}", self.begun(parts))
    }

    fn answer(self) -> StreamedAnswer {
        match self {
            Self::Events => StreamedAnswer::new(Format::Gemini, true),
            Self::Array => StreamedAnswer::of_array(Format::Gemini),
        }
    }

    /// Passes the text in chunks of these sizes and checks that nothing of it is changed.
    fn pass(self, text: &str, sizes: &[usize]) -> StreamedAnswer {
        test_support::pass(self.answer(), text.as_bytes(), sizes)
    }
}

#[test]
fn recorded_streams_are_read() {
    for framing in Framing::BOTH {
        for (parts, usage, _) in recorded() {
            let text = framing.whole(&parts);
            let mut answer = framing.pass(&text, &[text.len()]);
            assert_eq!(tokens(&answer), usage);
            assert!(answer.is_terminal() && !answer.is_cut_short());
            assert!(!answer.is_over(), "a later part could report more");
            assert_eq!(answer.observed().content, AnswerContent::Answer);
            assert!(answer.observed().model.as_deref().unwrap().starts_with("gemini-"));
            assert!(answer.take_text().is_empty());
            let rest = answer.finish(StreamEnd::Complete);
            assert_eq!((rest.last, rest.abort), (None, false));
        }
    }
}

#[test]
fn a_stream_without_its_end_is_cut_short() {
    for framing in Framing::BOTH {
        for (parts, _, begins) in recorded() {
            // The text counts that has come since the last report of usage.
            let unreported: Vec<String> =
                parts.iter().map(|part| part.replace("usageMetadata", "other")).collect();
            for length in 1..parts.len() {
                let text = framing.begun(&unreported[..length]);
                let mut answer = framing.pass(&text, &[1_000]);
                assert!(answer.is_cut_short(), "{text}");
                let relayed = answer.take_text().text().unwrap();
                assert!(relayed.starts_with(begins), "{relayed}");
                let rest = answer.finish(StreamEnd::Failed(closed()));
                assert!(rest.abort);
                let told = String::from_utf8(rest.last.unwrap().to_vec()).unwrap();
                match framing {
                    Framing::Events => assert!(told.starts_with("data: {\"error\":{"), "{told}"),
                    Framing::Array => {
                        let array: Vec<Value> = serde_json::from_str(&(text + &told)).unwrap();
                        let told = &array.last().unwrap()["error"];
                        assert_eq!(
                            (&told["code"], &told["status"]),
                            (&json!(502), &json!("UNAVAILABLE"))
                        );
                        assert_eq!(array.len(), length + 1);
                    }
                }
            }
            // Within a part nothing can be reported.
            let text = framing.begun(&parts);
            let mut answer = framing.pass(&text[..text.len() - 20], &[1_000]);
            let rest = answer.finish(StreamEnd::Failed(closed()));
            assert_eq!((rest.last, rest.abort), (None, true));
        }
    }
    let mut nothing = Framing::Array.answer();
    let told = nothing.finish(StreamEnd::Failed(closed())).last.unwrap();
    assert!(serde_json::from_slice::<Vec<Value>>(&told).is_ok());
}

#[test]
fn every_candidate_has_an_end() {
    let part = |index: u32, reason: Option<&str>| {
        let content = json!({"parts": [{"text": "t"}]});
        json!({"candidates": [{"index": index, "content": content, "finishReason": reason}]})
    };
    let blocked = json!({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}});
    let usage = json!({"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4}});
    for (parts, is_whole) in [
        (vec![part(0, None)], false),
        (vec![part(0, None), part(0, Some("STOP"))], true),
        (vec![part(0, None), part(0, Some("FINISH_REASON_UNSPECIFIED"))], false),
        (vec![part(0, None), part(1, None), part(0, Some("STOP"))], false),
        (vec![part(0, None), part(1, None), part(0, Some("STOP")), part(1, Some("STOP"))], true),
        (vec![part(0, Some("STOP")), part(0, None)], false),
        (vec![part(0, Some("STOP")), usage.clone()], true),
        (vec![blocked], true),
        (vec![usage], false),
    ] {
        let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
        for framing in Framing::BOTH {
            let answer = framing.pass(&framing.whole(&parts), &[9]);
            assert_eq!(answer.is_terminal(), is_whole, "{parts:?}");
            assert_eq!(answer.is_cut_short(), !is_whole, "{parts:?}");
        }
    }
}

#[test]
fn an_error_in_a_stream_is_a_failure() {
    let error = json!({"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}});
    for framing in Framing::BOTH {
        let mut parts = recorded().swap_remove(0).0;
        parts[1] = error.to_string();
        let answer = framing.pass(&framing.begun(&parts[..2]), &[50]);
        assert_eq!(answer.observed().content, AnswerContent::Error);
        assert!(!answer.is_cut_short());
    }
}

#[test]
fn a_part_of_any_length_takes_constant_memory() {
    let image = "A".repeat(1_000);
    for framing in Framing::BOTH {
        for (reason, is_whole) in [(r#""finishReason":"STOP","#, true), ("", false)] {
            let (before, after) = match framing {
                Framing::Events => ("data: ", "\r\n\r\n"),
                Framing::Array => ("[", "]"),
            };
            let begin = format!(
                r#"{before}{{"candidates":[{{"content":{{"parts":[{{"inlineData":{{"data":""#
            );
            let usage =
                r#"{"promptTokenCount":5,"candidatesTokenCount":1290,"totalTokenCount":1295}"#;
            let end = format!(
                r#""}}}}]}},{reason}"index":0}}],"usageMetadata":{usage},"modelVersion":"gemini-image"}}{after}"#
            );
            let mut answer = framing.answer();
            answer.push(begin.into());
            (0..1_000).for_each(|_| {
                answer.push(Bytes::copy_from_slice(image.as_bytes()));
            });
            answer.push(end.into());
            assert_eq!(answer.is_cut_short(), !is_whole);
            assert_eq!((tokens(&answer).input, tokens(&answer).output), (Some(5), Some(1_290)));
            assert_eq!(answer.observed().model.as_deref(), Some("gemini-image"));
            assert!(answer.take_text().is_empty());
        }
    }
}

#[test]
fn plain_answers_are_read() {
    let recording = include_str!("../../../tests/fixtures/gemini/max_tokens.json");
    let recording: Value = serde_json::from_str(recording).unwrap();
    let empty = recording["exchanges"][0]["response"]["json"].to_string();
    let blocked =
        r#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"trafficType":"X"}}"#;
    for (format, body, content, usage) in [
        (Format::Gemini, empty.as_str(), AnswerContent::Answer, Some((15, 2))),
        (Format::Gemini, r#"{"candidates":[{}]}"#, AnswerContent::Nothing, None),
        (
            Format::Gemini,
            r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#,
            AnswerContent::Answer,
            None,
        ),
        (Format::Gemini, r#"{"error":{"code":500}}"#, AnswerContent::Error, None),
        (Format::Gemini, blocked, AnswerContent::Nothing, None),
        (Format::GeminiEmbeddings, r#"{"embedding":{"values":[1]}}"#, AnswerContent::Answer, None),
        (
            Format::GeminiEmbeddings,
            r#"{"embeddings":[{"values":[1]}]}"#,
            AnswerContent::Answer,
            None,
        ),
        (
            Format::GeminiEmbeddings,
            r#"{"embeddings":[{}],"usageMetadata":{"promptTokenCount":7}}"#,
            AnswerContent::Answer,
            Some((7, 0)),
        ),
        (Format::GeminiEmbeddings, r#"{"embeddings":[]}"#, AnswerContent::Nothing, None),
    ] {
        let mut answer = PlainAnswer::new(format);
        body.as_bytes().chunks(7).for_each(|chunk| answer.push(chunk));
        let observed = answer.observed();
        assert_eq!(observed.content, content, "{body}");
        let tokens = observed.usage.map(|usage| usage.tokens(1_000));
        let counts = tokens.and_then(|tokens| Some((tokens.input?, tokens.output?)));
        assert_eq!(counts, usage, "{body}");
    }
}

#[test]
fn calls_name_their_model_and_method() {
    for method in GeminiMethod::ALL {
        let path = format!("/models/gemini-2.5-flash:{}", method.as_str());
        let operation = Operation::of_gemini_post(&path).unwrap();
        assert_eq!(operation.path_after_v1(), path);
        assert!(operation.has_model_in_path());
        let is_stream = method == GeminiMethod::StreamGenerateContent;
        assert_eq!(operation.asks_for_stream(Some("true")), is_stream);
        let is_count = method == GeminiMethod::CountTokens;
        assert_eq!(operation.counts_tokens(), is_count);
        assert_eq!(operation.answer_format().is_none(), is_count);
        let encoded = path.replace(':', "%3A");
        assert_eq!(Operation::of_gemini_post(&encoded), Some(operation));
    }
    for path in [
        "/models/m",
        "/models/:generateContent",
        "/models/m:predict",
        "/models/a/b:generateContent",
        "/models/m:generateContent/",
        "/tunedModels/m:generateContent",
        "models/m:generateContent",
    ] {
        assert_eq!(Operation::of_gemini_post(path), None, "{path}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_gives_the_same_usage_and_text(
        which in 0..3_usize,
        is_array in any::<bool>(),
        sizes in prop::collection::vec(1..200_usize, 1..20),
    ) {
        let (parts, usage, _) = recorded().swap_remove(which);
        let framing = if is_array { Framing::Array } else { Framing::Events };
        let answer = framing.pass(&framing.whole(&parts), &sizes);
        prop_assert_eq!(tokens(&answer), usage);
        prop_assert!(answer.is_terminal());
        let parts: Vec<String> =
            parts.iter().map(|part| part.replace("usageMetadata", "other")).collect();
        let text = framing.whole(&parts);
        let whole = framing.pass(&text, &[text.len()]).take_text();
        prop_assert_eq!(framing.pass(&text, &sizes).take_text(), whole);
    }

    #[test]
    fn a_truncated_stream_is_never_complete(
        which in 0..3_usize,
        is_array in any::<bool>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let (parts, ..) = recorded().swap_remove(which);
        let framing = if is_array { Framing::Array } else { Framing::Events };
        let text = framing.whole(&parts);
        // Blanks at the end are no part of it; an event is whole without its blank line.
        let length = text.trim_end().len();
        let cut = cut.index(length);
        let answer = framing.pass(text.get(..cut).unwrap_or_default(), &[100]);
        prop_assert!(!answer.is_terminal());
    }
}
