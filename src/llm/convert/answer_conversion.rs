//! An answer on its way from an upstream's format into the caller's: frames become events, events become
//! the caller's bytes.

use super::answer::{
    Answer, AnswerEvent, BlockKind, Failure, ReadEvents, WriteEvents, effective_stop,
};
use super::fields::parse_object;
use super::frames::{Frame, FrameReader};
use super::sequence::Sequencer;
use super::{AnswerContext, IdRule, ToolNames, chat, converse, count, gemini, messages, responses};
use crate::llm::answer::BinaryEvents;
use crate::llm::format::Format;
use crate::llm::sse::PING;

/// What the conversion of an answer has to know. Made with the request.
#[derive(Debug, Clone)]
pub struct Conversion {
    /// The upstream's format.
    pub from: Format,
    /// The caller's: chat, responses or messages. With the same format, only frames are converted.
    pub to: Format,
    /// How the upstream's streams are framed, if not as server-sent events.
    pub binary: Option<BinaryEvents>,
    pub names: ToolNames,
    pub context: AnswerContext,
    /// The answer is a count of tokens.
    pub is_count: bool,
}

impl Conversion {
    /// A whole answer for a caller who wants no stream. `is_stream` says that the upstream streamed it
    /// all the same.
    pub fn plain(&self, body: &[u8], is_stream: bool) -> Result<String, Failure> {
        if self.is_count {
            return count::convert_answer(without_mark(body));
        }
        let mut refiner = Refiner::new(self);
        let (mut answer, mut events) = (Answer::default(), Vec::new());
        for event in self.events(body, is_stream)? {
            refiner.refine(event, &mut events);
        }
        let has_ended = events.contains(&AnswerEvent::End);
        for event in events {
            match event {
                AnswerEvent::Failed(failure) => return Err(failure),
                event => answer.fold(event),
            }
        }
        match self.to {
            _ if !has_ended => Err(cut_short()),
            Format::Responses => Ok(responses::write_answer(&self.context, &answer)),
            Format::Messages => Ok(messages::write_answer(&self.context, &answer)),
            _ => Ok(chat::write_answer(&self.context, &answer)),
        }
    }

    /// The events of a whole answer.
    pub(super) fn events(&self, body: &[u8], is_stream: bool) -> Result<Vec<AnswerEvent>, Failure> {
        if is_stream {
            let (mut frames, mut reader) = (FrameReader::new(self.binary), new_reader(self.from));
            let mut events = Vec::new();
            frames.read(body, |frame| read_frame(frame, reader.as_mut(), &mut events));
            frames.finish(|frame| read_frame(frame, reader.as_mut(), &mut events));
            reader.finish(&mut events);
            return Ok(events);
        }
        let text = std::str::from_utf8(without_mark(body));
        let text = text.map_err(|_| Failure::unusable("the provider's answer is not UTF-8"))?;
        match self.from {
            Format::Chat => chat::read_answer(text),
            Format::Responses => responses::read_answer(text),
            Format::Messages => messages::read_answer(text),
            Format::Gemini => gemini::read_answer(text),
            Format::Converse => converse::read_answer(text),
            _ => Err(Failure::unusable("the provider's format can't be read")),
        }
    }
}

/// The JSON without the byte order mark before it, which readers may ignore (RFC 8259, section 8.1).
fn without_mark(json: &[u8]) -> &[u8] {
    json.strip_prefix("\u{feff}".as_bytes()).unwrap_or(json)
}

/// The failure of an answer that ended before its end.
pub(super) fn cut_short() -> Failure {
    Failure::unusable("the provider's answer broke off before its end")
}

/// Converts a stream as it arrives. An answer that the upstream gave whole becomes a stream, too.
pub struct StreamConverter {
    input: Input,
    refiner: Refiner,
    output: Box<dyn WriteEvents>,
    events: Vec<AnswerEvent>,
    /// Bytes of the answer that the caller's format keeps until its end.
    kept: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The caller has the proper end.
    Ended,
    /// The caller has an error in place of the rest.
    Failed,
}

enum Input {
    Stream {
        frames: FrameReader,
        reader: Box<dyn ReadEvents>,
    },
    /// An answer that is whole, as far as it is there.
    Whole(Vec<u8>, Box<Conversion>),
    /// Events that stay as they are, in other frames.
    Reframed {
        frames: FrameReader,
    },
}

/// The most that is kept of an answer, in bytes: of one that is whole, and of a stream what its caller gets
/// again at the end.
pub const MAX_KEPT: usize = 32 * 1024 * 1024;

impl StreamConverter {
    /// `is_stream` is whether the upstream streams.
    pub fn new(conversion: Conversion, is_stream: bool) -> Self {
        let refiner = Refiner::new(&conversion);
        let output = new_writer(&conversion);
        let input = match is_stream {
            false => Input::Whole(Vec::new(), Box::new(conversion)),
            true if conversion.from == conversion.to => {
                Input::Reframed { frames: FrameReader::new(conversion.binary) }
            }
            true => Input::Stream {
                frames: FrameReader::new(conversion.binary),
                reader: new_reader(conversion.from),
            },
        };
        Self { input, refiner, output, events: Vec::new(), kept: 0, state: State::Open }
    }

    /// Takes a chunk of the upstream's and appends what the caller gets for it.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        if self.state != State::Open {
            return;
        }
        let mut read = Vec::new();
        match &mut self.input {
            Input::Whole(body, _) if body.len() + chunk.len() <= MAX_KEPT => {
                body.extend_from_slice(chunk);
            }
            Input::Whole(..) => {
                read.push(AnswerEvent::Failed(Failure::unusable(
                    "the provider's answer is too long",
                )));
            }
            Input::Stream { frames, reader } => {
                frames.read(chunk, |frame| read_frame(frame, reader.as_mut(), &mut read));
            }
            Input::Reframed { frames } => {
                let state = &mut self.state;
                frames.read(chunk, |frame| reframe(&frame, state, &mut read, out));
            }
        }
        self.write(read, out);
    }

    /// The upstream's body has ended well: appends what the caller still gets. False if the answer was cut
    /// short; then [`StreamConverter::fail`] has to follow.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> bool {
        let mut read = Vec::new();
        match &mut self.input {
            Input::Whole(body, conversion) if self.state == State::Open => {
                match conversion.events(body, false) {
                    Ok(events) => read = events,
                    Err(failure) => read.push(AnswerEvent::Failed(failure)),
                }
            }
            Input::Stream { frames, reader } if self.state == State::Open => {
                frames.finish(|frame| read_frame(frame, reader.as_mut(), &mut read));
                reader.finish(&mut read);
            }
            Input::Reframed { frames } => {
                let state = &mut self.state;
                frames.finish(|frame| reframe(&frame, state, &mut read, out));
            }
            _ => {}
        }
        self.write(read, out);
        self.state != State::Open
    }

    /// The upstream broke off: appends the caller's error event, unless the answer is over.
    pub fn fail(&mut self, failure: Failure, out: &mut Vec<u8>) {
        self.write(vec![AnswerEvent::Failed(failure)], out);
    }

    /// An event, or a comment, that keeps the connection of a waiting caller open.
    pub fn ping(&mut self, out: &mut Vec<u8>) {
        match self.input {
            _ if self.state != State::Open => {}
            // The upstream's own events pass: a beginning made here would be one too many.
            Input::Reframed { .. } => out.extend_from_slice(PING),
            _ => self.output.ping(out),
        }
    }

    /// Whether an error was reported to the caller, by the provider or of the conversion.
    pub fn has_failed(&self) -> bool {
        self.state == State::Failed
    }

    /// The bytes that are kept until more arrives, or until the end.
    pub fn held(&self) -> usize {
        let input = match &self.input {
            Input::Whole(body, _) => body.len(),
            Input::Stream { frames, .. } | Input::Reframed { frames } => frames.held(),
        };
        input + self.kept
    }

    fn write(&mut self, read: Vec<AnswerEvent>, out: &mut Vec<u8>) {
        for event in read {
            self.refiner.refine(event, &mut self.events);
        }
        for event in self.events.drain(..) {
            if self.state != State::Open {
                continue;
            }
            match event {
                AnswerEvent::End => self.state = State::Ended,
                AnswerEvent::Failed(_) => self.state = State::Failed,
                _ => {}
            }
            if self.output.keeps(&event) {
                self.kept = self.kept.saturating_add(event.length());
            }
            self.output.write(event, out);
        }
        if self.kept > MAX_KEPT && self.state == State::Open {
            self.fail(Failure::unusable("the provider's answer is too long"), out);
        }
    }
}

/// Writes an event of Anthropic's as a server-sent one: its name is its type.
fn reframe(frame: &Frame<'_>, state: &mut State, read: &mut Vec<AnswerEvent>, out: &mut Vec<u8>) {
    match frame {
        Frame::Event(_, data) if *state == State::Open => {
            let kind = parse_object(data).and_then(|fields| fields.find_text("type"));
            let Some(kind) = kind.filter(|kind| !kind.contains(['\r', '\n'])) else { return };
            out.extend_from_slice(b"event: ");
            out.extend_from_slice(kind.as_bytes());
            out.extend_from_slice(b"\ndata: ");
            // JSON needs no line breaks, and one of them would end the field.
            out.extend(data.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')));
            out.extend_from_slice(b"\n\n");
            match &*kind {
                "message_stop" => *state = State::Ended,
                "error" => *state = State::Failed,
                _ => {}
            }
        }
        Frame::Event(..) => {}
        Frame::Exception(name, payload) => read.push(AnswerEvent::Failed(exception(name, payload))),
        Frame::Damaged(what) => read.push(AnswerEvent::Failed(Failure::unusable(*what))),
    }
}

/// An exception in a binary stream: its name, and the message in its payload.
fn exception(name: &str, payload: &str) -> Failure {
    let message = parse_object(payload).and_then(|fields| fields.find_text("message"));
    let message = message.unwrap_or_else(|| "The provider ended its answer with an error.".into());
    Failure { code: name.to_owned(), message: message.into_owned() }
}

/// The reader of streams in the upstream's format.
fn new_reader(format: Format) -> Box<dyn ReadEvents> {
    match format {
        Format::Responses => Box::<responses::StreamReader>::default(),
        Format::Messages => Box::<messages::StreamReader>::default(),
        Format::Gemini => Box::<gemini::StreamReader>::default(),
        Format::Converse => Box::<converse::StreamReader>::default(),
        _ => Box::<chat::StreamReader>::default(),
    }
}

fn read_frame(frame: Frame<'_>, reader: &mut dyn ReadEvents, out: &mut Vec<AnswerEvent>) {
    match frame {
        Frame::Event(name, data) => reader.read(name, data, out),
        Frame::Exception(name, data) => out.push(AnswerEvent::Failed(exception(name, data))),
        Frame::Damaged(what) => out.push(AnswerEvent::Failed(Failure::unusable(what))),
    }
}

/// The writer of streams in the caller's format.
fn new_writer(conversion: &Conversion) -> Box<dyn WriteEvents> {
    let context = conversion.context.clone();
    match conversion.to {
        Format::Responses => Box::new(responses::AnswerWriter::new(context)),
        Format::Messages => Box::new(messages::AnswerWriter::new(context)),
        _ => Box::new(chat::AnswerWriter::new(context)),
    }
}

/// Makes of a provider's events what holds for all callers: the caller's names of tools, calls with ids,
/// the reason for the stop that the blocks show, and blocks in order where the caller's format needs that.
struct Refiner {
    names: ToolNames,
    ids: IdRule,
    seed: String,
    calls: u32,
    sequencer: Option<Sequencer>,
}

impl Refiner {
    fn new(conversion: &Conversion) -> Self {
        // Chats number the calls of tools, so several may be open at once.
        let sequencer = (conversion.to != Format::Chat).then(Sequencer::default);
        Self {
            names: conversion.names.clone(),
            ids: IdRule::of(Format::Responses),
            seed: conversion.context.seed.clone(),
            calls: 0,
            sequencer,
        }
    }

    fn refine(&mut self, event: AnswerEvent, out: &mut Vec<AnswerEvent>) {
        let event = match event {
            AnswerEvent::Open { block, kind: BlockKind::ToolCall { id, name } } => {
                let id = if self.ids.takes(&id) { id } else { self.made_id() };
                self.calls += 1;
                let name = self.names.original(&name).to_owned();
                AnswerEvent::Open { block, kind: BlockKind::ToolCall { id, name } }
            }
            AnswerEvent::Stop(mut stop) => {
                stop.reason = effective_stop(stop.reason, self.calls > 0);
                AnswerEvent::Stop(stop)
            }
            other => other,
        };
        match &mut self.sequencer {
            Some(sequencer) => sequencer.push(event, out),
            None => out.push(event),
        }
    }

    /// An id of at most 40 characters, which no other call has.
    fn made_id(&self) -> String {
        let seed: String = self.seed.chars().take(24).collect();
        format!("call_{seed}_{}", self.calls)
    }
}
