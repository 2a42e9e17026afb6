"""Errors of every provider on the unified paths, which the SDKs of OpenAI and Anthropic have to raise as their own:
before an answer, and in a stream."""
import anthropic
import openai

import script
from provider_checks import failure
from registry import registry
from unified_checks import PROVIDERS, anthropic_client, model_of, openai_client

CHECKS, check, gateway_only = registry()
SECRETS = {"openai": "OPENAI_API_KEY", "deepseek": "DEEPSEEK_API_KEY", "anthropic": "ANTHROPIC_API_KEY",
           "gemini": "GOOGLE_API_KEY", "bedrock": "AWS_BEARER_TOKEN_BEDROCK"}
# The status with which a provider says that it has too much to do.
OVERLOADED = {"anthropic": 529}
# What refuses the gateway's key at a provider.
REFUSED = {"bedrock": 403, "gemini": 400}


def over_each_provider(function):
    """Registers the check once for each provider, with what asks it: chats, responses and messages."""
    for provider in PROVIDERS:
        def over(caller, provider=provider):
            for route, ask in ASKED.items():
                function(caller, provider, route, ask)

        over.__name__ = f"{function.__name__}_over_{provider}"
        gateway_only(over)
    return function


def chat(caller, provider, question, **fields):
    return openai_client(caller).chat.completions.create(
        model=model_of(provider), messages=[{"role": "user", "content": question}], **fields)


def respond(caller, provider, question, **fields):
    return openai_client(caller).responses.create(model=model_of(provider), input=question, **fields)


def write(caller, provider, question, **fields):
    return anthropic_client(caller).messages.create(
        model=model_of(provider), max_tokens=64, messages=[{"role": "user", "content": question}], **fields)


ASKED = {"chat_completions": chat, "responses": respond, "messages": write}


def sdk_of(route):
    return anthropic if route == "messages" else openai


def message_of(error):
    body = error.body
    return body["error"]["message"] if isinstance(error, anthropic.APIError) else body["message"]


def code_of(error):
    return error.body["error"]["code"] if isinstance(error, anthropic.APIError) else error.code


@over_each_provider
def refused_requests(caller, provider, route, ask):
    caller.expect_refusals(provider, route, 400, 400)
    for stream in (False, True):
        error = failure(sdk_of(route).BadRequestError, lambda: ask(caller, provider, script.BAD_REQUEST, stream=stream))
        assert message_of(error) == script.ERROR_MESSAGE, error.body


@over_each_provider
def rate_limits(caller, provider, route, ask):
    caller.expect_refusals(provider, route, 429, 429)
    for stream in (False, True):
        error = failure(sdk_of(route).RateLimitError, lambda: ask(caller, provider, script.RATE_LIMITED, stream=stream))
        assert message_of(error) == script.ERROR_MESSAGE, error.body
        # AWS does not say when.
        expected = None if provider == "bedrock" else script.RETRY_AFTER
        assert error.response.headers.get("retry-after") == expected, error.response.headers


@over_each_provider
def overloads(caller, provider, route, ask):
    caller.expect_refusals(provider, route, OVERLOADED.get(provider, 503))
    sdk = sdk_of(route)
    kind = anthropic.OverloadedError if sdk is anthropic else openai.InternalServerError
    error = failure(kind, lambda: ask(caller, provider, script.OVERLOADED))
    assert error.status_code == (529 if sdk is anthropic else 503), error
    assert message_of(error) == script.ERROR_MESSAGE, error.body
    # Neither SDK is told not to try again.
    assert "x-should-retry" not in error.response.headers, error.response.headers


@over_each_provider
def refused_keys_of_providers(caller, provider, route, ask):
    caller.expect_refused_key(provider, route, REFUSED.get(provider, 401))
    error = failure(sdk_of(route).InternalServerError, lambda: ask(caller, provider, script.KEY_REFUSED))
    assert (error.status_code, code_of(error)) == (502, "provider_credential_refused"), error
    assert SECRETS[provider] in message_of(error), error.body


@over_each_provider
def broken_streams(caller, provider, route, ask):
    caller.expect_broken_stream(provider, route)
    stream, seen = ask(caller, provider, script.BROKEN_OFF, stream=True), []
    error = failure(sdk_of(route).APIError, lambda: seen.extend(stream))
    assert seen, "the beginning has arrived"
    match route:
        case "responses":
            # The SDK hands the error on as an event, and raises when the connection breaks.
            assert isinstance(error, openai.APIConnectionError), error
            if provider == "openai":
                assert (seen[-1].type, seen[-1].code) == ("error", "upstream_closed"), seen[-1]
            else:
                # The codes of a response are a list of OpenAI's, so the gateway's stands in the message.
                told = seen[-1].response.error
                assert (seen[-1].type, told.code) == ("response.failed", "server_error"), seen[-1]
                assert told.message.startswith("upstream_closed: "), told
        case "chat_completions":
            assert error.code == "upstream_closed", error
        case "messages":
            assert code_of(error) == "upstream_closed", error.body


@gateway_only
def what_can_not_be_converted(caller):
    error = failure(openai.BadRequestError, lambda: chat(caller, "anthropic", script.QUESTION, n=2))
    assert (error.code, error.param) == ("unsupported_parameter", "n"), error.body
    error = failure(openai.BadRequestError,
                    lambda: respond(caller, "gemini", script.QUESTION, previous_response_id="resp_1"))
    assert (error.code, error.param) == ("unsupported_parameter", "previous_response_id"), error.body
    documents = [{"type": "document", "source": {"type": "file", "file_id": "file_1"}}]
    error = failure(anthropic.BadRequestError, lambda: write(caller, "openai", documents))
    assert error.body["error"]["code"] == "unsupported_parameter", error.body
    missing = {"model": "custom/nobody-of-this-name", "messages": [{"role": "user", "content": script.QUESTION}]}
    error = failure(openai.NotFoundError, lambda: openai_client(caller).chat.completions.create(**missing))
    assert error.code == "model_not_found", error.body
