"""The data of the benchmarks: one input, and for each database template stores that are ready to be split, merged or exported."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.engine import make_url

from batchkit.engine.runtime import Runner
from batchkit.files.spool import path_of
from batchkit.models import Batch, BatchStatus, RequestCounts, ShardState
from batchkit.provider.groq.dialect import GROQ
from batchkit.settings import load_settings
from batchkit.steps.split import SplitOptions
from batchkit.store import batches, shards
from tests.benchmarks.data import write_answers, write_requests
from tests.postgres import PostgresServer
from tests.properties.scripted import ScriptedProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from batchkit.models import Shard, Workload

NAME = "bench"
#: The file in a template store that holds the name of its Postgres database.
_MARKER = "database"
#: One request in ten, in random order, is pending again.
_RETURNED = "(seq * 7919) % 1000 < 100"
#: 15,000 of 1,000,000, in random order.
_UNRESOLVED = "(seq * 7919) % 1000 < 15"


@dataclass(frozen=True)
class BenchmarkStores:
    """The input and the stores of one benchmark: ``lines`` requests, a folder, and a Postgres server or None for SQLite.

    Without ``lines_per_shard`` shards have the default size.
    """

    folder: Path
    lines: int
    server_url: str | None = None
    lines_per_shard: int | None = None

    @property
    def database(self) -> str:
        """Return the kind of database."""
        return "SQLite" if self.server_url is None else "Postgres"

    @property
    def source(self) -> Path:
        """Return the path of the input file."""
        return self.folder / f"requests-{self.lines}.jsonl"

    @property
    def shard_lines(self) -> int:
        """Return the size of the shards: the default size, but at least two shards."""
        return min(self.lines_per_shard or GROQ.limits.default_lines(self.lines), -(-self.lines // 2))

    @property
    def answers(self) -> Path:
        """Return the folder of the answers, which all databases share."""
        return self.folder / f"answers-{self.lines}-{self.shard_lines}"

    @property
    def tenth(self) -> BenchmarkStores:
        """Return the same stores with a tenth of the lines, in shards of the same size."""
        return replace(self, lines=self.lines // 10, lines_per_shard=self.shard_lines)

    def template_path(self, stage: str) -> Path:
        """Return the folder of the template store of one of the ``STAGES``."""
        return self.folder / f"golden-{self.database}-{self.lines}-{stage}"

    def prepare(self, stages: Iterable[str]) -> None:
        """Write the input, and make the template stores of these stages and of the stages that they build on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write_source()
        for stage in stages:
            self._make(stage)

    def write_source(self) -> None:
        """Write the input if it is missing."""
        if not self.source.exists():
            part = self.source.with_suffix(".part")
            write_requests(part, self.lines)
            part.rename(self.source)

    def _make(self, stage: str) -> None:
        if self.template_path(stage).exists():
            return
        origin, change = STAGES[stage]
        if origin is not None:
            self._make(origin)
        with self.fresh("preparation", copy_of=origin, keep=stage) as runner:
            change(runner, self)

    def clear(self) -> None:
        """Delete the template stores; input and answers stay."""
        for stage in STAGES:
            home = self.template_path(stage)
            if self.server_url is not None and (home / _MARKER).exists():
                server = PostgresServer(make_url(self.server_url))
                server.drop((home / _MARKER).read_text())
                server.close()
            shutil.rmtree(home, ignore_errors=True)

    @contextmanager
    def fresh(self, name: str, *, copy_of: str | None = None, keep: str | None = None) -> Iterator[Runner]:
        """Open a runner on a new store, or on a copy of a template; it is deleted afterwards, or kept as a template."""
        home = self.folder / f"{name}-{os.getpid()}"
        shutil.rmtree(home, ignore_errors=True)
        if copy_of is None:
            home.mkdir()
        else:
            shutil.copytree(self.template_path(copy_of), home, copy_function=_copy)
        with self._database(home, copy_of, keep) as url, self._runner(home, url) as runner:
            yield runner
        if keep is not None:
            shutil.rmtree(self.template_path(keep), ignore_errors=True)
            home.rename(self.template_path(keep))
        else:
            shutil.rmtree(home)

    @contextmanager
    def template(self, stage: str) -> Iterator[Runner]:
        """Open a runner on the template store itself, for work that does not change it."""
        home = self.template_path(stage)
        url = f"sqlite:///{home / 'batchkit.db'}"
        if self.server_url is not None:
            server = PostgresServer(make_url(self.server_url))
            url = server.url_of((home / _MARKER).read_text())
            server.close()
        with self._runner(home, url) as runner:
            yield runner

    def _runner(self, home: Path, url: str) -> Runner:
        settings = load_settings(home=home, database_url=url, api_key="gsk_none", shard_lines=self.shard_lines)
        return Runner(settings, provider=ScriptedProvider())

    @contextmanager
    def _database(self, home: Path, copy_of: str | None, keep: str | None) -> Iterator[str]:
        if self.server_url is None:
            yield f"sqlite:///{home / 'batchkit.db'}"
            return
        server = PostgresServer(make_url(self.server_url))
        marker = home / _MARKER
        name = server.create(template=marker.read_text() if copy_of is not None else "template1")
        try:
            yield server.url_of(name)
        finally:
            if keep is None:
                server.drop(name)
            else:
                marker.write_text(name)
            server.close()


def _copy(source: str, target: str) -> None:
    """Copy a database, and link any other file: no benchmark changes a shard or an answer."""
    if ".db" in Path(source).name or Path(source).name == _MARKER:
        shutil.copyfile(source, target)
    else:
        os.link(source, target)


def split(runner: Runner, stores: BenchmarkStores) -> Workload:
    """Split the input."""
    return runner.split([stores.source], name=NAME, options=SplitOptions(shard_lines=stores.shard_lines))


def _split_and_end(runner: Runner, stores: BenchmarkStores) -> None:
    """Split, and end every shard's batch: its answers are downloaded, nothing is merged."""
    workload = split(runner, stores)
    with runner.store.read() as connection:
        every = shards.in_states(connection, workload.id, (ShardState.PLANNED,))
    stores.answers.mkdir(exist_ok=True)
    for shard in every:
        _end(runner, stores, workload, shard)


def _end(runner: Runner, stores: BenchmarkStores, workload: Workload, shard: Shard) -> None:
    output, error = (stores.answers / f"{shard.number}.{kind}.jsonl" for kind in ("output", "error"))
    if not error.exists():
        with runner.spool.path(path_of(shard)).open("rb", buffering=1 << 20) as handle:
            write_answers(handle, output, error, seed=shard.number)
    counts = [_count(path) for path in (output, error)]
    for kind, path in (("output", output), ("error", error)):
        os.link(path, runner.spool.path(f"{workload.directory}/answers/{shard.key}.{kind}.jsonl"))
    batch = replace(
        Batch(f"batch_{shard.key}", BatchStatus.COMPLETED),  # type: ignore[arg-type] # an id is a string with a name
        output_file_id="file-output",  # type: ignore[arg-type] # as above
        error_file_id="file-error",  # type: ignore[arg-type] # as above
        counts=RequestCounts(total=sum(counts), completed=counts[0], failed=counts[1]),
    )
    with runner.store.write() as connection:
        for state, values in (
            (ShardState.UPLOADED, {"input_file_id": "file-input"}),
            (ShardState.SUBMITTING, {"submitting_since": 0.0}),
            (ShardState.SUBMITTED, {"batch_id": batch.id}),
            (ShardState.ENDED, {}),
        ):
            shards.transition(connection, shard, state, at=0.0, owner=None, detail="bench", **values)
            shard = shards.get(connection, shard.id)
        batches.add(connection, batch, workload_id=workload.id, shard_id=shard.id, seen_at=0.0)


def _count(path: Path) -> int:
    with path.open("rb", buffering=1 << 20) as handle:
        return sum(1 for _ in handle)


def merge_all(runner: Runner, _stores: BenchmarkStores) -> None:
    """Merge everything that has ended, in waves, as a drive does."""
    workload = runner.find(NAME)
    while waves := runner._pending_work().merges(workload.id):
        for wave in waves:
            runner.run_wave(wave)


def _return_some(runner: Runner, _stores: BenchmarkStores) -> None:
    _leave(runner, _RETURNED)


def _leave_few(runner: Runner, _stores: BenchmarkStores) -> None:
    _leave(runner, _UNRESOLVED)


def _leave(runner: Runner, pending: str) -> None:
    """Mark all batches as merged, with these requests pending; their answers are not read."""
    with runner.store.write() as connection:
        connection.execute(text("UPDATE shards SET state = 'merged', merged_at = 0"))
        connection.execute(
            text(f"UPDATE requests SET attempts = 1, state = CASE WHEN {pending} THEN 'pending' ELSE 'succeeded' END")  # noqa: S608 - a constant of this file
        )
    if not runner.store.is_sqlite:
        # Autovacuum does this within a minute.
        with runner.store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")


#: For each stage, the stage that it builds on, and the function that makes it.
STAGES: dict[str, tuple[str | None, Callable[[Runner, BenchmarkStores], object]]] = {
    "ended": (None, _split_and_end),
    "merged": ("ended", merge_all),
    "returned": ("ended", _return_some),
    "unresolved": ("ended", _leave_few),
}
