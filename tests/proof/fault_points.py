"""Fault points: the points before, within and after each external effect of a batchkit process, found by instrumentation.

An effect is a commit, a call to the provider, or a change of a file. Some effects have a point in their middle: half of a write has
reached the file, or a request is sent and not answered. A point is identified by its label and by how often the label was
passed, so that it is found again in another process although threads and polls run in another order. The instrumentation is
installed in the process in which the fault is injected.
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
from batchkit.provider.calls import CallClient
from tests.processes import path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PACKAGE = str(Path(batchkit.__file__).parent)
_PLUMBING = ("/store/engine.py", "/provider/http.py", "/provider/retry.py", "/provider/connections.py")
_KEYS = re.compile(r"[0-9a-f]{8,32}")
_REMOTE_IDS = re.compile(r"(batch|file)[-_][A-Za-z0-9_-]+")
_NEW_FILE = os.O_CREAT | os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True, order=True)
class FaultPoint:
    """The ``nth`` time (from 1) that a process passes ``label``, which names the effect, its place, and before or after."""

    label: str
    nth: int

    @property
    def kind(self) -> str:
        """Return the kind of effect: commit, call or file."""
        return self.label.partition(" ")[0]

    def __str__(self) -> str:
        return f"{self.label} #{self.nth}"


class InjectionKind(StrEnum):
    """The fault that is injected into a process: SIGKILL, SIGSTOP, or an unexpected error."""

    DEATH = "death"
    STOP = "stop"
    ERROR = "error"


class InjectedError(RuntimeError):
    """An error that no code handles, raised at a fault point."""


class FaultInjector:
    """Counts the fault points that the process passes, and injects a fault of ``kind`` at one of them.

    ``at`` is a point, or the number (from 1) of any point in the order in which they are passed; None only counts.
    """

    def __init__(self, folder: Path, at: FaultPoint | int | None, kind: InjectionKind = InjectionKind.DEATH) -> None:
        self._folder = str(folder)
        self._at = at
        self._kind = kind
        self._lock = threading.RLock()
        self._passed: Counter[str] = Counter()
        self.trace: list[FaultPoint] = []

    def reach(self, label: str) -> None:
        """Count a point, and inject the fault if it belongs there. Raises ``InjectedError``."""
        with self._lock:
            self._passed[label] += 1
            point = FaultPoint(label, self._passed[label])
            self.trace.append(point)
            if self._at not in (point, len(self.trace)):
                return
            if self._kind is InjectionKind.ERROR:
                raise InjectedError(f"raised at {point}")
            os.kill(os.getpid(), signal.SIGSTOP if self._kind is InjectionKind.STOP else signal.SIGKILL)

    def around(self, label: str, effect: Callable[[], Any]) -> Any:
        """Run an effect between its two points."""
        self.reach(f"{label}, before")
        result = effect()
        self.reach(f"{label}, after")
        return result

    def is_ours(self, path: Any) -> bool:
        """Return whether a path is in the command's folder."""
        text = _path_of(path)
        return text is not None and text.startswith(self._folder)

    def name_of(self, path: Any) -> str:
        """Return a file's relative path, with the random parts replaced by ``*``."""
        return _KEYS.sub("*", os.path.relpath(_path_of(path) or "", self._folder))


def install(injector: FaultInjector) -> None:
    """Instrument the commits, calls and file changes of this process."""
    _instrument_commits(injector)
    _instrument_calls(injector)
    _instrument_single_calls(injector)
    _instrument_files(injector)


def _instrument_commits(injector: FaultInjector) -> None:
    commit = Connection._commit_impl

    def commit_impl(connection: Connection) -> None:
        if connection.get_execution_options().get("batchkit_writes"):
            injector.around(f"commit in {_place()}", lambda: commit(connection))
        else:
            commit(connection)

    Connection._commit_impl = commit_impl  # type: ignore[assignment,method-assign] # every commit is a fault point


def _place() -> str:
    """Return the function of batchkit that causes the effect, without the modules that all effects pass through."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_PACKAGE) and not file.endswith(_PLUMBING) and frame.f_code.co_name != "__exit__":
            return f"{file[len(_PACKAGE) + 1 : -3]}.{frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment] # None ends the loop
    return "elsewhere"


def _instrument_single_calls(injector: FaultInjector) -> None:
    call = CallClient.call

    def around_call(client: CallClient, path: str, body: Any, **more: Any) -> Any:
        return injector.around(f"call POST {path}, single", lambda: call(client, path, body, **more))

    CallClient.call = around_call  # type: ignore[assignment,method-assign] # every call is a fault point


def _instrument_calls(injector: FaultInjector) -> None:
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
                injector.reach(point)

        injector.reach(f"{label}, before")
        request.extensions = {**request.extensions, "trace": trace}
        if isinstance(request.stream, httpx.SyncByteStream):
            request.stream = _InstrumentedBody(request.stream, injector, label)
        return handle(transport, request)

    httpx.HTTPTransport.handle_request = handle_request  # type: ignore[assignment,method-assign] # every call is a fault point


class _InstrumentedBody(httpx.SyncByteStream):
    """A request's body with a fault point in its middle, if it is sent in pieces."""

    def __init__(self, body: httpx.SyncByteStream, injector: FaultInjector, label: str) -> None:
        self._body = body
        self._injector = injector
        self._label = label

    def __iter__(self) -> Iterator[bytes]:
        for number, piece in enumerate(self._body):
            if number == 1:
                self._injector.reach(f"{self._label}, half sent")
            yield piece

    def close(self) -> None:
        self._body.close()


class _InstrumentedFile(io.FileIO):
    """A file with a fault point in the middle of each write."""

    injector: FaultInjector
    label: str

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        half = len(view) // 2
        self.injector.reach(f"{self.label}, before")
        written = super().write(view[:half]) if half else 0
        if written == half:
            self.injector.reach(f"{self.label}, half written")
            written += super().write(view[half:])
        self.injector.reach(f"{self.label}, after")
        return written


def _path_of(path: Any) -> str | None:
    if isinstance(path, int):
        return path_of(path)
    return os.path.abspath(os.fspath(path)) if isinstance(path, (str, os.PathLike)) else None  # noqa: PTH100 - no file is touched


def _instrument_files(injector: FaultInjector) -> None:
    _instrument_writes(injector)

    def wrap(name: str) -> None:
        effect = getattr(os, name)

        def instrumented(path: Any, *arguments: Any, **options: Any) -> Any:
            if not injector.is_ours(path) or (name == "mkdir" and os.path.exists(path)):  # noqa: PTH110 - Path.exists would call this function
                return effect(path, *arguments, **options)
            return injector.around(f"file {name} {injector.name_of(path)}", lambda: effect(path, *arguments, **options))

        setattr(os, name, instrumented)

    for name in ("fsync", "replace", "rename", "unlink", "remove", "mkdir", "rmdir", "truncate", "link"):
        wrap(name)
    create = os.open

    def os_open(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if not flags & _NEW_FILE or not injector.is_ours(path) or (flags & os.O_EXCL and os.path.exists(path)):  # noqa: PTH110 - Path.exists would call this function
            return create(path, flags, *arguments, **options)
        label = f"file create {injector.name_of(path)}"
        return int(injector.around(label, lambda: create(path, flags, *arguments, **options)))

    os.open = os_open


def _instrument_writes(injector: FaultInjector) -> None:
    open_file = io.open

    def instrumented_open(file: Any, mode: str = "r", buffering: int = -1, *arguments: Any, **options: Any) -> Any:
        if mode not in {"wb", "xb"} or not injector.is_ours(file):
            return open_file(file, mode, buffering, *arguments, **options)
        if not isinstance(file, int):
            injector.reach(f"file create {injector.name_of(file)}, before")
        raw = _InstrumentedFile(file, mode)
        raw.injector = injector
        raw.label = f"file write {injector.name_of(file)}"
        if not isinstance(file, int):
            injector.reach(f"file create {injector.name_of(file)}, after")
        return io.BufferedWriter(raw, buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE)

    io.open = instrumented_open
