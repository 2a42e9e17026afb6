//! What is said in a conversation, by the user and by the models, and what the models sign.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::Host;

/// Whose key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Anthropic,
    OpenAi,
    Google,
    Nova,
    /// Shows text only.
    DeepSeek,
    /// Shows nothing.
    Unsigned,
}

impl Family {
    /// The signature of a text: base64.
    pub(super) fn sign(self, text: &str) -> String {
        let key = format!("the key of {self:?}");
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
        mac.update(text.as_bytes());
        BASE64_STANDARD.encode(mac.finalize().into_bytes())
    }
}

/// A part of what a model says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Thought(&'static str),
    /// A thought that is not shown.
    Hidden(&'static str),
    Text(&'static str),
    Call {
        tool: usize,
        arguments: &'static str,
    },
}

/// What the user's side says before a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UserTurn {
    Question(&'static str),
    /// The results of the calls, in their order.
    /// Then a remark, as agents add them.
    Results(Vec<Outcome>, Option<&'static str>),
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) text: &'static str,
    pub(crate) is_error: bool,
    /// An image with it, in base64.
    pub(crate) image: Option<&'static str>,
}

/// A request and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) asks: UserTurn,
    pub(crate) says: Vec<Said>,
}

impl Step {
    pub(crate) fn said_by(&self, host: Host) -> Vec<Said> {
        let is_within_turn = matches!(self.asks, UserTurn::Results(..));
        let is_said = |said: &&Said| {
            !(is_within_turn && host.thinks_once() && matches!(said, Said::Thought(_)))
        };
        let said = self.says.iter().filter(is_said).cloned();
        said.map(|said| match said {
            // It signs them without showing them.
            Said::Thought(_) if host.shows_no_text() => Said::Thought(""),
            said => said,
        })
        .collect()
    }
}

/// An image of one pixel.
pub(crate) const PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=";

pub(crate) const SYSTEM: &str = "You are a guide. \"Be brief\" \u{2615}";

/// The schemas of the tools. Numbers and the order of keys are as they are written.
pub(crate) const SCHEMAS: [&str; 2] = [
    r#"{"type":"object","properties":{"place":{"type":"string"},"days":{"type":"number","maximum":7.50}},"required":["place"]}"#,
    r#"{"type":"object","properties":{"zoom":{"type":"integer"}}}"#,
];

/// Two calls at once, of which one fails and one gives an image; one more call; an answer; another question
/// and its answer.
pub(crate) fn plan() -> Vec<Step> {
    let outcome = |text| Outcome { text, is_error: false, image: None };
    let failed = Outcome { is_error: true, ..outcome("No station in Zürich.") };
    let pictured = Outcome { image: Some(PIXEL), ..outcome("the map") };
    vec![
        Step {
            asks: UserTurn::Question("What is the weather in Zürich?"),
            says: vec![
                Said::Thought("I need the weather\n\nand a map. \u{1f5fa}"),
                Said::Hidden("nobody sees this"),
                Said::Text("Let me look."),
                Said::Call {
                    tool: 0,
                    arguments: r#"{"place":"Zürich","days":2.50,"id":12345678901234567890}"#,
                },
                Said::Call { tool: 1, arguments: "{}" },
            ],
        },
        Step {
            asks: UserTurn::Results(vec![failed, pictured], Some("Hurry.")),
            says: vec![
                Said::Thought("Bern is near."),
                Said::Call { tool: 0, arguments: r#"{"place":"Bern"}"# },
            ],
        },
        Step {
            asks: UserTurn::Results(vec![outcome("sunny, 21 degrees")], None),
            says: vec![Said::Thought("That will do."), Said::Text("Sunny in Bern, \"21\u{b0}\".")],
        },
        Step {
            asks: UserTurn::Question("And tomorrow?"),
            says: vec![Said::Thought("I guess."), Said::Text("Rain.")],
        },
    ]
}

/// The usage of an answer. Providers count the same in ways of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// With what came from the cache.
    pub(crate) input: u64,
    pub(crate) cached: u64,
    /// With the reasoning.
    pub(crate) output: u64,
    pub(crate) reasoning: u64,
}

impl Tokens {
    /// That of the answer with this number.
    pub(crate) fn of(number: usize) -> Self {
        let more = u64::try_from(number).unwrap();
        Self { input: 100 + more, cached: 40, output: 20 + more, reasoning: 5 }
    }
}

/// The pieces in which a text is streamed.
pub(super) fn pieces(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters
        .chunks(characters.len().div_ceil(3).max(1))
        .map(|piece| piece.iter().collect())
        .collect()
}
