//! The messages of a request to a provider of chats.

use std::borrow::Cow;

use super::super::error::{ConvertError, Dropped};
use super::super::losses::{drop_phase, has_cache_mark};
use super::super::other_family::ChatReasoning;
use super::super::request::{Block, ReasoningBlock, Request, Role, ToolCall, ToolResult, Turn};
use super::message::call_entry;
use super::part_writer::{check_media, write_media, write_text};
use super::reasoning::{find_google, write_details, write_extra_content};
use crate::json::writer::JsonWriter;

/// Leaves out what messages have nothing for, and refuses what they can't do without.
pub(super) fn check_messages(
    request: &Request<'_>,
    dropped: &mut Dropped,
) -> Result<(), ConvertError> {
    if has_cache_mark(request) {
        dropped.drop("cache_control")?;
    }
    drop_phase(request, dropped)?;
    for turn in &request.turns {
        for block in &turn.blocks {
            match block {
                Block::Media(_) if turn.role != Role::User => {
                    let problem = "hold an image or a file outside of a user's message, which \
                                   this model's provider does not take";
                    return Err(ConvertError::unsupported("messages", problem));
                }
                Block::Media(media) => check_media(media)?,
                Block::ToolResult(result) => {
                    if result.is_error {
                        dropped.drop("is_error")?;
                    }
                    for block in &result.content {
                        if let Block::Media(media) = block {
                            check_media(media)?;
                        }
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

pub(super) fn write_messages(
    json: &mut JsonWriter,
    request: &Request<'_>,
    reasoning: ChatReasoning,
) {
    json.array(|json| {
        if !request.system.is_empty() {
            let texts = request.system.iter().map(|part| &*part.text).collect();
            write_texts(json, texts);
        }
        let mut turns = request.turns.as_slice();
        while let Some(first) = turns.first() {
            let run = turns.iter().take_while(|turn| turn.role == first.role).count();
            let (run, rest) = turns.split_at(run);
            turns = rest;
            match first.role {
                Role::User => write_user(json, run),
                Role::Assistant => {
                    // The results have to follow the message with the calls.
                    let is_one = run.iter().any(has_calls);
                    let length = if is_one { run.len() } else { 1 };
                    for turns in run.chunks(length) {
                        write_assistant(json, turns, reasoning);
                    }
                }
                Role::System | Role::Developer => {
                    for turn in run {
                        write_texts(json, texts(&turn.blocks));
                    }
                }
            }
        }
    });
}

fn has_calls(turn: &Turn<'_>) -> bool {
    turn.blocks.iter().any(|block| matches!(block, Block::ToolCall(_)))
}

/// The role of instructions is `system` throughout: OpenAI treats it as `developer` where a model wants
/// that, and most other providers refuse `developer`.
fn write_texts(json: &mut JsonWriter, texts: Vec<&str>) {
    json.object(|json| {
        json.key("role").string("system");
        json.key("content");
        write_text_content(json, &texts);
    });
}

fn texts<'b>(blocks: &'b [Block<'_>]) -> Vec<&'b str> {
    let text = |block: &'b Block<'_>| match block {
        Block::Text(block) => Some(&*block.text),
        Block::Refusal(text) => Some(&**text),
        _ => None,
    };
    blocks.iter().filter_map(text).collect()
}

/// One text is a string, several are parts.
fn write_text_content(json: &mut JsonWriter, texts: &[&str]) {
    match texts {
        [] => json.string(""),
        [text] => json.string(text),
        texts => json.array(|json| texts.iter().for_each(|text| write_text(json, text))),
    }
}

/// Writes what was said between two turns of others. Results come first, each as a message of its tool,
/// whose media follow in the user's message, since a tool's has texts only.
fn write_user(json: &mut JsonWriter, turns: &[Turn<'_>]) {
    let mut parts = Vec::new();
    for block in turns.iter().flat_map(|turn| &turn.blocks) {
        if let Block::ToolResult(result) = block {
            write_result(json, result);
            parts.extend(result.content.iter().filter(|block| matches!(block, Block::Media(_))));
        }
    }
    for turn in turns {
        let is_said = |block: &&Block<'_>| !matches!(block, Block::ToolResult(_));
        let mut said = turn.blocks.iter().filter(is_said).peekable();
        if said.peek().is_some() {
            parts.extend(said);
            write_user_message(json, &std::mem::take(&mut parts));
        }
    }
    if !parts.is_empty() {
        write_user_message(json, &parts);
    }
}

fn write_user_message(json: &mut JsonWriter, parts: &[&Block<'_>]) {
    json.object(|json| {
        json.key("role").string("user");
        json.key("content");
        if let [Block::Text(block)] = parts {
            return json.string(&block.text);
        }
        json.array(|json| {
            for part in parts {
                match part {
                    Block::Text(block) => write_text(json, &block.text),
                    Block::Refusal(text) => write_text(json, text),
                    Block::Media(media) => write_media(json, media),
                    _ => {}
                }
            }
        });
    });
}

fn write_result(json: &mut JsonWriter, result: &ToolResult<'_>) {
    json.object(|json| {
        json.key("role").string("tool");
        json.key("tool_call_id").string(&result.id);
        json.key("content");
        write_text_content(json, &texts(&result.content));
    });
}

/// Writes turns of the assistant as one message. A message that would say nothing is left out.
fn write_assistant(json: &mut JsonWriter, turns: &[Turn<'_>], reasoning: ChatReasoning) {
    let blocks = || turns.iter().flat_map(|turn| &turn.blocks);
    let mut text: Option<Cow<'_, str>> = None;
    let mut refusal: Option<Cow<'_, str>> = None;
    let mut calls = Vec::new();
    for block in blocks() {
        match block {
            Block::Text(block) => append(&mut text, &block.text),
            Block::Refusal(words) => append(&mut refusal, words),
            Block::ToolCall(call) => calls.push(call),
            _ => {}
        }
    }
    if text.is_none() && refusal.is_none() && calls.is_empty() {
        return;
    }
    json.object(|json| {
        json.key("role").string("assistant");
        match &text {
            Some(text) => json.key("content").string(text),
            None => json.key("content").null(),
        }
        json.optional_string("refusal", refusal.as_ref());
        let takes_details = reasoning == ChatReasoning::Details;
        if takes_details || reasoning == ChatReasoning::Text {
            write_reasoning(json, &blocks().collect::<Vec<_>>(), takes_details);
        }
        if !calls.is_empty() {
            json.key("tool_calls").array(|json| {
                calls.iter().for_each(|call| write_call(json, call, takes_details));
            });
        }
    });
}

fn append<'b>(whole: &mut Option<Cow<'b, str>>, text: &'b str) {
    match whole {
        Some(whole) => whole.to_mut().push_str(text),
        None => *whole = Some(text.into()),
    }
}

fn write_call(json: &mut JsonWriter, call: &ToolCall<'_>, takes_details: bool) {
    json.object(|json| {
        json.key("id").string(&call.id);
        json.key("type").string("function");
        json.key("function").object(|json| {
            json.key("name").string(&call.name);
            json.key("arguments").string(&call.object());
        });
        if let Some(signature) = find_google(&call.opaque).filter(|_| takes_details) {
            write_extra_content(json, signature);
        }
    });
}

/// Writes the members that carry reasoning: the text, and what proves it where that is taken.
fn write_reasoning(json: &mut JsonWriter, blocks: &[&Block<'_>], takes_details: bool) {
    let mut reasoning: Vec<(u64, &ReasoningBlock<'_>)> = Vec::new();
    let mut calls = Vec::new();
    let mut place = 0;
    let (mut has_text, mut has_refusal) = (false, false);
    let mut signature = None;
    for block in blocks {
        let has_place = match block {
            Block::Text(block) => {
                signature = find_google(&block.opaque).or(signature);
                !std::mem::replace(&mut has_text, true)
            }
            Block::Refusal(_) => !std::mem::replace(&mut has_refusal, true),
            Block::Reasoning(block) => {
                reasoning.push((place, block));
                true
            }
            Block::ToolCall(call) => {
                let signature = find_google(&call.opaque);
                calls.extend(signature.map(|signature| call_entry(place, &call.id, signature)));
                true
            }
            _ => true,
        };
        place += u64::from(has_place);
    }
    let text: String = reasoning.iter().map(|(_, block)| &*block.text).collect();
    if !text.is_empty() {
        json.key("reasoning_content").string(&text);
    }
    if !takes_details {
        return;
    }
    if !calls.is_empty() || reasoning.iter().any(|(_, block)| !block.opaque.is_empty()) {
        json.key("reasoning_details").array(|json| {
            for (index, block) in &reasoning {
                write_details(json, *index, (&block.text, block.is_summary), &block.opaque);
            }
            calls.into_iter().for_each(|call| call.write(json));
        });
    }
    if let Some(signature) = signature {
        write_extra_content(json, signature);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::opaque::{Family, Opaque, OpaqueKind};
    use super::super::super::request::{CacheMark, Media, MediaKind, MediaSource, SystemPart};
    use super::super::super::sample_blocks::{text, turn};
    use super::*;

    fn call(id: &'static str, arguments: &'static str) -> Block<'static> {
        Block::ToolCall(ToolCall {
            id: id.into(),
            name: "f".into(),
            arguments: arguments.into(),
            opaque: vec![opaque(Family::Google, OpaqueKind::Signature)],
            cache: None,
        })
    }

    fn result<'a>(id: &'static str, content: Vec<Block<'a>>) -> Block<'a> {
        let id = id.into();
        Block::ToolResult(ToolResult { id, name: None, content, is_error: false, cache: None })
    }

    fn image() -> Block<'static> {
        Block::Media(Media {
            kind: MediaKind::Image,
            source: MediaSource::Url("https://x".into()),
            name: None,
            detail: None,
            cache: None,
        })
    }

    fn opaque(family: Family, kind: OpaqueKind) -> Opaque<'static> {
        Opaque { family, kind, id: None, data: "c2ln".into() }
    }

    fn thought(words: &'static str, opaque: Vec<Opaque<'static>>) -> Block<'static> {
        Block::Reasoning(ReasoningBlock { text: words.into(), is_summary: false, opaque })
    }

    fn written(turns: Vec<Turn<'_>>, takes_reasoning: bool) -> String {
        let reasoning = if takes_reasoning { ChatReasoning::Details } else { ChatReasoning::None };
        let mut json = JsonWriter::new();
        write_messages(&mut json, &Request { turns, ..Request::default() }, reasoning);
        let json = json.finish();
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(&json).is_ok(), "{json}");
        json.replace('"', "'")
    }

    #[test]
    fn instructions_are_the_systems() {
        let part = |text: &'static str, is_developer| SystemPart {
            is_developer,
            text: text.into(),
            cache: None,
        };
        let request = Request {
            system: vec![part("a", false), part("b", true)],
            turns: vec![turn(Role::User, vec![text("c")]), turn(Role::Developer, vec![text("d")])],
            ..Request::default()
        };
        let mut json = JsonWriter::new();
        write_messages(&mut json, &request, ChatReasoning::None);
        assert_eq!(
            json.finish(),
            concat!(
                r#"[{"role":"system","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},"#,
                r#"{"role":"user","content":"c"},{"role":"system","content":"d"}]"#
            )
        );
    }

    #[test]
    fn results_come_first_and_their_media_after_all_of_them() {
        let turns = vec![
            turn(Role::Assistant, vec![call("1", "{}"), call("2", "")]),
            turn(Role::User, vec![text("b"), result("1", vec![text("x"), image()])]),
            turn(Role::User, vec![result("2", vec![])]),
            turn(Role::User, vec![result("3", vec![text("y"), text("z"), image()])]),
            turn(Role::Assistant, vec![text("c")]),
        ];
        assert_eq!(
            written(turns, false),
            concat!(
                "[{'role':'assistant','content':null,'tool_calls':[",
                "{'id':'1','type':'function','function':{'name':'f','arguments':'{}'}},",
                "{'id':'2','type':'function','function':{'name':'f','arguments':'{}'}}]},",
                "{'role':'tool','tool_call_id':'1','content':'x'},",
                "{'role':'tool','tool_call_id':'2','content':''},",
                "{'role':'tool','tool_call_id':'3','content':[{'type':'text','text':'y'},{'type':'text','text':'z'}]},",
                "{'role':'user','content':[{'type':'image_url','image_url':{'url':'https://x'}},",
                "{'type':'image_url','image_url':{'url':'https://x'}},{'type':'text','text':'b'}]},",
                "{'role':'assistant','content':'c'}]"
            )
        );
    }

    #[test]
    fn turns_with_calls_are_one_message() {
        let turns = vec![
            turn(Role::Assistant, vec![text("a")]),
            turn(Role::Assistant, vec![thought("w", vec![]), call("1", "[1]")]),
            turn(Role::Assistant, vec![text("b"), Block::Refusal("no".into())]),
        ];
        assert_eq!(
            written(turns, false),
            concat!(
                "[{'role':'assistant','content':'ab','refusal':'no','tool_calls':[{'id':'1','type':'function',",
                r"'function':{'name':'f','arguments':'{\'INVALID_JSON\':\'[1]\'}'}}]}]"
            )
        );
        let turns = vec![
            turn(Role::Assistant, vec![text("a")]),
            turn(Role::Assistant, vec![text("b")]),
            turn(Role::Assistant, vec![thought("w", vec![])]),
        ];
        assert_eq!(
            written(turns, false),
            "[{'role':'assistant','content':'a'},{'role':'assistant','content':'b'}]"
        );
    }

    #[test]
    fn reasoning_goes_back_where_it_is_wanted() {
        let signature = || vec![opaque(Family::Anthropic, OpaqueKind::Signature)];
        let turns = || {
            let blocks =
                vec![thought("w", vec![]), text("a"), thought("v", signature()), call("1", "{}")];
            vec![turn(Role::Assistant, blocks)]
        };
        assert_eq!(
            written(turns(), true),
            concat!(
                "[{'role':'assistant','content':'a','reasoning_content':'wv','reasoning_details':[",
                "{'type':'reasoning.text','text':'w','index':0},",
                "{'type':'reasoning.text','text':'v','signature':'c2ln','format':'anthropic-claude-v1','index':2},",
                "{'type':'reasoning.encrypted','data':'c2ln','id':'1','format':'google-gemini-v1','index':3}],",
                "'tool_calls':[{'id':'1','type':'function','function':{'name':'f','arguments':'{}'},",
                "'extra_content':{'google':{'thought_signature':'c2ln'}}}]}]"
            )
        );
        let plain = written(turns(), false);
        assert!(!plain.contains("reasoning") && !plain.contains("extra_content"), "{plain}");
    }

    #[test]
    fn marks_and_flags_are_left_out_and_misplaced_media_refused() {
        let mut marked = image();
        if let Block::Media(media) = &mut marked {
            media.cache = Some(CacheMark::OneHour);
        }
        let mut failed = result("1", vec![]);
        if let Block::ToolResult(result) = &mut failed {
            result.is_error = true;
        }
        let checked = |turn: Turn<'_>, is_strict| {
            let mut dropped = Dropped::new(is_strict);
            let request = Request { turns: vec![turn], ..Request::default() };
            check_messages(&request, &mut dropped).map(|()| dropped.fields().to_vec())
        };
        for (block, expected) in [(marked, "cache_control"), (failed, "is_error")] {
            let turn = turn(Role::User, vec![block]);
            assert_eq!(checked(turn.clone(), false).unwrap(), [expected]);
            assert_eq!(checked(turn, true).unwrap_err().field(), expected);
        }
        let misplaced = turn(Role::Assistant, vec![image()]);
        assert!(checked(misplaced, false).is_err());
        let video = Media {
            kind: MediaKind::Video,
            source: MediaSource::Url("https://x".into()),
            name: None,
            detail: None,
            cache: None,
        };
        let result = result("1", vec![Block::Media(video)]);
        assert!(checked(turn(Role::User, vec![result]), false).is_err());
    }
}
