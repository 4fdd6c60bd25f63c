"""split: cut the input into planned shards and index its requests. Nothing is sent; an input with problems leaves nothing.

``split_plan`` computes the same cut without storing it, ``cutting`` writes the shards.
"""

from __future__ import annotations

import hashlib
import sys
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from batchkit.budget import NO_BUDGET, Budget
from batchkit.errors import InputInvalid, SpoolError, StateConflict, UsageError, WorkloadConflict
from batchkit.files import sources
from batchkit.files.jsonl import storable_text
from batchkit.files.spool import directory_name
from batchkit.formatting import moment
from batchkit.models import Lane, LaneChoice, OnDoubt, OnLate, RetryPolicy, ReuseMode
from batchkit.sharding import SMALL_REQUESTS, SYNC_SHARD_LINES
from batchkit.steps import unfinished
from batchkit.steps.cutting import cut_shards
from batchkit.steps.disk_thread import DiskThread
from batchkit.steps.input_check import InputCheck
from batchkit.steps.request_digests import RequestDigests
from batchkit.steps.reuse import SplitReuse
from batchkit.store import budgets, workloads

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy.engine import Connection

    from batchkit.models import Workload, WorkloadId
    from batchkit.provider.dialect import Dialect
    from batchkit.steps.context import StepContext
    from batchkit.store.engine import Store


@dataclass(frozen=True, slots=True)
class Promise:
    """A deadline ``at`` (Unix seconds) as a new workload begins with it: its ``lane``, and the window of its batches.

    ``sync_rate`` is how many requests per second the sync lane is expected to answer, None when nothing is known of it.
    """

    at: float
    lane: Lane
    window: str
    sync_rate: float | None = None


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How a workload is cut and retried; None: use the default, or what the workload has already.

    ``window`` and ``max_window`` are completion windows such as ``24h``; ``shard_bytes`` is in bytes; the two budgets
    start at 1. ``source`` describes what the requests were made of (default: the input's files), ``answer_rules``,
    ``recipe`` and ``skipped_rows`` are those of the workload (see ``Workload``). ``reuse`` is what the user asked for; without it
    ``default_reuse`` counts. Answers are reused within the same ``reuse_scope`` only.

    ``max_cost`` (USD) and ``max_total_tokens`` are the budget of the workload; with ``budget_of`` it shares another one's.
    ``lane`` says how the requests travel; ``auto`` sends an input of up to ``small`` requests one by one. ``tiers`` are those of the
    workload; ``on_doubt`` is what becomes of a request that may have been paid for without an answer.

    The workload is to be finished by ``deadline`` (Unix seconds), or ``within_seconds`` of its beginning, in batches as long as there
    is time and then one by one; ``late`` says what happens if it is not. One that cannot be kept is refused
    unless ``refuses_impossible`` is off. ``promise`` is what that means for a new workload.
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
    reuse: ReuseMode | None = None
    default_reuse: ReuseMode = ReuseMode.OFF
    reuse_scope: str = ""
    lane: LaneChoice | None = None
    small: int | None = None
    tiers: str | None = None
    on_doubt: OnDoubt | None = None
    max_cost: float | None = None
    max_total_tokens: int | None = None
    budget_of: WorkloadId | None = None

    def with_budget(self, max_cost: float | None, max_total_tokens: int | None) -> SplitOptions:
        """Return the options with this budget; what is None stays as it is."""
        return replace(
            self,
            max_cost=self.max_cost if max_cost is None else max_cost,
            max_total_tokens=self.max_total_tokens if max_total_tokens is None else max_total_tokens,
        )

    def or_budget(self, max_cost: float | None, max_total_tokens: int | None) -> SplitOptions:
        """Return the options with this budget where they have none."""
        return replace(
            self,
            max_cost=max_cost if self.max_cost is None else self.max_cost,
            max_total_tokens=max_total_tokens if self.max_total_tokens is None else self.max_total_tokens,
        )

    deadline: float | None = None
    within_seconds: float | None = None
    late: OnLate | None = None
    refuses_impossible: bool = True
    promise: Promise | None = None

    @property
    def has_deadline(self) -> bool:
        """Whether it is to be finished by a time."""
        return self.deadline is not None or self.within_seconds is not None

    def lane_choice(self, default: LaneChoice) -> LaneChoice:
        """Return how the requests are to travel: a deadline needs both lanes."""
        if self.lane is not None:
            return self.lane
        return LaneChoice.AUTO if self.has_deadline and default is LaneChoice.BATCH else default

    def lane_of(self, requests: Callable[[], int], *, default: LaneChoice, default_small: int) -> Lane:
        """Return the lane of so many requests; they are only counted when their number decides."""
        if self.promise is not None:
            return self.promise.lane
        match self.lane_choice(default):
            case LaneChoice.AUTO:
                small = default_small if self.small is None else self.small
                return Lane.SYNC if requests() <= small else Lane.BATCH
            case LaneChoice.SYNC:
                return Lane.SYNC
            case LaneChoice.BATCH:
                return Lane.BATCH

    @property
    def reuse_mode(self) -> ReuseMode:
        """Which requests of a new workload are not sent. Raises ``ValueError`` for a text that is no ``ReuseMode``."""
        return ReuseMode(self.reuse or self.default_reuse)


@dataclass(frozen=True, slots=True)
class SplitDefaults:
    """The values of options that are None, and the provider; without ``shard_lines`` the size of the input decides."""

    window: str
    max_window: str
    shard_lines: int | None
    shard_bytes: int
    max_attempts: int
    max_expiries: int
    dialect: Dialect
    lane: LaneChoice = LaneChoice.BATCH
    small: int = SMALL_REQUESTS
    max_cost: float | None = None
    max_total_tokens: int | None = None

    def policy(self, options: SplitOptions) -> RetryPolicy:
        """Return how often requests may be sent."""
        return RetryPolicy(
            max_attempts=options.max_attempts or self.max_attempts,
            max_expiries=options.max_expiries or self.max_expiries,
            resends_doubts=options.on_doubt is not OnDoubt.FAIL,
        )

    def budget(self, options: SplitOptions) -> Budget:
        """Return the limits of a new workload; none for one that shares the budget of another."""
        if options.budget_of is not None:
            return NO_BUDGET
        return Budget(
            self.max_cost if options.max_cost is None else options.max_cost,
            self.max_total_tokens if options.max_total_tokens is None else options.max_total_tokens,
        )

    def window_of(self, options: SplitOptions) -> str:
        """Return the window of the first batches: what was asked for, or what a deadline leaves time for."""
        return options.window or (self.window if options.promise is None else options.promise.window)

    def lane_of(self, paths: Sequence[Path], options: SplitOptions) -> Lane:
        """Return the lane of the shards of an input."""
        return options.lane_of(lambda: sources.estimate_lines(paths), default=self.lane, default_small=self.small)


def shard_lines_of(paths: Sequence[Path], options: SplitOptions, defaults: SplitDefaults) -> int:
    """Return the number of requests a shard has at most: what was asked for, or what suits the size of the input."""
    if defaults.lane_of(paths, options) is Lane.SYNC:
        return options.shard_lines or SYNC_SHARD_LINES
    given = options.shard_lines or defaults.shard_lines
    return given or defaults.dialect.limits.default_lines(sources.estimate_lines(paths))


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
    in all three cases nothing is stored. With ``--lane auto`` an input that batches do not take is sent one by one.
    """
    with context.store.read() as connection:
        existing = workloads.find(connection, name)
    if existing is not None and existing.request_count is not None:
        check_provider(existing, defaults.dialect.name)
        return _same_workload(context, existing, paths, options)
    check_budget(options)
    workload = _begin(context, paths, name=name, options=options, defaults=defaults)
    if workload is None:
        return None
    digest = hashlib.sha256()
    rules = defaults.dialect.rules.of_lane(workload.lane)
    check = InputCheck(paths, rules=rules, max_line_bytes=workload.shard_bytes, digest=digest, advance=advance)
    reuse = _reuse_of(context, workload, options)
    try:
        with DiskThread() as disk:
            cut_shards(context, workload, check, disk, reuse)
        accept(check.models)
        for relative, path in (keep or {}).items():
            context.spool.keep(path, f"{workload.directory}/{relative}")
    except (StateConflict, SpoolError) as error:
        # A runner that took over has deleted our folder: a write may fail before the lost lease is noticed.
        if isinstance(error, SpoolError) and unfinished.is_ours(context, workload):
            unfinished.abandon(context, workload)
            raise
        # That may have happened before our last file was written.
        with suppress(SpoolError):
            context.spool.remove_tree(workload.directory)
        return None
    except BaseException as error:
        unfinished.abandon(context, workload)
        if not isinstance(error, InputInvalid) or workload.lane is Lane.SYNC or not workload.is_lane_auto:
            raise
        # Some of it may be what only single calls take.
        one_by_one = replace(options, small=sys.maxsize)
        return split(
            context,
            paths,
            name=name,
            options=one_by_one,
            defaults=defaults,
            advance=advance,
            blanks=blanks,
            accept=accept,
            keep=keep,
        )
    with context.store.write() as connection:
        if workloads.holds_lease(connection, workload.id, context.owner):
            workloads.finish_split(
                connection,
                workload.id,
                sha256=digest.hexdigest(),
                request_count=check.line_count,
                at=context.clock(),
                reused=0 if reuse is None else reuse.reused,
                repeated=0 if reuse is None else reuse.repeated,
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


def _reuse_of(context: StepContext, workload: Workload, options: SplitOptions) -> SplitReuse | None:
    if workload.reuse is None:
        return None
    digests = RequestDigests(workload.reuse, scope=options.reuse_scope, is_of_table=workload.recipe is not None)
    return SplitReuse(context.store, workload, digests)


def _same_workload(context: StepContext, workload: Workload, paths: Sequence[Path], options: SplitOptions) -> Workload:
    """Check that the input is the one that the workload was split from, and store changed policies."""
    check_same(workload, paths, options)
    return change_policies(context.store, workload, options)


def check_provider(workload: Workload, provider: str) -> None:
    """Raise ``WorkloadConflict`` unless a workload belongs to this provider: it would not know its batches."""
    if workload.provider != provider:
        raise WorkloadConflict(
            f"workload {workload.name!r} belongs to the provider {workload.provider!r}, not to {provider!r}",
            hint=f"give --provider {workload.provider}, or choose another --name",
        )


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
    """Store the policies that the options name, for a workload that is split already.

    Raises ``WorkloadConflict`` for what cannot be changed any more.
    """
    if options.reuse is not None and options.reuse != (workload.reuse or ReuseMode.OFF):
        raise WorkloadConflict(
            f"workload {workload.name!r} was prepared with {_option_of(workload.reuse)}, and its requests are cut",
            hint=f"leave out {_option_of(options.reuse)}, or choose another --name",
        )
    check_deadline(workload, options)
    if options.lane is not None and options.lane is not workload.lane_choice:
        raise WorkloadConflict(
            f"workload {workload.name!r} was begun with --lane {workload.lane_choice}",
            hint="leave out --lane, or choose another --name",
        )
    given = {
        "max_completion_window": options.max_window,
        "max_attempts": options.max_attempts,
        "max_expiries": options.max_expiries,
        "answer_rules": options.answer_rules,
        "tiers": options.tiers,
        "resends_doubts": None if options.on_doubt is None else options.on_doubt is OnDoubt.RESEND,
        "stops_late": None if options.late is None else options.late is OnLate.STOP,
    }
    change_budget(store, workload, options)
    changed = {column: value for column, value in given.items() if value is not None}
    with store.write() as connection:
        if changed:
            workloads.set_values(connection, workload.id, **changed)
        return workloads.get(connection, workload.id)


def change_budget(store: Store, workload: Workload, options: SplitOptions) -> None:
    """Store the budget that the options name, for a workload or for the one whose budget it shares. Raises ``UsageError``."""
    check_budget(options)
    with store.write() as connection:
        budgets.set_budget(
            connection, workload, max_cost_usd=options.max_cost, max_total_tokens=options.max_total_tokens
        )


def check_budget(options: SplitOptions) -> None:
    """Raise ``UsageError`` for a budget that allows nothing."""
    for option, value in (("--max-cost", options.max_cost), ("--max-total-tokens", options.max_total_tokens)):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{option} {value}: a budget is a number above 0", hint=f"leave out {option} for no limit")


def check_deadline(workload: Workload, options: SplitOptions) -> None:
    """Raise ``WorkloadConflict`` when the options name another deadline than that of a workload. ``within_seconds`` names none."""
    if options.late is not None and workload.deadline is None and not options.has_deadline:
        raise WorkloadConflict(f"workload {workload.name!r} has no deadline", hint="leave out --late")
    if not options.has_deadline or (workload.deadline is not None and options.deadline in {None, workload.deadline}):
        return
    option = "--within" if options.deadline is None else "--deadline"
    begun = "without a deadline" if workload.deadline is None else f"to be finished by {moment(workload.deadline)} UTC"
    raise WorkloadConflict(
        f"workload {workload.name!r} was begun {begun}", hint=f"leave out {option}, or choose another --name"
    )


def _option_of(reuse: str | None) -> str:
    options = {ReuseMode.OFF: "--no-reuse", ReuseMode.ON: "--reuse", ReuseMode.URLS: "--reuse-urls"}
    return options[ReuseMode(reuse or ReuseMode.OFF)]


def _begin(
    context: StepContext,
    paths: Sequence[Path],
    *,
    name: str,
    options: SplitOptions,
    defaults: SplitDefaults,
) -> Workload | None:
    """Insert the workload with our lease, replacing an unfinished split; None when another runner holds the lease."""
    shard_lines = shard_lines_of(paths, options, defaults)
    reuse, promise = options.reuse_mode, options.promise
    budget = defaults.budget(options)

    def add(connection: Connection) -> bool:
        return workloads.add(
            connection,
            name=name,
            # The name of a file may be bytes that are not text.
            source=storable_text(options.source or ", ".join(str(path) for path in paths)) or "",
            directory=directory_name(name, uuid.uuid4().hex[:8]),
            provider=defaults.dialect.name,
            window=defaults.window_of(options),
            max_window=options.max_window or defaults.max_window,
            shard_lines=shard_lines,
            shard_bytes=options.shard_bytes or defaults.shard_bytes,
            policy=defaults.policy(options),
            at=context.clock(),
            answer_rules=options.answer_rules,
            recipe=options.recipe,
            skipped_rows=options.skipped_rows,
            reuse_mode=None if reuse is ReuseMode.OFF else reuse.value,
            lane=defaults.lane_of(paths, options),
            is_lane_auto=options.lane_choice(defaults.lane) is LaneChoice.AUTO,
            tiers=options.tiers,
            max_cost_usd=budget.max_cost_usd,
            max_total_tokens=budget.max_total_tokens,
            budget_of=options.budget_of,
            deadline=None if promise is None else promise.at,
            stops_late=options.late is OnLate.STOP,
            sync_rate=None if promise is None else promise.sync_rate,
        )

    return unfinished.begin(context, name, add)
