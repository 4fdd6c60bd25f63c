"""An output that is not writable, or that is an input, is refused before anything is sent: by commands, dry runs and Python."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest

import batchkit as library
from batchkit.datasets import is_among
from batchkit.errors import UsageError
from batchkit.files import outputs
from tests.workloads import write_mixed

MODEL = "openai/gpt-oss-20b"
CHAT = ("--prompt", "Kind? {{ text }}", "--model", MODEL, "--no-prefect")
SUITE = """
name: s
dataset: {path: reviews.csv, key: id}
prompt: "Kind? {{ text }}"
models: [openai/gpt-oss-20b]
scorers: [{kind: exact, expected: text}]
"""
TEXT = "id,text\na,good\nb,bad\n"


@pytest.fixture(autouse=True)
def _inputs(batchkit):
    """Write inputs into the working directory of the commands."""
    assert batchkit
    write_mixed(Path("in.jsonl"), 3)
    Path("reviews.csv").write_text(TEXT)
    Path("parts").mkdir()
    Path("parts/part-1.csv").write_text(TEXT)
    Path("link.jsonl").symlink_to("in.jsonl")
    Path("link.csv").symlink_to("reviews.csv")
    Path("hard.jsonl").hardlink_to("in.jsonl")
    Path("same").symlink_to(".")
    Path("folder.jsonl").mkdir()
    Path("folder.csv").mkdir()
    os.mkfifo("pipe.jsonl")


@pytest.fixture
def calls(open_emulator):
    """Return a function that counts the calls of the provider."""
    emulator = open_emulator()
    return lambda: emulator.ledger().calls


#: A system folder in which no user can create a file.
SYSTEM = "/proc" if Path("/proc").is_dir() else "/dev"
RUN = {
    "in.jsonl": "is the input",
    "./in.jsonl": "is the input",
    "same/in.jsonl": "is the input",
    "link.jsonl": "is the input",
    "hard.jsonl": "is the input",
    "IN.jsonl": "is the input",
    "out.xlsx": "no format ends in .xlsx",
    "out": "the name has no ending",
    "nowhere/out.jsonl": "no such folder",
    "reviews.csv/out.jsonl": "cannot be written",
    "folder.jsonl": "is a folder",
    "pipe.jsonl": "no regular file",
    f"{SYSTEM}/out.jsonl": "cannot be written",
    f"{'x' * 300}.jsonl": "cannot be written",
}
TABLE = {
    "reviews.csv": "is the input",
    "./reviews.csv": "is the input",
    "same/reviews.csv": "is the input",
    "link.csv": "is the input",
    "Reviews.CSV": "is the input",
    "out.xls": "no format ends in .xls",
    "nowhere/out.csv": "no such folder",
    "folder.csv": "is a folder",
    ".": "is a folder",
    f"{SYSTEM}/out.parquet": "cannot be written",
    "table:no-name": "name of a table",
    "table:orders": "not touched",
}


@pytest.mark.parametrize("output", RUN)
def test_run_refuses_an_output(batchkit, calls, output):
    """This holds with and without --dry-run, and from Python."""
    before = Path("in.jsonl").read_bytes()
    for more in ((), ("--dry-run",)):
        ended = batchkit("run", "in.jsonl", "--no-prefect", "--output", output, *more)
        assert ended.code == 2, ended.err
        assert RUN[output] in ended.err
    with pytest.raises(UsageError, match=RUN[output]):
        library.run("in.jsonl", output=output)
    assert calls() == {}
    assert Path("in.jsonl").read_bytes() == before


@pytest.mark.parametrize("output", TABLE)
def test_annotate_refuses_an_output(batchkit, calls, sqlite_url, monkeypatch, output):
    """This holds with and without --dry-run, for the disputed rows, from Python, and for transcribe and moderate."""
    monkeypatch.setenv("BATCHKIT_DATABASE_URL", sqlite_url)
    _make_orders(sqlite_url)
    for more in ((), ("--dry-run",)):
        for words in (("--output", output), ("--samples", "3", "--review", output)):
            ended = batchkit("annotate", "reviews.csv", *CHAT, *words, *more)
            assert ended.code == 2, ended.err
            assert TABLE[output] in ended.err
    with pytest.raises(UsageError, match=TABLE[output]):
        library.annotate("reviews.csv", "{{ text }}", models=MODEL, output=output)
    with pytest.raises(UsageError, match=TABLE[output]):
        library.annotate("reviews.csv", "{{ text }}", models=MODEL, samples=3, review=output)
    with pytest.raises(UsageError, match=TABLE[output]):
        library.moderate("reviews.csv", "text", output=output)
    with pytest.raises(UsageError, match=TABLE[output]):
        library.transcribe("reviews.csv", "text", output=output)
    assert calls() == {}
    assert Path("reviews.csv").read_text() == TEXT


def _make_orders(url):
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    connection.execute("CREATE TABLE orders (id integer)")
    connection.close()


@pytest.mark.parametrize(
    ("output", "review"),
    [
        ("a.csv", "./a.csv"),
        ("a.csv", "same/a.csv"),
        ("a.csv", "A.csv"),
        ("table:labels", "table:Labels"),
        (None, "w.annotated.parquet"),
    ],
)
def test_disputed_rows_and_the_table_need_different_files(batchkit, calls, output, review):
    """This covers other spellings of the same path, and the default output."""
    to = () if output is None else ("--output", output)
    words = ("annotate", "reviews.csv", *CHAT, "--samples", "3", "--name", "w", "--review", review, *to)
    for more in ((), ("--dry-run",)):
        ended = batchkit(*words, *more)
        assert ended.code == 2, ended.err
        assert "would both be written" in ended.err
    if output is not None:
        with pytest.raises(UsageError, match="would both be written"):
            library.annotate("reviews.csv", "{{ text }}", models=MODEL, samples=3, output=output, review=review)
    assert calls() == {}


def test_export_does_not_overwrite_the_input(batchkit, calls):
    """The input file, or a path in a missing folder, is refused from the command line and from Python."""
    assert batchkit("submit", "in.jsonl", "--no-prefect").code == 0
    for target, words in (("in.jsonl", "is the input"), ("nowhere/out.jsonl", "no such folder")):
        ended = batchkit("export", "in", target)
        assert ended.code == 2, ended.err
        assert words in ended.err
        with pytest.raises(UsageError, match=words):
            library.export("in", target)
    assert calls()


@pytest.mark.parametrize("source", ["reviews.csv", "parts", "parts/part-*.csv"])
def test_the_table_of_a_workload_is_overwritten_by_no_later_verb(batchkit, calls, source):
    """However the table was named: by an export, by a page, from Python; a page may replace a page."""
    assert batchkit("annotate", source, *CHAT, "--submit-only", "--name", "w").code == 0
    table = Path("reviews.csv" if source == "reviews.csv" else "parts/part-1.csv")
    for target in (table, "link.csv") if source == "reviews.csv" else (table, "same" / table):
        with pytest.raises(UsageError, match="is the input"):
            library.export("w", target)
        assert batchkit("export", "w", target).code == 2
        ended = batchkit("report", "w", "-o", target)
        assert (ended.code, "a report would overwrite it" in ended.err) == (2, True)
    assert table.read_text() == TEXT
    for _ in range(2):
        assert batchkit("export", "w", "w.csv").code == 0
        assert batchkit("report", "w", "-o", "w.html").code == 0
    assert calls()


def test_a_database_that_is_asked_is_not_written_over(batchkit, calls):
    """A SQLite file may have any name."""
    for name in ("shop.csv", "what?.csv"):
        connection = sqlite3.connect(name)
        connection.executescript("CREATE TABLE t (text); INSERT INTO t VALUES ('x')")
        connection.close()
        words = ("annotate", f"sqlite:///{name}", "--query", "SELECT * FROM t", *CHAT, "-o", f"./{name}")
        for more in ((), ("--dry-run",)):
            ended = batchkit(*words, *more)
            assert (ended.code, "is the input" in ended.err) == (2, True), ended.err
    assert calls() == {}


@pytest.mark.parametrize("home", ["what? a#b", "x?a=b%3F"])
def test_a_home_may_have_any_name(batchkit, open_emulator, home):
    """A table of a database with such a name, too; nothing is written anywhere else."""
    open_emulator()
    Path(home).mkdir(parents=True)
    connection = sqlite3.connect(Path(home) / "shop?.db")
    connection.executescript("CREATE TABLE t (text); INSERT INTO t VALUES ('x')")
    connection.close()
    before = {path for path in Path().rglob("*") if Path(home) not in path.parents}
    address = f"sqlite:///{home}/shop?.db"
    ended = batchkit("annotate", address, "--query", "SELECT * FROM t", *CHAT, "-o", "out.csv", "--home", home)
    assert ended.code == 0, ended.err
    assert batchkit("status", "--home", home, "--json").json["workloads"][0]["state"] == "finished"
    assert (Path(home) / "batchkit.db").is_file()
    after = {path for path in Path().rglob("*") if Path(home) not in path.parents}
    assert after - before == {Path("out.csv")}


def test_report_is_not_written_over_a_folder_or_the_suite(batchkit):
    """The check comes before the database is opened, and before an evaluation sends anything."""
    assert "is a folder" in batchkit("report", "nightly", "--output", "parts").err
    Path("suite.yaml").write_text(SUITE)
    ended = batchkit("eval", "suite.yaml", "--report", "suite.yaml", "--no-prefect")
    assert ended.code == 2
    assert "is the input" in ended.err
    ended = batchkit("eval", "suite.yaml", "--report", "reviews.csv", "--no-prefect")
    assert (ended.code, "a report would overwrite it" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "output", "expected"),
    [
        (["parts"], "parts/out.csv", True),
        (["parts"], "same/parts/part-1.csv", True),
        (["parts"], "parts/out.html", False),
        (["parts"], "parts/_out.csv", False),
        (["parts/part-*.csv"], "parts/part-new.csv", True),
        (["part*/*.csv"], "./same/../parts/new.csv", True),
        (["parts/part-*.csv"], "parts/out.csv", False),
        (["parts/part-*.csv"], "parts/part-x/out.csv", False),
        (["**/*.csv"], "out.csv", True),
        (["**/*.csv"], "parts/deep/out.csv", True),
        (["**/*.csv"], "out.jsonl", False),
        (["other.csv", "reviews.csv"], "link.csv", True),
        (["reviews.csv"], "out.csv", False),
        (["sqlite:///reviews.csv"], "reviews.csv", False),
    ],
)
def test_folders_and_patterns_include_future_files(words, output, expected):
    """Otherwise the same command would read its own results the next time."""
    assert is_among(Path(output), words) is expected


def test_checking_leaves_no_files(tmp_path):
    """The check leaves neither a file nor a folder."""
    folder = tmp_path / "own"
    folder.mkdir()
    outputs.check_file(folder / "out.jsonl")
    outputs.check_file(folder / "new" / "folder" / "page.html", makes_folder=True)
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("calls")
def test_commands_with_one_output_all_write_it_completely(batchkit):
    """Two exports at the same time both end with exit code 0: the file is complete, and no partial file is left."""
    assert batchkit("run", "in.jsonl", "--no-prefect").code == 0
    for suffix in ("jsonl", "csv", "parquet"):
        start = threading.Barrier(2, timeout=20)
        counts: list[int] = []

        def export(target, start=start, counts=counts):
            start.wait()
            counts.append(library.export("in", target))

        threads = [threading.Thread(target=export, args=(f"out.{suffix}",)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counts == [3, 3]
        assert Path(f"out.{suffix}").stat().st_size > 100
    assert not list(Path().glob(".*.part"))
