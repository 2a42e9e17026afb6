"""A provider that says what it was told, plain or streamed in small pieces, and keeps what it got."""
import http.server
import json
import threading

# Pieces of so many characters cut every placeholder.
PIECE = 5


class Upstream:
    """Serves on a thread of its own until the process ends."""

    def __init__(self):
        self.bodies = []

        class Handler(http.server.BaseHTTPRequestHandler):
            upstream = self
            protocol_version = "HTTP/1.1"
            do_POST = answer

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}/v1"

    def last(self):
        """The last request's body as text."""
        return self.bodies[-1]


def answer(handler):
    text = handler.rfile.read(int(handler.headers["Content-Length"])).decode()
    handler.upstream.bodies.append(text)
    request = json.loads(text)
    said = request["messages"][-1]["content"]
    if request.get("stream"):
        body, content_type = as_events(said), "text/event-stream"
    else:
        body, content_type = as_completion(said), "application/json"
    handler.send_response(200)
    handler.send_header("Content-Type", content_type)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def as_completion(said):
    choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
    return json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "echo", "choices": [choice],
                       "usage": usage}).encode()


def as_events(said):
    pieces = [said[at:at + PIECE] for at in range(0, len(said), PIECE)]
    choices = [{"index": 0, "delta": {"content": piece}, "finish_reason": None} for piece in pieces]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "echo"}
    events = [json.dumps({**head, "choices": [choice]}) for choice in choices]
    return "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]).encode()
