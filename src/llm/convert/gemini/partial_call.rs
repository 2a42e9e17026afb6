//! A call whose arguments come in pieces, each with the place of a value (Google, `PartialArg`). The
//! gateway does not ask for it, but an upstream may do so on its own.

use super::chunk::PartialArg;
use crate::json::writer::JsonWriter;

/// The deepest place of a value, in steps.
const MAX_STEPS: usize = 64;

/// The longest arguments, in bytes, with the places of their values.
const MAX_LENGTH: usize = 1024 * 1024;

/// A call that is not complete.
#[derive(Debug)]
pub(super) struct PartialCall {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) signature: Option<String>,
    arguments: Node,
    /// Bytes that have come.
    length: usize,
}

impl PartialCall {
    pub(super) fn new(id: String, name: String, signature: Option<String>) -> Self {
        Self { id, name, signature, arguments: Node::Object(Vec::new()), length: 0 }
    }

    /// Adds a piece: a value, or more of a string. `None` if it has no place, or if all is too long.
    pub(super) fn add(&mut self, piece: PartialArg<'_>) -> Option<()> {
        let text = piece.string_value.as_ref().map_or(0, |text| text.len());
        let number = piece.number_value.map_or(0, |number| number.get().len());
        self.length += piece.json_path.len() + text + number;
        if self.length > MAX_LENGTH {
            return None;
        }
        let node = self.arguments.find(&piece.json_path)?;
        match (piece.string_value, piece.number_value, piece.bool_value) {
            (Some(text), ..) => match node {
                Node::Text(whole) => whole.push_str(&text),
                other => *other = Node::Text(text),
            },
            (None, Some(number), _) => *node = Node::Raw(number.get().to_owned()),
            (None, None, Some(value)) => *node = Node::Raw(value.to_string()),
            (None, None, None) => {}
        }
        Some(())
    }

    /// The arguments so far.
    pub(super) fn arguments(&self) -> String {
        let mut json = JsonWriter::new();
        self.arguments.write(&mut json);
        json.finish()
    }
}

/// A value that is being put together.
#[derive(Debug)]
enum Node {
    Nothing,
    Object(Vec<(String, Node)>),
    Array(Vec<Node>),
    Text(String),
    Raw(String),
}

impl Node {
    /// The value at a path such as `$.operations[0].action`, made if it is not there. `None` if the path
    /// is not understood, leads through another kind of value, or leaves a gap in an array.
    fn find(&mut self, path: &str) -> Option<&mut Node> {
        let mut rest = path.strip_prefix('$')?;
        let mut node = self;
        for _ in 0..MAX_STEPS {
            if rest.is_empty() {
                return Some(node);
            }
            let step;
            (step, rest) = split_step(rest)?;
            node = match step {
                Step::Key(key) => node.member(key)?,
                Step::Index(index) => node.element(index)?,
            };
        }
        None
    }

    fn member(&mut self, key: &str) -> Option<&mut Node> {
        if matches!(self, Self::Nothing) {
            *self = Self::Object(Vec::new());
        }
        let Self::Object(members) = self else { return None };
        // Pieces of a value come one after another, so it is mostly the last one.
        let place = members.iter().rposition(|(own, _)| own == key).unwrap_or(members.len());
        if place == members.len() {
            members.push((key.to_owned(), Self::Nothing));
        }
        members.get_mut(place).map(|(_, node)| node)
    }

    fn element(&mut self, index: usize) -> Option<&mut Node> {
        if matches!(self, Self::Nothing) {
            *self = Self::Array(Vec::new());
        }
        let Self::Array(elements) = self else { return None };
        if index == elements.len() {
            elements.push(Self::Nothing);
        }
        elements.get_mut(index)
    }

    fn write(&self, json: &mut JsonWriter) {
        match self {
            Self::Nothing => json.null(),
            Self::Object(members) => json.object(|json| {
                for (key, node) in members {
                    node.write(json.key(key));
                }
            }),
            Self::Array(elements) => json.array(|json| {
                elements.iter().for_each(|node| node.write(json));
            }),
            Self::Text(text) => json.string(text),
            Self::Raw(raw) => json.raw(raw),
        }
    }
}

enum Step<'p> {
    Key(&'p str),
    Index(usize),
}

/// The first step of a path, and the rest.
fn split_step(path: &str) -> Option<(Step<'_>, &str)> {
    if let Some(path) = path.strip_prefix('.') {
        let end = path.find(['.', '[']).unwrap_or(path.len());
        let (key, rest) = path.split_at_checked(end)?;
        return (!key.is_empty()).then_some((Step::Key(key), rest));
    }
    let inside = path.strip_prefix('[')?;
    for quote in ['\'', '"'] {
        if let Some(path) = inside.strip_prefix(quote) {
            let (key, rest) = path.split_once(quote)?;
            return Some((Step::Key(key), rest.strip_prefix(']')?));
        }
    }
    let (index, rest) = inside.split_once(']')?;
    Some((Step::Index(index.parse().ok()?), rest))
}
