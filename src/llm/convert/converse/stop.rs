//! Why the model stopped (AWS, "Converse": `stopReason`).

use super::super::answer::{Failure, Stop, StopReason};
use super::super::fields::{Fields, parse_text};
use super::values::parse_object;

/// The reason in a message's end or in a plain answer, or a failure where the model's call of a tool
/// can't be used. `None` if there is no reason.
pub(super) fn read_stop(end: &Fields<'_>) -> Result<Option<Stop>, Failure> {
    let Some(native) = end.find_text("stopReason") else { return Ok(None) };
    let reason = match &*native {
        "end_turn" => StopReason::End,
        "stop_sequence" => StopReason::StopSequence,
        "tool_use" => StopReason::ToolCall,
        "max_tokens" => StopReason::MaxTokens,
        "model_context_window_exceeded" => StopReason::ContextFull,
        "guardrail_intervened" | "content_filtered" => StopReason::Refusal,
        "malformed_model_output" | "malformed_tool_use" => {
            let code = "malformed_function_call".to_owned();
            let message = format!("The model wrote a tool call that can't be used ({native}).");
            return Err(Failure { code, message });
        }
        _ => StopReason::Other,
    };
    let extra = end.get("additionalModelResponseFields").map(parse_object).transpose()?;
    let sequence = extra.and_then(|extra| sequence(&extra));
    Ok(Some(Stop { reason, native: native.into_owned(), sequence }))
}

/// Models report the sequence in a field of their own, in streams within `delta`.
fn sequence(extra: &Fields<'_>) -> Option<String> {
    let delta = extra.find_object("delta");
    let own = extra.get("stop_sequence");
    let raw = own.or_else(|| delta.as_ref().and_then(|delta| delta.get("stop_sequence")))?;
    parse_text(raw).map(|text| text.into_owned())
}
