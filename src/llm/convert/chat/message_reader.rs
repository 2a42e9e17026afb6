//! The messages of a caller's request.

use super::super::error::ConvertError;
use super::super::fields::{Fields, Path, array, parse_object, parse_text};
use super::super::opaque::{Family, Opaque, OpaqueKind};
use super::super::request::{
    Block, ReasoningBlock, Request, Role, SystemPart, TextBlock, ToolCall, ToolResult, Turn,
};
use super::part_reader::{Speaker, cache_mark, read_content};
use super::reasoning::{Detail, google_signature, read_details, read_extra_content, split_id};

/// The field in the header of dropped fields: names of speakers.
const NAME: &str = "messages.name";

/// Reads `messages` into the request's instructions and turns.
pub(super) fn read_messages<'a>(
    request: &mut Request<'a>,
    raw: &'a str,
    path: &Path<'_>,
) -> Result<(), ConvertError> {
    let messages = array(raw, path)?;
    if messages.is_empty() {
        return Err(path.invalid("must not be empty"));
    }
    for (index, raw) in messages.into_iter().enumerate() {
        read_message(request, raw, &path.index(index))?;
    }
    Ok(())
}

fn read_message<'a>(
    request: &mut Request<'a>,
    raw: &'a str,
    path: &Path<'_>,
) -> Result<(), ConvertError> {
    let fields = Fields::parse(raw, path)?;
    let role = fields.required_text("role", path)?;
    if fields.get("name").is_some()
        && role != "tool"
        && !request.left_out.iter().any(|one| one == NAME)
    {
        request.left_out.push(NAME.into());
    }
    match &*role {
        "system" | "developer" => {
            let is_developer = role == "developer";
            let blocks = required_content(&fields, path, Speaker::System)?;
            if request.turns.is_empty() {
                let texts = blocks.into_iter().filter_map(|block| match block {
                    Block::Text(block) => Some(block),
                    _ => None,
                });
                let parts = texts.map(|TextBlock { text, cache, .. }| SystemPart {
                    is_developer,
                    text,
                    cache,
                });
                request.system.extend(parts);
            } else {
                let role = if is_developer { Role::Developer } else { Role::System };
                push_turn(request, role, blocks);
            }
        }
        "user" => {
            let blocks = required_content(&fields, path, Speaker::User)?;
            push_turn(request, Role::User, blocks);
        }
        "assistant" => {
            let blocks = read_assistant(&fields, path)?;
            push_turn(request, Role::Assistant, blocks);
        }
        "tool" => push_result(request, read_result(&fields, path)?),
        "function" => {
            let problem = "'function' is not supported by this model's provider; use 'tool'";
            return Err(path.key("role").unsupported(problem));
        }
        _ => {
            let problem = "must be 'system', 'developer', 'user', 'assistant' or 'tool'";
            return Err(path.key("role").invalid(problem));
        }
    }
    Ok(())
}

fn required_content<'a>(
    fields: &Fields<'a>,
    path: &Path<'_>,
    speaker: Speaker,
) -> Result<Vec<Block<'a>>, ConvertError> {
    let path = path.key("content");
    let raw = fields.get("content").ok_or_else(|| path.invalid("is required"))?;
    let blocks = read_content(raw, &path, speaker)?;
    match blocks.is_empty() {
        true => Err(path.invalid("must not be empty")),
        false => Ok(blocks),
    }
}

fn push_turn<'a>(request: &mut Request<'a>, role: Role, blocks: Vec<Block<'a>>) {
    if !blocks.is_empty() {
        request.turns.push(Turn { role, blocks });
    }
}

/// Results in a row are one turn.
fn push_result<'a>(request: &mut Request<'a>, result: ToolResult<'a>) {
    let result = Block::ToolResult(result);
    match request.turns.last_mut() {
        Some(Turn { role: Role::User, blocks })
            if blocks.iter().all(|block| matches!(block, Block::ToolResult(_))) =>
        {
            blocks.push(result);
        }
        _ => request.turns.push(Turn { role: Role::User, blocks: vec![result] }),
    }
}

fn read_result<'a>(fields: &Fields<'a>, path: &Path<'_>) -> Result<ToolResult<'a>, ConvertError> {
    let (id, _) = split_id(fields.required_text("tool_call_id", path)?);
    let content = match fields.get("content") {
        Some(raw) => read_content(raw, &path.key("content"), Speaker::Tool)?,
        None => Vec::new(),
    };
    let cache = cache_mark(fields, path)?;
    Ok(ToolResult { id, name: None, content, is_error: false, cache })
}

/// What was said before: reasoning where its index puts it, the text, the refusal, the calls.
fn read_assistant<'a>(
    fields: &Fields<'a>,
    path: &Path<'_>,
) -> Result<Vec<Block<'a>>, ConvertError> {
    for (field, problem) in [
        ("function_call", "is not supported by this model's provider; use 'tool_calls'"),
        ("audio", "is not supported by this model's provider"),
    ] {
        if fields.get(field).is_some() {
            return Err(path.key(field).unsupported(problem));
        }
    }
    let mut said = match fields.get("content") {
        Some(raw) => read_content(raw, &path.key("content"), Speaker::Assistant)?,
        None => Vec::new(),
    };
    said.extend(fields.text("refusal", path)?.map(Block::Refusal));
    let list = path.key("tool_calls");
    let calls = fields.array("tool_calls", path)?.into_iter().enumerate();
    let mut calls = calls
        .map(|(index, raw)| read_call(raw, &list.index(index)))
        .collect::<Result<Vec<_>, _>>()?;
    if !calls.is_empty() {
        // Some clients send an empty text with calls.
        said.retain(|block| !matches!(block, Block::Text(block) if block.text.is_empty()));
    }
    let reasoning = read_reasoning(fields, &mut calls);
    if let Some(signature) = read_extra_content(fields) {
        attach_signature(signature, &mut said, &mut calls);
    }
    said.extend(calls.into_iter().map(Block::ToolCall));
    Ok(interleave(reasoning, said))
}

fn read_call<'a>(raw: &'a str, path: &Path<'_>) -> Result<ToolCall<'a>, ConvertError> {
    let fields = Fields::parse(raw, path)?;
    if fields.text("type", path)?.is_some_and(|kind| kind != "function") {
        let problem = "is not supported by this model's provider; only calls of functions are";
        return Err(path.key("type").unsupported(problem));
    }
    let (id, id_signature) = split_id(fields.text("id", path)?.unwrap_or_default());
    let place = path.key("function");
    let raw = fields.get("function").ok_or_else(|| place.invalid("is required"))?;
    let function = Fields::parse(raw, &place)?;
    let of_lite_llm = || {
        let own = fields.object("provider_specific_fields", path).ok()??;
        parse_text(own.get("thought_signature")?)
    };
    let signature = read_extra_content(&fields)
        .or_else(|| of_lite_llm().or(id_signature).and_then(google_signature));
    Ok(ToolCall {
        id,
        name: function.required_text("name", &place)?,
        arguments: function.text("arguments", &place)?.unwrap_or_default(),
        opaque: signature.into_iter().collect(),
        cache: cache_mark(&fields, path)?,
    })
}

/// Reasoning with its index. Signatures of calls go to the calls.
fn read_reasoning<'a>(
    fields: &Fields<'a>,
    calls: &mut [ToolCall<'a>],
) -> Vec<(u64, ReasoningBlock<'a>)> {
    let mut reasoning: Vec<(Option<u64>, ReasoningBlock<'a>)> = Vec::new();
    for detail in fields.get("reasoning_details").map(read_details).unwrap_or_default() {
        if let Some(id) = &detail.call {
            if let Some(call) = calls.iter_mut().find(|call| call.id == *id)
                && call.opaque.is_empty()
            {
                call.opaque = detail.opaque;
            }
            continue;
        }
        match reasoning.last_mut() {
            Some((Some(index), before)) if detail.index == Some(*index) => {
                before.text.to_mut().push_str(&detail.text);
                before.is_summary |= detail.is_summary;
                before.opaque.extend(detail.opaque);
            }
            _ if detail.text.is_empty() && detail.opaque.is_empty() => {}
            _ => {
                let Detail { index, text, is_summary, opaque, .. } = detail;
                reasoning.push((index, ReasoningBlock { text, is_summary, opaque }));
            }
        }
    }
    let text = |key| fields.find_text(key).filter(|text| !text.is_empty());
    let whole = text("reasoning_content");
    // OpenAI's client for JavaScript keeps the last piece of a stream alone, and the signature of a part
    // of the thoughts is refused.
    let told: String = reasoning.iter().map(|(_, block)| &*block.text).collect();
    if whole.as_ref().is_some_and(|whole| *whole != told) {
        reasoning.clear();
    }
    if reasoning.is_empty() {
        reasoning.extend(read_thinking_blocks(fields).into_iter().map(|block| (None, block)));
    }
    if reasoning.is_empty() {
        let text = text("reasoning_content").or_else(|| text("reasoning"));
        reasoning.extend(
            text.map(|text| (None, ReasoningBlock { text, is_summary: false, opaque: Vec::new() })),
        );
    }
    reasoning.into_iter().map(|(index, block)| (index.unwrap_or(0), block)).collect()
}

/// LiteLLM's `thinking_blocks`: blocks as Anthropic has them.
fn read_thinking_blocks<'a>(fields: &Fields<'a>) -> Vec<ReasoningBlock<'a>> {
    let blocks = fields.array("thinking_blocks", &Path::ROOT).unwrap_or_default();
    let read = |raw: &'a str| {
        let block = parse_object(raw)?;
        let opaque = |key, kind| {
            let field = block.find_text(key)?;
            Opaque::from_field(field, Family::Anthropic, kind)
        };
        let signature = opaque("signature", OpaqueKind::Signature);
        let opaque: Vec<_> =
            signature.into_iter().chain(opaque("data", OpaqueKind::Redacted)).collect();
        let text = block.find_text("thinking").unwrap_or_default();
        let is_empty = text.is_empty() && opaque.is_empty();
        (!is_empty).then_some(ReasoningBlock { text, is_summary: false, opaque })
    };
    blocks.into_iter().filter_map(read).collect()
}

/// The signature of a whole message belongs to its text, or to the first call if there is no text.
fn attach_signature<'a>(
    signature: Opaque<'a>,
    said: &mut Vec<Block<'a>>,
    calls: &mut [ToolCall<'a>],
) {
    let text = said.iter_mut().rev().find_map(|block| match block {
        Block::Text(block) => Some(block),
        _ => None,
    });
    match (text, calls.first_mut()) {
        (Some(text), _) => text.opaque.push(signature),
        (None, Some(call)) if call.opaque.is_empty() => call.opaque.push(signature),
        (None, Some(_)) => {}
        (None, None) => {
            let opaque = vec![signature];
            said.push(Block::Text(TextBlock { opaque, ..TextBlock::default() }));
        }
    }
}

/// Puts reasoning at its index among what was said.
fn interleave<'a>(
    reasoning: Vec<(u64, ReasoningBlock<'a>)>,
    said: Vec<Block<'a>>,
) -> Vec<Block<'a>> {
    let mut blocks = Vec::with_capacity(reasoning.len() + said.len());
    let mut said = said.into_iter().peekable();
    for (index, block) in reasoning {
        while (blocks.len() as u64) < index && said.peek().is_some() {
            blocks.extend(said.next());
        }
        blocks.push(Block::Reasoning(block));
    }
    blocks.extend(said);
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(messages: &str) -> Result<Request<'_>, ConvertError> {
        let mut request = Request::default();
        read_messages(&mut request, messages, &Path::ROOT.key("messages"))?;
        Ok(request)
    }

    /// The turns, a letter for a role and for each block what it says.
    fn shown(request: &Request<'_>) -> String {
        let turns = request.turns.iter().map(|turn| {
            let blocks: Vec<String> = turn.blocks.iter().map(show).collect();
            format!("{:?}[{}]", turn.role, blocks.join(" "))
        });
        turns.collect::<Vec<_>>().join(" ")
    }

    fn show(block: &Block<'_>) -> String {
        let marks = |opaque: &[Opaque<'_>]| {
            opaque.iter().map(|one| format!("+{:?}:{}", one.family, one.data)).collect::<String>()
        };
        match block {
            Block::Text(block) => format!("{:?}{}", block.text, marks(&block.opaque)),
            Block::Refusal(text) => format!("refusal:{text}"),
            Block::Media(media) => format!("{:?}", media.kind),
            Block::ToolCall(call) => {
                format!("{}={}({}){}", call.id, call.name, call.arguments, marks(&call.opaque))
            }
            Block::ToolResult(result) => {
                let content: Vec<String> = result.content.iter().map(show).collect();
                format!("{}->{}", result.id, content.join(","))
            }
            Block::Reasoning(block) => format!("why:{}{}", block.text, marks(&block.opaque)),
        }
    }

    #[test]
    fn messages_become_turns() {
        for (messages, expected) in [
            (r#"[{"role":"user","content":"a"}]"#, r#"User["a"]"#),
            (r#"[{"role":"user","content":""}]"#, r#"User[""]"#),
            (
                r#"[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"https://x"}}]},{"role":"user","content":"b"}]"#,
                r#"User["a" Image] User["b"]"#,
            ),
            (
                r#"[{"role":"user","content":"a"},{"role":"system","content":"b"},{"role":"developer","content":[{"type":"text","text":"c"}]}]"#,
                r#"User["a"] System["b"] Developer["c"]"#,
            ),
            (
                r#"[{"role":"assistant","content":"a","refusal":"no","audio":null}]"#,
                r#"Assistant["a" refusal:no]"#,
            ),
            (
                r#"[{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":1.0}"}},{"id":"2","type":"function","function":{"name":"g","arguments":""}}]},
                    {"role":"tool","tool_call_id":"1","content":"x"},{"role":"tool","tool_call_id":"2","name":"g","content":[{"type":"text","text":"y"}]},{"role":"user","content":"b"}]"#,
                r#"Assistant[1=f({"a":1.0}) 2=g()] User[1->"x" 2->"y"] User["b"]"#,
            ),
            (
                r#"[{"role":"assistant","content":"","tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1"}]"#,
                r#"Assistant[1=f({})] User[1->]"#,
            ),
            (
                r#"[{"role":"user","content":"a"},{"role":"assistant","content":null}]"#,
                r#"User["a"]"#,
            ),
        ] {
            assert_eq!(shown(&read(messages).unwrap()), expected, "{messages}");
        }
    }

    #[test]
    fn leading_instructions_are_the_system() {
        let request = read(
            r#"[{"role":"system","content":"a"},{"role":"developer","name":"n","content":[{"type":"text","text":"b"},{"type":"text","text":"c"}]},{"role":"user","name":"m","content":"d"}]"#,
        )
        .unwrap();
        let system: Vec<_> =
            request.system.iter().map(|part| (part.is_developer, &*part.text)).collect();
        assert_eq!(system, [(false, "a"), (true, "b"), (true, "c")]);
        assert_eq!(request.left_out, [NAME]);
    }

    #[test]
    fn reasoning_comes_from_every_carrier() {
        let call = r#""tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}},{"id":"2","function":{"name":"g","arguments":"{}"}}]"#;
        for (fields, expected) in [
            (r#""content":"a","reasoning_content":"w""#.to_owned(), r#"why:w "a""#),
            (r#""content":"a","reasoning":"w""#.to_owned(), r#"why:w "a""#),
            (
                r#""content":"a","reasoning_content":"last","reasoning_details":[{"type":"reasoning.text","text":"","signature":"s","format":"anthropic-claude-v1","index":0}]"#.to_owned(),
                r#"why:last "a""#,
            ),
            (
                r#""content":"a","reasoning":"w","reasoning_content":"w","reasoning_details":[{"type":"reasoning.text","text":"w","index":0},{"type":"reasoning.text","text":"","signature":"s","format":"anthropic-claude-v1","index":0},{"type":"reasoning.encrypted","data":"r","format":"anthropic-claude-v1","index":1}]"#.to_owned(),
                r#"why:w+Anthropic:s why:+Anthropic:r "a""#,
            ),
            (
                format!(r#""content":"a","reasoning_details":[{{"text":"w","index":0}},{{"text":"v","index":2}},{{"text":"u","index":4}}],{call}"#),
                r#"why:w "a" why:v 1=f({}) why:u 2=g({})"#,
            ),
            (
                format!(r#""content":null,"reasoning_details":[{{"text":"w","index":999}}],{call}"#),
                "1=f({}) 2=g({}) why:w",
            ),
            (
                format!(r#""content":null,"reasoning_details":[{{"text":"w","index":0}},{{"type":"reasoning.encrypted","data":"s","id":"1","format":"google-gemini-v1","index":1}}],{call}"#),
                "why:w 1=f({})+Google:s 2=g({})",
            ),
            (
                format!(r#""content":null,"extra_content":{{"google":{{"thought_signature":"s"}}}},{call}"#),
                "1=f({})+Google:s 2=g({})",
            ),
            (
                r#""content":"a","extra_content":{"google":{"thought_signature":"s"}}"#.to_owned(),
                r#""a"+Google:s"#,
            ),
            (
                r#""content":null,"extra_content":{"google":{"thought_signature":"s"}}"#.to_owned(),
                r#"""+Google:s"#,
            ),
            (
                r#""content":"a","thinking_blocks":[{"type":"thinking","thinking":"w","signature":"s"},{"type":"redacted_thinking","data":"r"},3]"#.to_owned(),
                r#"why:w+Anthropic:s why:+Anthropic:r "a""#,
            ),
            (
                r#""tool_calls":[{"id":"1__thought__s","function":{"name":"f"}},{"id":"2","extra_content":{"google":{"thought_signature":"t"}},"function":{"name":"f"}},{"id":"3","provider_specific_fields":{"thought_signature":"u"},"function":{"name":"f"}}]"#.to_owned(),
                "1=f()+Google:s 2=f()+Google:t 3=f()+Google:u",
            ),
        ] {
            let messages = format!(r#"[{{"role":"assistant",{fields}}}]"#);
            let request = read(&messages).unwrap();
            assert_eq!(shown(&request), format!("Assistant[{expected}]"), "{messages}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (messages, expected) in [
            ("[]", "'messages' must not be empty"),
            ("{}", "'messages' must be an array"),
            ("[3]", "'messages[0]' must be an object"),
            (r#"[{"content":"a"}]"#, "'messages[0].role' is required"),
            (r#"[{"role":"user"}]"#, "'messages[0].content' is required"),
            (r#"[{"role":"user","content":[]}]"#, "'messages[0].content' must not be empty"),
            (r#"[{"role":"tool","content":"a"}]"#, "'messages[0].tool_call_id' is required"),
            (
                r#"[{"role":"bot","content":"a"}]"#,
                "'messages[0].role' must be 'system', 'developer', 'user', 'assistant' or 'tool'",
            ),
            (
                r#"[{"role":"assistant","tool_calls":[{"id":"1"}]}]"#,
                "'messages[0].tool_calls[0].function' is required",
            ),
        ] {
            assert_eq!(read(messages).unwrap_err().to_string(), expected, "{messages}");
        }
        for (message, field) in [
            (r#"{"role":"function","name":"f","content":"a"}"#, "role"),
            (r#"{"role":"assistant","function_call":{"name":"f"}}"#, "function_call"),
            (r#"{"role":"assistant","audio":{"id":"a"}}"#, "audio"),
            (r#"{"role":"assistant","tool_calls":[{"type":"custom"}]}"#, "tool_calls[0].type"),
        ] {
            let messages = format!("[{message}]");
            let error = read(&messages).unwrap_err();
            assert!(matches!(error, ConvertError::Unsupported { .. }));
            assert_eq!(error.field(), format!("messages[0].{field}"));
        }
    }
}
