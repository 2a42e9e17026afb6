//! Whole requests and answers, recorded ones and ones with everything.

use super::super::AnswerContext;
use super::super::Target;
use super::super::answer::{
    Annotation, Answer, AnswerBlock, AnswerEvent, BlockKind, ReadEvents, StopReason, WriteEvents,
};
use super::super::answer::{AnswerUsage, Failure, Stop};
use super::super::error::Dropped;
use super::super::opaque::{Family, Opaque, OpaqueKind};
use super::super::other_family::ChatReasoning;
use super::super::test_rendering::folded;
use super::{AnswerWriter, StreamReader, read_answer, read_request, write_answer, write_request};

mod properties;

const TOOL_STREAM: &str = include_str!("../../../../tests/fixtures/chat/tool_stream.json");
const SIGNED_CALLS: &str =
    include_str!("../../../../tests/fixtures/chat/signed_calls_without_id.json");
const TEXT_STREAM: &str = include_str!("../../../../tests/fixtures/chat/text_stream.chunks.txt");
const SPLIT_TOOL_STREAM: &str =
    include_str!("../../../../tests/fixtures/chat/split_tool_stream.chunks.txt");
const THINKING_PARTS: &str = include_str!("../../../../tests/fixtures/chat/thinking_parts.json");
const REASONING_CALL: &str =
    include_str!("../../../../tests/fixtures/chat/reasoning_tool_call.json");
const REASONING_BESIDE: &str =
    include_str!("../../../../tests/fixtures/chat/reasoning_beside_output.json");

const TARGET: Target<'_> = Target { reasoning: ChatReasoning::Details, ..Target::new("m", 8192) };

/// The events of frames, with the end of the bytes after them.
fn read_frames<'f>(frames: impl IntoIterator<Item = &'f str>) -> Vec<AnswerEvent> {
    let (mut reader, mut events) = (StreamReader::default(), Vec::new());
    for frame in frames {
        reader.read(None, frame, &mut events);
    }
    reader.finish(&mut events);
    events
}

/// The frames of a stream: the data of its events.
fn frames(stream: &str) -> Vec<&str> {
    stream.lines().filter_map(|line| line.strip_prefix("data: ")).collect()
}

fn context(include_usage: bool) -> AnswerContext {
    AnswerContext {
        model: "their/model".to_owned(),
        created: 1_700_000_000,
        seed: "0123456789abcdef0123456789abcdef".to_owned(),
        include_usage,
        estimated_input: 7,
        ..AnswerContext::default()
    }
}

fn write_stream(events: impl IntoIterator<Item = AnswerEvent>, include_usage: bool) -> String {
    let (mut writer, mut out) = (AnswerWriter::new(context(include_usage)), Vec::new());
    for event in events {
        writer.write(event, &mut out);
    }
    String::from_utf8(out).unwrap()
}

/// A block in short.
fn show(block: &AnswerBlock) -> String {
    let kind = match &block.kind {
        BlockKind::Text => "text".to_owned(),
        BlockKind::Refusal => "refusal".to_owned(),
        BlockKind::Reasoning { .. } => "why".to_owned(),
        BlockKind::ToolCall { id, name } => format!("{id}={name}"),
    };
    let start: String = block.text.chars().take(30).collect();
    format!("{kind}:{start}{}", "+".repeat(block.opaque.len()))
}

/// The responses of a recording: plain ones, and the frames of streams.
fn responses(recording: &str) -> Vec<String> {
    let recording: serde_json::Value = serde_json::from_str(recording).unwrap();
    let exchanges = recording["exchanges"].as_array().unwrap();
    let body = |exchange: &serde_json::Value| match exchange["response"]["text"].as_str() {
        Some(text) => text.to_owned(),
        None => exchange["response"]["json"].to_string(),
    };
    exchanges.iter().map(body).collect()
}

/// An answer, its blocks in short, why it stopped, its input and output in tokens.
type Recorded = (Answer, Vec<&'static str>, StopReason, (u64, u64));

/// All recorded answers, with what is in them.
fn recorded() -> Vec<Recorded> {
    let plain = |json: &str| folded(&read_answer(json).unwrap());
    let stream = |lines: &str| folded(&read_frames(lines.lines()));
    let tools = responses(TOOL_STREAM);
    let signed = responses(SIGNED_CALLS);
    let of = |response: &str| folded(&read_frames(frames(response)));
    vec![
        (
            of(&tools[0]),
            vec![r#"call_ZR5UUuTt3pf61kjwAJIYdVMj=get_capital:{"country":"UK"}"#],
            StopReason::ToolCall,
            (53, 15),
        ),
        (of(&tools[1]), vec!["text:The capital of the UK is Londo"], StopReason::End, (78, 9)),
        (
            stream(TEXT_STREAM),
            vec!["text:Hello, world! This is a test r"],
            StopReason::End,
            (13, 8),
        ),
        (
            stream(SPLIT_TOOL_STREAM),
            vec![r#"chatcmpl-tool-9f149c74c42f265b=webSearchTool:{"query": "current Berlin weat"#],
            StopReason::ToolCall,
            (171, 14),
        ),
        (
            plain(THINKING_PARTS),
            vec!["why:The user is asking for 2+2. Th", "text:2 + 2 = 4"],
            StopReason::End,
            (10, 46),
        ),
        (
            plain(REASONING_CALL),
            vec![
                "why:The user is asking for the wea",
                r#"call_00_9V0vrf86Pc9aelHCJMZqnJBo=weather:{"location": "San Francisco"}"#,
            ],
            StopReason::ToolCall,
            (339, 92),
        ),
        (
            plain(REASONING_BESIDE),
            vec![
                "why:First, the user is asking abou",
                r#"call_46427107=weather:{"location":"San Francisco"}"#,
            ],
            StopReason::ToolCall,
            (307, 281),
        ),
        (plain(&signed[0]), vec!["=get_current_time:{}+"], StopReason::ToolCall, (35, 74)),
        (plain(&signed[1]), vec!["text:The current time is Noon.+"], StopReason::End, (66, 34)),
    ]
}

#[test]
fn recorded_answers_are_read() {
    for (answer, blocks, stop, (input, output)) in recorded() {
        let shown: Vec<String> = answer.blocks.iter().map(show).collect();
        assert_eq!(shown, blocks);
        assert_eq!(answer.stop_reason(), stop, "{blocks:?}");
        assert_eq!(answer.usage.total_input(), Some(input), "{blocks:?}");
        assert_eq!(answer.usage.output, Some(output), "{blocks:?}");
        assert!(answer.id.is_some() && answer.model.is_some());
    }
}

/// The events of an answer, its blocks in pieces.
fn events_of(answer: &Answer) -> Vec<AnswerEvent> {
    let Answer { id, model, .. } = answer.clone();
    let mut events = vec![AnswerEvent::Start { id, model }];
    for (number, block) in answer.blocks.iter().enumerate() {
        let number = number as u32;
        events.push(AnswerEvent::Open { block: number, kind: block.kind.clone() });
        for piece in block.text.split_inclusive(' ') {
            events.push(match block.kind {
                BlockKind::ToolCall { .. } => {
                    AnswerEvent::Arguments { block: number, json: piece.to_owned() }
                }
                _ => AnswerEvent::Text { block: number, text: piece.to_owned() },
            });
        }
        for opaque in block.opaque.clone() {
            events.push(AnswerEvent::Opaque { block: number, opaque });
        }
        for annotation in block.annotations.clone() {
            events.push(AnswerEvent::Annotation { block: number, annotation });
        }
        events.push(AnswerEvent::Close { block: number });
    }
    events.push(AnswerEvent::Usage(answer.usage));
    events.extend(answer.stop.clone().map(AnswerEvent::Stop));
    events.push(AnswerEvent::End);
    events
}

fn opaque(family: Family, kind: OpaqueKind, id: Option<&'static str>) -> Opaque<'static> {
    Opaque { family, kind, id: id.map(Into::into), data: "c2ln".into() }
}

fn block(kind: BlockKind, text: &str, opaque: Vec<Opaque<'static>>) -> AnswerBlock {
    AnswerBlock { kind, text: text.to_owned(), opaque, annotations: Vec::new() }
}

fn call(id: &str, name: &str) -> BlockKind {
    BlockKind::ToolCall { id: id.to_owned(), name: name.to_owned() }
}

/// An answer with everything that a chat can carry.
fn full_answer() -> Answer {
    use OpaqueKind::{Encrypted, Redacted, Signature};
    let why = |is_summary| BlockKind::Reasoning { is_summary };
    let mut text =
        block(BlockKind::Text, "Ünder the sun.", vec![opaque(Family::Google, Signature, None)]);
    text.annotations = vec![Annotation {
        url: "https://x".to_owned(),
        title: Some("t".to_owned()),
        span: Some((0, 5)),
    }];
    Answer {
        id: Some("theirs".to_owned()),
        model: Some("theirs".to_owned()),
        blocks: vec![
            block(why(false), "a b c", vec![opaque(Family::Anthropic, Signature, None)]),
            block(why(false), "", vec![opaque(Family::Anthropic, Redacted, None)]),
            block(why(true), "s u m", vec![opaque(Family::OpenAi, Encrypted, Some("rs_1"))]),
            text,
            block(BlockKind::Refusal, "no way", vec![]),
            block(why(false), "more", vec![opaque(Family::Bedrock, Signature, None)]),
            block(
                call("call_1", "f"),
                r#"{"a": 1.0, "b": "}"}"#,
                vec![opaque(Family::Google, Signature, None)],
            ),
            block(call("call_2", "g"), "{}", vec![]),
        ],
        usage: AnswerUsage {
            input: Some(5),
            cache_read: Some(4),
            cache_write: Some(3),
            cache_write_1h: None,
            output: Some(20),
            reasoning: Some(10),
            audio_input: Some(0),
            audio_output: Some(0),
        },
        stop: Some(Stop {
            reason: StopReason::ToolCall,
            native: "tool_calls".to_owned(),
            sequence: None,
        }),
    }
}

#[test]
fn a_stream_that_is_written_is_read_as_it_was() {
    for include_usage in [true, false] {
        let answer = full_answer();
        let stream = write_stream(events_of(&answer), include_usage);
        let read = folded(&read_frames(frames(&stream)));
        assert_eq!(read.blocks, answer.blocks, "{stream}");
        assert_eq!(read.usage, if include_usage { answer.usage } else { AnswerUsage::default() });
        assert_eq!(read.model.as_deref(), Some("their/model"));
        assert_eq!(read.stop_reason(), StopReason::ToolCall);
        assert!(stream.ends_with("data: [DONE]\n\n"));
        assert_eq!(stream.matches("[DONE]").count(), 1);
    }
}

#[test]
fn the_plain_answer_is_the_fold_of_the_stream() {
    let answers = recorded().into_iter().map(|(answer, ..)| answer).chain([full_answer()]);
    for answer in answers {
        let stream = folded(&read_frames(frames(&write_stream(events_of(&answer), true))));
        let plain = folded(&read_answer(&write_answer(&context(false), &answer)).unwrap());
        let sorted = |answer: &Answer| {
            // A message's fields have no order among each other.
            let mut blocks = answer.blocks.clone();
            blocks.sort_by_key(|block| match block.kind {
                BlockKind::Reasoning { .. } => 0,
                BlockKind::Text => 1,
                BlockKind::Refusal => 2,
                BlockKind::ToolCall { .. } => 3,
            });
            blocks
        };
        assert_eq!(sorted(&plain), sorted(&stream));
        assert_eq!((&plain.id, &plain.model), (&stream.id, &stream.model));
        assert_eq!((plain.usage, &plain.stop), (stream.usage, &stream.stop));
    }
}

/// What a caller makes of an answer comes back in the caller's next request in the order in which the
/// model wrote it.
#[test]
fn an_answer_comes_back_as_it_was() {
    use super::super::request::Block;
    let answer = full_answer();
    let plain: serde_json::Value =
        serde_json::from_str(&write_answer(&context(false), &answer)).unwrap();
    let message = &plain["choices"][0]["message"];
    let json = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"a"}},{message}]}}"#);
    let request = read_request(&json).unwrap();
    let shown = request.turns[1].blocks.iter().map(|block| match block {
        Block::Text(block) => (format!("text:{}", block.text), block.opaque.clone()),
        Block::Refusal(text) => (format!("refusal:{text}"), Vec::new()),
        Block::Reasoning(block) => (format!("why:{}", block.text), block.opaque.clone()),
        Block::ToolCall(call) => {
            (format!("{}={}:{}", call.id, call.name, call.arguments), call.opaque.clone())
        }
        other => panic!("{other:?}"),
    });
    let expected = answer.blocks.iter().map(|block| {
        let text = match &block.kind {
            BlockKind::Text => format!("text:{}", block.text),
            BlockKind::Refusal => format!("refusal:{}", block.text),
            BlockKind::Reasoning { .. } => format!("why:{}", block.text),
            BlockKind::ToolCall { id, name } => format!("{id}={name}:{}", block.text),
        };
        (text, block.opaque.clone())
    });
    assert_eq!(shown.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

const FULL_REQUEST: &str = r#"{"model":"m","messages":[
    {"role":"system","content":"a"},
    {"role":"user","content":[{"type":"text","text":"b"},{"type":"image_url","image_url":{"url":"data:image/png;base64,aGk=","detail":"low"}},
        {"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,JVBE"}},{"type":"input_audio","input_audio":{"data":"UklG","format":"wav"}}]},
    {"role":"assistant","content":"c","reasoning_details":[{"type":"reasoning.text","text":"w","signature":"s","format":"anthropic-claude-v1","index":0},
        {"type":"reasoning.encrypted","data":"r","format":"anthropic-claude-v1","index":2},{"type":"reasoning.summary","summary":"v","format":"openai-responses-v1","index":4},
        {"type":"reasoning.encrypted","data":"e","id":"rs_1","format":"openai-responses-v1","index":4}],
        "tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":1e400}"},"extra_content":{"google":{"thought_signature":"g"}}},{"id":"2","type":"function","function":{"name":"g","arguments":"{}"}}]},
    {"role":"tool","tool_call_id":"1","content":"x"},{"role":"tool","tool_call_id":"2","content":[{"type":"text","text":"y"},{"type":"text","text":"z"}]},
    {"role":"user","content":""},{"role":"assistant","refusal":"no","content":null},{"role":"system","content":"mid"},{"role":"user","content":"d"}],
    "tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"z":1.0,"a":[ ]},"strict":true}},{"type":"function","function":{"name":"g"}}],
    "tool_choice":{"type":"function","function":{"name":"f"}},"parallel_tool_calls":false,"max_tokens":10,"temperature":0.50,"top_p":0.1,"seed":3,
    "presence_penalty":1,"frequency_penalty":-1,"stop":["x"],"reasoning_effort":"high","verbosity":"low","response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"b":1,"a":2}}},
    "user":"u","store":true,"metadata":{"k":"v"},"service_tier":"flex","prompt_cache_key":"k","stream":true,"stream_options":{"include_usage":true}}"#;

#[test]
fn a_request_that_is_written_is_read_as_it_was() {
    let request = read_request(FULL_REQUEST).unwrap();
    let mut dropped = Dropped::new(true);
    let written = write_request(&request, &TARGET, &mut dropped).unwrap();
    assert_eq!(read_request(&written).unwrap(), request, "{written}");
    let again = write_request(&read_request(&written).unwrap(), &TARGET, &mut dropped).unwrap();
    assert_eq!(again, written);
}

#[test]
fn a_turn_more_leaves_the_messages_before_it_alone() {
    let start = r#"{"role":"system","content":"a"},{"role":"user","content":"b"},{"role":"assistant","content":"c","reasoning_content":"w","tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"x"}"#;
    let more = r#"{"role":"assistant","content":"d"},{"role":"user","content":"e"}"#;
    let written = |messages: &str| {
        let json = format!(r#"{{"model":"m","messages":[{messages}]}}"#);
        let request = read_request(&json).unwrap();
        write_request(&request, &TARGET, &mut Dropped::new(true)).unwrap()
    };
    let (short, long) = (written(start), written(&format!("{start},{more}")));
    let prefix = short.strip_suffix("]}").unwrap();
    assert!(long.starts_with(prefix), "{short}\n{long}");
}

#[test]
fn a_failure_leaves_no_mark_of_success() {
    let events = events_of(&full_answer());
    for length in 0..events.len() {
        let failure = Failure { code: "overloaded_error".to_owned(), message: "Busy".to_owned() };
        let before = events[..length].iter().cloned();
        let has_stopped = events[..length].iter().any(|one| matches!(one, AnswerEvent::Stop(_)));
        let failed = [AnswerEvent::Failed(failure.clone()), AnswerEvent::End];
        let stream = write_stream(before.chain(failed), true);
        assert!(!stream.contains("[DONE]"), "{stream}");
        assert!(has_stopped || !stream.contains("finish_reason\":\""), "{stream}");
        let error = r#"data: {"error":{"message":"Busy","type":"upstream_error","param":null,"code":"overloaded_error"}}"#;
        assert!(stream.ends_with(&format!("{error}\n\n")), "{stream}");
        let read = read_frames(frames(&stream));
        assert_eq!(read.last(), Some(&AnswerEvent::Failed(failure)));
    }
}

#[test]
fn a_stream_that_is_cut_off_has_no_end() {
    let stream = write_stream(events_of(&full_answer()), true);
    let frames = frames(&stream);
    let finish = frames.iter().position(|frame| frame.contains("finish_reason\":\"")).unwrap();
    for length in 0..=finish {
        let events = read_frames(frames[..length].iter().copied());
        assert!(!events.contains(&AnswerEvent::End), "{length}");
    }
    let events = read_frames(frames[..=finish].iter().copied());
    assert_eq!(events.last(), Some(&AnswerEvent::End));
}

#[test]
fn recorded_requests_are_read_and_written() {
    for recording in [TOOL_STREAM, SIGNED_CALLS] {
        let recording: serde_json::Value = serde_json::from_str(recording).unwrap();
        for exchange in recording["exchanges"].as_array().unwrap() {
            let json = exchange["request"]["json"].to_string();
            let request = read_request(&json).unwrap();
            let mut dropped = Dropped::new(true);
            let written = write_request(&request, &TARGET, &mut dropped).unwrap();
            let again = read_request(&written).unwrap();
            assert_eq!((again.turns, again.tools), (request.turns, request.tools));
        }
    }
}
