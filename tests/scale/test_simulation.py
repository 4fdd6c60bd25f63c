"""The commands of this folder work, at sizes that are too small for their figures."""

from __future__ import annotations

import pytest
from typer import Typer
from typer.testing import CliRunner

from batchkit.engine.progress import read_progress
from batchkit.models import RequestCountsByState
from batchkit.store import workloads
from tests.factories import NOW
from tests.scale import __main__ as command
from tests.scale.fill import fill
from tests.scale.simulation import simulate
from tests.scale.sizes import TABLES, workload_table_sizes
from tests.scale.status import QUERIES, filling_of, time_queries
from tests.scale.temporary_databases import TemporaryDatabase

_SHARDS, _LINES = 30, 4
#: With this seed one batch expires, two fail, and one is created without a reply.
_SEED = 209


@pytest.fixture
def place(request, database_url, tmp_path) -> TemporaryDatabase:
    """Return a temporary database, once of each kind."""
    return TemporaryDatabase(request.node.callspec.params["database_url"], database_url, tmp_path)


@pytest.mark.slow
def test_a_whole_workload_runs_in_simulated_time(place):
    """Two days pass in seconds: every request has its result, no batch is created twice, and the figures add up."""
    figures = simulate(place, batches=_SHARDS, lines=_LINES, poll_seconds=1_800, seed=_SEED)

    assert figures.progress.is_finished
    assert figures.progress.counts.total == _SHARDS * _LINES
    assert figures.progress.expired_attempts == _LINES // 2
    assert figures.batches == _SHARDS + 3  # the rest of the expired and of the failed batches is sent again
    assert figures.calls["create"] == figures.calls["upload"] == figures.batches
    assert figures.calls["list page"] == 1
    assert figures.events["submitting -> submitted"] == figures.events["ended -> merged"] == figures.batches
    assert figures.transitions == 6 * figures.batches
    assert figures.hours > 24
    assert figures.calls["status call"] <= len(figures.idle_seconds) + len(figures.busy_seconds) + 1
    assert figures.bytes_per_batch > 500


def test_the_command_prints_a_table():
    """The table has a head, a rule and a row for each database, all with the same number of cells."""
    told = CliRunner().invoke(
        _app(command.main), ["--batches", "3", "--lines", "2", "--database", "sqlite", "--poll", "7200"]
    )

    assert told.exit_code == 0, told.output
    head, line, row = told.output.splitlines()
    assert head.count("|") == line.count("|") == row.count("|")
    assert row.startswith("| 3 | sqlite | ")


def test_every_query_is_answered(store):
    """Each query of the table runs on a filled store and does not change it."""
    workload_id = fill(store, filling_of(3_000, 100))
    with store.read() as connection:
        before = read_progress(connection, workloads.get(connection, workload_id), now=NOW)

    seconds = time_queries(store, workload_id, rounds=1)

    assert seconds.keys() == QUERIES.keys()
    assert before.counts == RequestCountsByState(
        total=3_000, pending=45, in_flight=200, failed=28, succeeded=3_000 - 45 - 200 - 28
    )
    with store.read() as connection:
        assert read_progress(connection, workloads.get(connection, workload_id), now=NOW) == before


def test_the_sizes_of_a_store_are_measured_by_table(place):
    """The bodies take at least the bytes of their texts, and the other tables far less."""
    sizes = workload_table_sizes(place, requests=2_000, lines=100, body_bytes=1_000)

    assert set(TABLES) <= sizes.keys()
    assert 2_000 * 1_000 < sizes["bodies"].rows < 2_000 * 1_500
    assert 2_000 * 40 < sizes["requests"].rows < 2_000 * 500
    assert sizes["requests"].indexes < sizes["requests"].rows


def _app(main) -> Typer:
    app = Typer()
    app.command()(main)
    return app
