"""The stub providers as the run sees them: a child process, its addresses and keys, and what it recorded."""
import json
import pathlib
import re
import secrets
import sys
import urllib.request

import script
from processes import Process

BUILT_IN = ("openai", "anthropic", "gemini", "fireworks", "deepseek", "bedrock")


class StubProviders:
    def __init__(self, directory):
        self.seed = secrets.token_hex(16)
        program = pathlib.Path(__file__).parent / "stub_providers.py"
        self.process = Process([sys.executable, program, self.seed], directory / "stub.log")
        listening = self.process.wait_for(
            lambda: re.search(r"^listening (http\S+)$", self.process.output(), re.MULTILINE), "the stub providers")
        self.url = listening[1]

    def key(self, provider):
        return script.provider_key(provider, self.seed)

    def origins(self):
        """The value of `--provider-origin`."""
        return ",".join(f"{provider}={self.url}/{provider}" for provider in BUILT_IN)

    def recorded(self):
        """`calls`, each with `method`, `target`, `headers` and `text`, and `problems`, as text."""
        return self._read("/recorded")

    def last_call(self):
        return self._read("/recorded/last")

    def _read(self, path):
        with urllib.request.urlopen(self.url + path, timeout=20) as answer:
            return json.loads(answer.read())
