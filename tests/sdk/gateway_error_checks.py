"""Errors of the gateway itself, which each SDK has to raise as its own: before an answer, and in a stream."""
import anthropic
import botocore.exceptions
import openai
from google.genai import errors as google_errors

import script
from provider_checks import (
    anthropic_client, anthropic_fields, ask_openai, bedrock_client, bedrock_fields, failure, google_client,
    google_fields, openai_client, respond)
from registry import registry

CHECKS, check, gateway_only = registry()


@gateway_only
def wrong_key_in_all_sdks(caller):
    key = "tg_" + "0" * 60
    error = failure(openai.AuthenticationError, lambda: ask_openai(openai_client(caller, key)))
    assert error.code == "invalid_api_key"
    error = failure(
        anthropic.AuthenticationError, lambda: anthropic_client(caller, key).messages.create(**anthropic_fields()))
    assert error.body["error"]["type"] == "authentication_error" and error.body["request_id"]
    google = google_client(caller, key)
    error = failure(google_errors.ClientError, lambda: google.models.generate_content(**google_fields()))
    assert (error.code, error.status) == (401, "UNAUTHENTICATED") and error.message
    bedrock = bedrock_client(caller, key)
    error = failure(bedrock.exceptions.AccessDeniedException, lambda: bedrock.converse(**bedrock_fields()))
    assert error.response["Error"]["Message"]


@gateway_only
def broken_stream_of_chat(caller):
    caller.expect_broken_stream("openai", "chat_completions")
    stream = ask_openai(openai_client(caller), script.BROKEN_OFF, stream=True)
    error = failure(openai.APIError, lambda: list(stream))
    assert error.code == "upstream_closed", error


@gateway_only
def broken_stream_of_responses(caller):
    """The SDK hands the error on as an event, as OpenAI sends it, and raises when the connection breaks."""
    caller.expect_broken_stream("openai", "responses")
    events = []
    stream = respond(openai_client(caller), script.BROKEN_OFF, stream=True)
    failure(openai.APIConnectionError, lambda: events.extend(stream))
    assert (events[-1].type, events[-1].code) == ("error", "upstream_closed"), events[-1]


@gateway_only
def broken_stream_of_messages(caller):
    caller.expect_broken_stream("anthropic", "messages")
    stream = anthropic_client(caller).messages.create(**anthropic_fields(script.BROKEN_OFF, stream=True))
    error = failure(anthropic.APIStatusError, lambda: list(stream))
    assert error.body["error"]["code"] == "upstream_closed", error.body


@gateway_only
def broken_stream_of_google(caller):
    caller.expect_broken_stream("gemini", "stream_generate_content")
    client = google_client(caller)
    stream = client.models.generate_content_stream(**google_fields(script.BROKEN_OFF))
    error = failure(google_errors.ServerError, lambda: list(stream))
    assert (error.code, error.status) == (502, "UNAVAILABLE"), error


@gateway_only
def broken_stream_of_bedrock(caller):
    caller.expect_broken_stream("bedrock", "converse_stream")
    stream = bedrock_client(caller).converse_stream(**bedrock_fields(script.BROKEN_OFF))["stream"]
    error = failure(botocore.exceptions.EventStreamError, lambda: list(stream))
    assert error.response["Error"]["Code"] == "serviceUnavailableException", error.response
