"""Runs the checks: official SDKs through the gateway, OpenAI's to llama.cpp's own server, and those of all
formats to stub providers. Validates the snapshots of converted requests and answers, too.

Usage: run.py --tollgate BINARY | --direct
`--direct` leaves the gateway out, to check the servers and these scripts.
"""
import argparse
import contextlib
import os
import pathlib
import re
import secrets
import sys
import tempfile
import traceback

import openai

import agent_checks
import checks
import documentation_checks
import gateway
import gateway_error_checks
import guard_checks
import javascript_checks
import langchain_checks
import ledger_checks
import provider_checks
import schema_checks
import tiny_model
import unified_agent_checks
import unified_checks
import unified_error_checks
from processes import Process
from provider_caller import ProviderRun
from stub_client import StubProviders

PROVIDER_CHECKS = [*provider_checks.CHECKS, *gateway_error_checks.CHECKS, *guard_checks.CHECKS,
                   *langchain_checks.CHECKS, *agent_checks.CHECKS, *unified_checks.CHECKS,
                   *unified_error_checks.CHECKS, *unified_agent_checks.CHECKS, *documentation_checks.CHECKS,
                   *javascript_checks.CHECKS, *ledger_checks.CHECKS]
# Prefixes of variables from which SDKs would take another address, key or retry policy than the checks give
# them, or would report to LangSmith.
SDK_VARIABLES = ("ANTHROPIC_", "AWS_", "BOTO", "FIREWORKS_", "GEMINI_", "GOOGLE_", "LANGCHAIN_", "LANGSMITH_",
                 "OPENAI_")


class Caller:
    """An application: it makes clients, and writes down everything that comes back to them."""

    def __init__(self, base_url, key, wrong_key, running_gateway=None, gateway_secrets=()):
        self.base_url, self.key, self.wrong_key = base_url, key, wrong_key
        self.gateway, self.gateway_secrets = running_gateway, gateway_secrets
        self.transcript = []

    def client(self, configuration="llama", key=None, max_retries=0, attempts=None, **options):
        def record(answer):
            if attempts is not None:
                attempts.append(answer.status_code)
            self._record_head(answer)
            if "event-stream" not in answer.headers.get("content-type", ""):
                answer.read()
                self.transcript.append(answer.text)

        return openai.OpenAI(
            base_url=self.base_url(configuration), api_key=key or self.key, max_retries=max_retries, timeout=30,
            http_client=openai.DefaultHttpxClient(event_hooks={"response": [record]}), **options)

    def async_client(self):
        async def record(answer):
            self._record_head(answer)

        return openai.AsyncOpenAI(
            base_url=self.base_url("llama"), api_key=self.key, max_retries=0, timeout=30,
            http_client=openai.DefaultAsyncHttpxClient(event_hooks={"response": [record]}))

    def seen(self, stream):
        """The events of a stream, all of them, written down."""
        events = list(stream)
        self.transcript.extend(event.model_dump_json() for event in events)
        return events

    def _record_head(self, answer):
        self.transcript.append(f"{answer.status_code} {list(answer.headers.items())}")


class Tally:
    """Runs checks and counts how they end."""

    def __init__(self, has_gateway):
        self.has_gateway = has_gateway
        self.passed = self.failed = 0

    def run(self, listed, caller_of):
        """`caller_of` makes the caller of a check from its name."""
        for check, gateway_only in listed:
            if gateway_only and not self.has_gateway:
                continue
            name = check.__name__.replace("_", " ")
            try:
                check(caller_of(name))
            except Exception:  # whatever it is, the check failed, and the others still count
                self.failed += 1
                print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
            else:
                self.passed += 1
                print(f"ok      {name}", flush=True)


def run(binary, directory):
    upstream_key = "sk-upstream-" + secrets.token_hex(16)
    model = directory / "tiny.gguf"
    tiny_model.make(model)
    here = pathlib.Path(__file__).parent
    with contextlib.ExitStack() as children:
        server = Process([sys.executable, here / "inference_server.py", model, upstream_key], directory / "llama.log")
        children.callback(server.stop)
        stub = StubProviders(directory)
        children.callback(stub.process.stop)
        listening = server.wait_for(
            lambda: re.search(r"^listening (http\S+)$", server.output(), re.MULTILINE), "llama.cpp's server")
        upstream_url = listening[1] + "/v1"
        tally = Tally(binary is not None)
        tally.run(schema_checks.CHECKS, lambda _: None)
        if binary is None:
            caller = Caller(lambda _: upstream_url, upstream_key, "sk-wrong")
            tally.run(checks.CHECKS, lambda _: caller)
            tally.run(PROVIDER_CHECKS, ProviderRun(stub).application)
            return tally
        running = gateway.Gateway(binary, directory, upstream_url, upstream_key, stub)
        children.callback(running.process.stop)
        wrong_key = "tg_" + secrets.token_hex(24)
        caller = Caller(running.base_url, running.caller_key, wrong_key, running,
                        (upstream_key, gateway.WRONG_SECRET))
        tally.run(checks.CHECKS, lambda _: caller)
        tally.run(PROVIDER_CHECKS, ProviderRun(stub, running).application)
        if tally.failed:
            print("The gateway's log ends:\n" + running.process.output()[-4000:])
        return tally


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--tollgate", metavar="BINARY")
    how.add_argument("--direct", action="store_true")
    arguments = parser.parse_args()
    for name in list(os.environ):
        if name.startswith(SDK_VARIABLES):
            del os.environ[name]
    with tempfile.TemporaryDirectory() as directory:
        tally = run(arguments.tollgate, pathlib.Path(directory))
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed or not tally.passed else 0


if __name__ == "__main__":
    sys.exit(main())
