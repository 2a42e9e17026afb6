"""Tools of guarded callers get the real value, in the official SDKs of each provider, plain and streamed."""
import json
import re

from google.genai import types as google_types

import script
from provider_checks import (FUNCTION, anthropic_client, anthropic_fields, ask_openai, bedrock_client, bedrock_fields,
                             google_client, google_fields, openai_client, respond)
from registry import registry

CHECKS, check, gateway_only = registry()
VALUE = "tower.keeper@example.org"
QUESTION = f"What does the bridge of {VALUE} cost?"


def guard(caller):
    """Replaces personal data in all that this caller sends."""
    caller.gateway.call("POST", "gateway-policies", {
        "name": f"guard of {caller.name}", "policy_type": "guard",
        "subject_matchers": [{"key": "api_key_id", "value": caller.issued["id"]}],
        "config": {"version": 1, "detect": {"pii": True}, "action": "redact", "timeout_seconds": 30}})


def assert_hidden(caller):
    sent = caller.stub.last_call()["text"]
    assert re.search(script.PLACEHOLDER, sent) and VALUE not in sent, sent


@gateway_only
def openai_tools_get_the_value(caller):
    caller.expect_answers("openai", "chat_completions", 2)
    caller.expect_answers("openai", "responses", 2)
    guard(caller)
    client, tools = openai_client(caller), [{"type": "function", "function": FUNCTION}]
    call = ask_openai(client, QUESTION, tools=tools).choices[0].message.tool_calls[0]
    assert json.loads(call.function.arguments) == {"bridge": VALUE}, call
    assert_hidden(caller)
    parts = [chunk.choices[0].delta.tool_calls for chunk in ask_openai(client, QUESTION, tools=tools, stream=True)]
    assert json.loads("".join(part[0].function.arguments for part in parts if part)) == {"bridge": VALUE}
    tools = [{"type": "function", **FUNCTION}]
    assert json.loads(respond(client, QUESTION, tools=tools).output[0].arguments) == {"bridge": VALUE}
    with client.responses.stream(model=script.MODELS["openai"], input=QUESTION, tools=tools) as stream:
        events = list(stream)
    deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert json.loads("".join(deltas)) == {"bridge": VALUE}, deltas
    assert json.loads(events[-1].response.output[0].arguments) == {"bridge": VALUE}
    assert_hidden(caller)


@gateway_only
def anthropic_tools_get_the_value(caller):
    caller.expect_answers("anthropic", "messages", 2)
    guard(caller)
    client = anthropic_client(caller)
    tools = [{"name": script.TOOL, "description": script.TOOL_DESCRIPTION, "input_schema": script.TOOL_PARAMETERS}]
    assert client.messages.create(**anthropic_fields(QUESTION, tools=tools)).content[0].input == {"bridge": VALUE}
    with client.messages.stream(**anthropic_fields(QUESTION, tools=tools)) as stream:
        assert stream.get_final_message().content[0].input == {"bridge": VALUE}
    assert_hidden(caller)


@gateway_only
def google_functions_get_the_value(caller):
    caller.expect_answers("gemini", "generate_content")
    caller.expect_answers("gemini", "stream_generate_content")
    guard(caller)
    client = google_client(caller)
    declared = google_types.FunctionDeclaration(
        name=script.TOOL, description=script.TOOL_DESCRIPTION, parameters_json_schema=script.TOOL_PARAMETERS)
    fields = google_fields(QUESTION, tools=[google_types.Tool(function_declarations=[declared])])
    assert client.models.generate_content(**fields).function_calls[0].args == {"bridge": VALUE}
    chunks = list(client.models.generate_content_stream(**fields))
    assert chunks[0].function_calls[0].args == {"bridge": VALUE}
    assert_hidden(caller)


@gateway_only
def bedrock_tools_get_the_value(caller):
    caller.expect_answers("bedrock", "converse")
    caller.expect_answers("bedrock", "converse_stream")
    guard(caller)
    client = bedrock_client(caller)
    specification = {"name": script.TOOL, "description": script.TOOL_DESCRIPTION,
                     "inputSchema": {"json": script.TOOL_PARAMETERS}}
    fields = bedrock_fields(QUESTION, toolConfig={"tools": [{"toolSpec": specification}]})
    called = client.converse(**fields)["output"]["message"]["content"][0]["toolUse"]
    assert called["input"] == {"bridge": VALUE}, called
    events = list(client.converse_stream(**fields)["stream"])
    deltas = [event["contentBlockDelta"]["delta"]["toolUse"]["input"]
              for event in events if "contentBlockDelta" in event]
    assert json.loads("".join(deltas)) == {"bridge": VALUE}, deltas
    assert_hidden(caller)
