//! Reads the parts of a prompt for what its bytes do not bound.
//!
//! Nothing is built. Kinds of parts are recognized by a list of those known to be text, so that a kind that
//! is new counts as unbounded.

use crate::json::case_fold::FoldBuffer;
use crate::json::tokenizer::{RawString, SyntaxError, Token, Tokenizer};

/// What a prompt holds; of several kinds, the last of this list counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum InputKind {
    /// Text, of which a token is at least a byte.
    #[default]
    Text,
    /// Images and files whose tokens have nothing to do with their bytes, but have a published bound.
    Media,
    /// Something that the body only refers to, of unknown size.
    Stored,
    /// Tools of the provider's that search the web or files, as often as the body says at the most.
    Searched,
    /// A tool that runs at the provider's and may read anything, several times.
    Hosted,
}

/// Kinds of items and parts that are nothing but the text in them, and of their other members.
const TEXT_KINDS: &[&str] = &[
    "text",
    "input_text",
    "output_text",
    "refusal",
    "message",
    "function",
    "function_call",
    "function_call_output",
    "custom",
    "custom_tool_call",
    "custom_tool_call_output",
    "tool_use",
    "tool_result",
    "content",
    "reasoning",
    "reasoning_text",
    "summary_text",
    "reasoning.text",
    "reasoning.summary",
    "reasoning.encrypted",
    "thinking",
    "redacted_thinking",
    "input_audio",
    "url_citation",
    "ephemeral",
    // Anthropic
    "server_tool_use",
    "mcp_tool_use",
    "tool_reference",
    "search_result",
    "compaction",
    "direct",
    "char_location",
    "page_location",
    "content_block_location",
    "search_result_location",
    "web_search_result_location",
];

/// Kinds whose `input` is what a model wrote for a tool, so text whatever it contains.
const TOOL_USE_KINDS: &[&str] = &["tool_use", "server_tool_use", "mcp_tool_use"];

/// Bytes of a file for one token. A token is about four characters of text (OpenAI, "What are tokens
/// and how to count them"; Google, "Understand and count tokens"). Files hold more than text, and
/// their pages are read as images too: Anthropic counts 1,500 to 3,000 tokens a page ("PDF support"),
/// and a page of a PDF seldom takes less than 12 KB.
const FILE_BYTES_PER_TOKEN: u64 = 4;

/// Bytes of audio for one token: 32 tokens a second (Google, "Understand and count tokens"; OpenAI
/// counts 10), at the 8 kbit/s of the lowest usual bit rate.
const AUDIO_BYTES_PER_TOKEN: u64 = 32;

/// Tokens of an image with `detail: original`: OpenAI, "Images and vision", at most 10,000 patches.
const ORIGINAL_IMAGE_TOKENS: u64 = 10_000;

/// The most tokens of the system prompt that lets a model use tools: Anthropic, "Tool use pricing and
/// tokens", names 159 to 530 (Claude 3 Opus with `auto`; read on 2026-11-26), doubled for models that the
/// page does not name.
const TOOL_PROMPT_TOKENS: u64 = 1_060;

/// The most tokens of one of Anthropic's own tools, whose definition is not in the body, that are
/// assumed. 735 for the definition and 499 for a prompt of its own are assumptions, whose source was not
/// found.
const PROVIDER_TOOL_TOKENS: u64 = 1_234;

/// What was seen of the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InputFacts {
    pub(super) kind: InputKind,
    images: u64,
    /// Images that are to be read at their own resolution.
    original_images: u64,
    /// Bytes of inline files, decoded.
    file_bytes: u64,
    audio_bytes: u64,
    pub(super) has_tools: bool,
    /// Whether a tool has a schema and no type, as those of Anthropic's callers; in other formats it may
    /// run at the provider's.
    pub(super) has_untyped_tools: bool,
    /// Tools of the provider's own that the caller runs.
    pub(super) provider_tools: u64,
    /// The most searches of Anthropic's tools for the web.
    pub(super) searches: u64,
    /// Whether OpenAI's tool for the web is there.
    pub(super) has_web_search: bool,
    /// Whether OpenAI's tool for files is there.
    pub(super) has_file_search: bool,
    /// The field that asks for a tool that runs at the provider's.
    pub(super) hosted_by: Option<&'static str>,
    /// Elements of the array `input`.
    pub(super) items: u64,
}

/// What an object says of itself.
#[derive(Default)]
struct ObjectFacts {
    is_reasoning: bool,
    has_id: bool,
    /// Whether it contains what it is about, too.
    has_content: bool,
    is_encrypted: bool,
    is_image: bool,
    is_original: bool,
    is_file: bool,
    has_file_data: bool,
    has_file_id: bool,
    has_text_source: bool,
    /// Bytes in its `source`, decoded.
    source_bytes: u64,
    is_tool_use: bool,
    /// What its `input` holds, which may come before its type.
    input: InputFacts,
}

impl InputFacts {
    /// A tool that runs at the provider's, which this field asks for.
    pub(super) fn note_hosted(&mut self, field: &'static str) {
        self.hosted_by.get_or_insert(field);
        self.note(InputKind::Hosted);
    }

    pub(super) fn note(&mut self, kind: InputKind) {
        self.kind = self.kind.max(kind);
    }

    /// Data in the body, of a media type and a length in bytes, decoded.
    pub(super) fn note_data(&mut self, media_type: &str, bytes: u64) {
        let (images, sum) = match media_type.split_once('/').map_or("", |(kind, _)| kind) {
            "image" => (1, None),
            "audio" => (0, Some(&mut self.audio_bytes)),
            "text" | "application" => (0, Some(&mut self.file_bytes)),
            // A second of video is some hundred tokens, at any number of bytes.
            _ => return self.note(InputKind::Stored),
        };
        if let Some(sum) = sum {
            *sum = sum.saturating_add(bytes);
        }
        self.images = self.images.saturating_add(images);
        self.note(InputKind::Media);
    }

    /// The tokens that images, files and audio take at most, by what their providers publish.
    pub(super) fn media_tokens(&self, image_tokens: u64) -> u64 {
        let original = image_tokens.max(ORIGINAL_IMAGE_TOKENS);
        let images = self.images.saturating_mul(image_tokens);
        let images = images.saturating_add(self.original_images.saturating_mul(original));
        let files = self.file_bytes.div_ceil(FILE_BYTES_PER_TOKEN);
        images
            .saturating_add(files)
            .saturating_add(self.audio_bytes.div_ceil(AUDIO_BYTES_PER_TOKEN))
    }

    /// Tokens that Anthropic adds to a prompt with tools, beyond what is in the body.
    pub(super) fn added_tool_tokens(&self) -> u64 {
        let all = if self.has_tools { TOOL_PROMPT_TOKENS } else { 0 };
        self.provider_tools.saturating_mul(PROVIDER_TOOL_TOKENS).saturating_add(all)
    }

    /// Takes in what was seen of another part of the input.
    fn add(&mut self, other: &Self) {
        self.note(other.kind);
        self.images = self.images.saturating_add(other.images);
        self.original_images = self.original_images.saturating_add(other.original_images);
        self.file_bytes = self.file_bytes.saturating_add(other.file_bytes);
        self.audio_bytes = self.audio_bytes.saturating_add(other.audio_bytes);
    }

    /// Messages, or a part of them.
    pub(super) fn read_content<'a>(
        &mut self,
        first: Token<'a>,
        tokens: &mut Tokenizer<'a>,
    ) -> Result<(), SyntaxError> {
        match first {
            Token::BeginObject => self.read_object(tokens).map(|_| ()),
            Token::BeginArray => {
                tokens.elements(|element, tokens| self.read_content(element, tokens))
            }
            _ => Ok(()),
        }
    }

    /// The items of a response's input, which may be nothing but references.
    pub(super) fn read_items<'a>(
        &mut self,
        first: Token<'a>,
        tokens: &mut Tokenizer<'a>,
    ) -> Result<(), SyntaxError> {
        if first != Token::BeginArray {
            return self.read_content(first, tokens);
        }
        loop {
            match tokens.next()? {
                Token::EndArray => return Ok(()),
                Token::BeginObject => {
                    let item = self.read_object(tokens)?;
                    // What is not in the item is looked up by its id. Of reasoning, only the
                    // encrypted form is what the model reads.
                    let is_reference = match item.is_reasoning {
                        true => item.has_id && !item.is_encrypted,
                        false => !item.has_content,
                    };
                    if is_reference {
                        self.note(InputKind::Stored);
                    }
                }
                element => self.read_content(element, tokens)?,
            }
            self.items = self.items.saturating_add(1);
        }
    }

    /// The members of an object whose beginning was read.
    fn read_object<'a>(&mut self, tokens: &mut Tokenizer<'a>) -> Result<ObjectFacts, SyntaxError> {
        let mut object = ObjectFacts::default();
        while let Token::Key(key) = tokens.next()? {
            let value = tokens.next()?;
            let is_given = !value.is_null();
            let mut buffer = FoldBuffer::default();
            match key.folded(&mut buffer).unwrap_or_default() {
                b"type" => {
                    match value {
                        Token::String(kind) => self.read_kind(kind, &mut object),
                        _ if is_given => self.note(InputKind::Stored),
                        _ => {}
                    }
                    tokens.skip(value)?;
                }
                b"image_url" if value == Token::BeginObject => {
                    object.is_image = true;
                    object.is_original |= self.read_object(tokens)?.is_original;
                }
                b"image_url" | b"image_file" | b"image" => {
                    object.is_image |= is_given;
                    tokens.skip(value)?;
                }
                b"detail" => {
                    let detail =
                        if let Token::String(detail) = value { detail.text() } else { None };
                    object.is_original |= detail.as_deref() == Some("original");
                    tokens.skip(value)?;
                }
                b"file" if value == Token::BeginObject => {
                    let file = self.read_object(tokens)?;
                    object.is_file = true;
                    object.has_file_data |= file.has_file_data;
                    object.has_file_id |= file.has_file_id;
                }
                b"file_data" => {
                    object.is_file |= is_given;
                    if let Some(length) = inline_length(value) {
                        object.has_file_data = true;
                        self.file_bytes = self.file_bytes.saturating_add(length);
                    }
                    tokens.skip(value)?;
                }
                b"file_id" => {
                    object.has_file_id |= is_given;
                    tokens.skip(value)?;
                }
                b"file_ids" | b"file_url" | b"file" | b"images" | b"video" | b"video_url"
                | b"audio" | b"audio_url" | b"vector_store_ids" | b"cached_content" => {
                    if is_given {
                        self.note(InputKind::Stored);
                    }
                    tokens.skip(value)?;
                }
                b"data" if matches!(value, Token::String(_)) => match inline_length(value) {
                    Some(length) => self.audio_bytes = self.audio_bytes.saturating_add(length),
                    None => self.note(InputKind::Stored),
                },
                b"source" if value == Token::BeginObject => {
                    self.read_source(tokens, &mut object)?;
                }
                b"input" => {
                    object.has_content |= is_given;
                    object.input.read_content(value, tokens)?;
                }
                b"content" | b"text" | b"arguments" | b"output" => {
                    object.has_content |= is_given;
                    self.read_content(value, tokens)?;
                }
                b"id" => {
                    object.has_id |= is_given;
                    self.read_content(value, tokens)?;
                }
                b"encrypted_content" => {
                    object.is_encrypted |= is_given;
                    self.read_content(value, tokens)?;
                }
                _ => self.read_content(value, tokens)?,
            }
        }
        if !object.is_tool_use {
            self.add(&object.input);
        }
        self.note_media(&object);
        Ok(object)
    }

    fn read_kind(&mut self, kind: RawString<'_>, object: &mut ObjectFacts) {
        match kind.text().as_deref() {
            Some("image_url" | "input_image" | "image") => object.is_image = true,
            Some("file" | "input_file" | "document") => object.is_file = true,
            Some(kind) if TEXT_KINDS.contains(&kind) => {
                object.is_reasoning |= kind == "reasoning";
                object.is_tool_use |= TOOL_USE_KINDS.contains(&kind);
            }
            _ => self.note(InputKind::Stored),
        }
    }

    /// Where an image or a document of Anthropic's format comes from: `base64`, `text` and `content`
    /// are in the body, `url` and `file` are not.
    fn read_source<'a>(
        &mut self,
        tokens: &mut Tokenizer<'a>,
        object: &mut ObjectFacts,
    ) -> Result<(), SyntaxError> {
        let (mut is_text, mut is_base64, mut data_length) = (false, false, None);
        while let Token::Key(key) = tokens.next()? {
            let value = tokens.next()?;
            let mut buffer = FoldBuffer::default();
            match (key.folded(&mut buffer).unwrap_or_default(), value) {
                (b"type", Token::String(kind)) => match kind.text().as_deref() {
                    Some("base64") => is_base64 = true,
                    Some("text" | "content") => is_text = true,
                    _ => object.has_file_id = true,
                },
                (b"data", _) => {
                    data_length = inline_length(value);
                    tokens.skip(value)?;
                }
                (b"content", _) => self.read_content(value, tokens)?,
                (b"url" | b"file_id", _) => {
                    object.has_file_id |= !value.is_null();
                    tokens.skip(value)?;
                }
                (b"type", _) => {
                    object.has_file_id = true;
                    tokens.skip(value)?;
                }
                _ => tokens.skip(value)?,
            }
        }
        object.has_text_source |= is_text && !is_base64;
        if is_base64 {
            object.has_file_data |= data_length.is_some();
            object.source_bytes = data_length.unwrap_or(0);
        }
        Ok(())
    }

    fn note_media(&mut self, object: &ObjectFacts) {
        if object.is_image {
            // The bound holds for images of every size, whether they are inline or not.
            let images =
                if object.is_original { &mut self.original_images } else { &mut self.images };
            *images = images.saturating_add(1);
            self.note(InputKind::Media);
        } else if object.has_file_id {
            self.note(InputKind::Stored);
        } else if object.is_file && object.has_file_data {
            self.file_bytes = self.file_bytes.saturating_add(object.source_bytes);
            self.note(InputKind::Media);
        } else if object.is_file && !object.has_text_source {
            self.note(InputKind::Stored);
        }
    }
}

/// The length of data in base64, decoded and rounded up; `None` if it is no text, or an address where
/// to fetch the data. A media type may come before it.
pub(super) fn inline_length(value: Token<'_>) -> Option<u64> {
    let Token::String(data) = value else { return None };
    let head = data.raw();
    let head = head.get(..head.len().min(64)).unwrap_or_default();
    let head = head.strip_prefix(b"data:").unwrap_or(head);
    let mut bytes = head.iter().peekable();
    while let Some(byte) = bytes.next() {
        let is_escape = *byte == b'\\' && bytes.peek().is_some_and(|next| **next != b'/');
        if *byte == b':' || is_escape {
            return None;
        }
    }
    Some(u64::try_from(data.raw().len()).unwrap_or(u64::MAX).div_ceil(4).saturating_mul(3))
}
