"""Servers of third parties from the package index: whole workloads through the command, and batches that another client made."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from batchkit.emulator import Emulator, Scenario
from batchkit.emulator.faults import lines
from batchkit.files import jsonl
from tests.commands import QUICK
from tests.forked import ForkedCommand
from tests.lazy import LazyModule
from tests.workloads import CHAT, chat_line, read_lines, write_lines

from . import servers
from .environments import installed
from .upstream import Upstream

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from .servers import Server

openai = LazyModule("openai")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_000)]

COUNT = 300
#: More batches than a page of OGX's list has, so that looking one up needs the second page.
SHARD_LINES = 12
#: How the model is called by the emulator that stands behind LiteLLM.
EMULATED_MODEL = "gpt-4o-mini"
_COMMAND_SECONDS = 900
_BATCH_SECONDS = 300


@dataclass(frozen=True)
class Place:
    """A server, the engine behind it if there is one to ask, and a folder to work in."""

    server: Server
    folder: Path
    engine: Upstream | None = None
    emulator: Emulator | None = None

    def start(self, *words: str) -> ForkedCommand:
        """Start the command for this server, in a process of its own."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("BATCHKIT_", "PREFECT_"))},
            **QUICK,
            "BATCHKIT_HTTP_TIMEOUT_SECONDS": "60",
            "BATCHKIT_MAX_POLL_INTERVAL_SECONDS": "1",
            "BATCHKIT_PROVIDER": self.server.provider,
            "BATCHKIT_BASE_URL": self.server.base_url,
            f"{self.server.provider.upper()}_API_KEY": self.server.api_key,
            "COLUMNS": "200",
        }
        printed = self.folder.parent / "printed" / str(time.monotonic_ns())
        return ForkedCommand(words, self.folder, environment, printed)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return self.start(*words).completed(_COMMAND_SECONDS)

    def run_workload(self, source: Path) -> list[str]:
        """Return the words that run a workload of many shards on this server."""
        address = ("--provider", self.server.provider, "--base-url", self.server.base_url)
        return ["run", str(source), *address, "--name", "mine", "--shard-lines", str(SHARD_LINES), "--no-prefect"]

    def requests(self, name: str, count: int) -> list[dict[str, Any]]:
        """Return requests, each with a question of its own."""
        return [
            chat_line(f"{name}-{number:04d}", f"{name} {number}: naïve café, 日本語", model=self.server.model)
            for number in range(count)
        ]

    def client(self) -> Any:
        """Return a client of OpenAI's SDK for this server."""
        return openai.OpenAI(base_url=self.server.base_url, api_key=self.server.api_key, timeout=60)

    def batch_inputs(self) -> list[str]:
        """Return the input file of each batch that the server lists."""
        with self.client() as sdk:
            return [batch.input_file_id for batch in sdk.batches.list(limit=20)]

    def check_asked_once(self, requests: list[dict[str, Any]]) -> None:
        """Check that the engine was asked each question exactly once, as far as the engine keeps count."""
        if self.engine is not None:
            assert {question_of(request): self.engine.asked[question_of(request)] for request in requests} == {
                question_of(request): 1 for request in requests
            }
        if self.emulator is not None:
            totals = self.emulator.ledger().totals
            assert (totals.requests_executed, totals.bought_twice) == (len(requests), 0)


def question_of(request: dict[str, Any]) -> str:
    """Return the text of a request."""
    return str(request["body"]["messages"][0]["content"])


def check_answers(exported: list[dict[str, Any]], requests: list[dict[str, Any]]) -> None:
    """Check for one success for each request, in the order of the input, which answers its own question."""
    assert [line["custom_id"] for line in exported] == [request["custom_id"] for request in requests]
    assert {line["status"] for line in exported} == {"succeeded"}
    for line, request in zip(exported, requests, strict=True):
        # The dry run of AIBrix answers with the request, the others with an echo of the question.
        assert question_of(request) in str(line["response"]["body"])


@contextmanager
def ogx(cache: Path, folder: Path) -> Iterator[Place]:
    """Run OGX with an engine that counts."""
    commands = installed(servers.OGX, cache)
    with Upstream() as engine, servers.ogx(commands, folder / "server", engine.base_url) as server:
        yield Place(server, folder / "work", engine=engine)


@contextmanager
def aibrix(cache: Path, folder: Path) -> Iterator[Place]:
    """Run AIBrix, which needs a cluster for engines, in its dry run."""
    with servers.aibrix(installed(servers.AIBRIX, cache), folder / "server") as server:
        yield Place(server, folder / "work")


@contextmanager
def litellm(cache: Path, folder: Path, *faults: Any) -> Iterator[Place]:
    """Run LiteLLM's proxy before an emulated OpenAI."""
    commands = installed(servers.LITELLM, cache)
    with Emulator(folder / "emulator", Scenario(faults=faults), provider="openai", speed=20_000) as emulator:
        engine = (emulator.base_url, emulator.api_key, EMULATED_MODEL)
        with servers.litellm(commands, folder / "server", *engine) as server:
            yield Place(server, folder / "work", emulator=emulator)


@contextmanager
def llmock(cache: Path, folder: Path, provider: str, path: str, model: str) -> Iterator[Place]:
    """Run LLMock in the shape of a provider."""
    commands = installed(servers.LLMOCK, cache)
    with servers.llmock(commands, folder / "server", provider, path, model) as server:
        yield Place(server, folder / "work")


def llmock_openai(cache: Path, folder: Path) -> Any:
    """Run LLMock as OpenAI."""
    return llmock(cache, folder, "openai", "/v1", "gpt-4o")


def llmock_groq(cache: Path, folder: Path) -> Any:
    """Run LLMock as Groq."""
    return llmock(cache, folder, "groq", "/groq/openai/v1", "llama-3.3-70b-versatile")


@pytest.fixture
def cache(request) -> Path:
    """Return the folder in which the servers' environments are kept between runs."""
    folder: Path = request.config.cache.mkdir("third-party")
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return a folder with one for the server's files and one to work in."""
    own: Path = tmp_path
    for name in ("server", "work"):
        (own / name).mkdir()
    return own


@pytest.mark.parametrize("running", [ogx, aibrix, litellm, llmock_openai, llmock_groq])
def test_a_workload_runs_and_a_foreign_batch_is_adopted(cache, folder, running):
    """Some hundred requests in many shards, their status and export, then a batch of OpenAI's SDK: each is answered once."""
    with running(cache, folder) as place:
        requests = place.requests("mine", COUNT)
        source = write_lines(folder / "mine.jsonl", requests)

        ended = place.run(*place.run_workload(source))

        assert ended.returncode == 0, ended
        status = jsonl.loads(place.run("status", "mine", "--json").stdout)
        assert status["requests"]["succeeded"] == COUNT
        assert place.run("export", "mine", "mine-again.jsonl").returncode == 0
        check_answers(read_lines(place.folder / "mine-again.jsonl"), requests)
        place.check_asked_once(requests)
        inputs = place.batch_inputs()
        assert (len(inputs), len(set(inputs))) == (COUNT // SHARD_LINES, COUNT // SHARD_LINES)
        again = place.run(*place.run_workload(source))
        assert (again.returncode, place.batch_inputs()) == (0, inputs), again

        foreign = place.requests("theirs", 20)
        adopted = place.run("adopt", _batch_of_another_client(place, foreign), "--name", "theirs", "--json")

        assert adopted.returncode == 0, adopted
        assert jsonl.loads(adopted.stdout)["counts"]["answered"] == len(foreign)
        assert place.run("export", "theirs", "theirs.jsonl").returncode == 0
        check_answers(read_lines(place.folder / "theirs.jsonl"), foreign)
        place.check_asked_once([*requests, *foreign])
        assert len(place.batch_inputs()) == len(inputs) + 1


@pytest.mark.parametrize("running", [ogx, litellm])
def test_a_killed_command_buys_nothing_twice(cache, folder, running):
    """The command is killed while batches run and are created; the same command ends with each question asked once."""
    with running(cache, folder) as place:
        requests = place.requests("mine", COUNT)
        words = place.run_workload(write_lines(folder / "mine.jsonl", requests))
        for batches in (1, 12):
            _kill_after(place, batches, *words)

        ended = place.run(*words)

        assert ended.returncode == 0, ended
        check_answers(read_lines(place.folder / "mine.results.jsonl"), requests)
        place.check_asked_once(requests)


def test_ogx_asks_a_busy_engine_again_and_keeps_a_refusal(cache, folder):
    """OGX gives one code to every error of its engine: what passes is sent again, what does not fails with its reason."""
    with ogx(cache, folder) as place:
        assert place.engine is not None
        requests = place.requests("mine", 30)
        busy, refused = requests[3], requests[7]
        # The engine is asked three times for one request.
        place.engine.busy = {question_of(busy): 3}
        place.engine.refused = {question_of(refused)}

        ended = place.run(*place.run_workload(write_lines(folder / "mine.jsonl", requests)))

        assert ended.returncode == 3, ended
        exported = read_lines(place.folder / "mine.results.jsonl")
        failed = [(line["custom_id"], line["error"]["code"]) for line in exported if line["status"] == "failed"]
        assert failed == [(refused["custom_id"], "http_400")]
        assert {line["custom_id"] for line in exported if line["attempts"] > 1} == {busy["custom_id"]}
        check_answers(
            [line for line in exported if line["status"] == "succeeded"],
            [request for request in requests if request is not refused],
        )


def test_what_expires_and_fails_behind_litellm_ends_as_at_the_provider(cache, folder):
    """Expired and passing requests are sent again through the proxy, a refusal keeps its code."""
    faults = (
        lines.ExpireLines(fraction=0.2, attempts=1),
        lines.FailLines(custom_ids=frozenset({"mine-0003"}), status=503, attempts=1),
        lines.FailLines(custom_ids=frozenset({"mine-0007"}), code="bad_prompt"),
    )
    with litellm(cache, folder, *faults) as place:
        requests = place.requests("mine", 120)

        ended = place.run(*place.run_workload(write_lines(folder / "mine.jsonl", requests)))

        assert ended.returncode == 3, ended
        exported = read_lines(place.folder / "mine.results.jsonl")
        failed = [(line["custom_id"], line["error"]["code"]) for line in exported if line["status"] == "failed"]
        assert failed == [("mine-0007", "bad_prompt")]
        assert place.emulator is not None
        totals = place.emulator.ledger().totals
        assert (totals.requests_succeeded, totals.bought_twice) == (119, 0)


def _kill_after(place: Place, batches: int, *words: str) -> None:
    """Start the command, and kill it as soon as the server has this many batches."""
    process = place.start(*words)
    deadline = time.monotonic() + _COMMAND_SECONDS
    while len(place.batch_inputs()) < batches:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)  # noqa: TID251 - a real server is polled
    process.send_signal(signal.SIGKILL)
    process.communicate()


def _batch_of_another_client(place: Place, requests: list[dict[str, Any]]) -> str:
    """Create a batch with OpenAI's SDK, and return its id when it has ended."""
    data = b"".join(jsonl.dumps(request) + b"\n" for request in requests)
    deadline = time.monotonic() + _BATCH_SECONDS
    with place.client() as sdk:
        file = sdk.files.create(file=("theirs.jsonl", data), purpose="batch")
        batch = sdk.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
        while sdk.batches.retrieve(batch.id).status != "completed":
            assert time.monotonic() < deadline
            time.sleep(0.2)  # noqa: TID251 - a real server is polled
    return str(batch.id)
