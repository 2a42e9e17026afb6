//! The fields of a body that determine its cost, for any provider. Collected while the body is parsed.

use bytes::Bytes;

use super::gemini::GeminiFacts;
use super::input::{InputFacts, InputKind};
use super::model_fields::ModelFields;
use super::output::OutputFacts;
use super::thinking::is_thinking;
use crate::json::case_fold::{self, FoldBuffer};
use crate::json::object::{BodyError, JsonBody};
use crate::json::tokenizer::{SyntaxError, Token, Tokenizer};
use crate::llm::format::Format;

/// What bounds the use of a request, apart from the length of its body.
#[derive(Clone, Debug, Default)]
pub struct BodyFacts {
    pub(super) input: InputFacts,
    pub(super) output: OutputFacts,
    model_fields: ModelFields,
    answers_later: bool,
    /// Of a body of Gemini's formats alone.
    gemini: Option<GeminiFacts>,
    is_converse: bool,
    is_responses: bool,
    /// OpenAI's `max_tool_calls`: the most calls of tools that run at the provider's.
    pub(super) max_tool_calls: Option<u64>,
    /// Whether the provider may sum up the conversation before it answers.
    pub(super) has_compaction: bool,
}

impl BodyFacts {
    /// Parses a body and collects what bounds its use, in one pass.
    pub fn parse(text: Bytes) -> Result<(JsonBody, Self), BodyError> {
        let mut facts = Self::default();
        let body =
            JsonBody::parse_with(text, |key, first, tokens| facts.read_field(key, first, tokens))?;
        Ok((body, facts))
    }

    /// The same for a body of this format. The keys of Gemini's formats have two spellings, which may
    /// not both be in one object.
    pub fn parse_in(format: Format, text: Bytes) -> Result<(JsonBody, Self), BodyError> {
        let is_gemini = matches!(format, Format::Gemini | Format::GeminiEmbeddings);
        let gemini = is_gemini.then(GeminiFacts::default);
        let is_converse = format == Format::Converse;
        let is_responses = format == Format::Responses;
        let mut facts = Self { gemini, is_converse, is_responses, ..Self::default() };
        let body =
            JsonBody::parse_with(text, |key, first, tokens| facts.read_field(key, first, tokens))?;
        match facts.gemini.as_ref().and_then(GeminiFacts::two_spellings) {
            Some(key) => Err(BodyError::TwoSpellings { key: key.to_owned() }),
            None => Ok((body, facts)),
        }
    }

    /// The first model in a body of Gemini's formats that is not the one in the path, which is not
    /// percent-encoded here. Both may begin with `models/`.
    pub fn names_other_model(&self, model: &str) -> Option<&str> {
        self.gemini.as_ref()?.other_model(model)
    }

    /// The first key that is in one object in both of its spellings.
    pub fn two_spellings(&self) -> Option<&str> {
        self.gemini.as_ref()?.two_spellings()
    }

    /// The same facts with those of a field that is added to the body.
    pub fn add_field(&mut self, key: &str, raw: &str) {
        let mut tokens = Tokenizer::new(raw.as_bytes());
        let read = tokens.next().and_then(|first| self.read_field(key, first, &mut tokens));
        if read.is_err() {
            // Not JSON, so nothing is known of it.
            self.input.note(InputKind::Stored);
        }
    }

    /// Takes no limit on the answer for one that the provider keeps to.
    pub fn ignore_answer_limits(&mut self) {
        self.output.ignore_limits();
    }

    /// Whether the provider answers before it has done the work, and so without usage.
    pub fn answers_later(&self) -> bool {
        self.answers_later
    }

    /// The first field inside another that could choose another model than the configured one, as
    /// `extra_body.models`.
    pub fn nested_model_field(&self) -> Option<&str> {
        self.model_fields.first()
    }

    fn read_field<'a>(
        &mut self,
        key: &str,
        first: Token<'a>,
        tokens: &mut Tokenizer<'a>,
    ) -> Result<(), SyntaxError> {
        let mut buffer = FoldBuffer::default();
        let Some(key) = case_fold::fold(key, &mut buffer) else { return tokens.skip(first) };
        if let Some(gemini) = &mut self.gemini {
            return gemini.read_field(&mut self.input, &mut self.output, key, first, tokens);
        }
        if self.is_converse {
            return self.read_converse_field(key, first, tokens);
        }
        let start = tokens.token_start();
        self.output.read_field(key, first);
        match key {
            b"messages" | b"instructions" | b"prediction" | b"system" | b"documents" => {
                self.input.read_content(first, tokens)?;
            }
            b"input" => self.input.read_items(first, tokens)?,
            b"tools" => self.read_tools(first, tokens)?,
            b"max_tool_calls" => {
                self.max_tool_calls = count(first);
                tokens.skip(first)?;
            }
            // Text in the older API, a stored template in the newer one.
            b"prompt" if first == Token::BeginObject => {
                self.model_fields.note("prompt", "");
                self.input.note(InputKind::Stored);
                tokens.skip(first)?;
            }
            b"prompt" => self.input.read_content(first, tokens)?,
            // The messages before are at the provider's (Anthropic, message threads).
            b"thread" => self.read_options("thread", first, tokens)?,
            b"extra_body" | b"generation_config" | b"generationconfig" | b"inferenceconfig"
            | b"litellm_params" | b"model_kwargs" | b"nvext" | b"options" | b"optional_params"
            | b"parameters" | b"provider_options" | b"provideroptions" | b"sampling_params" => {
                let key = String::from_utf8_lossy(key).into_owned();
                self.read_options(&key, first, tokens)?;
            }
            _ if is_thinking(key) => self.read_thinking(first, tokens)?,
            _ if is_modalities(key) => self.output.read_modalities("modalities", first, tokens)?,
            _ if is_compaction(key) => self.read_compaction(key, first, tokens)?,
            _ => self.read_source(key, first, tokens)?,
        }
        if key == b"prediction" && is_given(first) {
            self.output.note_prediction(tokens.position().saturating_sub(start));
        }
        Ok(())
    }

    /// Notes a field that may bring in more than is in it, and reads over its value.
    fn read_source<'a>(
        &mut self,
        key: &[u8],
        first: Token<'a>,
        tokens: &mut Tokenizer<'a>,
    ) -> Result<(), SyntaxError> {
        let start = tokens.position();
        tokens.skip(first)?;
        // One byte more is the end of an empty array.
        let is_empty = first == Token::BeginArray && tokens.position() - start == 1;
        if !is_given(first) || is_empty {
            return Ok(());
        }
        if let Some(field) = hosted_field(key) {
            self.input.note_hosted(field);
        } else if is_stored(key) {
            self.input.note(InputKind::Stored);
            self.answers_later |= matches!(key, b"background" | b"deferred");
        }
        Ok(())
    }

    /// A field that may ask for a summary of the conversation.
    fn read_compaction<'a>(
        &mut self,
        key: &[u8],
        first: Token<'a>,
        tokens: &mut Tokenizer<'a>,
    ) -> Result<(), SyntaxError> {
        match key {
            b"compaction" => {
                self.has_compaction |= is_given(first);
                tokens.skip(first)
            }
            _ => {
                self.has_compaction |= has_compaction_inside(first, tokens)?;
                Ok(())
            }
        }
    }

    /// An object about the model's thoughts.
    fn read_thinking<'a>(
        &mut self,
        first: Token<'a>,
        tokens: &mut Tokenizer<'a>,
    ) -> Result<(), SyntaxError> {
        if first != Token::BeginObject {
            return tokens.skip(first);
        }
        while let Token::Key(key) = tokens.next()? {
            let value = tokens.next()?;
            let mut buffer = FoldBuffer::default();
            self.output.read_thinking_field(key.folded(&mut buffer).unwrap_or_default(), value);
            tokens.skip(value)?;
        }
        Ok(())
    }

    /// An object of parameters that some upstreams merge into the request.
    pub(super) fn read_options<'a>(
        &mut self,
        container: &str,
        first: Token<'a>,
        tokens: &mut Tokenizer<'a>,
    ) -> Result<(), SyntaxError> {
        self.read_merged(container, false, first, tokens)
    }

    /// Such an object, or a value in it, which may be about the model's thoughts.
    fn read_merged<'a>(
        &mut self,
        container: &str,
        is_about_thoughts: bool,
        first: Token<'a>,
        tokens: &mut Tokenizer<'a>,
    ) -> Result<(), SyntaxError> {
        match first {
            Token::BeginObject => {
                while let Token::Key(key) = tokens.next()? {
                    let first = tokens.next()?;
                    let mut buffer = FoldBuffer::default();
                    let key = key.folded(&mut buffer).unwrap_or_default();
                    match is_about_thoughts {
                        true => self.output.read_thinking_field(key, first),
                        false => self.output.read_nested_field(key, first),
                    }
                    self.model_fields.note_nested(container, key, first);
                    match key {
                        b"messages" | b"input" | b"contents" | b"system" | b"prompt" => {
                            self.input.read_content(first, tokens)?;
                        }
                        b"tools" => self.read_tools(first, tokens)?,
                        _ if is_modalities(key) => {
                            self.output.read_modalities("modalities", first, tokens)?;
                        }
                        _ if is_compaction(key) => self.read_compaction(key, first, tokens)?,
                        _ if hosted_field(key).is_none() && !is_stored(key) => {
                            let is_about_thoughts = is_about_thoughts || is_thinking(key);
                            self.read_merged(container, is_about_thoughts, first, tokens)?;
                        }
                        _ => self.read_source(key, first, tokens)?,
                    }
                }
                Ok(())
            }
            Token::BeginArray => tokens.elements(|element, tokens| {
                self.read_merged(container, is_about_thoughts, element, tokens)
            }),
            _ => Ok(()),
        }
    }

    /// Tools: those that the caller runs are text, all others run at the provider's.
    fn read_tools<'a>(
        &mut self,
        first: Token<'a>,
        tokens: &mut Tokenizer<'a>,
    ) -> Result<(), SyntaxError> {
        match first {
            Token::BeginArray => tokens.elements(|element, tokens| self.read_tool(element, tokens)),
            Token::BeginObject => self.read_tool(first, tokens),
            _ => Ok(()),
        }
    }

    fn read_tool<'a>(
        &mut self,
        first: Token<'a>,
        tokens: &mut Tokenizer<'a>,
    ) -> Result<(), SyntaxError> {
        self.input.has_tools = true;
        let (mut is_own, mut is_hosted, mut names_model) = (false, false, false);
        let (mut has_schema, mut is_search, mut max_uses) = (false, false, Some(0));
        let mut has_max_uses = false;
        let (mut is_openai_web, mut is_openai_files) = (false, false);
        if first == Token::BeginObject {
            while let Token::Key(key) = tokens.next()? {
                let value = tokens.next()?;
                let mut buffer = FoldBuffer::default();
                let key = key.folded(&mut buffer).unwrap_or_default();
                if key == b"type" {
                    let kind = if let Token::String(kind) = value { kind.text() } else { None };
                    let is_function = matches!(kind.as_deref(), Some("function" | "custom"));
                    let is_for_caller = kind.as_deref().is_some_and(runs_at_caller);
                    self.input.provider_tools += u64::from(is_for_caller);
                    let is_of_openai =
                        |is: fn(&str) -> bool| self.is_responses && kind.as_deref().is_some_and(is);
                    let is_for_web = is_of_openai(is_openai_web_search);
                    let is_for_files = is_of_openai(|kind| kind == "file_search");
                    is_openai_web |= is_for_web;
                    is_openai_files |= is_for_files;
                    let is_for_search =
                        !self.is_responses && kind.as_deref().is_some_and(searches_web);
                    is_search |= is_for_search;
                    is_own |= is_function || is_for_caller;
                    is_hosted |= !is_function
                        && !is_for_caller
                        && !is_for_search
                        && !is_for_web
                        && !is_for_files
                        && !value.is_null();
                    tokens.skip(value)?;
                } else if key == b"max_uses" {
                    // If there are several, any may be the one that counts.
                    max_uses = max_uses.zip(count(value)).map(|(one, other)| one.max(other));
                    has_max_uses = true;
                    tokens.skip(value)?;
                } else {
                    has_schema |= key == b"input_schema" && is_given(value);
                    names_model |= key == b"model" || names_model_inside(value, tokens)?;
                    if key == b"model" {
                        tokens.skip(value)?;
                    }
                }
            }
        } else {
            tokens.skip(first)?;
        }
        if !is_own && !is_hosted && !is_search && has_schema {
            self.input.has_untyped_tools = true;
        } else if !is_own || is_hosted || is_search {
            match max_uses.filter(|_| has_max_uses) {
                _ if (is_openai_web || is_openai_files) && !is_own && !is_hosted => {
                    self.input.has_web_search |= is_openai_web;
                    self.input.has_file_search |= is_openai_files;
                    self.input.note(InputKind::Searched);
                }
                Some(uses) if is_search && !is_own && !is_hosted => {
                    self.input.searches = self.input.searches.saturating_add(uses);
                    self.input.note(InputKind::Searched);
                }
                None if is_search => self.input.note_hosted("tools.max_uses"),
                _ => self.input.note_hosted("tools"),
            }
            if names_model {
                self.model_fields.note("tools", "model");
            }
        }
        Ok(())
    }
}

/// Whether a tool of this type is Anthropic's, and the caller runs it (Anthropic, "Tool use").
fn runs_at_caller(kind: &str) -> bool {
    ["bash_20", "computer_20", "memory_20", "text_editor_20"]
        .iter()
        .any(|own| kind.starts_with(own))
}

/// Whether a tool of this type is Anthropic's search of the web, whose `max_uses` bounds the searches
/// (Anthropic, "Web search tool").
fn searches_web(kind: &str) -> bool {
    kind.starts_with("web_search_20")
}

/// Whether a tool of this type is OpenAI's search of the web, of which each call has a fee. Its preview has
/// other fees, which depend on the model (OpenAI, "Pricing").
fn is_openai_web_search(kind: &str) -> bool {
    matches!(kind, "web_search" | "web_search_2025_08_26")
}

fn count(value: Token<'_>) -> Option<u64> {
    let Token::Literal(number) = value else { return None };
    std::str::from_utf8(number).ok()?.parse().ok()
}

fn is_given(value: Token<'_>) -> bool {
    !matches!(value, Token::Literal(b"null" | b"false"))
}

/// Fields that ask for tools that run at the provider's, folded.
const HOSTED_FIELDS: [&str; 8] = [
    "web_search_options",
    "web_search",
    "enable_search",
    "search_parameters",
    "data_sources",
    "plugins",
    "mcp_servers",
    "container",
];

fn hosted_field(key: &[u8]) -> Option<&'static str> {
    HOSTED_FIELDS.into_iter().find(|field| field.as_bytes() == key)
}

/// Whether a field of this key, folded, brings more into the prompt than its own text.
fn is_stored(key: &[u8]) -> bool {
    matches!(
        key,
        b"previous_response_id"
            | b"previous_message_id"
            | b"conversation"
            | b"background"
            | b"deferred"
            | b"file_id"
            | b"file_ids"
            | b"vector_store_ids"
            | b"attachments"
            | b"cached_content"
    )
}

/// Whether a field of this key, folded, lists the kinds of output that are wanted.
fn is_modalities(key: &[u8]) -> bool {
    matches!(key, b"modalities" | b"response_modalities" | b"responsemodalities")
}

/// Whether a field of this key, folded, may ask for a summary of the conversation: Anthropic's `compaction`,
/// or an entry of `context_management` (Anthropic, "Compaction"; OpenAI, "Compaction").
fn is_compaction(key: &[u8]) -> bool {
    matches!(key, b"compaction" | b"context_management")
}

/// Reads a value, and returns whether an object in it has a `type` that begins with `compact`.
fn has_compaction_inside<'a>(
    first: Token<'a>,
    tokens: &mut Tokenizer<'a>,
) -> Result<bool, SyntaxError> {
    let mut open = usize::from(matches!(first, Token::BeginObject | Token::BeginArray));
    let (mut found, mut is_type) = (false, false);
    while open > 0 {
        let token = tokens.next()?;
        match token {
            Token::BeginObject | Token::BeginArray => open += 1,
            Token::EndObject | Token::EndArray => open -= 1,
            Token::String(kind) if is_type => {
                found |= kind.text().is_some_and(|kind| kind.starts_with("compact"));
            }
            _ => {}
        }
        is_type = matches!(token, Token::Key(key)
            if key.folded(&mut FoldBuffer::default()) == Some(b"type"));
    }
    Ok(found)
}

/// Reads a value, and returns whether a member of an object in it is `model`.
fn names_model_inside<'a>(
    first: Token<'a>,
    tokens: &mut Tokenizer<'a>,
) -> Result<bool, SyntaxError> {
    let mut open = usize::from(matches!(first, Token::BeginObject | Token::BeginArray));
    let mut found = false;
    while open > 0 {
        match tokens.next()? {
            Token::BeginObject | Token::BeginArray => open += 1,
            Token::EndObject | Token::EndArray => open -= 1,
            Token::Key(key) => {
                found |= key.folded(&mut FoldBuffer::default()) == Some(b"model");
            }
            _ => {}
        }
    }
    Ok(found)
}
