"""split: the input becomes shards, planned and indexed. Nothing is sent, and nothing is kept of an input with problems."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchkit import preflight, sources
from batchkit.errors import StateConflict, WorkloadConflict
from batchkit.jsonl import storable_text
from batchkit.models import RetryPolicy
from batchkit.sharding import default_shard_lines, is_full
from batchkit.spool import directory_name
from batchkit.steps.input_check import InputCheck
from batchkit.steps.shard_file import ShardFile
from batchkit.store import workloads
from batchkit.store.bulk import bulk_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sqlalchemy.engine import Connection

    from batchkit.models import Workload
    from batchkit.steps.context import StepContext


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How a workload is cut and retried; None means not given: the default, or what the workload has already.

    ``window`` and ``max_window`` are completion windows such as ``24h``; ``shard_bytes`` is in bytes; the two budgets
    start at 1.
    """

    window: str | None = None
    max_window: str | None = None
    shard_lines: int | None = None
    shard_bytes: int | None = None
    max_attempts: int | None = None
    max_expiries: int | None = None


@dataclass(frozen=True, slots=True)
class SplitDefaults:
    """The values for what the options leave open; without ``shard_lines`` the size of the input decides."""

    window: str
    max_window: str
    shard_lines: int | None
    shard_bytes: int
    max_attempts: int
    max_expiries: int


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """What a split would do. ``shards`` holds (endpoint, lines, bytes); ``warnings`` are counted.

    ``prompt_tokens`` is an estimate, ``completion_tokens`` the sum of the limits that the requests set themselves.
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


def plan(
    paths: Sequence[Path], *, options: SplitOptions, defaults: SplitDefaults, advance: Callable[[int], None]
) -> SplitPlan:
    """Check the input and cut it on paper only. Raises ``InputInvalid`` and ``InputUnreadable``."""
    total, _ = sources.count_lines(paths)
    max_lines = options.shard_lines or defaults.shard_lines or default_shard_lines(total)
    max_bytes = options.shard_bytes or defaults.shard_bytes
    check = InputCheck(paths, max_line_bytes=max_bytes, digest=None, advance=advance)
    open_cuts: dict[str, tuple[int, int]] = {}
    cuts: list[tuple[str, int, int]] = []
    endpoints: dict[str, int] = {}
    models: dict[str, int] = {}
    warnings: dict[str, int] = {}
    size = prompt_tokens = completion_tokens = 0
    for line in check.lines():
        count, bytes_so_far = open_cuts.get(line.endpoint, (0, 0))
        next_bytes = len(line.line) + 1
        if is_full(
            lines=count, size_bytes=bytes_so_far, next_bytes=next_bytes, max_lines=max_lines, max_bytes=max_bytes
        ):
            cuts.append((line.endpoint, count, bytes_so_far))
            count = bytes_so_far = 0
        open_cuts[line.endpoint] = (count + 1, bytes_so_far + next_bytes)
        endpoints[line.endpoint] = endpoints.get(line.endpoint, 0) + 1
        models[line.model] = models.get(line.model, 0) + 1
        for warning in line.warnings:
            warnings[warning] = warnings.get(warning, 0) + 1
        estimate = preflight.estimate_tokens(line.record)
        size += next_bytes
        prompt_tokens += estimate.prompt
        completion_tokens += estimate.max_completion or 0
    cuts.extend((endpoint, count, bytes_so_far) for endpoint, (count, bytes_so_far) in open_cuts.items())
    return SplitPlan(
        requests=check.line_count,
        bytes=size,
        shards=tuple(cuts),
        endpoints=endpoints,
        models=models,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        shard_lines=max_lines,
        window=options.window or defaults.window,
        warnings=warnings,
    )


def split(
    context: StepContext,
    paths: Sequence[Path],
    *,
    name: str,
    options: SplitOptions,
    defaults: SplitDefaults,
    advance: Callable[[int], None],
) -> Workload | None:
    """Split the input under ``name``, or find that this was done; None while another runner is splitting it.

    What an interrupted split left is removed first. Raises ``WorkloadConflict`` when the name belongs to another input,
    ``InputInvalid`` and ``InputUnreadable`` for the input; in all three cases nothing is stored.
    """
    with context.store.read() as connection:
        existing = workloads.find(connection, name)
    if existing is not None and existing.request_count is not None:
        return _same_workload(context, existing, paths, options)
    total, _ = sources.count_lines(paths)
    workload = _begin(context, paths, name=name, options=options, defaults=defaults, total=total)
    if workload is None:
        return None
    digest = hashlib.sha256()
    check = InputCheck(paths, max_line_bytes=workload.shard_bytes, digest=digest, advance=advance)
    try:
        _write_shards(context, workload, check)
    except StateConflict:
        return None
    except BaseException:
        _abandon(context, workload)
        raise
    with context.store.write() as connection:
        if not workloads.holds_lease(connection, workload.id, context.owner):
            return None
        workloads.finish_split(
            connection, workload.id, sha256=digest.hexdigest(), request_count=check.line_count, at=context.clock()
        )
        workloads.release_lease(connection, context.owner)
        return workloads.get(connection, workload.id)


def _same_workload(context: StepContext, workload: Workload, paths: Sequence[Path], options: SplitOptions) -> Workload:
    """Make sure that the input is the one that the workload was made of, and take over changed policies."""
    if sources.scan(paths).sha256 != workload.input_sha256:
        raise WorkloadConflict(
            f"workload {workload.name!r} was made of a different input ({workload.source});"
            " its requests would get answers to other questions",
            hint="choose another --name, or `batchkit clean` the old workload first",
        )
    given = {
        "max_completion_window": options.max_window,
        "max_attempts": options.max_attempts,
        "max_expiries": options.max_expiries,
    }
    changed = {column: value for column, value in given.items() if value is not None}
    with context.store.write() as connection:
        if changed:
            workloads.set_values(connection, workload.id, **changed)
        return workloads.get(connection, workload.id)


def _begin(
    context: StepContext,
    paths: Sequence[Path],
    *,
    name: str,
    options: SplitOptions,
    defaults: SplitDefaults,
    total: int,
) -> Workload | None:
    """Insert the workload, in place of an unfinished split if there is one, with the lease; None when another runner has it."""
    with context.store.write() as connection:
        found = workloads.find(connection, name)
        if found is not None:
            if found.request_count is not None or not _take_lease(context, connection, found):
                return None
            workloads.remove(connection, found.id)
        if not workloads.add(
            connection,
            name=name,
            # A file's name may be bytes that are no text.
            source=storable_text(", ".join(str(path) for path in paths)) or "",
            directory=directory_name(name, uuid.uuid4().hex[:8]),
            window=options.window or defaults.window,
            max_window=options.max_window or defaults.max_window,
            shard_lines=options.shard_lines or defaults.shard_lines or default_shard_lines(total),
            shard_bytes=options.shard_bytes or defaults.shard_bytes,
            policy=RetryPolicy(
                max_attempts=options.max_attempts or defaults.max_attempts,
                max_expiries=options.max_expiries or defaults.max_expiries,
            ),
            at=context.clock(),
        ):
            return None
        workload = workloads.find(connection, name)
        if workload is None or not _take_lease(context, connection, workload):
            return None
    if found is not None:
        context.spool.remove_tree(found.directory)
    return workload


def _take_lease(context: StepContext, connection: Connection, workload: Workload) -> bool:
    return workloads.take_lease(
        connection,
        workload.id,
        owner=context.owner,
        now=context.clock(),
        lease_seconds=context.timing.lease_seconds,
    )


def _write_shards(context: StepContext, workload: Workload, check: InputCheck) -> None:
    """Cut the input: one open shard per endpoint, because a batch has one endpoint."""
    open_shards: dict[str, ShardFile] = {}
    try:
        for seq, line in enumerate(check.lines()):
            shard = open_shards.get(line.endpoint)
            if shard is not None and not shard.has_room_for(line.line):
                _finish_shard(context, workload, open_shards.pop(line.endpoint))
                shard = None
            if shard is None:
                shard = open_shards[line.endpoint] = ShardFile(
                    context.spool,
                    workload,
                    endpoint=line.endpoint,
                    window=workload.window,
                    max_lines=workload.shard_lines,
                )
            shard.add(seq, line.custom_id, line.line)
        for endpoint in list(open_shards):
            _finish_shard(context, workload, open_shards.pop(endpoint))
    finally:
        for shard in open_shards.values():
            shard.discard()


def _finish_shard(context: StepContext, workload: Workload, shard: ShardFile) -> None:
    shard.publish()
    with context.store.write() as connection:
        if not workloads.holds_lease(connection, workload.id, context.owner):
            raise StateConflict(f"another runner is splitting {workload.name!r}")
        shard_id = shard.commit(connection, at=context.clock())
        bulk_for(connection).add_requests(workload.id, shard_id, shard.rows)


def _abandon(context: StepContext, workload: Workload) -> None:
    """Remove all traces of a split that could not be finished; nothing of it was sent."""
    with context.store.write() as connection:
        if not workloads.holds_lease(connection, workload.id, context.owner):
            return
        workloads.remove(connection, workload.id)
    context.spool.remove_tree(workload.directory)
