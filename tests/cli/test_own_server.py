"""A server of OpenAI's shape on this machine that has chat and models, and neither batches nor files: vLLM, llama.cpp, Ollama."""

import csv
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from batchkit.files import jsonl
from tests.cli.conftest import QUICK
from tests.workloads import chat_line, read_lines, write_lines

MODEL = "tiny"


class _Server(BaseHTTPRequestHandler):
    """Answers chats with ``yes``, as llama.cpp's server writes them; with ``key`` it asks for one."""

    protocol_version = "HTTP/1.1"
    key: str | None = None
    calls: ClassVar[list[dict[str, Any]]] = []

    def log_message(self, *_):
        """Print nothing."""

    def do_GET(self):
        """List the models."""
        self._answer({"object": "list", "data": [{"id": MODEL, "object": "model"}]}, path="/v1/models")

    def do_POST(self):
        """Answer a chat."""
        body = jsonl.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.calls.append(body)
        message = {"role": "assistant", "content": "yes"}
        self._answer(
            {
                "object": "chat.completion",
                "model": body.get("model"),
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
                "timings": {"predicted_ms": 1.5},
            },
            path="/v1/chat/completions",
        )

    def _answer(self, value, *, path):
        status = 200
        if self.path != path:
            status, value = 404, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}
        elif self.key is not None and self.headers["Authorization"] != f"Bearer {self.key}":
            status = 401
            value = {"error": {"code": 401, "message": "Invalid API Key", "type": "authentication_error"}}
        data = jsonl.dumps(value)
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(key=None):
    """Serve until the block ends; yields the flags of commands and the list of bodies that came."""
    calls: list[dict[str, Any]] = []
    handler = type("Handler", (_Server,), {"key": key, "calls": calls})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/v1"
        yield ("--provider", "custom", "--base-url", address, "--lane", "sync", "--no-prefect"), calls
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)


def test_requests_are_run_without_a_key(batchkit):
    """``run`` needs an address and nothing else, and its price is said to be unknown."""
    write_lines(
        Path("input.jsonl"), [chat_line(f"r{number}", f"question {number}", model=MODEL) for number in range(9)]
    )
    with serving() as (flags, calls):
        ended = batchkit("run", "input.jsonl", *flags, "-o", "out.jsonl")
        assert ended.code == 0, ended.err
        assert [row["custom_id"] for row in read_lines(Path("out.jsonl"))] == [f"r{number}" for number in range(9)]
        assert batchkit("run", "input.jsonl", *flags, "-o", "out.jsonl").code == 0
        assert len(calls) == 9
        report = jsonl.loads(batchkit("status", "input", "--json").out)
        assert (report["lane"], report["usage"]["total_tokens"]) == ("sync", 54)


def test_a_table_is_annotated_at_an_unknown_price(batchkit):
    """``annotate`` says that the price is unknown, before and after, and asks each row once."""
    Path("rows.csv").write_text("id,text\n1,good\n2,bad\n")
    with serving() as (flags, calls):
        ask = ("annotate", "rows.csv", "--key", "id", "--prompt", "{{ text }}?", "--choices", "yes,no", "-m", MODEL)
        assert "unknown" in batchkit(*ask, *flags, "--dry-run").out
        ended = batchkit(*ask, *flags, "-o", "out.csv")
        assert ended.code == 0, ended.err
        assert "cost:      unknown" in ended.out
        assert len(calls) == 2
    with Path("out.csv").open(newline="") as file:
        assert [(row["id"], row["answer"], row["cost_usd"]) for row in csv.DictReader(file)] == [
            ("1", "yes", ""),
            ("2", "yes", ""),
        ]


def test_an_evaluation_runs_on_it(batchkit):
    """``eval`` scores its answers, and compares a second run with the first."""
    Path("rows.csv").write_text("question,expected\n" + "".join(f"question {row},yes\n" for row in range(8)))
    Path("suite.yaml").write_text(
        "name: quick\ndataset: rows.csv\nprompt: '{{ question }}'\nexpected: expected\n"
        f"models: [{MODEL}]\nscorers: [exact]\n"
    )
    with serving() as (flags, calls):
        for _ in range(2):
            ended = batchkit("eval", "suite.yaml", *flags)
            assert ended.code == 0, ended.err
        assert len(calls) == 16


def test_a_server_that_asks_for_a_key_is_told(batchkit, monkeypatch):
    """Without the key the command stops with what to set; with it the same command resumes."""
    write_lines(Path("input.jsonl"), [chat_line("r", model=MODEL)])
    with serving(key="secret") as (flags, _):
        refused = batchkit("run", "input.jsonl", *flags, "-o", "out.jsonl")
        assert refused.code == 4
        assert "BATCHKIT_API_KEY" in refused.err
        monkeypatch.setenv("BATCHKIT_API_KEY", "secret")
        ended = batchkit("run", "input.jsonl", *flags, "-o", "out.jsonl", "--accept-other-key")
        assert ended.code == 0, ended.err


def test_another_machine_needs_a_key(batchkit):
    """No placeholder is sent over a network."""
    write_lines(Path("input.jsonl"), [chat_line("r", model=MODEL)])
    ended = batchkit(
        *("run", "input.jsonl", "--provider", "custom", "--base-url", "https://models.invalid/v1"), "--lane", "sync"
    )
    assert ended.code == 2
    assert "there is no API key" in ended.err


def test_endpoints_that_it_lacks_fail_alone(batchkit):
    """A request to an endpoint that the server does not have fails with the server's words, and the others are answered."""
    line = {"custom_id": "e", "method": "POST", "url": "/v1/embeddings", "body": {"model": MODEL, "input": "hello"}}
    write_lines(Path("input.jsonl"), [line, chat_line("c", model=MODEL)])
    with serving() as (flags, _):
        ended = batchkit("run", "input.jsonl", *flags, "-o", "out.jsonl")
    assert ended.code == 3, ended.err
    refused, answered = read_lines(Path("out.jsonl"))
    assert "File Not Found" in refused["error"]["message"]
    assert answered["error"] is None
