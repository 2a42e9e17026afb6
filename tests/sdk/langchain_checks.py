"""LangChain's chat models, which find the gateway by its environment variables for LangSmith's."""
import contextlib
import os

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_fireworks import ChatFireworks
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI

import script
from registry import registry

CHECKS, check, gateway_only = registry()


@contextlib.contextmanager
def langsmith_gateway(caller):
    """All that a user sets: models that are made under it call the gateway."""
    more = {"LANGSMITH_GATEWAY": caller.gateway.url, "LANGSMITH_GATEWAY_API_KEY": caller.issued["key"]}
    os.environ.update(more)
    try:
        yield
    finally:
        for name in more:
            del os.environ[name]


@tool(script.TOOL, description=script.TOOL_DESCRIPTION)
def price_of(bridge: str) -> str:
    return script.TOOL_RESULT


def invoke_stream_and_call_tool(caller, provider, chat_model, plain_route, stream_route=None, **fields):
    """Plain, streamed, and a tool called and answered."""
    caller.expect_answers(provider, plain_route, 3)
    caller.expect_answers(provider, stream_route or plain_route)
    with langsmith_gateway(caller):
        model = chat_model(model=script.MODELS[provider], **fields)
    plain = model.invoke(script.QUESTION)
    assert plain.text == "".join(script.ANSWER), plain
    usage = plain.usage_metadata
    assert (usage["input_tokens"], usage["output_tokens"]) == (script.INPUT, script.OUTPUT), usage
    words = [chunk.text for chunk in model.stream(script.QUESTION)]
    assert tuple(word for word in words if word) == script.ANSWER, words
    bound = model.bind_tools([price_of])
    called = bound.invoke(script.QUESTION)
    call = called.tool_calls[0]
    assert (call["name"], call["args"]) == (script.TOOL, script.TOOL_ARGUMENTS), call
    result = ToolMessage(price_of.invoke(call["args"]), tool_call_id=call["id"])
    final = bound.invoke([HumanMessage(script.QUESTION), called, result])
    assert final.text == "".join(script.ANSWER_WITH_RESULT), final


@gateway_only
def langchain_openai_chat(caller):
    invoke_stream_and_call_tool(caller, "openai", ChatOpenAI, "chat_completions", max_retries=0)


@gateway_only
def langchain_openai_responses(caller):
    invoke_stream_and_call_tool(caller, "openai", ChatOpenAI, "responses", max_retries=0, use_responses_api=True)


@gateway_only
def langchain_anthropic_messages(caller):
    invoke_stream_and_call_tool(caller, "anthropic", ChatAnthropic, "messages", max_retries=0)


@gateway_only
def langchain_google_content(caller):
    invoke_stream_and_call_tool(
        caller, "gemini", ChatGoogleGenerativeAI, "generate_content", "stream_generate_content", max_retries=1)


@gateway_only
def langchain_fireworks_chat(caller):
    invoke_stream_and_call_tool(caller, "fireworks", ChatFireworks, "chat_completions", max_retries=0)
