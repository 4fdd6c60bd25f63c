"""What every function of ``batchkit.api`` does first: it opens a runner, names the workload, splits or drives it."""

from __future__ import annotations

from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from batchkit import formatting
from batchkit.api import existing
from batchkit.api.deadlines import tell_price_of_waiting
from batchkit.engine.observer import driving
from batchkit.engine.runtime import Runner
from batchkit.errors import UsageError
from batchkit.files.compressed import check_file
from batchkit.files.sources import check_name, name_of
from batchkit.provider.keyless import keyless
from batchkit.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from batchkit.api.modes import RunMode
    from batchkit.engine.observer import Observer
    from batchkit.engine.progress import Progress
    from batchkit.engine.waves import DriveUntil
    from batchkit.settings import Settings

    Source = str | PathLike[str]


@contextmanager
def open_runner(settings: Settings | None, mode: RunMode, *, is_keyless: bool = False) -> Iterator[Runner]:
    """Open a runner, on a database that is made if it does not exist; one that ``is_keyless`` can ask nothing of the provider."""
    found = settings or load_settings()
    with (
        Runner(found, provider=keyless(found.dialect) if is_keyless else None, verb=mode.verb) as runner,
        _interruptible(runner, mode.observer),
    ):
        yield runner


@contextmanager
def open_existing(settings: Settings | None, mode: RunMode) -> Iterator[Runner]:
    """Open a runner on a database that exists. Raises ``UnknownWorkload`` when there is none."""
    found = settings or load_settings()
    with existing.open_runner(found, verb=mode.verb) as runner, _interruptible(runner, mode.observer):
        yield runner


@contextmanager
def _interruptible(runner: Runner, observer: Observer) -> Iterator[None]:
    """Pass an interrupt to ``observer`` while the store is still open, after the calls that are under way; a second one ends these."""
    try:
        yield
    except KeyboardInterrupt:
        try:
            _finish_calls(runner, observer)
        finally:
            observer.interrupted()
        raise


def _finish_calls(runner: Runner, observer: Observer) -> None:
    under_way = runner.calls_under_way()
    grace = runner.settings.grace_seconds
    if under_way:
        calls = formatting.counted(under_way, "answer")
        observer.note(f"waiting up to {grace:g} s for {calls} on the way; Ctrl-C again gives them up")
    lost = runner.finish_calls(grace)
    if lost:
        observer.note(f"{formatting.counted(lost, 'request')} got no answer in time and may have been paid for")


def paths_of(sources: Source | Sequence[Source]) -> list[Path]:
    """Return the input files; a lone string is one file."""
    return [Path(sources)] if isinstance(sources, (str, PathLike)) else [Path(source) for source in sources]


def parts_of(table: Source | Sequence[Source]) -> list[str]:
    """Return the files or addresses of a table; a lone string is one."""
    return [str(table)] if isinstance(table, (str, PathLike)) else [str(part) for part in table]


def workload_name(name: str | None, paths: Sequence[Path]) -> str:
    """Return the workload's name, by default the first file's without its endings. Raises ``UsageError`` for one that cannot be used."""
    if name is not None:
        return check_name(name)
    try:
        return check_name(name_of(paths[0]))
    except UsageError:
        # The folder . has no name, but that is not what is wrong with it.
        check_file(paths[0])
        raise


def note_once(observer: Observer, text: str) -> Callable[[], None]:
    """Return a function that tells ``observer`` a sentence the first time that it is called."""
    said: list[str] = []

    def tell() -> None:
        if not said:
            said.append(text)
            observer.note(text)

    return tell


def drive_from(runner: Runner, before: Progress, until: DriveUntil, mode: RunMode) -> Progress:
    """Drive a workload that stands as ``before`` says; returns the last snapshot.

    One that is finished needs neither key nor network. Raises ``SplitUnfinished`` for one that is not split whole.
    """
    mode.observer.opened([before.workload], runner)
    if before.is_finished:
        return before
    with driving(mode.observer):
        after = mode.drive(
            runner,
            before.workload,
            until=until,
            stop_at=mode.stop_at(runner.clock()),
            observer=mode.observer,
        )
    tell_price_of_waiting(runner, after, mode.observer)
    return after
