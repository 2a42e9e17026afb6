"""An upstream on loopback that answers the data plane's four operations, whatever it is asked."""
import http.server
import json
import threading

CHAT = {"id": "c1", "object": "chat.completion", "created": 1, "model": "tiny", "choices": [
    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Good."}}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}
RESPONSE = {"id": "r1", "object": "response", "status": "completed", "model": "tiny", "output": [],
            "usage": {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}}
MODEL = {"id": "tiny", "object": "model", "created": 1, "owned_by": "nobody"}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        is_list = self.path.split("?")[0].endswith("/models")
        self._answer({"object": "list", "data": [MODEL]} if is_list else MODEL)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(CHAT if "/chat/" in self.path else RESPONSE)

    def log_message(self, *_):
        pass

    def _answer(self, body):
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def start():
    """Serves until the process ends; returns the base URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/v1"
