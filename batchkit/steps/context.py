"""The arguments of every step, and the report that it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

from batchkit.errors import ProviderUnreachable
from batchkit.steps.memory import BackgroundCalls, FailureMemory, ProbeMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy.engine import Connection

    from batchkit.errors import BatchkitError, ProviderError
    from batchkit.files.spool import Spool
    from batchkit.models import WorkloadId
    from batchkit.provider.base import Provider
    from batchkit.sending.lane import SyncLane
    from batchkit.store.engine import Store


@dataclass(frozen=True, slots=True)
class Timing:
    """Waits and leases, in seconds; see the settings of the same names."""

    lease_seconds: float
    settle_seconds: float
    stuck_seconds: float
    resubmit_linger_seconds: float
    capacity_wait_seconds: float


def _no_lane() -> SyncLane:
    raise RuntimeError("this context sends nothing")


@dataclass(frozen=True, slots=True)
class StepContext:
    """The dependencies and settings of the steps.

    ``owner`` holds the leases, ``clock`` returns Unix seconds, ``transfers`` is a number of threads. ``stopping`` is set when the
    command is to end: a step then ends when the work that it has begun is done. ``probes``, ``failures``, ``fetches`` and ``uploads``
    are kept by this process between passes (see ``memory``). ``merged`` is called at the end of each transaction that may finish the
    workload, and raises nothing. ``lane`` returns the sync lane of this process.
    """

    store: Store
    provider: Provider
    spool: Spool
    owner: str
    clock: Callable[[], float]
    timing: Timing
    transfers: int
    stopping: Event = field(default_factory=Event)
    merged: Callable[[Connection, WorkloadId], None] = lambda _connection, _workload_id: None
    lane: Callable[[], SyncLane] = _no_lane
    probes: ProbeMemory = field(default_factory=ProbeMemory)
    failures: FailureMemory = field(default_factory=FailureMemory)
    fetches: BackgroundCalls[Any] = field(init=False)
    uploads: BackgroundCalls[StepReport] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fetches", BackgroundCalls(self.transfers, name="batchkit-fetch"))
        object.__setattr__(self, "uploads", BackgroundCalls(self.transfers, name="batchkit-upload"))

    def provider_now(self) -> float:
        """Return the provider's time in Unix seconds, which its expiry times use; this machine's before the first reply."""
        now = self.provider.now()
        return self.clock() if now is None else now

    def outage(
        self,
        error: ProviderError,
        *,
        what: str = "",
        counts: Mapping[str, int] | None = None,
        notes: tuple[str, ...] = (),
    ) -> StepReport:
        """Report that work waits because of ``error``, and since when calls have failed; ``what`` names the work, before the error."""
        trouble = self.provider.trouble()
        return StepReport(
            dict(counts or {}),
            notes,
            outage=f"{what}: {error}" if what else str(error),
            outage_since=None if trouble is None else trouble.since,
            is_reached=not isinstance(error, ProviderUnreachable),
        )


@dataclass(frozen=True, slots=True)
class StepReport:
    """The result of one call of a step: counts by name, and sentences for a person.

    ``outage`` is the last failure of the provider or the network, when some work has to wait for it; ``outage_since`` (Unix
    seconds) is when the first call failed, None when unknown, and ``is_reached`` whether the provider was reached nevertheless.
    ``refused`` is the error that ends the command after ended batches are merged; nothing more may be sent. ``error`` is an unexpected
    error on one shard, which is tried again later. ``waits_until`` (Unix seconds) is set when the provider asked to wait.
    """

    counts: dict[str, int]
    notes: tuple[str, ...] = ()
    outage: str | None = None
    refused: BatchkitError | None = None
    error: Exception | None = None
    waits_until: float | None = None
    outage_since: float | None = None
    is_reached: bool = False

    def __add__(self, other: StepReport) -> StepReport:
        names = [*self.counts, *(name for name in other.counts if name not in self.counts)]
        counts = {name: self.counts.get(name, 0) + other.counts.get(name, 0) for name in names}
        sinces = [report.outage_since for report in (self, other) if report.outage_since is not None]
        return StepReport(
            counts,
            self.notes + other.notes,
            other.outage or self.outage,
            self.refused or other.refused,
            other.error or self.error,
            other.waits_until or self.waits_until,
            min(sinces, default=None),
            (other if other.outage else self).is_reached,
        )
