"""Runs Presidio's analyzer and the gateway, and shows that names do not leave, that they come back in plain and
streamed answers, and what becomes of requests while Presidio is stalled, dead, and started again.

Usage: run.py TOLLGATE
"""
import contextlib
import json
import pathlib
import signal
import sys
import tempfile
import time
import urllib.request

sys.path.append(str(pathlib.Path(__file__).parent.parent / "sdk"))

from gateway import IMPATIENT, PATIENT, Gateway, Team  # noqa: E402
from processes import Process, free_port  # noqa: E402
from upstream import Upstream  # noqa: E402

EMAIL = "ada.lovelace@example.org"
QUESTION = f"😀 My name is Grace Hopper. I live in Arlington and work at Microsoft. Write to {EMAIL}."
NAMES = ["Grace Hopper", "Arlington", "Microsoft"]
LABELS = ["TG_PERSON_", "TG_PLACE_", "TG_ORG_", "TG_EMAIL_"]
# Small models take `fahrenheit`, `AUTO` and `customer_id` for names.
SCHEMA = {"type": "object", "required": ["customer_id"], "properties": {
    "customer_id": {"type": "integer"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit", "AUTO"]}}}
FORMAT = {"tool_choice": "auto", "reasoning_effort": "low", "tools": [
    {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}]}
# For the model to be loaded from a cold disk.
START = 120


class Analyzer:
    """Presidio's analyzer as a process, always at the same address."""

    def __init__(self, directory):
        self.directory, self.port, self.process = directory, free_port(), None
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self):
        script = pathlib.Path(__file__).parent / "analyzer.py"
        self.process = Process([sys.executable, script, self.port], self.directory / "analyzer.log")
        self.process.wait_for(self._is_up, "Presidio's analyzer", START)

    def _is_up(self):
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def send(self, number):
        self.process.child.send_signal(number)

    def kill(self):
        self.process.child.kill()
        self.process.child.wait()

    def analyze(self, texts):
        body = {"text": texts, "language": "en", "entities": ["PERSON", "LOCATION", "ORGANIZATION"]}
        request = urllib.request.Request(f"{self.url}/analyze", data=json.dumps(body).encode(),
                                         headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


def equal(got, expected, what):
    if got != expected:
        raise AssertionError(f"{what}: {got!r} instead of {expected!r}")


def eventually(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.2)


class Checks:
    def __init__(self, analyzer, gateway, upstream):
        self.analyzer, self.gateway, self.upstream = analyzer, gateway, upstream
        self.blocking = Team(gateway, "blocking", upstream.url, "block")
        self.allowing = Team(gateway, "allowing", upstream.url, "allow")

    def places_count_characters(self):
        found = self.analyzer.analyze([QUESTION, "Nothing here.", QUESTION])
        equal(len(found), 3, "the lists in the answer")
        texts = [{QUESTION[one["start"]:one["end"]] for one in of_text} for of_text in found]
        equal(texts, [set(NAMES), set(), set(NAMES)], "what Presidio found")

    def names_do_not_leave_and_come_back(self):
        for stream in (False, True):
            equal(self.blocking.ask(QUESTION, stream=stream), (200, QUESTION), f"the answer, stream={stream}")
            self.nothing_has_left()

    def nothing_has_left(self):
        sent = self.upstream.last()
        equal([name for name in [*NAMES, EMAIL] if name in sent], [], f"names in {sent}")
        equal([label for label in LABELS if label not in sent], [], f"missing placeholders in {sent}")

    def a_name_far_into_a_long_text_is_found(self):
        text = "The weather was fine and the sea was calm. " * 500 + QUESTION
        equal(self.blocking.ask("Hello", text), (200, text), "the answer to a long text")
        self.nothing_has_left()

    def words_of_the_format_stay(self):
        equal(self.blocking.ask(QUESTION, **FORMAT), (200, QUESTION), "the answer with tools")
        sent = json.loads(self.upstream.last())
        equal({name: sent[name] for name in FORMAT}, FORMAT, "what is no message")

    def a_sample_shows_names(self):
        shown = self.gateway.manage("POST", f"{self.blocking.policy}/test", {"text": QUESTION})
        found = {one["category"]: one["count"] for one in shown["findings"]}
        equal(found, {"person_name": 1, "location": 1, "organization": 1, "email": 1}, "the findings")

    def stalled(self):
        self.wait_at_most(IMPATIENT)
        self.analyzer.send(signal.SIGSTOP)
        try:
            self.is_away("stalled")
        finally:
            self.analyzer.send(signal.SIGCONT)
        self.is_back()

    def dead(self):
        self.analyzer.kill()
        self.is_away("dead")
        eventually(lambda: self.blocking.ask(QUESTION)[0] == 403 and self.gateway.breaker() == "open",
                   "the breaker opens")
        self.is_away("not called")
        self.analyzer.start()
        self.is_back()

    def is_away(self, how):
        equal(self.blocking.ask(QUESTION), (403, "content_blocked"), f"Presidio is {how}, the policy blocks")
        equal(self.allowing.ask(QUESTION), (200, QUESTION), f"Presidio is {how}, the policy lets pass")
        sent = self.upstream.last()
        equal("Grace Hopper" in sent and EMAIL not in sent, True, f"only the address is replaced in {sent}")

    def is_back(self):
        self.wait_at_most(PATIENT)
        eventually(lambda: self.blocking.ask(QUESTION) == (200, QUESTION), "names are found again")
        self.nothing_has_left()
        equal(self.gateway.breaker(), "closed", "the breaker")

    def wait_at_most(self, seconds):
        for team in (self.blocking, self.allowing):
            team.wait_at_most(seconds)

    def no_name_is_logged(self):
        log = self.gateway.process.output()
        equal([name for name in [*NAMES, EMAIL] if name in log], [], "names in the gateway's log")
        equal("person_name=1" in log, True, "the log counts names")

    def all(self):
        return [self.places_count_characters, self.names_do_not_leave_and_come_back,
                self.a_name_far_into_a_long_text_is_found, self.words_of_the_format_stay, self.a_sample_shows_names,
                self.stalled, self.dead, self.no_name_is_logged]


def main():
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        analyzer = Analyzer(directory)
        analyzer.start()
        stack.callback(lambda: analyzer.kill())
        gateway = Gateway(sys.argv[1], directory, analyzer.url)
        stack.callback(gateway.process.stop)
        for check in Checks(analyzer, gateway, Upstream()).all():
            began = time.monotonic()
            check()
            print(f"ok  {check.__name__}  ({time.monotonic() - began:.1f} s)", flush=True)


if __name__ == "__main__":
    main()
