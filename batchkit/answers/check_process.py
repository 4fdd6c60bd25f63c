"""The process of a ``BoundedCheck``; its argument is the number of its socket.

The first message names the check, each further one is a time limit and a text; each gets one reply. A message begins with its
length. The system ends this process when a text takes longer than its limit, and the process ends when its parent does.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
import traceback
from typing import TYPE_CHECKING, Final

from batchkit.answers.reasons import InvalidAnswer
from batchkit.errors import BatchkitError

if TYPE_CHECKING:
    from collections.abc import Callable

#: The first byte of a reply. What follows a failure's message is a zero byte and the traceback of the user's code.
ACCEPTED, REJECTED, FAILED = b"+", b"-", b"!"
#: A check may wait that many times its limit of processor time.
WALL_FACTOR: Final = 3.0
_LENGTH: Final = struct.Struct("!Q")
_LIMIT: Final = struct.Struct("!d")
_MORE_MEMORY: Final = 2 << 30
_MAX_MESSAGE_CHARS: Final = 500
_TRACED_CALLS: Final = -20
_MAX_TRACE_CHARS: Final = 5_000


def send(connection: socket.socket, data: bytes) -> None:
    """Write one message. Raises ``OSError``."""
    connection.sendall(_LENGTH.pack(len(data)) + data)


def receive(connection: socket.socket) -> bytes:
    """Read one message; empty when the other side is gone. Raises ``OSError``."""
    head = _exactly(connection, _LENGTH.size)
    return _exactly(connection, *_LENGTH.unpack(head)) if head else b""


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(min(size - len(data), 1 << 20))
        if not piece:
            return b""
        data += piece
    return bytes(data)


def main() -> None:
    """Make the check, then check texts until the parent is gone."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    kind, _, content = receive(connection).partition(b" ")
    try:
        check, schema = _made(kind, content)
    except BaseException as error:  # noqa: BLE001 - the user's module may raise anything
        send(connection, REJECTED + _described(error))
        return
    _limit_memory()
    send(connection, ACCEPTED + schema)
    while message := receive(connection):
        (seconds,) = _LIMIT.unpack(message[: _LIMIT.size])
        send(connection, _reply(check, seconds, message[_LIMIT.size :]))


def _made(kind: bytes, content: bytes) -> tuple[Callable[[bytes], bytes], bytes]:
    """Return a check, and the schema of its values."""
    # Each kind loads what it needs: the libraries of the others take longer to load than Python takes to start.
    if kind == b"schema":
        from batchkit.answers import schemas  # noqa: PLC0415 - as above

        return schemas.check_of(content), b""
    if kind == b"function":
        from batchkit.answers import functions  # noqa: PLC0415 - as above

        return functions.check_of(functions.loaded(content)), b""
    from batchkit.answers import models  # noqa: PLC0415 - as above

    return models.check_of(models.imported(content.decode()) if kind == b"model" else models.unpickled(content))


def _reply(check: Callable[[bytes], bytes], seconds: float, text: bytes) -> bytes:
    # The default action of both alarms ends the process, whatever it is doing.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, seconds * WALL_FACTOR)
    try:
        return ACCEPTED + check(text)
    except InvalidAnswer as error:
        return REJECTED + _described(error)
    except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
        trace = "".join(traceback.format_exception(error, limit=_TRACED_CALLS))[-_MAX_TRACE_CHARS:]
        return FAILED + _described(error) + b"\0" + trace.encode("utf-8", "replace")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _described(error: BaseException) -> bytes:
    """Return the words of an error, with its type unless it is one of ours."""
    try:
        words = str(error)
    except BaseException:  # noqa: BLE001 - as above
        words = ""
    text = words if isinstance(error, (InvalidAnswer, BatchkitError)) else f"{type(error).__name__}: {words}"
    return text[:_MAX_MESSAGE_CHARS].encode("utf-8", "replace")


def _limit_memory() -> None:
    """Allow some gigabytes beyond what the imports took, where the system can say and limit it."""
    if sys.platform == "linux":
        import resource  # noqa: PLC0415 - not everywhere

        import psutil  # noqa: PLC0415 - as above

        used = psutil.Process(os.getpid()).memory_info().data
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        wanted = used + _MORE_MEMORY
        resource.setrlimit(
            resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
