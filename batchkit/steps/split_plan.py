"""What a split would do: the shards that an input would be cut into, and an estimate of its tokens. Nothing is stored."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from itertools import compress, islice
from typing import TYPE_CHECKING, Any

from batchkit import preflight
from batchkit.budget import NO_BUDGET, Budget
from batchkit.errors import InputInvalid
from batchkit.models import Destination, Lane, LaneChoice
from batchkit.sharding import is_full
from batchkit.steps.input_check import InputCheck
from batchkit.steps.split import shard_lines_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from batchkit.steps.input_check import CheckedLine
    from batchkit.steps.reuse_plan import PlannedReuse
    from batchkit.steps.split import SplitDefaults, SplitOptions

_LINES_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """The result of a planned split. ``shards`` holds (endpoint, lines, bytes); ``warnings`` maps warnings to their counts.

    ``shares`` has estimates by model, whose prompt tokens sum to ``prompt_tokens``; ``completion_tokens`` is the sum of the limits
    that the requests set themselves. ``reused`` and ``repeated`` of the ``requests`` would not be sent (see ``PlannedReuse``); the
    other figures are without them. ``budget`` is that of the workload, ``first`` the body and the endpoint of the first request.
    """

    requests: int
    bytes: int
    shards: tuple[tuple[str, int, int], ...]
    endpoints: dict[str, int]
    models: dict[str, int]
    prompt_tokens: int
    completion_tokens: int
    shard_lines: int
    window: str
    warnings: dict[str, int]
    blank_lines: int = 0
    reused: int = 0
    repeated: int = 0
    shares: dict[str, preflight.ModelShare] = field(default_factory=dict)
    lane: Lane = Lane.BATCH
    budget: Budget = NO_BUDGET
    first: tuple[dict[str, Any], str] | None = None


def plan(
    paths: Sequence[Path],
    *,
    options: SplitOptions,
    defaults: SplitDefaults,
    advance: Callable[[int], None],
    reuse: PlannedReuse | None = None,
) -> SplitPlan:
    """Check the input and compute how it would be cut, on the lane that ``split`` takes.

    Raises ``InputInvalid`` and ``InputUnreadable``.
    """
    lane = defaults.lane_of(paths, options)
    try:
        return _plan(paths, options=options, defaults=defaults, advance=advance, reuse=reuse)
    except InputInvalid:
        if lane is Lane.SYNC or (options.lane or defaults.lane) is not LaneChoice.AUTO:
            raise
    one_by_one = replace(options, small=sys.maxsize)
    return _plan(paths, options=one_by_one, defaults=defaults, advance=advance, reuse=reuse)


def _plan(
    paths: Sequence[Path],
    *,
    options: SplitOptions,
    defaults: SplitDefaults,
    advance: Callable[[int], None],
    reuse: PlannedReuse | None,
) -> SplitPlan:
    lane = defaults.lane_of(paths, options)
    rules = defaults.dialect.rules.of_lane(lane)
    max_lines = shard_lines_of(paths, options, defaults)
    max_bytes = options.shard_bytes or defaults.shard_bytes
    check = InputCheck(paths, rules=rules, max_line_bytes=max_bytes, digest=None, advance=advance)
    open_cuts: dict[Destination, tuple[int, int]] = {}
    has_one_model = rules.has_one_model
    cuts: list[tuple[str, int, int]] = []
    endpoints: dict[str, int] = {}
    warnings: dict[str, int] = {}
    shares: dict[str, preflight.ModelShare] = {}
    first: tuple[dict[str, Any], str] | None = None
    size = 0
    for line in check.lines() if reuse is None else _sent(check.lines(), reuse):
        destination = Destination(line.endpoint, line.model if has_one_model else None)
        count, bytes_so_far = open_cuts.get(destination, (0, 0))
        next_bytes = len(line.line) + 1
        if is_full(
            lines=count, size_bytes=bytes_so_far, next_bytes=next_bytes, max_lines=max_lines, max_bytes=max_bytes
        ):
            cuts.append((line.endpoint, count, bytes_so_far))
            count = bytes_so_far = 0
        open_cuts[destination] = (count + 1, bytes_so_far + next_bytes)
        endpoints[line.endpoint] = endpoints.get(line.endpoint, 0) + 1
        for warning in line.warnings:
            warnings[warning] = warnings.get(warning, 0) + 1
        size += next_bytes
        if first is None:
            first = (line.record["body"], line.endpoint)
        shares.setdefault(line.model, preflight.ModelShare()).add(preflight.estimate_tokens(line.record))
    cuts.extend((destination.endpoint, *size_so_far) for destination, size_so_far in open_cuts.items())
    return SplitPlan(
        requests=check.line_count,
        bytes=size,
        shards=tuple(cuts),
        endpoints=endpoints,
        models={model: share.requests for model, share in shares.items()},
        prompt_tokens=sum(share.prompt_tokens for share in shares.values()),
        completion_tokens=sum(share.completion_tokens for share in shares.values()),
        shard_lines=max_lines,
        window=defaults.window_of(options),
        lane=lane,
        warnings=warnings,
        blank_lines=check.blank_count,
        reused=0 if reuse is None else reuse.reused,
        repeated=0 if reuse is None else reuse.repeated,
        shares=shares,
        budget=defaults.budget(options),
        first=first,
    )


def _sent(lines: Iterator[CheckedLine], reuse: PlannedReuse) -> Iterator[CheckedLine]:
    """Yield the lines that would be sent."""
    while some := list(islice(lines, _LINES_AT_ONCE)):
        yield from compress(some, reuse.sent([line.line for line in some]))
