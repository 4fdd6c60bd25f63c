"""The READMEs' tables of messages and their meaning: each row is provoked, and the command prints its message."""

from __future__ import annotations

import re
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from batchkit.emulator.faults import batches, calls, lines
from batchkit.models import Batch, BatchId
from batchkit.owners import new_owner
from batchkit.provider import wire
from batchkit.store import workloads
from batchkit.store.engine import Store
from tests.factories import add_workload
from tests.readmes import FRONT, ROOT
from tests.workloads import chat_line, write_lines, write_mixed

if TYPE_CHECKING:
    from collections.abc import Callable

#: The common messages are in the root README, the others in the README of the package.
READMES = FRONT.read_text() + (ROOT / "batchkit" / "README.md").read_text()
RUN = ("run", "input.jsonl", "--name", "w", "--no-prefect", "--shard-lines", "10")


@dataclass(frozen=True)
class Place:
    """The parts of a situation: the command, an emulator to start, and the environment."""

    batchkit: Callable[..., Any]
    open_emulator: Callable[..., Any]
    environment: pytest.MonkeyPatch


def no_key(place: Place) -> Any:
    """No key is set."""
    return place.batchkit(*RUN)


def a_bad_line(place: Place) -> Any:
    """A line of the input is not a request."""
    place.open_emulator()
    write_lines(Path("input.jsonl"), [chat_line("row-1"), {"custom_id": "row-2"}])
    return place.batchkit(*RUN)


def another_input(place: Place) -> Any:
    """The name was used for other requests."""
    place.open_emulator()
    place.batchkit(*RUN)
    write_mixed(Path("input.jsonl"), 12)
    return place.batchkit(*RUN)


def an_unknown_name(place: Place) -> Any:
    """The workload does not exist."""
    place.open_emulator()
    place.batchkit(*RUN)
    return place.batchkit("watch", "nobody")


def plain_http(place: Place) -> Any:
    """The address would send the key unencrypted."""
    place.open_emulator()
    place.environment.setenv("BATCHKIT_BASE_URL", "http://example.com/openai/v1")
    return place.batchkit(*RUN)


def another_key(place: Place) -> Any:
    """The batches were made with another key."""
    place.open_emulator(batches.StuckBatches())
    place.batchkit("submit", *RUN[1:])
    place.environment.setenv("GROQ_API_KEY", "gsk_other")
    return place.batchkit("watch", "w", "--no-prefect")


def a_revoked_key(place: Place) -> Any:
    """The key is no longer valid."""
    place.open_emulator(batches.StuckBatches())
    place.batchkit("submit", *RUN[1:])
    place.environment.setenv("GROQ_API_KEY", "gsk_revoked")
    return place.batchkit("watch", "w", "--no-prefect", "--accept-other-key")


def the_free_plan(place: Place) -> Any:
    """The account may not use batches."""
    place.open_emulator(calls.PlanGate())
    return place.batchkit(*RUN)


def nobody_answers(place: Place) -> Any:
    """The provider, or the network, is unreachable."""
    place.open_emulator()
    place.environment.setenv("BATCHKIT_BASE_URL", "http://127.0.0.1:9/openai/v1")
    return place.batchkit(*RUN)


def no_batch_api(place: Place) -> Any:
    """The end of the address is missing."""
    emulator = place.open_emulator()
    place.environment.setenv("BATCHKIT_BASE_URL", emulator.base_url.removesuffix("/openai/v1"))
    return place.batchkit(*RUN)


def a_spend_limit(place: Place) -> Any:
    """Groq blocks the account and reports it in the lines of an output file."""
    place.open_emulator(lines.FailLines(count=3, status=400, code="blocked_api_access"))
    return place.batchkit(*RUN)


def files_that_nobody_takes(place: Place) -> Any:
    """Every batch fails validation for a reason that explains nothing."""
    place.open_emulator(batches.FailBatches(code="E1234", message="Something went wrong."))
    return place.batchkit(*RUN)


def files_that_are_lost(place: Place) -> Any:
    """No batch finds its input file."""
    place.open_emulator(batches.LostInput())
    place.environment.setenv("BATCHKIT_SETTLE_SECONDS", "0.1")
    return place.batchkit(*RUN)


def ids_anew(place: Place) -> Any:
    """Two unrelated servers give the same ids."""
    place.open_emulator()
    read = wire.batch

    def with_the_same_id(payload: object, **options: Any) -> Batch | None:
        batch = read(payload, **options)
        return None if batch is None else replace(batch, id=BatchId("batch_0"))

    place.environment.setattr("batchkit.provider.wire.batch", with_the_same_id)
    write_lines(Path("other.jsonl"), [chat_line("other")])
    place.batchkit("submit", "other.jsonl", "--name", "w2", "--no-prefect")
    return place.batchkit(*RUN)


def no_database(place: Place) -> Any:
    """The database server is unreachable."""
    place.open_emulator()
    place.environment.setenv("BATCHKIT_DATABASE_URL", "postgresql+psycopg://me:secret@127.0.0.1:9/b?connect_timeout=1")
    return place.batchkit(*RUN)


def a_wrong_database(place: Place) -> Any:
    """The URL names a host that does not exist."""
    place.open_emulator()
    place.environment.setenv("BATCHKIT_DATABASE_URL", "postgresql+psycopg://me:secret@no-such-host.invalid/b")
    return place.batchkit(*RUN)


def a_held_database(place: Place) -> Any:
    """Another program locks the database file."""
    place.open_emulator()
    place.environment.setattr("batchkit.store.engine._BUSY_TIMEOUT_MILLISECONDS", 10)
    place.batchkit(*RUN, "--timeout", "0")
    with closing(sqlite3.connect(".batchkit/batchkit.db", isolation_level=None)) as holder:
        holder.execute("PRAGMA journal_mode = DELETE")
        holder.execute("BEGIN EXCLUSIVE")
        return place.batchkit(*RUN)


def a_misspelt_home(place: Place) -> Any:
    """The folder does not exist."""
    return place.batchkit("status", "--home", "nowhere")


def one_output_twice(place: Place) -> Any:
    """The results would overwrite their input."""
    place.open_emulator()
    return place.batchkit(*RUN, "--output", "./input.jsonl")


def a_lost_spool(place: Place) -> Any:
    """A shard's file was deleted before it was sent."""
    place.open_emulator(calls.GatewayErrors(on=("files.create",)))
    place.batchkit(*RUN)
    next(Path(".batchkit/spool").rglob("shards/*.jsonl")).unlink()
    return place.batchkit(*RUN)


def a_strange_spool_url(place: Place) -> Any:
    """The shared spool has a URL of an unknown kind."""
    place.open_emulator()
    place.environment.setenv("BATCHKIT_SPOOL_URL", "nonsense://bucket/folder")
    return place.batchkit(*RUN)


def a_spool_that_refuses(place: Place) -> Any:
    """The place of the shared spool is not writable."""
    place.open_emulator()
    Path("taken").touch()
    place.environment.setenv("BATCHKIT_SPOOL_URL", f"file://{Path('taken').absolute()}/spool")
    return place.batchkit(*RUN)


def out_of_time(place: Place) -> Any:
    """The batches take longer than the user's time limit."""
    place.open_emulator(batches.StuckBatches())
    return place.batchkit(*RUN, "--timeout", "0.1")


def refused_requests(place: Place) -> Any:
    """Some requests are refused permanently."""
    place.open_emulator(lines.FailLines(count=1, code="bad_thing"))
    return place.batchkit(*RUN)


def unfinished_clean(place: Place) -> Any:
    """A workload that still owes answers is to be deleted."""
    place.open_emulator(batches.StuckBatches())
    place.batchkit("submit", *RUN[1:])
    return place.batchkit("clean", "w", "--yes")


def _half_split(owner: str | None) -> None:
    store = Store("sqlite:///.batchkit/batchkit.db")
    with store.write() as connection:
        workload = add_workload(connection, "w", split=False)
        if owner is not None:
            workloads.take_lease(connection, workload.id, owner=owner, now=time.time(), lease_seconds=60)
    store.close()


def another_splits(place: Place) -> Any:
    """Another command is splitting the input."""
    place.open_emulator()
    _half_split(new_owner())
    return place.batchkit("watch", "w", "--no-prefect")


def a_dead_splitter(place: Place) -> Any:
    """The command that was splitting the input is dead."""
    place.open_emulator()
    _half_split(None)
    return place.batchkit("watch", "w", "--no-prefect")


#: The message, the situation that causes it, and the exit code.
SYMPTOMS: dict[str, tuple[Callable[[Place], Any], int]] = {
    "there is no API key": (no_key, 2),
    "the input has 3 problems; nothing was sent": (a_bad_line, 2),
    "was made of a different input": (another_input, 2),
    "there is no workload": (an_unknown_name, 2),
    "would carry the API key in the clear": (plain_http, 2),
    "was submitted with another key": (another_key, 2),
    "unresolved requests": (unfinished_clean, 2),
    "requests succeeded, 4 failed": (refused_requests, 3),
    "without a result here": (out_of_time, 4),
    "the key is missing, wrong or revoked": (a_revoked_key, 4),
    "the free plan has no Batch API": (the_free_plan, 4),
    "the provider could not be reached": (nobody_answers, 4),
    "there is no batch API at": (no_batch_api, 2),
    "the provider refuses what this account sends": (a_spend_limit, 4),
    "takes no file of this workload": (files_that_nobody_takes, 4),
    "did not find the input file of a batch": (files_that_are_lost, 4),
    "which belongs to shard": (ids_anew, 4),
    "cannot be used: connection failed": (no_database, 4),
    "cannot be used: failed to resolve host": (a_wrong_database, 2),
    "database is locked": (a_held_database, 4),
    "there are no workloads yet": (a_misspelt_home, 2),
    "the results would overwrite it": (one_output_twice, 2),
    "is missing or was changed": (a_lost_spool, 4),
    "cannot be used: Protocol not known": (a_strange_spool_url, 2),
    "cannot write file://": (a_spool_that_refuses, 4),
    "is being split by": (another_splits, 4),
    "its split was interrupted": (a_dead_splitter, 4),
}


def _row_of(words: str) -> list[str]:
    """Return the line of the READMEs for a message; a number in it stands for any number."""
    shown = re.sub(r"\d+", "N", words)
    rows = [line.strip("|").split("|") for line in READMES.splitlines() if line.startswith("| `")]
    return next(([cell.strip() for cell in row] for row in rows if shown in row[0]), [])


@pytest.mark.parametrize("words", SYMPTOMS)
def test_the_messages_of_the_readmes_are_printed(batchkit, open_emulator, monkeypatch, words):
    """The message and the exit code of each table row are those of the command."""
    write_mixed(Path("input.jsonl"), 30)
    situation, code = SYMPTOMS[words]

    ended = situation(Place(batchkit, open_emulator, monkeypatch))

    assert words in ended.out + ended.err
    assert ended.code == code
    assert _row_of(words)[1:2] == [f"{code}"]
