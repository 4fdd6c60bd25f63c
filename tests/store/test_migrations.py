"""The migrations lead to the schema that the code expects, completely or not at all, even when several processes upgrade."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

import batchkit
from batchkit.errors import StoreError, StoreUnavailable
from batchkit.models import ShardState
from batchkit.store import migrate, workloads
from batchkit.store.bulk import bulk_for
from batchkit.store.engine import Store
from batchkit.store.migrate import SchemaState
from batchkit.store.tables import metadata
from tests.factories import add_requests, add_shard, add_workload, success

VIEWS = {"failed", "progress", "scored", "scored_rows", "succeeded", "usage"}


@pytest.fixture
def empty_store(empty_database_url):
    """Open a store on a database without tables."""
    opened = Store(empty_database_url)
    yield opened
    opened.close()


def scripts() -> ScriptDirectory:
    """Return the migration scripts."""
    return ScriptDirectory.from_config(migrate._config())


def schema_of(store: Store) -> dict[str, dict[str, object]]:
    """Describe every table in full, including what Alembic's own comparison leaves out."""
    described: dict[str, dict[str, object]] = {}
    with store.read() as connection:
        inspector = inspect(connection)
        for name in inspector.get_table_names():
            if name == "alembic_version":
                continue
            described[name] = {
                "columns": [
                    (column["name"], repr(column["type"]), column["nullable"], column["default"])
                    for column in inspector.get_columns(name)
                ],
                "primary key": inspector.get_pk_constraint(name),
                "unique": sorted(inspector.get_unique_constraints(name), key=str),
                "foreign keys": sorted(inspector.get_foreign_keys(name), key=str),
                "checks": sorted(
                    (str(check["name"]), " ".join(check["sqltext"].split()))
                    for check in inspector.get_check_constraints(name)
                ),
                "indexes": sorted(
                    (
                        str(index["name"]),
                        str(index["column_names"]),
                        str(index["unique"]),
                        {option: str(value) for option, value in index["dialect_options"].items()},
                    )
                    for index in inspector.get_indexes(name)
                ),
            }
            if store.is_sqlite:
                query = text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :name")
                sql = connection.execute(query, {"name": name}).scalar_one()
                described[name]["storage"] = [word for word in ("WITHOUT ROWID", "AUTOINCREMENT") if word in sql]
    return described


def test_migrated_schema_is_the_fresh_one(empty_store):
    """The migrated tables equal the tables created from the code's metadata, down to the last CHECK."""
    with empty_store.write() as connection:
        metadata.create_all(connection)
    fresh = schema_of(empty_store)
    with empty_store.write() as connection:
        metadata.drop_all(connection)
    migrate.upgrade(empty_store)
    migrated = schema_of(empty_store)
    assert migrated == fresh
    assert set(migrated) == set(metadata.tables)
    # The comparison must see the constraints that matter.
    assert {name for name, _ in migrated["shards"]["checks"]} >= {"shards_has_batch", "shards_has_intent"}  # type: ignore[attr-defined] # described above
    assert any("where" in str(index[3]) for index in migrated["requests"]["indexes"])  # type: ignore[attr-defined] # described above


def test_autogenerate_finds_nothing_to_do(store):
    """Alembic's own comparison of migrations and code is empty."""
    with store.read() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_upgrade_reports_the_earlier_revision(empty_store):
    """An empty database has no revision; afterwards it has the one that this version needs."""
    head = scripts().get_current_head()
    assert migrate.check(empty_store) == SchemaState(None, head or "")
    assert not migrate.check(empty_store).is_current
    assert migrate.upgrade(empty_store) == SchemaState(None, head or "")
    assert migrate.check(empty_store) == SchemaState(head, head or "")
    assert migrate.check(empty_store).is_current


def test_check_changes_nothing(empty_store):
    """A check creates no table, not even Alembic's own."""
    migrate.check(empty_store)
    with empty_store.read() as connection:
        assert inspect(connection).get_table_names() == []


def test_upgrade_again_is_a_no_op(store):
    """A current database is left unchanged, including its rows."""
    with store.write() as connection:
        workload = add_workload(connection)
        add_shard(connection, workload)
    before = schema_of(store)
    assert migrate.upgrade(store).is_current
    assert schema_of(store) == before
    with store.read() as connection:
        assert [found.id for found in workloads.every(connection)] == [workload.id]


def test_threads_that_upgrade_at_once_do_it_once(empty_database_url):
    """One thread upgrades and the others wait, also within one process."""
    count = 4
    start = threading.Barrier(count)

    def upgrade(_: int) -> bool:
        own = Store(empty_database_url)
        try:
            start.wait()
            migrate.upgrade(own)
            return migrate.check(own).is_current
        finally:
            own.close()

    with ThreadPoolExecutor(count) as pool:
        assert list(pool.map(upgrade, range(count))) == [True] * count


def test_threads_may_upgrade_different_databases(empty_sqlite_url, empty_postgres_url, tmp_path):
    """Alembic keeps its context per process; upgrades of two databases at once must not share it."""
    urls = [empty_sqlite_url, empty_postgres_url, *(f"sqlite:///{tmp_path}/{number}.db" for number in range(4))]
    start = threading.Barrier(len(urls))

    def upgrade(url: str) -> set[str]:
        own = Store(url)
        try:
            start.wait()
            migrate.upgrade(own)
            with own.read() as connection:
                return set(inspect(connection).get_table_names())
        finally:
            own.close()

    with ThreadPoolExecutor(len(urls)) as pool:
        assert list(pool.map(upgrade, urls)) == [{*metadata.tables, "alembic_version"}] * len(urls)


_UPGRADER = """
import sys
from batchkit.store import migrate
from batchkit.store.bulk import bulk_for
from batchkit.store.engine import Store
store = Store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
migrate.upgrade(store)
print(migrate.check(store).is_current, flush=True)
store.close()
"""


def test_processes_that_upgrade_at_once_do_it_once(empty_database_url):
    """Two commands that start at the same moment on an empty database both find it ready."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _UPGRADER, empty_database_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(batchkit.__file__).parent.parent,
        )
        for _ in range(2)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        assert [process.communicate(timeout=60)[0] for process in started] == ["True\n", "True\n"]
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_newer_database_is_refused(store):
    """A database with a revision unknown to this version is left unchanged; the hint says to upgrade batchkit."""
    with store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    before = schema_of(store)
    with pytest.raises(StoreError, match="newer") as caught:
        migrate.upgrade(store)
    assert caught.value.hint
    assert "upgrade" in caught.value.hint
    assert not isinstance(caught.value, StoreUnavailable)
    assert schema_of(store) == before
    assert migrate.check(store).current == "9999"


def test_upgrade_that_fails_leaves_nothing_behind(empty_store):
    """A migration that breaks off in the middle is rolled back completely, on SQLite too."""
    with empty_store.write() as connection:
        connection.execute(text("CREATE TABLE shards (in_the_way INTEGER)"))
    with pytest.raises((StoreError, DBAPIError)):
        migrate.upgrade(empty_store)
    with empty_store.read() as connection:
        assert inspect(connection).get_table_names() == ["shards"]
    assert migrate.check(empty_store).current is None


def test_downgrade_to_nothing_and_up_again(store):
    """Every migration can be reversed, and upgrading again ends in the same schema."""
    before = schema_of(store)
    config = migrate._config()
    with store.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    with store.read() as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
        assert inspect(connection).get_view_names() == []
    assert migrate.check(store).current is None
    migrate.upgrade(store)
    assert schema_of(store) == before
    with store.read() as connection:
        assert set(inspect(connection).get_view_names()) == VIEWS


def test_history_is_one_line_without_gaps_or_twins():
    """Revisions are numbered 0001, 0002, ... in files of the same number, each based on the one before."""
    history = list(reversed(list(scripts().walk_revisions())))
    assert [revision.revision for revision in history] == [f"{number:04}" for number in range(1, len(history) + 1)]
    assert [revision.down_revision for revision in history] == [None, *[step.revision for step in history[:-1]]]
    files = sorted(path.name for path in (migrate.migrations_directory() / "versions").glob("*.py"))
    assert [name.partition("_")[0] for name in files] == [revision.revision for revision in history]
    assert scripts().get_heads() == [history[-1].revision]


def test_alembic_by_itself_refers_to_our_command():
    """Migrations run on connections that batchkit passes in, never on a guessed database."""
    with pytest.raises(SystemExit, match="batchkit db upgrade"):
        command.upgrade(migrate._config(), "head")


@pytest.mark.parametrize("place", ["inside", "beside"])
def test_migrations_are_found_in_a_wheel_and_in_a_checkout(tmp_path, monkeypatch, place):
    """A wheel has them inside the package, a checkout beside it; those inside the package take precedence."""
    package = tmp_path / "batchkit"
    (tmp_path / "migrations").mkdir()
    (package / "migrations" if place == "inside" else package).mkdir(parents=True)
    monkeypatch.setattr(batchkit, "__file__", str(package / "__init__.py"))
    expected = package / "migrations" if place == "inside" else tmp_path / "migrations"
    assert migrate.migrations_directory() == expected


def upgrade_to(store: Store, revision: str) -> None:
    """Upgrade an empty database to an earlier schema."""
    config = migrate._config()
    with store.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def add_open_workload(store: Store) -> None:
    """Insert a workload with a planned shard and a request, in the columns that the first schema has."""
    with store.write() as connection:
        connection.execute(
            text(
                "INSERT INTO workloads (id, name, created_at, source, directory, input_sha256, request_count, completion_window,"
                " max_completion_window, shard_lines, shard_bytes, max_attempts, max_expiries) VALUES"
                " (7, 'open', 1.5, 'in.jsonl', 'open-1', 'aa', 1, '24h', '7d', 10, 1000, 5, 10)"
            )
        )
        connection.execute(
            text(
                "INSERT INTO shards (id, workload_id, number, state, endpoint, completion_window, key, path, sha256, line_count,"
                " byte_count, first_seq, last_seq, next_lines, next_completion_window) VALUES"
                " (3, 7, 1, 'planned', '/v1/chat/completions', '24h', 'k', 'p', 's', 1, 9, 0, 0, 10, '24h')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO requests (workload_id, seq, custom_id, shard_id, line_offset, line_length, state)"
                " VALUES (7, 0, 'a', 3, 0, 9, 'in_flight')"
            )
        )


def add_old_results(store: Store) -> None:
    """Add a success and a failure of that workload, in the columns that the first schema has."""
    with store.write() as connection:
        for seq, state in enumerate(("succeeded", "failed"), start=1):
            connection.execute(
                text(
                    "INSERT INTO requests (workload_id, seq, custom_id, shard_id, line_offset, line_length, state)"
                    " VALUES (7, :seq, :state, 3, 0, 9, :state)"
                ),
                {"seq": seq, "state": state},
            )
            connection.execute(
                text("INSERT INTO results (workload_id, seq, state, shard_id, attempt) VALUES (7, :seq, :state, 3, 0)"),
                {"seq": seq, "state": state},
            )
            connection.execute(text('INSERT INTO bodies VALUES (3, :seq, \'{"text":"old"}\')'), {"seq": seq})


def places_of(store: Store) -> list[object]:
    """Return where the large tables are stored: a copied table is stored elsewhere."""
    queries = (
        ["SELECT rootpage FROM sqlite_master WHERE name IN ('requests', 'results') ORDER BY name"]
        if store.is_sqlite
        else [f"SELECT pg_relation_filenode('{name}')" for name in ("requests", "results")]
    )
    with store.read() as connection:
        return [row[0] for query in queries for row in connection.execute(text(query))]


@pytest.mark.parametrize("revision", ["0001", "0007", "0008", "0011"])
def test_a_database_with_an_open_workload_is_upgraded_in_place(empty_store, revision):
    """From the first schema and from the last: the open workload is read completely; neither requests nor results are copied."""
    upgrade_to(empty_store, revision)
    add_open_workload(empty_store)
    add_old_results(empty_store)
    before = places_of(empty_store)

    assert migrate.upgrade(empty_store).current == revision

    assert len(before) == 2
    assert places_of(empty_store) == before
    with empty_store.read() as connection:
        (found,) = workloads.open_workloads(connection)
        assert (found.name, found.created_at, found.request_count) == ("open", 1.5, 1)
        assert (found.output, found.stopped_at, found.stopped_reason) == (None, None, None)
        assert (found.reuse, found.reused_requests, found.repeated_requests) == (None, 0, 0)
        assert workloads.count_requests(connection, found).in_flight == 1
        columns = {"succeeded": "custom_id, answer, model, service_tier", "failed": "custom_id, model, service_tier"}
        views = {
            view: [tuple(row) for row in connection.execute(text(f"SELECT {names} FROM {view}"))]  # noqa: S608 - names of this test
            for view, names in columns.items()
        }
    assert views == {"succeeded": [("succeeded", "old", None, None)], "failed": [("failed", None, None)]}


def test_a_partitioned_database_is_upgraded(empty_postgres_url):
    """The later migrations reach every partition, and rows written afterwards appear in the views."""
    own = Store(empty_postgres_url)
    try:
        upgrade_to(own, "0007")
        script = migrate.migrations_directory() / "partition_by_workload.sql"
        with own.write() as connection:
            # Execute the script as psql would: it has no parameters.
            connection.connection.driver_connection.execute(script.read_text())  # type: ignore[union-attr] # an open one
        assert not migrate.upgrade(own).is_current
        assert migrate.check(own).is_current
        with own.write() as connection:
            merged = add_shard(connection, add_workload(connection), lines=1, state=ShardState.MERGED)
            bulk_for(connection).add_results([success(merged, 1, model="m", service_tier="batch")])
            connection.execute(text("INSERT INTO bodies VALUES (:shard, 1, '{}')"), {"shard": merged.id})
            add_requests(connection, merged.workload_id, merged.id, [{"seq": 1, "state": "succeeded"}])
            found = connection.execute(text("SELECT model, service_tier FROM succeeded WHERE seq = 1")).one()
            parts = connection.execute(text("SELECT count(*) FROM results_1")).scalar_one()
        assert (tuple(found), parts) == (("m", "batch"), 2)
    finally:
        own.close()
