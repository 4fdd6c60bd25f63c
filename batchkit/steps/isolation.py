"""Isolation of unexpected errors: an error in the work on one shard delays that shard, not the others."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from batchkit.errors import BatchkitError, RowsHeld
from batchkit.steps.context import StepReport
from batchkit.steps.refusal import postpone
from batchkit.store import shard_leases, shards

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.models import ShardId
    from batchkit.steps.context import StepContext

logger = logging.getLogger(__name__)

_LONGEST_HELD_PAUSE_SECONDS = 60.0


def is_of_one_shard(error: Exception) -> bool:
    """Return whether an error concerns one shard only: rows that another session locks, or an unexpected error."""
    return isinstance(error, RowsHeld) or not isinstance(error, BatchkitError)


def leave_for_later(context: StepContext, shard_id: ShardId, error: Exception, *, work: str) -> StepReport:
    """Give back a shard after an error that ``is_of_one_shard``, to be tried again after a growing pause.

    ``work`` names the work ("merging"). The log gets the traceback, the report a sentence.
    """
    pause = context.failures.pause_seconds(shard_id)
    if isinstance(error, RowsHeld):
        # The holder may release them at any time.
        pause = min(pause, _LONGEST_HELD_PAUSE_SECONDS)
    number = _postpone(context, shard_id, pause)
    name = f"shard {shard_id}" if number is None else f"shard {number}"
    if isinstance(error, RowsHeld):
        what = f"{work} {name} waits: {error.message}"
        return StepReport({"postponed": 1}, (f"{what}; tried again in {pause:.0f} s",), outage=what, error=error)
    logger.error("%s %s failed", work, name, exc_info=error)
    what = f"{work} {name} failed with an unexpected error ({type(error).__name__}: {error})"
    note = f"{what}; the other shards continue, this one is tried again in {pause:.0f} s"
    return StepReport({"postponed": 1}, (note,), outage=what, error=error)


def report_held(context: StepContext, tables: Sequence[str] = ("shards",)) -> StepReport:
    """Report who holds due rows of ``tables`` that were skipped as locked; empty when none is held for long."""
    for table in tables:
        held = context.store.held_for_long(table)
        if held is not None:
            return StepReport({}, outage=held.message, error=held)
    return StepReport({})


def _postpone(context: StepContext, shard_id: ShardId, seconds: float) -> int | None:
    """Postpone the shard if the database answers and the shard is still ours; return its number."""
    try:
        with context.store.write() as connection:
            shard_leases.leave_submitting(connection, context.owner, now=context.clock(), shard_ids=[shard_id])
        with context.store.read() as connection:
            shard = shards.get(connection, shard_id)
        postpone(context, shard, seconds)
    except Exception:  # noqa: BLE001 - the same error may occur here; the shard's lease then runs out
        return None
    return shard.number
