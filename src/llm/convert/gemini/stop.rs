//! Why the model stopped (Google, `FinishReason` and `BlockReason`).

use super::super::answer::{Failure, Stop, StopReason};

/// The reason, or a failure where the model's call of a tool can't be used. `message` is Google's own.
pub(super) fn finish_reason(native: String, message: Option<String>) -> Result<Stop, Failure> {
    let reason = match &*native {
        "STOP" => StopReason::End,
        "MAX_TOKENS" => StopReason::MaxTokens,
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "MODEL_ARMOR"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => StopReason::Refusal,
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" => {
            let code = "malformed_function_call".to_owned();
            let message = message.unwrap_or_else(|| {
                format!("The model wrote a tool call that can't be used ({native}).")
            });
            return Err(Failure { code, message });
        }
        _ => StopReason::Other,
    };
    Ok(Stop { reason, native, sequence: None })
}

/// The prompt was blocked.
pub(super) fn blocked(native: String) -> Stop {
    Stop { reason: StopReason::Refusal, native, sequence: None }
}

/// Whether it names a reason at all.
pub(super) fn is_reason(native: &str) -> bool {
    !native.is_empty() && !native.ends_with("_UNSPECIFIED")
}
