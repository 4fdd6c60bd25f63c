"""What a call of ``batchkit.api`` came to, for the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.annotation.totals import Totals
    from batchkit.engine.progress import Progress
    from batchkit.models import Workload


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a call about one workload came to.

    ``progress`` is the last snapshot. ``output`` is the file or ``table:NAME`` that holds its results, as it was named; None when the
    call wrote none. ``was_finished`` is whether the workload was finished before the call. ``rows`` and ``totals`` are those of a
    table whose answers were written: how many rows, and what they cost and how far they agree.
    """

    progress: Progress
    output: str | None = None
    was_finished: bool = False
    rows: int | None = None
    totals: Totals | None = None


@dataclass(frozen=True, slots=True)
class SeveralReport:
    """What a call about several workloads came to: where each stands that can be read, what was written, and which failed by what."""

    snapshots: Sequence[Progress]
    outputs: Sequence[str]
    failed: Sequence[tuple[Workload, Exception]]
