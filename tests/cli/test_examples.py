"""The README's examples with tables and evaluations: quickly, command by command, and as pasted into a shell."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import csv, types
from pyarrow import parquet as pq

from batchkit.emulator.scenarios.scenario import load_scenario

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PORT = "8765"
ANNOTATE, EVALUATE = "Ask every row of a table", "Evaluate, every night"


def _section(heading: str) -> str:
    return README.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def _example(heading: str) -> str:
    """Give the section's commands from the one that fetches its data on, as far as they need nothing but the emulator."""
    blocks: list[str] = re.findall(r"^```sh\n(.*?)^```", _section(heading), re.MULTILINE | re.DOTALL)
    start = next(place for place, block in enumerate(blocks) if block.startswith("cp -r tests/data/"))
    return "".join(block for block in blocks[start:] if "--deploy" not in block)


def _printed(heading: str) -> list[str]:
    (shown,) = re.findall(r"^```text\n(.*?)^```", _section(heading), re.MULTILINE | re.DOTALL)
    return _words(shown)


def _words(text: str) -> list[str]:
    # Time is the machine's own, and the prices are those of whichever genai-prices is installed.
    return re.sub(r"cost: .*", "cost", re.sub(r"done in \d+ s", "done", text)).split()


def _shows(out: str, heading: str) -> bool:
    words, part = _words(out), _printed(heading)
    return any(words[place : place + len(part)] == part for place in range(len(words)))


@pytest.fixture
def step_through(batchkit, open_emulator, monkeypatch):
    """Give a function that does a section's commands one by one in this process, without Prefect; gives what they print."""
    monkeypatch.setenv("BATCHKIT_POLL_INTERVAL_SECONDS", "0.05")
    emulator = open_emulator()

    def run(heading: str) -> str:
        out = []
        for command in re.split(r"\n|;|&&|& sleep \d+", _example(heading)):
            words = shlex.split(os.path.expandvars(command), comments=True)
            match words:
                case ["cp", "-r", folder, "."]:
                    shutil.copytree(ROOT / folder, Path(folder).name)
                case ["cd", folder]:
                    monkeypatch.chdir(folder)
                case ["export", *settings]:
                    for name, value in (setting.split("=", 1) for setting in settings):
                        if name == "MODELS":
                            monkeypatch.setenv(name, value)
                case ["batchkit", "emulator", "--scenario", file, *_]:
                    emulator.set_scenario(load_scenario(file))
                case ["batchkit", *rest]:
                    ended = batchkit(*rest, "--no-prefect")
                    out.append(f"{ended.out}exit code {ended.code}\n")
                case [] | ["kill", _] | ["echo", "exit code $?"]:
                    pass
                case _:
                    raise AssertionError(f"this test does not know how to do {command!r}")
        return "".join(out)

    return run


def _check_annotated(folder: Path) -> None:
    """Three annotators, extraction, transcripts and moderation have written what the README says."""
    labelled = pq.read_table(folder / "labelled.parquet").to_pydict()
    assert labelled["id"] == csv.read_csv(folder / "reviews.csv").to_pydict()["id"]
    assert set(labelled["sentiment"]) <= {"positive", "negative", "neutral", None}
    assert csv.read_csv(folder / "disputed.csv").num_rows == 5
    orders = pq.read_table(folder / "orders.parquet")
    assert any(types.is_list(kind) and types.is_struct(kind.value_type) for kind in orders.schema.types)
    quality = pq.read_table(folder / "calls.parquet").to_pydict()["quality"]
    assert set(quality) == {"ok", "low_confidence", "no_speech"}
    assert len(quality) - quality.count("ok") == 3
    flagged = csv.read_csv(folder / "flagged.csv").to_pydict()
    assert 0 < len(flagged["id"]) < csv.read_csv(folder / "prompts.csv").num_rows
    assert all(flagged["category_names"])


def test_the_examples_of_annotating_work(step_through):
    """Each ends well, prints what the README shows, and writes what it says."""
    out = step_through(ANNOTATE)
    assert set(re.findall(r"exit code (\d+)", out)) == {"0"}
    assert _shows(out, ANNOTATE), out
    _check_annotated(Path())


def test_the_nightly_suite_works(step_through):
    """The planted noise passes, the planted regression is found with its own exit code, and the pages are written."""
    out = step_through(EVALUATE)
    assert re.findall(r"exit code (\d+)", out) == ["0", "0", "5"], out
    assert _shows(out, EVALUATE), out
    for number in (1, 2, 3):
        assert Path(f"reviews-{number}.html").stat().st_size > 10_000


def _paste(heading: str, folder: Path) -> str:
    """Paste a section's commands into a shell in a folder beside the tests' data; gives what is printed."""
    shutil.copytree(ROOT / "tests" / "data", folder / "tests" / "data")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    script = _example(heading).replace(PORT, port).replace("batchkit emulator", f"batchkit emulator --port {port}")
    away = ("BATCHKIT_", "PREFECT_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(away)}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{environment['PATH']}", "COLUMNS": "100"}
    # Job control, as in a terminal: the examples end the emulator by its job's number.
    done = subprocess.run(
        ["bash", "-m", "-c", f"trap 'kill $(jobs -p) 2>/dev/null' EXIT\n{script}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_examples_of_annotating_work_as_pasted(tmp_path):
    """With Prefect, in a shell of its own, word for word."""
    out = _paste(ANNOTATE, tmp_path)
    assert _shows(out, ANNOTATE), out
    _check_annotated(tmp_path / "annotate")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_nightly_suite_works_as_pasted(tmp_path):
    """With Prefect, in a shell of its own, word for word."""
    out = _paste(EVALUATE, tmp_path)
    assert re.findall(r"exit code (\d+)", out) == ["0", "0", "5"], out
    assert _shows(out, EVALUATE), out
