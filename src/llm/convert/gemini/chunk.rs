//! What is read of an answer, or of a part of a stream (Google, "GenerateContentResponse").

use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Chunk<'a> {
    pub(super) response_id: Option<String>,
    pub(super) model_version: Option<String>,
    #[serde(borrow)]
    pub(super) candidates: Option<Vec<Candidate<'a>>>,
    pub(super) usage_metadata: Option<&'a RawValue>,
    pub(super) prompt_feedback: Option<PromptFeedback>,
    pub(super) error: Option<&'a RawValue>,
}

impl<'a> Chunk<'a> {
    /// Reads an object; `None` if it is anything else.
    pub(super) fn parse(json: &'a str) -> Option<Self> {
        // serde takes an array for a struct as well.
        let is_object = json.trim_ascii_start().starts_with('{');
        is_object.then(|| serde_json::from_str(json).ok()).flatten()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PromptFeedback {
    pub(super) block_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Candidate<'a> {
    pub(super) index: Option<u64>,
    #[serde(borrow)]
    pub(super) content: Option<Content<'a>>,
    pub(super) finish_reason: Option<String>,
    pub(super) finish_message: Option<String>,
    pub(super) grounding_metadata: Option<Grounding>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Content<'a> {
    #[serde(borrow)]
    pub(super) parts: Option<Vec<Part<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Part<'a> {
    pub(super) text: Option<String>,
    pub(super) thought: Option<bool>,
    pub(super) thought_signature: Option<String>,
    #[serde(borrow)]
    pub(super) function_call: Option<FunctionCall<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct FunctionCall<'a> {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    #[serde(borrow)]
    pub(super) args: Option<&'a RawValue>,
    pub(super) partial_args: Option<Vec<PartialArg<'a>>>,
    pub(super) will_continue: Option<bool>,
}

/// A piece of the arguments of a call.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PartialArg<'a> {
    pub(super) json_path: String,
    pub(super) string_value: Option<String>,
    #[serde(borrow)]
    pub(super) number_value: Option<&'a RawValue>,
    pub(super) bool_value: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Grounding {
    pub(super) grounding_chunks: Option<Vec<GroundingChunk>>,
    pub(super) grounding_supports: Option<Vec<GroundingSupport>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GroundingChunk {
    pub(super) web: Option<Web>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Web {
    pub(super) uri: Option<String>,
    pub(super) title: Option<String>,
}

/// A part of the text, and the places of its sources among the chunks.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct GroundingSupport {
    pub(super) segment: Option<Segment>,
    pub(super) grounding_chunk_indices: Option<Vec<u64>>,
}

/// A part of the text, in bytes. A start of zero is left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Segment {
    pub(super) start_index: Option<u64>,
    pub(super) end_index: Option<u64>,
}
