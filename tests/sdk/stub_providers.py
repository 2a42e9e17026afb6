"""Providers of a few formats on one port of loopback, until standard input ends.

Usage: stub_providers.py SEED
Prints `listening http://...` once it can be called. Each provider is below its name, as in `/openai/v1/models`,
and wants its own key (`script.provider_key`) where the real one wants it. `GET /recorded` has what was called,
and what of it should never have reached a provider; `GET /recorded/last` has the last call.
"""
import http.server
import sys
import threading
import urllib.parse

import script
import stub_anthropic
import stub_bedrock
import stub_gemini
import stub_openai
from stub_answer import Request, as_json

# The header of the key, what stands before it, and who answers.
PROVIDERS = {
    "openai": ("authorization", "Bearer ", stub_openai),
    "anthropic": ("x-api-key", "", stub_anthropic),
    "gemini": ("x-goog-api-key", "", stub_gemini),
    "fireworks": ("authorization", "Bearer ", stub_openai),
    "deepseek": ("authorization", "Bearer ", stub_openai),
    "bedrock": ("authorization", "Bearer ", stub_bedrock),
}
CREDENTIAL_HEADERS = {"authorization", "x-api-key", "x-goog-api-key", "x-goog-user-project", "cookie"}
GATEWAY_KEY_PREFIX = "tg_"


class Stub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self._serve()

    do_POST = do_HEAD = do_PUT = do_DELETE = do_PATCH = do_GET

    def _serve(self):
        url = urllib.parse.urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if url.path == "/recorded":
            with self.server.lock:
                return self._send(as_json({"calls": self.server.calls, "problems": self.server.problems}))
        if url.path == "/recorded/last":
            with self.server.lock:
                return self._send(as_json(self.server.calls[-1]))
        name, _, path = url.path.removeprefix("/").partition("/")
        headers = {name.lower(): value for name, value in self.headers.items()}
        text = body.decode(errors="replace")
        self._record(name, headers, text)
        if name not in PROVIDERS:
            return self._send(as_json({}, 404))
        place, before, provider = PROVIDERS[name]
        key = script.provider_key(name, self.server.seed)
        # Without a gateway, Anthropic's SDK sends its key as a bearer token, which that API accepts. A gateway
        # that did so would be recorded as a problem.
        if headers.get(place) != before + key and headers.get("authorization") != f"Bearer {key}":
            return self._send(provider.error("credential"))
        answer = provider.answer(Request(self.command, f"/{path}", url.query, headers, text))
        self._send(answer, is_whole=script.BROKEN_OFF not in text)

    def _record(self, name, headers, text):
        own = PROVIDERS[name][0] if name in PROVIDERS else None
        problems = [f"{header} must not arrive here" for header in headers
                    if (header in CREDENTIAL_HEADERS and header != own) or header.startswith("x-amz-")]
        if any(GATEWAY_KEY_PREFIX in value for value in (self.path, text, *headers.values())):
            problems.append("a key of the gateway")
        call = {"method": self.command, "target": self.path, "headers": headers, "text": text}
        with self.server.lock:
            self.server.calls.append(call)
            self.server.problems += [f"{self.command} {self.path}: {problem}" for problem in problems]

    def _send(self, answer, is_whole=True):
        self.send_response(answer.status)
        for header, value in answer.headers.items():
            self.send_header(header, value)
        is_chunked = len(answer.pieces) > 1
        if is_chunked:
            self.send_header("transfer-encoding", "chunked")
        else:
            self.send_header("content-length", str(len(answer.pieces[0])))
        self.end_headers()
        for piece in answer.pieces if is_whole else answer.pieces[:len(answer.pieces) // 2]:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
        if not is_whole:
            self.close_connection = True
        elif is_chunked:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        """The calls are recorded, with more about them."""


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    server.seed = sys.argv[1]
    server.lock, server.calls, server.problems = threading.Lock(), [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"listening http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
