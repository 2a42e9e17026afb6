"""The official SDKs of OpenAI and Anthropic for JavaScript on the unified paths: `javascript/unified_checks.mjs`,
run by Node.js once for each provider."""
import json
import os
import subprocess

import script
import unified_error_checks
from registry import registry
from unified_checks import PROVIDERS, model_of

CHECKS, check, gateway_only = registry()
# Where `run.sh` has put the checks beside the SDKs.
DIRECTORY = "TOLLGATE_SDK_JAVASCRIPT"
# As many as there are in the file: chats, responses, messages, and errors.
COUNT = 4 + 4 + 4 + 6
# OpenAI's chats show no thoughts, and for Claude there is one more about them.
COUNTS = {"openai": COUNT - 1, "anthropic": COUNT + 1}


def run(caller, provider):
    said = {name: value for name, value in vars(script).items() if name.isupper()}
    given = {"gateway": caller.gateway.url, "key": caller.issued["key"], "provider": provider,
             "model": model_of(provider), "script": said}
    path = os.path.join(os.environ[DIRECTORY], "unified_checks.mjs")
    done = subprocess.run(["node", path], env={"PATH": os.environ["PATH"], "CHECKS": json.dumps(given)},
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    checks = [json.loads(line) for line in done.stdout.splitlines()]
    for one in checks:
        expect(caller, provider, one)
    failed = [f"{one['name']}: {one['error']}" for one in checks if one["error"]]
    assert not failed, "\n" + "\n".join(failed)
    assert len(checks) == COUNTS.get(provider, COUNT), [one["name"] for one in checks]


def expect(caller, provider, one):
    for route, times in one["answers"].items():
        caller.expect_answers(provider, route, times)
    if route := one.get("errors"):
        overloaded = unified_error_checks.OVERLOADED.get(provider, 503)
        caller.expect_refusals(provider, route, 400, 429, overloaded)
        caller.expect_refused_key(provider, route, unified_error_checks.REFUSED.get(provider, 401))
    if route := one.get("broken"):
        caller.expect_broken_stream(provider, route)


for each in PROVIDERS:
    def javascript(caller, provider=each):
        run(caller, provider)

    javascript.__name__ = f"javascript_over_{each}"
    gateway_only(javascript)
