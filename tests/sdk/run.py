"""Runs the checks: the official OpenAI SDK through the gateway to llama.cpp's own server.

Usage: run.py --tollgate BINARY | --direct
`--direct` leaves the gateway out, to check the server and these scripts.
"""
import argparse
import pathlib
import re
import secrets
import sys
import tempfile
import traceback

import openai

import checks
import gateway
import tiny_model
from processes import Process


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


def run_checks(caller):
    passed = failed = 0
    for check, gateway_only in checks.CHECKS:
        if gateway_only and caller.gateway is None:
            continue
        name = check.__name__.replace("_", " ")
        try:
            check(caller)
        except Exception:  # whatever it is, the check failed, and the others still count
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
        else:
            passed += 1
            print(f"ok      {name}", flush=True)
    return passed, failed


def run(binary, directory):
    upstream_key = "sk-upstream-" + secrets.token_hex(16)
    model = directory / "tiny.gguf"
    tiny_model.make(model)
    here = pathlib.Path(__file__).parent
    server = Process([sys.executable, here / "inference_server.py", model, upstream_key], directory / "llama.log")
    running = None
    try:
        listening = server.wait_for(
            lambda: re.search(r"^listening (http\S+)$", server.output(), re.MULTILINE), "llama.cpp's server")
        upstream_url = listening[1] + "/v1"
        if binary is None:
            return run_checks(Caller(lambda _: upstream_url, upstream_key, "sk-wrong"))
        running = gateway.Gateway(binary, directory, upstream_url, upstream_key)
        wrong_key = "tg_" + secrets.token_hex(24)
        passed, failed = run_checks(Caller(running.base_url, running.caller_key, wrong_key, running,
                                           (upstream_key, gateway.WRONG_SECRET)))
        if failed:
            print("The gateway's log ends:\n" + running.process.output()[-4000:])
        return passed, failed
    finally:
        if running is not None:
            running.process.stop()
        server.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--tollgate", metavar="BINARY")
    how.add_argument("--direct", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        passed, failed = run(arguments.tollgate, pathlib.Path(directory))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
