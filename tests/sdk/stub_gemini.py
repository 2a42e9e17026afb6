"""Google's formats: generateContent, plain and as events, counts of tokens, embeddings, the list of models."""
import re
import urllib.parse

import script
from stub_answer import as_events, as_json

ERRORS = {
    "bad_request": (400, "INVALID_ARGUMENT"),
    "rate_limited": (429, "RESOURCE_EXHAUSTED"),
    "overloaded": (503, "UNAVAILABLE"),
    "credential": (400, "INVALID_ARGUMENT"),
    "unknown": (404, "NOT_FOUND"),
}
EMBEDDING_USAGE = {"promptTokenCount": script.COUNTED}


def error(kind):
    status, name = ERRORS[kind]
    headers = {"retry_after": script.RETRY_AFTER} if status == 429 else {}
    told = {"code": status, "message": script.ERROR_MESSAGE, "status": name}
    if kind == "credential":
        # As Google answers to an unknown key.
        told["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
                            "domain": "googleapis.com"}]
    return as_json({"error": told}, status, **headers)


def answer(request):
    # The SDK calls `v1` unless it is told otherwise, other clients `v1beta`.
    path = re.fullmatch(r"/v1(?:beta)?/models(?:/([^/:]+):(\w+))?", urllib.parse.unquote(request.path))
    model, method = path.groups() if path else (None, None)
    query = urllib.parse.parse_qs(request.query)
    match (request.method, method):
        case ("GET", None) if path:
            listed = {"name": "models/" + script.MODELS["gemini"], "displayName": "Stub",
                      "supportedGenerationMethods": ["generateContent"]}
            return as_json({"models": [listed]})
        case ("POST", "generateContent"):
            return generate(request, model, False)
        case ("POST", "streamGenerateContent") if query.get("alt") == ["sse"]:
            return generate(request, model, True)
        case ("POST", "countTokens"):
            return as_json({"totalTokens": script.COUNTED})
        case ("POST", "embedContent"):
            return as_json({"embedding": {"values": script.EMBEDDING}, "usageMetadata": EMBEDDING_USAGE})
        case ("POST", "batchEmbedContents"):
            vectors = [{"values": script.EMBEDDING} for _ in request.body["requests"]]
            return as_json({"embeddings": vectors, "usageMetadata": EMBEDDING_USAGE})
    return error("unknown")


def generate(request, model, is_stream):
    body = request.body
    schema = body.get("generationConfig", {}).get("responseJsonSchema")
    outcome = script.outcome(request.text, bool(body.get("tools")), schema, lambda: brings_thoughts(body))
    if outcome in ERRORS:
        return error(outcome)
    parts = [{"text": text, "thought": True} for text in outcome.thought]
    signature = {"thoughtSignature": script.SIGNATURE} if outcome.thought else {}
    if outcome.words:
        parts += [{"text": word} for word in outcome.words]
    else:
        arguments, _ = script.tool_arguments(request.text)
        parts.append({"functionCall": {"name": script.TOOL, "args": arguments}, **signature})
    usage = {"promptTokenCount": script.INPUT, "cachedContentTokenCount": script.CACHED,
             "candidatesTokenCount": script.OUTPUT - script.THOUGHTS, "thoughtsTokenCount": script.THOUGHTS,
             "totalTokenCount": script.INPUT + script.OUTPUT}

    def event(parts, **more):
        candidate = {"content": {"role": "model", "parts": parts}, "index": 0, **more}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model, "responseId": "stub"}

    if not is_stream:
        return as_json(event(parts, finishReason="STOP"))
    *first, last = parts
    return as_events([*((None, event([part])) for part in first), (None, event([last], finishReason="STOP"))])


def brings_thoughts(body):
    """Gemini wants the signature with the call that it came with; the thoughts themselves it does not need."""
    parts = [part for content in body["contents"] if content["role"] == "model" for part in content["parts"]]
    return [part.get("thoughtSignature") for part in parts if "functionCall" in part] == [script.SIGNATURE]
