"""Progress while a command runs: a panel that is redrawn on a terminal, a line now and then elsewhere, or nothing.

All of it goes to stderr and is read from the store, so that it shows the truth also when another process does the work.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from batchkit.cli import display, words
from batchkit.cli.pace import Pace
from batchkit.errors import BatchkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import ConsoleRenderable, RenderableType, RichCast

    from batchkit.progress import Progress

logger = logging.getLogger(__name__)

_READ_SECONDS = 1.0
#: Reading may take this share of the time at most, so that a picture of millions of rows does not slow down the work.
_READ_SHARE = 10
_PLAIN_SECONDS = 10.0
_FRAMES_PER_SECOND = 8
_REPEAT_NOTE_SECONDS = 300.0


class Reporter(Protocol):
    """Where a running command reports. Its methods may be called from any thread."""

    def __enter__(self) -> Self:
        """Begin to show progress."""
        ...

    def __exit__(self, *exception: object) -> None:
        """Stop showing progress."""
        ...

    def note(self, text: str) -> None:
        """Tell the user something worth a line."""
        ...

    def waiting(self, until: float | None) -> None:
        """Take note that nothing is due before ``until`` (Unix seconds); None when work begins."""
        ...
