"""The verbs of the command line as functions: the same pipeline in a plain loop, with typed reports instead of a terminal.

::

    import batchkit

    progress = batchkit.run("reviews.jsonl", output="labelled.jsonl")
    print(progress.counts.succeeded, progress.failures)

``settings`` defaults to the environment and ``.env``; make one with ``batchkit.load_settings(database_url=..., ...)``.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from batchkit.drive import DriveUntil
from batchkit.runner import Runner
from batchkit.settings import load_settings
from batchkit.sources import check_name, name_of
from batchkit.steps.split import SplitOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.progress import Progress
    from batchkit.settings import Settings
    from batchkit.steps.context import StepReport

    Source = str | PathLike[str]


def _open(settings: Settings | None) -> Runner:
    return Runner(settings or load_settings())


def _paths(sources: Source | Sequence[Source]) -> list[Path]:
    # A lone string is one file, not a sequence of characters.
    return [Path(sources)] if isinstance(sources, (str, PathLike)) else [Path(source) for source in sources]


def _name(name: str | None, paths: Sequence[Path]) -> str:
    return check_name(name or name_of(paths[0]))


def run(
    sources: Source | Sequence[Source],
    *,
    name: str | None = None,
    output: Source | None = None,
    raw_csv: bool = False,
    options: SplitOptions | None = None,
    settings: Settings | None = None,
    timeout_seconds: float | None = None,
) -> Progress:
    """Run an input to its end, and write the results to ``output`` if given; the same call again carries on.

    ``name`` is by default the first file's name without its endings. ``raw_csv`` is as for ``export``. Returns the last picture: unfinished when
    ``timeout_seconds`` ran out. Raises ``BatchkitError`` (see ``batchkit.errors``); ``InputInvalid`` before anything is sent.
    """
    paths = _paths(sources)
    with _open(settings) as runner:
        workload = runner.split(paths, name=_name(name, paths), options=options or SplitOptions())
        progress = _process(runner, workload.name, DriveUntil.FINISHED, timeout_seconds)
        if output is not None:
            runner.export(workload.name, Path(output), raw_csv=raw_csv)
        return progress


def submit(
    sources: Source | Sequence[Source],
    *,
    name: str | None = None,
    options: SplitOptions | None = None,
    settings: Settings | None = None,
) -> Progress:
    """Like ``run``, but return once every shard has become a batch."""
    paths = _paths(sources)
    with _open(settings) as runner:
        workload = runner.split(paths, name=_name(name, paths), options=options or SplitOptions())
        return _process(runner, workload.name, DriveUntil.SUBMITTED, None)


def watch(name: str, *, settings: Settings | None = None, timeout_seconds: float | None = None) -> Progress:
    """Carry a workload on until it is finished. Raises ``UnknownWorkload``."""
    with _open(settings) as runner:
        return _process(runner, name, DriveUntil.FINISHED, timeout_seconds)


def status(name: str | None = None, *, settings: Settings | None = None) -> list[Progress]:
    """Read where a workload stands, or all of them, oldest first; needs no key. Raises ``UnknownWorkload``."""
    with _open(settings) as runner:
        found = runner.all_workloads() if name is None else [runner.find(name)]
        return [runner.progress(workload.id) for workload in found]


def export(name: str, target: Source, *, raw_csv: bool = False, settings: Settings | None = None) -> int:
    """Write one line per request in input order to a ``.jsonl``, ``.csv`` or ``.parquet`` file; returns how many.

    In a ``.csv`` a text that a spreadsheet would run as a formula gets an apostrophe in front, unless ``raw_csv``.
    """
    with _open(settings) as runner:
        return runner.export(name, Path(target), raw_csv=raw_csv)


def cancel(name: str, *, settings: Settings | None = None, timeout_seconds: float | None = None) -> Progress:
    """Cancel a workload and wait until its batches have stopped (Groq: up to ten minutes); answers until then are kept."""
    with _open(settings) as runner:
        runner.request_cancel(name)
        return _process(runner, name, DriveUntil.FINISHED, timeout_seconds)


def resubmit(name: str, *, failed: bool = False, settings: Settings | None = None) -> int:
    """Make cancelled requests, and with ``failed`` failed ones, pending again; returns how many. ``watch`` then sends them."""
    with _open(settings) as runner:
        return runner.reopen(name, failed=failed)


def clean(name: str, *, keep_results: bool = False, settings: Settings | None = None) -> StepReport:
    """Delete a finished workload's files here and at the provider, and its rows unless ``keep_results``."""
    with _open(settings) as runner:
        return runner.clean(name, keep_results=keep_results)


def _process(runner: Runner, name: str, until: DriveUntil, timeout_seconds: float | None) -> Progress:
    workload = runner.find(name)
    if runner.progress(workload.id).is_finished:
        return runner.progress(workload.id)
    deadline = None if timeout_seconds is None else runner.clock() + timeout_seconds
    return runner.process(workload.id, until=until, deadline=deadline)
