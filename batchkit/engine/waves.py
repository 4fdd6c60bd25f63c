"""The actions of a drive: waves of work, a wait, or the end. They hold ids and numbers only, so that any process can take them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchkit.engine.progress import Progress
    from batchkit.models import ShardId, Trouble, WorkloadId


class WaveKind(StrEnum):
    """The kinds of work that get their own task."""

    MERGE = "merge"
    RESUBMIT = "resubmit"
    SEND = "send"
    SUBMIT = "submit"


@dataclass(frozen=True, slots=True)
class Wave:
    """Work that is pending now. ``shard_ids`` are leased to the process that made the wave; empty for ``RESUBMIT``."""

    kind: WaveKind
    workload_id: WorkloadId
    shard_ids: tuple[ShardId, ...] = ()


#: Waves that may run at the same time.
Waves = tuple[Wave, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """No work is pending before ``until`` (Unix seconds); ``notes`` are sentences about the pass.

    ``progress`` is a snapshot of now, None while the database cannot be read. ``trouble`` is set during an outage.
    """

    until: float
    progress: Progress | None
    notes: tuple[str, ...] = ()
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The drive has ended; ``progress`` is the last snapshot. It may be unfinished: see ``DriveUntil`` and ``stop_at``.

    ``outage`` is what some work of a single pass had to wait for (see ``StepReport``); ``notes`` are sentences about the last pass.
    """

    progress: Progress
    outage: str | None = None
    notes: tuple[str, ...] = ()


class DriveUntil(StrEnum):
    """When a drive ends."""

    FINISHED = "finished"
    SUBMITTED = "submitted"
    ONE_PASS = "one_pass"  # noqa: S105 - a pass, not a password
