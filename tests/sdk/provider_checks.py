"""What the official SDKs of OpenAI, Anthropic, Google and AWS see, each in its provider's own format."""
import json

import anthropic
import boto3
import botocore.config
import google.genai
import openai
from google.genai import errors as google_errors
from google.genai import types as google_types

import script
from registry import registry

CHECKS, check, gateway_only = registry()
ANSWER = "".join(script.ANSWER)
ANSWER_WITH_RESULT = "".join(script.ANSWER_WITH_RESULT)
FUNCTION = {"name": script.TOOL, "description": script.TOOL_DESCRIPTION, "parameters": script.TOOL_PARAMETERS}


def failure(kind, call):
    """The error that `call` raises, which has to be of this class."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


# OpenAI


def openai_client(caller, key=None):
    return openai.OpenAI(
        base_url=caller.base_url("openai") + "/v1", api_key=key or caller.key("openai"), max_retries=0, timeout=30)


def ask_openai(client, question=script.QUESTION, **fields):
    fields.setdefault("messages", [{"role": "user", "content": question}])
    return client.chat.completions.create(model=script.MODELS["openai"], **fields)


def respond(client, given=script.QUESTION, **fields):
    return client.responses.create(model=script.MODELS["openai"], input=given, **fields)


@check
def openai_chat(caller):
    caller.expect_answers("openai", "chat_completions", 3)
    client = openai_client(caller)
    plain = ask_openai(client)
    assert plain.choices[0].message.content == ANSWER
    assert (plain.usage.prompt_tokens, plain.usage.completion_tokens) == (script.INPUT, script.OUTPUT)
    assert plain.usage.prompt_tokens_details.cached_tokens == script.CACHED
    chunks = list(ask_openai(client, stream=True, stream_options={"include_usage": True}))
    words = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert tuple(word for word in words if word) == script.ANSWER, words
    assert chunks[-1].usage.prompt_tokens == script.INPUT
    # The gateway asks for the usage all the same, and keeps it to itself.
    chunks = list(ask_openai(client, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


@check
def openai_chat_with_a_tool(caller):
    caller.expect_answers("openai", "chat_completions", 3)
    client, tools = openai_client(caller), [{"type": "function", "function": FUNCTION}]
    called = ask_openai(client, tools=tools).choices[0]
    assert called.finish_reason == "tool_calls"
    call = called.message.tool_calls[0]
    assert (call.id, call.function.name) == (script.TOOL_CALL_ID, script.TOOL)
    messages = [{"role": "user", "content": script.QUESTION}, called.message,
                {"role": "tool", "tool_call_id": call.id, "content": script.TOOL_RESULT}]
    assert ask_openai(client, tools=tools, messages=messages).choices[0].message.content == ANSWER_WITH_RESULT
    parts = [chunk.choices[0].delta.tool_calls for chunk in ask_openai(client, tools=tools, stream=True)]
    arguments = "".join(part[0].function.arguments for part in parts if part)
    assert arguments == call.function.arguments, arguments


@check
def openai_responses(caller):
    caller.expect_answers("openai", "responses", 2)
    client = openai_client(caller)
    plain = respond(client)
    assert plain.output_text == ANSWER and plain.usage.input_tokens == script.INPUT
    events = list(respond(client, stream=True))
    words = tuple(event.delta for event in events if event.type == "response.output_text.delta")
    assert words == script.ANSWER, words
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage.output_tokens == script.OUTPUT


@check
def openai_responses_with_a_tool(caller):
    caller.expect_answers("openai", "responses", 3)
    client, tools = openai_client(caller), [{"type": "function", **FUNCTION}]
    call = respond(client, tools=tools).output[0]
    assert (call.type, call.name, call.call_id) == ("function_call", script.TOOL, script.TOOL_CALL_ID)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": script.TOOL_RESULT}
    given = [{"role": "user", "content": script.QUESTION}, call.to_dict(), result]
    assert respond(client, given, tools=tools).output_text == ANSWER_WITH_RESULT
    with client.responses.stream(
            model=script.MODELS["openai"], input=script.QUESTION, tools=tools) as stream:
        final = stream.get_final_response()
    assert final.output[0].arguments == call.arguments


@check
def openai_embeddings_and_models(caller):
    caller.expect_embeddings("openai", "embeddings", "0.02")
    caller.expect_free("openai", "list_models")
    client = openai_client(caller)
    answer = client.embeddings.create(model=script.EMBEDDING_MODELS["openai"], input=script.QUESTION)
    assert tuple(answer.data[0].embedding) == script.EMBEDDING and answer.usage.total_tokens == script.COUNTED
    assert [model.id for model in client.models.list()] == [script.MODELS["openai"]]


@check
def openai_errors(caller):
    caller.expect_refusals("openai", "chat_completions", 400, 429)
    caller.expect_refusals("openai", "responses", 400)
    client = openai_client(caller)
    for call in (ask_openai, respond):
        error = failure(openai.BadRequestError, lambda: call(client, script.BAD_REQUEST))
        assert error.code == "stub_refused" and error.body["message"] == script.ERROR_MESSAGE
    error = failure(openai.RateLimitError, lambda: ask_openai(client, script.RATE_LIMITED, stream=True))
    assert error.response.headers["retry-after"] == script.RETRY_AFTER


# Anthropic


def anthropic_client(caller, key=None):
    return anthropic.Anthropic(
        base_url=caller.base_url("anthropic"), api_key=key or caller.key("anthropic"), max_retries=0, timeout=30)


def anthropic_fields(question=script.QUESTION, **fields):
    messages = [{"role": "user", "content": question}]
    return {"model": script.MODELS["anthropic"], "max_tokens": 64, "messages": messages, **fields}


@check
def anthropic_messages(caller):
    caller.expect_answers("anthropic", "messages", 4)
    client = anthropic_client(caller)
    plain = client.messages.create(**anthropic_fields())
    assert plain.content[0].text == ANSWER and plain.stop_reason == "end_turn"
    assert plain.usage.input_tokens == script.INPUT - script.CACHED
    assert (plain.usage.cache_read_input_tokens, plain.usage.output_tokens) == (script.CACHED, script.OUTPUT)
    events = list(client.messages.create(**anthropic_fields(stream=True)))
    words = tuple(event.delta.text for event in events if event.type == "content_block_delta")
    assert words == script.ANSWER and events[-1].type == "message_stop"
    with client.messages.stream(**anthropic_fields()) as stream:
        assert tuple(stream.text_stream) == script.ANSWER
        assert stream.get_final_message().usage.output_tokens == script.OUTPUT
    assert client.beta.messages.create(**anthropic_fields(betas=["stub-2026-01-01"])).content[0].text == ANSWER
    assert caller.stub.last_call()["headers"]["anthropic-beta"] == "stub-2026-01-01"


@check
def anthropic_messages_with_a_tool(caller):
    caller.expect_answers("anthropic", "messages", 3)
    client = anthropic_client(caller)
    tools = [{"name": script.TOOL, "description": script.TOOL_DESCRIPTION, "input_schema": script.TOOL_PARAMETERS}]
    called = client.messages.create(**anthropic_fields(tools=tools))
    call = called.content[0]
    assert (called.stop_reason, call.name, call.input) == ("tool_use", script.TOOL, script.TOOL_ARGUMENTS)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": script.TOOL_RESULT}
    messages = [*anthropic_fields()["messages"], {"role": "assistant", "content": called.content},
                {"role": "user", "content": [result]}]
    final = client.messages.create(**anthropic_fields(tools=tools, messages=messages))
    assert final.content[0].text == ANSWER_WITH_RESULT
    with client.messages.stream(**anthropic_fields(tools=tools)) as stream:
        assert stream.get_final_message().content[0].input == script.TOOL_ARGUMENTS


@check
def anthropic_counts_and_models(caller):
    caller.expect_free("anthropic", "count_tokens", script.MODELS["anthropic"])
    caller.expect_free("anthropic", "list_models")
    client, fields = anthropic_client(caller), anthropic_fields()
    del fields["max_tokens"]
    assert client.messages.count_tokens(**fields).input_tokens == script.COUNTED
    assert [model.id for model in client.models.list()] == [script.MODELS["anthropic"]]


@check
def anthropic_errors(caller):
    caller.expect_refusals("anthropic", "messages", 400, 429)
    client = anthropic_client(caller)
    error = failure(anthropic.BadRequestError, lambda: client.messages.create(**anthropic_fields(script.BAD_REQUEST)))
    assert error.body["error"] == {"type": "invalid_request_error", "message": script.ERROR_MESSAGE}
    assert error.response.headers["request-id"] == "req_stub"
    error = failure(
        anthropic.RateLimitError, lambda: client.messages.create(**anthropic_fields(script.RATE_LIMITED, stream=True)))
    assert error.response.headers["retry-after"] == script.RETRY_AFTER


# Google


def google_client(caller, key=None):
    options = google_types.HttpOptions(base_url=caller.base_url("gemini"), timeout=30_000)
    return google.genai.Client(api_key=key or caller.key("gemini"), http_options=options)


def google_fields(contents=script.QUESTION, **config):
    return {"model": script.MODELS["gemini"], "contents": contents,
            "config": google_types.GenerateContentConfig(**config)}


@check
def google_content(caller):
    caller.expect_answers("gemini", "generate_content")
    caller.expect_answers("gemini", "stream_generate_content")
    client = google_client(caller)
    plain = client.models.generate_content(**google_fields())
    assert plain.text == ANSWER
    usage = plain.usage_metadata
    assert (usage.prompt_token_count, usage.cached_content_token_count) == (script.INPUT, script.CACHED)
    assert usage.candidates_token_count + usage.thoughts_token_count == script.OUTPUT
    chunks = list(client.models.generate_content_stream(**google_fields()))
    assert tuple(chunk.text for chunk in chunks) == script.ANSWER
    assert chunks[-1].usage_metadata.total_token_count == script.INPUT + script.OUTPUT


@check
def google_content_with_a_tool(caller):
    caller.expect_answers("gemini", "generate_content", 2)
    caller.expect_answers("gemini", "stream_generate_content")
    client = google_client(caller)
    declared = google_types.FunctionDeclaration(
        name=script.TOOL, description=script.TOOL_DESCRIPTION, parameters_json_schema=script.TOOL_PARAMETERS)
    tools = [google_types.Tool(function_declarations=[declared])]
    called = client.models.generate_content(**google_fields(tools=tools))
    call = called.function_calls[0]
    assert (call.name, call.args) == (script.TOOL, script.TOOL_ARGUMENTS)
    result = google_types.Part.from_function_response(name=script.TOOL, response={"price": script.TOOL_RESULT})
    contents = [google_types.Content(role="user", parts=[google_types.Part.from_text(text=script.QUESTION)]),
                called.candidates[0].content, google_types.Content(role="user", parts=[result])]
    assert client.models.generate_content(**google_fields(contents, tools=tools)).text == ANSWER_WITH_RESULT
    chunks = list(client.models.generate_content_stream(**google_fields(tools=tools)))
    assert chunks[0].function_calls[0].args == script.TOOL_ARGUMENTS


@check
def google_functions_called_by_the_sdk(caller):
    caller.expect_answers("gemini", "generate_content", 2)


    def price_of(bridge: str) -> str:
        """The price of a bridge"""
        assert bridge == script.TOOL_ARGUMENTS["bridge"]
        return script.TOOL_RESULT

    client = google_client(caller)
    chat = client.chats.create(
        model=script.MODELS["gemini"], config=google_types.GenerateContentConfig(tools=[price_of]))
    assert chat.send_message(script.QUESTION).text == ANSWER_WITH_RESULT


@check
def google_counts_embeddings_and_models(caller):
    caller.expect_embeddings("gemini", "batch_embed_contents", "0.15")
    caller.expect_free("gemini", "gemini_count_tokens", script.MODELS["gemini"])
    caller.expect_free("gemini", "list_models")
    client = google_client(caller)
    counted = client.models.count_tokens(model=script.MODELS["gemini"], contents=script.QUESTION)
    assert counted.total_tokens == script.COUNTED
    embedded = client.models.embed_content(model=script.EMBEDDING_MODELS["gemini"], contents=[script.QUESTION])
    assert tuple(embedded.embeddings[0].values) == script.EMBEDDING
    assert [model.name for model in client.models.list()] == ["models/" + script.MODELS["gemini"]]


@check
def google_errors_of_the_provider(caller):
    caller.expect_refusals("gemini", "generate_content", 400)
    caller.expect_refusals("gemini", "stream_generate_content", 429)
    client = google_client(caller)
    refused, limited = google_fields(script.BAD_REQUEST), google_fields(script.RATE_LIMITED)
    error = failure(google_errors.ClientError, lambda: client.models.generate_content(**refused))
    assert (error.code, error.status, error.message) == (400, "INVALID_ARGUMENT", script.ERROR_MESSAGE)
    error = failure(google_errors.ClientError, lambda: list(client.models.generate_content_stream(**limited)))
    assert (error.code, error.status) == (429, "RESOURCE_EXHAUSTED")


# AWS


def bedrock_client(caller, key=None, provider="bedrock"):
    """Signs with keys that do not exist; the gateway's key goes beside the signature.

    A bearer key (`AWS_BEARER_TOKEN_BEDROCK`) could be the gateway's, but boto3 sends it over TLS only.
    """
    client = boto3.client(
        "bedrock-runtime", endpoint_url=caller.base_url(provider), region_name="us-east-1",
        aws_access_key_id="AKIASTUB", aws_secret_access_key="stub",
        config=botocore.config.Config(retries={"total_max_attempts": 1}, read_timeout=30))

    def add_key(request, **_):
        if caller.gateway:
            request.headers["X-Api-Key"] = key or caller.key("bedrock")
        else:
            del request.headers["Authorization"]
            request.headers["Authorization"] = "Bearer " + caller.key("bedrock")

    client.meta.events.register("before-send.bedrock-runtime.*", add_key)
    return client


def bedrock_fields(question=script.QUESTION, **fields):
    messages = [{"role": "user", "content": [{"text": question}]}]
    return {"modelId": script.MODELS["bedrock"], "messages": messages,
            "inferenceConfig": {"maxTokens": 64}, **fields}


@check
def bedrock_converse(caller):
    caller.expect_answers("bedrock", "converse")
    caller.expect_answers("bedrock", "converse_stream")
    client = bedrock_client(caller)
    plain = client.converse(**bedrock_fields())
    assert plain["output"]["message"]["content"] == [{"text": ANSWER}]
    assert plain["usage"]["cacheReadInputTokens"] == script.CACHED
    events = list(client.converse_stream(**bedrock_fields())["stream"])
    deltas = [event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event]
    assert tuple(deltas) == script.ANSWER
    assert events[-1]["metadata"]["usage"]["outputTokens"] == script.OUTPUT


@check
def bedrock_converse_with_a_tool(caller):
    caller.expect_answers("bedrock", "converse", 2)
    caller.expect_answers("bedrock", "converse_stream")
    client = bedrock_client(caller)
    specification = {"name": script.TOOL, "description": script.TOOL_DESCRIPTION,
                     "inputSchema": {"json": script.TOOL_PARAMETERS}}
    tools = {"toolConfig": {"tools": [{"toolSpec": specification}]}}
    called = client.converse(**bedrock_fields(**tools))
    call = called["output"]["message"]["content"][0]["toolUse"]
    assert (called["stopReason"], call["input"]) == ("tool_use", script.TOOL_ARGUMENTS)
    result = {"toolUseId": call["toolUseId"], "content": [{"text": script.TOOL_RESULT}]}
    messages = [*bedrock_fields()["messages"], called["output"]["message"],
                {"role": "user", "content": [{"toolResult": result}]}]
    final = client.converse(**bedrock_fields(**tools, messages=messages))
    assert final["output"]["message"]["content"] == [{"text": ANSWER_WITH_RESULT}]
    events = list(client.converse_stream(**bedrock_fields(**tools))["stream"])
    started = next(event["contentBlockStart"] for event in events if "contentBlockStart" in event)
    assert started["start"]["toolUse"]["name"] == script.TOOL


@check
def bedrock_errors(caller):
    caller.expect_refusals("bedrock", "converse", 400)
    caller.expect_refusals("bedrock", "converse_stream", 429)
    client = bedrock_client(caller)
    refused = failure(client.exceptions.ValidationException,
                      lambda: client.converse(**bedrock_fields(script.BAD_REQUEST)))
    assert refused.response["Error"]["Message"] == script.ERROR_MESSAGE
    failure(client.exceptions.ThrottlingException,
            lambda: client.converse_stream(**bedrock_fields(script.RATE_LIMITED)))


@check
def bedrock_under_its_own_name(caller):
    caller.expect_answers("bedrock nova", "converse")
    caller.expect_answers("bedrock nova", "converse_stream")
    client = bedrock_client(caller, provider="bedrock nova")
    plain = client.converse(**bedrock_fields())
    assert plain["output"]["message"]["content"] == [{"text": ANSWER}]
    events = list(client.converse_stream(**bedrock_fields())["stream"])
    deltas = [event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event]
    assert tuple(deltas) == script.ANSWER
    assert events[-1]["metadata"]["usage"]["outputTokens"] == script.OUTPUT


@check
def bedrock_models_in_their_own_formats(caller):
    caller.expect_answers("bedrock nova", "invoke")
    caller.expect_answers("bedrock claude", "invoke")
    caller.expect_answers("bedrock claude", "invoke_stream")
    caller.expect_refusals("bedrock claude", "invoke", 429)
    client = bedrock_client(caller, provider="bedrock nova")
    content = [{"text": script.QUESTION}]
    asked = {"messages": [{"role": "user", "content": content}], "inferenceConfig": {"maxTokens": 64}}
    answer = client.invoke_model(modelId=script.MODELS["bedrock nova"], body=json.dumps(asked))
    assert json.load(answer["body"])["output"]["message"]["content"] == [{"text": ANSWER}]
    model = script.MODELS["bedrock claude"]

    def asking(question):
        return json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 64,
                           "messages": [{"role": "user", "content": question}]})

    answer = client.invoke_model(modelId=model, body=asking(script.QUESTION))
    assert json.load(answer["body"])["content"][0]["text"] == ANSWER
    answer = client.invoke_model_with_response_stream(modelId=model, body=asking(script.QUESTION))
    events = [json.loads(event["chunk"]["bytes"]) for event in answer["body"]]
    deltas = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    assert tuple(deltas) == script.ANSWER
    failure(client.exceptions.ThrottlingException,
            lambda: client.invoke_model(modelId=model, body=asking(script.RATE_LIMITED)))
