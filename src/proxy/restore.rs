//! Edits answers to guarded requests: puts values back, and masks what else must not reach the caller. Plain
//! ones when they are complete, streams event by event.

mod array;
mod binary;
mod events;
mod names;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::answer_reader::AnswerKind;
use crate::accounting::budget::Share;
use crate::domain::ids::PolicyId;
use crate::llm::answer::StreamForm;
use crate::llm::format::{Format, Operation};
use crate::policy::guard::answer::AnswerScan;
use crate::policy::guard::answer_names::AnswerNames;
use crate::policy::guard::policy::{GuardConfig, TimeoutAction};
use crate::policy::guard::redact::ScanError;
use crate::policy::guard::restore::stream::StreamRestorer;
use crate::policy::guard::restore::{
    AnswerEdits, answer_texts, edit_answer, is_json, restore_answer, restore_text,
};
use crate::policy::set::MatchedGuard;
use array::ArrayRestorer;
use binary::BinaryRestorer;
use events::EventRestorer;
pub use names::NameSearch;

/// The longest plain answer that values are put back into, in bytes. A longer one keeps its placeholders,
/// which say nothing to anybody.
const MAX_PLAIN: usize = 32 * 1024 * 1024;
/// The same for one event of a stream. The longest are the last ones of the Responses API, which repeat the
/// whole answer.
const MAX_EVENT: usize = 8 * 1024 * 1024;
/// A longer plain answer is scanned on a thread of its own, in bytes.
const MAX_INLINE: usize = 64 * 1024;

/// Edits the answer of one request.
pub struct AnswerRestorer {
    format: Format,
    /// Of a stream, they are with its events.
    edits: AnswerEdits,
    /// The policies that a refusal names.
    policies: Vec<GuardPolicy>,
    /// For what is buffered.
    memory: Share,
    /// Whether a service has still to be asked for the names in the answer, so that nothing of it is sent.
    awaits_names: bool,
    /// Whether the provider signs the reasoning of a stream at its end.
    signs_reasoning: bool,
    /// The bytes of it that a stream has taken.
    held: usize,
    mode: Mode,
}

/// A guard policy that matches the request.
struct GuardPolicy {
    id: PolicyId,
    name: Arc<str>,
    config: GuardConfig,
}

enum Mode {
    /// Nothing of the answer has come.
    Undecided,
    /// The answer so far.
    Plain(Vec<u8>),
    Stream(Box<StreamEditor>),
    /// A stream that is searched for names when it is complete: its bytes so far, and what collects its texts.
    Held {
        form: StreamForm,
        bytes: Vec<u8>,
        texts: Box<StreamEditor>,
    },
    /// Nothing is edited.
    Off,
}

enum StreamEditor {
    Events(EventRestorer),
    Array(ArrayRestorer),
    Binary(BinaryRestorer),
}

/// Why an answer must not go on.
pub struct Refusal {
    /// What the caller is told.
    pub message: String,
    /// The policies that are violated.
    pub policies: Vec<PolicyId>,
}

impl AnswerRestorer {
    /// For the answer of this operation. `memory` is a share of the budget for bodies.
    pub fn new(
        operation: &Operation,
        format: Format,
        edits: AnswerEdits,
        matched: &MatchedGuard<'_>,
        memory: Share,
    ) -> Self {
        let is_edited = has_text(operation) && !edits.are_none();
        let mode = if is_edited { Mode::Undecided } else { Mode::Off };
        let policies = matched.policies.iter().filter(|_| edits.scan().is_some());
        let policies = policies.map(|(policy, config)| GuardPolicy {
            id: policy.id,
            name: Arc::clone(&policy.name),
            config: (*config).clone(),
        });
        Self {
            format,
            policies: policies.collect(),
            edits,
            memory,
            awaits_names: false,
            signs_reasoning: false,
            held: 0,
            mode,
        }
    }

    /// Before anything of the answer has come: it is put into the caller's format from this one.
    pub fn converted_from(&mut self, format: Format) {
        self.signs_reasoning = matches!(format, Format::Messages | Format::Converse);
    }

    /// Before anything of the answer has come: it is searched for names.
    pub fn await_names(&mut self) {
        self.awaits_names = self.is_scanning();
    }

    /// Whether the answer has to be searched for names when it is complete.
    pub fn awaits_names(&self) -> bool {
        self.awaits_names && matches!(self.mode, Mode::Plain(_) | Mode::Held { .. })
    }

    /// The texts that a service has to be asked about, once all of the answer is there.
    fn texts(&mut self) -> Result<Vec<Vec<u8>>, ScanError> {
        match &mut self.mode {
            Mode::Plain(answer) => answer_texts(self.format, answer),
            Mode::Held { texts, .. } => {
                texts.finish();
                texts.events_mut().take_texts()
            }
            Mode::Undecided | Mode::Stream(_) | Mode::Off => Ok(Vec::new()),
        }
    }

    /// What the service found. An error is why it is not known; then the policies say whether the answer is
    /// sent.
    fn names_found(&mut self, names: Result<Option<AnswerNames>, ScanError>) {
        self.awaits_names = false;
        let Some(scan) = self.edits_mut().scan_mut() else { return };
        match names {
            Ok(names) => names.into_iter().for_each(|names| scan.set_names(names)),
            // Otherwise all else is still looked for.
            Err(error) if scan.guard().timeout_action() == TimeoutAction::Block => scan.fail(error),
            Err(_) => {}
        }
    }

    /// Whether a successful answer may become longer or shorter.
    pub fn changes_length(&self) -> bool {
        !matches!(self.mode, Mode::Off)
    }

    /// Whether the answer is scanned, so that it may have to be refused.
    pub fn is_scanning(&self) -> bool {
        self.changes_length() && self.scan().is_some()
    }

    /// The scan of the answer.
    pub fn scan(&self) -> Option<&AnswerScan> {
        self.edits().scan()
    }

    /// Whether what is left to do at the end takes long.
    pub fn is_long(&self) -> bool {
        match &self.mode {
            Mode::Plain(answer) => answer.len() > MAX_INLINE && self.scan().is_some(),
            Mode::Held { bytes, .. } => bytes.len() > MAX_INLINE,
            Mode::Stream(editor) => editor.kept() > MAX_INLINE,
            Mode::Undecided | Mode::Off => false,
        }
    }

    /// Whether it takes long to edit so many further bytes: a stream's event may end with them.
    pub fn is_long_with(&self, bytes: usize) -> bool {
        matches!(&self.mode, Mode::Stream(editor) if editor.kept() + bytes > MAX_INLINE)
    }

    /// What has to stand before another element of an array, for the caller; `None` for other answers.
    pub fn before_element(&self) -> Option<&'static str> {
        match &self.mode {
            Mode::Stream(editor) => match &**editor {
                StreamEditor::Array(array) => Some(array.before_element()),
                _ => None,
            },
            _ => None,
        }
    }

    /// Why the answer must not go on, if it must not.
    pub fn refusal(&self) -> Option<Refusal> {
        let scan = self.scan()?;
        let blocking = &scan.report().blocking;
        let names: Vec<&str> = blocking.iter().map(String::as_str).collect();
        let why = if names.is_empty() {
            let is_refused = scan.guard().timeout_action() == TimeoutAction::Block;
            let error = scan.failure().filter(|_| is_refused)?;
            format!("the answer could not be scanned: {error}")
        } else {
            format!("found in the answer: {}", names.join(", "))
        };
        let is_violated = |config: &GuardConfig| match names.is_empty() {
            true => config.scan.answers,
            false => names.iter().any(|name| config.detects(name)),
        };
        let violated = || self.policies.iter().filter(|policy| is_violated(&policy.config));
        let names: Vec<&str> = violated().map(|policy| &*policy.name).collect();
        let message = format!("request blocked by gateway policies: {}; {why}", names.join(", "));
        Some(Refusal { message, policies: violated().map(|policy| policy.id).collect() })
    }

    /// An upstream's error with the values.
    pub fn error_body(&self, bytes: Vec<u8>) -> Vec<u8> {
        let placeholders = self.edits.placeholders();
        if let Some(restored) = restore_answer(self.format, &bytes, placeholders) {
            return restored;
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) if serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_err() => {
                restore_text(text, placeholders).map(String::into_bytes).unwrap_or(bytes)
            }
            _ => bytes,
        }
    }

    /// Takes a chunk on its way to the caller and gives what goes down now: nothing once there is a
    /// [`refusal`](Self::refusal).
    pub fn push(&mut self, chunk: Bytes, kind: AnswerKind) -> Option<Bytes> {
        self.limit_time();
        if matches!(self.mode, Mode::Undecided) {
            self.mode = match kind {
                // Blank until it is known what it is.
                AnswerKind::Undecided => return Some(chunk),
                AnswerKind::Plain => Mode::Plain(Vec::new()),
                AnswerKind::Stream(form) if self.awaits_names => {
                    let events = StreamRestorer::collecting(self.format);
                    let texts = Box::new(StreamEditor::new(form, events));
                    Mode::Held { form, bytes: Vec::new(), texts }
                }
                AnswerKind::Stream(form) => Mode::Stream(Box::new(self.stream_editor(form))),
                AnswerKind::Unreadable => {
                    self.fail(ScanError::Unreadable);
                    Mode::Off
                }
                AnswerKind::None => Mode::Off,
            };
        }
        let down = match &mut self.mode {
            Mode::Plain(answer) => {
                let is_within = answer.len() + chunk.len() <= MAX_PLAIN;
                if is_within && self.memory.grow(chunk.len()) {
                    answer.extend_from_slice(&chunk);
                    return None;
                }
                let mut passed = std::mem::take(answer);
                passed.extend_from_slice(&chunk);
                self.fail(ScanError::TooLong);
                self.mode = Mode::Off;
                passed.into()
            }
            Mode::Held { bytes, texts, .. } => {
                // The texts are kept as well, and so is an event, twice.
                let most = bytes.len() + chunk.len();
                let is_within = most <= MAX_PLAIN;
                if is_within && self.memory.grow(2 * chunk.len()) {
                    texts.push(&chunk);
                    bytes.extend_from_slice(&chunk);
                    return None;
                }
                let mut passed = std::mem::take(bytes);
                passed.extend_from_slice(&chunk);
                self.fail(ScanError::TooLong);
                self.mode = Mode::Off;
                passed.into()
            }
            Mode::Stream(editor) => {
                // What is kept of an event, here and by the reader of events.
                let most = 2 * (editor.kept() + chunk.len());
                let more = most.saturating_sub(self.held);
                if more > 0 && !self.memory.grow(more) {
                    let mut rest = editor.finish();
                    rest.extend_from_slice(&chunk);
                    self.fail(ScanError::TooLong);
                    let edits = std::mem::take(self.edits_mut());
                    self.edits = edits;
                    self.mode = Mode::Off;
                    rest.into()
                } else {
                    self.held += more;
                    editor.push(&chunk).into()
                }
            }
            Mode::Undecided | Mode::Off => chunk,
        };
        Some(down).filter(|down| !down.is_empty() && self.refusal().is_none())
    }

    /// What is still held back, at the end of the answer; nothing if there is a [`refusal`](Self::refusal).
    pub fn finish(&mut self) -> Option<Bytes> {
        if self.awaits_names() {
            // It has broken off.
            self.names_found(Err(ScanError::NotSearched));
        }
        self.limit_time();
        if let Mode::Held { form, bytes, .. } = &mut self.mode {
            let (form, bytes) = (*form, std::mem::take(bytes));
            let mut editor = self.stream_editor(form);
            let mut down = editor.push(&bytes);
            down.extend(editor.finish());
            self.mode = Mode::Stream(Box::new(editor));
            return Some(Bytes::from(down)).filter(|_| self.refusal().is_none());
        }
        let rest = match &mut self.mode {
            Mode::Plain(answer) => {
                let answer = std::mem::take(answer);
                if !is_json(&answer) {
                    self.fail(ScanError::NotJson);
                }
                edit_answer(self.format, &answer, &mut self.edits).unwrap_or(answer)
            }
            Mode::Stream(editor) => editor.finish(),
            Mode::Undecided | Mode::Held { .. } | Mode::Off => return None,
        };
        Some(Bytes::from(rest)).filter(|rest| !rest.is_empty() && self.refusal().is_none())
    }

    fn stream_editor(&mut self, form: StreamForm) -> StreamEditor {
        let mut events = StreamRestorer::new(self.format, std::mem::take(&mut self.edits));
        if self.signs_reasoning {
            events.keep_reasoning();
        }
        StreamEditor::new(form, events)
    }

    fn edits(&self) -> &AnswerEdits {
        match &self.mode {
            Mode::Stream(editor) => editor.events().edits(),
            _ => &self.edits,
        }
    }

    fn edits_mut(&mut self) -> &mut AnswerEdits {
        match &mut self.mode {
            Mode::Stream(editor) => editor.events_mut().edits_mut(),
            _ => &mut self.edits,
        }
    }

    /// Each part of the answer may take as long as the scan of a request.
    fn limit_time(&mut self) {
        if let Some(scan) = self.edits_mut().scan_mut() {
            let (began, timeout) = (Instant::now(), scan.guard().timeout());
            scan.limit_time(move || began.elapsed() < timeout);
        }
    }

    fn fail(&mut self, error: ScanError) {
        if let Some(scan) = self.edits_mut().scan_mut() {
            scan.fail(error);
        }
    }
}

/// Whether the answer of an operation has text: vectors and counts have none.
pub fn has_text(operation: &Operation) -> bool {
    let format = operation.answer_format();
    format.is_some_and(|format| !matches!(format, Format::Embeddings | Format::GeminiEmbeddings))
}

impl StreamEditor {
    fn new(form: StreamForm, events: StreamRestorer) -> Self {
        match form {
            StreamForm::Events => Self::Events(EventRestorer::new(events)),
            StreamForm::Array => Self::Array(ArrayRestorer::new(events)),
            StreamForm::Binary(form) => Self::Binary(BinaryRestorer::new(form, events)),
        }
    }

    fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        match self {
            Self::Events(events) => events.push(chunk),
            Self::Array(array) => array.push(chunk),
            Self::Binary(binary) => binary.push(chunk),
        }
    }

    fn finish(&mut self) -> Vec<u8> {
        match self {
            Self::Events(events) => events.finish(),
            Self::Array(array) => array.finish(),
            Self::Binary(binary) => binary.finish(),
        }
    }

    /// The bytes that are kept.
    fn kept(&self) -> usize {
        match self {
            Self::Events(events) => events.kept(),
            Self::Array(array) => array.kept(),
            Self::Binary(binary) => binary.kept(),
        }
    }

    fn events(&self) -> &StreamRestorer {
        match self {
            Self::Events(events) => &events.events,
            Self::Array(array) => &array.events,
            Self::Binary(binary) => &binary.events,
        }
    }

    fn events_mut(&mut self) -> &mut StreamRestorer {
        match self {
            Self::Events(events) => &mut events.events,
            Self::Array(array) => &mut array.events,
            Self::Binary(binary) => &mut binary.events,
        }
    }
}
