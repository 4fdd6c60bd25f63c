"""Where text goes: results to stdout, everything else to stderr."""

from __future__ import annotations

import logging
import re
import sys
import time
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import ConsoleOptions, RenderableType

    from batchkit.errors import BatchkitError

_SHOWN_PROBLEMS = 20
# The characters that a terminal interprets instead of showing them, apart from the newline: control characters, line
# separators, and those that reverse the direction of writing, so that a text reads as another one.
_OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class SafeConsole(Console):
    """A console that shows foreign text, such as a file name or a provider's message, without interpreting it.

    The replacement is here, and not where texts are composed, so that none can be forgotten; Rich's own control codes (colours,
    cursor movements) are separate from the text at this point.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render, with U+FFFD for characters that a terminal would interpret."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            is_plain = control or _OBEYED.search(text) is None
            yield segment if is_plain else Segment(_OBEYED.sub("\N{REPLACEMENT CHARACTER}", text), style)


def stdout() -> Console:
    """Open the console for results."""
    return SafeConsole(highlight=False)


def stderr() -> Console:
    """Open the console for progress, logs and errors."""
    return SafeConsole(stderr=True, highlight=False)


def is_live(console: Console) -> bool:
    """Return whether a panel can be redrawn in place: a real terminal that can move its cursor.

    Rich takes FORCE_COLOR for a terminal; colour in a file is harmless, cursor movements in it are not.
    """
    return console.is_terminal and not console.is_dumb_terminal and console.file.isatty()


def say(console: Console, text: str, *, at: float | None = None) -> None:
    """Print a line unchanged, preceded by the local time of day when ``at`` (Unix seconds) is given."""
    line = Text(text)
    if at is not None:
        line = Text.assemble((f"{datetime.fromtimestamp(at).astimezone():%H:%M:%S} ", "dim"), line)
    _print_line(console, line)


def _print_line(console: Console, line: Text) -> None:
    """Print a line: on a terminal broken between words, unless it has text to be copied (``no_wrap``, or a command in backticks).

    In a file it is one line, however narrow rich assumes the file to be.
    """
    is_whole = bool(line.no_wrap) or "`" in line.plain or not is_live(console)
    console.print(line, soft_wrap=is_whole)


def log_line(console: Console, text: str) -> None:
    """Print a line with the time of day."""
    say(console, text, at=time.time())


@contextmanager
def busy(console: Console, text: str) -> Iterator[None]:
    """Show on a terminal that the block takes a while; the line is removed afterwards."""
    if not is_live(console):
        yield
        return
    with console.status(text):
        yield


def show(console: Console, renderable: RenderableType) -> None:
    """Print a table or a panel."""
    console.print(renderable)


def tell(console: Console, lines: Iterable[Text]) -> None:
    """Print lines; those with a command or a path are broken only by the terminal, so that they can be copied."""
    for line in lines:
        _print_line(console, line)


def write_json(value: object) -> None:
    """Print one line of JSON on stdout."""
    from batchkit.files import jsonl  # noqa: PLC0415 - most commands print no JSON

    sys.stdout.buffer.write(jsonl.dumps(value) + b"\n")
    sys.stdout.buffer.flush()


def complain(console: Console, error: BatchkitError) -> None:
    """Print an error with all its details, and what to do next."""
    for line in _complaint(error):
        _print_line(console, line)


def _complaint(error: BatchkitError) -> Iterator[Text]:
    from batchkit.errors import InputInvalid, ProviderRefused  # noqa: PLC0415 - this module is loaded before anything can go wrong

    if isinstance(error, InputInvalid):
        shown = error.problems[:_SHOWN_PROBLEMS]
        yield from (Text(str(problem)) for problem in shown)
        if error.count > len(shown):
            yield Text(f"... and {error.count - len(shown):,} more")
    # The message contains its words: without a subject they would read as batchkit's own.
    has_subject = not isinstance(error, ProviderRefused) or error.message.startswith("the provider ")
    whose = "" if has_subject else "the provider refused: "
    yield Text.assemble(("error: ", "bold red"), f"{whose}{error.message}")
    if error.hint:
        yield Text.assemble(("hint: ", "bold"), error.hint)


class LogToConsole(logging.Handler):
    """Prints log records above a live panel instead of into it."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        try:
            text = f"{record.levelname.lower()} {record.name}: {record.getMessage()}"
            if record.exc_info:
                text += f"\n{logging.Formatter().formatException(record.exc_info)}"
            say(self._console, text, at=record.created)
        except Exception:  # noqa: BLE001 - the contract of logging handlers: never raise, report to handleError
            self.handleError(record)


def log_to(console: Console, *, verbose: bool) -> None:
    """Send batchkit's own log to stderr: warnings, and with ``verbose`` every call. Other handlers may log more."""
    logger = logging.getLogger("batchkit")
    logger.handlers = [handler for handler in logger.handlers if not isinstance(handler, LogToConsole)]
    handler = LogToConsole(console)
    handler.setLevel(logging.DEBUG if verbose else logging.WARNING)
    logger.addHandler(handler)
    # Prefect shows a run's log if it is loaded: its content must not depend on the level of the terminal.
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)


def survive_odd_terminals() -> None:
    """Replace characters that the terminal's encoding lacks instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
