"""Waits and leases that a wrong clock wrote: what lies further ahead than any of our waits can is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.steps.refusal import LONGEST_WAIT_SECONDS
from batchkit.store import shard_leases, workloads
from batchkit.store.shard_leases import LongestWaits

if TYPE_CHECKING:
    from batchkit.models import WorkloadId
    from batchkit.steps.context import StepContext

#: By less than this a clock is corrected, by more it was set.
SET_BACK_SECONDS = 60.0

#: Others may have set longer leases than ours, and may live with a clock that is hours ahead: to take a shard from the living
#: costs more than to wait for the dead.
_LEASE_SHARE = 10
_LONGEST_LEASE_SECONDS = 43_200.0


def end_impossible_waits(context: StepContext, workload_id: WorkloadId, *, was_set_back: bool) -> None:
    """End the waits of a workload that no right clock can have begun.

    ``was_set_back`` says that this machine's clock was set back while the process ran: then no wait is believed that is
    not over, whoever began it. Leases are judged alike in both cases, for their holders may be alive.
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
