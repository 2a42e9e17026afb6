"""Bedrock: Converse, plain as JSON and streamed as AWS's binary events; models called in their own formats."""
import base64
import dataclasses
import json
import struct
import urllib.parse
import zlib

import script
import stub_anthropic
from stub_answer import Answer, as_json

ERRORS = {
    "bad_request": (400, "ValidationException"),
    "rate_limited": (429, "ThrottlingException"),
    "overloaded": (503, "ServiceUnavailableException"),
    "credential": (403, "UnrecognizedClientException"),
    "unknown": (404, "ResourceNotFoundException"),
}


def error(kind):
    status, name = ERRORS[kind]
    return as_json({"message": script.ERROR_MESSAGE}, status, x_amzn_errortype=name)


def answer(request):
    model = urllib.parse.quote(script.MODELS["bedrock"], safe="")
    match (request.method, request.path):
        case ("POST", path) if path in (f"/model/{model}/converse", f"/model/{model}/converse-stream"):
            return converse(request, path.endswith("-stream"))
        case ("POST", path) if path == f"/model/{model}/invoke":
            return invoke_nova(request)
    model = urllib.parse.quote(script.MODELS["bedrock claude"], safe="")
    match (request.method, request.path):
        case ("POST", path) if path == f"/model/{model}/invoke":
            return invoke_claude(request, False)
        case ("POST", path) if path == f"/model/{model}/invoke-with-response-stream":
            return invoke_claude(request, True)
    return error("unknown")


def invoke_nova(request):
    """Tells the usage in headers."""
    answered = converse(request, False)
    if answered.status == 200:
        counts = {"input": script.INPUT - script.CACHED, "cache-read-input": script.CACHED, "output": script.OUTPUT}
        answered.headers |= {f"x-amzn-bedrock-{name}-token-count": str(count) for name, count in counts.items()}
    return answered


def invoke_claude(request, is_stream):
    """Anthropic's messages; in a stream, each event is wrapped in one of AWS's."""
    body = {**request.body, "model": "claude-haiku-4-5-20251001", "stream": is_stream}
    if body.pop("anthropic_version", None) != "bedrock-2023-05-31":
        return error("bad_request")
    answered = stub_anthropic.messages(dataclasses.replace(request, text=json.dumps(body)))
    if answered.status != 200:
        return error(next(kind for kind, (status, *_) in stub_anthropic.ERRORS.items() if status == answered.status))
    if not is_stream:
        return answered
    events = [piece.split(b"data: ", 1)[1].strip() for piece in answered.pieces]
    pieces = [binary_event("chunk", {"bytes": base64.b64encode(event).decode()}) for event in events]
    return Answer(200, {"content-type": "application/vnd.amazon.eventstream"}, pieces)


def converse(request, is_stream):
    body = request.body
    structure = body.get("outputConfig", {}).get("textFormat", {}).get("structure", {})
    schema = structure.get("jsonSchema", {}).get("schema")
    outcome = script.outcome(request.text, "toolConfig" in body, schema, lambda: brings_thoughts(body))
    if outcome in ERRORS:
        return error(outcome)
    usage = {"inputTokens": script.INPUT - script.CACHED, "cacheReadInputTokens": script.CACHED,
             "cacheWriteInputTokens": 0, "outputTokens": script.OUTPUT, "totalTokens": script.INPUT + script.OUTPUT}
    blocks = [*reasoning_blocks(outcome), text_block(outcome) if outcome.words else tool_block(request.text)]
    reason = "end_turn" if outcome.words else "tool_use"
    last = {"usage": usage, "metrics": {"latencyMs": 1}}
    if not is_stream:
        message = {"role": "assistant", "content": [block for block, _, _ in blocks]}
        return as_json({"output": {"message": message}, "stopReason": reason, **last})
    events = [("messageStart", {"role": "assistant"})]
    for index, (_, start, deltas) in enumerate(blocks):
        at = {"contentBlockIndex": index}
        if start:
            events.append(("contentBlockStart", {"start": start, **at}))
        events += [("contentBlockDelta", {"delta": delta, **at}) for delta in deltas]
        events.append(("contentBlockStop", at))
    events += [("messageStop", {"stopReason": reason}), ("metadata", last)]
    pieces = [binary_event(name, payload) for name, payload in events]
    return Answer(200, {"content-type": "application/vnd.amazon.eventstream"}, pieces)


# A block of an answer, how its stream begins, if that is said, and the deltas.


def text_block(reply):
    return {"text": reply.text}, None, [{"text": word} for word in reply.words]


def tool_block(text):
    call = {"toolUseId": script.TOOL_CALL_ID, "name": script.TOOL}
    arguments, halves = script.tool_arguments(text)
    deltas = [{"toolUse": {"input": part}} for part in halves]
    return {"toolUse": {**call, "input": arguments}}, {"toolUse": call}, deltas


def reasoning_blocks(reply):
    if reply.thought:
        text = {"text": reply.reasoning, "signature": script.SIGNATURE}
        deltas = [{"reasoningContent": {"text": part}} for part in reply.thought]
        deltas.append({"reasoningContent": {"signature": script.SIGNATURE}})
        yield {"reasoningContent": {"reasoningText": text}}, None, deltas


def brings_thoughts(body):
    """The last turn of a loop begins with the thoughts as they were."""
    turns = [message["content"] for message in body["messages"] if message["role"] == "assistant"]
    text = {"text": "".join(script.THOUGHT), "signature": script.SIGNATURE}
    return turns[-1][0].get("reasoningContent") == {"reasoningText": text}


def binary_event(name, payload):
    """One message of `application/vnd.amazon.eventstream`: lengths, headers and payload, each with a CRC."""
    def header(key, value):
        # Type 7 is a string.
        return struct.pack("!B", len(key)) + key.encode() + struct.pack("!BH", 7, len(value)) + value.encode()

    headers = header(":event-type", name) + header(":content-type", "application/json")
    headers += header(":message-type", "event")
    payload = json.dumps(payload).encode()
    prelude = struct.pack("!II", 12 + len(headers) + len(payload) + 4, len(headers))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack("!I", zlib.crc32(message))
