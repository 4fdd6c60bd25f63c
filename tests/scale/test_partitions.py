"""A Postgres database that the script has partitioned by workload behaves like an unpartitioned one."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import func, select, text

from batchkit.engine.runtime import Runner
from batchkit.models import RequestState
from batchkit.settings import load_settings
from batchkit.store import reuse, workloads
from batchkit.store.tables import bodies, metadata, requests, results
from batchkit.store.tables import workloads as workload_rows
from tests.factories import add_shard, add_workload, settle
from tests.scale.simulated_provider import SimulatedProvider
from tests.scale.simulation import simulate
from tests.scale.temporary_databases import TemporaryDatabase
from tests.store.reusing import donor, follow, heir

SCRIPT = Path(__file__).parents[2] / "migrations/partition_by_workload.sql"
_SHARDS, _LINES = 6, 5


def partition(store) -> None:
    """Run the script."""
    with store.write() as connection:
        # Execute it as psql would: it has no parameters.
        connection.connection.driver_connection.execute(SCRIPT.read_text())


@pytest.mark.slow
def test_a_workload_runs_on_partitions_and_is_removed_with_them(postgres_store, postgres_url, tmp_path):
    """Split, merge, status and results are unchanged; dropping the partitions removes the workload's rows."""
    partition(postgres_store)

    figures = simulate(
        TemporaryDatabase("postgres", postgres_url, tmp_path),
        batches=_SHARDS,
        lines=_LINES,
        poll_seconds=7_200,
        seed=209,
    )

    assert figures.progress.is_finished
    workload = figures.progress.workload
    with postgres_store.read() as connection:
        for table, parts in ((requests, "requests_1"), (results, "results_1"), (bodies, "bodies_1")):
            whole = connection.execute(select(func.count()).select_from(table)).scalar_one()
            assert whole == connection.execute(text(f"SELECT count(*) FROM {parts}")).scalar_one() > 0  # noqa: S608 - a name of this test
        seen = connection.execute(text("SELECT requests, succeeded, failed FROM progress")).one()
        assert tuple(seen) == (_SHARDS * _LINES, figures.progress.counts.succeeded, figures.progress.counts.failed)

    with postgres_store.write() as connection:
        connection.execute(text(f"DROP TABLE requests_{workload.id}, results_{workload.id}"))
    settings = load_settings(home=tmp_path / "home", database_url=postgres_url, api_key="gsk_none")
    with Runner(settings, provider=SimulatedProvider(lambda: 0.0)) as runner:
        runner.clean(workload.name, keep_results=False)
        assert runner.all_workloads() == []
    with postgres_store.read() as connection:
        assert connection.execute(select(func.count()).select_from(bodies)).scalar_one() == 0


@pytest.mark.slow
def test_partitions_keep_what_a_later_migration_needs(postgres_store):
    """Tables, keys and indexes have the names that the code and the migrations expect."""
    partition(postgres_store)

    with postgres_store.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_name": lambda name, kind, _: kind != "table" or name in metadata.tables}
        )
        assert compare_metadata(context, metadata) == []
        inherited = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'requests'::regclass"
        assert connection.execute(text(inherited)).scalar_one() == 201


@pytest.mark.slow
def test_a_database_with_workloads_is_not_partitioned(postgres_store):
    """The script leaves a database that is in use unchanged."""
    with postgres_store.write() as connection:
        add_workload(connection)

    with pytest.raises(psycopg.errors.RaiseException, match="only an empty database"):
        partition(postgres_store)

    with postgres_store.read() as connection:
        assert connection.execute(select(func.count()).select_from(workload_rows)).scalar_one() == 1
        assert connection.execute(text("SELECT count(*) FROM pg_partitioned_table")).scalar_one() == 0


@pytest.mark.slow
def test_answers_are_reused_across_partitions(postgres_store):
    """They are found, given, followed and handed on as in whole tables, and nothing is left in any partition."""
    partition(postgres_store)
    with postgres_store.write() as connection:
        first = donor(connection, "first", lines=4)
        second = heir(connection, "second", ["first 3", "first 0", "first 3"])
        work = add_workload(connection, "work", reuse="on")
        shard = add_shard(connection, work, seqs=[0, 1])
        follow(connection, shard, 2, first_seq=2)
        settle(connection, shard, [0, 1], RequestState.SUCCEEDED)
        assert reuse.settle_followers(connection, work.id, first_seq=0, last_seq=1) == 2

        workloads.remove(connection, first.id)
        third = heir(connection, "third", ["first 0", "first 3"])
        workloads.remove(connection, second.id)

        answers = connection.execute(text("SELECT workload, seq, answer FROM succeeded ORDER BY workload, seq")).all()
        assert list(map(tuple, answers)) == [
            ("third", 0, "answer 0"),
            ("third", 1, "answer 3"),
            *(("work", seq, f"answer {seq % 2}") for seq in range(4)),
        ]
        for workload in (third, work):
            workloads.remove(connection, workload.id)
        for table in ("requests", "results", "bodies", "cleaned_answers"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0  # noqa: S608 - a name of this test
