"""Running an input to its end, as functions.

For example::

    import batchkit

    progress = batchkit.run("reviews.jsonl", output="labelled.jsonl")
    print(progress.counts.succeeded, progress.failures)

``settings`` defaults to the environment, ``.env`` and ``batchkit.toml``; make one with ``batchkit.load_settings(database_url=..., ...)``. ``observer`` is told
what happens on the way.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batchkit.api.opening import drive_named, open_existing, open_runner, paths_of, workload_name
from batchkit.api.remembered import output_here, remember, write_remembered_output
from batchkit.engine.observer import DO_NOTHING, Observer
from batchkit.engine.waves import DriveUntil
from batchkit.steps.export import check_target
from batchkit.steps.split import SplitOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.api.opening import Source
    from batchkit.engine.progress import Progress
    from batchkit.settings import Settings


def run(
    sources: Source | Sequence[Source],
    *,
    name: str | None = None,
    output: Source | None = None,
    raw_csv: bool = False,
    options: SplitOptions | None = None,
    settings: Settings | None = None,
    timeout_seconds: float | None = None,
    observer: Observer = DO_NOTHING,
) -> Progress:
    """Run an input to its end, and write the results to ``output`` if given; the same call again resumes.

    ``name`` is by default the first file's name without its endings. ``raw_csv`` is as for ``export``. Returns the last snapshot: unfinished when
    ``timeout_seconds`` ran out. Raises ``BatchkitError`` (see ``batchkit.errors``); ``UsageError`` for an output that cannot be
    written or is an input, and ``InputInvalid``, before anything is sent.
    """
    paths = paths_of(sources)
    if output is not None:
        check_target(Path(output), inputs=paths)
    with open_runner(settings) as runner:
        workload = runner.split(paths, name=workload_name(name, paths), options=options or SplitOptions())
        if output is not None:
            remember(runner, workload, output_here(Path(output), raw_csv=raw_csv))
        progress = drive_named(
            runner, workload.name, DriveUntil.FINISHED, timeout_seconds=timeout_seconds, observer=observer
        )
        if output is not None:
            runner.export(workload.name, Path(output), raw_csv=raw_csv)
        return progress


def submit(
    sources: Source | Sequence[Source],
    *,
    name: str | None = None,
    output: Source | None = None,
    raw_csv: bool = False,
    options: SplitOptions | None = None,
    settings: Settings | None = None,
    observer: Observer = DO_NOTHING,
) -> Progress:
    """Like ``run``, but return once every shard has become a batch. Whoever finishes the workload here writes ``output``."""
    paths = paths_of(sources)
    if output is not None:
        check_target(Path(output), inputs=paths)
    with open_runner(settings) as runner:
        workload = runner.split(paths, name=workload_name(name, paths), options=options or SplitOptions())
        if output is not None:
            remember(runner, workload, output_here(Path(output), raw_csv=raw_csv))
        return drive_named(runner, workload.name, DriveUntil.SUBMITTED, observer=observer)


def watch(
    name: str,
    *,
    settings: Settings | None = None,
    timeout_seconds: float | None = None,
    observer: Observer = DO_NOTHING,
) -> Progress:
    """Drive a workload until it is finished. The output that was named when it was begun is written.

    Raises ``UnknownWorkload``, and ``SplitUnfinished`` while its input is not split whole.
    """
    with open_existing(settings) as runner:
        was_finished = runner.progress(runner.find(name).id).is_finished
        progress = drive_named(runner, name, DriveUntil.FINISHED, timeout_seconds=timeout_seconds, observer=observer)
        write_remembered_output(runner, progress, is_news=not was_finished)
        return progress
