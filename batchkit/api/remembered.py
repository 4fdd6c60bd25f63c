"""Where the results of a workload are to be written: remembered with it, and written by whoever finishes it.

A file is written on the machine that named it, or anywhere when its path lies below the folder that the setting ``shared_folder`` names;
a ``table:NAME`` of the results database by anybody.
"""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batchkit.engine.observer import DO_NOTHING, Observer, counting
from batchkit.errors import BatchkitError
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.annotation.weighing import Weights
    from batchkit.engine.progress import Progress
    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload
    from batchkit.settings import Settings

#: A target that begins so is a table of the results database.
TABLE_PREFIX = "table:"


@dataclass(frozen=True, slots=True)
class RememberedOutput:
    """Where results go: ``target`` is an absolute path of ``host``, or ``table:NAME``.

    ``is_annotated`` means the table with its answers, of which ``review`` gets the disputed rows and ``only`` is a filter; else it is one
    line per request, as ``export`` writes it. ``gold`` and ``weights`` decide the votes of several annotators (see
    ``TableQuestion``). ``raw_csv`` is as for ``export``. ``is_default``: no command named it; it is where the
    command writes that was given no output.
    """

    target: str
    host: str
    is_annotated: bool = False
    raw_csv: bool = False
    review: str | None = None
    only: str | None = None
    is_default: bool = False
    gold: Sequence[str] = ()
    weights: Weights | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        """Everything that is written."""
        return (self.target,) if self.review is None else (self.target, self.review)


def output_here(
    target: str | Path,
    *,
    is_annotated: bool = False,
    raw_csv: bool = False,
    review: str | None = None,
    only: str | None = None,
    is_default: bool = False,
    gold: Sequence[str] = (),
    weights: Weights | None = None,
) -> RememberedOutput:
    """Make the output that a command of this machine names; relative paths are those of its working directory."""
    return RememberedOutput(
        _absolute(str(target)),
        socket.gethostname(),
        is_annotated=is_annotated,
        raw_csv=raw_csv,
        review=None if review is None else _absolute(review),
        only=only,
        is_default=is_default,
        gold=list(gold),
        weights=weights,
    )


def remember(runner: Runner, workload: Workload, output: RememberedOutput) -> None:
    """Store where the results of a workload go, in place of what was stored before; a default never replaces a named output."""
    before = remembered(workload)
    if output.is_default and before is not None and not before.is_default:
        return
    text = jsonl.dumps(asdict(output)).decode()
    if workload.output != text:
        runner.set_output(workload.id, text)


def remembered(workload: Workload) -> RememberedOutput | None:
    """Read where the results of a workload go; None when no command said so."""
    return None if workload.output is None else RememberedOutput(**jsonl.loads(workload.output.encode()))


def is_writable_here(output: RememberedOutput, settings: Settings) -> bool:
    """Whether this machine may write it: it named the path, or the path lies in the shared folder."""
    shared = settings.shared_folder
    return all(
        target.startswith(TABLE_PREFIX)
        or output.host == socket.gethostname()
        or (shared is not None and Path(target).is_relative_to(shared.absolute()))
        for target in output.targets
    )


def write_remembered_output(
    runner: Runner, progress: Progress, *, is_news: bool = True, observer: Observer = DO_NOTHING
) -> RememberedOutput | None:
    """Write the results of a finished workload to where they are to go; returns where, None when they were not written.

    Not written are those of an unfinished workload, those that no command named a place for, and those of another machine. With
    ``is_news`` False a file that is newer than the last answer is left as it is. Raises ``SpoolError`` and ``UsageError`` as
    ``export`` and ``write_output_table``.
    """
    output = remembered(progress.workload)
    if output is None or not progress.is_finished or not is_writable_here(output, runner.settings):
        return None
    if not is_news and all(_is_current(target, progress) for target in output.targets):
        return output
    with counting(observer, "writing the results", total=progress.workload.request_count) as advance:
        if not output.is_annotated:
            runner.export(progress.workload.name, Path(output.target), raw_csv=output.raw_csv, advance=advance)
            return output
        from batchkit.annotation.row_answers import write_output_table  # noqa: PLC0415 - an extra
        from batchkit.annotation.weighing import weighted_votes  # noqa: PLC0415 - as above

        workload, raw_csv = progress.workload, output.raw_csv
        votes = weighted_votes(runner, workload, gold=output.gold, weights=output.weights)
        write_output_table(
            runner, workload, output.target, raw_csv=raw_csv, where=output.only, weighted=votes, advance=advance
        )
        if output.review is not None:
            write_output_table(runner, workload, output.review, raw_csv=raw_csv, review_only=True, weighted=votes)
    return output


def write_earlier_output(
    runner: Runner, progress: Progress, written: str, *, is_news: bool, observer: Observer
) -> None:
    """Write the results of a finished workload also where an earlier command named another output than ``written``.

    That it cannot be written is a note and no error: the output of this call is there.
    """
    other = remembered(progress.workload)
    if other is None or other.target == output_here(written).target:
        return
    try:
        output = write_remembered_output(runner, progress, is_news=is_news, observer=observer)
    except BatchkitError as error:
        observer.note(f"warning: {other.target}, which an earlier command named, is not written: {error}")
    else:
        if output is not None:
            observer.note(f"results also written to {output.target}, which an earlier command named")


def _absolute(target: str) -> str:
    return target if target.startswith(TABLE_PREFIX) else os.path.abspath(target)  # noqa: PTH100 - keeps links, drops ..


def _is_current(target: str, progress: Progress) -> bool:
    if target.startswith(TABLE_PREFIX):
        return True
    try:
        written_at = Path(target).stat().st_mtime
    except OSError:
        return False
    return written_at >= (progress.last_merged_at or 0.0)
