"""Waits and leases that a wrong clock wrote: those further ahead than our longest wait are ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.steps.refusal import LONGEST_WAIT_SECONDS
from batchkit.store import shard_leases, workloads
from batchkit.store.shard_leases import LongestWaits

if TYPE_CHECKING:
    from batchkit.models import WorkloadId
    from batchkit.steps.context import StepContext

#: A smaller step is an ordinary correction of the clock; a larger one means that the clock was set.
SET_BACK_SECONDS = 60.0

#: Other processes may have longer leases, and a clock that is hours ahead: taking a shard from a living process costs more
#: than waiting for a dead one.
_LEASE_SHARE = 10
_LONGEST_LEASE_SECONDS = 43_200.0


def end_impossible_waits(context: StepContext, workload_id: WorkloadId, *, was_set_back: bool) -> None:
    """End the waits of a workload that no correct clock can have written.

    ``was_set_back``: this machine's clock was set back while the process ran; then every wait that is not over is ended,
    whoever began it. Leases are treated alike in both cases, because their holders may be alive.
    """
    now, timing = context.clock(), context.timing
    waits = (LONGEST_WAIT_SECONDS, timing.settle_seconds, timing.capacity_wait_seconds, timing.resubmit_linger_seconds)
    longest = LongestWaits(
        not_before=0.0 if was_set_back else max(waits) + SET_BACK_SECONDS,
        lease=max(_LEASE_SHARE * timing.lease_seconds, _LONGEST_LEASE_SECONDS),
        past=0.0 if was_set_back else SET_BACK_SECONDS,
    )
    with context.store.write() as connection:
        shard_leases.end_impossible_waits(connection, workload_id, now=now, longest=longest)
        workloads.end_impossible_lease(connection, workload_id, beyond=now + longest.lease)
