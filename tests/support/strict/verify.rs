//! Compares what a provider reads with what was said in the conversation.

use std::collections::HashSet;

use serde_json::Value;

use super::plan::{Outcome, SCHEMAS, SYSTEM};
use super::prompt::{Part, Prompt, Turn};
use super::shape::Checked;
use super::{ChatRules, Conversation, Family, Host, Keeps, Said, Speaks, UserTurn};

/// Stands for the signature of a call that another model made (Google, "Thought signatures").
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// Checks the prompt of the next step.
pub(super) fn verify(conversation: &Conversation, host: Host, prompt: Prompt) -> Checked<()> {
    equal("the instructions", &prompt.system, &vec![SYSTEM.to_owned()])?;
    let schemas: Vec<Value> =
        SCHEMAS.iter().map(|schema| serde_json::from_str(schema).unwrap()).collect();
    let names: Vec<String> = prompt.tools.iter().map(|tool| tool.name.clone()).collect();
    equal(
        "the schemas",
        &prompt.tools.into_iter().map(|tool| tool.schema).collect::<Vec<_>>(),
        &schemas,
    )?;
    pairs(&prompt.turns, host)?;
    let count = conversation.answered.len();
    equal("the number of turns", &prompt.turns.len(), &(2 * count + 1))?;
    let mut ids = Vec::new();
    for (place, turn) in prompt.turns.into_iter().enumerate() {
        let number = place / 2;
        let what = format!("turn {place}");
        if turn.is_model != (place % 2 == 1) {
            return Err(format!("{what} is the other side's"));
        }
        let step = &conversation.steps[number];
        if turn.is_model {
            let by = conversation.answered[number];
            ids = call_ids(&turn);
            let expected = said(&step.said_by(by), by, host, conversation.keeps, &names, &ids);
            let mut parts = turn.parts;
            if by.family() != host.family() && host.family() == Family::DeepSeek {
                // A text proves nothing: it may come back whoever thought it.
                parts.retain(|part| !matches!(part, Part::Thought { proof: None, .. }));
            }
            equal(&what, &parts, &expected)?;
        } else {
            let calls = number.checked_sub(1).map(|number| &conversation.steps[number].says);
            let called = calls.into_iter().flatten().filter_map(|said| match said {
                Said::Call { tool, .. } => Some(names[*tool].clone()),
                _ => None,
            });
            let called: Vec<String> = called.collect();
            let expected = asked(&step.asks, host, &called, &ids);
            equal(&what, &turn.parts, &expected)?;
        }
    }
    Ok(())
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, one: &T, expected: &T) -> Checked<()> {
    if one == expected { Ok(()) } else { Err(format!("{what}: {one:?}\n  expected: {expected:?}")) }
}

fn call_ids(turn: &Turn) -> Vec<Option<String>> {
    let ids = turn.parts.iter().filter_map(|part| match part {
        Part::Call { id, .. } => Some(id.clone()),
        _ => None,
    });
    ids.collect()
}

/// The results of all calls of a turn, and no others, begin the next turn, and no id stands for two calls: of
/// a turn, or at Anthropic of the conversation.
fn pairs(turns: &[Turn], host: Host) -> Checked<()> {
    let mut seen = HashSet::new();
    let mut open: Vec<Option<String>> = Vec::new();
    for turn in turns {
        let result = |part: &Part| match part {
            Part::Result { id, .. } => Some(id.clone()),
            _ => None,
        };
        let results: Vec<_> = turn.parts.iter().map_while(result).collect();
        if turn.parts.iter().filter_map(result).count() != results.len() {
            return Err("a result stands after something else".to_owned());
        }
        let sorted = |mut ids: Vec<Option<String>>| {
            // Gemini pairs by order where there are no ids, and wants it kept where there are.
            if host.speaks != Speaks::Gemini {
                ids.sort();
            }
            ids
        };
        let expected = std::mem::take(&mut open);
        equal("the results of the calls before", &sorted(results), &sorted(expected))?;
        open = call_ids(turn);
        if !matches!(host.speaks, Speaks::Messages | Speaks::Invoke) {
            seen.clear();
        }
        for id in open.iter().flatten() {
            if !seen.insert(id.clone()) {
                return Err(format!("the id {id} stands for two calls"));
            }
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("calls without results: {open:?}")) }
}

/// A turn of the user's as this host has to get it.
fn asked(turn: &UserTurn, host: Host, names: &[String], ids: &[Option<String>]) -> Vec<Part> {
    let (outcomes, remark) = match turn {
        UserTurn::Question(text) => {
            return vec![Part::Text { text: (*text).to_owned(), proof: None }];
        }
        UserTurn::Results(outcomes, remark) => (outcomes, remark),
    };
    let takes_images = !matches!(host.speaks, Speaks::Chat(_));
    let has_flag = !matches!(host.speaks, Speaks::Chat(_) | Speaks::Responses);
    let mut beside = Vec::new();
    let mut parts = Vec::new();
    for (place, Outcome { text, is_error, image }) in outcomes.iter().enumerate() {
        let image = image.map(str::to_owned);
        if !takes_images {
            beside.extend(image.clone().map(Part::Image));
        }
        parts.push(Part::Result {
            id: ids.get(place).cloned().flatten(),
            name: (host.speaks == Speaks::Gemini).then(|| names[place].clone()),
            text: (*text).to_owned(),
            image: image.filter(|_| takes_images),
            is_error: has_flag.then_some(*is_error),
        });
    }
    parts.extend(beside);
    parts.extend(remark.map(|text| Part::Text { text: text.to_owned(), proof: None }));
    parts
}

/// A turn of a model's as this host has to get it back.
fn said(
    says: &[Said],
    by: Host,
    host: Host,
    keeps: Keeps,
    names: &[String],
    ids: &[Option<String>],
) -> Vec<Part> {
    let family = host.family();
    let is_signed = by.family() == family && keeps != Keeps::Nothing;
    let is_own = by.family() == family && keeps == Keeps::All;
    let mut calls = 0;
    let mut parts = Vec::new();
    for said in says {
        match said {
            Said::Thought(text) => parts.extend(thought(text, host).filter(|_| is_own)),
            Said::Hidden(text) => parts.extend(hidden(text, host).filter(|_| is_own)),
            Said::Text(text) => {
                let proof = (is_signed && family == Family::Google).then(|| family.sign(text));
                parts.push(Part::Text { text: (*text).to_owned(), proof });
            }
            Said::Call { tool, arguments } => {
                let arguments: Value = serde_json::from_str(arguments).unwrap();
                let is_first = calls == 0;
                let proof = (family == Family::Google && is_first).then(|| match is_signed {
                    true => family.sign(&format!("{} {arguments}", names[*tool])),
                    false => NO_SIGNATURE.to_owned(),
                });
                let id = ids.get(calls).cloned().flatten();
                let name = names.get(*tool).cloned().unwrap_or_default();
                parts.push(Part::Call { id, name, arguments, proof });
                calls += 1;
            }
        }
    }
    parts
}

/// A thought that was shown, where it has to come back.
fn thought(text: &str, host: Host) -> Option<Part> {
    let family = host.family();
    let proof = match family {
        // Google wants the signatures alone, and Mistral takes nothing.
        Family::Google | Family::Unsigned => return None,
        Family::DeepSeek => None,
        Family::OpenAi | Family::Anthropic | Family::Nova => Some(family.sign(text)),
    };
    Some(Part::Thought { text: text.to_owned(), proof })
}

/// A thought that was not shown.
fn hidden(text: &str, host: Host) -> Option<Part> {
    let family = host.family();
    let is_told = !matches!(family, Family::Google | Family::Unsigned | Family::DeepSeek);
    let proof = Some(family.sign(&format!("hidden {text}")));
    is_told.then(|| Part::Thought { text: String::new(), proof })
}

impl Host {
    pub(crate) fn shows_thoughts(self) -> bool {
        !matches!(self.speaks, Speaks::Chat(ChatRules::OpenAi | ChatRules::Mistral))
    }
}
