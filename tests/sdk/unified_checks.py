"""The official SDKs of OpenAI and Anthropic on the unified paths, with the models of every provider: stream
helpers, loops of tools, answers in a schema, and thoughts that come back."""
import json

import anthropic
import openai
import pydantic

import script
from registry import registry

CHECKS, check, gateway_only = registry()
PROVIDERS = ("openai", "deepseek", "anthropic", "gemini", "bedrock")
ANSWER, ANSWER_WITH_RESULT = "".join(script.ANSWER), "".join(script.ANSWER_WITH_RESULT)
THOUGHT = "".join(script.THOUGHT)
THINKING_QUESTION = f"{script.QUESTION} Please {script.THINK}."
FUNCTION = {"name": script.TOOL, "description": script.TOOL_DESCRIPTION, "parameters": script.TOOL_PARAMETERS}
ANTHROPIC_TOOL = {"name": script.TOOL, "description": script.TOOL_DESCRIPTION, "input_schema": script.TOOL_PARAMETERS}
QUESTION = [{"role": "user", "content": script.QUESTION}]


class Price(pydantic.BaseModel):
    amount: int
    unit: str


class PriceOf(pydantic.BaseModel):
    """The price of a bridge"""

    bridge: str


PRICE, PRICE_OF = Price(**script.PRICE), PriceOf(**script.TOOL_ARGUMENTS)


def model_of(provider):
    """Its model on the unified paths."""
    return "custom/nova" if provider == "bedrock" else f"{provider}/{script.MODELS[provider]}"


def over_each_provider(function, providers=PROVIDERS):
    """Registers the check once for each provider's format."""
    for provider in providers:
        def over(caller, provider=provider):
            function(caller, provider)

        over.__name__ = f"{function.__name__}_over_{provider}"
        gateway_only(over)
    return function


# One for all checks: what they take longest for is to read the machine's certificates.
OPENAI_HTTP, ANTHROPIC_HTTP = openai.DefaultHttpxClient(), anthropic.DefaultHttpxClient()


def openai_client(caller):
    return openai.OpenAI(base_url=caller.gateway.url + "/v1", api_key=caller.issued["key"], max_retries=0, timeout=30,
                         http_client=OPENAI_HTTP)


def anthropic_client(caller):
    return anthropic.Anthropic(base_url=caller.gateway.url, api_key=caller.issued["key"], max_retries=0, timeout=30,
                               http_client=ANTHROPIC_HTTP)


def sent(caller):
    """The body of the last call that reached a provider."""
    return json.loads(caller.stub.last_call()["text"])


def has_model(answer, provider, *native):
    """A converted answer names the model as it was asked for, a relayed one as the provider does."""
    expected = script.MODELS[provider] if provider in native else model_of(provider)
    assert answer.model == expected, answer.model


# Chat completions


def has_chat_usage(usage):
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (
        script.INPUT, script.OUTPUT, script.INPUT + script.OUTPUT), usage
    assert usage.prompt_tokens_details.cached_tokens == script.CACHED, usage


@over_each_provider
def chat(caller, provider):
    caller.expect_answers(provider, "chat_completions", 3)
    chats = openai_client(caller).chat.completions
    fields = {"model": model_of(provider), "messages": [{"role": "system", "content": "Be brief."}, *QUESTION]}
    plain = chats.create(**fields)
    assert (plain.choices[0].message.content, plain.choices[0].finish_reason) == (ANSWER, "stop"), plain
    has_model(plain, provider, "openai", "deepseek")
    has_chat_usage(plain.usage)
    assert "Be brief." in caller.stub.last_call()["text"]
    chunks = list(chats.create(**fields, stream=True))
    words = [chunk.choices[0].delta.content for chunk in chunks]
    assert tuple(word for word in words if word) == script.ANSWER, words
    assert all(chunk.usage is None for chunk in chunks) and chunks[-1].choices[0].finish_reason == "stop"
    with chats.stream(**fields, stream_options={"include_usage": True}) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta" and event.delta]
        final = stream.get_final_completion()
    assert tuple(deltas) == script.ANSWER and final.choices[0].message.content == ANSWER, deltas
    has_chat_usage(final.usage)


@over_each_provider
def chat_with_a_tool(caller, provider):
    caller.expect_answers(provider, "chat_completions", 4)
    chats = openai_client(caller).chat.completions
    fields = {"model": model_of(provider), "tools": [openai.pydantic_function_tool(PriceOf, name=script.TOOL)]}
    called = chats.parse(**fields, messages=QUESTION).choices[0]
    with chats.stream(**fields, messages=QUESTION) as stream:
        events = list(stream)
        streamed = stream.get_final_completion().choices[0]
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert [event.parsed_arguments for event in done] == [PRICE_OF], events
    for choice in (called, streamed):
        [call] = choice.message.tool_calls
        assert (choice.finish_reason, call.function.name) == ("tool_calls", script.TOOL), choice
        assert call.function.parsed_arguments == PRICE_OF, call
        messages = [*QUESTION, choice.message,
                    {"role": "tool", "tool_call_id": call.id, "content": script.TOOL_RESULT}]
        final = chats.parse(**fields, messages=messages).choices[0]
        assert (final.message.content, final.finish_reason) == (ANSWER_WITH_RESULT, "stop"), final


@over_each_provider
def chat_in_a_schema(caller, provider):
    caller.expect_answers(provider, "chat_completions", 2)
    chats = openai_client(caller).chat.completions
    fields = {"model": model_of(provider), "messages": QUESTION, "response_format": Price}
    assert chats.parse(**fields).choices[0].message.parsed == PRICE
    with chats.stream(**fields) as stream:
        [done] = [event for event in stream if event.type == "content.done"]
        assert done.parsed == PRICE, done
        assert stream.get_final_completion().choices[0].message.parsed == PRICE


def chat_with_thoughts(caller, provider):
    caller.expect_answers(provider, "chat_completions", 4)
    chats = openai_client(caller).chat.completions
    question = {"role": "user", "content": THINKING_QUESTION}
    fields = {"model": model_of(provider), "reasoning_effort": "low",
              "tools": [{"type": "function", "function": FUNCTION}]}
    called = chats.create(**fields, messages=[question]).choices[0].message
    asks_for_thoughts(caller, provider)
    with chats.stream(**fields, messages=[question]) as stream:
        streamed = stream.get_final_completion().choices[0].message
    for message in (called, streamed):
        assert message.reasoning_content == THOUGHT, message
        [call] = message.tool_calls
        assert json.loads(call.function.arguments) == script.TOOL_ARGUMENTS
        # As an application keeps it.
        kept = json.loads(json.dumps(message.to_dict()))
        result = {"role": "tool", "tool_call_id": call.id, "content": script.TOOL_RESULT}
        final = chats.create(**fields, messages=[question, kept, result]).choices[0].message
        assert (final.content, final.reasoning_content) == (ANSWER_WITH_RESULT, THOUGHT), final


# OpenAI's own chats show no thoughts.
over_each_provider(chat_with_thoughts, [provider for provider in PROVIDERS if provider != "openai"])


def asks_for_thoughts(caller, provider):
    """The last call asked for few thoughts in the provider's own words."""
    body = sent(caller)
    match provider:
        case "openai":
            assert body["reasoning"]["effort"] == "low", body
        case "deepseek":
            assert body["reasoning_effort"] == "low", body
        case "anthropic":
            assert body["thinking"] == {"type": "enabled", "budget_tokens": 1024}, body
        case "gemini":
            assert body["generationConfig"]["thinkingConfig"]["thinkingBudget"] == 1024, body
        case "bedrock":
            wish = body["additionalModelRequestFields"]["reasoningConfig"]
            assert wish == {"type": "enabled", "maxReasoningEffort": "low"}, body


# Responses


def has_responses_usage(usage):
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (
        script.INPUT, script.OUTPUT, script.INPUT + script.OUTPUT), usage
    assert usage.input_tokens_details.cached_tokens == script.CACHED, usage


@over_each_provider
def responses(caller, provider):
    caller.expect_answers(provider, "responses", 3)
    client = openai_client(caller).responses
    fields = {"model": model_of(provider), "instructions": "Be brief.", "input": script.QUESTION}
    plain = client.create(**fields)
    assert (plain.output_text, plain.status) == (ANSWER, "completed"), plain
    has_model(plain, provider, "openai")
    has_responses_usage(plain.usage)
    assert "Be brief." in caller.stub.last_call()["text"]
    events = list(client.create(**fields, stream=True))
    words = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert tuple(words) == script.ANSWER and events[-1].type == "response.completed", events
    assert [event.sequence_number for event in events] == list(range(len(events)))
    has_responses_usage(events[-1].response.usage)
    with client.stream(**fields) as stream:
        [done] = [event for event in stream if event.type == "response.output_text.done"]
        final = stream.get_final_response()
    assert done.text == final.output_text == ANSWER, final


@over_each_provider
def responses_with_a_tool(caller, provider):
    caller.expect_answers(provider, "responses", 4)
    client = openai_client(caller).responses
    tool = openai.pydantic_function_tool(PriceOf, name=script.TOOL)
    fields = {"model": model_of(provider), "store": False, "tools": [{"type": "function", **tool["function"]}]}
    called = client.parse(**fields, input=QUESTION)
    with client.stream(**fields, input=QUESTION) as stream:
        [done] = [event for event in stream if event.type == "response.function_call_arguments.done"]
        streamed = stream.get_final_response()
    assert json.loads(done.arguments) == script.TOOL_ARGUMENTS, done
    for answer in (called, streamed):
        [call] = answer.output
        assert (call.type, call.name) == ("function_call", script.TOOL), call
        assert json.loads(call.arguments) == script.TOOL_ARGUMENTS, call
        result = {"type": "function_call_output", "call_id": call.call_id, "output": script.TOOL_RESULT}
        final = client.create(**fields, input=[*QUESTION, *items_of(answer), result])
        assert final.output_text == ANSWER_WITH_RESULT, final


def items_of(answer):
    """What an application keeps of it, without what only `parse` has added."""
    items = [item.to_dict(exclude_none=True) for item in answer.output]
    for item in items:
        item.pop("parsed_arguments", None)
    return items


@over_each_provider
def responses_in_a_schema(caller, provider):
    caller.expect_answers(provider, "responses", 2)
    client = openai_client(caller).responses
    fields = {"model": model_of(provider), "input": script.QUESTION, "text_format": Price}
    assert client.parse(**fields).output_parsed == PRICE
    with client.stream(**fields) as stream:
        stream.until_done()
        assert stream.get_final_response().output_parsed == PRICE


@over_each_provider
def responses_with_thoughts(caller, provider):
    caller.expect_answers(provider, "responses", 4)
    client = openai_client(caller).responses
    question = {"role": "user", "content": THINKING_QUESTION}
    fields = {"model": model_of(provider), "store": False, "include": ["reasoning.encrypted_content"],
              "reasoning": {"effort": "low", "summary": "auto"}, "tools": [{"type": "function", **FUNCTION}]}
    called = client.create(**fields, input=[question])
    asks_for_thoughts(caller, provider)
    with client.stream(**fields, input=[question]) as stream:
        deltas = [event.delta for event in stream if event.type == "response.reasoning_summary_text.delta"]
        streamed = stream.get_final_response()
    assert tuple(deltas) == script.THOUGHT, deltas
    for answer in (called, streamed):
        *reasoning, call = answer.output
        assert {item.type for item in reasoning} == {"reasoning"} and call.type == "function_call", answer
        assert [part.text for item in reasoning for part in item.summary] == [THOUGHT], reasoning
        # Gemini's signature is the call's, so it stands beside the call.
        assert reasoning[-1].encrypted_content or provider == "deepseek", reasoning
        result = {"type": "function_call_output", "call_id": call.call_id, "output": script.TOOL_RESULT}
        final = client.create(**fields, input=[question, *items_of(answer), result])
        assert final.output_text == ANSWER_WITH_RESULT, final


# Messages


def has_messages_usage(usage):
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (
        script.INPUT - script.CACHED, script.CACHED, script.OUTPUT), usage


@over_each_provider
def messages(caller, provider):
    caller.expect_answers(provider, "messages", 3)
    client = anthropic_client(caller).messages
    fields = {"model": model_of(provider), "max_tokens": 64, "system": "Be brief.", "messages": QUESTION}
    plain = client.create(**fields)
    assert ([block.text for block in plain.content], plain.stop_reason) == ([ANSWER], "end_turn"), plain
    has_model(plain, provider, "anthropic")
    has_messages_usage(plain.usage)
    assert "Be brief." in caller.stub.last_call()["text"]
    events = list(client.create(**fields, stream=True))
    words = [event.delta.text for event in events if event.type == "content_block_delta"]
    assert tuple(words) == script.ANSWER and events[-1].type == "message_stop", events
    with client.stream(**fields) as stream:
        assert tuple(stream.text_stream) == script.ANSWER
        final = stream.get_final_message()
    assert (final.content[0].text, final.stop_reason) == (ANSWER, "end_turn"), final
    has_messages_usage(final.usage)


@over_each_provider
def messages_with_a_tool(caller, provider):
    caller.expect_answers(provider, "messages", 4)
    client = anthropic_client(caller).messages
    fields = {"model": model_of(provider), "max_tokens": 64, "tools": [ANTHROPIC_TOOL]}
    called = client.create(**fields, messages=QUESTION)
    with client.stream(**fields, messages=QUESTION) as stream:
        inputs = [event for event in stream if event.type == "input_json"]
        streamed = stream.get_final_message()
    assert inputs[-1].snapshot == script.TOOL_ARGUMENTS, inputs
    for answer in (called, streamed):
        [call] = answer.content
        assert (answer.stop_reason, call.name, call.input) == ("tool_use", script.TOOL, script.TOOL_ARGUMENTS), answer
        result = {"type": "tool_result", "tool_use_id": call.id, "content": script.TOOL_RESULT}
        told = [*QUESTION, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
        final = client.create(**fields, messages=told)
        assert (final.content[0].text, final.stop_reason) == (ANSWER_WITH_RESULT, "end_turn"), final


@over_each_provider
def messages_with_tools_that_the_sdk_runs(caller, provider):
    caller.expect_answers(provider, "messages", 4)
    # The runner begins a thread at Anthropic's by default. For others it hears that there are none, and goes on
    # without.
    bridges = []

    @anthropic.beta_tool(name=script.TOOL)
    def price_of(bridge: str) -> str:
        """The price of a bridge"""
        bridges.append(bridge)
        return script.TOOL_RESULT

    client = anthropic_client(caller).beta.messages
    fields = {"model": model_of(provider), "max_tokens": 64, "tools": [price_of], "messages": QUESTION}
    assert client.tool_runner(**fields).until_done().content[0].text == ANSWER_WITH_RESULT
    finals = [stream.get_final_message() for stream in client.tool_runner(**fields, stream=True)]
    assert [message.stop_reason for message in finals] == ["tool_use", "end_turn"], finals
    assert finals[-1].content[0].text == ANSWER_WITH_RESULT
    assert bridges == [script.TOOL_ARGUMENTS["bridge"]] * 2, bridges


@over_each_provider
def messages_in_a_schema(caller, provider):
    caller.expect_answers(provider, "messages", 2)
    client = anthropic_client(caller).messages
    fields = {"model": model_of(provider), "max_tokens": 64, "messages": QUESTION, "output_format": Price}
    assert client.parse(**fields).parsed_output == PRICE
    with client.stream(**fields) as stream:
        assert stream.get_final_message().parsed_output == PRICE


@over_each_provider
def messages_with_thoughts(caller, provider):
    caller.expect_answers(provider, "messages", 4)
    client = anthropic_client(caller).messages
    question = {"role": "user", "content": THINKING_QUESTION}
    fields = {"model": model_of(provider), "max_tokens": 4096, "tools": [ANTHROPIC_TOOL],
              "thinking": {"type": "enabled", "budget_tokens": 1024}}
    called = client.create(**fields, messages=[question])
    asks_for_thoughts(caller, provider)
    with client.stream(**fields, messages=[question]) as stream:
        deltas = [event.thinking for event in stream if event.type == "thinking"]
        streamed = stream.get_final_message()
    assert tuple(deltas) == script.THOUGHT, deltas
    for answer in (called, streamed):
        *thoughts, call = answer.content
        assert {block.type for block in thoughts} == {"thinking"} and call.type == "tool_use", answer
        # Gemini's signature is the call's, so it stands beside the call.
        assert "".join(block.thinking for block in thoughts) == THOUGHT and thoughts[-1].signature, answer
        result = {"type": "tool_result", "tool_use_id": call.id, "content": script.TOOL_RESULT}
        told = [question, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
        final = client.create(**fields, messages=told)
        assert [block.type for block in final.content] == ["thinking", "text"], final
        assert final.content[1].text == ANSWER_WITH_RESULT, final


@over_each_provider
def counts_of_tokens(caller, provider):
    client = anthropic_client(caller).messages
    fields = {"model": model_of(provider), "messages": QUESTION}
    if provider in ("openai", "anthropic", "gemini"):
        caller.expect_free(provider, "count_tokens", script.MODELS[provider])
        assert client.count_tokens(**fields).input_tokens == script.COUNTED
        return
    try:
        client.count_tokens(**fields)
    except anthropic.HTTPNotImplementedError as error:
        assert error.body["error"]["code"] == "format_not_served", error.body
    else:
        raise AssertionError("nobody counts them here")


def thoughts_that_are_left_out(caller, provider):
    """What the checks of thoughts rely on: a provider misses them."""
    client = openai_client(caller).responses
    call = {"type": "function_call", "call_id": "call_1", "name": script.TOOL,
            "arguments": json.dumps(script.TOOL_ARGUMENTS)}
    result = {"type": "function_call_output", "call_id": "call_1", "output": script.TOOL_RESULT}
    caller.expect_refusals(provider, "responses", 400)
    try:
        client.create(model=model_of(provider), input=[{"role": "user", "content": THINKING_QUESTION}, call, result],
                      tools=[{"type": "function", **FUNCTION}], store=False)
    except openai.BadRequestError as error:
        assert error.body["message"] == script.ERROR_MESSAGE, error.body
    else:
        raise AssertionError("the stub provider does not miss thoughts")


# Claude is not told to think in a conversation whose thoughts are missing.
over_each_provider(thoughts_that_are_left_out, [provider for provider in PROVIDERS if provider != "anthropic"])


@gateway_only
def thoughts_that_are_left_out_for_claude(caller):
    """In its own format, where the request stays as it is."""
    caller.expect_refusals("anthropic", "messages", 400)
    call = {"type": "tool_use", "id": "call_1", "name": script.TOOL, "input": script.TOOL_ARGUMENTS}
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": script.TOOL_RESULT}
    told = [{"role": "user", "content": THINKING_QUESTION}, {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result]}]
    try:
        anthropic_client(caller).messages.create(
            model=model_of("anthropic"), max_tokens=4096, messages=told, tools=[ANTHROPIC_TOOL],
            thinking={"type": "enabled", "budget_tokens": 1024})
    except anthropic.BadRequestError as error:
        assert error.body["error"]["message"] == script.ERROR_MESSAGE, error.body
    else:
        raise AssertionError("the stub provider does not miss thoughts")
