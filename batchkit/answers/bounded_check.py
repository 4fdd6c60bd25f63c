"""Checks whose code may do anything, in a process that is given up when it takes too long.

The code is that of the user's own model or function, or the check of a schema whose references multiply the work. It meets texts that a
stranger wrote: an endless loop, a crash, or all the memory concerns that one text only.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import weakref
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

from batchkit.answers import check_process
from batchkit.answers.importing import import_by_path
from batchkit.child_environment import environment_for_others
from batchkit.errors import ConfigurationError
from batchkit.files import jsonl

#: The parent's own bound, for a process whose alarms the checked code has switched off.
_GRACE_SECONDS: Final = 5.0
_PATIENT_TIMES: Final = 5
_SECONDS: Final = 5.0
#: After a few texts that took too long the next ones get less time: such code does so often.
_SECONDS_LATER: Final = 1.0
Kind = Literal["model", "pickled", "function", "schema"]
_PROGRAM: Final = "from batchkit.answers.check_process import main; main()"


class CheckEnded(Exception):
    """The text was rejected, or its check was given up; the message says why.

    ``trace`` is the traceback of an error that the user's code raised, None without one.
    """

    def __init__(self, message: str, trace: str | None = None) -> None:
        super().__init__(message)
        self.trace = trace


class BoundedCheck:
    """A check in a process of its own, which is started again after it ended. Several threads may use it.

    The process knows no secret, and ends with this one. ``seconds`` is the limit of processor time for one text, by default 5, and
    a fifth of it after a few overruns; a text may wait three times as long. Raises ``ConfigurationError`` if the check cannot be made there.
    """

    def __init__(self, kind: Kind, content: bytes, *, seconds: float | None = None) -> None:
        self._seconds = seconds
        self._order = kind.encode() + b" " + content
        self._lock = threading.Lock()
        self._overruns = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        #: The JSON Schema of the values that the check returns; of a model only.
        self.schema: dict[str, Any] = {}
        self._start()

    @classmethod
    def of_schema(cls, schema: dict[str, Any]) -> BoundedCheck:
        """Return the check of documents by a JSON Schema; its values are nothing."""
        return cls("schema", jsonl.dumps(schema))

    def check(self, text: bytes) -> Any:
        """Return the value of a text. Raises ``CheckEnded``."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                # It ended between two texts, by none of them.
                self.close()
                self._start()
            verdict, content = self._asked(text)
        if verdict != check_process.ACCEPTED:
            message, _, trace = content.decode(errors="replace").partition("\0")
            raise CheckEnded(message, trace or None)
        return jsonl.loads_exactly(content) if content else None

    def _asked(self, text: bytes) -> tuple[bytes, bytes]:
        usual, later = (_SECONDS, _SECONDS_LATER) if self._seconds is None else (self._seconds, self._seconds / 5)
        seconds = usual if self._overruns < _PATIENT_TIMES else later
        connection = self._socket
        if connection is None:
            raise RuntimeError("the process of a check is not there")
        try:
            connection.settimeout(seconds * check_process.WALL_FACTOR + _GRACE_SECONDS)
            check_process.send(connection, struct.pack("!d", seconds) + text)
            reply = check_process.receive(connection)
        except TimeoutError:
            reply = None
        except OSError:
            reply = b""
        if reply:
            return reply[:1], reply[1:]
        return check_process.REJECTED, self._post_mortem(seconds, is_stuck=reply is None)

    def _post_mortem(self, seconds: float, *, is_stuck: bool) -> bytes:
        """End what is left of the process, and return why there is no verdict."""
        process = self._process
        self.close()
        code = None if process is None else process.returncode
        if is_stuck or code in {-signal.SIGALRM, -signal.SIGPROF}:
            self._overruns += 1
            return f"the check took longer than {seconds:g} s".encode()
        how = signal.Signals(-code).name if code is not None and -code in set(signal.Signals) else f"exit code {code}"
        return f"the check ended its process ({how})".encode()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-c", _PROGRAM, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # Ctrl-C must not reach it: it ends when its socket does.
                process_group=0,
                env={**environment_for_others(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        except OSError as error:
            ours.close()
            raise ConfigurationError(f"the process that checks answers cannot be started: {error}") from error
        finally:
            theirs.close()
        self._process, self._socket = process, ours
        # Nobody closes a check that a cache or a workload holds: its process ends with the object, at the latest with Python.
        self._finalizer = weakref.finalize(self, _end, process, ours)
        check_process.send(ours, self._order)
        reply = check_process.receive(ours) or b"the process that checks answers ended at once"
        if reply[:1] != check_process.ACCEPTED:
            self.close()
            raise ConfigurationError(
                reply.removeprefix(check_process.REJECTED).decode(errors="replace"),
                hint="run the command in the folder where the module is, or install the module; workers need it too",
            )
        self.schema = jsonl.loads(reply[1:]) if len(reply) > 1 else {}

    def close(self) -> None:
        """End the process; a further check starts another."""
        self._finalizer()
        self._process = self._socket = None


def check_by_model(path: str) -> BoundedCheck:
    """Return the check of JSON texts by a type that pydantic knows, named by its import path; its values are what the type makes.

    There is one for each type and working directory, because its process takes a while to start.
    """
    if not path.startswith("__main__:"):
        return _kept("model", path.encode(), str(Path.cwd()))
    return _kept("pickled", _pickled(path, "model"), str(Path.cwd()))


def check_by_function(path: str, *, seconds: float, types: tuple[type, ...] = ()) -> BoundedCheck:
    """Return the check of pairs of a row and an answer by a function of the user's, named by its import path; see ``functions.check_of``.

    ``types`` are those of the pairs: their modules are loaded before the time of the first pair begins. Each check has a process
    of its own, so that a changed function is imported again.
    """
    content = None if not path.startswith("__main__:") else _pickled(path, "function")
    return BoundedCheck("function", pickle.dumps((path, content, types)), seconds=seconds)


def _pickled(path: str, what: str) -> bytes:
    """Return what a script or a notebook defines itself: no other process can import it."""
    import cloudpickle  # noqa: PLC0415 - only for such objects

    found = import_by_path(path)
    try:
        content: bytes = cloudpickle.dumps(found)
    except Exception as error:  # a type may define its own pickling
        raise ConfigurationError(
            f"{path} cannot be sent to the process that checks answers: {type(error).__name__}: {error}",
            hint=f"define the {what} in a module of its own",
        ) from error
    return content


# The cache keeps the processes of these checks; a check that it drops ends its process by its finalizer. The folder is part of the
# key because a model's module may be imported from it.
@lru_cache(maxsize=8)
def _kept(kind: Literal["model", "pickled"], content: bytes, _folder: str) -> BoundedCheck:
    return BoundedCheck(kind, content)


def _end(process: subprocess.Popen[bytes], connection: socket.socket) -> None:
    connection.close()
    if process.poll() is None:
        process.kill()
    process.wait()
