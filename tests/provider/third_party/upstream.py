"""A chat server on loopback that stands behind a gateway, and counts how often it is asked each question."""

from __future__ import annotations

import json  # noqa: TID251 - the server is the other side; it must not share a parser with the code under test
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

MODEL = "tiny"


class Upstream:
    """Answers each question with its own text. ``refused`` questions are 400, ``busy`` ones 503 so many times at first."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.refused: set[str] = set()
        self.busy: dict[str, int] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def base_url(self) -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return the status and the reply to a chat request."""
        question = body["messages"][-1]["content"]
        with self._lock:
            self.asked[question] += 1
            is_busy = self.asked[question] <= self.busy.get(question, 0)
        if question in self.refused:
            return 400, {
                "error": {"message": "this question is refused", "type": "invalid_request_error", "code": "no"}
            }
        if is_busy:
            return 503, {"error": {"message": "the engine is busy", "type": "server_error", "code": None}}
        message = {"role": "assistant", "content": f"Echo: {question}"}
        return 200, {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_words: object) -> None:
                """Print nothing."""

            def do_GET(self) -> None:
                model = {"id": MODEL, "object": "model", "created": 1, "owned_by": "tests"}
                self._reply(200, {"object": "list", "data": [model]})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self._reply(*upstream.answer(json.loads(body)))

            def _reply(self, status: int, value: dict[str, Any]) -> None:
                content = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        return Handler
