"""Anthropic's formats: messages, counts of their tokens, the list of models."""

import script
from stub_answer import as_events, as_json

ERRORS = {
    "bad_request": (400, "invalid_request_error", {}),
    "rate_limited": (429, "rate_limit_error", {"retry_after": script.RETRY_AFTER}),
    "overloaded": (529, "overloaded_error", {}),
    "credential": (401, "authentication_error", {}),
    "unknown": (404, "not_found_error", {}),
}


def error(kind):
    status, name, headers = ERRORS[kind]
    body = {"type": "error", "error": {"type": name, "message": script.ERROR_MESSAGE}, "request_id": "req_stub"}
    return as_json(body, status, request_id="req_stub", **headers)


def answer(request):
    if "anthropic-version" not in request.headers:
        return error("bad_request")
    match (request.method, request.path):
        case ("POST", "/v1/messages"):
            return messages(request)
        case ("POST", "/v1/messages/count_tokens"):
            return as_json({"input_tokens": script.COUNTED})
        case ("GET", "/v1/models"):
            model = script.MODELS["anthropic"]
            listed = {"type": "model", "id": model, "display_name": "Stub", "created_at": "2025-10-01T00:00:00Z"}
            return as_json({"data": [listed], "has_more": False, "first_id": model, "last_id": model})
    return error("unknown")


def messages(request):
    body = request.body
    schema = (body.get("output_config") or {}).get("format", {}).get("schema")
    outcome = script.outcome(request.text, bool(body.get("tools")), schema, lambda: brings_thoughts(body))
    if outcome in ERRORS:
        return error(outcome)
    blocks = [*thinking_blocks(outcome), text_block(outcome) if outcome.words else tool_block(request.text)]
    reason = "end_turn" if outcome.words else "tool_use"
    usage = {"input_tokens": script.INPUT - script.CACHED, "cache_creation_input_tokens": 0,
             "cache_read_input_tokens": script.CACHED, "output_tokens": script.OUTPUT}
    message = {"id": "msg_stub", "type": "message", "role": "assistant", "model": body["model"],
               "content": [block for block, _, _ in blocks], "stop_reason": reason, "stop_sequence": None,
               "usage": usage}
    if not body.get("stream"):
        return as_json(message, request_id="req_stub")
    # What the beginning says of the output is no more than a start.
    start = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    events = [{"type": "message_start", "message": start}]
    for index, (_, begun, deltas) in enumerate(blocks):
        events += [
            {"type": "content_block_start", "index": index, "content_block": begun},
            {"type": "ping"},
            *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
            {"type": "content_block_stop", "index": index},
        ]
    events += [
        {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None},
         "usage": {"output_tokens": script.OUTPUT}},
        {"type": "message_stop"},
    ]
    return as_events([(event["type"], event) for event in events])


# A block of an answer, the block with which its stream begins, and the deltas of that.


def text_block(reply):
    block = {"type": "text", "text": reply.text, "citations": None}
    return block, {"type": "text", "text": ""}, [{"type": "text_delta", "text": word} for word in reply.words]


def tool_block(text):
    arguments, halves = script.tool_arguments(text)
    block = {"type": "tool_use", "id": script.TOOL_CALL_ID, "name": script.TOOL, "input": arguments}
    deltas = [{"type": "input_json_delta", "partial_json": part} for part in ("", *halves)]
    return block, {**block, "input": {}}, deltas


def thinking_blocks(reply):
    if reply.thought:
        block = {"type": "thinking", "thinking": reply.reasoning, "signature": script.SIGNATURE}
        deltas = [{"type": "thinking_delta", "thinking": part} for part in reply.thought]
        deltas.append({"type": "signature_delta", "signature": script.SIGNATURE})
        yield block, {**block, "thinking": "", "signature": ""}, deltas


def brings_thoughts(body):
    """Where Claude is to think, the last turn of a loop has to begin with the thoughts as they were."""
    if "thinking" not in body:
        return True
    turns = [message["content"] for message in body["messages"] if message["role"] == "assistant"]
    first = turns[-1][0]
    return (first["type"], first.get("thinking"), first.get("signature")) == (
        "thinking", "".join(script.THOUGHT), script.SIGNATURE)
