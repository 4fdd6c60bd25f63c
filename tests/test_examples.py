"""The README's examples with tables and evaluations are pasted into a shell, as they stand."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import csv, types
from pyarrow import parquet as pq

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PORT = "8765"
#: Without Prefect an example takes a few seconds; with it, each command starts a server of its own.
WAYS = [
    pytest.param("--no-prefect", id="quick"),
    pytest.param("", id="as-pasted", marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
]


@pytest.fixture(params=WAYS)
def paste(request, tmp_path):
    """Give a function that pastes the commands of a section into a shell in an empty folder beside the tests' data."""
    (tmp_path / "tests").mkdir()
    shutil.copytree(ROOT / "tests" / "data", tmp_path / "tests" / "data")
    shim = tmp_path / "bin" / "batchkit"
    shim.parent.mkdir()
    shim.write_text(
        f'#!/bin/sh\ncase "$1" in annotate|transcribe|moderate|eval) set -- "$@" {request.param} ;; esac\n'
        f'exec "{sys.executable}" -m batchkit "$@"\n'
    )
    shim.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BATCHKIT_", "PREFECT_"))}
    environment |= {"PATH": f"{shim.parent}:{environment['PATH']}", "COLUMNS": "100"}

    def run(heading: str) -> tuple[subprocess.CompletedProcess[str], Path]:
        lines = "\n".join(_example(heading))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        text = lines.replace(PORT, port).replace("batchkit emulator", f"batchkit emulator --port {port}")
        # Job control, as in a terminal: the examples end the emulator by its job's number.
        done = subprocess.run(
            ["bash", "-m", "-c", f"trap 'kill $(jobs -p) 2>/dev/null' EXIT\n{text}"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        return done, tmp_path

    return run


def _shell_blocks(heading: str) -> list[str]:
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def _example(heading: str) -> list[str]:
    """Give the section's blocks from the one that fetches its data on, as far as they need nothing but the emulator."""
    blocks = _shell_blocks(heading)
    start = next(place for place, block in enumerate(blocks) if block.startswith("cp -r tests/data/"))
    return [block for block in blocks[start:] if "--deploy" not in block]


def _printed(heading: str) -> list[str]:
    """Give the words that the section shows as printed, without those that differ from run to run."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (shown,) = re.findall(r"^```text\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return _words(shown)


def _words(text: str) -> list[str]:
    # Time is the machine's own, and the prices are those of whichever genai-prices is installed.
    return re.sub(r"cost: .*", "cost", re.sub(r"done in \d+ s", "done", text)).split()


def _holds(words: list[str], part: list[str]) -> bool:
    return any(words[place : place + len(part)] == part for place in range(len(words)))


def test_the_examples_of_annotating_work_as_pasted(paste):
    """Three annotators, extraction, transcripts and moderation: each ends well, and prints and writes what the README says."""
    done, folder = paste("Ask every row of a table")

    assert done.returncode == 0, done.stdout + done.stderr
    assert _holds(_words(done.stdout), _printed("Ask every row of a table")), done.stdout
    work = folder / "annotate"
    labelled = pq.read_table(work / "labelled.parquet").to_pydict()
    assert labelled["id"] == csv.read_csv(work / "reviews.csv").to_pydict()["id"]
    assert set(labelled["sentiment"]) <= {"positive", "negative", "mixed", "neutral", None}
    assert csv.read_csv(work / "disputed.csv").num_rows == 5
    orders = pq.read_table(work / "orders.parquet")
    assert any(types.is_list(kind) and types.is_struct(kind.value_type) for kind in orders.schema.types)
    quality = pq.read_table(work / "calls.parquet").to_pydict()["quality"]
    assert {"low_confidence", "no_speech"} == set(quality) - {"ok"}
    assert len(quality) - quality.count("ok") == 3
    flagged = csv.read_csv(work / "flagged.csv").to_pydict()
    assert 0 < len(flagged["id"]) < csv.read_csv(work / "prompts.csv").num_rows
    assert all(flagged["category_names"])


def test_the_nightly_suite_works_as_pasted(paste):
    """The planted noise passes, the planted regression is found with its own exit code, and the page is written."""
    done, folder = paste("Evaluate, every night")

    assert re.findall(r"exit code (\d+)", done.stdout) == ["0", "0", "5"], done.stdout + done.stderr
    assert _holds(_words(done.stdout), _printed("Evaluate, every night")), done.stdout
    for number in (1, 2, 3):
        assert (folder / "nightly" / f"reviews-{number}.html").stat().st_size > 10_000
