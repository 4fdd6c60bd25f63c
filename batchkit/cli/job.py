"""What ``run``, ``submit``, ``watch`` and the demo do: split, drive, export, sum up."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from batchkit.api import existing, several
from batchkit.api.remembered import output_here, remember, remembered, write_remembered_output
from batchkit.cli import driving
from batchkit.cli.options import common, inputs
from batchkit.cli.render import console, display, exits, live, machine, outcome
from batchkit.engine.runtime import Runner
from batchkit.engine.waves import DriveUntil
from batchkit.errors import BatchkitError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console
    from rich.text import Text

    from batchkit.cli.options.common import Where
    from batchkit.engine.progress import Progress
    from batchkit.models import Trouble, Workload
    from batchkit.settings import Settings
    from batchkit.steps.split import SplitOptions


@dataclass(frozen=True, slots=True)
class Manner:
    """How a command behaves: where things are, how it drives, and for whom it prints. ``timeout_seconds`` None: no limit."""

    where: Where
    use_prefect: bool = True
    verbose: bool = False
    is_for_machines: bool = False
    timeout_seconds: float | None = None

    def stop_at(self, runner: Runner) -> float | None:
        """Return when to stop watching, in Unix seconds; None when there is no limit."""
        return None if self.timeout_seconds is None else runner.clock() + self.timeout_seconds


@dataclass(frozen=True, slots=True)
class Order:
    """A workload as the user orders it; ``sources`` are words of the command line, ``output`` None the default file."""

    sources: Sequence[str]
    name: str | None
    output: Path | None
    options: SplitOptions
    until: DriveUntil = DriveUntil.FINISHED
    raw_csv: bool = False


class Desk:
    """Where one command works: an open runner, a manner, and stderr; ``workload`` is the one at hand."""

    def __init__(self, runner: Runner, manner: Manner, err: Console) -> None:
        self.runner = runner
        self.manner = manner
        self.err = err
        self.workload: Workload | None = None
        console.log_to(err, verbose=manner.verbose)

    @property
    def shows_bars(self) -> bool:
        """Whether bars that are redrawn in place have a reader."""
        return not self.manner.is_for_machines and console.is_live(self.err)

    def fulfil(self, order: Order, paths: Sequence[Path], name: str, output: Path | None) -> Progress:
        """Split, drive, and export what is finished; returns the last picture."""
        workload = self.split(order, paths, name)
        if output is not None:
            is_default = order.output is None
            remember(self.runner, workload, output_here(output, raw_csv=order.raw_csv, is_default=is_default))
        was_finished = self.runner.progress(workload.id).is_finished
        progress = self.drive(workload, until=order.until)
        if progress.is_finished and output is not None:
            self.export(workload, output, raw_csv=order.raw_csv)
            self.write_other(progress, str(output), is_news=not was_finished)
        return progress

    def split(self, order: Order, paths: Sequence[Path], name: str) -> Workload:
        """Split the input, with a count of the lines that are checked. Raises ``InputInvalid``, ``WorkloadConflict``."""
        said: list[str] = []

        def waiting() -> None:
            if not said:
                said.append(name)
                console.say(self.err, f"another command is splitting {name!r}; waiting for it")

        with live.counting(self.err, "checking the input", total=None, is_shown=self.shows_bars) as advance:
            self.workload = self.runner.split(paths, name=name, options=order.options, advance=advance, waiting=waiting)
        return self.workload

    def drive(self, workload: Workload, *, until: DriveUntil = DriveUntil.FINISHED) -> Progress:
        """Drive a workload with progress on stderr; returns the last picture.

        One that is finished needs neither key nor network. Raises ``SplitUnfinished`` for one that is not split whole.
        """
        self.workload = workload
        progress = self.runner.progress(workload.id)
        if progress.is_finished:
            return progress
        try:
            with self._reporter([workload]) as reporter:
                return self._driving(reporter).drive(self.runner, workload, until=until)
        except BatchkitError as error:
            self._tell_what_is_left(workload, error)
            raise

    def _tell_what_is_left(self, workload: Workload, error: BatchkitError) -> None:
        """Tell where a workload stands that ``error`` has stopped, unless the database is what is away."""
        if error.exit_code != exits.NOT_FINISHED or self.manner.is_for_machines or isinstance(error, StoreError):
            return
        progress = self.read_if_possible(workload)
        if progress is not None and progress.is_split and not progress.is_finished:
            console.tell(self.err, outcome.left(progress, self.manner.where))

    def finish(self, workload: Workload) -> int:
        """Drive a workload until it is done and print the last word; returns the exit code."""
        again = common.same_command()
        with driving.interruptible(
            self.err, lambda: outcome.interrupted(self.picture(), self.manner.where, again=again)
        ):
            was_finished = self.runner.progress(workload.id).is_finished
            progress = self.drive(workload)
            output = self.write_remembered(progress, is_news=not was_finished)
        return conclude(progress, self.manner, output=output, again=again)

    def write_remembered(self, progress: Progress, *, is_news: bool = True) -> Path | None:
        """Write the results of a finished workload to where they are to go, with a bar; returns where, None when they were not written."""
        total = progress.workload.request_count
        is_shown = self.shows_bars and progress.workload.output is not None
        with live.counting(self.err, "writing the results", total=total, is_shown=is_shown) as advance:
            output = write_remembered_output(self.runner, progress, is_news=is_news, advance=advance)
        return None if output is None else Path(output.target)

    def write_other(self, progress: Progress, written: str, *, is_news: bool) -> None:
        """Write the results of a finished workload also where an earlier command named another output than ``written``.

        That it cannot be written is told and no error: this command's own output is there.
        """
        other = remembered(progress.workload)
        if other is None or other.target == output_here(written).target:
            return
        try:
            path = self.write_remembered(progress, is_news=is_news)
        except BatchkitError as error:
            console.say(self.err, f"warning: {other.target}, which an earlier command named, is not written: {error}")
        else:
            if path is not None:
                console.say(self.err, f"results also written to {path}, which an earlier command named")

    def drive_all(self, workloads: Sequence[Workload]) -> list[Progress | Exception]:
        """Drive several open workloads at the same time, in plain loops; returns for each where it stands, or its error."""
        with self._reporter(workloads) as reporter:
            return self._driving(reporter).drive_all(self.runner, workloads, wait=threading.Event().wait)

    def export(self, workload: Workload, target: Path, *, raw_csv: bool = False) -> int:
        """Write the results, with a bar; returns how many lines."""
        total = workload.request_count
        with live.counting(self.err, f"writing {target.name}", total=total, is_shown=self.shows_bars) as advance:
            return self.runner.export(workload.name, target, raw_csv=raw_csv, advance=advance)

    def picture(self) -> Progress | None:
        """Read where the workload at hand stands, None when there is none yet."""
        return None if self.workload is None else self.runner.progress(self.workload.id)

    def read_if_possible(self, workload: Workload) -> Progress | None:
        """Read where a workload stands; None when it is gone or cannot be read now."""
        try:
            return self.runner.progress(workload.id)
        except BatchkitError:
            return None

    def _reporter(self, workloads: Sequence[Workload]) -> live.Reporter:
        def read() -> list[Progress]:
            if len(workloads) == 1:
                return [self.runner.progress(workloads[0].id)]
            # One of several that is gone must not keep the others from being shown.
            return [progress for found in workloads if (progress := self.read_if_possible(found)) is not None]

        def trouble() -> Trouble | None:
            found = (self.runner.trouble(workload.id) for workload in workloads)
            return next((one for one in found if one is not None), None)

        return live.reporter(
            self.err,
            read,
            is_for_machines=self.manner.is_for_machines,
            on_terminal=console.is_live(self.err),
            trouble=trouble,
            worked=lambda workload_id: self.runner.work_seconds(self.runner.progress(workload_id)),
        )

    def _driving(self, reporter: live.Reporter) -> driving.Driving:
        return driving.Driving(
            reporter,
            use_prefect=self.manner.use_prefect,
            verbose=self.manner.verbose,
            stop_at=self.manner.stop_at(self.runner),
        )


def carry_out(order: Order, settings: Settings, manner: Manner) -> int:
    """Bring an order as far as it was asked for; returns the exit code. Raises ``BatchkitError``."""
    err = console.stderr()
    with (
        driving.interruptible(err, lambda: outcome.interrupted(None, manner.where, again=common.same_command())),
        inputs.opened(order.sources, folder=settings.home) as paths,
    ):
        name = inputs.workload_name(order.name, order.sources, paths)
        writes = order.until is DriveUntil.FINISHED or order.output is not None
        output = inputs.output_file(order.output, name, paths) if writes else None
        # What came through a pipe cannot be read again, but it is split by then: watching is enough.
        is_piped = inputs.STDIN in order.sources
        again = manner.where.command("watch", name) if is_piped else common.same_command()
        with Runner(settings, verb=common.verb()) as runner:
            desk = Desk(runner, manner, err)
            with driving.interruptible(err, lambda: outcome.interrupted(desk.picture(), manner.where, again=again)):
                progress = desk.fulfil(order, paths, name, output)
        return conclude(
            progress, manner, until=order.until, output=output if progress.is_finished else None, again=again
        )


def watch(name: str | None, settings: Settings, manner: Manner) -> int:
    """Drive one workload, or all open ones, until done; returns the exit code. Raises ``BatchkitError``."""
    with existing.open_runner(settings, verb=common.verb()) as runner:
        desk = Desk(runner, manner, console.stderr())
        if name is not None:
            return desk.finish(runner.find(name))
        workloads = runner.open_workloads()
        if len(workloads) == 1:
            return desk.finish(workloads[0])
        with driving.interruptible(desk.err, lambda: outcome.interrupted_all(again=common.same_command())):
            ends = desk.drive_all(workloads)
            failed = [(found, end) for found, end in zip(workloads, ends, strict=True) if isinstance(end, Exception)]
            written = [desk.write_remembered(end) for end in ends if not isinstance(end, Exception)]
            stands = [desk.read_if_possible(found) for found in workloads]
        if not manner.is_for_machines:
            console.tell(console.stdout(), outcome.written(written))
    return conclude_all([progress for progress in stands if progress is not None], manner, failed=failed)


def conclude(
    progress: Progress, manner: Manner, *, until: DriveUntil = DriveUntil.FINISHED, output: Path | None, again: str
) -> int:
    """Print the last word on stdout, for people or for machines; returns the exit code."""
    is_as_ordered = until is DriveUntil.SUBMITTED and not progress.is_finished and outcome.is_submitted(progress)
    if is_as_ordered:
        return print_outcome(progress, manner, outcome.submitted(progress, manner.where), code=exits.SUCCEEDED)
    if progress.is_finished:
        lines = outcome.summary(progress, manner.where, output=output)
    else:
        lines = outcome.unfinished(progress, manner.where, again=again)
    return print_outcome(progress, manner, lines, code=outcome.exit_code(progress), output=output)


def print_outcome(
    progress: Progress, manner: Manner, lines: Iterable[Text], *, code: int, output: Path | None = None
) -> int:
    """Print ``lines`` for people, or the picture with the exit code for machines; returns the exit code."""
    if manner.is_for_machines:
        console.write_json(machine.outcome(progress, exit_code=code, output=output))
    else:
        console.tell(console.stdout(), lines)
    return code


def conclude_all(
    pictures: Sequence[Progress], manner: Manner, *, failed: Sequence[tuple[Workload, Exception]] = ()
) -> int:
    """Print the last word on several workloads, and which of them ``failed``; returns the worst of their exit codes."""
    names = {workload.name for workload, _ in failed}
    ended = [outcome.exit_code(progress) for progress in pictures if progress.workload.name not in names]
    code = _worst(ended, [error for _, error in failed])
    messages = [several.message_of(workload, error) for workload, error in failed]
    err = console.stderr()
    for message in messages:
        console.say(err, f"error: {message}")
    if manner.is_for_machines:
        console.write_json(machine.outcome_of_all(pictures, exit_code=code, errors=messages))
    elif pictures:
        console.show(console.stdout(), display.overview(pictures))
    elif not failed:
        console.say(console.stdout(), "no workload is open")
    return code


def _worst(ended: Sequence[int], errors: Sequence[Exception]) -> int:
    """Choose the exit code: a bug is the worst, then what is not finished; 2 says that nothing was sent for any workload."""
    codes = [error.exit_code if isinstance(error, BatchkitError) else 1 for error in errors]
    if 1 in codes:
        return 1
    if ended and exits.USAGE in codes:
        codes = [exits.NOT_FINISHED]
    return max([*ended, *codes], default=exits.SUCCEEDED)


def show_plan(order: Order, settings: Settings, manner: Manner) -> int:
    """Check the input and print how it would be cut; stores and sends nothing. Raises ``InputInvalid``."""
    err = console.stderr()
    with inputs.opened(order.sources, folder=None) as paths, TemporaryDirectory(prefix="batchkit-plan-") as scratch:
        name = inputs.workload_name(order.name, order.sources, paths)
        if order.until is DriveUntil.FINISHED:
            inputs.output_file(order.output, name, paths)
        # A plan needs no database, but a runner does: it gets one that is thrown away.
        aside = settings.model_copy(update={"home": Path(scratch), "database_url": None})
        with Runner(aside) as runner:
            is_shown = not manner.is_for_machines and console.is_live(err)
            with live.counting(err, "checking the input", total=None, is_shown=is_shown) as advance:
                plan = runner.plan(paths, order.options, advance=advance)
    if manner.is_for_machines:
        console.write_json(machine.plan(name, plan))
    else:
        console.show(console.stdout(), display.plan_view(name, plan))
    return exits.SUCCEEDED
