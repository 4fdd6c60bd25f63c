"""A Prefect server for one command: started if none is configured, and always ended with the command.

Three things end it: ``stop``; its standard input, which closes when this process dies in any way; and the next start, which
reads the records of earlier servers. A record identifies the process by a random token in its command line, so that another
process with the same id is never touched.
"""

from __future__ import annotations

import contextlib
import http.client
import select
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from batchkit.child_environment import environment_for_others
from batchkit.files.spool import make_private_folder
from batchkit.owners import is_certainly_dead, new_owner

if TYPE_CHECKING:
    from collections.abc import Callable

_FOLDER = "prefect-servers"
_SCRIPT = Path(__file__).with_name("_temporary_server.py")
_PORT_WITHIN_SECONDS = 15.0
_PROBE_SECONDS = 2.0
_PROBE_EVERY_SECONDS = 0.2
# The server only records runs and does not need these.
_WITHHELD = ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE")


class TemporaryServerFailed(Exception):
    """The server did not start; the message says why."""


class TemporaryServer:
    """A Prefect API server in a child process. Use ``start``."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, record: Path) -> None:
        self._process = process
        self._port = port
        self._record = record
        self._ready = False

    @classmethod
    def start(cls, home: Path) -> TemporaryServer:
        """Start a server and return at once; it answers after 5 to 15 seconds. Raises ``TemporaryServerFailed``.

        Its record is stored under ``home``. Ends leftovers of earlier servers there.
        """
        end_leftovers(home)
        token = uuid.uuid4().hex
        kept = {name: value for name, value in environment_for_others().items() if name not in _WITHHELD}
        try:
            record = home / _FOLDER / token
            make_private_folder(record.parent)
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and file
                # -P: a folder of the user must not replace a module.
                [sys.executable, "-P", str(_SCRIPT), token],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=kept,
                # The terminal's Ctrl-C must not end the server, which still records the end of the run.
                start_new_session=True,
            )
            record.touch(mode=0o600)
            record.write_text(f"{process.pid}\n{new_owner()}\n")
        except OSError as error:
            raise TemporaryServerFailed(str(error)) from error
        server = cls(process, 0, record)
        server._port = server._read_port()
        return server

    @property
    def api_url(self) -> str:
        """Return the address of its API."""
        return f"http://127.0.0.1:{self._port}/api"

    @property
    def is_running(self) -> bool:
        """Return whether the process is running."""
        return self._process.poll() is None

    def wait_until_ready(self, within_seconds: float, *, sleep: Callable[[float], object]) -> None:
        """Wait until it answers. Raises ``TemporaryServerFailed`` if it ends or does not answer in time."""
        deadline = time.monotonic() + within_seconds
        while not answers(self._port):
            if not self.is_running:
                raise TemporaryServerFailed(f"it ended with code {self._process.returncode}")
            if time.monotonic() >= deadline:
                raise TemporaryServerFailed(f"no answer within {within_seconds:.0f} s")
            sleep(_PROBE_EVERY_SECONDS)
        self._ready = True

    def stop(self, within_seconds: float) -> None:
        """End it, gently for up to ``within_seconds`` if it is ready, and delete its record."""
        # It is killed below in any case.
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._ready and within_seconds > 0:
                self._process.terminate()
                self._process.wait(within_seconds)
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._record.unlink(missing_ok=True)

    def _read_port(self) -> int:
        stdout = self._process.stdout
        if stdout is not None and select.select([stdout], [], [], _PORT_WITHIN_SECONDS)[0]:
            line = stdout.readline().strip()
            if line.isdigit():
                return int(line)
        self.stop(0)
        raise TemporaryServerFailed("it could not open a port")


def answers(port: int) -> bool:
    """Return whether a Prefect API on this port of the loopback reports that it is healthy."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def end_leftovers(home: Path) -> int:
    """End the servers of this machine whose commands died without ending them; return their number.

    Never touches a server whose command may still run, nor any process that is not certainly such a server.
    """
    ended = 0
    # Without the folder there was never a server; one that cannot be read must not stop a run.
    with contextlib.suppress(OSError):
        for record in (home / _FOLDER).iterdir():
            try:
                pid, owner = record.read_text().splitlines()
                if is_certainly_dead(owner):
                    ended += _kill_if_ours(int(pid), record.name)
                    record.unlink(missing_ok=True)
            except (OSError, ValueError):
                continue  # another command is writing or removing it, or it is not a record
    return ended


def _kill_if_ours(pid: int, token: str) -> bool:
    try:
        # From here on psutil distinguishes this process by its start time from another one with the same id.
        server = psutil.Process(pid)
        if token not in server.cmdline():
            return False
        server.kill()
    except psutil.Error:
        return False
    # Wait until it is gone, so that a later check finds no leftover.
    with contextlib.suppress(psutil.TimeoutExpired):
        server.wait(_PROBE_SECONDS)
    return True
