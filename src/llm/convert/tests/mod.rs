//! What holds across the formats: recorded answers of every provider for every caller, and conversations
//! from one format into another and back.

mod answers;
mod binary;
mod conversations;
mod mutations;
mod read_back;
mod recordings;
mod requests;
mod round_trip;
mod snapshots;
mod streams;

use super::ChatReasoning;
use super::answer_conversion::{Conversion, StreamConverter};
use super::error::ConvertError;
use super::{
    AnswerContext, ConvertedRequest, IdRule, RequestOptions, Target, ToolNames, convert_request,
    responses,
};
use crate::llm::answer::BinaryEvents;
use crate::llm::format::Format;

const CALLERS: [Format; 3] = [Format::Chat, Format::Responses, Format::Messages];
/// All formats that are converted.
const ALL: [Format; 5] =
    [Format::Chat, Format::Responses, Format::Messages, Format::Gemini, Format::Converse];

/// A request whose members the Responses API repeats.
const ECHOED: &str = r#"{"model":"caller/model","instructions":"Be brief.","input":"Hi","temperature":0.5,"tools":[{"type":"function","name":"weather","parameters":{"type":"object"},"strict":false}],"metadata":{"a":"b"}}"#;

/// Name of a format in the folders of fixtures.
fn name(format: Format) -> &'static str {
    match format {
        Format::Responses => "responses",
        Format::Messages => "messages",
        Format::Gemini => "gemini",
        Format::Converse => "converse",
        _ => "chat",
    }
}

fn conversion(from: Format, to: Format) -> Conversion {
    let context = AnswerContext {
        model: "caller/model".to_owned(),
        created: 1_700_000_000,
        seed: "0123456789abcdef".to_owned(),
        include_usage: true,
        estimated_input: 7,
        echo: if to == Format::Responses { responses::echo(ECHOED) } else { Vec::new() },
    };
    let binary = (from == Format::Converse).then_some(BinaryEvents::Plain);
    let names = ToolNames::default();
    Conversion { from, to, binary, names, context, is_count: false }
}

/// The caller's stream for these chunks, and whether the answer came to an end.
fn stream<'c>(
    conversion: Conversion,
    is_stream: bool,
    chunks: impl IntoIterator<Item = &'c [u8]>,
) -> (String, bool) {
    let (mut converter, mut out) = (StreamConverter::new(conversion, is_stream), Vec::new());
    for chunk in chunks {
        converter.push(chunk, &mut out);
    }
    let has_ended = converter.finish(&mut out);
    (String::from_utf8(out).unwrap(), has_ended)
}

/// A target of this format that takes all that its format knows.
fn target(format: Format) -> Target<'static> {
    let model = match format {
        Format::Responses => "gpt-5.6",
        Format::Messages => "claude-opus-4-8",
        Format::Gemini => "gemini-3-flash-preview",
        Format::Converse => "us.amazon.nova-2-lite-v1:0",
        _ => "deepseek-chat",
    };
    Target {
        takes_call_ids: true,
        reasoning: ChatReasoning::Details,
        takes_cache_breakpoints: true,
        ..Target::new(model, 8192)
    }
}

fn convert(json: &str, from: Format, to: Format) -> Result<ConvertedRequest, ConvertError> {
    let options = RequestOptions { ids: IdRule::of(to), is_strict: false };
    convert_request(json, from, to, &target(to), options)
}
