"""OpenAI's formats: chat completions, responses, embeddings, the list of models. Thoughts in chats are as
DeepSeek has them."""
import base64
import json
import struct

import script
from stub_answer import as_events, as_json

ERRORS = {
    "bad_request": (400, {"type": "invalid_request_error", "param": "messages", "code": "stub_refused"}, {}),
    "rate_limited": (429, {"type": "requests", "param": None, "code": "rate_limit_exceeded"},
                {"retry_after": script.RETRY_AFTER}),
    "overloaded": (503, {"type": "server_error", "param": None, "code": None}, {}),
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
        case ("POST", "/v1/responses/input_tokens"):
            return as_json({"object": "response.input_tokens", "input_tokens": script.COUNTED})
        case ("POST", "/v1/responses/compact"):
            return compact()
        case ("POST", "/v1/embeddings"):
            return embeddings(request.body)
        case ("GET", "/v1/models"):
            models = [{"id": script.MODELS["openai"], "object": "model", "created": 1, "owned_by": "stub"}]
            return as_json({"object": "list", "data": models})
    return error("unknown")


# Chat completions


def chat_usage(reply):
    return {"prompt_tokens": script.INPUT, "completion_tokens": script.OUTPUT,
            "total_tokens": script.INPUT + script.OUTPUT,
            "prompt_tokens_details": {"cached_tokens": script.CACHED, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": reply.reasoning_tokens, "audio_tokens": 0}}


def chat(request):
    body = request.body
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
    outcome = script.outcome(request.text, bool(body.get("tools")), schema, lambda: chat_brings_thoughts(body))
    if outcome in ERRORS:
        return error(outcome)
    head = {"id": "chatcmpl-stub", "created": 1, "model": body["model"]}
    arguments, halves = script.tool_arguments(request.text)
    function = {"name": script.TOOL, "arguments": json.dumps(arguments)}
    call = {"id": script.TOOL_CALL_ID, "type": "function", "function": function}
    reason = "stop" if outcome.words else "tool_calls"
    if body.get("stream"):
        deltas = [{"reasoning_content": text} for text in outcome.thought]
        deltas += [{"content": text} for text in outcome.words] or chat_tool_deltas(call, halves)
        usage = chat_usage(outcome) if (body.get("stream_options") or {}).get("include_usage") else None
        return as_events([*chat_chunks(head, deltas, reason, usage), (None, "[DONE]")])
    message = {"role": "assistant", "content": outcome.text or None}
    if not outcome.words:
        message["tool_calls"] = [call]
    if outcome.thought:
        message["reasoning_content"] = outcome.reasoning
    choice = {"index": 0, "message": {**message, "refusal": None}, "logprobs": None, "finish_reason": reason}
    return as_json({"object": "chat.completion", **head, "choices": [choice], "usage": chat_usage(outcome)})


def chat_brings_thoughts(body):
    """DeepSeek wants the thoughts of a loop of tools back."""
    turns = [message for message in body["messages"] if message["role"] == "assistant"]
    return turns[-1].get("reasoning_content") == "".join(script.THOUGHT)


def chat_tool_deltas(call, halves):
    function = call["function"]
    yield {"tool_calls": [{"index": 0, **call, "function": {**function, "arguments": ""}}]}
    for part in halves:
        yield {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}


def chat_chunks(head, deltas, reason, usage):
    """`usage` if it was asked for."""
    def chunk(choices, value=None):
        more = {} if usage is None else {"usage": value}
        return None, {"object": "chat.completion.chunk", **head, "choices": choices, **more}

    yield chunk([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
    for delta in deltas:
        yield chunk([{"index": 0, "delta": delta, "finish_reason": None}])
    yield chunk([{"index": 0, "delta": {}, "finish_reason": reason}])
    if usage is not None:
        yield chunk([], usage)


# Responses


def responses_usage(reasoning_tokens=0):
    return {"input_tokens": script.INPUT, "input_tokens_details": {"cached_tokens": script.CACHED},
            "output_tokens": script.OUTPUT, "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
            "total_tokens": script.INPUT + script.OUTPUT}


def responses(request):
    body = request.body
    schema = ((body.get("text") or {}).get("format") or {}).get("schema")
    outcome = script.outcome(request.text, bool(body.get("tools")), schema, lambda: brings_reasoning(body))
    if outcome in ERRORS:
        return error(outcome)
    is_encrypted = "reasoning.encrypted_content" in (body.get("include") or [])
    last = message_output(outcome) if outcome.words else call_output(request.text)
    outputs = [*reasoning_outputs(outcome, is_encrypted), last]
    items = [item for item, _, _ in outputs]
    whole = {"id": "resp_stub", "object": "response", "created_at": 1, "status": "completed", "error": None,
             "incomplete_details": None, "instructions": body.get("instructions"), "metadata": {},
             "model": body["model"], "output": items, "parallel_tool_calls": True, "temperature": 1.0,
             "tool_choice": "auto", "tools": body.get("tools", []), "top_p": 1.0,
             "usage": responses_usage(outcome.reasoning_tokens)}
    if not body.get("stream"):
        return as_json(whole)
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    events = [{"type": "response.created", "response": begun}, {"type": "response.in_progress", "response": begun}]
    for index, (item, added, middle) in enumerate(outputs):
        at = {"output_index": index}
        events.append({"type": "response.output_item.added", **at, "item": added})
        events += [{"item_id": item["id"], **at, **event} for event in middle]
        events.append({"type": "response.output_item.done", **at, "item": item})
    events.append({"type": "response.completed", "response": whole})
    return as_events([(event["type"], {**event, "sequence_number": number}) for number, event in enumerate(events)])


def brings_reasoning(body):
    """OpenAI wants the reasoning as it was, right before the call that came of it."""
    items = body["input"]
    call = next(index for index, item in enumerate(items) if item.get("type") == "function_call")
    item = items[call - 1]
    return (item.get("type"), item.get("id"), item.get("encrypted_content")) == (
        "reasoning", script.REASONING_ID, script.SIGNATURE)


# An item of an answer, the item with which its stream begins, and the events between.


def message_output(reply):
    item = {"id": "msg_stub", "type": "message", "role": "assistant", "status": "completed",
            "content": [text_part(reply.text)]}
    at = {"content_index": 0}
    events = [{"type": "response.content_part.added", **at, "part": text_part("")},
              *({"type": "response.output_text.delta", **at, "delta": word, "logprobs": []} for word in reply.words),
              {"type": "response.output_text.done", **at, "text": reply.text, "logprobs": []},
              {"type": "response.content_part.done", **at, "part": text_part(reply.text)}]
    return item, {**item, "status": "in_progress", "content": []}, events


def text_part(text):
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def call_output(text):
    arguments, halves = script.tool_arguments(text)
    whole = json.dumps(arguments)
    item = {"id": "fc_stub", "type": "function_call", "call_id": script.TOOL_CALL_ID, "name": script.TOOL,
            "arguments": whole, "status": "completed"}
    events = [{"type": "response.function_call_arguments.delta", "delta": part} for part in halves]
    events.append({"type": "response.function_call_arguments.done", "name": item["name"], "arguments": whole})
    return item, {**item, "status": "in_progress", "arguments": ""}, events


def reasoning_outputs(reply, is_encrypted):
    if reply.thought:
        encrypted = {"encrypted_content": script.SIGNATURE} if is_encrypted else {}
        item = {"id": script.REASONING_ID, "type": "reasoning", "summary": [summary_part(reply.reasoning)], **encrypted}
        at = {"summary_index": 0}
        events = [{"type": "response.reasoning_summary_part.added", **at, "part": summary_part("")},
                  *({"type": "response.reasoning_summary_text.delta", **at, "delta": part} for part in reply.thought),
                  {"type": "response.reasoning_summary_text.done", **at, "text": reply.reasoning},
                  {"type": "response.reasoning_summary_part.done", **at, "part": summary_part(reply.reasoning)}]
        yield item, {**item, "summary": []}, events


def summary_part(text):
    return {"type": "summary_text", "text": text}


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
