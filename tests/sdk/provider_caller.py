"""Applications of the stub providers, and what the ledger has to say about their calls."""
import collections
import dataclasses
import decimal

import script

BEDROCK_CONFIGURATION = "nova"
# USD for a million tokens: input, cached input, output; as the gateway's catalogue has them. It has no
# price of cached input for Fireworks, and Bedrock's is the configuration's own.
PRICES = {
    "openai": ("0.15", "0.075", "0.6"),
    "anthropic": ("1", "0.1", "5"),
    "gemini": ("0.3", "0.03", "2.5"),
    "fireworks": ("0.15", "0.15", "0.6"),
    "deepseek": ("0.3", "0.006", "1.2"),
    "bedrock": ("0.5", "0.25", "2"),
    # Bedrock under its own name, at the catalogue's prices.
    "bedrock nova": ("0.035", "0.00875", "0.14"),
    "bedrock claude": ("1.1", "0.11", "5.5"),
}
UNKNOWN_TOKENS = (None, None, None)


@dataclasses.dataclass(frozen=True)
class Row:
    """What is compared of one row of `/requests`."""

    upstream: str  # the provider's name, or the configuration's
    route: str
    model: str
    status: int
    tokens: tuple  # input, cached input, output
    cost: decimal.Decimal | None
    outcome: str = "completed"

    @classmethod
    def of(cls, row):
        tokens = tuple(row["usage"][f"{kind}_tokens"] for kind in ("input", "cached_input", "output"))
        cost = None if row["cost_usd"] is None else decimal.Decimal(str(row["cost_usd"]))
        if row["outcome"] != "completed":
            # Estimates, which have tests of their own.
            tokens, cost = UNKNOWN_TOKENS, None
        return cls(row["configuration"], row["route"], row["model"], row["status"], tokens, cost, row["outcome"])


class ProviderRun:
    """The stub providers, the gateway before them if there is one, and the applications so far."""

    def __init__(self, stub, gateway=None):
        self.stub, self.gateway = stub, gateway
        self.applications = []

    def application(self, name):
        self.applications.append(Application(name, self))
        return self.applications[-1]


class Application:
    """What one check calls with: a key of its own, so that its rows can be told from the others'."""

    def __init__(self, name, run):
        self.name, self.run = name, run
        self.stub, self.gateway = run.stub, run.gateway
        self.issued = self.gateway.issue_key(name) if self.gateway else None
        self.expected = collections.Counter()

    def key(self, provider):
        return self.issued["key"] if self.gateway else self.stub.key(provider.split()[0])

    def base_url(self, provider):
        """Without a version, and without what Bedrock has below it."""
        if self.gateway and provider == "bedrock":
            return f"{self.gateway.url}/providers/{BEDROCK_CONFIGURATION}"
        provider = provider.split()[0]
        return f"{self.gateway.url if self.gateway else self.stub.url}/{provider}"

    def expect_answers(self, provider, route, times=1):
        """So many answers of the provider's model with the script's usage."""
        prices = [decimal.Decimal(price) / 1_000_000 for price in PRICES[provider]]
        amounts = (script.INPUT - script.CACHED, script.CACHED, script.OUTPUT)
        cost = sum(price * amount for price, amount in zip(prices, amounts))
        tokens = (script.INPUT, script.CACHED, script.OUTPUT)
        self._expect(Row(upstream_name(provider), route, script.MODELS[provider], 200, tokens, cost), times)

    def expect_free(self, provider, route, model="", status=200):
        """A call that costs nothing: it asks for no answer of a model, or the provider refused it."""
        self._expect(Row(upstream_name(provider), route, model, status, UNKNOWN_TOKENS, decimal.Decimal(0)))

    def expect_refusals(self, provider, route, *statuses):
        for status in statuses:
            self.expect_free(provider, route, script.MODELS[provider], status)

    def expect_refused_key(self, provider, route, status):
        """The provider did not take the gateway's key, which it said with this status."""
        row = Row(upstream_name(provider), route, script.MODELS[provider], status, UNKNOWN_TOKENS, None, "failed")
        self._expect(row)

    def expect_broken_stream(self, provider, route):
        model = script.MODELS[provider]
        self._expect(Row(upstream_name(provider), route, model, 200, UNKNOWN_TOKENS, None, "upstream_broke"))

    def expect_embeddings(self, provider, route, price):
        """One answer; the price is that of input, None if there is none."""
        cost = None if price is None else decimal.Decimal(price) * script.COUNTED / 1_000_000
        model = script.EMBEDDING_MODELS[provider]
        self._expect(Row(provider, route, model, 200, (script.COUNTED, None, 0), cost))

    def _expect(self, row, times=1):
        self.expected[row] += times

    def rows(self):
        """The rows of this application's key in the ledger."""
        path = f"{self.gateway.workspace}/requests?limit=200&api_key_id={self.issued['id']}"
        return [Row.of(row) for row in self.gateway.call("GET", path)["data"]]


def upstream_name(provider):
    return BEDROCK_CONFIGURATION if provider == "bedrock" else provider.split()[0]
