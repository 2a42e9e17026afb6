"""Coding agents as they speak on the wire: paths, headers and bodies of Claude Code and of Codex."""
import json
import urllib.error
import urllib.request

import zstandard

import script
from registry import registry

CHECKS, check, gateway_only = registry()

CLAUDE_CODE_HEADERS = {
    "Accept": "application/json",
    "Anthropic-Beta": "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27",
    "Anthropic-Dangerous-Direct-Browser-Access": "true",
    "Anthropic-Version": "2023-06-01",
    "User-Agent": "claude-cli/2.1.0 (external, cli)",
    "X-App": "cli",
    "X-Claude-Code-Session-Id": "3a1c0e9e-5a0c-4c55-9d8e-0a2d5f0e7c11",
    "X-Claude-Code-Agent-Id": "agent-2",
    "X-Claude-Code-Parent-Agent-Id": "agent-1",
    "X-Stainless-Lang": "js",
}
CODEX_HEADERS = {
    "Accept": "text/event-stream",
    "OpenAI-Beta": "responses=experimental",
    "Originator": "codex_cli_rs",
    "Session_id": "0199c0de-0000-7000-8000-000000000001",
    "User-Agent": "codex_cli_rs/0.60.0",
}


def send(method, url, headers, body=b""):
    """Status, headers and text of the answer, whatever the status is."""
    request = urllib.request.Request(url, data=body or None, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


def event_names(text):
    return [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]


# Claude Code


def claude_code_body(question=script.QUESTION):
    """With members that only newer models and beta headers have. The indentation shows whether it was rewritten."""
    text = {"type": "text", "text": question, "cache_control": {"type": "ephemeral"}}
    edits = [{"type": "clear_thinking_20251015", "keep": "all"}]
    tool = {"name": script.TOOL, "description": script.TOOL_DESCRIPTION, "input_schema": script.TOOL_PARAMETERS}
    return json.dumps({
        "model": script.MODELS["anthropic"], "max_tokens": 32000, "stream": True,
        "system": [{"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.0; cc_entrypoint=cli;"},
                   {"type": "text", "text": "You are Claude Code.", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [text]}],
        "tools": [{**tool, "strict": True}, {**tool, "name": "other", "defer_loading": True}],
        "thinking": {"type": "adaptive"}, "context_management": {"edits": edits},
        "output_config": {"effort": "high"}, "metadata": {"user_id": "user_1_account__session_2"},
    }, indent=1)


def claude_code(caller, method, path, body="", **headers):
    headers = {**CLAUDE_CODE_HEADERS, "Content-Type": "application/json", **headers}
    return send(method, caller.base_url("anthropic") + path, headers, body.encode())


@check
def claude_code_messages(caller):
    key, body = caller.key("anthropic"), claude_code_body()
    # ANTHROPIC_AUTH_TOKEN, ANTHROPIC_API_KEY, and an apiKeyHelper, which sends both.
    ways = [{"Authorization": f"Bearer {key}"}, {"X-Api-Key": key},
            {"Authorization": f"Bearer {key}", "X-Api-Key": key}]
    for credentials in ways if caller.gateway else ways[1:]:
        caller.expect_answers("anthropic", "messages")
        status, _, text = claude_code(caller, "POST", "/v1/messages?beta=true", body, **credentials)
        assert status == 200, text
        names = event_names(text)
        assert (names[0], names[-1]) == ("message_start", "message_stop") and "ping" in names, names
        call = caller.stub.last_call()
        assert call["target"] == "/anthropic/v1/messages?beta=true" and call["text"] == body, call
        for name, value in CLAUDE_CODE_HEADERS.items():
            # Of these the gateway knows nothing.
            assert name == "X-App" or call["headers"].get(name.lower()) == value, name


@check
def claude_code_counts_and_models(caller):
    caller.expect_free("anthropic", "count_tokens", script.MODELS["anthropic"])
    caller.expect_free("anthropic", "list_models")
    credentials = {"X-Api-Key": caller.key("anthropic")}
    body = json.loads(claude_code_body())
    del body["max_tokens"], body["stream"]
    status, _, text = claude_code(
        caller, "POST", "/v1/messages/count_tokens?beta=true", json.dumps(body), **credentials)
    assert (status, json.loads(text)) == (200, {"input_tokens": script.COUNTED}), text
    status, _, text = claude_code(caller, "GET", "/v1/models?limit=1000", **credentials)
    listed = json.loads(text)["data"]
    assert status == 200 and [model["id"] for model in listed if "claude" in model["id"] and model["display_name"]]
    assert caller.stub.last_call()["target"] == "/anthropic/v1/models?limit=1000"


@check
def claude_code_reads_errors_as_the_provider_wrote_them(caller):
    caller.expect_refusals("anthropic", "messages", 400, 429)
    credentials = {"X-Api-Key": caller.key("anthropic")}
    url = caller.stub.url + "/anthropic/v1/messages?beta=true"
    for question in (script.BAD_REQUEST, script.RATE_LIMITED):
        body = claude_code_body(question)
        status, headers, text = claude_code(caller, "POST", "/v1/messages?beta=true", body, **credentials)
        own = send("POST", url, {"anthropic-version": "2023-06-01", "x-api-key": caller.stub.key("anthropic")},
                   body.encode())
        assert (status, text) == (own[0], own[2]), text
        assert headers["retry-after"] == own[1]["retry-after"]


@gateway_only
def claude_code_looks_whether_anybody_is_there(caller):
    before = len(caller.stub.recorded()["calls"])
    for path in ("/", "/api/hello", "/anthropic", "/anthropic/", "/anthropic/api/hello"):
        status, _, text = send("HEAD", caller.gateway.url + path, {})
        assert (status, text) == (200, ""), path
    assert len(caller.stub.recorded()["calls"]) == before


# Codex


def codex_body():
    return json.dumps({
        "model": script.MODELS["openai"], "instructions": "You are Codex.",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": script.QUESTION}]}],
        "tools": [{"type": "function", "name": script.TOOL, "description": script.TOOL_DESCRIPTION, "strict": False,
                   "parameters": script.TOOL_PARAMETERS}],
        "tool_choice": "auto", "parallel_tool_calls": False, "reasoning": None, "store": False, "stream": True,
        "include": ["reasoning.encrypted_content"], "prompt_cache_key": CODEX_HEADERS["Session_id"],
    }, indent=1)


def codex(caller, method, path, body=b"", **headers):
    headers = {**CODEX_HEADERS, "Authorization": "Bearer " + caller.key("openai"),
               "Content-Type": "application/json", **headers}
    return send(method, caller.base_url("openai") + "/v1" + path, headers, body)


@gateway_only
def codex_responses_plain_and_compressed(caller):
    caller.expect_answers("openai", "responses", 2)
    body = codex_body()
    compressed = zstandard.ZstdCompressor().compress(body.encode())
    for sent, coding in ((body.encode(), {}), (compressed, {"Content-Encoding": "zstd"})):
        status, _, text = codex(caller, "POST", "/responses", sent, **coding)
        assert status == 200, text
        assert event_names(text)[-1] == "response.completed", text
        call = caller.stub.last_call()
        assert call["text"] == body and "content-encoding" not in call["headers"], call
        for name in ("OpenAI-Beta", "User-Agent", "Accept"):
            assert call["headers"].get(name.lower()) == CODEX_HEADERS[name], name


@check
def codex_compaction(caller):
    caller.expect_answers("openai", "compact_response")
    body = {"model": script.MODELS["openai"], "instructions": "You are Codex.",
            "input": [{"type": "message", "role": "user", "content": script.QUESTION}]}
    status, _, text = codex(caller, "POST", "/responses/compact", json.dumps(body).encode())
    assert status == 200 and json.loads(text)["output"][0]["type"] == "compaction", text


@check
def codex_asks_for_models(caller):
    """Codex wants `models[].slug`, and continues without where it gets OpenAI's list."""
    caller.expect_free("openai", "list_models")
    status, _, text = codex(caller, "GET", "/models?client_version=0.60.0")
    assert status == 200 and json.loads(text)["data"], text
    assert caller.stub.last_call()["target"] == "/openai/v1/models?client_version=0.60.0"
