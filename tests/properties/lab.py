"""Real steps on a real store, between an input made by the test and a scripted provider."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from batchkit.files import jsonl
from batchkit.files.spool import Spool
from batchkit.models import ShardState
from batchkit.provider.groq.dialect import GROQ
from batchkit.steps import export, merge, poll, resubmit, split, submit
from batchkit.steps.context import StepContext, Timing
from batchkit.steps.split import SplitDefaults, SplitOptions
from batchkit.store import results, shard_leases, shards, workloads
from batchkit.store.tables import attempts, requests
from tests.clock import FakeClock
from tests.properties.scripted import ScriptedProvider

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from batchkit.models import Shard, ShardId, Workload, WorkloadId
    from batchkit.store.engine import Store
    from batchkit.store.results import ExportRow

_TIMING = Timing(
    lease_seconds=60,
    settle_seconds=120,
    stuck_seconds=3_600,
    resubmit_linger_seconds=0,
    capacity_wait_seconds=60,
)
DEFAULTS = SplitDefaults(
    window="24h",
    max_window="7d",
    shard_lines=None,
    shard_bytes=100_000_000,
    max_attempts=5,
    max_expiries=10,
    dialect=GROQ,
)
#: Longer than every wait.
LONG = 4_000.0

_names = itertools.count(1)


class Lab:
    """One workload in a shared store, with its own provider and two runners ``"a"`` and ``"b"`` that alternate."""

    def __init__(self, store: Store, folder: Path, provider: ScriptedProvider | None = None) -> None:
        self.store = store
        self.name = f"lab-{next(_names)}"
        self.folder = folder / self.name
        self.folder.mkdir()
        self.clock = FakeClock()
        self.provider = provider or ScriptedProvider()
        self.contexts = {owner: self._context(f"{self.name}-{owner}") for owner in "ab"}
        self.workload_id: WorkloadId | None = None

    def _context(self, owner: str) -> StepContext:
        return StepContext(
            store=self.store,
            provider=self.provider,
            spool=Spool(self.folder / "home"),
            owner=owner,
            clock=self.clock,
            timing=_TIMING,
            transfers=1,
        )

    @staticmethod
    def options(**options: Any) -> SplitOptions:
        """Return the options of the split."""
        return SplitOptions(**options)

    def split(self, data: bytes, owner: str = "a", **options: Any) -> Workload | None:
        """Split an input."""
        source = self.folder / "input.jsonl"
        source.write_bytes(data)
        return self.split_file(source, owner, **options)

    def split_file(self, source: Path, owner: str = "a", **options: Any) -> Workload | None:
        """Split a file."""
        workload = split.split(
            self.contexts[owner],
            [source],
            name=self.name,
            options=self.options(**options),
            defaults=DEFAULTS,
            advance=lambda _lines: None,
        )
        if workload is not None:
            self.workload_id = workload.id
        return workload

    @property
    def id(self) -> WorkloadId:
        """Return the workload's id, once it is split."""
        assert self.workload_id is not None
        return self.workload_id

    def claim(self, owner: str, state: ShardState, limit: int = 1_000) -> list[ShardId]:
        """Claim due shards."""
        with self.store.write() as connection:
            found = shard_leases.claim(
                connection,
                self.id,
                state,
                owner=self.contexts[owner].owner,
                now=self.clock(),
                lease_seconds=_TIMING.lease_seconds,
                limit=limit,
            )
        return [shard.id for shard in found]

    def send(self, owner: str = "a", limit: int = 1_000) -> None:
        """Submit planned shards to the provider."""
        ids = self.claim(owner, ShardState.PLANNED, limit) + self.claim(owner, ShardState.UPLOADED, limit)
        submit.submit(self.contexts[owner], self.id, ids)

    def look(self, owner: str = "a") -> None:
        """Poll the batches."""
        poll.poll(self.contexts[owner], self.id)

    def merge(self, owner: str = "a", shard_ids: Sequence[ShardId] | None = None) -> None:
        """Merge the given shards, by default all that have ended."""
        ids = self.claim(owner, ShardState.ENDED) if shard_ids is None else shard_ids
        merge.merge(self.contexts[owner], self.id, ids)

    def resubmit(self, owner: str = "a") -> None:
        """Cut the requests that must be sent again into new shards."""
        resubmit.resubmit(self.contexts[owner], self.id)

    def shards(self, *states: ShardState) -> list[Shard]:
        """Read the workload's shards in some states, by default all."""
        with self.store.read() as connection:
            return shards.in_states(connection, self.id, states or tuple(ShardState))

    def workload(self) -> Workload:
        """Read the workload."""
        with self.store.read() as connection:
            return workloads.get(connection, self.id)

    def rows(self) -> list[ExportRow]:
        """Read every request with its result, in input order."""
        with self.store.read() as connection:
            return list(results.stream(connection, self.id))

    def counters(self) -> dict[str, tuple[int, int]]:
        """Read attempts and expiries of every request."""
        query = select(requests.c.custom_id, requests.c.attempts, requests.c.expiries)
        with self.store.read() as connection:
            found = connection.execute(query.where(requests.c.workload_id == self.id))
            return {custom_id: (ridden, expired) for custom_id, ridden, expired in found}

    def lost_attempts(self) -> list[int]:
        """Return the request of every failed attempt that was recorded."""
        with self.store.read() as connection:
            return list(connection.scalars(select(attempts.c.seq).where(attempts.c.workload_id == self.id)))

    def everything(self) -> list[Any]:
        """Read everything that a merge may change, to check that nothing did."""
        with self.store.read() as connection:
            spent = shards.totals_by_state(connection, self.id)
        return [self.rows(), self.shards(), self.counters(), sorted(self.lost_attempts()), spent]

    def exported(self, suffix: str = ".jsonl") -> Path:
        """Export the workload."""
        target = self.folder / f"out{suffix}"
        export.export(self.store, self.workload(), target, raw_csv=True, advance=lambda _rows: None)
        return target

    def exported_lines(self) -> list[dict[str, Any]]:
        """Export the workload and read it back."""
        return [jsonl.loads(line) for line in self.exported().read_bytes().split(b"\n")[:-1]]


def content(lines: Iterable[bytes]) -> bytes:
    """Return the bytes of a file with these lines."""
    return b"".join(line + b"\n" for line in lines)
