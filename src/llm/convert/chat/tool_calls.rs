//! Calls of tools as they are streamed: piece by piece, several at a time, each by its index.

use super::super::answer::{AnswerEvent, BlockKind};
use super::super::fields::{parse_object, parse_text};
use super::super::opaque::Opaque;
use super::reasoning::{google_signature, read_extra_content, split_id};

/// The most calls in one answer.
const MAX_CALLS: usize = 1024;

/// The most of a call's arguments that may come before its name, in bytes.
const MAX_EARLY: usize = 1024 * 1024;

const NO_NAME: &str = "The provider's answer has a tool call without a name.";

/// The calls so far, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct ToolCalls(Vec<Call>);

#[derive(Debug)]
struct Call {
    index: Option<u64>,
    id: String,
    /// Its block; `None` until its name is known.
    block: Option<u32>,
    /// Arguments that came before the name.
    early: String,
    opaque: Option<Opaque<'static>>,
    scan: JsonScan,
    is_closed: bool,
}

/// A piece of a call.
#[derive(Debug, Default)]
pub(super) struct CallPiece {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
    opaque: Option<Opaque<'static>>,
}

impl CallPiece {
    /// Reads an element of `tool_calls`; `None` if it is none.
    pub(super) fn read(raw: &str) -> Option<Self> {
        let fields = parse_object(raw)?;
        let (id, id_signature) = split_id(fields.find_text("id").unwrap_or_default());
        let opaque = read_extra_content(&fields)
            .or_else(|| id_signature.and_then(google_signature))
            .map(Opaque::into_owned);
        let piece = Self {
            index: fields.get("index").and_then(|raw| raw.parse().ok()),
            id: id.into_owned(),
            opaque,
            ..Self::default()
        };
        match fields.get("function") {
            Some(raw) => piece.with_function(raw),
            None => Some(piece),
        }
    }

    /// Gives it the signature, if it has none of its own.
    pub(super) fn sign(&mut self, signature: Option<Opaque<'static>>) {
        self.opaque = self.opaque.take().or(signature);
    }

    /// The name and the arguments. Some providers give the arguments as an object.
    pub(super) fn with_function(mut self, raw: &str) -> Option<Self> {
        let function = parse_object(raw)?;
        self.name = function.find_text("name").unwrap_or_default().into_owned();
        self.arguments = match function.get("arguments") {
            None => String::new(),
            Some(raw) if raw.starts_with('"') => parse_text(raw)?.into_owned(),
            Some(raw) => raw.to_owned(),
        };
        Some(self)
    }
}

/// Numbers blocks in the order in which they are opened.
pub(super) type NextBlock<'n> = &'n mut u32;

impl ToolCalls {
    /// Takes a piece. `is_whole`: it is a whole call. An error if there are too many.
    pub(super) fn take(
        &mut self,
        piece: CallPiece,
        is_whole: bool,
        next_block: NextBlock<'_>,
        out: &mut Vec<AnswerEvent>,
    ) -> Result<(), &'static str> {
        let known = if is_whole { None } else { self.find(&piece) };
        let at = match known {
            Some(at) => at,
            None => {
                self.close_complete(out);
                if self.0.len() == MAX_CALLS {
                    return Err("The provider's answer has too many tool calls.");
                }
                self.0.push(Call {
                    index: piece.index,
                    id: String::new(),
                    block: None,
                    early: String::new(),
                    opaque: None,
                    scan: JsonScan::default(),
                    is_closed: false,
                });
                self.0.len() - 1
            }
        };
        if let Some(call) = self.0.get_mut(at).filter(|call| !call.is_closed) {
            call.take(piece, next_block, out);
            if call.early.len() > MAX_EARLY {
                return Err(NO_NAME);
            }
        }
        Ok(())
    }

    /// The call that a piece belongs to; `None` if it begins one. Some providers have no index, or give
    /// all calls the same; those that have no ids either send whole calls.
    fn find(&self, piece: &CallPiece) -> Option<usize> {
        let by_id = || self.0.iter().rposition(|call| !piece.id.is_empty() && call.id == piece.id);
        let at = match piece.index {
            Some(index) => self.0.iter().rposition(|call| call.index == Some(index)),
            None => by_id().or_else(|| self.0.len().checked_sub(1)),
        }?;
        let call = self.0.get(at)?;
        let is_other = match (piece.id.is_empty(), call.id.is_empty()) {
            (false, false) => piece.id != call.id,
            _ => {
                let begins = !piece.name.is_empty() && !piece.arguments.is_empty();
                begins && call.block.is_some() && call.scan.is_complete()
            }
        };
        (!is_other).then_some(at)
    }

    /// Closes the calls whose arguments are complete, since something else begins.
    pub(super) fn close_complete(&mut self, out: &mut Vec<AnswerEvent>) {
        for call in self.0.iter_mut().filter(|call| call.scan.is_complete()) {
            call.close(out);
        }
    }

    /// Closes all calls. An error if one has no name.
    pub(super) fn close_all(&mut self, out: &mut Vec<AnswerEvent>) -> Result<(), &'static str> {
        for call in &mut self.0 {
            if call.block.is_none() {
                return Err(NO_NAME);
            }
            call.close(out);
        }
        Ok(())
    }

    /// Whether the arguments of all calls are complete, or there are none.
    pub(super) fn are_complete(&self) -> bool {
        self.0.iter().all(|call| call.scan.is_complete() || call.scan == JsonScan::default())
    }

    /// The block of the call with this id, or of the last one.
    pub(super) fn block(&self, id: Option<&str>) -> Option<u32> {
        let call = match id {
            Some(id) => self.0.iter().rfind(|call| call.id == id),
            None => self.0.last(),
        };
        call.filter(|call| !call.is_closed)?.block
    }
}

impl Call {
    fn take(&mut self, piece: CallPiece, next_block: NextBlock<'_>, out: &mut Vec<AnswerEvent>) {
        if self.id.is_empty() {
            self.id = piece.id;
        }
        self.opaque = piece.opaque.or(self.opaque.take());
        // Some providers repeat the whole call at its end.
        let arguments = if self.scan.is_complete() { "" } else { &*piece.arguments };
        self.scan.feed(arguments);
        self.early.push_str(arguments);
        if self.block.is_none() && !piece.name.is_empty() {
            let block = *next_block;
            *next_block = next_block.saturating_add(1);
            self.block = Some(block);
            let kind = BlockKind::ToolCall { id: self.id.clone(), name: piece.name };
            out.push(AnswerEvent::Open { block, kind });
        }
        let Some(block) = self.block else { return };
        // Before the arguments: formats that have no place for it in a call write it before the call.
        if let Some(opaque) = self.opaque.take() {
            out.push(AnswerEvent::Opaque { block, opaque });
        }
        if !self.early.is_empty() {
            out.push(AnswerEvent::Arguments { block, json: std::mem::take(&mut self.early) });
        }
    }

    fn close(&mut self, out: &mut Vec<AnswerEvent>) {
        if let Some(block) = self.block.filter(|_| !self.is_closed) {
            self.is_closed = true;
            out.push(AnswerEvent::Close { block });
        }
    }
}

/// Sees where a JSON object or array that comes in pieces is complete.
#[derive(Debug, Default, PartialEq, Eq)]
struct JsonScan {
    depth: u32,
    is_in_string: bool,
    is_escaped: bool,
    has_ended: bool,
}

impl JsonScan {
    fn feed(&mut self, piece: &str) {
        for byte in piece.bytes() {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.is_in_string => self.is_escaped = true,
                b'"' => self.is_in_string = !self.is_in_string,
                _ if self.is_in_string => {}
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.has_ended |= self.depth == 0;
                }
                _ => {}
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.has_ended && self.depth == 0 && !self.is_in_string
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is done with pieces, in short.
    fn taken(pieces: &[&str]) -> String {
        let (mut calls, mut next_block, mut out) = (ToolCalls::default(), 0, Vec::new());
        for raw in pieces {
            calls.take(CallPiece::read(raw).unwrap(), false, &mut next_block, &mut out).unwrap();
        }
        calls.close_all(&mut out).unwrap();
        let shown = out.iter().map(|event| match event {
            AnswerEvent::Open { block, kind: BlockKind::ToolCall { id, name } } => {
                format!("{block}:{id}={name}")
            }
            AnswerEvent::Arguments { block, json } => format!("{block}{json}"),
            AnswerEvent::Opaque { block, opaque } => format!("{block}+{}", opaque.data),
            AnswerEvent::Close { block } => format!("{block}."),
            other => panic!("{other:?}"),
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn pieces_find_their_call() {
        for (pieces, expected) in [
            // As OpenAI streams.
            (
                vec![
                    r#"{"index":0,"id":"a","function":{"name":"f","arguments":""}}"#,
                    r#"{"index":0,"function":{"arguments":"{\"x"}}"#,
                    r#"{"index":0,"function":{"arguments":"\":1}"}}"#,
                    r#"{"index":1,"id":"b","function":{"name":"g","arguments":"{}"}}"#,
                ],
                r#"0:a=f 0{"x 0":1} 0. 1:b=g 1{} 1."#,
            ),
            // Interleaved.
            (
                vec![
                    r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}"#,
                    r#"{"index":7000000000,"id":"b","function":{"name":"g","arguments":"["}}"#,
                    r#"{"index":0,"function":{"arguments":"}"}}"#,
                    r#"{"index":7000000000,"function":{"arguments":"]"}}"#,
                ],
                "0:a=f 0{ 1:b=g 1[ 0} 1] 0. 1.",
            ),
            // All with index 0, or without any.
            (
                vec![
                    r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}"#,
                    r#"{"index":0,"id":"b","function":{"name":"g","arguments":"{}"}}"#,
                ],
                "0:a=f 0{} 0. 1:b=g 1{} 1.",
            ),
            (
                vec![
                    r#"{"id":"a","function":{"name":"f","arguments":"{"}}"#,
                    r#"{"function":{"arguments":"}"}}"#,
                    r#"{"id":"b","function":{"name":"g","arguments":{"y": 1.0}}}"#,
                    r#"{"id":"a","function":{"arguments":" "}}"#,
                ],
                r#"0:a=f 0{ 0} 0. 1:b=g 1{"y": 1.0} 1."#,
            ),
            // Without ids.
            (
                vec![
                    r#"{"index":0,"function":{"name":"f","arguments":"{}"}}"#,
                    r#"{"index":0,"function":{"name":"f","arguments":"{}"}}"#,
                ],
                "0:=f 0{} 0. 1:=f 1{} 1.",
            ),
            // Id and name in every piece.
            (
                vec![
                    r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}"#,
                    r#"{"index":0,"id":"a","function":{"name":"f","arguments":"}"}}"#,
                    r#"{"index":0,"id":"","function":{"name":"","arguments":""}}"#,
                ],
                "0:a=f 0{ 0} 0.",
            ),
            // The name comes after arguments.
            (
                vec![
                    r#"{"index":0,"id":"a","function":{"arguments":"{"}}"#,
                    r#"{"index":0,"function":{"name":"f"}}"#,
                    r#"{"index":0,"function":{"arguments":"}"}}"#,
                ],
                "0:a=f 0{ 0} 0.",
            ),
            // The whole call again at its end.
            (
                vec![
                    r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}"#,
                    r#"{"index":0,"function":{"arguments":"}"}}"#,
                    r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}"#,
                ],
                "0:a=f 0{ 0} 0.",
            ),
            // Signatures.
            (
                vec![
                    r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"},"extra_content":{"google":{"thought_signature":"s"}}}"#,
                    r#"{"index":1,"id":"b__thought__t","function":{"name":"g","arguments":""}}"#,
                ],
                "0:a=f 0+s 0{} 0. 1:b=g 1+t 1.",
            ),
        ] {
            assert_eq!(taken(&pieces), expected, "{pieces:?}");
        }
    }

    #[test]
    fn calls_are_bounded_and_named() {
        let (mut calls, mut next_block, mut out) = (ToolCalls::default(), 0, Vec::new());
        let mut push = |index: usize| {
            let raw = format!(r#"{{"index":{index},"id":"{index}"}}"#);
            calls.take(CallPiece::read(&raw).unwrap(), false, &mut next_block, &mut out)
        };
        assert!((0..MAX_CALLS).all(|index| push(index).is_ok()));
        assert!(push(MAX_CALLS).is_err());
        assert!(calls.close_all(&mut out).is_err());
        assert!(out.is_empty());
    }

    #[test]
    fn complete_json_is_seen() {
        for (json, expected) in [
            ("", false),
            ("{", false),
            (r#"{"a":"}"#, false),
            (r#"{"a":"\"}"#, false),
            (r#"{"a":"\\"}"#, true),
            (r#"{"a":[1,{}]}"#, true),
            ("{} ", true),
            ("}", true),
            ("12", false),
        ] {
            let mut scan = JsonScan::default();
            json.split("").for_each(|piece| scan.feed(piece));
            assert_eq!(scan.is_complete(), expected, "{json}");
        }
    }
}
