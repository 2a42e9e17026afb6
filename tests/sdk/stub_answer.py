"""What a stub provider answers: a status, headers, and a body or the pieces of a stream."""
import dataclasses
import json


@dataclasses.dataclass
class Request:
    method: str
    path: str  # below the provider's name
    query: str
    headers: dict  # names in lower case
    text: str

    @property
    def body(self):
        return json.loads(self.text)


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict
    pieces: list  # of bytes; each is one chunk of a chunked body if there are several


def as_json(body, status=200, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"content-type": "application/json", **headers}, [json.dumps(body).encode()])


def as_events(events):
    """Server-sent events from pairs of a name, or None, and data: text, or what is to be JSON."""
    def event(name, data):
        text = data if isinstance(data, str) else json.dumps(data)
        return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()

    return Answer(200, {"content-type": "text/event-stream"}, [event(name, data) for name, data in events])
