//! Requests put into another format and back.

use super::super::request::{Block, MediaSource, Request, Role};
use super::super::{chat, messages, responses};
use super::requests::requests;
use super::{CALLERS, ToolNames, convert};
use crate::llm::format::Format;

fn read(format: Format, json: &str) -> Request<'_> {
    let request = match format {
        Format::Responses => responses::read_request(json),
        Format::Messages => messages::read_request(json),
        _ => chat::read_request(json),
    };
    request.unwrap()
}

/// What the model is told, apart from the ids of calls and its thoughts: formats differ in where a message
/// begins, and in whether a result holds its pictures.
#[derive(Debug, Default, PartialEq)]
struct Content {
    system: Vec<String>,
    texts: Vec<(bool, String)>,
    calls: Vec<(String, String)>,
    results: Vec<String>,
    media: Vec<String>,
    tools: Vec<String>,
}

fn content(request: &Request<'_>) -> Content {
    let mut told = Content::default();
    told.system.extend(request.system.iter().map(|part| part.text.to_string()));
    for turn in &request.turns {
        let (is_model, mut text) = (turn.role == Role::Assistant, String::new());
        for block in &turn.blocks {
            told.add(block, &mut text);
        }
        match told.texts.last_mut() {
            _ if text.is_empty() => {}
            Some((side, last)) if *side == is_model => last.push_str(&text),
            _ => told.texts.push((is_model, text)),
        }
    }
    told.tools.extend(request.tools.iter().map(|tool| {
        let parameters =
            tool.parameters.as_deref().filter(|schema| schema.contains("\"required\""));
        format!("{} {:?} {parameters:?} {}", tool.name, tool.description, tool.strict == Some(true))
    }));
    told
}

impl Content {
    fn add(&mut self, block: &Block<'_>, text: &mut String) {
        match block {
            Block::Text(block) => text.push_str(&block.text),
            Block::Refusal(words) => text.push_str(words),
            Block::Media(media) => {
                let source = match &media.source {
                    // A chat has documents of text among its texts.
                    MediaSource::Text(document) => return text.push_str(document),
                    MediaSource::Inline { mime, data } => format!("{mime} {data}"),
                    MediaSource::Url(url) => url.to_string(),
                };
                self.media.push(format!("{:?} {source}", media.kind));
            }
            Block::ToolCall(call) => {
                self.calls.push((call.name.to_string(), call.object().into_owned()));
            }
            Block::ToolResult(result) => {
                let mut inside = String::new();
                result.content.iter().for_each(|block| self.add(block, &mut inside));
                self.results.push(inside);
            }
            Block::Reasoning(_) => {}
        }
    }
}

#[test]
fn requests_come_back_as_they_were() {
    let mut pairs = 0;
    for (caller, stem, json) in requests() {
        for other in CALLERS.into_iter().filter(|other| *other != caller) {
            let Ok(there) = convert(&json, caller, other) else { continue };
            let is_marked = there.json.contains("<system>") || there.json.contains("text/plain");
            if is_marked || there.names != ToolNames::default() {
                continue;
            }
            let back = convert(&there.json, other, caller).unwrap();
            let before = content(&read(caller, &json));
            let after = content(&read(caller, &back.json));
            assert_eq!(after, before, "{stem} {caller:?} {other:?}\n{}\n{}", there.json, back.json);
            pairs += 1;
        }
    }
    assert!(pairs > 40, "{pairs}");
}
