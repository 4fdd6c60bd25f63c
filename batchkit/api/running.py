"""Running an input to its end, as functions.

For example::

    import batchkit

    progress = batchkit.run("reviews.jsonl", output="labelled.jsonl")
    print(progress.counts.succeeded, progress.failures)

``settings`` defaults to the environment, ``.env`` and ``batchkit.toml``; make one with ``batchkit.load_settings(database_url=..., ...)``. ``observer`` is told
what happens on the way.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from batchkit import formatting
from batchkit.api import existing, several
from batchkit.api.budgets import check_plan, new_workload_check, note_budget
from batchkit.api.deadlines import told_deadline
from batchkit.api.modes import RunMode
from batchkit.api.opening import drive_from, note_once, open_existing, open_runner, paths_of, workload_name
from batchkit.api.outcomes import RunReport, SeveralReport
from batchkit.api.planned_reuse import planned_reuse
from batchkit.api.remembered import output_here, remember, write_earlier_output, write_remembered_output
from batchkit.engine.observer import DO_NOTHING, Observer, counting, driving
from batchkit.engine.promising import check_late, check_possible
from batchkit.engine.runtime import Runner
from batchkit.engine.waves import DriveUntil
from batchkit.errors import BatchkitError
from batchkit.settings import load_settings
from batchkit.steps.export import check_target
from batchkit.steps.split import SplitOptions, check_deadline, check_same
from batchkit.store import workloads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.api.opening import Source
    from batchkit.engine.deadline import DeadlinePlan
    from batchkit.engine.progress import Progress
    from batchkit.models import Workload
    from batchkit.settings import Settings
    from batchkit.steps.split_plan import SplitPlan

_NOT_IN_FILE_NAMES = re.compile(r"[/\\\x00-\x1f]+")


def run(
    sources: Source | Sequence[Source],
    *,
    name: str | None = None,
    output: Source | None = None,
    raw_csv: bool = False,
    max_cost: float | None = None,
    max_total_tokens: int | None = None,
    options: SplitOptions | None = None,
    settings: Settings | None = None,
    timeout_seconds: float | None = None,
    observer: Observer = DO_NOTHING,
) -> Progress:
    """Run an input to its end, and write the results to ``output`` if given; the same call again resumes.

    Without ``output`` they go where an earlier call or command named an output, if one did. ``name`` is by default the first file's
    name without its endings. ``raw_csv`` is as for ``export``. Returns the last snapshot: unfinished when ``timeout_seconds`` ran out,
    and then nothing is written, and also when its budget was reached: ``max_cost`` in USD, ``max_total_tokens`` of prompts and answers. Raises ``BatchkitError`` (see ``batchkit.errors``); ``UsageError`` for an output that cannot be
    written or is an input, and ``InputInvalid``, before anything is sent.
    """
    mode = RunMode(timeout_seconds=timeout_seconds, observer=observer)
    return run_input(
        paths_of(sources),
        name=name,
        output=output,
        raw_csv=raw_csv,
        options=(options or SplitOptions()).with_budget(max_cost, max_total_tokens),
        settings=settings,
        mode=mode,
    ).progress


def submit(
    sources: Source | Sequence[Source],
    *,
    name: str | None = None,
    output: Source | None = None,
    raw_csv: bool = False,
    max_cost: float | None = None,
    max_total_tokens: int | None = None,
    options: SplitOptions | None = None,
    settings: Settings | None = None,
    observer: Observer = DO_NOTHING,
) -> Progress:
    """Like ``run``, but return once every shard has become a batch. Whoever finishes the workload here writes ``output``."""
    return run_input(
        paths_of(sources),
        name=name,
        output=output,
        raw_csv=raw_csv,
        options=(options or SplitOptions()).with_budget(max_cost, max_total_tokens),
        until=DriveUntil.SUBMITTED,
        settings=settings,
        mode=RunMode(observer=observer),
    ).progress


def watch(
    name: str,
    *,
    max_cost: float | None = None,
    max_total_tokens: int | None = None,
    settings: Settings | None = None,
    timeout_seconds: float | None = None,
    observer: Observer = DO_NOTHING,
) -> Progress:
    """Drive a workload until it is finished. The output that was named when it was begun is written.

    ``max_cost`` and ``max_total_tokens`` change its budget, as for ``run``.

    Raises ``UnknownWorkload``, and ``SplitUnfinished`` while its input is not split whole.
    """
    mode = RunMode(timeout_seconds=timeout_seconds, observer=observer)
    options = SplitOptions(max_cost=max_cost, max_total_tokens=max_total_tokens)
    return watch_workload(name, settings, mode, options).progress


def run_input(
    paths: Sequence[Path],
    *,
    name: str | None,
    output: Source | None,
    has_default_output: bool = False,
    raw_csv: bool,
    options: SplitOptions | None,
    until: DriveUntil = DriveUntil.FINISHED,
    settings: Settings | None,
    mode: RunMode,
) -> RunReport:
    """Do what ``run`` and ``submit`` do. With ``has_default_output`` results for which no ``output`` is given go to ``NAME.results.jsonl``."""
    name = workload_name(name, paths)
    target = _target(paths, name, output, has_default_output=has_default_output)
    options = options or SplitOptions()
    with open_runner(settings, mode) as runner:
        with counting(mode.observer, "checking the input") as advance:
            workload = runner.split(
                paths,
                name=name,
                options=options,
                advance=advance,
                waiting=note_once(mode.observer, f"another command is splitting {name!r}; waiting for it"),
                accept=new_workload_check(runner.settings, options, mode.observer),
                planned=told_deadline(runner.settings, mode.observer),
                blanks=lambda lines: mode.observer.note(
                    f"{formatting.counted(lines, 'blank line')} of the input skipped"
                ),
            )
        if target is not None:
            remember(runner, workload, output_here(target, raw_csv=raw_csv, is_default=output is None))
        before = runner.progress(workload.id)
        progress = drive_from(runner, before, until, mode)
        if target is None:
            if until is DriveUntil.FINISHED:
                write_remembered_output(runner, progress, is_news=not before.is_finished, observer=mode.observer)
            return RunReport(progress, was_finished=before.is_finished)
        if not progress.is_finished:
            return RunReport(progress)
        with counting(mode.observer, f"writing {target.name}", total=workload.request_count) as advance:
            runner.export(workload.name, target, raw_csv=raw_csv, advance=advance)
        write_earlier_output(runner, progress, str(target), is_news=not before.is_finished, observer=mode.observer)
        return RunReport(progress, str(target), before.is_finished)


def plan_input(
    paths: Sequence[Path],
    *,
    name: str | None,
    output: Source | None,
    has_default_output: bool,
    options: SplitOptions,
    settings: Settings | None,
    mode: RunMode,
) -> tuple[str, SplitPlan, DeadlinePlan | None]:
    """Make all checks of ``run_input``; returns the workload's name, how the input would be cut, and what its deadline means.

    Nothing is stored or sent.
    """
    name = workload_name(name, paths)
    _target(paths, name, output, has_default_output=has_default_output)
    found = settings or load_settings()
    workload = existing.read_if_possible(found, partial(workloads.find, name=name))
    with TemporaryDirectory(prefix="batchkit-plan-") as scratch:
        # A plan needs no database, but a runner does: it gets one that is thrown away.
        aside = found.model_copy(update={"home": Path(scratch), "database_url": None})
        with (
            planned_reuse(found, options) as reuse,
            Runner(aside) as runner,
            counting(mode.observer, "checking the input") as advance,
        ):
            plan = runner.plan(paths, options, advance=advance, reuse=reuse)
            promise = runner.deadline_plan(plan, options)
        if workload is None or workload.request_count is None:
            new_workload_check(found, options, mode.observer, is_dry_run=True)(plan.models)
            check_plan(plan, found.provider)
            note_budget(found, options, mode.observer)
            check_late(options)
            if promise is not None:
                check_possible(promise)
                plan = replace(plan, lane=promise.lane, window=promise.window)
        else:
            check_same(workload, paths, options)
            check_deadline(workload, options)
            promise = None
            mode.observer.note(f"the workload {name!r} exists: the same command without --dry-run resumes it")
        return name, plan, promise


def watch_workload(
    name: str, settings: Settings | None, mode: RunMode, options: SplitOptions | None = None
) -> RunReport:
    """Do what ``watch`` does; ``options`` may name another budget."""
    with open_existing(settings, mode) as runner:
        if options is not None:
            runner.change_budget(runner.find(name), options)
        return _finish(runner, runner.find(name), mode)


def watch_open(settings: Settings | None, mode: RunMode) -> RunReport | SeveralReport:
    """Drive all open workloads at the same time, in plain loops, until each is finished or only failing ones are left.

    A single one is driven as by ``watch``.
    """
    with open_existing(settings, mode) as runner:
        found = runner.open_workloads()
        if len(found) == 1:
            return _finish(runner, found[0], mode)
        mode.observer.opened(found, runner)
        with driving(mode.observer):
            ends = several.drive_all(runner, found, observer=mode.observer, stop_at=mode.stop_at(runner.clock()))
        written = [
            write_remembered_output(runner, end, observer=mode.observer)
            for end in ends
            if not isinstance(end, Exception)
        ]
        return SeveralReport(
            snapshots=[progress for workload in found if (progress := _read_if_possible(runner, workload)) is not None],
            outputs=[output.target for output in written if output is not None],
            failed=[(workload, end) for workload, end in zip(found, ends, strict=True) if isinstance(end, Exception)],
        )


def _finish(runner: Runner, workload: Workload, mode: RunMode) -> RunReport:
    before = runner.progress(workload.id)
    progress = drive_from(runner, before, DriveUntil.FINISHED, mode)
    output = write_remembered_output(runner, progress, is_news=not before.is_finished, observer=mode.observer)
    return RunReport(progress, None if output is None else output.target, before.is_finished)


def _target(paths: Sequence[Path], name: str, output: Source | None, *, has_default_output: bool) -> Path | None:
    """Choose and check where the results go; None: nowhere. Raises ``UsageError`` for what cannot be written or is an input."""
    if output is None and not has_default_output:
        return None
    target = Path(f"{_NOT_IN_FILE_NAMES.sub('-', name)}.results.jsonl" if output is None else output)
    check_target(target, inputs=paths)
    return target


def _read_if_possible(runner: Runner, workload: Workload) -> Progress | None:
    """Read where a workload stands; None when it is gone or cannot be read now."""
    try:
        return runner.progress(workload.id)
    except BatchkitError:
        return None
