"""How often the batches of a workload are polled: as pure as its clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchkit.steps import poll
from batchkit.steps.context import StepReport

if TYPE_CHECKING:
    from batchkit.models import WorkloadId
    from batchkit.steps.context import StepContext

_SHORTEST_WAIT_SECONDS = 1.0
_POLL_BACKOFF = 1.5
#: The longest pause between two polls while the provider is unreachable, and while batches stop for a deadline.
_LONGEST_HASTY_PAUSE_SECONDS = 60.0


@dataclass(slots=True)
class _PollPace:
    interval_seconds: float
    due_at: float


@dataclass(frozen=True, slots=True)
class Pacing:
    """Waits in seconds; see the settings of the same names."""

    poll_interval_seconds: float
    max_poll_interval_seconds: float
    outage_seconds: float
    cancel_seconds: float

    @property
    def shortest_wait_seconds(self) -> float:
        """Return the shortest wait between two passes."""
        return min(_SHORTEST_WAIT_SECONDS, self.poll_interval_seconds)


class Polls:
    """Polls the batches of any number of workloads, each when it is time."""

    def __init__(self, context: StepContext, pacing: Pacing) -> None:
        self._context = context
        self._pacing = pacing
        self._paces: dict[WorkloadId, _PollPace] = {}

    def when_due(self, workload_id: WorkloadId, *, is_hasty: bool = False) -> StepReport:
        """Poll when it is time; the wait grows while no status changes, and with the number of calls that one poll takes.

        Of thousands of batches some status has always changed: without the second rule they would be polled without a pause.
        The wait of one that ``is_hasty`` grows to a minute only.
        """
        pace = self._paces.get(workload_id)
        # A time before the start of the wait means that the clock was set back.
        if pace is not None and pace.due_at - pace.interval_seconds <= self._context.clock() < pace.due_at:
            return StepReport({})
        return self.now(workload_id, is_hasty=is_hasty)

    def now(self, workload_id: WorkloadId, *, is_hasty: bool = False) -> StepReport:
        """Poll, and choose the time of the next poll."""
        pace = self._paces.get(workload_id)
        report = poll.poll(self._context, workload_id)
        shortest = self._pacing.poll_interval_seconds
        longest = max(self._pacing.max_poll_interval_seconds, shortest)
        if report.outage is not None or is_hasty:
            longest = min(longest, max(_LONGEST_HASTY_PAUSE_SECONDS, shortest))
        interval = min(shortest * max(report.counts.get("status calls", 0), 1), longest)
        if pace is not None and not report.counts.get("changed"):
            interval = min(max(pace.interval_seconds * _POLL_BACKOFF, interval), longest)
        self._paces[workload_id] = _PollPace(interval, self._context.clock() + interval)
        return report

    def soon(self, workload_id: WorkloadId) -> None:
        """Poll new batches soon, however long the wait between polls has grown."""
        shortest = self._pacing.poll_interval_seconds
        pace = self._paces.get(workload_id)
        due_at = self._context.clock() + shortest
        self._paces[workload_id] = _PollPace(shortest, due_at if pace is None else min(pace.due_at, due_at))

    def due_at(self, workload_id: WorkloadId) -> float | None:
        """Return when the next poll is due, in Unix seconds; None before the first one."""
        pace = self._paces.get(workload_id)
        return None if pace is None else pace.due_at
