//! Applications that hold a conversation with tools, as the official clients of each format do: they send
//! back what they got.

mod chat;
mod messages;
mod responses;

use serde_json::{Value, json};

use super::{
    http::{Answer, Request},
    strict::{Keeps, Outcome, UserTurn},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Chat,
    Messages,
    Responses,
}

/// A conversation on the caller's side.
pub(crate) struct Caller {
    pub(crate) format: Format,
    pub(crate) keeps: Keeps,
    pub(crate) is_stream: bool,
    /// What was said so far, in the format.
    history: Vec<Value>,
    /// The ids of the calls of the last answer.
    calls: Vec<String>,
}

/// What an answer says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Heard {
    pub(crate) thoughts: String,
    pub(crate) text: String,
    pub(crate) calls: Vec<Called>,
    /// The format's word.
    pub(crate) stop: String,
    /// The counts in the format's terms: input, from the cache, output.
    pub(crate) tokens: [u64; 3],
    pub(crate) model: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Called {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: Value,
}

impl Caller {
    pub(crate) fn new(format: Format, keeps: Keeps, is_stream: bool) -> Self {
        Self { format, keeps, is_stream, history: Vec::new(), calls: Vec::new() }
    }

    /// The names of the tools. The second is longer in messages than most providers take.
    pub(crate) fn tools(&self) -> [String; 2] {
        let second = match self.format {
            Format::Messages => format!("mcp__maps__{}", "draw_".repeat(12)),
            Format::Chat | Format::Responses => "draw-map".to_owned(),
        };
        ["get_weather".to_owned(), second]
    }

    /// Adds what the user's side says.
    pub(crate) fn say(&mut self, turn: &UserTurn) {
        match turn {
            UserTurn::Question(text) => {
                let message = json!({"role": "user", "content": text});
                self.history.push(message);
            }
            UserTurn::Results(outcomes, remark) => {
                assert_eq!(outcomes.len(), self.calls.len(), "{:?}", self.calls);
                let calls = std::mem::take(&mut self.calls);
                let all: Vec<(String, Outcome)> = calls.into_iter().zip(outcomes.clone()).collect();
                let remark = remark.map(|text| json!({"role": "user", "content": text}));
                match self.format {
                    Format::Chat => {
                        self.history.extend(chat::results(&all).into_iter().chain(remark))
                    }
                    Format::Messages => self.history.push(messages::results(&all, remark)),
                    Format::Responses => {
                        self.history.extend(responses::results(&all).into_iter().chain(remark));
                    }
                }
            }
        }
    }

    pub(crate) fn request(&self, model: &str) -> Request {
        match self.format {
            Format::Chat => chat::request(self, model),
            Format::Messages => messages::request(self, model),
            Format::Responses => responses::request(self, model),
        }
    }

    /// Reads an answer and adds it to the conversation.
    pub(crate) fn hear(&mut self, answer: &Answer) -> Heard {
        let (heard, said) = match self.format {
            Format::Chat => chat::hear(self, answer),
            Format::Messages => messages::hear(self.is_stream, answer),
            Format::Responses => responses::hear(self.is_stream, answer),
        };
        self.calls = heard.calls.iter().map(|call| call.id.clone()).collect();
        self.history.extend(said);
        heard
    }
}

/// The events of a stream: names, where they have one, and data.
fn events(answer: &Answer) -> Vec<(Option<String>, Value)> {
    let text = answer.text();
    let mut all = Vec::new();
    for event in text.split("\n\n").filter(|event| !event.is_empty() && !event.starts_with(':')) {
        let line = |key: &str| event.lines().find_map(|line| line.strip_prefix(key));
        let data = line("data: ").unwrap_or_else(|| panic!("an event without data: {event}"));
        let data = match data {
            "[DONE]" => Value::from("[DONE]"),
            data => serde_json::from_str(data).unwrap(),
        };
        all.push((line("event: ").map(str::to_owned), data));
    }
    all
}

/// The text of a JSON string; empty for null.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no count: {value}"))
}

fn parsed(arguments: &Value) -> Value {
    serde_json::from_str(arguments.as_str().unwrap()).unwrap()
}
