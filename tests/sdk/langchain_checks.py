"""LangChain's chat models, which find the gateway by its environment variables for LangSmith's."""
import contextlib
import os

import pydantic
from langchain.chat_models import init_chat_model
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


def invoke_stream_and_call_tool(caller, provider, chat_model, plain_route, stream_route=None, name=None, **fields):
    """Plain, streamed, and a tool called and answered. `name` is that of the model, if not its own."""
    caller.expect_answers(provider, plain_route, 3)
    caller.expect_answers(provider, stream_route or plain_route)
    with langsmith_gateway(caller):
        model = chat_model(model=name or script.MODELS[provider], **fields)
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
    return model


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


# Models of any provider through LangSmith's gateway, which LangChain calls with responses at `/v1`.


class Price(pydantic.BaseModel):
    """A price"""

    amount: int
    unit: str


def call_through_the_gateway(caller, provider, name):
    model = invoke_stream_and_call_tool(
        caller, provider, init_chat_model, "responses", name=f"langsmith:{name}", max_retries=0)
    caller.expect_answers(provider, "responses")
    priced = model.with_structured_output(Price, method="json_schema").invoke(script.QUESTION)
    assert priced == Price(**script.PRICE), priced
    think_and_call_tool(caller, provider, name)


def think_and_call_tool(caller, provider, name):
    """Plain and streamed: the thoughts come, and go back in the loop of the tool."""
    caller.expect_answers(provider, "responses", 4)
    thought = "".join(script.THOUGHT)
    with langsmith_gateway(caller):
        model = init_chat_model(
            f"langsmith:{name}", max_retries=0, store=False, include=["reasoning.encrypted_content"],
            reasoning={"effort": "low", "summary": "auto"})
    bound = model.bind_tools([price_of])
    question = HumanMessage(f"{script.QUESTION} Please {script.THINK}.")
    chunks = list(bound.stream([question]))
    streamed = chunks[0]
    for chunk in chunks[1:]:
        streamed += chunk
    for called in (bound.invoke([question]), streamed):
        assert thought in str(called.content), called
        [call] = called.tool_calls
        assert (call["name"], call["args"]) == (script.TOOL, script.TOOL_ARGUMENTS), call
        result = ToolMessage(price_of.invoke(call["args"]), tool_call_id=call["id"])
        final = bound.invoke([question, called, result])
        assert final.text == "".join(script.ANSWER_WITH_RESULT), final


@gateway_only
def langchain_over_the_unified_paths_calls_anthropic(caller):
    call_through_the_gateway(caller, "anthropic", f"anthropic/{script.MODELS['anthropic']}")


@gateway_only
def langchain_over_the_unified_paths_calls_openai(caller):
    call_through_the_gateway(caller, "openai", f"openai/{script.MODELS['openai']}")


@gateway_only
def langchain_over_the_unified_paths_calls_gemini(caller):
    call_through_the_gateway(caller, "gemini", f"gemini/{script.MODELS['gemini']}")


@gateway_only
def langchain_over_the_unified_paths_calls_bedrock(caller):
    call_through_the_gateway(caller, "bedrock", "custom/nova")
