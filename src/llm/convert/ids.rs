//! Ids of tool calls: each call has one that the target takes, its result has the same, and the result
//! knows the name of the tool. And the id of the person whom a request is for.

use std::borrow::Cow;
use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::request::{Block, Request};
use crate::llm::format::Format;

/// Bytes of the digest in an id that is made, as two digits each.
const DIGEST_BYTES: usize = 12;

/// Which ids a target takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRule {
    /// The longest, in characters of `[A-Za-z0-9_-]`.
    longest: usize,
    /// Exactly this many letters and digits (Mistral's own API).
    exact: Option<usize>,
    /// No id may occur twice in a conversation.
    is_unique: bool,
}

impl IdRule {
    /// That of a format: OpenAI takes 40 characters in chats and 64 in responses, Bedrock 64, Anthropic
    /// any number.
    pub fn of(format: Format) -> Self {
        let longest = match format {
            Format::Chat => 40,
            _ => 64,
        };
        Self { longest, exact: None, is_unique: format == Format::Messages }
    }

    /// That of Mistral's own API.
    pub const MISTRAL: Self = Self { longest: 9, exact: Some(9), is_unique: false };

    pub(super) fn takes(self, id: &str) -> bool {
        match self.exact {
            Some(length) => {
                id.len() == length && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
            }
            None => {
                (1..=self.longest).contains(&id.len())
                    && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
            }
        }
    }

    /// Whether the ids have to be of a form of the target's own.
    pub(super) fn is_exact(self) -> bool {
        self.exact.is_some()
    }

    /// An id that is taken, and follows from this one.
    pub(super) fn fitting(self, id: &str) -> String {
        let digest = Sha256::digest(id.as_bytes());
        let digits: String =
            digest.iter().take(DIGEST_BYTES).map(|byte| format!("{byte:02x}")).collect();
        match self.exact {
            Some(length) => digits.chars().take(length).collect(),
            None => format!("call_{digits}"),
        }
    }
}

/// The longest text that says whom a request is for, in characters (OpenAI, `safety_identifier`).
const MAX_USER: usize = 64;

/// Whom a request is for. A text that is too long, as Claude Code's is, is replaced by its digest.
pub(super) fn fitting_user(user: &str) -> Cow<'_, str> {
    if user.chars().count() <= MAX_USER {
        return user.into();
    }
    let digest = Sha256::digest(user.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

/// A call that has been seen, by the caller's id.
struct KnownCall<'a> {
    id: Cow<'a, str>,
    name: Cow<'a, str>,
    /// How many calls had this id.
    times: usize,
}

/// Gives every call and result an id that the target takes, and every result the name of its tool. Ids
/// follow from those of the caller and their order alone.
pub(super) fn fit(request: &mut Request<'_>, rule: IdRule) {
    let mut seen: HashMap<String, KnownCall<'_>> = HashMap::new();
    // Calls without an id, in order, whose results have none either.
    let (mut unnamed_calls, mut unnamed_results) = (0_usize, 0_usize);
    let unnamed = |number: usize| format!("#{number}");
    for block in request.turns.iter_mut().flat_map(|turn| &mut turn.blocks) {
        match block {
            Block::ToolCall(call) => {
                if call.id.is_empty() {
                    call.id = Cow::Owned(unnamed(unnamed_calls));
                    unnamed_calls += 1;
                }
                let key = call.id.to_string();
                let times = seen.get(&key).map_or(1, |before| before.times + 1);
                if times > 1 && rule.is_unique {
                    call.id = Cow::Owned(rule.fitting(&format!("{key}#{times}")));
                } else if !rule.takes(&call.id) {
                    call.id = Cow::Owned(rule.fitting(&key));
                }
                seen.insert(key, KnownCall { id: call.id.clone(), name: call.name.clone(), times });
            }
            Block::ToolResult(result) => {
                if result.id.is_empty() {
                    result.id = Cow::Owned(unnamed(unnamed_results));
                    unnamed_results += 1;
                }
                match seen.get(&*result.id) {
                    Some(call) => {
                        result.name = Some(call.name.clone());
                        result.id = call.id.clone();
                    }
                    None if !rule.takes(&result.id) => {
                        result.id = Cow::Owned(rule.fitting(&result.id));
                    }
                    None => {}
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::{Role, ToolCall, ToolResult, Turn};
    use super::*;

    fn call(id: &str, name: &'static str) -> Block<'static> {
        let (id, name) = (Cow::Owned(id.to_owned()), name.into());
        let call = ToolCall { id, name, arguments: "{}".into(), opaque: Vec::new(), cache: None };
        Block::ToolCall(call)
    }

    fn result(id: &str) -> Block<'static> {
        Block::ToolResult(ToolResult {
            id: Cow::Owned(id.to_owned()),
            name: None,
            content: Vec::new(),
            is_error: false,
            cache: None,
        })
    }

    /// The ids of the blocks, and the names of the results.
    fn fitted(blocks: Vec<Block<'static>>, rule: IdRule) -> Vec<String> {
        let turns = vec![Turn { role: Role::Assistant, blocks }];
        let mut request = Request { turns, ..Request::default() };
        fit(&mut request, rule);
        let blocks = request.turns.remove(0).blocks;
        let shown = blocks.into_iter().map(|block| match block {
            Block::ToolCall(call) => call.id.into_owned(),
            Block::ToolResult(result) => {
                format!("{}={}", result.id, result.name.as_deref().unwrap_or("?"))
            }
            other => panic!("{other:?}"),
        });
        shown.collect()
    }

    #[test]
    fn ids_that_fit_stay_and_results_learn_their_name() {
        let blocks =
            vec![call("call_1", "f"), call("call_2", "g"), result("call_2"), result("call_1")];
        let expected = ["call_1", "call_2", "call_2=g", "call_1=f"];
        assert_eq!(fitted(blocks, IdRule::of(Format::Chat)), expected);
        assert_eq!(fitted(vec![result("nobody")], IdRule::of(Format::Chat)), ["nobody=?"]);
    }

    #[test]
    fn ids_that_do_not_fit_are_replaced_in_pairs() {
        let long = format!("functions.get:0/{}", "x".repeat(60));
        for rule in [IdRule::of(Format::Chat), IdRule::of(Format::Messages), IdRule::MISTRAL] {
            let ids = fitted(vec![call(&long, "f"), result(&long)], rule);
            assert!(rule.takes(&ids[0]), "{ids:?}");
            assert_eq!(ids[1], format!("{}=f", ids[0]));
            assert_eq!(ids, fitted(vec![call(&long, "f"), result(&long)], rule));
        }
    }

    #[test]
    fn a_second_call_of_the_same_id_gets_its_own_where_ids_are_unique() {
        let blocks = || vec![call("a", "f"), result("a"), call("a", "g"), result("a")];
        assert_eq!(fitted(blocks(), IdRule::of(Format::Chat)), ["a", "a=f", "a", "a=g"]);
        let ids = fitted(blocks(), IdRule::of(Format::Messages));
        assert_eq!(ids[..2], ["a", "a=f"]);
        assert!(ids[2] != "a" && ids[3] == format!("{}=g", ids[2]), "{ids:?}");
    }

    #[test]
    fn calls_without_ids_are_paired_in_order() {
        let ids = fitted(
            vec![call("", "f"), call("", "g"), result(""), result("")],
            IdRule::of(Format::Messages),
        );
        assert_eq!(ids[2], format!("{}=f", ids[0]));
        assert_eq!(ids[3], format!("{}=g", ids[1]));
        assert_ne!(ids[0], ids[1]);
    }
}
