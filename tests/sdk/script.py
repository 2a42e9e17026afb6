"""What the stub providers say, in whatever format they are asked. The checks compare with it."""
import dataclasses
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
PLACEHOLDER = r"TG_[A-Z]+_[A-Z2-7]{12}"
TOOL_RESULT = "five pence"
ANSWER_WITH_RESULT = ("Five ", "pence, ", "then.")
# A request that asks for an answer in a schema gets these.
PRICE = {"amount": 2, "unit": "pence"}
PRICE_SCHEMA = {"type": "object", "properties": {"amount": {"type": "integer"}, "unit": {"type": "string"}},
                "required": ["amount", "unit"], "additionalProperties": False}
STRUCTURED_ANSWER = ('{"amount": 2, ', '"unit": "pence"}')
# A request that contains this is thought about first. The thoughts come with what proves them, and the next
# request of a loop of tools has to bring both back.
THINK = "think it over"
THOUGHT = ("The bridge ", "is a toll bridge.")
SIGNATURE = "c3R1YiBzaWduYXR1cmUgb2YgdGhvdWdodHM="
REASONING_ID = "rs_stub1"
# A request that contains one of these fails at the provider: with 400, with 429, because the provider has too
# much to do, or because it does not take its key.
BAD_REQUEST = "refuse this"
RATE_LIMITED = "one too many"
OVERLOADED = "all at once"
KEY_REFUSED = "with a key of old"
# The provider's connection ends in the middle of a stream that is asked for with this.
BROKEN_OFF = "never end this"
RETRY_AFTER = "7"
ERROR_MESSAGE = "the stub provider says no"

# The usage of each answer: 20 tokens read, of which 8 came from the provider's cache.
INPUT, CACHED, OUTPUT = 20, 8, 5
# The part of the output that was thought: always with Gemini, with others if they were told to think.
THOUGHTS = 3
# What a count of tokens answers, and what embeddings are charged by.
COUNTED = 14
EMBEDDING = (0.25, -0.5, 1.0)

MODELS = {
    "openai": "gpt-4o-mini",
    "anthropic": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash",
    "fireworks": "accounts/fireworks/models/gpt-oss-120b",
    "deepseek": "deepseek-v4-flash",
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
    placeholder = re.search(PLACEHOLDER, body)
    arguments = {"bridge": placeholder.group()} if placeholder else TOOL_ARGUMENTS
    text = json.dumps(arguments)
    return arguments, (text[:len(text) // 2], text[len(text) // 2:])


@dataclasses.dataclass(frozen=True)
class Reply:
    """What a model says."""

    # The parts of its text; none if it calls the tool.
    words: tuple
    thought: tuple = ()

    @property
    def text(self):
        return "".join(self.words)

    @property
    def reasoning(self):
        return "".join(self.thought)

    @property
    def reasoning_tokens(self):
        return THOUGHTS if self.thought else 0


FAILURES = {BAD_REQUEST: "bad_request", RATE_LIMITED: "rate_limited", OVERLOADED: "overloaded",
            KEY_REFUSED: "credential"}


def outcome(body, offers_tools, schema=None, brings_thoughts=lambda: True):
    """What becomes of a request: the kind of an error, or a reply.

    `schema` is that of the answer. `brings_thoughts` tells whether the thoughts of the last turn are where the
    format has them; it is only asked where they have to be.
    """
    for text, kind in FAILURES.items():
        if text in body:
            return kind
    thought = THOUGHT if THINK in body else ()
    if TOOL_RESULT in body:
        if thought and not brings_thoughts():
            return "bad_request"
        return Reply(ANSWER_WITH_RESULT, thought)
    if schema is not None:
        return Reply(STRUCTURED_ANSWER, thought) if is_price(schema) else "bad_request"
    return Reply(() if offers_tools else ANSWER, thought)


def is_price(schema):
    """Whether it asks for `PRICE`, whatever else an SDK writes into schemas."""
    schema = json.loads(schema) if isinstance(schema, str) else schema
    kinds = {name: field.get("type") for name, field in schema["properties"].items()}
    return kinds == {"amount": "integer", "unit": "string"}
