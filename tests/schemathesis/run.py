"""Starts a server with something of every resource in it, and runs schemathesis against it.

Usage: run.py TOLLGATE SCHEMATHESIS SECONDS
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "sdk"))

import gateway  # noqa: E402
import upstream  # noqa: E402


def seed(running):
    """Makes what the hooks put into paths; returns it with the keys."""
    workspace = running.workspace
    configurations = running.call("GET", f"{workspace}/model-configurations?limit=200")["data"]
    called = next(one for one in configurations if one["name"] == "llama")
    patched = next(one for one in configurations if one["name"] == "leave")
    user = running.call("POST", "users", {"email": "seed@example.com", "name": "Seed"})
    price = running.call("POST", "model-prices", {
        "provider": "openai_compatible", "model": "tiny", "price": {"input": 1, "output": 2}})
    policy = running.call("POST", "gateway-policies", {
        "name": "Seed", "policy_type": "spend_cap", "config": {"window": "daily", "limit_usd": 1000},
        "subject_matchers": [{"key": "user_id", "value": user["id"]}]})
    route = running.call("POST", "gateway-policies", {
        "name": "Seed route", "policy_type": "route_config",
        "subject_matchers": [{"key": "workspace_id", "value": workspace.split("/")[1]}],
        "config": {"fallbacks": [{"model_configs": [{"model_config_id": called["id"]}]}]}})
    checked = running.call("POST", f"{workspace}/model-configurations/{called['id']}/check")
    assert checked["ok"], checked
    return {
        "url": running.url,
        "keys": {"platform": running.organization["platform_key"], "admin": running.admin_key,
                 "caller": running.caller_key},
        "ids": {
            "organization_id": running.organization["organization_id"],
            "workspace_id": workspace.split("/")[1],
            "user_id": user["id"],
            "model_price_id": price["id"],
            "policy_id": policy["id"],
            "configuration_id": patched["id"],
            "name": "LLAMA_KEY",
            "configName": called["name"],
            "routeName": route["name"],
            "id": "tiny",
        },
    }


def main(tollgate, schemathesis, seconds):
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        running = gateway.Gateway(tollgate, directory, upstream.start(), "sk-upstream")
        try:
            (directory / "seed.json").write_text(json.dumps(seed(running)))
            environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"), "SEED": str(directory / "seed.json"),
                           "PYTHONPATH": str(HERE)}
            ended = subprocess.run(
                [schemathesis, "--config-file", HERE / "schemathesis.toml", "run", f"{running.url}/openapi.json",
                 "--max-time", seconds],
                env=environment, cwd=directory, check=False)
            if ended.returncode:
                print("The gateway's log ends:\n" + running.process.output()[-2000:])
            return ended.returncode
        finally:
            running.process.stop()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
