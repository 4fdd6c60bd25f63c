"""The key is in one header and nowhere else, and a database password is not shown, whatever is enabled or fails."""

from __future__ import annotations

import base64
import sqlite3
import threading
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from batchkit.flows.temporary_server import TemporaryServer
from sqlalchemy import create_engine, make_url, text

from batchkit.emulator.faults.calls import BadKey, CutDownloads, GatewayErrors, RefuseCalls
from batchkit.emulator.faults.lines import ExpireLines, FailLines
from tests.flows.support import wait_until
from tests.provider.server import ScriptedServer, refusal
from tests.safety.conftest import with_password
from tests.safety.needles import KEY, PASSWORD, leaks, leaks_in_folder, postgres_dump, sqlite_dump
from tests.workloads import chat_line, write_lines

#: Faults between an upload and an answer; each affects only the first call, so that a workload finishes.
TROUBLE = (
    GatewayErrors(on=("files.create",), times=1),
    RefuseCalls(on=("batches.retrieve", "batches.list"), status=500, message="Internal Server Error", times=1),
    CutDownloads(times=1),
    ExpireLines(count=2, attempts=1),
    FailLines(count=2, message="no such model"),
    BadKey(on=("batches.create",), times=1),
)
AWAY = f"postgresql://me:{quote(PASSWORD, safe='')}@127.0.0.1:1/name"


def everything(surroundings, database_url):
    """Search everything that commands wrote, printed and sent, and the environment of the processes that they started."""
    found = leaks("the terminal", surroundings.said, KEY, PASSWORD)
    found += leaks_in_folder(surroundings.folder.parent, KEY, PASSWORD, but=(surroundings.notes,))
    for note in surroundings.notes_of_children():
        found += leaks(f"a process: {note[:200]!r}", note, KEY, PASSWORD)
    if not database_url.startswith("sqlite"):
        found += leaks("Postgres", postgres_dump(database_url), KEY, PASSWORD)
    return found


def codes(said):
    """Return the exit codes of the commands."""
    return [line.removeprefix("exit code ") for line in said.splitlines() if line.startswith("exit code ")]


@contextmanager
def kept_log(database_url):
    """Keep a SQLite database's log from being merged into it and deleted."""
    with ExitStack() as stack:
        if database_url.startswith("sqlite"):
            reader = stack.enter_context(closing(sqlite3.connect(make_url(database_url).database or "")))
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM workloads").fetchall()
        yield


def test_no_verb_writes_the_key_anywhere(open_surroundings, guarded_url, tmp_path):
    """The test has all logs of all libraries, refusals, HTML pages, torn downloads, and bugs in mid-request."""
    source = write_lines(tmp_path / "input.jsonl", (chat_line(f"row-{number}") for number in range(30)))
    surroundings = open_surroundings(guarded_url, *TROUBLE)
    run = ("run", source, "--no-prefect")

    with kept_log(guarded_url):
        said = surroundings.run(
            *("BUG", *run, ";", "BUG", *run, "-v", ";", *run, "-v", ";", *run, ";", "status", ";"),
            *("status", "input", "--history", "50", ";", "status", "input", "--json", ";"),
            *("export", "input", "out.csv", "-v", ";", "status", "nothing"),
        )
        assert not guarded_url.startswith("sqlite") or (tmp_path / "batchkit.db-wal").stat().st_size > 0
        assert everything(surroundings, guarded_url) == []

    expected = ["1: run", "1: run", "4: run", "3: run", "0: status", "0: status", "0: status", "0: export"]
    assert codes(said) == [*expected, "2: status"]
    # The search would prove nothing if these had been silent.
    for words in ("httpcore.http11 DEBUG", "sqlalchemy.engine.Engine DEBUG", "HTTP 401", "Traceback", "a bug beside"):
        assert words in said
    assert len(list((surroundings.folder / "temporary").glob("batchkit-*.log"))) == 1


@pytest.mark.slow
def test_prefect_gets_neither_key_nor_password(open_surroundings, postgres_url, tmp_path, monkeypatch):
    """They are not in parameters, logs, events or artifacts, nor in the environment of its temporary server or doctor's probe."""
    url = with_password(postgres_url)
    surroundings = open_surroundings(url, *TROUBLE)
    source = write_lines(tmp_path / "input.jsonl", (chat_line(f"row-{number}") for number in range(30)))
    database = surroundings.folder / "prefect" / "prefect.db"
    for name, value in surroundings.environment.items():
        monkeypatch.setenv(name, value)
    server = TemporaryServer.start(surroundings.work)
    try:
        server.wait_until_ready(60, sleep=threading.Event().wait)
        said = surroundings.run("run", source, "-v", ";", "run", source, "-v", PREFECT_API_URL=server.api_url)
        assert wait_until(lambda: b"batchkit-summary-input" in sqlite_dump(database))
        assert everything(surroundings, url) == []
    finally:
        server.stop(0)
    said += surroundings.run("resubmit", "input", "--failed", "-v", ";", "doctor", ";", "clean", "input", "--yes", "-v")

    assert codes(said) == ["4: run", "3: run", "3: resubmit", "0: doctor", "0: clean"]
    told = sqlite_dump(database)
    for words in (b"batchkit.provider.http", b"batchkit-attention-input", b"batchkit.workload.finished", b"submit 1"):
        assert words in told
    for program, count in ((b"_temporary_server.py", 2), (b"import json, anyio, prefect", 1)):
        assert sum(program in note for note in surroundings.notes_of_children()) == count
    assert everything(surroundings, url) == []


def test_a_key_that_the_provider_repeats_is_redacted(batchkit, tmp_path, monkeypatch):
    """A careless server quotes the request in its errors: the quote is redacted in tracebacks and in doctor's results."""
    source = write_lines(tmp_path / "input.jsonl", [chat_line("row-1")])
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    # A user's file in the working directory is not imported as the module of that name, with access to the secrets.
    Path("prefect.py").write_text("raise SystemExit('the wrong file')")
    with ScriptedServer(choose=lambda seen: refusal(401, f"no: {seen.headers}", KEY, x_request_id=KEY)) as server:
        monkeypatch.setenv("BATCHKIT_BASE_URL", server.base_url)
        ended = [batchkit("run", source, "--no-prefect", "-v"), batchkit("doctor", "--database-url", AWAY)]
    assert [one.code for one in ended] == [4, 4]
    said = "".join(one.out + one.err for one in ended)
    assert "the database postgresql+psycopg://me:***@127.0.0.1:1/name cannot be used" in " ".join(said.split())
    assert said.count("[key]") >= 3
    assert "the wrong file" not in said
    assert "Traceback" in said
    assert leaks("the terminal", said.encode(), KEY, PASSWORD) == []
    assert leaks_in_folder(tmp_path, KEY, PASSWORD) == []


HIDING_PLACES = {
    "as it is": KEY,
    "in a header": f"authorization: Bearer {KEY}",
    "in a URL": f"https://host/?key={quote(KEY, safe='')}",
    "in base64": base64.b64encode(f"user:{KEY}".encode()).decode(),
    "in base64 elsewhere": base64.b64encode(f"Bearer {KEY} and so on".encode()).decode(),
    "in hex": KEY.encode().hex(),
    "half of it": KEY[:30],
}


@pytest.mark.parametrize("text_with_key", HIDING_PLACES.values(), ids=HIDING_PLACES)
def test_the_search_finds_a_secret(tmp_path, text_with_key):
    """A key in a file, in a name, or split over the pages of a SQLite file is found: the tests above can fail."""
    assert leaks_in_folder(tmp_path, KEY) == []
    (tmp_path / "file").write_text(f"before {text_with_key} after")
    assert leaks_in_folder(tmp_path, KEY)
    (tmp_path / "file").unlink()
    with closing(sqlite3.connect(tmp_path / "some.db")) as connection:
        connection.execute("CREATE TABLE places (words TEXT)")
        connection.execute("INSERT INTO places VALUES (?)", ("x" * 4_000 + text_with_key + "x" * 9_000,))
        connection.commit()
    assert any("rows of" in leak for leak in leaks_in_folder(tmp_path, KEY))


def test_the_search_finds_a_secret_in_postgres(postgres_url):
    """A key or a password in any table is found, even in a column of bytes."""
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE places (words BYTEA)"))
        connection.execute(text("INSERT INTO places VALUES (:words)"), {"words": f"x{PASSWORD}x".encode()})
    engine.dispose()
    assert leaks("Postgres", postgres_dump(postgres_url), KEY, PASSWORD)
