"""Progress while a command runs: a panel that is redrawn on a terminal, an occasional line elsewhere, or nothing.

All of it goes to stderr and is read from the store, so it is correct even when another process does the work.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as CountingBar
from rich.spinner import Spinner

from batchkit import formatting
from batchkit.cli.render import display
from batchkit.cli.render.console import say
from batchkit.cli.render.pace import ESTIMATE, Pace, time_left
from batchkit.engine import situation
from batchkit.errors import BatchkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console, RenderableType
    from rich.progress import TaskID

    from batchkit.engine.progress import Progress
    from batchkit.models import Trouble, WorkloadId

_READ_SECONDS = 1.0
#: Reading takes at most a tenth of the time, so that snapshots of millions of rows do not slow the work down.
_READ_REST = 9
_PLAIN_SECONDS = 10.0
#: After a longer silence, the reader of a log would not know whether the work continues.
_REPEAT_SECONDS = 900.0
_FRAMES_PER_SECOND = 8
_SAME_NOTE_SECONDS = 300.0


class Reporter(Protocol):
    """Shows the progress of a running command; the methods may be called from any thread."""

    def __enter__(self) -> Self:
        """Begin to show progress."""
        ...

    def __exit__(self, *exception: object) -> None:
        """Stop showing progress."""
        ...

    def note(self, text: str) -> None:
        """Print a sentence for the user."""
        ...

    def waiting(self, until: float | None) -> None:
        """Record that no work is pending before ``until`` (Unix seconds); None when work begins."""
        ...


class Quiet:
    """Shows nothing: for ``--json``, whose output is read by a program."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def note(self, text: str) -> None:
        """Drop the note."""

    def waiting(self, until: float | None) -> None:
        """Show no countdown."""


class _Watching(ABC):
    """Reads snapshots in a separate thread, about once a second, and shows them.

    ``trouble`` returns what keeps the work on a workload from continuing; it is called in a second thread, because an
    unreachable database blocks the first. ``worked`` returns how long a workload has been worked on, in seconds.
    """

    def __init__(
        self,
        console: Console,
        read: Callable[[], Sequence[Progress]],
        clock: Callable[[], float] = time.time,
        *,
        trouble: Callable[[], Trouble | None] = lambda: None,
        worked: Callable[[WorkloadId], float] | None = None,
    ) -> None:
        self._console = console
        self._read = read
        self._clock = clock
        self._ask_for_trouble = trouble
        self._trouble: Trouble | None = None
        self._worked = worked
        self._worked_before: dict[WorkloadId, float] = {}
        self._paces: dict[WorkloadId, Pace] = {}
        self._notes: dict[str, float] = {}
        self._waiting_until: float | None = None
        self._snapshots: Sequence[Progress] = ()
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name="batchkit-progress", daemon=True),
            threading.Thread(target=self._watch_for_trouble, name="batchkit-trouble", daemon=True),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join()
        if exception[0] is None:
            # An outage that ended a moment ago is also over for the reader.
            self.check_for_trouble()

    def note(self, text: str) -> None:
        """Print the note with the time of day, unless it was printed a moment ago, or repeats the cause of the outage."""
        now = self._clock()
        trouble = self._trouble
        if trouble is not None and _is_about(text, trouble):
            return
        if now - self._notes.get(text, 0.0) >= _SAME_NOTE_SECONDS:
            self._notes[text] = now
            say(self._console, text, at=now)

    def waiting(self, until: float | None) -> None:
        """Count down to ``until``."""
        self._waiting_until = until

    def read_now(self) -> None:
        """Read the snapshots now and show them; errors are left to the command, which gets them too."""
        try:
            # Records of other runners are older than what this process knows.
            snapshots = [replace(progress, runners=()) for progress in self._read()]
            self._read_worked(snapshots)
        except BatchkitError:
            return
        for progress in snapshots:
            self._paces.setdefault(progress.workload.id, Pace()).see(progress.read_at, progress.answered)
        self._snapshots = snapshots
        self._show()

    def check_for_trouble(self) -> None:
        """Check for an outage, and print a line when one begins and when it ends."""
        before, now_away = self._trouble, self._ask_for_trouble()
        self._trouble = now_away
        now = self._clock()
        if before is None and now_away is not None:
            say(self._console, situation.outage(now_away).line(now), at=now)
        elif before is not None and now_away is None:
            say(self._console, _end_of(before, now), at=now)

    @abstractmethod
    def _show(self) -> None:
        """Show the snapshots."""

    def _moment(self, progress: Progress) -> display.Moment:
        now = self._clock()
        pace = self._paces[progress.workload.id]
        left = progress.counts.unresolved - progress.not_fetched
        waits = situation.waits(progress, self._trouble)
        before = self._worked_before.get(progress.workload.id)
        return display.Moment(
            now,
            waiting_until=self._waiting_until,
            time_left=time_left(waits, pace, now, left=left, next_check=self._waiting_until),
            trouble=self._trouble,
            worked_seconds=None if before is None else before + now,
        )

    def _read_worked(self, snapshots: Sequence[Progress]) -> None:
        """Read once how long the workloads were worked on: from here on every second is one of work."""
        if self._worked is None:
            return
        for progress in snapshots:
            if progress.workload.id not in self._worked_before:
                self._worked_before[progress.workload.id] = self._worked(progress.workload.id) - progress.read_at

    def _watch_for_trouble(self) -> None:
        while not self._closing.wait(_READ_SECONDS):
            self.check_for_trouble()

    def _run(self) -> None:
        pause = 0.0
        while not self._closing.wait(pause):
            began = time.monotonic()
            self.read_now()
            pause = max(_READ_SECONDS, (time.monotonic() - began) * _READ_REST)


class LivePanel(_Watching):
    """A panel at the bottom of a terminal; notes scroll above it."""

    def __init__(
        self,
        console: Console,
        read: Callable[[], Sequence[Progress]],
        clock: Callable[[], float] = time.time,
        *,
        trouble: Callable[[], Trouble | None] = lambda: None,
        worked: Callable[[WorkloadId], float] | None = None,
    ) -> None:
        super().__init__(console, read, clock, trouble=trouble, worked=worked)
        self._spinner = Spinner("line" if console.options.ascii_only else "dots", style="cyan")
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=_FRAMES_PER_SECOND,
            transient=True,
            vertical_overflow="crop",
        )

    def __enter__(self) -> Self:
        self._live.start()
        return super().__enter__()

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self._live.stop()

    def _show(self) -> None:
        """Leave the drawing to the next frame."""

    def _render(self) -> RenderableType:
        snapshots = self._snapshots
        if not snapshots:
            trouble = self._trouble
            away = None if trouble is None else situation.outage(trouble).line(self._clock())
            self._spinner.update(text=away or "reading where the work stands")
            return self._spinner
        if len(snapshots) == 1:
            panel = display.live_panel(snapshots[0], self._moment(snapshots[0]), self._spinner)
            # The panel ends with an empty line, so that the ^C that a terminal echoes there cannot displace it.
            return Group(panel, "")
        unfinished = next((progress for progress in snapshots if not progress.is_finished), snapshots[0])
        self._spinner.update(text=display.activity(unfinished, self._moment(unfinished)))
        return Group(display.overview(snapshots), self._spinner, "")


class PlainLines(_Watching):
    """Prints a line when something has changed, but at most every ten seconds."""

    def __init__(
        self,
        console: Console,
        read: Callable[[], Sequence[Progress]],
        clock: Callable[[], float] = time.time,
        *,
        trouble: Callable[[], Trouble | None] = lambda: None,
        worked: Callable[[WorkloadId], float] | None = None,
    ) -> None:
        super().__init__(console, read, clock, trouble=trouble, worked=worked)
        self._said: dict[WorkloadId, tuple[float, str]] = {}

    def _show(self) -> None:
        now = self._clock()
        for progress in self._snapshots:
            moment = self._moment(progress)
            # The comparison omits the outage, and reduces the estimate to whether there is one: their changes alone print nothing.
            is_estimated = moment.time_left is not None and moment.time_left.startswith(ESTIMATE)
            news = f"{display.plain_line(progress, display.Moment(progress.read_at))}{is_estimated}"
            said_at, said = self._said.get(progress.workload.id, (0.0, ""))
            # During an outage its own line is printed; when it is over, the figures are current again.
            is_news = news != said and (moment.trouble is None or not said)
            if now - said_at >= (_PLAIN_SECONDS if is_news else _REPEAT_SECONDS):
                self._said[progress.workload.id] = now, news
                say(self._console, display.plain_line(progress, moment), at=now)


def reporter(
    console: Console,
    read: Callable[[], Sequence[Progress]],
    *,
    is_for_machines: bool,
    on_terminal: bool,
    trouble: Callable[[], Trouble | None] = lambda: None,
    worked: Callable[[WorkloadId], float] | None = None,
) -> Reporter:
    """Return the reporter: nothing with ``--json``, a panel on a terminal, else lines; other arguments as for ``_Watching``."""
    if is_for_machines:
        return Quiet()
    kind = LivePanel if on_terminal else PlainLines
    return kind(console, read, trouble=trouble, worked=worked)


def _end_of(trouble: Trouble, now: float) -> str:
    """Return the line for the end of an outage; the line of its beginning has the cause."""
    again = "the provider answers again" if trouble.what.startswith("the provider ") else "the work continues"
    tries = formatting.counted(trouble.tries, "try", "tries")
    return f"{again} after {formatting.duration(now - trouble.since)} ({tries})"


def _is_about(text: str, trouble: Trouble) -> bool:
    """Return whether a note repeats the cause of an outage: both end in the same words."""
    cause = trouble.what.rpartition(": ")[2]
    return cause in text


class Counts:
    """Bars for counts, one for each label; they are removed when the last count has ended."""

    def __init__(self, console: Console, *, is_shown: bool) -> None:
        self._console = console
        self._is_shown = is_shown
        self._bar: CountingBar | None = None
        self._tasks: dict[str, TaskID] = {}

    def begin(self, label: str, total: int | None) -> None:
        """Show a bar; without ``total`` it shows only the count."""
        if not self._is_shown:
            return
        if self._bar is None:
            columns = (
                SpinnerColumn(),
                # A file name must not be read as markup.
                TextColumn("{task.description}", markup=False),
                *((BarColumn(),) if total else ()),
                MofNCompleteColumn() if total else TextColumn("{task.completed:,}"),
                TimeElapsedColumn(),
            )
            self._bar = CountingBar(*columns, console=self._console, transient=True)
            self._bar.start()
        self._tasks[label] = self._bar.add_task(label, total=total)

    def advance(self, label: str, more: int) -> None:
        """Advance a bar by ``more``."""
        if self._bar is not None and label in self._tasks:
            self._bar.advance(self._tasks[label], more)

    def end(self, label: str) -> None:
        """Remove a bar; the last one removes all of them."""
        self._tasks.pop(label, None)
        if self._bar is not None and not self._tasks:
            self._bar.stop()
            self._bar = None
