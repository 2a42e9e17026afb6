//! A request between formats: what is asked of a model, in the order in which it was said.
//!
//! Texts are borrowed from the caller's body where they need no unescaping; numbers, schemas and arguments
//! are raw JSON throughout, so that nothing is rounded or reordered.

use std::borrow::Cow;

use super::opaque::Opaque;

/// A text, unescaped.
pub type Text<'a> = Cow<'a, str>;
/// JSON as it was written.
pub type Raw<'a> = Cow<'a, str>;

/// A parameter with the name that the caller's format has for it, such as `max_completion_tokens` or
/// `tool_choice.disable_parallel_tool_use`: errors and the header of dropped fields name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named<T> {
    pub field: &'static str,
    pub value: T,
}

impl<T> Named<T> {
    /// The value with its name.
    pub fn new(field: &'static str, value: T) -> Self {
        Self { field, value }
    }
}

/// What is asked. `None` means that the caller said nothing, or `null`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request<'a> {
    /// The model as the caller named it. Writers write the target's.
    pub model: Text<'a>,
    pub stream: bool,
    /// The caller wants usage in a chat stream (`stream_options.include_usage`); true for formats that
    /// always have it.
    pub include_usage: bool,
    /// What comes before the first turn, one entry a part, in order.
    pub system: Vec<SystemPart<'a>>,
    /// The conversation. Consecutive turns may have the same role; writers merge where they have to.
    pub turns: Vec<Turn<'a>>,
    pub tools: Vec<Tool<'a>>,
    pub tool_choice: Option<Named<ToolChoice<'a>>>,
    /// Whether several tools may be called at once.
    pub parallel_tool_calls: Option<Named<bool>>,
    pub reasoning: Reasoning<'a>,
    pub output_format: Option<Named<OutputFormat<'a>>>,
    /// The most that may be written, reasoning included: a number, raw.
    pub max_tokens: Option<Named<Raw<'a>>>,
    pub temperature: Option<Named<Raw<'a>>>,
    pub top_p: Option<Named<Raw<'a>>>,
    pub top_k: Option<Named<Raw<'a>>>,
    pub seed: Option<Named<Raw<'a>>>,
    pub presence_penalty: Option<Named<Raw<'a>>>,
    pub frequency_penalty: Option<Named<Raw<'a>>>,
    /// How many of the likeliest tokens are shown at each place: a number, raw; `0` for the log
    /// probabilities of the chosen ones alone.
    pub top_logprobs: Option<Named<Raw<'a>>>,
    pub stop: Option<Named<Vec<Text<'a>>>>,
    /// OpenAI's `verbosity`.
    pub verbosity: Option<Named<Text<'a>>>,
    /// Whom the request is for, for the provider's abuse checks.
    pub user: Option<Named<Text<'a>>>,
    /// OpenAI's `metadata`: an object of strings, raw.
    pub metadata: Option<Named<Raw<'a>>>,
    pub service_tier: Option<Named<Text<'a>>>,
    /// Whether the provider is to store the answer.
    pub store: Option<Named<bool>>,
    pub prompt_cache_key: Option<Named<Text<'a>>>,
    pub prompt_cache_retention: Option<Named<Text<'a>>>,
    /// Fields that only the caller's format has and that may be left out: readers put here what is in the
    /// class DROP, and unknown fields; what must not be left out they refuse themselves.
    pub left_out: Vec<Cow<'a, str>>,
}

/// A part of the instructions before the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemPart<'a> {
    /// Said with the role `developer`, not `system`.
    pub is_developer: bool,
    pub text: Text<'a>,
    pub cache: Option<CacheMark>,
}

/// What one side says at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn<'a> {
    pub role: Role,
    /// Not empty.
    pub blocks: Vec<Block<'a>>,
}

/// Who says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    User,
    Assistant,
    /// Instructions in the middle of the conversation: blocks of text only.
    System,
    /// The same with the role `developer`.
    Developer,
}

/// A part of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block<'a> {
    Text(TextBlock<'a>),
    /// What the model said in refusing.
    Refusal(Text<'a>),
    Media(Media<'a>),
    ToolCall(ToolCall<'a>),
    ToolResult(ToolResult<'a>),
    Reasoning(ReasoningBlock<'a>),
}

/// A text, with what belongs to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextBlock<'a> {
    pub text: Text<'a>,
    pub cache: Option<CacheMark>,
    /// Signatures that belong to the text (Gemini).
    pub opaque: Vec<Opaque<'a>>,
    /// OpenAI's `phase` of an assistant's message.
    pub phase: Option<Text<'a>>,
}

/// What the model thought, as it is to go back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReasoningBlock<'a> {
    /// The thoughts or their summary, as they were shown; empty if they were not.
    pub text: Text<'a>,
    /// `text` is a summary (OpenAI Responses `summary`, not `content`).
    pub is_summary: bool,
    pub opaque: Vec<Opaque<'a>>,
}

/// A call of a tool, which the model made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall<'a> {
    pub id: Text<'a>,
    pub name: Text<'a>,
    /// What the model wrote: a JSON object as a rule, but it may be empty or cut short.
    /// [`ToolCall::object`] gives an object in any case.
    pub arguments: Raw<'a>,
    /// Signatures that belong to the call (Gemini).
    pub opaque: Vec<Opaque<'a>>,
    pub cache: Option<CacheMark>,
}

impl ToolCall<'_> {
    /// The arguments as a JSON object: an empty one for none, and what is no object as the text of a
    /// member `INVALID_JSON`, since a conversation with a call that was cut short must go on.
    pub fn object(&self) -> Cow<'_, str> {
        let arguments = self.arguments.trim();
        if arguments.is_empty() {
            return Cow::Borrowed("{}");
        }
        if arguments.starts_with('{')
            && serde_json::from_str::<serde::de::IgnoredAny>(arguments).is_ok()
        {
            return Cow::Borrowed(arguments);
        }
        let mut json = crate::json::writer::JsonWriter::new();
        json.object(|json| json.key("INVALID_JSON").string(&self.arguments));
        Cow::Owned(json.finish())
    }
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolResult<'a> {
    /// The call's id.
    pub id: Text<'a>,
    /// The tool's name, if the caller said it. Readers leave it; `ids` fills it in from the call.
    pub name: Option<Text<'a>>,
    /// Text and media only; may be empty.
    pub content: Vec<Block<'a>>,
    pub is_error: bool,
    pub cache: Option<CacheMark>,
}

/// An image, a document, audio or video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media<'a> {
    pub kind: MediaKind,
    pub source: MediaSource<'a>,
    /// The name of a file, or a document's title.
    pub name: Option<Text<'a>>,
    /// OpenAI's `detail` of an image.
    pub detail: Option<Text<'a>>,
    pub cache: Option<CacheMark>,
}

/// What media show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    Image,
    /// PDF, or a text.
    Document,
    Audio,
    Video,
}

/// Where the content is. A file at a provider belongs to an account there: readers refuse it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaSource<'a> {
    Url(Text<'a>),
    /// `data` is base64, `mime` in lower case and without parameters (`image/jpeg`, `application/pdf`,
    /// `audio/wav`).
    Inline {
        mime: Text<'a>,
        data: Text<'a>,
    },
    /// A document of plain text.
    Text(Text<'a>),
}

/// The provider's cache is to hold the prompt up to here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheMark {
    FiveMinutes,
    OneHour,
}

/// A function that the model may call. Readers refuse tools of other kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool<'a> {
    pub name: Text<'a>,
    pub description: Option<Text<'a>>,
    /// The JSON schema of the arguments; `None` for a tool without arguments.
    pub parameters: Option<Raw<'a>>,
    /// `None` where the caller did not say, which means false. (The reader of Responses says `Some(true)`
    /// only if the caller did.)
    pub strict: Option<bool>,
    pub cache: Option<CacheMark>,
}

/// Which tools the model may or has to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice<'a> {
    Auto,
    /// Any tool, but one.
    Required,
    None,
    Tool(Text<'a>),
    /// One of these tools (OpenAI's `allowed_tools`).
    Allowed {
        names: Vec<Text<'a>>,
        is_required: bool,
    },
}

/// The form that the answer has to have; a text if there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputFormat<'a> {
    /// Any JSON object.
    Json,
    Schema {
        name: Option<Text<'a>>,
        description: Option<Text<'a>>,
        /// The JSON schema.
        schema: Raw<'a>,
        strict: Option<bool>,
    },
}

/// How much the model is to think, and what is to be shown of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reasoning<'a> {
    pub wish: Option<Named<ReasoningWish<'a>>>,
    pub show: Option<Named<ReasoningShow>>,
}

/// How much the model is to think.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReasoningWish<'a> {
    Off,
    /// `minimal`, `low`, `medium`, `high`, `xhigh`, `max`, or a newer word.
    Effort(Text<'a>),
    /// At most this many tokens.
    Budget(u64),
    /// As much as the model thinks fit, with an effort if the caller named one.
    Adaptive(Option<Text<'a>>),
}

impl ReasoningWish<'_> {
    /// The effort in OpenAI's words; `None` where the model decides.
    pub(super) fn effort(&self) -> Option<&str> {
        match self {
            Self::Off => Some("none"),
            Self::Effort(effort) => Some(effort),
            Self::Budget(tokens) => Some(budget_effort(*tokens)),
            Self::Adaptive(effort) => effort.as_deref(),
        }
    }
}

/// The effort that a budget of this many tokens stands for: below 2,048 a low one, below 8,192 a medium one.
pub(super) fn budget_effort(tokens: u64) -> &'static str {
    match tokens {
        ..2048 => "low",
        2048..8192 => "medium",
        _ => "high",
    }
}

/// What is to be shown of the thoughts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasoningShow {
    Omit,
    Summary,
}
