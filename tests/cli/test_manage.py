"""``cancel``, ``resubmit``, ``clean`` and ``db``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from batchkit.emulator.faults import batches, calls, lines
from tests.workloads import read_lines

RUN = ("--no-prefect", "--shard-lines", "10")
FAILED_TWICE = lines.FailLines(custom_ids=frozenset({"row-0000001", "row-0000002"}), code="bad_thing")


class Answering:
    """A terminal with a user who answers."""

    def __init__(self, answer: str) -> None:
        self._answer = answer

    def isatty(self) -> bool:
        """Return True: there is a terminal."""
        return True

    def readline(self, *_size: int) -> str:
        """Return the answer once, and then end of input."""
        answer, self._answer = self._answer, ""
        return answer


def test_cancel_asks_every_batch_to_stop(batchkit, open_emulator, source):
    """The command returns as soon as the cancellations are sent, and the batches need no further calls."""
    emulator = open_emulator(batches.StuckBatches())
    batchkit("submit", source, *RUN)
    ended = batchkit("cancel", "input")
    assert ended.code == 0
    assert "asked to stop" in ended.out or "cancelled" in ended.out
    assert {batch.status for batch in emulator.ledger().batches} <= {"cancelling", "cancelled"}


def test_cancel_can_wait_until_batches_have_ended(batchkit, open_emulator, source):
    """Every request is then succeeded, failed or cancelled, and the exit code is 0."""
    open_emulator(batches.StuckBatches())
    batchkit("submit", source, *RUN)
    ended = batchkit("cancel", "input", "--wait", "--no-prefect", "--json")
    assert ended.code == 0
    counts = ended.json["requests"]
    assert (ended.json["state"], counts["pending"], counts["in_flight"]) == ("finished", 0, 0)
    assert counts["succeeded"] + counts["failed"] + counts["cancelled"] == 30
    assert batchkit("watch", "input").code == 3


def test_cancelling_a_finished_workload_changes_nothing(batchkit, open_emulator, source):
    """The command only reports it, and makes no call."""
    emulator = open_emulator()
    batchkit("run", source, *RUN)
    calls_before = emulator.ledger().calls
    ended = batchkit("cancel", "input")
    assert "input was finished before: there is nothing to cancel" in ended.out
    assert ended.code == 0
    assert "all 30 requests succeeded" in ended.out
    assert emulator.ledger().calls == calls_before


def test_a_cancellation_that_could_not_be_sent_is_exit_code_4(batchkit, open_emulator, source):
    """The cancellation is recorded, and the same command resumes."""
    emulator = open_emulator(
        batches.StuckBatches(), calls.RefuseCalls(on=("batches.cancel",), status=500, message="not now")
    )
    batchkit("submit", source, *RUN)
    ended = batchkit("cancel", "input")
    assert ended.code == 4
    assert "resume:    batchkit cancel input" in ended.out
    assert batchkit("status", "input", "--json").json["cancel_requested_at"] is not None
    emulator.set_scenario("clean")
    assert batchkit("cancel", "input", "--wait", "--no-prefect").code == 0


def test_a_cancelled_workload_can_be_reopened(batchkit, open_emulator, source):
    """Resubmitting sends the cancelled requests until they are final; answered requests are not bought again."""
    emulator = open_emulator(batches.StuckBatches())
    batchkit("submit", source, *RUN)
    batchkit("cancel", "input", "--wait", "--no-prefect")
    emulator.set_scenario("clean")
    ended = batchkit("resubmit", "input", "--no-prefect")
    assert ended.code == 0
    assert "to be sent again" in ended.err
    assert "all 30 requests succeeded" in ended.out
    assert emulator.ledger().totals.bought_twice == 0


def test_failed_requests_are_sent_again_only_on_request(batchkit, open_emulator, source):
    """Without --failed they stay failed, and a hint names the option."""
    emulator = open_emulator(FAILED_TWICE)
    batchkit("run", source, *RUN)
    ended = batchkit("resubmit", "input", "--no-prefect")
    assert ended.code == 3
    assert "no request will be sent again" in ended.err
    assert "--failed also sends 2 failed requests" in ended.err
    emulator.set_scenario("clean")
    ended = batchkit("resubmit", "input", "--failed", "--no-prefect")
    assert ended.code == 0
    assert emulator.ledger().executed["row-0000001"] == 2
    assert emulator.ledger().totals.bought_twice == 0


def test_resubmitted_requests_can_be_left_pending(batchkit, open_emulator, source):
    """With --no-wait the requests are pending, and watch or serve sends them."""
    emulator = open_emulator(FAILED_TWICE)
    batchkit("run", source, *RUN)
    emulator.set_scenario("clean")
    ended = batchkit("resubmit", "input", "--failed", "--no-wait")
    assert ended.code == 0
    assert "batchkit watch input" in ended.out
    assert batchkit("status", "input", "--json").json["requests"]["pending"] == 2
    assert batchkit("watch", "input", "--no-prefect").code == 0


def test_clean_deletes_remote_and_local_files(batchkit, open_emulator, source):
    """No files of ours are left at the provider, the exported file stays, and the name is free."""
    emulator = open_emulator()
    batchkit("run", source, *RUN)
    ended = batchkit("clean", "input", "--yes")
    assert ended.code == 0
    assert "files deleted at the provider" in ended.out
    assert all(upload.deleted for upload in emulator.ledger().uploads)
    assert batchkit("status").out == "no workloads yet\n"
    assert len(read_lines(Path("input.results.jsonl"))) == 30


def test_clean_can_keep_the_results(batchkit, open_emulator, source):
    """Only the files are deleted; export still works."""
    open_emulator()
    batchkit("run", source, *RUN)
    ended = batchkit("clean", "input", "--keep-results", "--yes")
    assert ended.code == 0
    assert "the results are kept" in ended.out
    assert batchkit("export", "input", "again.jsonl").code == 0
    assert Path("again.jsonl").read_bytes() == Path("input.results.jsonl").read_bytes()


def test_clean_refuses_an_unfinished_workload(batchkit, open_emulator, source):
    """The error says how to finish it."""
    open_emulator(batches.StuckBatches())
    batchkit("submit", source, *RUN)
    ended = batchkit("clean", "input", "--yes")
    assert ended.code == 2
    assert "unresolved requests" in ended.err
    assert "batchkit watch input" in ended.err


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_clean_asks_first(batchkit, open_emulator, source, monkeypatch, answer):
    """Any answer but yes keeps everything, and so does the end of the input."""
    open_emulator()
    batchkit("run", source, *RUN)
    monkeypatch.setattr(sys, "stdin", Answering(answer))
    ended = batchkit("clean", "input")
    assert ended.code == 2
    assert "Delete the files and the results of 30 requests of 'input'" in ended.err
    assert "nothing was deleted" in ended.err
    assert batchkit("status", "input").code == 0


def test_clean_continues_after_a_yes(batchkit, open_emulator, source, monkeypatch):
    """The question is answered at the terminal."""
    open_emulator()
    batchkit("run", source, *RUN)
    monkeypatch.setattr(sys, "stdin", Answering("y\n"))
    assert batchkit("clean", "input").code == 0


def test_clean_deletes_nothing_without_a_terminal(batchkit, open_emulator, source):
    """A script must pass --yes."""
    open_emulator()
    batchkit("run", source, *RUN)
    ended = batchkit("clean", "input")
    assert ended.code == 2
    assert "--yes" in ended.err


def test_the_database_can_be_upgraded_and_checked(batchkit):
    """The check is 4 until the upgrade makes it 0; both name the database."""
    assert batchkit("db", "check").code == 4
    assert not Path(".batchkit").exists()
    ended = batchkit("db", "upgrade")
    assert ended.code == 0
    assert ".batchkit/batchkit.db" in ended.out
    assert "upgraded from nothing" in ended.out
    ended = batchkit("db", "check")
    assert (ended.code, "is up to date" in ended.out) == (0, True)
    assert "was up to date" in batchkit("db", "upgrade").out


def test_a_database_without_schema_needs_the_upgrade(batchkit):
    """An empty file is not a usable database."""
    Path("empty.db").touch()
    ended = batchkit("db", "check", "--database-url", "sqlite:///empty.db")
    assert ended.code == 4
    assert "has no schema" in ended.out
    assert batchkit("db", "upgrade", "--database-url", "mysql://x/y").code == 2


def test_the_password_of_a_database_is_not_printed(batchkit):
    """It appears neither in results nor in errors."""
    url = "postgresql+psycopg://me:secret@127.0.0.1:9/db"
    ended = batchkit("db", "check", "--database-url", url)
    assert ended.code == 4
    assert "secret" not in ended.out + ended.err


def test_postgres_is_used_like_sqlite(batchkit, open_emulator, source, postgres_url):
    """The same commands work with another URL."""
    open_emulator()
    words = ("--database-url", postgres_url)
    assert batchkit("db", "check", *words).code == 0
    assert batchkit("status", *words).out == "no workloads yet\n"
    assert batchkit("run", source, *RUN, *words).code == 0
    assert batchkit("status", "input", "--json", *words).json["requests"]["succeeded"] == 30


def test_an_empty_postgres_has_no_workloads_yet(batchkit, postgres_server):
    """Reading it is no error, and creates no tables."""
    name = postgres_server.create()
    try:
        url = postgres_server.url_of(name)
        assert batchkit("status", "--database-url", url).out == "no workloads yet\n"
        assert batchkit("db", "check", "--database-url", url).code == 4
    finally:
        postgres_server.drop(name)
