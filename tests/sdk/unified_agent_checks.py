"""Coding agents with models of other providers on the unified paths: two turns of Claude Code with a model of
OpenAI's, and of Codex with models of Anthropic's and Google's."""
import json

import script
from agent_checks import CLAUDE_CODE_HEADERS, CODEX_HEADERS, claude_code_body, send
from registry import registry

CHECKS, check, gateway_only = registry()
QUESTION = f"{script.QUESTION} Please {script.THINK}."
ANSWER_WITH_RESULT = "".join(script.ANSWER_WITH_RESULT)
THOUGHT = "".join(script.THOUGHT)


def call(caller, path, headers, body):
    """The headers and the events of a stream, and the body that reached the provider."""
    headers = {**headers, "Authorization": "Bearer " + caller.issued["key"], "Content-Type": "application/json"}
    status, answered, text = send("POST", caller.gateway.url + path, headers, json.dumps(body).encode())
    assert status == 200, text
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    last = caller.stub.last_call()
    assert script.TOOL in last["text"] and not any(name.startswith("x-claude") for name in last["headers"]), last
    return answered, [json.loads(line) for line in lines], json.loads(last["text"])


def begins_with(later, earlier):
    """What the provider caches of a turn is the beginning of the next one."""
    assert later[:len(earlier)] == earlier and len(later) > len(earlier), (earlier, later)


# Claude Code


def message_of(events):
    """The blocks that a stream of Anthropic's adds up to, and why it ended."""
    blocks, reason = [], None
    members = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature",
               "input_json_delta": "partial_json"}
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert event["index"] == len(blocks), event
                blocks.append({**event["content_block"], "partial_json": ""})
            case "content_block_delta":
                member = members[event["delta"]["type"]]
                blocks[event["index"]][member] = blocks[event["index"]].get(member, "") + event["delta"][member]
            case "message_delta":
                reason = event["delta"]["stop_reason"]
    for block in blocks:
        if text := block.pop("partial_json"):
            block["input"] = json.loads(text)
    assert (events[0]["type"], events[-1]["type"]) == ("message_start", "message_stop"), events
    return blocks, reason


def claude_code_turn(caller, messages, hash_of_turn):
    body = {**json.loads(claude_code_body()), "model": "openai/" + script.MODELS["openai"], "messages": messages}
    body["system"][0]["text"] += f" cch={hash_of_turn};"
    _, events, sent = call(caller, "/v1/messages?beta=true", CLAUDE_CODE_HEADERS, body)
    # Claude Code's meter of the context reads the usage of the beginning and of the end.
    assert events[0]["message"]["usage"]["input_tokens"] > 0, events[0]
    usage = next(event["usage"] for event in events if event["type"] == "message_delta")
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (
        script.INPUT - script.CACHED, script.CACHED, script.OUTPUT), usage
    return *message_of(events), sent


@gateway_only
def claude_code_with_a_model_of_openai(caller):
    caller.expect_answers("openai", "messages", 2)
    cached = {"cache_control": {"type": "ephemeral"}}
    question = {"role": "user", "content": [{"type": "text", "text": QUESTION, **cached}]}
    blocks, reason, first = claude_code_turn(caller, [question], "1a2b3")
    thinking, tool = blocks
    assert (thinking["type"], thinking["thinking"], reason) == ("thinking", THOUGHT, "tool_use"), blocks
    assert (tool["type"], tool["name"], tool["input"]) == ("tool_use", script.TOOL, script.TOOL_ARGUMENTS), blocks
    result = {"type": "tool_result", "tool_use_id": tool["id"], "content": script.TOOL_RESULT, **cached}
    del question["content"][0]["cache_control"]
    turns = [question, {"role": "assistant", "content": blocks}, {"role": "user", "content": [result]}]
    blocks, reason, second = claude_code_turn(caller, turns, "4c5d6")
    assert (blocks[-1]["text"], reason) == (ANSWER_WITH_RESULT, "end_turn"), blocks
    assert first["reasoning"]["effort"] == "high" and first["store"] is False, first
    assert first["include"] == ["reasoning.encrypted_content"] and first["max_output_tokens"] == 32000, first
    assert [tool["name"] for tool in first["tools"]] == [script.TOOL, "other"], first
    assert "You are Claude Code." in json.dumps(first) and "billing-header" not in json.dumps(first), first
    begins_with(second.pop("input"), first.pop("input"))
    assert first == second, (first, second)


# Codex


def codex_turn(caller, model, given):
    body = {
        "model": model, "instructions": "You are Codex.", "input": given,
        "tools": [{"type": "function", "name": script.TOOL, "description": script.TOOL_DESCRIPTION, "strict": False,
                   "parameters": script.TOOL_PARAMETERS},
                  {"type": "function", "name": "update_plan", "description": "Updates the plan", "strict": False,
                   "parameters": {"type": "object", "properties": {"plan": {"type": "array", "items": {
                       "type": "object", "properties": {"step": {"type": "string"}}}}}, "required": ["plan"],
                       "additionalProperties": False}}],
        "tool_choice": "auto", "parallel_tool_calls": True, "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False, "stream": True, "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": CODEX_HEADERS["Session_id"], "text": {"verbosity": "low"},
    }
    headers, events, sent = call(caller, "/v1/responses", CODEX_HEADERS, body)
    assert events[-1]["type"] == "response.completed", events
    dropped = set(headers["x-tollgate-dropped"].split(","))
    assert {"prompt_cache_key", "text.verbosity"} <= dropped, dropped
    usage = events[-1]["response"]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (script.INPUT, script.OUTPUT), usage
    # What Codex keeps are the items that are done.
    return [event["item"] for event in events if event["type"] == "response.output_item.done"], sent


def kept(item):
    """An item as Codex sends it back: without its id and its status."""
    return {name: value for name, value in item.items() if name not in ("id", "status")}


def two_turns_of_codex(caller, provider):
    """The bodies that the provider got."""
    caller.expect_answers(provider, "responses", 2)
    model = f"{provider}/{script.MODELS[provider]}"
    said = [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Ask before you write."}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "<cwd>/work</cwd>"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
    ]
    items, first = codex_turn(caller, model, said)
    *reasoning, tool = items
    assert {item["type"] for item in reasoning} == {"reasoning"} and reasoning[-1]["encrypted_content"], items
    assert [part["text"] for item in reasoning for part in item["summary"]] == [THOUGHT], items
    assert (tool["type"], tool["name"], json.loads(tool["arguments"])) == (
        "function_call", script.TOOL, script.TOOL_ARGUMENTS), items
    result = {"type": "function_call_output", "call_id": tool["call_id"], "output": script.TOOL_RESULT}
    items, second = codex_turn(caller, model, [*said, *map(kept, items), result])
    assert items[-1]["content"][0]["text"] == ANSWER_WITH_RESULT, items
    return first, second


@gateway_only
def codex_with_a_model_of_anthropic(caller):
    first, second = two_turns_of_codex(caller, "anthropic")
    assert first["thinking"] == {"type": "enabled", "budget_tokens": 2048}, first
    assert first["max_tokens"] > 2048 and "You are Codex." in json.dumps(first["system"]), first
    assert [tool["name"] for tool in first["tools"]] == [script.TOOL, "update_plan"], first
    begins_with(second.pop("messages"), first.pop("messages"))
    assert first == second, (first, second)


@gateway_only
def codex_with_a_model_of_google(caller):
    first, second = two_turns_of_codex(caller, "gemini")
    assert first["generationConfig"]["thinkingConfig"] == {"thinkingBudget": 8192, "includeThoughts": True}, first
    assert "You are Codex." in json.dumps(first["systemInstruction"]), first
    [declared] = first["tools"]
    assert [one["name"] for one in declared["functionDeclarations"]] == [script.TOOL, "update_plan"], first
    begins_with(second.pop("contents"), first.pop("contents"))
    assert first == second, (first, second)
