"""OpenAI's formats: chat completions, responses, embeddings, the list of models."""
import base64
import json
import struct

import script
from stub_answer import as_events, as_json

ERRORS = {
    "bad_request": (400, {"type": "invalid_request_error", "param": "messages", "code": "stub_refused"}, {}),
    "rate_limited": (429, {"type": "requests", "param": None, "code": "rate_limit_exceeded"},
                {"retry_after": script.RETRY_AFTER}),
    "credential": (401, {"type": "invalid_request_error", "param": None, "code": "invalid_api_key"}, {}),
    "unknown": (404, {"type": "invalid_request_error", "param": None, "code": "not_found"}, {}),
}


def error(kind):
    status, more, headers = ERRORS[kind]
    return as_json({"error": {"message": script.ERROR_MESSAGE, **more}}, status, **headers)


def answer(request):
    # Fireworks has its API below `/inference`.
    match (request.method, request.path.removeprefix("/inference")):
        case ("POST", "/v1/chat/completions"):
            return chat(request)
        case ("POST", "/v1/responses"):
            return responses(request)
        case ("POST", "/v1/responses/compact"):
            return compact()
        case ("POST", "/v1/embeddings"):
            return embeddings(request.body)
        case ("GET", "/v1/models"):
            models = [{"id": script.MODELS["openai"], "object": "model", "created": 1, "owned_by": "stub"}]
            return as_json({"object": "list", "data": models})
    return error("unknown")


# Chat completions


def chat_usage():
    return {"prompt_tokens": script.INPUT, "completion_tokens": script.OUTPUT,
            "total_tokens": script.INPUT + script.OUTPUT,
            "prompt_tokens_details": {"cached_tokens": script.CACHED, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0}}


def chat(request):
    body = request.body
    outcome = script.outcome(request.text, "tools" in body)
    if outcome in ERRORS:
        return error(outcome)
    head = {"id": "chatcmpl-stub", "created": 1, "model": body["model"]}
    arguments, halves = script.tool_arguments(request.text)
    function = {"name": script.TOOL, "arguments": json.dumps(arguments)}
    call = {"id": script.TOOL_CALL_ID, "type": "function", "function": function}
    reason = "tool_calls" if outcome == "tool_call" else "stop"
    if body.get("stream"):
        deltas = chat_tool_deltas(call, halves) if outcome == "tool_call" else [{"content": text} for text in outcome]
        return as_events([*chat_chunks(head, deltas, reason, body.get("stream_options")), (None, "[DONE]")])
    if outcome == "tool_call":
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    else:
        message = {"role": "assistant", "content": "".join(outcome)}
    choice = {"index": 0, "message": {**message, "refusal": None}, "logprobs": None, "finish_reason": reason}
    return as_json({"object": "chat.completion", **head, "choices": [choice], "usage": chat_usage()})


def chat_tool_deltas(call, halves):
    function = call["function"]
    yield {"tool_calls": [{"index": 0, **call, "function": {**function, "arguments": ""}}]}
    for part in halves:
        yield {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}


def chat_chunks(head, deltas, reason, options):
    wants_usage = (options or {}).get("include_usage")

    def chunk(choices, usage=None):
        more = {"usage": usage} if wants_usage else {}
        return None, {"object": "chat.completion.chunk", **head, "choices": choices, **more}

    yield chunk([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
    for delta in deltas:
        yield chunk([{"index": 0, "delta": delta, "finish_reason": None}])
    yield chunk([{"index": 0, "delta": {}, "finish_reason": reason}])
    if wants_usage:
        yield chunk([], chat_usage())


# Responses


def responses_usage():
    return {"input_tokens": script.INPUT, "input_tokens_details": {"cached_tokens": script.CACHED},
            "output_tokens": script.OUTPUT, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": script.INPUT + script.OUTPUT}


def responses(request):
    body = request.body
    outcome = script.outcome(request.text, "tools" in body)
    if outcome in ERRORS:
        return error(outcome)
    arguments, halves = script.tool_arguments(request.text)
    if outcome == "tool_call":
        item = {"id": "fc_stub", "type": "function_call", "call_id": script.TOOL_CALL_ID, "name": script.TOOL,
                "arguments": json.dumps(arguments), "status": "completed"}
    else:
        item = {"id": "msg_stub", "type": "message", "role": "assistant", "status": "completed",
                "content": [text_part("".join(outcome))]}
    whole = {"id": "resp_stub", "object": "response", "created_at": 1, "status": "completed", "error": None,
             "incomplete_details": None, "instructions": body.get("instructions"), "metadata": {},
             "model": body["model"], "output": [item], "parallel_tool_calls": True, "temperature": 1.0,
             "tool_choice": "auto", "tools": body.get("tools", []), "top_p": 1.0,
             "usage": responses_usage()}
    if not body.get("stream"):
        return as_json(whole)
    middle = arguments_events(item, halves) if outcome == "tool_call" else text_events(item, outcome)
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    events = [{"type": "response.created", "response": begun}, {"type": "response.in_progress", "response": begun},
              *middle, {"type": "response.output_item.done", "output_index": 0, "item": item},
              {"type": "response.completed", "response": whole}]
    return as_events([(event["type"], {**event, "sequence_number": number}) for number, event in enumerate(events)])


def text_part(text):
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def text_events(item, words):
    begun = {**item, "status": "in_progress", "content": []}
    yield {"type": "response.output_item.added", "output_index": 0, "item": begun}
    at = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    yield {"type": "response.content_part.added", **at, "part": text_part("")}
    for word in words:
        yield {"type": "response.output_text.delta", **at, "delta": word, "logprobs": []}
    text = "".join(words)
    yield {"type": "response.output_text.done", **at, "text": text, "logprobs": []}
    yield {"type": "response.content_part.done", **at, "part": text_part(text)}


def arguments_events(item, halves):
    begun = {**item, "status": "in_progress", "arguments": ""}
    yield {"type": "response.output_item.added", "output_index": 0, "item": begun}
    at = {"item_id": item["id"], "output_index": 0}
    for part in halves:
        yield {"type": "response.function_call_arguments.delta", **at, "delta": part}
    done = {"name": item["name"], "arguments": item["arguments"]}
    yield {"type": "response.function_call_arguments.done", **at, **done}


def compact():
    item = {"id": "cmp_stub", "type": "compaction", "encrypted_content": "stub"}
    return as_json({"id": "resp_stub", "object": "response.compaction", "created_at": 1, "output": [item],
                    "usage": responses_usage()})


# Embeddings


def embeddings(body):
    vector = list(script.EMBEDDING)
    if body.get("encoding_format") == "base64":
        vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(len(inputs))]
    usage = {"prompt_tokens": script.COUNTED, "total_tokens": script.COUNTED}
    return as_json({"object": "list", "model": body["model"], "data": data, "usage": usage})
