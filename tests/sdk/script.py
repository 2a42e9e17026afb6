"""What the stub providers say, in whatever format they are asked. The checks compare with it."""
import json
import re

QUESTION = "What does the bridge cost?"
# The text of an answer; each event of a stream has one of these parts.
ANSWER = ("Two ", "pence, ", "please.")
# A request that offers tools is answered with one call, and one that holds the tool's result with a text again.
TOOL = "price_of"
TOOL_DESCRIPTION = "The price of a bridge"
TOOL_PARAMETERS = {"type": "object", "properties": {"bridge": {"type": "string"}}, "required": ["bridge"]}
TOOL_ARGUMENTS = {"bridge": "tower"}
TOOL_CALL_ID = "call_stub_1"
# Where a value was replaced by a placeholder, the tool is called with that.
PLACEHOLDER = re.compile(r"TG_[A-Z]+_[A-Z2-7]{12}")
TOOL_RESULT = "five pence"
ANSWER_WITH_RESULT = ("Five ", "pence, ", "then.")
# A request that contains one of these fails at the provider, with 400 or with 429.
BAD_REQUEST = "refuse this"
RATE_LIMITED = "one too many"
# The provider's connection ends in the middle of a stream that is asked for with this.
BROKEN_OFF = "never end this"
RETRY_AFTER = "7"
ERROR_MESSAGE = "the stub provider says no"

# The usage of each answer: 20 tokens read, of which 8 came from the provider's cache.
INPUT, CACHED, OUTPUT = 20, 8, 5
# The part of Gemini's output that was thought.
THOUGHTS = 3
# What a count of tokens answers, and what embeddings are charged by.
COUNTED = 14
EMBEDDING = (0.25, -0.5, 1.0)

MODELS = {
    "openai": "gpt-4o-mini",
    "anthropic": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash",
    "fireworks": "accounts/fireworks/models/gpt-oss-120b",
    "bedrock": "us.amazon.nova-micro-v1:0",
    "bedrock nova": "us.amazon.nova-micro-v1:0",
    "bedrock claude": "us.anthropic.claude-haiku-4-5-20251001-v1:0",
}
EMBEDDING_MODELS = {"openai": "text-embedding-3-small", "gemini": "gemini-embedding-001"}


def provider_key(provider, seed):
    """The key of a provider's account; `seed` is made anew for each run."""
    return f"sk-stub-{provider}-{seed}"


def tool_arguments(body):
    """What the tool is called with, and its two halves as JSON: the first ends within a placeholder."""
    placeholder = PLACEHOLDER.search(body)
    arguments = {"bridge": placeholder.group()} if placeholder else TOOL_ARGUMENTS
    text = json.dumps(arguments)
    return arguments, (text[:len(text) // 2], text[len(text) // 2:])


def outcome(body, offers_tools):
    """What becomes of a request: `bad_request`, `rate_limited`, `tool_call`, or the text's parts."""
    if BAD_REQUEST in body:
        return "bad_request"
    if RATE_LIMITED in body:
        return "rate_limited"
    if TOOL_RESULT in body:
        return ANSWER_WITH_RESULT
    return "tool_call" if offers_tools else ANSWER
