//! Calls of OpenAI's tools that search the web and files. Each call has a fee, so each is counted once,
//! however often an answer or a stream shows it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::members::{STATE_BYTES, USAGE_BYTES, parse_object};
use crate::domain::pricing::ToolCalls;
use crate::json::array::ArrayElements;
use crate::json::scanner::{Keep, MemberNames, TopLevelScanner};

/// The most calls of one answer that are counted.
const MAX_CALLS: usize = 4096;

/// How much of an item's id is kept.
const ID_BYTES: usize = 300;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum SearchTool {
    Web,
    Files,
}

/// One call, as an event or an answer shows it.
#[derive(Debug, Clone, Copy)]
pub(in crate::llm) struct SearchCall {
    tool: SearchTool,
    /// The hash of the item's id, or of its place if it has no id.
    id: u64,
    is_charged: bool,
    /// Whether the item itself was read. An event about it does not say what the call did.
    is_item: bool,
}

/// The members of an item of the output, raw.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Item<'a> {
    #[serde(borrow)]
    r#type: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    status: Option<&'a RawValue>,
    action: Option<&'a RawValue>,
}

/// The members of an event that may show calls.
#[derive(Default, Deserialize)]
#[serde(default)]
struct SearchEvent<'a> {
    #[serde(borrow)]
    item_id: Option<&'a RawValue>,
    output_index: Option<&'a RawValue>,
    item: Option<&'a RawValue>,
    response: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer<'a> {
    #[serde(borrow)]
    output: Vec<&'a RawValue>,
}

impl SearchCall {
    /// The calls that an event shows as ended.
    pub(in crate::llm) fn in_event(name: &str, data: &[u8]) -> Vec<Self> {
        let event = || parse_object::<SearchEvent<'_>>(data).unwrap_or_default();
        let ended = |tool| {
            let SearchEvent { item_id, output_index, .. } = event();
            let id = id_of(item_id, output_index.map_or("", RawValue::get));
            vec![Self { tool, id, is_charged: true, is_item: false }]
        };
        match name {
            "response.web_search_call.completed" => ended(SearchTool::Web),
            "response.file_search_call.completed" => ended(SearchTool::Files),
            "response.output_item.done" if mentions_search(data) => {
                let SearchEvent { item, output_index, .. } = event();
                let place = output_index.map_or("", RawValue::get);
                item.and_then(|item| Self::of_raw_item(item, place)).into_iter().collect()
            }
            "response.completed" | "response.incomplete" | "response.failed"
                if mentions_search(data) =>
            {
                let answer = event().response;
                let answer = answer.and_then(|raw| parse_object(raw.get().as_bytes()));
                let Answer { output } = answer.unwrap_or_default();
                let items = output.into_iter().enumerate();
                items
                    .filter_map(|(place, item)| Self::of_raw_item(item, &place.to_string()))
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    fn of_raw_item(item: &RawValue, place: &str) -> Option<Self> {
        let Item { r#type, id, status, action } = parse_object(item.get().as_bytes())?;
        let [r#type, status, action] = [r#type, status, action].map(|raw| raw.map(RawValue::get));
        Self::of_item(r#type?, id_of(id, place), status, action)
    }

    /// An item of the output, its members as raw JSON; none if it is of another kind.
    fn of_item(kind: &str, id: u64, status: Option<&str>, action: Option<&str>) -> Option<Self> {
        let (tool, is_search) = match kind {
            // The tool opens pages and looks for words in them, too.
            r#""web_search_call""# => (SearchTool::Web, action.is_none_or(is_search)),
            r#""file_search_call""# => (SearchTool::Files, true),
            _ => return None,
        };
        let is_charged = is_search && status != Some(r#""failed""#);
        Some(Self { tool, id, is_charged, is_item: true })
    }
}

fn id_of(id: Option<&RawValue>, place: &str) -> u64 {
    hash(id.map(RawValue::get).filter(|id| *id != "null").unwrap_or(place))
}

fn hash(raw_id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    raw_id.hash(&mut hasher);
    hasher.finish()
}

fn mentions_search(data: &[u8]) -> bool {
    memchr::memmem::find(data, b"_search_call\"").is_some()
}

/// Whether the action of a call is a search, which it is if it does not say what it is.
fn is_search(action: &str) -> bool {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Action<'a> {
        #[serde(borrow)]
        r#type: Option<&'a RawValue>,
    }
    let Action { r#type } = parse_object(action.as_bytes()).unwrap_or_default();
    r#type.is_none_or(|kind| matches!(kind.get(), r#""search""# | "null"))
}

/// The calls of one answer.
#[derive(Debug, Default)]
pub(super) struct SearchCalls {
    known: HashMap<(SearchTool, u64), SearchCall>,
    /// Those that have a fee.
    charged: ToolCalls,
}

impl SearchCalls {
    /// Takes in a call. What its item says replaces what was known of it.
    pub(super) fn note(&mut self, call: SearchCall) {
        let has_room = self.known.len() < MAX_CALLS;
        let counter = match call.tool {
            SearchTool::Web => &mut self.charged.web_searches,
            SearchTool::Files => &mut self.charged.file_searches,
        };
        match self.known.entry((call.tool, call.id)) {
            Entry::Occupied(mut known) if call.is_item => {
                let before = known.insert(call);
                *counter = *counter - u64::from(before.is_charged) + u64::from(call.is_charged);
            }
            Entry::Vacant(entry) if has_room => {
                entry.insert(call);
                *counter += u64::from(call.is_charged);
            }
            Entry::Occupied(_) | Entry::Vacant(_) => {}
        }
    }

    /// How many have a fee.
    pub(super) fn count(&self) -> ToolCalls {
        self.charged
    }
}

/// What is read of an item.
const ITEM: Keep = Keep {
    names: &MemberNames { usage: "action", ..MemberNames::USUAL },
    // A longer action is a search with what it found.
    usage: USAGE_BYTES,
    model: 0,
    id: ID_BYTES,
    choices: 0,
    kind: STATE_BYTES,
    state: STATE_BYTES,
    response: false,
};

/// Reads the items of a plain answer's output as they pass, in constant memory.
#[derive(Debug)]
pub(super) struct OutputItems {
    elements: ArrayElements,
    /// The item that has begun.
    item: TopLevelScanner,
    /// Its place in the array.
    place: u64,
    calls: SearchCalls,
}

impl OutputItems {
    pub(super) fn new() -> Self {
        Self {
            elements: ArrayElements::default(),
            item: TopLevelScanner::new(ITEM),
            place: 0,
            calls: SearchCalls::default(),
        }
    }

    /// Takes the next part of the array.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while let Some(part) = self.elements.next(bytes, &mut at) {
            self.item.feed(part.bytes);
            if part.is_last {
                let item = std::mem::replace(&mut self.item, TopLevelScanner::new(ITEM));
                let id = item.id.value().filter(|id| *id != "null");
                let id = id.map_or_else(|| hash(&self.place.to_string()), hash);
                self.place += 1;
                let kind = item.kind.value().unwrap_or_default();
                let call = SearchCall::of_item(kind, id, item.status.value(), item.usage.value());
                call.into_iter().for_each(|call| self.calls.note(call));
            }
        }
    }

    /// How many calls have passed that have a fee.
    pub(super) fn count(&self) -> ToolCalls {
        self.calls.count()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOTHING: ToolCalls = ToolCalls::NONE;
    const ONE_SEARCH: ToolCalls = ToolCalls { web_searches: 1, ..ToolCalls::NONE };

    /// The calls of a plain answer with this output, and of a stream that ends with it.
    fn in_output(output: &Value) -> (ToolCalls, ToolCalls) {
        let [plain, others @ ..] = [1, 7, 10_000].map(|size| {
            let mut items = OutputItems::new();
            output.to_string().as_bytes().chunks(size).for_each(|chunk| items.feed(chunk));
            items.count()
        });
        assert_eq!(others, [plain; 2], "{output}");
        let end = json!({"response": {"id": "resp_1", "output": output}});
        (plain, in_events(&[("response.completed", end)]))
    }

    fn in_events(events: &[(&str, Value)]) -> ToolCalls {
        let mut calls = SearchCalls::default();
        for (name, event) in events {
            let shown = SearchCall::in_event(name, event.to_string().as_bytes());
            shown.into_iter().for_each(|call| calls.note(call));
        }
        calls.count()
    }

    fn web(id: &str, status: &str, action: Value) -> Value {
        json!({"type": "web_search_call", "id": id, "status": status, "action": action})
    }

    #[test]
    fn searches_have_a_fee_and_other_actions_have_none() {
        let search = json!({"type": "search", "query": "a \"web_search_call\"", "sources": []});
        let text = json!({"type": "message", "id": "m",
            "content": [{"type": "web_search_call", "id": "x"}]});
        let both = ToolCalls { web_searches: 2, file_searches: 1 };
        for (output, expected) in [
            (json!([]), NOTHING),
            (json!([text]), NOTHING),
            (json!([web("1", "completed", search.clone()), text]), ONE_SEARCH),
            (json!([web("1", "completed", Value::Null)]), ONE_SEARCH),
            (json!([{"type": "web_search_call", "id": "1"}]), ONE_SEARCH),
            (json!([web("1", "completed", json!({"query": "a"}))]), ONE_SEARCH),
            (json!([web("1", "completed", json!({"type": "open_page", "url": "a"}))]), NOTHING),
            (json!([web("1", "completed", json!({"type": "find_in_page"}))]), NOTHING),
            (json!([web("1", "failed", search.clone())]), NOTHING),
            (json!([{"type": "file_search_call", "id": "1", "status": "failed"}]), NOTHING),
            (
                json!([
                    web("1", "completed", search.clone()),
                    web("1", "completed", search.clone())
                ]),
                ONE_SEARCH,
            ),
            (
                json!([web("1", "completed", search.clone()), {"type": "file_search_call", "id": "1",
                    "results": [{"text": "}]"}]}, web("2", "completed", search.clone())]),
                both,
            ),
            // Without ids their places tell them apart.
            (
                json!([{"type": "web_search_call"}, {"type": "web_search_call", "id": null},
                    {"type": "file_search_call"}]),
                both,
            ),
        ] {
            assert_eq!(in_output(&output), (expected, expected), "{output}");
        }
    }

    #[test]
    fn a_search_with_many_sources_has_a_fee() {
        let sources = vec![json!({"type": "url", "url": "https://example.com"}); 1000];
        let action = json!({"type": "search", "sources": sources});
        let output = json!([web("1", "completed", action)]);
        assert_eq!(in_output(&output).0, ONE_SEARCH);
    }

    #[test]
    fn a_call_in_a_stream_counts_once() {
        let ended =
            || ("response.web_search_call.completed", json!({"item_id": "1", "output_index": 0}));
        let done = |kind: &str| {
            let item = web("1", "completed", json!({"type": kind}));
            ("response.output_item.done", json!({"output_index": 0, "item": item}))
        };
        let end = |kind: &str| {
            let output = json!([web("1", "completed", json!({"type": kind}))]);
            ("response.completed", json!({"response": {"output": output}}))
        };
        let added = json!({"item": web("1", "in_progress", Value::Null)});
        let without_id = json!({"output_index": 0, "item": {"type": "web_search_call"}});
        for (events, expected) in [
            (vec![ended()], ONE_SEARCH),
            (vec![ended(), ended()], ONE_SEARCH),
            (vec![done("search")], ONE_SEARCH),
            (vec![end("search")], ONE_SEARCH),
            (vec![ended(), done("search"), end("search")], ONE_SEARCH),
            (vec![ended(), done("open_page"), end("open_page")], NOTHING),
            (vec![done("open_page"), ended()], NOTHING),
            (vec![("response.output_item.added", added)], NOTHING),
            (vec![("response.web_search_call.searching", json!({"item_id": "1"}))], NOTHING),
            (
                vec![
                    ("response.web_search_call.completed", json!({"output_index": 0})),
                    ("response.output_item.done", without_id),
                ],
                ONE_SEARCH,
            ),
            (vec![("response.output_text.delta", json!({"delta": "_search_call\""}))], NOTHING),
        ] {
            assert_eq!(in_events(&events), expected, "{events:?}");
        }
        let files = [("response.file_search_call.completed", json!({"item_id": "1"}))];
        assert_eq!(in_events(&files), ToolCalls { file_searches: 1, ..NOTHING });
    }

    #[test]
    fn memory_for_calls_is_bounded() {
        let mut calls = SearchCalls::default();
        for id in 0..2 * MAX_CALLS as u64 {
            calls.note(SearchCall { tool: SearchTool::Web, id, is_charged: true, is_item: true });
        }
        assert_eq!(calls.count().web_searches, MAX_CALLS as u64);
    }
}
