"""Tollgate as an operator sets it up: a new database, an organization, and the rest over the REST API."""
import json
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import provider_caller
import script
from processes import Process, free_port

WRONG_SECRET = "sk-wrong-secret-that-is-stored-all-the-same"
# Where the gateway looks for a provider's key; Bedrock's is named by its configuration.
PROVIDER_SECRETS = {
    "OPENAI_API_KEY": "openai",
    "ANTHROPIC_API_KEY": "anthropic",
    "GOOGLE_API_KEY": "gemini",
    "FIREWORKS_API_KEY": "fireworks",
    "DEEPSEEK_API_KEY": "deepseek",
    "AWS_BEARER_TOKEN_BEDROCK": "bedrock",
}
# A segment that only survives if it is encoded, matched and decoded once.
AWKWARD_NAME = "Team A/gpt 4+mini 100% ü?"


class Gateway:
    """A running gateway, its keys, and the configurations that the checks call."""

    def __init__(self, binary, directory, upstream_url, upstream_key, stub=None):
        """`stub` speaks for the built-in providers, which are left alone without it."""
        database = ["--database-url", f"sqlite:{directory / 'tollgate.db'}",
                    "--master-key-file", str(directory / "master.key")]
        # Options of whoever runs this must not reach the gateway under test.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")}
        made = subprocess.run([binary, "bootstrap", *database, "--organization", "sdk"],
                              capture_output=True, env=environment, check=False)
        if made.returncode:
            raise SystemExit("`tollgate bootstrap` failed:\n" + made.stderr.decode(errors="replace")[-2000:])
        self.organization = json.loads(made.stdout)
        self.admin_key = self.organization["admin_key"]
        self.url = f"http://127.0.0.1:{free_port()}"
        self.process = Process(
            [binary, "serve", *database, "--listen", self.url.removeprefix("http://"),
             "--egress-allow", "127.0.0.0/8", *(["--provider-origin", stub.origins()] if stub else [])],
            directory / "tollgate.log", environment)
        try:
            self.process.wait_for(self._is_ready, "tollgate")
            self._prepare(upstream_url, upstream_key)
            if stub:
                self._prepare_providers(stub)
        except BaseException:
            self.process.stop()
            raise

    def base_url(self, configuration):
        """What an application puts into its SDK."""
        return f"{self.url}/providers/{urllib.parse.quote(configuration, safe='')}/v1"

    def call(self, method, path, body=None):
        """One call of the management API as the organization's admin."""
        request = urllib.request.Request(
            f"{self.url}/api/v1/{path}", method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.admin_key}", "Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from error
        return json.loads(text) if text else None

    def issue_key(self, name):
        """A caller's key; the answer has `id` and, this once, `key`."""
        return self.call("POST", f"{self.workspace}/api-keys", {"name": name, "role": "GATEWAY_CALLER"})

    def revoke_key(self, identifier):
        self.call("DELETE", f"{self.workspace}/api-keys/{identifier}")

    def _is_ready(self):
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def _prepare(self, upstream_url, upstream_key):
        workspace = self.call("POST", "workspaces", {"name": "SDK", "handle": "sdk"})
        self.workspace = f"workspaces/{workspace['id']}"
        self.call("PUT", f"{self.workspace}/secrets/LLAMA_KEY", {"value": upstream_key})
        self.call("PUT", f"{self.workspace}/secrets/WRONG_KEY", {"value": WRONG_SECRET})
        self._configure("llama", upstream_url)
        self._configure(AWKWARD_NAME, upstream_url)
        self._configure("leave", upstream_url, stream_usage="leave")
        self._configure("wrong-secret", upstream_url, api_key_name="WRONG_KEY")
        self._configure("disabled", upstream_url, enabled=False)
        self._configure("hasty", upstream_url, timeouts={"first_byte_ms": 20})
        self._configure("nobody-there", f"http://127.0.0.1:{free_port()}/v1")
        self.caller_key = self.issue_key("sdk")["key"]

    def _prepare_providers(self, stub):
        for secret, provider in PROVIDER_SECRETS.items():
            self.call("PUT", f"{self.workspace}/secrets/{secret}", {"value": stub.key(provider)})
        read, cached, written = (float(price) for price in provider_caller.PRICES["bedrock"])
        self._configure(
            provider_caller.BEDROCK_CONFIGURATION, f"{stub.url}/bedrock", provider="bedrock",
            model=script.MODELS["bedrock"], api_key_name="AWS_BEARER_TOKEN_BEDROCK",
            price={"input": read, "cached_input": cached, "output": written})
        # That of the documentation's examples.
        self._configure("main", f"{stub.url}/deepseek/v1", model=script.MODELS["deepseek"],
                        api_key_name="DEEPSEEK_API_KEY")

    def _configure(self, name, base_url, **fields):
        self.call("POST", f"{self.workspace}/model-configurations", {
            "name": name, "provider": "openai_compatible", "base_url": base_url, "model": "tiny",
            "api_key_name": "LLAMA_KEY", **fields})
