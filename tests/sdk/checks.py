"""What the official OpenAI SDK sees. Each function is one check: it takes the caller, asserts, and returns.

Checks marked `gateway_only` need a gateway; the others also hold against the inference server itself, which
is how `--direct` tells a fault of the gateway from one of the server or of these scripts.
"""
import asyncio

import openai

import gateway
from registry import registry

QUESTION = [{"role": "user", "content": "Who pays the toll?"}]
CHECKS, check, gateway_only = registry()


def ask(client, **fields):
    return client.chat.completions.create(model="whatever", messages=QUESTION, max_tokens=8, **fields)


def failure(kind, call, status=None):
    """The error that `call` raises, which has to be of this class."""
    try:
        call()
    except kind as error:
        assert status is None or error.status_code == status, f"{error.status_code}, not {status}: {error}"
        return error
    except openai.APIStatusError as error:
        raise AssertionError(f"{type(error).__name__} ({error.status_code}), not {kind.__name__}: {error}") from error
    raise AssertionError(f"no error, not even a {kind.__name__}")


def made_by_gateway(error, code=None):
    assert error.response.headers.get("x-tollgate-error") == "gateway", dict(error.response.headers)
    assert error.request_id, "no x-request-id"
    assert isinstance(error.body, dict) and error.body.get("message") and error.body.get("type"), error.body
    assert error.code, "an error of the gateway has a stable code"
    assert code is None or error.code == code, error.code


def made_by_upstream(error):
    assert "x-tollgate-error" not in error.response.headers, dict(error.response.headers)


# Answers


@check
def plain_chat(caller):
    answer = ask(caller.client())
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def finish_reason(chunks):
    """The last one: llama.cpp's timings come after it, in an event of their own."""
    return [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason][-1]


@check
def streamed_chat_without_usage(caller):
    chunks = caller.seen(ask(caller.client(), stream=True))
    assert len(chunks) > 2
    assert all(chunk.choices for chunk in chunks), "a usage event that nobody asked for"
    assert all(chunk.usage is None for chunk in chunks)
    assert finish_reason(chunks) in ("stop", "length")


@check
def streamed_chat_with_usage(caller):
    chunks = caller.seen(ask(caller.client(), stream=True, stream_options={"include_usage": True}))
    assert [bool(chunk.choices) for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    assert chunks[-1].usage.total_tokens > 0
    assert chunks[-2].choices[0].finish_reason in ("stop", "length")


@check
def streamed_chat_with_usage_declined(caller):
    chunks = caller.seen(ask(caller.client(), stream=True, stream_options={"include_usage": False}))
    assert all(chunk.choices for chunk in chunks)


@check
def fields_that_nobody_knows_travel(caller):
    stream = ask(caller.client(), stream=True, extra_body={"timings_per_token": True})
    timed = [chunk for chunk in caller.seen(stream) if "timings" in (chunk.model_extra or {})]
    assert len(timed) > 2, "llama.cpp did not hear of `timings_per_token`"


@check
def chat_stream_helper(caller):
    with caller.client().chat.completions.stream(model="whatever", messages=QUESTION, max_tokens=8) as stream:
        kinds = [event.type for event in stream]
        final = stream.current_completion_snapshot
    assert "chunk" in kinds
    assert final.choices[0].finish_reason in ("stop", "length")


@check
def stream_left_early(caller):
    stream = ask(caller.client(), stream=True, extra_body={"n_predict": 400, "ignore_eos": True})
    next(iter(stream))
    stream.close()
    assert ask(caller.client()).choices


@check
def plain_response(caller):
    answer = caller.client().responses.create(model="whatever", input="Who pays?", max_output_tokens=8)
    assert answer.object == "response" and answer.status == "completed"
    assert answer.output and answer.usage.output_tokens > 0


@check
def streamed_response(caller):
    stream = caller.client().responses.create(
        model="whatever", input="Who pays?", max_output_tokens=8, stream=True)
    events = caller.seen(stream)
    assert events[0].type == "response.created"
    assert any(event.type == "response.output_text.delta" for event in events)
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage.output_tokens > 0


@check
def models(caller):
    listed = list(caller.client().models.list())
    assert listed and listed[0].object == "model" and listed[0].owned_by == "llamacpp"


@check
def one_model(caller):
    # llama.cpp has no such route: what counts is that the question reached it and its answer came back.
    error = failure(openai.NotFoundError, lambda: caller.client().models.retrieve("tiny"))
    made_by_upstream(error)


@check
def asynchronous(caller):
    async def talk():
        async with caller.async_client() as client:
            plain, stream = await asyncio.gather(ask(client), ask(client, stream=True))
            chunks = [chunk async for chunk in stream]
            listed = [model async for model in client.models.list()]
            return plain, chunks, listed

    plain, chunks, listed = asyncio.run(talk())
    assert plain.choices[0].message.role == "assistant"
    assert finish_reason(chunks) in ("stop", "length") and listed


@check
def many_at_once(caller):
    async def crowd():
        async with caller.async_client() as client:
            async def one(number):
                if number % 2:
                    return (await ask(client)).choices
                return [chunk async for chunk in await ask(client, stream=True)]

            return await asyncio.gather(*(one(number) for number in range(24)))

    assert all(asyncio.run(crowd()))


# Errors of the upstream, which pass through


@check
def malformed_messages_are_the_upstreams_to_refuse(caller):
    error = failure(openai.BadRequestError, lambda: caller.client().chat.completions.create(
        model="whatever", messages="not a list"))
    made_by_upstream(error)
    assert "messages" in str(error)


@check
def wrong_key(caller):
    client = caller.client(key=caller.wrong_key)
    error = failure(openai.AuthenticationError, lambda: ask(client), 401)
    if caller.gateway:
        made_by_gateway(error)


@gateway_only
def wrong_stored_secret(caller):
    error = failure(openai.InternalServerError, lambda: ask(caller.client("wrong-secret")), 502)
    made_by_gateway(error, "provider_credential_refused")
    assert caller.gateway_secrets[1] not in str(error)


# What only a gateway does


@gateway_only
def request_ids(caller):
    client = caller.client()
    first = client.chat.completions.with_raw_response.create(
        model="whatever", messages=QUESTION, max_tokens=2, extra_headers={"X-Request-Id": "mine"})
    second = client.chat.completions.with_raw_response.create(model="whatever", messages=QUESTION, max_tokens=2)
    identifiers = {first.headers["x-request-id"], second.headers["x-request-id"]}
    assert len(identifiers) == 2 and "mine" not in identifiers, identifiers
    assert "access-control-allow-origin" not in first.headers


@gateway_only
def name_with_spaces_and_a_slash(caller):
    client = caller.client(gateway.AWKWARD_NAME)
    assert ask(client).choices
    assert caller.seen(ask(client, stream=True))
    assert list(client.models.list())


@gateway_only
def usage_left_alone(caller):
    client = caller.client("leave")
    assert all(chunk.choices for chunk in caller.seen(ask(client, stream=True)))
    asked = caller.seen(ask(client, stream=True, stream_options={"include_usage": True}))
    assert asked[-1].usage.total_tokens > 0


@gateway_only
def key_in_another_header(caller):
    client = caller.client(key="not-a-tollgate-key", default_headers={"X-Api-Key": caller.key})
    assert ask(client).choices


@gateway_only
def mistyped_key(caller):
    typo = caller.key[:-1] + ("a" if caller.key[-1] != "a" else "b")
    made_by_gateway(failure(openai.AuthenticationError, lambda: ask(caller.client(key=typo)), 401))


@gateway_only
def revoked_key(caller):
    made = caller.gateway.issue_key("soon gone")
    client = caller.client(key=made["key"])
    assert ask(client).choices
    caller.gateway.revoke_key(made["id"])
    made_by_gateway(failure(openai.AuthenticationError, lambda: ask(client), 401))


@gateway_only
def key_of_the_organization(caller):
    client = caller.client(key=caller.gateway.admin_key)
    made_by_gateway(failure(openai.PermissionDeniedError, lambda: ask(client), 403))


@gateway_only
def unknown_configuration(caller):
    made_by_gateway(failure(openai.NotFoundError, lambda: ask(caller.client("no-such-thing")), 404))


@gateway_only
def disabled_configuration(caller):
    made_by_gateway(failure(openai.NotFoundError, lambda: ask(caller.client("disabled")), 404))


@gateway_only
def malformed_request(caller):
    # Some upstreams would read it as `model`, so it could smuggle another one past the configuration.
    error = failure(openai.BadRequestError, lambda: ask(caller.client(), extra_body={"MODEL": "dearer"}), 400)
    made_by_gateway(error)


@gateway_only
def route_off_the_list(caller):
    attempts = []
    client = caller.client(max_retries=2, attempts=attempts)
    error = failure(openai.InternalServerError, lambda: client.completions.create(model="x", prompt="x"), 501)
    made_by_gateway(error)
    assert error.response.headers["x-should-retry"] == "false"
    assert len(attempts) == 1, "the SDK tried again what cannot help"


@gateway_only
def upstream_away(caller):
    made_by_gateway(failure(openai.InternalServerError, lambda: ask(caller.client("nobody-there")), 502))


@gateway_only
def upstream_too_slow(caller):
    client = caller.client("hasty")
    error = failure(openai.InternalServerError, lambda: client.chat.completions.create(
        model="whatever", messages=QUESTION, max_tokens=400, extra_body={"ignore_eos": True}), 504)
    made_by_gateway(error)


@gateway_only
def upstream_key_is_never_seen(caller):
    """Last, so that everything above has been seen."""
    assert len(caller.transcript) > 40, "the recorder missed what it is for"
    log = caller.gateway.process.output()
    for secret in caller.gateway_secrets:
        assert not [line for line in caller.transcript if secret in line], "an upstream key came back"
        assert secret not in log, "an upstream key is in the gateway's log"
    for key in (caller.key, caller.gateway.admin_key, caller.gateway.organization["platform_key"]):
        assert key not in log, "an API key is in the gateway's log"
