//! References to what a provider stores for an account: earlier responses, conversations, files, caches.
//! Where workspaces share an account, one could read with them what another one stored.

use smallvec::SmallVec;

use crate::json::case_fold::FoldBuffer;
use crate::json::tokenizer::{RawString, SyntaxError, Token, Tokenizer};

/// The member that names the response which a request continues.
pub const PREVIOUS_RESPONSE: &str = "previous_response_id";

/// Members that refer to stored state if they hold a text, or an array of texts. Folded.
const REFERENCES: [(&[u8], &str); 17] = [
    (PREVIOUS_RESPONSE.as_bytes(), PREVIOUS_RESPONSE),
    (b"conversation", "conversation"),
    (b"file_id", "file_id"),
    (b"file_ids", "file_ids"),
    (b"file_uri", "file_uri"),
    (b"fileuri", "fileUri"),
    (b"vector_store_ids", "vector_store_ids"),
    (b"collection_ids", "collection_ids"),
    (b"library_ids", "library_ids"),
    (b"file_search_store_names", "file_search_store_names"),
    (b"filesearchstorenames", "fileSearchStoreNames"),
    (b"container", "container"),
    (b"container_id", "container_id"),
    (b"cached_content", "cached_content"),
    (b"cachedcontent", "cachedContent"),
    (b"prompt_id", "prompt_id"),
    (b"batch_id", "batch_id"),
];

/// Members whose objects refer to stored state if they have an id, by where they stand. Folded.
const OBJECTS: [(Place, &[u8], &str); 5] = [
    (Place::Top, b"conversation", "conversation"),
    (Place::Top, b"prompt", "prompt"),
    (Place::Top, b"container", "container"),
    (Place::Top, b"thread", "thread"),
    (Place::Message, b"audio", "audio"),
];

/// Members whose objects refer to stored state, whatever is in them. Folded.
const STORES: [(&[u8], &str); 5] = [
    (b"s3location", "s3Location"),
    (b"vertex_ai_search", "vertex_ai_search"),
    (b"vertexaisearch", "vertexAiSearch"),
    (b"vertex_rag_store", "vertex_rag_store"),
    (b"vertexragstore", "vertexRagStore"),
];

/// Members whose objects are the caller's own data: arguments and results of tools, labels.
const DATA: [&[u8]; 5] = [b"input", b"args", b"response", b"json", b"metadata"];

/// The members that hold the content of a response's input items, with the types of these items. Of an item
/// that has an `id` and not its content, the provider looks up its own copy. An item of another type needs
/// any member beside `id`, `type` and `status`.
const ITEM_CONTENT: [(&str, &[&str]); 13] = [
    ("content", &["message"]),
    ("encrypted_content", &["reasoning", "compaction"]),
    ("arguments", &["function_call", "mcp_call", "mcp_approval_request", "tool_search_call"]),
    ("input", &["custom_tool_call"]),
    (
        "output",
        &[
            "function_call_output",
            "custom_tool_call_output",
            "computer_call_output",
            "local_shell_call_output",
            "shell_call_output",
        ],
    ),
    ("result", &["image_generation_call"]),
    ("action", &["computer_call", "local_shell_call", "shell_call", "web_search_call"]),
    ("actions", &["computer_call"]),
    ("operation", &["apply_patch_call"]),
    ("queries", &["file_search_call"]),
    ("code", &["code_interpreter_call", "program"]),
    ("tools", &["mcp_list_tools", "tool_search_output", "additional_tools"]),
    ("approve", &["mcp_approval_response"]),
];

/// Where an object stands in the body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    /// In the array `input`.
    InputItem,
    /// In the array `messages`.
    Message,
    /// In the array `data_sources`: an index that Azure searches.
    DataSource,
    Inside,
}

impl Place {
    /// That of the elements of this array, which stands at the top.
    fn in_array(key: &[u8]) -> Self {
        match key {
            b"input" => Self::InputItem,
            b"messages" => Self::Message,
            b"data_sources" => Self::DataSource,
            _ => Self::Inside,
        }
    }
}

/// What a body refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredState {
    /// The response that the body continues: its `previous_response_id`.
    pub previous_response: Option<String>,
    /// The other references, by the names of their members, each once.
    others: Vec<&'static str>,
}

/// Whether the member refers to a file that the caller has stored.
pub fn is_file(name: &str) -> bool {
    matches!(name, "file_id" | "file_ids" | "file_uri" | "fileUri" | "s3Location")
}

/// Whether a model's name is the ARN of a prompt that is stored at Bedrock (AWS, "Prompt management").
pub fn is_stored_prompt(model: &str) -> bool {
    model.starts_with("arn:") && model.contains(":prompt/")
}

impl StoredState {
    /// The first reference that is no `previous_response_id`, by the name of its member.
    pub fn other(&self) -> Option<&'static str> {
        self.others.first().copied()
    }

    /// The references that are no `previous_response_id`, by the names of their members, each once.
    pub fn others(&self) -> impl Iterator<Item = &'static str> {
        self.others.iter().copied()
    }

    /// Reads a body. What can't be read may be a reference.
    pub fn of(body: &[u8]) -> Self {
        let mut tokens = Tokenizer::new(body);
        let mut found = Self::default();
        let whole = tokens.next().and_then(|first| found.read(&mut tokens, first, Place::Top));
        if whole.is_err() {
            found.note("body");
        }
        found
    }

    fn note(&mut self, name: &'static str) {
        if !self.others.contains(&name) {
            self.others.push(name);
        }
    }

    /// Reads a value and notes the references in it.
    fn read<'a>(
        &mut self,
        tokens: &mut Tokenizer<'a>,
        first: Token<'a>,
        place: Place,
    ) -> Result<(), SyntaxError> {
        match first {
            Token::BeginArray => self.read_elements(tokens, Place::Inside),
            Token::BeginObject => self.read_object(tokens, place).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Reads an array whose beginning was read.
    fn read_elements<'a>(
        &mut self,
        tokens: &mut Tokenizer<'a>,
        place: Place,
    ) -> Result<(), SyntaxError> {
        tokens.elements(|element, tokens| self.read(tokens, element, place))
    }

    /// Reads an object whose beginning was read. Tells which members it has.
    fn read_object<'a>(
        &mut self,
        tokens: &mut Tokenizer<'a>,
        place: Place,
    ) -> Result<Members<'a>, SyntaxError> {
        let is_top = place == Place::Top;
        let mut has = Members::default();
        while let Token::Key(raw) = tokens.next()? {
            let is_exact = raw.raw() == PREVIOUS_RESPONSE.as_bytes();
            let value = tokens.next()?;
            let mut buffer = FoldBuffer::default();
            let key = raw.folded(&mut buffer).unwrap_or_default();
            has.note(raw, key, value);
            let named = |list: &[(&[u8], &'static str)]| {
                list.iter().find(|(name, _)| *name == key).map(|(_, name)| *name)
            };
            let object = OBJECTS.iter().find(|(at, name, _)| *at == place && *name == key);
            match (value, named(&REFERENCES), object, named(&STORES)) {
                (Token::String(id), ..)
                    if is_top && is_exact && self.previous_response.is_none() =>
                {
                    match id.text() {
                        Some(id) => self.previous_response = Some(id.into_owned()),
                        None => self.note(PREVIOUS_RESPONSE),
                    }
                }
                (Token::String(_), Some(name), ..) => self.note(name),
                (Token::BeginArray, Some(name), ..) => loop {
                    match tokens.next()? {
                        Token::EndArray => break,
                        Token::String(_) => self.note(name),
                        element => self.read(tokens, element, Place::Inside)?,
                    }
                },
                (Token::BeginObject, _, Some((_, _, name)), _) => {
                    if self.read_object(tokens, Place::Inside)?.id {
                        self.note(name);
                    }
                }
                (Token::BeginObject, .., Some(name)) => {
                    self.note(name);
                    tokens.skip(value)?;
                }
                (Token::BeginObject, ..)
                    if DATA.contains(&key) && (!is_top || key == b"metadata") =>
                {
                    tokens.skip(value)?;
                }
                (Token::BeginArray, ..) if is_top => {
                    self.read_elements(tokens, Place::in_array(key))?;
                }
                (Token::String(kind), ..) if key == b"type" => {
                    if kind.text().as_deref() == Some("item_reference") {
                        self.note("item_reference");
                    }
                }
                _ => self.read(tokens, value, Place::Inside)?,
            }
        }
        match place {
            Place::InputItem if has.id && !has.holds_its_content() => self.note("item_reference"),
            Place::DataSource => self.note("data_sources"),
            _ => {}
        }
        // Anthropic's own skills are for everyone.
        if has.skill_id && !has.is_of_type("anthropic") {
            self.note("skill_id");
        }
        Ok(has)
    }
}

/// Which members an object has that are not null. Of a member that is there twice the last one counts, as in
/// most parsers.
#[derive(Default)]
struct Members<'a> {
    /// Its id, or that of the message that a thread goes on from.
    id: bool,
    skill_id: bool,
    kind: Option<Token<'a>>,
    role: bool,
    /// Those of [`ITEM_CONTENT`].
    content: SmallVec<[&'static str; 2]>,
    /// Whether there are others than `id`, `type` and `status`.
    has_more: bool,
}

impl<'a> Members<'a> {
    /// What makes an object a reference is found in any letter case; what makes it none has to be exact.
    fn note(&mut self, raw: RawString<'_>, folded: &[u8], value: Token<'a>) {
        let is_given = !value.is_null();
        match folded {
            b"id" | b"previous_message_id" => self.id |= is_given,
            b"skill_id" => {
                self.skill_id |= matches!(value, Token::String(_) | Token::BeginArray);
            }
            b"type" | b"status" => {}
            _ => self.has_more |= is_given,
        }
        match raw.raw() {
            b"type" => self.kind = is_given.then_some(value),
            b"role" => self.role = is_given,
            raw => {
                let names = ITEM_CONTENT.iter().map(|(name, _)| *name);
                for name in names.filter(|name| name.as_bytes() == raw) {
                    self.content.retain(|other| *other != name);
                    // Calls may have empty arguments and outputs; an empty image or cipher text is none.
                    let is_text = !matches!(name, "encrypted_content" | "result");
                    let is_empty = matches!(value, Token::String(text) if text.raw().is_empty());
                    if is_given && (is_text || !is_empty) {
                        self.content.push(name);
                    }
                }
            }
        }
    }

    fn is_of_type(&self, name: &str) -> bool {
        matches!(self.kind, Some(Token::String(kind)) if kind.text().as_deref() == Some(name))
    }

    /// Whether this input item holds its content itself. Without a type it has to be a message: of others
    /// OpenAI takes the `id` for a reference.
    fn holds_its_content(&self) -> bool {
        if self.kind.is_none() {
            return self.role && self.content.contains(&"content");
        }
        let members = ITEM_CONTENT.iter();
        let mut members = members
            .filter(|(_, kinds)| kinds.iter().any(|kind| self.is_of_type(kind)))
            .map(|(name, _)| name)
            .peekable();
        match members.peek() {
            Some(_) => members.any(|name| self.content.contains(name)),
            None => self.has_more,
        }
    }
}

#[cfg(test)]
mod tests;
