"""What every step is handed: the parts it works with and the numbers it works by."""

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
    from batchkit.store.engine import Store


@dataclass(frozen=True, slots=True)
class Timing:
    """Waits and leases, in seconds; see the settings of the same names."""

    lease_seconds: float
    settle_seconds: float
    stuck_seconds: float
    resubmit_linger_seconds: float
    capacity_wait_seconds: float


@dataclass(frozen=True, slots=True)
class StepContext:
    """Parts and numbers for the steps. ``owner`` signs the leases, ``clock`` gives Unix seconds, ``transfers`` counts threads.

    ``stopping`` is set when the user does not want to wait: a step then ends as soon as what it has begun is done. ``probes``,
    ``failures`` and ``fetches`` are what this process remembers between passes (see ``memory``). ``merged`` is called at the end of
    each transaction that may finish the workload, and raises nothing.
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
    probes: ProbeMemory = field(default_factory=ProbeMemory)
    failures: FailureMemory = field(default_factory=FailureMemory)
    fetches: BackgroundCalls[Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fetches", BackgroundCalls(self.transfers))

    def provider_now(self) -> float:
        """Return the provider's time in Unix seconds, by which its batches expire; this machine's before the first reply."""
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
        """Report that work waits because of ``error``, and since when calls have failed; ``what`` says which work, in front of it."""
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
    """What one call of a step did: counts by name, and sentences for a person.

    ``outage`` is the provider's or network's last trouble when some work could not be done now and waits; ``outage_since`` (Unix
    seconds) is when the first call failed, None when that is not known, and ``is_reached`` whether the provider was reached all the
    same. ``refused`` is what
    the command ends with once what has ended is merged, and after which nothing more may be sent.
    ``error`` is an error that nobody expected, of one shard, which was left for later. ``waits_until`` (Unix seconds) is set when
    the provider asked to wait.
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
