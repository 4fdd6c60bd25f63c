"""The ground that benchmarks stand on: one input, and for each database a store that is ready to be split, merged or exported."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url

from batchkit.models import Batch, BatchStatus, RequestCounts, ShardState
from batchkit.runner import Runner
from batchkit.settings import load_settings
from batchkit.steps import merge
from batchkit.steps.split import SplitOptions
from batchkit.store import batches, shards
from tests.benchmarks.data import write_answers, write_requests
from tests.postgres import PostgresServer
from tests.properties.scripted import ScriptedProvider

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.models import Shard, Workload

NAME = "bench"
STAGES = ("split", "ended", "merged")
#: The file in a golden store that names its Postgres database.
_MARKER = "database"
_LINES_PER_SHARD_AT_MOST = 50_000
_MERGE_WAVE = 50


@dataclass(frozen=True)
class Lab:
    """Where one benchmark runs: ``lines`` requests, a folder for everything, and a Postgres server or None for SQLite."""

    folder: Path
    lines: int
    server_url: str | None = None

    @property
    def database(self) -> str:
        """The kind of database."""
        return "SQLite" if self.server_url is None else "Postgres"

    @property
    def source(self) -> Path:
        """The input."""
        return self.folder / f"requests-{self.lines}.jsonl"

    @property
    def shard_lines(self) -> int:
        """How large shards are: as the default is, but never so few that one shard is all."""
        return min(max(self.lines // 20, 1_000), _LINES_PER_SHARD_AT_MOST)

    def golden(self, stage: str) -> Path:
        """Where a store of one of the ``STAGES`` is kept, to be copied."""
        return self.folder / f"golden-{self.database}-{self.lines}-{stage}"

    def prepare(self) -> None:
        """Write the input, and make the golden stores."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.source.exists():
            write_requests(self.source, self.lines)
        with self.fresh("preparation", keep="split") as runner:
            split(runner, self)
        with self.fresh("preparation", copy_of="split", keep="ended") as runner:
            _end_all(runner)
        with self.fresh("preparation", copy_of="ended", keep="merged") as runner:
            merge_all(runner)

    def clear(self) -> None:
        """Remove the golden stores; the input stays."""
        for stage in STAGES:
            home = self.golden(stage)
            if self.server_url is not None and (home / _MARKER).exists():
                server = PostgresServer(make_url(self.server_url))
                server.drop((home / _MARKER).read_text())
                server.close()
            shutil.rmtree(home, ignore_errors=True)

    @contextmanager
    def fresh(self, name: str, *, copy_of: str | None = None, keep: str | None = None) -> Iterator[Runner]:
        """Open a runner on a new store, or on a copy of a golden one; it is gone afterwards, or kept as a golden one."""
        home = self.folder / f"{name}-{os.getpid()}"
        shutil.rmtree(home, ignore_errors=True)
        if copy_of is None:
            home.mkdir()
        else:
            shutil.copytree(self.golden(copy_of), home, copy_function=_copy)
        with self._database(home, copy_of, keep) as url:
            settings = load_settings(home=home, database_url=url, api_key="gsk_none", shard_lines=self.shard_lines)
            with Runner(settings, provider=ScriptedProvider()) as runner:
                yield runner
        if keep is not None:
            shutil.rmtree(self.golden(keep), ignore_errors=True)
            home.rename(self.golden(keep))
        else:
            shutil.rmtree(home)

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
    """Copy a database, link anything else: nobody changes a shard or an answer."""
    if ".db" in Path(source).name:
        shutil.copyfile(source, target)
    elif Path(source).name != _MARKER:
        os.link(source, target)
    else:
        shutil.copyfile(source, target)


def split(runner: Runner, lab: Lab) -> Workload:
    """Split the input."""
    return runner.split([lab.source], name=NAME, options=SplitOptions(shard_lines=lab.shard_lines))


def _end_all(runner: Runner) -> None:
    """Let every shard's batch have run: its answers lie here, nothing is merged."""
    workload = runner.find(NAME)
    with runner.store.read() as connection:
        every = shards.in_states(connection, workload.id, (ShardState.PLANNED,))
    for shard in every:
        _end(runner, workload, shard)


def _end(runner: Runner, workload: Workload, shard: Shard) -> None:
    answers = runner.spool.path(f"{workload.directory}/answers/{shard.key}.output.jsonl")
    refusals = answers.with_name(f"{shard.key}.error.jsonl")
    with runner.spool.path(shard.path).open("rb", buffering=1 << 20) as handle:
        completed, failed = write_answers(handle, answers, refusals, seed=shard.number)
    batch = replace(
        Batch(f"batch_{shard.key}", BatchStatus.COMPLETED),  # type: ignore[arg-type] # an id is a string with a name
        output_file_id="file-output",  # type: ignore[arg-type]
        error_file_id="file-error",  # type: ignore[arg-type]
        counts=RequestCounts(total=completed + failed, completed=completed, failed=failed),
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


def merge_all(runner: Runner) -> None:
    """Merge everything that has ended, wave by wave, as a drive does."""
    workload = runner.find(NAME)
    driver = runner._the_driver()
    while ids := driver._claim(workload.id, (ShardState.ENDED,), _MERGE_WAVE):
        merge.merge(runner._context(), workload.id, ids)
