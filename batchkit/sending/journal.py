"""The journal of a shard of the sync lane: which requests were sent, and every answer, on the disk of this machine.

One JSON object per line::

    {"sent": custom_id, "at": Unix seconds}      written before the call; synced with the next answers
    {"unsent": custom_id}                        the call was refused before it was executed, or nothing reached the server
    an output line, as in a batch's output file  synced before the next call may take its place

What was sent and has neither an answer nor an ``unsent`` is in doubt when the process has died. A line that a crash tore off is
no line: its request is in doubt.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct

from batchkit.errors import SpoolError
from batchkit.files import jsonl
from batchkit.files.spool import disk_error, disk_errors, sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Answers that arrive within this time, up to so many, are synced together.
_GROUP_SECONDS: Final = 0.010
_GROUP_LINES: Final = 64

# macOS has no fdatasync.
_sync: Final[Callable[[int], None]] = getattr(os, "fdatasync", os.fsync)

#: The error codes of lines that this program writes about calls; no provider uses them.
IN_DOUBT_CODE: Final = "batchkit_in_doubt"
NO_ANSWER_CODE: Final = "batchkit_no_answer"
TOO_LARGE_CODE: Final = "too_large_for_limit"


class Journal:
    """The journal of one shard, open for appending. Its lines may come from several threads. Raises ``SpoolError``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with disk_errors("write", path):
            is_new = not path.exists()
            self.descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
            if is_new:
                sync_directory(path.parent)

    def write(self, lines: bytes) -> None:
        """Append whole lines; the operating system has them afterwards, the disk perhaps not."""
        with disk_errors("write", self.path):
            view = memoryview(lines)
            while view:
                view = view[os.write(self.descriptor, view) :]

    def sent(self, custom_id: str, at: float) -> None:
        """Record that a request is about to be sent, at ``at`` (Unix seconds)."""
        self.write(jsonl.dumps({"sent": custom_id, "at": at}) + b"\n")

    def unsent(self, custom_id: str) -> None:
        """Record that a request that was sent has not been executed."""
        self.write(jsonl.dumps({"unsent": custom_id}) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


class JournalWriter:
    """Writes answers to journals and syncs them, several together. ``close`` writes all that was given before.

    Each call of ``append`` ends in one call of its ``written``, in the writer's thread: with None when the line is on the disk, or
    with the error, usually of the disk.
    """

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[tuple[Journal, bytes, Callable[[Exception | None], None]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, name="batchkit-journal", daemon=True)
        self._thread.start()

    def append(self, journal: Journal, line: bytes, written: Callable[[Exception | None], None]) -> None:
        """Write a line, which ends with a newline, soon."""
        self._lines.put((journal, line, written))

    def close(self) -> None:
        """End the thread when all lines are written."""
        self._lines.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._lines.get()) is not None:
            group = [first]
            ends_at = time.monotonic() + _GROUP_SECONDS
            is_last = False
            while len(group) < _GROUP_LINES:
                try:
                    one = self._lines.get(timeout=max(ends_at - time.monotonic(), 0.0))
                except queue.Empty:
                    break
                if one is None:
                    is_last = True
                    break
                group.append(one)
            self._write(group)
            if is_last:
                return

    @staticmethod
    def _write(group: list[tuple[Journal, bytes, Callable[[Exception | None], None]]]) -> None:
        by_journal: dict[Journal, list[bytes]] = {}
        for journal, line, _ in group:
            by_journal.setdefault(journal, []).append(line)
        errors: dict[Journal, Exception | None] = {}
        for journal, lines in by_journal.items():
            errors[journal] = _written(journal, b"".join(lines))
        for journal, _, written in group:
            written(errors[journal])


def _written(journal: Journal, lines: bytes) -> Exception | None:
    try:
        journal.write(lines)
        _sync(journal.descriptor)
    except SpoolError as error:
        return error
    except OSError as error:
        return disk_error("write", journal.path, error)
    except Exception as error:  # noqa: BLE001 - raised by the step that ends the shard
        return error
    return None


class _Line(Struct, gc=False):
    custom_id: str | None = None
    sent: str | None = None
    unsent: str | None = None


_read_line: Final = jsonl.typed_reader(_Line)


class Doubts(NamedTuple):
    """The requests of a journal, by their custom_ids as sent: how many have a line, and which were sent and have none."""

    answered: int
    in_doubt: tuple[str, ...]


def copy_answers(journal: Path, target: IO[bytes]) -> Doubts:
    """Copy the output lines of a journal; an absent journal is empty. Lines that are torn are left out. Raises ``SpoolError``."""
    open_: dict[str, None] = {}
    answered: set[str] = set()
    if journal.is_file():
        with disk_errors("read", journal), journal.open("rb") as handle:
            for line in handle:
                if not line.endswith(b"\n"):
                    break
                try:
                    found = _read_line(line)
                except jsonl.UNREADABLE:
                    # A crash tore a line, and the next process began its own after it.
                    continue
                if found.sent is not None:
                    open_[found.sent] = None
                elif found.unsent is not None:
                    open_.pop(found.unsent, None)
                elif found.custom_id is not None:
                    target.write(line)
                    answered.add(found.custom_id)
                    open_.pop(found.custom_id, None)
    return Doubts(len(answered), tuple(open_))


def error_line(custom_id: str, code: str, message: str, *, status: int | None = None) -> bytes:
    """Return the output line of a request without an answer, with its newline; ``status`` is that of a reply that is none."""
    response = None if status is None else {"status_code": status, "request_id": None, "body": None}
    error = {"code": code, "message": message}
    return jsonl.dumps({"id": None, "custom_id": custom_id, "response": response, "error": error}) + b"\n"


def answer_line(custom_id: str, *, status: int, request_id: str | None, body: bytes) -> bytes:
    """Return the output line of an answer or a refusal, with its newline. ``body`` is JSON; line breaks in it become blanks."""
    # Between the tokens of JSON a line break is a blank; within a string it is escaped.
    body = body.replace(b"\n", b" ").replace(b"\r", b" ")
    head = jsonl.dumps({"id": request_id, "custom_id": custom_id})[:-1]
    response = jsonl.dumps({"status_code": status, "request_id": request_id})[:-1]
    return b'%s,"response":%s,"body":%s},"error":null}\n' % (head, response, body)
