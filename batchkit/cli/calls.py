"""How a verb calls the api: with a terminal, and with Prefect unless that is not wanted."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from batchkit.api.modes import RunMode
from batchkit.cli.interrupts import interruptible
from batchkit.cli.options import common
from batchkit.cli.prefect import PrefectView, led_drive
from batchkit.cli.render.terminal import Terminal
from batchkit.engine.observer import Observers
from batchkit.engine.waves import DriveUntil

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.cli.options.flags import DriveFlags
    from batchkit.settings import Settings


def terminal_of(flags: DriveFlags, *, is_piped: bool = False) -> Terminal:
    """Return what shows the work of a command with these flags; ``is_piped`` as for ``Terminal``."""
    return Terminal(
        flags.where,
        common.same_command(),
        is_for_machines=flags.json,
        verbose=flags.verbose,
        is_piped=is_piped,
    )


def mode_of(
    terminal: Terminal,
    settings: Settings,
    *,
    use_prefect: bool,
    verbose: bool = False,
    timeout_seconds: float | None = None,
    until: DriveUntil = DriveUntil.FINISHED,
) -> RunMode:
    """Return how a command calls the api: shown by ``terminal``, and in Prefect unless that is not wanted."""
    if not use_prefect:
        return RunMode(common.verb(), timeout_seconds, terminal)
    view = PrefectView(settings, until=until, on_note=terminal.note, verbose=verbose)
    drive = led_drive(terminal, on_note=terminal.note, verbose=verbose)
    return RunMode(common.verb(), timeout_seconds, Observers(terminal, view), drive)


@contextmanager
def call(
    terminal: Terminal, settings: Settings, flags: DriveFlags, until: DriveUntil = DriveUntil.FINISHED
) -> Iterator[RunMode]:
    """Yield the mode of a call under these flags. An interrupt in the block prints where the workload stands, and ends with exit code 130."""
    with interruptible(terminal.interrupted):
        yield mode_of(
            terminal,
            settings,
            use_prefect=not flags.no_prefect,
            verbose=flags.verbose,
            timeout_seconds=flags.timeout,
            until=until,
        )
