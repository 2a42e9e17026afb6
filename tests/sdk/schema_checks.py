"""What the gateway writes in other formats, as the snapshots under `tests/fixtures/golden` have it, is valid by
the providers' own descriptions of their APIs."""
import json
import pathlib

from jsonschema import Draft202012Validator

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"


def validators(name):
    """One for each use of a format: its requests, and for callers' formats its answers and events."""
    schema = json.loads((FIXTURES / "schemas" / f"{name}.json").read_text())
    return {use: Draft202012Validator({"$defs": schema["$defs"], **root})
            for use, root in schema["properties"].items()}


def requests():
    """Requests as providers get them: format, file, document."""
    for path in sorted((FIXTURES / "golden" / "requests").glob("*/*.json")):
        yield path.name.split(".")[-2], path, json.loads(path.read_text())


def answers():
    """Plain answers as callers get them; in some snapshots an error stands instead."""
    for path in sorted((FIXTURES / "golden" / "answers").glob("*/*.json")):
        text = path.read_text()
        if text.startswith("{"):
            yield path.name.split(".")[-2], path, json.loads(text)


def events():
    """Events of streams. Pings and a chat's errors are in no description, but in the APIs."""
    for path in sorted((FIXTURES / "golden" / "answers").glob("*/*.sse")):
        for line in path.read_text().splitlines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            event = json.loads(line.removeprefix("data: "))
            if event.get("type") != "ping" and set(event) != {"error"}:
                yield path.name.split(".")[-2], path, event


def check(use, documents):
    known, seen = {}, set()
    for name, path, document in documents:
        if name not in known:
            known[name] = validators(name)[use]
        error = next(known[name].iter_errors(document), None)
        assert error is None, f"{path}: {error}"
        if name not in seen:
            seen.add(name)
            refuses_something(known[name], document)
    return seen


def refuses_something(validator, document):
    """A schema that takes everything would show nothing."""
    assert any(not validator.is_valid({**document, key: 0}) for key in document), "it takes everything"


def requests_are_valid(_):
    assert check("request", requests()) == {"chat", "responses", "messages", "gemini", "converse"}


def plain_answers_are_valid(_):
    assert check("answer", answers()) == {"chat", "responses", "messages"}


def streamed_events_are_valid(_):
    assert check("event", events()) == {"chat", "responses", "messages"}


CHECKS = [(requests_are_valid, False), (plain_answers_are_valid, False), (streamed_events_are_valid, False)]
