"""Crash points: every effect that a process of batchkit has on the world outside, found by looking over its shoulder.

Installed in the process that is going to die, to be stopped or to meet an error. An effect is a commit, a call of the provider, or a change of a file; there is a
point before it and one after it, and in the middle where it has a middle (a write of which half has reached the file, a request
that is sent and not answered). A point is named by what it is and where the code stands, and counted, so that the n-th passage of
one place is found again in another process although threads and polls come in another order.
"""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from sqlalchemy.engine import Connection

import batchkit
from tests.processes import path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PACKAGE = str(Path(batchkit.__file__).parent)
_PLUMBING = ("/store/engine.py", "/provider/http.py", "/provider/retry.py", "/provider/connections.py")
_KEYS = re.compile(r"[0-9a-f]{8,32}")
_REMOTE_IDS = re.compile(r"(batch|file)[-_][A-Za-z0-9_-]+")
_NEW_FILE = os.O_CREAT | os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True, order=True)
class Point:
    """The ``nth`` passage (from 1) of a place, ``label``: what happens, where, and at which side of it."""

    label: str
    nth: int

    @property
    def kind(self) -> str:
        """What kind of effect it is: commit, call or file."""
        return self.label.partition(" ")[0]

    def __str__(self) -> str:
        return f"{self.label} #{self.nth}"


class Harm(StrEnum):
    """What happens to a process at a point."""

    DEATH = "death"
    STOP = "stop"
    ERROR = "error"


class Unforeseen(RuntimeError):
    """An error that no code expects, raised at a point."""


class Watch:
    """Counts the points as they are passed, and does ``harm`` at the one that is given: SIGKILL, SIGSTOP, or an error raised there.

    ``at`` is a point, or the number (from 1) of a passage, whatever it is; None only counts.
    """

    def __init__(self, folder: Path, at: Point | int | None, harm: Harm = Harm.DEATH) -> None:
        self._folder = str(folder)
        self._at = at
        self._harm = harm
        self._lock = threading.RLock()
        self._passed: Counter[str] = Counter()
        self.trace: list[Point] = []

    def reach(self, label: str) -> None:
        """Pass a point, or come to harm there. Raises ``Unforeseen``."""
        with self._lock:
            self._passed[label] += 1
            point = Point(label, self._passed[label])
            self.trace.append(point)
            if self._at not in (point, len(self.trace)):
                return
            if self._harm is Harm.ERROR:
                raise Unforeseen(f"raised at {point}")
            os.kill(os.getpid(), signal.SIGSTOP if self._harm is Harm.STOP else signal.SIGKILL)

    def around(self, label: str, effect: Callable[[], Any]) -> Any:
        """Pass the points before and after an effect."""
        self.reach(f"{label}, before")
        result = effect()
        self.reach(f"{label}, after")
        return result

    def is_ours(self, path: Any) -> bool:
        """Whether a path lies where the command works."""
        text = _path_of(path)
        return text is not None and text.startswith(self._folder)

    def name_of(self, path: Any) -> str:
        """Name a file without what is new in every run."""
        return _KEYS.sub("*", os.path.relpath(_path_of(path) or "", self._folder))


def install(watch: Watch) -> None:
    """Look over the shoulder of everything in this process, from now on."""
    _watch_commits(watch)
    _watch_calls(watch)
    _watch_files(watch)


def _watch_commits(watch: Watch) -> None:
    commit = Connection._commit_impl

    def commit_impl(connection: Connection) -> None:
        if connection.get_execution_options().get("batchkit_writes"):
            watch.around(f"commit in {_place()}", lambda: commit(connection))
        else:
            commit(connection)

    Connection._commit_impl = commit_impl  # type: ignore[assignment,method-assign]


def _place() -> str:
    """Name the function of batchkit that is at work, past the plumbing that all of them go through."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_PACKAGE) and not file.endswith(_PLUMBING) and frame.f_code.co_name != "__exit__":
            return f"{file[len(_PACKAGE) + 1 : -3]}.{frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


def _watch_calls(watch: Watch) -> None:
    handle = httpx.HTTPTransport.handle_request

    def handle_request(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        label = f"call {request.method} {_REMOTE_IDS.sub('*', request.url.path.rpartition('/v1')[2])}"
        parts = {
            "send_request_body.complete": f"{label}, sent",
            "receive_response_headers.complete": f"{label}, answer begun",
            "receive_response_body.complete": f"{label}, answer read",
        }

        inner = request.extensions.get("trace")

        def trace(name: str, info: dict[str, Any]) -> None:
            if inner is not None:
                inner(name, info)
            point = parts.get(name.partition(".")[2])
            if point is not None:
                watch.reach(point)

        watch.reach(f"{label}, before")
        request.extensions = {**request.extensions, "trace": trace}
        if isinstance(request.stream, httpx.SyncByteStream):
            request.stream = _WatchedBody(request.stream, watch, label)
        return handle(transport, request)

    httpx.HTTPTransport.handle_request = handle_request  # type: ignore[assignment,method-assign]


class _WatchedBody(httpx.SyncByteStream):
    """A request's body, with a point in the middle of one that is sent in pieces."""

    def __init__(self, body: httpx.SyncByteStream, watch: Watch, label: str) -> None:
        self._body = body
        self._watch = watch
        self._label = label

    def __iter__(self) -> Iterator[bytes]:
        for number, piece in enumerate(self._body):
            if number == 1:
                self._watch.reach(f"{self._label}, half sent")
            yield piece

    def close(self) -> None:
        self._body.close()


class _WatchedFile(io.FileIO):
    """A file whose writes have a middle."""

    watch: Watch
    label: str

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        half = len(view) // 2
        self.watch.reach(f"{self.label}, before")
        written = super().write(view[:half]) if half else 0
        if written == half:
            self.watch.reach(f"{self.label}, half written")
            written += super().write(view[half:])
        self.watch.reach(f"{self.label}, after")
        return written


def _path_of(path: Any) -> str | None:
    if isinstance(path, int):
        return path_of(path)
    return os.path.abspath(os.fspath(path)) if isinstance(path, (str, os.PathLike)) else None  # noqa: PTH100 - no file is touched


def _watch_files(watch: Watch) -> None:
    _watch_writes(watch)

    def wrap(name: str) -> None:
        effect = getattr(os, name)

        def watched(path: Any, *arguments: Any, **options: Any) -> Any:
            if not watch.is_ours(path) or (name == "mkdir" and os.path.exists(path)):  # noqa: PTH110 - Path would come back here
                return effect(path, *arguments, **options)
            return watch.around(f"file {name} {watch.name_of(path)}", lambda: effect(path, *arguments, **options))

        setattr(os, name, watched)

    for name in ("fsync", "replace", "rename", "unlink", "remove", "mkdir", "rmdir", "truncate", "link"):
        wrap(name)
    create = os.open

    def os_open(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if not flags & _NEW_FILE or not watch.is_ours(path) or (flags & os.O_EXCL and os.path.exists(path)):  # noqa: PTH110 - Path would come back here
            return create(path, flags, *arguments, **options)
        label = f"file create {watch.name_of(path)}"
        return int(watch.around(label, lambda: create(path, flags, *arguments, **options)))

    os.open = os_open


def _watch_writes(watch: Watch) -> None:
    open_file = io.open

    def watched_open(file: Any, mode: str = "r", buffering: int = -1, *arguments: Any, **options: Any) -> Any:
        if mode not in {"wb", "xb"} or not watch.is_ours(file):
            return open_file(file, mode, buffering, *arguments, **options)
        if not isinstance(file, int):
            watch.reach(f"file create {watch.name_of(file)}, before")
        raw = _WatchedFile(file, mode)
        raw.watch = watch
        raw.label = f"file write {watch.name_of(file)}"
        if not isinstance(file, int):
            watch.reach(f"file create {watch.name_of(file)}, after")
        return io.BufferedWriter(raw, buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE)

    io.open = watched_open
