"""The commands of all READMEs: each in this process, and some as pasted into a shell.

Each README is executed from top to bottom, in one folder, on one emulator and one database. Commands that need a user's machine
(a Prefect server, a cluster, a browser) are only parsed by their program here, and run in other tests.
"""

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

from batchkit.emulator.scenarios.scenario import Reply, Scenario
from tests.cli.walk import Walk, shows
from tests.readmes import FRONT, ROOT, blocks, code, inline_commands, readmes, table
from tests.workloads import chat_line, write_lines

ANNOTATE, EVALUATE = (ROOT / "batchkit" / folder / "README.md" for folder in ("annotation", "evaluation"))
STORE, FLOWS = ROOT / "batchkit" / "store" / "README.md", ROOT / "flows" / "README.md"
PORT = "8765"


@pytest.fixture
def walk(batchkit, open_emulator, monkeypatch) -> Walk:
    """Begin a walk in its own folder."""
    monkeypatch.setattr("webbrowser.open", lambda _: True)
    emulator = open_emulator()
    return Walk(batchkit, emulator, monkeypatch)


def _write_input(walk: Walk) -> None:
    write_lines(Path("requests.jsonl"), [chat_line(f"row-{number}") for number in range(30)])
    walk.line("batchkit run requests.jsonl")


def _check_annotated(folder: Path) -> None:
    """Three annotators, extraction, transcripts and moderation have written what the README shows."""
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


@pytest.mark.patient
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_the_front_page_works(walk, kind, request, monkeypatch):
    """The blocks and the commands of its table work one after another, on either database."""
    if kind == "postgres":
        monkeypatch.setenv("BATCHKIT_DATABASE_URL", request.getfixturevalue("postgres_url"))
    for name in ("reviews.csv", "reviews.yaml"):
        shutil.copy(ROOT / "tests" / "data" / "nightly" / name, name)
    write_lines(Path("part-1.jsonl"), [chat_line(f"row-{number}") for number in range(30)])
    subprocess.run(["gzip", "-k", "part-1.jsonl"], check=True)
    Path("part-1.jsonl.gz").rename("big.gz")
    Path("part-1.jsonl").rename("part-1.jsonl.zst")  # the compression of an input is detected from its bytes
    before, _, after = FRONT.read_text().partition("| You want | Command |")
    commands, _, rest = after.partition("\n\n")

    walk.through(before.partition("Run your own requests")[2])
    for command in inline_commands(commands):
        walk.line(command)
        walk.end()
    walk.play(Scenario(replies=(Reply(match="Is this review kind", content="yes"),)))
    walk.through(rest)

    assert Path("results.csv").read_text().count("succeeded") == 200
    columns = [name for row in table((ROOT / "batchkit/README.md").read_text(), "| Column ") for name in code(row[0])]
    assert sorted(pq.read_schema("results.parquet").names) == sorted(columns)
    assert pq.read_table("kind.parquet").num_rows == 300
    assert Path("requests.html").stat().st_size > 10_000


def test_the_annotation_examples_work(walk):
    """Each succeeds, prints what the README shows, and writes the files that it names."""
    walk.through(ANNOTATE.read_text())
    _check_annotated(Path())


def test_the_nightly_suite_works(walk):
    """The planted noise passes, the planted regression has its own exit code, and the pages are written."""
    walk.through(EVALUATE.read_text())
    assert re.findall(r"exit code (\d+)", walk.out)[:3] == ["0", "0", "5"], walk.out
    for number in (1, 2, 3):
        assert Path(f"reviews-{number}.html").stat().st_size > 10_000


def test_the_commands_of_the_store_work_with_a_shared_spool(walk, postgres_url, monkeypatch, tmp_path):
    """The query works on SQLite; the commands for machines without a shared disk work on Postgres and a folder at a URL."""
    _write_input(walk)
    text = STORE.read_text()
    alone, heading, shared = text.partition("## Machines that share no disk")
    walk.through(alone)
    monkeypatch.setenv("BATCHKIT_DATABASE_URL", postgres_url)
    monkeypatch.setenv("BATCHKIT_SPOOL_URL", (tmp_path / "spool").as_uri())

    walk.through(heading + shared)

    assert list((tmp_path / "spool").rglob("*.jsonl"))


def test_the_deployments_are_at_the_path_of_the_readme():
    """The path that the shell expands for ``prefect deploy`` is that of a file."""
    (expression,) = re.findall(r'"(\$\(python .*prefect\.yaml)"', FLOWS.read_text())
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(["bash", "-c", f'test -f "{expression}"'], env={**os.environ, "PATH": path}, check=True)


@pytest.mark.parametrize(
    "readme",
    [readme for readme in readmes() if readme not in {FRONT, ANNOTATE, EVALUATE, STORE}],
    ids=lambda readme: readme.parent.name,
)
def test_the_commands_of_the_other_readmes_work(walk, readme):
    """Each does what is possible with an emulator and a workload named ``requests``."""
    text = readme.read_text()
    if "requests" in "".join(block.text for block in blocks(text, "sh")):
        _write_input(walk)
    walk.through("\n".join(f"```sh\n{block.text}```\n" for block in blocks(text, "sh")))


def _paste(readme: Path, folder: Path, begin: str, end: str) -> str:
    """Paste a part of a README into a shell in a folder beside the tests' data; return the output."""
    text = readme.read_text()
    part = text[text.index(begin) :].partition(end)[0]
    shutil.copytree(ROOT / "tests" / "data", folder / "tests" / "data")
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    script = "".join(block.text for block in blocks(part, "sh"))
    script = script.replace(PORT, port).replace("batchkit emulator", f"batchkit emulator --port {port}")
    away = ("BATCHKIT_", "PREFECT_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(away)}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{environment['PATH']}", "COLUMNS": "100"}
    # Enable job control, as in a terminal: the examples end the emulator by its job number.
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
    for block in blocks(part, "text"):
        assert shows(done.stdout, block.text), done.stdout
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_first_workload_works_as_pasted(tmp_path):
    """The README is pasted word for word into a shell, with Prefect."""
    _paste(FRONT, tmp_path, "Run your own requests", "Run the tests")
    assert (tmp_path / "requests.results.jsonl").read_text().count('"succeeded"') == 200


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_annotation_examples_work_as_pasted(tmp_path):
    """The README is pasted word for word into a shell, with Prefect."""
    _paste(ANNOTATE, tmp_path, "The examples run as they are", "From Python")
    _check_annotated(tmp_path / "annotate")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_nightly_suite_works_as_pasted(tmp_path):
    """The README is pasted word for word into a shell, with Prefect."""
    out = _paste(EVALUATE, tmp_path, "Three nights in a checkout", "The same command resumes")
    assert re.findall(r"exit code (\d+)", out) == ["0", "0", "5"], out
