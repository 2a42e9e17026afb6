"""A gateway with two workspaces whose guards find names: one blocks what it cannot search, one lets it pass."""
import json
import os
import subprocess
import urllib.error
import urllib.request

from processes import Process, free_port

# Of a busy machine with a cold model.
PATIENT = 30
# For the checks in which Presidio does not answer.
IMPATIENT = 1


class Team:
    """A workspace with a guard, and a caller of it."""

    def __init__(self, gateway, name, upstream_url, timeout_action):
        self.gateway, self.timeout_action = gateway, timeout_action
        identifier = gateway.manage("POST", "workspaces", {"name": name, "handle": name})["id"]
        workspace = f"workspaces/{identifier}"
        gateway.manage("PUT", f"{workspace}/secrets/KEY", {"value": "key-of-the-provider"})
        gateway.manage("POST", f"{workspace}/model-configurations", {
            "name": "main", "provider": "openai_compatible", "base_url": upstream_url, "model": "echo",
            "api_key_name": "KEY"})
        key = gateway.manage("POST", f"{workspace}/api-keys", {"name": name, "role": "GATEWAY_CALLER"})
        self.key = key["key"]
        policy = gateway.manage("POST", "gateway-policies", {
            "name": "No names", "policy_type": "guard", "config": self._config(PATIENT),
            "subject_matchers": [{"key": "workspace_id", "value": identifier}]})
        self.policy = f"gateway-policies/{policy['id']}"

    def _config(self, seconds):
        return {"version": 1, "detect": {"pii": ["email", "person_name", "location", "organization"]},
                "timeout_seconds": seconds, "timeout_action": self.timeout_action}

    def wait_at_most(self, seconds):
        self.gateway.manage("PATCH", self.policy, {"config": self._config(seconds)})

    def ask(self, *messages, stream=False, **more):
        """The status, and what the model said, or the error's code."""
        messages = [{"role": "user", "content": text} for text in messages]
        body = {"messages": messages, "stream": stream, **more}
        status, text = self.gateway.call("POST", "/providers/main/v1/chat/completions", self.key, body)
        if status != 200:
            return status, json.loads(text)["error"]["code"]
        if not stream:
            return status, json.loads(text)["choices"][0]["message"]["content"]
        data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
        deltas = [choice["delta"] for event in data for choice in json.loads(event)["choices"]]
        return status, "".join(delta.get("content") or "" for delta in deltas)


class Gateway:
    def __init__(self, binary, directory, presidio_url):
        database = ["--database-url", f"sqlite:{directory / 'tollgate.db'}",
                    "--master-key-file", str(directory / "master.key")]
        # Options of whoever runs this must not reach the gateway under test.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")}
        made = subprocess.run([binary, "bootstrap", *database, "--organization", "presidio"], capture_output=True,
                              env=environment, check=True)
        self.keys = json.loads(made.stdout)
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}"
        self.process = Process(
            [binary, "serve", *database, "--listen", address, "--egress-allow", "127.0.0.0/8",
             "--presidio-url", presidio_url], directory / "tollgate.log", environment)
        self.process.wait_for(self._is_ready, "tollgate")

    def _is_ready(self):
        try:
            return self.call("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def call(self, method, path, key=None, body=None):
        """The status and the text of an answer."""
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, method=method, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def manage(self, method, path, body=None):
        """A call of the management API as the organization's admin."""
        status, text = self.call(method, f"/api/v1/{path}", self.keys["admin_key"], body)
        if status >= 300:
            raise AssertionError(f"{method} {path}: {status} {text}")
        return json.loads(text) if text else None

    def breaker(self):
        """Whether Presidio is called, by the details of readiness."""
        _, text = self.call("GET", "/readyz", self.keys["platform_key"])
        return json.loads(text)["details"]["presidio_breaker"]
