"""Standard output and error into a pipe whose reader has closed it, as in ``batchkit status | head -1``."""

from __future__ import annotations

import io
import sys
from typing import Any


class _Unheard(io.FileIO):
    """A file that drops its input once it has no reader."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes


def outlive_readers() -> None:
    """Make a command whose reader has gone continue silently, and end with its own exit code.

    SIGPIPE, which ends filters, is not used: a paid run, or an emulator that serves others, must not be killed by a ``head``.
    This acts below all libraries that print, because each of them has another way to end the process.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        stream.flush()
        raw = _Unheard(stream.fileno(), "wb", closefd=False)
        quiet = io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, quiet)
