"""Progress while a command runs: a panel that is redrawn on a terminal, a line now and then elsewhere, or nothing.

All of it goes to stderr and is read from the store, so that it shows the truth also when another process does the work.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as CountingBar
from rich.spinner import Spinner

from batchkit.cli import display
from batchkit.cli.console import say
from batchkit.cli.pace import Pace
from batchkit.errors import BatchkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console, RenderableType

    from batchkit.models import WorkloadId
    from batchkit.progress import Progress

_READ_SECONDS = 1.0
#: Reading takes a tenth of the time at most, so that a picture of millions of rows does not slow the work down.
_READ_REST = 9
_PLAIN_SECONDS = 10.0
_FRAMES_PER_SECOND = 8
_SAME_NOTE_SECONDS = 300.0


class Reporter(Protocol):
    """Where a running command reports; the methods may be called from any thread."""

    def __enter__(self) -> Self:
        """Begin to show progress."""
        ...

    def __exit__(self, *exception: object) -> None:
        """Stop showing progress."""
        ...

    def note(self, text: str) -> None:
        """Tell the user something that is worth a line."""
        ...

    def waiting(self, until: float | None) -> None:
        """Take note that nothing is due before ``until`` (Unix seconds); None when work begins."""
        ...


class Quiet:
    """Shows nothing: for ``--json``, whose reader is a program."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def note(self, text: str) -> None:
        """Drop the note."""

    def waiting(self, until: float | None) -> None:
        """Show no countdown."""


class _Watching(ABC):
    """Reads the pictures in a thread of its own, about once a second, and has them shown."""

    def __init__(
        self, console: Console, read: Callable[[], Sequence[Progress]], clock: Callable[[], float] = time.time
    ) -> None:
        self._console = console
        self._read = read
        self._clock = clock
        self._paces: dict[WorkloadId, Pace] = {}
        self._notes: dict[str, float] = {}
        self._waiting_until: float | None = None
        self._pictures: Sequence[Progress] = ()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="batchkit-progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._closing.set()
        self._thread.join()

    def note(self, text: str) -> None:
        """Print the note with the time of day, unless it was printed a moment ago."""
        now = self._clock()
        if now - self._notes.get(text, 0.0) >= _SAME_NOTE_SECONDS:
            self._notes[text] = now
            say(self._console, text, at=now)

    def waiting(self, until: float | None) -> None:
        """Count down to ``until``."""
        self._waiting_until = until

    def look(self) -> None:
        """Read the pictures now and have them shown; trouble is left to the command, which meets it too."""
        try:
            pictures = self._read()
        except BatchkitError:
            return
        for progress in pictures:
            done = progress.counts.total - progress.counts.unresolved + progress.remote_done
            self._paces.setdefault(progress.workload.id, Pace()).see(progress.read_at, done)
        self._pictures = pictures
        self._show()

    @abstractmethod
    def _show(self) -> None:
        """Put the pictures where they can be seen."""

    def _moment(self, progress: Progress) -> display.Moment:
        now = self._clock()
        pace = self._paces[progress.workload.id]
        left = progress.counts.unresolved - progress.remote_done
        return display.Moment(
            now, waiting_until=self._waiting_until, eta_seconds=pace.remaining_seconds(now, max(left, 1))
        )

    def _run(self) -> None:
        pause = 0.0
        while not self._closing.wait(pause):
            began = time.monotonic()
            self.look()
            pause = max(_READ_SECONDS, (time.monotonic() - began) * _READ_REST)


class LivePanel(_Watching):
    """A panel at the bottom of a terminal; notes scroll by above it."""

    def __init__(
        self, console: Console, read: Callable[[], Sequence[Progress]], clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(console, read, clock)
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
        """Leave it to the next frame."""

    def _render(self) -> RenderableType:
        pictures = self._pictures
        if not pictures:
            return self._spinner
        if len(pictures) == 1:
            panel = display.live_panel(pictures[0], self._moment(pictures[0]), self._spinner)
            # Ends with an empty line: the ^C that a terminal echoes there cannot push the panel out of place.
            return Group(panel, "")
        unfinished = next((progress for progress in pictures if not progress.is_finished), pictures[0])
        self._spinner.update(text=display.activity(unfinished, self._moment(unfinished)))
        return Group(display.overview(pictures), self._spinner, "")


class PlainLines(_Watching):
    """A line when something has changed, but not more often than every ten seconds."""

    def __init__(
        self, console: Console, read: Callable[[], Sequence[Progress]], clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(console, read, clock)
        self._said: dict[WorkloadId, tuple[float, str]] = {}

    def _show(self) -> None:
        now = self._clock()
        for progress in self._pictures:
            moment = self._moment(progress)
            # What is compared leaves out the estimate: that it moved is no news.
            news = display.plain_line(progress, display.Moment(now))
            said_at, said = self._said.get(progress.workload.id, (0.0, ""))
            if news != said and now - said_at >= _PLAIN_SECONDS:
                self._said[progress.workload.id] = now, news
                say(self._console, display.plain_line(progress, moment), at=now)


def reporter(
    console: Console, read: Callable[[], Sequence[Progress]], *, is_for_machines: bool, on_terminal: bool
) -> Reporter:
    """Choose how to report: nothing with ``--json``, a panel on a terminal, lines elsewhere."""
    if is_for_machines:
        return Quiet()
    return LivePanel(console, read) if on_terminal else PlainLines(console, read)


@contextmanager
def counting(console: Console, label: str, *, total: int | None, is_shown: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar that the yielded function moves on by so many; without ``total`` it only counts."""
    if not is_shown:
        yield lambda _more: None
        return
    columns = (
        SpinnerColumn(),
        # A file's name is not markup.
        TextColumn("{task.description}", markup=False),
        *((BarColumn(),) if total else ()),
        MofNCompleteColumn() if total else TextColumn("{task.completed:,}"),
        TimeElapsedColumn(),
    )
    with CountingBar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda more: bar.advance(task, more)


@contextmanager
def counting_stages(
    console: Console, labels: Sequence[str], *, is_shown: bool
) -> Iterator[tuple[Callable[[int], None], ...]]:
    """Count what is done in stages: one function for each label, which appears when its stage begins."""
    if not is_shown:
        yield tuple(lambda _more: None for _ in labels)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TextColumn("{task.completed:,}"))
    with CountingBar(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:

        def stage(label: str) -> Callable[[int], None]:
            task = bar.add_task(label, total=None, visible=False, start=False)

            def advance(more: int) -> None:
                bar.start_task(task)
                bar.update(task, advance=more, visible=True)

            return advance

        yield tuple(stage(label) for label in labels)
