"""split: cut the input into planned shards and index its requests. Nothing is sent; an input with problems leaves nothing."""

from __future__ import annotations

import hashlib
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import TYPE_CHECKING

from batchkit import preflight
from batchkit.errors import SpoolError, StateConflict, WorkloadConflict
from batchkit.files import sources
from batchkit.files.jsonl import storable_text
from batchkit.files.spool import directory_name
from batchkit.models import RetryPolicy
from batchkit.sharding import default_shard_lines, is_full
from batchkit.steps.disk_thread import DiskThread
from batchkit.steps.input_check import InputCheck
from batchkit.steps.shard_file import RequestLines, ShardFile
from batchkit.store import shards, workloads
from batchkit.store.bulk import bulk_for

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy.engine import Connection

    from batchkit.models import Workload
    from batchkit.steps.context import StepContext
    from batchkit.steps.input_check import CheckedBlock
    from batchkit.store.engine import Store


#: Few enough that reading ahead continues during a commit, and enough that small shards cost no more than large ones.
_ROWS_PER_COMMIT = 20_000


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How a workload is cut and retried; None: use the default, or what the workload has already.

    ``window`` and ``max_window`` are completion windows such as ``24h``; ``shard_bytes`` is in bytes; the two budgets
    start at 1. ``source`` describes what the requests were made of (default: the input's files), ``answer_rules``,
    ``recipe`` and ``skipped_rows`` are those of the workload (see ``Workload``).
    """

    window: str | None = None
    max_window: str | None = None
    shard_lines: int | None = None
    shard_bytes: int | None = None
    max_attempts: int | None = None
    max_expiries: int | None = None
    source: str | None = None
    answer_rules: str | None = None
    recipe: str | None = None
    skipped_rows: int = 0


@dataclass(frozen=True, slots=True)
class SplitDefaults:
    """The values of options that are None; without ``shard_lines`` the size of the input decides."""

    window: str
    max_window: str
    shard_lines: int | None
    shard_bytes: int
    max_attempts: int
    max_expiries: int


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """The result of a planned split. ``shards`` holds (endpoint, lines, bytes); ``warnings`` maps warnings to their counts.

    ``shares`` has estimates by model, whose prompt tokens sum to ``prompt_tokens``; ``completion_tokens`` is the sum of the limits
    that the requests set themselves.
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
    shares: dict[str, preflight.ModelShare] = field(default_factory=dict)


def plan(
    paths: Sequence[Path], *, options: SplitOptions, defaults: SplitDefaults, advance: Callable[[int], None]
) -> SplitPlan:
    """Check the input and compute how it would be cut. Raises ``InputInvalid`` and ``InputUnreadable``."""
    max_lines = _shard_lines(paths, options, defaults)
    max_bytes = options.shard_bytes or defaults.shard_bytes
    check = InputCheck(paths, max_line_bytes=max_bytes, digest=None, advance=advance)
    open_cuts: dict[str, tuple[int, int]] = {}
    cuts: list[tuple[str, int, int]] = []
    endpoints: dict[str, int] = {}
    warnings: dict[str, int] = {}
    shares: dict[str, preflight.ModelShare] = {}
    size = 0
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
        for warning in line.warnings:
            warnings[warning] = warnings.get(warning, 0) + 1
        estimate = preflight.estimate_tokens(line.record)
        size += next_bytes
        shares.setdefault(line.model, preflight.ModelShare()).add(estimate)
    cuts.extend((endpoint, count, bytes_so_far) for endpoint, (count, bytes_so_far) in open_cuts.items())
    return SplitPlan(
        requests=check.line_count,
        bytes=size,
        shards=tuple(cuts),
        endpoints=endpoints,
        models={model: share.requests for model, share in shares.items()},
        prompt_tokens=sum(share.prompt_tokens for share in shares.values()),
        completion_tokens=sum(share.completion_tokens for share in shares.values()),
        shard_lines=max_lines,
        window=options.window or defaults.window,
        warnings=warnings,
        blank_lines=check.blank_count,
        shares=shares,
    )


def split(
    context: StepContext,
    paths: Sequence[Path],
    *,
    name: str,
    options: SplitOptions,
    defaults: SplitDefaults,
    advance: Callable[[int], None],
    blanks: Callable[[int], None] = lambda _lines: None,
    accept: Callable[[Collection[str]], None] = lambda _models: None,
    keep: Mapping[str, Path] | None = None,
) -> Workload | None:
    """Split the input under ``name``, or return the workload that was split before; None while another runner is splitting it.

    ``accept`` takes the models of an input that is being split now, and may raise ``UsageError``: then nothing is stored.
    ``blanks`` takes the number of blank lines of an input that was split now, if it has any: they are skipped.
    ``keep`` maps names in the workload's folder to files that it keeps there. The rest of an interrupted split is removed first.
    Raises ``WorkloadConflict`` when the name belongs to another input, ``InputInvalid`` and ``InputUnreadable`` for the input;
    in all three cases nothing is stored.
    """
    with context.store.read() as connection:
        existing = workloads.find(connection, name)
    if existing is not None and existing.request_count is not None:
        return _same_workload(context, existing, paths, options)
    workload = _begin(context, paths, name=name, options=options, defaults=defaults)
    if workload is None:
        return None
    digest = hashlib.sha256()
    check = InputCheck(paths, max_line_bytes=workload.shard_bytes, digest=digest, advance=advance)
    try:
        with DiskThread() as disk:
            _write_shards(context, workload, check, disk)
        accept(check.models)
        for relative, path in (keep or {}).items():
            context.spool.keep(path, f"{workload.directory}/{relative}")
    except (StateConflict, SpoolError) as error:
        # A runner that took over has deleted our folder: a write may fail before the lost lease is noticed.
        if isinstance(error, SpoolError) and _is_ours(context, workload):
            _abandon(context, workload)
            raise
        # That may have happened before our last file was written.
        with suppress(SpoolError):
            context.spool.remove_tree(workload.directory)
        return None
    except BaseException:
        _abandon(context, workload)
        raise
    with context.store.write() as connection:
        if workloads.holds_lease(connection, workload.id, context.owner):
            workloads.finish_split(
                connection, workload.id, sha256=digest.hexdigest(), request_count=check.line_count, at=context.clock()
            )
            workloads.release_lease(connection, context.owner)
            if check.blank_count:
                blanks(check.blank_count)
            return workloads.get(connection, workload.id)
    if keep:
        # As above: a runner that took over may have deleted our folder before the last of these files was written.
        with suppress(SpoolError):
            context.spool.remove_tree(workload.directory)
    return None


def _is_ours(context: StepContext, workload: Workload) -> bool:
    with context.store.write() as connection:
        return workloads.holds_lease(connection, workload.id, context.owner)


def _same_workload(context: StepContext, workload: Workload, paths: Sequence[Path], options: SplitOptions) -> Workload:
    """Check that the input is the one that the workload was split from, and store changed policies."""
    check_same(workload, paths, options)
    return change_policies(context.store, workload, options)


def check_same(workload: Workload, paths: Sequence[Path], options: SplitOptions) -> None:
    """Raise ``WorkloadConflict`` unless a workload, which is split whole, was made of this input in this way."""
    if (options.answer_rules, options.recipe) != (workload.answer_rules, workload.recipe):
        raise WorkloadConflict(
            f"workload {workload.name!r} was made in another way: its answers would be read by other rules than these",
            hint="choose another --name, or `batchkit clean` the old workload first",
        )
    if sources.scan(paths).sha256 != workload.input_sha256:
        raise WorkloadConflict(
            f"workload {workload.name!r} was made of a different input ({workload.source});"
            " its requests would get answers to other questions",
            hint="choose another --name, or `batchkit clean` the old workload first",
        )


def change_policies(store: Store, workload: Workload, options: SplitOptions) -> Workload:
    """Store the policies that the options name, for a workload that is split already."""
    given = {
        "max_completion_window": options.max_window,
        "max_attempts": options.max_attempts,
        "max_expiries": options.max_expiries,
        "answer_rules": options.answer_rules,
    }
    changed = {column: value for column, value in given.items() if value is not None}
    with store.write() as connection:
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
) -> Workload | None:
    """Insert the workload with our lease, replacing an unfinished split; None when another runner holds the lease."""
    shard_lines = _shard_lines(paths, options, defaults)
    with context.store.write() as connection:
        found = workloads.find(connection, name)
        if found is not None:
            if found.request_count is not None or not _take_lease(context, connection, found):
                return None
            if workloads.get(connection, found.id).request_count is not None:
                # Its runner finished the split while we waited for the row: its batches may exist already.
                workloads.release_lease(connection, context.owner)
                return None
    if found is not None:
        _remove_files(context, found.directory)
    with context.store.write() as connection:
        if found is not None:
            if not workloads.holds_lease(connection, found.id, context.owner):
                return None
            workloads.remove(connection, found.id)
        if not workloads.add(
            connection,
            name=name,
            # The name of a file may be bytes that are not text.
            source=storable_text(options.source or ", ".join(str(path) for path in paths)) or "",
            directory=directory_name(name, uuid.uuid4().hex[:8]),
            window=options.window or defaults.window,
            max_window=options.max_window or defaults.max_window,
            shard_lines=shard_lines,
            shard_bytes=options.shard_bytes or defaults.shard_bytes,
            policy=RetryPolicy(
                max_attempts=options.max_attempts or defaults.max_attempts,
                max_expiries=options.max_expiries or defaults.max_expiries,
            ),
            at=context.clock(),
            answer_rules=options.answer_rules,
            recipe=options.recipe,
            skipped_rows=options.skipped_rows,
        ):
            return None
        workload = workloads.find(connection, name)
        if workload is None or not _take_lease(context, connection, workload):
            return None
    return workload


def _shard_lines(paths: Sequence[Path], options: SplitOptions, defaults: SplitDefaults) -> int:
    given = options.shard_lines or defaults.shard_lines
    return given or default_shard_lines(sources.estimate_lines(paths))


def _take_lease(context: StepContext, connection: Connection, workload: Workload) -> bool:
    return workloads.take_lease(
        connection,
        workload.id,
        owner=context.owner,
        now=context.clock(),
        lease_seconds=context.timing.lease_seconds,
    )


def _write_shards(context: StepContext, workload: Workload, check: InputCheck, disk: DiskThread) -> None:
    """Cut the input: one open shard per endpoint, because a batch has one endpoint."""
    full = _FullShards(context, workload, disk)
    open_shards: dict[str, ShardFile] = {}

    def shard_for(endpoint: str) -> ShardFile:
        if endpoint not in open_shards:
            open_shards[endpoint] = ShardFile(
                context.spool,
                workload,
                endpoint=endpoint,
                window=workload.window,
                max_lines=workload.shard_lines,
                disk=disk,
            )
        return open_shards[endpoint]

    try:
        for block in check.blocks():
            seqs = range(block.first_seq, block.first_seq + len(block.lengths))
            lines = RequestLines(seqs, block.custom_ids, block.lengths, block.data)
            for endpoint, start, stop in _runs(block):
                while (start := shard_for(endpoint).add(lines, start, stop)) < stop:
                    full.add(open_shards.pop(endpoint))
        for endpoint in list(open_shards):
            full.add(open_shards.pop(endpoint))
        full.commit()
    finally:
        # After an error pieces may still be running, and files of full shards may be open.
        disk.close()
        for shard in (*open_shards.values(), *full.uncommitted):
            shard.discard()


class _FullShards:
    """Full shards, committed together so that small shards cost no more than large ones."""

    def __init__(self, context: StepContext, workload: Workload, disk: DiskThread) -> None:
        self._context = context
        self._workload = workload
        self._disk = disk
        self.uncommitted: list[ShardFile] = []

    def add(self, shard: ShardFile) -> None:
        """Add a shard, and commit if there are enough rows. Raises as ``commit``."""
        self.uncommitted.append(shard)
        self._disk.do(shard.publish)
        if sum(len(shard.seqs) for shard in self.uncommitted) >= _ROWS_PER_COMMIT:
            self.commit()

    def commit(self) -> None:
        """Wait until the files are on the disk, then insert the shards. Raises ``SpoolError`` and ``StateConflict``."""
        self._disk.finish()
        with self._context.store.write() as connection:
            if not workloads.holds_lease(connection, self._workload.id, self._context.owner):
                raise StateConflict(f"another runner is splitting {self._workload.name!r}")
            first = shards.next_number(connection, self._workload.id)
            now = self._context.clock()
            ids = [
                shard.commit(connection, number=first + place, at=now) for place, shard in enumerate(self.uncommitted)
            ]
            rows = chain.from_iterable(
                shard.rows(shard_id) for shard, shard_id in zip(self.uncommitted, ids, strict=True)
            )
            bulk_for(connection).add_requests(self._workload.id, rows)
        self.uncommitted.clear()


def _runs(block: CheckedBlock) -> Iterator[tuple[str, int, int]]:
    """Yield runs of lines with the same endpoint: (endpoint, first index, index after the last)."""
    if not block.endpoints:
        yield preflight.PLAIN_ENDPOINT, 0, len(block.lengths)
        return
    stop = 0
    for endpoint, run in groupby(block.endpoints):
        start, stop = stop, stop + len(list(run))
        yield endpoint, start, stop


def _abandon(context: StepContext, workload: Workload) -> None:
    """Remove everything of a split that could not be finished; nothing of it was sent."""
    with context.store.write() as connection:
        if not workloads.holds_lease(connection, workload.id, context.owner):
            return
    # The error that ended the split is being raised already.
    with suppress(SpoolError):
        _remove_files(context, workload.directory)
    with context.store.write() as connection:
        if workloads.holds_lease(connection, workload.id, context.owner):
            workloads.remove(connection, workload.id)


def _remove_files(context: StepContext, directory: str) -> None:
    """Delete the files of a split. If that fails, the lease is given up and the row stays, because only it names the folder."""
    try:
        context.spool.remove_tree(directory)
    except SpoolError:
        with context.store.write() as connection:
            workloads.release_lease(connection, context.owner)
        raise
