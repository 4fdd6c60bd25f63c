"""Resubmission: the exact bytes of old shards, in input order, and each transaction all or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from batchkit.errors import SpoolError
from batchkit.models import RequestState, ShardState
from batchkit.steps import resubmit
from batchkit.store import shards, workloads
from tests.benchmarks.benchmark_stores import NAME, BenchmarkStores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.engine.runtime import Runner
    from batchkit.models import Shard

LINES = 1_000
RETURNED = 100


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def stores(request, tmp_path_factory) -> Iterator[BenchmarkStores]:
    """Keep a workload of ten shards, in each of which some requests were returned."""
    server = None if request.param == "sqlite" else request.getfixturevalue("postgres_server").server_url
    small = BenchmarkStores(tmp_path_factory.mktemp("resubmit"), LINES, server, lines_per_shard=100)
    small.prepare(["returned"])
    yield small
    small.clear()


@pytest.fixture
def runner(stores, monkeypatch) -> Iterator[Runner]:
    """Open a runner with limits that a hundred lines reach: several pieces, transactions, and files that must be closed."""
    monkeypatch.setattr(resubmit, "_PIECE_BYTES", 3_000)
    monkeypatch.setattr(resubmit, "_LINES_PER_COMMIT", 40)
    monkeypatch.setattr(resubmit, "_OPEN_FILES", 2)
    with stores.fresh("work", copy_of="returned") as opened:
        with opened.store.write() as connection:
            connection.execute(text("UPDATE shards SET next_lines = 15"))
        yield opened


def _new_shards(runner: Runner) -> list[Shard]:
    with runner.store.read() as connection:
        return shards.in_states(connection, runner.find(NAME).id, (ShardState.PLANNED,))


def _requests_in(runner: Runner, state: RequestState) -> list[tuple[int, int, int, int]]:
    query = "SELECT shard_id, seq, line_offset, line_length FROM requests WHERE state = :state ORDER BY seq"
    with runner.store.read() as connection:
        return [tuple(row) for row in connection.execute(text(query), {"state": state})]


def _files(runner: Runner) -> set[str]:
    return {path.name for path in runner.spool.root.rglob("shards/*")}


def test_returned_lines_are_cut_byte_for_byte_in_input_order(stores, runner):
    """Together, the new shards hold exactly the returned lines, and each request knows the position of its own line."""
    waiting = [seq for _, seq, _, _ in _requests_in(runner, RequestState.PENDING)]

    report = resubmit.resubmit(runner._context(), runner.find(NAME).id)

    made = _new_shards(runner)
    lines = stores.source.read_bytes().splitlines(keepends=True)
    assert b"".join(runner.spool.path(shard.path).read_bytes() for shard in made) == b"".join(lines[s] for s in waiting)
    assert [shard.line_count for shard in made] == [15] * 6 + [10]
    assert [shard.number for shard in made] == list(range(11, 18))
    assert report.counts == {"resubmitted": RETURNED, "shards cut": 7}
    paths = {int(shard.id): runner.spool.path(shard.path) for shard in made}
    for shard_id, seq, offset, length in _requests_in(runner, RequestState.IN_FLIGHT):
        assert paths[shard_id].read_bytes()[offset : offset + length] == lines[seq].rstrip(b"\n")
    assert _requests_in(runner, RequestState.PENDING) == []


def test_no_shard_is_larger_than_it_may_be(runner):
    """Lines that exceed the byte limit of a shard begin the next one; nothing is left out."""
    with runner.store.write() as connection:
        workloads.set_values(connection, runner.find(NAME).id, shard_bytes=6_000)

    resubmit.resubmit(runner._context(), runner.find(NAME).id)

    made = _new_shards(runner)
    assert max(shard.byte_count for shard in made) <= 6_000
    assert sum(shard.line_count for shard in made) == RETURNED


def test_a_truncated_old_shard_is_named(runner):
    """Shards cut before the error stay; no files of the rest are left, and nothing is lost."""
    with runner.store.read() as connection:
        last = shards.in_states(connection, runner.find(NAME).id, (ShardState.MERGED,))[-1]
    path = runner.spool.path(last.path)
    whole = path.read_bytes()
    path.unlink()  # a link to the file that the other tests read
    path.write_bytes(whole[:-1])

    with pytest.raises(SpoolError, match=rf"shard {last.number}\b|{last.key}"):
        resubmit.resubmit(runner._context(), runner.find(NAME).id)

    assert sum(shard.line_count for shard in _new_shards(runner)) == 90
    assert len(_requests_in(runner, RequestState.PENDING)) == 10
    assert len(_files(runner)) == 10 + len(_new_shards(runner))


def test_a_runner_that_loses_the_lease_cuts_nothing(runner, monkeypatch):
    """The requests belong to the runner that took over in between; our files are removed."""
    before = _files(runner)
    publish = runner.spool.publish

    def publish_and_lose(*arguments, **options):
        publish(*arguments, **options)
        with runner.store.write() as connection:
            workloads.set_values(connection, runner.find(NAME).id, lease_owner="another")

    monkeypatch.setattr(runner.spool, "publish", publish_and_lose)

    report = resubmit.resubmit(runner._context(), runner.find(NAME).id)

    assert report.counts == {}
    assert _files(runner) == before
    assert len(_requests_in(runner, RequestState.PENDING)) == RETURNED
