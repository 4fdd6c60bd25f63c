"""Who a runner is, and whether another one on this machine is still alive.

A lease outlives its holder by up to its length. On the same machine that wait is not needed: the name of an owner says
which process it is, and a process that is gone holds nothing.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_FIELDS = 5
_START_TIME_FIELD = 19  # of /proc/PID/stat, counted behind the command's closing bracket (proc(5): starttime)


def _start_time(pid: int) -> str | None:
    """When a process started, in the kernel's ticks: with the pid it names a process for good. None when unknown."""
    try:
        # Between the brackets stands whatever bytes the command calls itself.
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return stat.rpartition(b")")[2].split()[_START_TIME_FIELD].decode()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _place() -> str:
    """This run of this machine, and its process namespace.

    Host names repeat, and so do the numbers of namespaces; the boot id does not. Containers on one machine share it, but
    not their process numbers.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        return f"{socket.gethostname()}|-"
    return f"{socket.gethostname()}|{boot}/{namespace}"


def new_owner() -> str:
    """Make the name of a new owner: host, its boot and process namespace, process, its start, and a random part."""
    pid = os.getpid()
    return f"{_place()}|{pid}|{_start_time(pid) or '-'}|{uuid.uuid4().hex[:12]}"


def is_certainly_dead(owner: str) -> bool:
    """Whether the owner was a process of this machine that exists no longer. When in doubt: no."""
    parts = owner.split("|")
    if len(parts) != _FIELDS or "|".join(parts[:2]) != _place() or parts[1] == "-" or parts[3] == "-":
        return False
    if not parts[2].isdecimal():
        return False
    started = _start_time(int(parts[2]))
    # Where /proc hides the processes of other users, not to be seen is not to be dead.
    return started != parts[3] if started is not None else not _exists(int(parts[2]))


def described(owner: str) -> str:
    """Name an owner for a person: ``HOST (process N)``."""
    host, _, *rest = owner.split("|")
    return f"{host} (process {rest[0]})" if rest else host


def dead_among(owners: Iterable[str]) -> list[str]:
    """Pick the owners that are certainly dead."""
    return [owner for owner in owners if is_certainly_dead(owner)]


class LeaseKeeper:
    """A thread that calls ``renew`` every ``interval_seconds`` until closed. An error of one call is left to the next."""

    def __init__(self, renew: Callable[[], None], interval_seconds: float) -> None:
        self._renew = renew
        self._interval_seconds = interval_seconds
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="batchkit-leases", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.wait(self._interval_seconds):
            try:
                self._renew()
            except Exception:  # noqa: BLE001, S112 - a lease that could not be renewed is found out by the next guarded write
                continue

    def close(self) -> None:
        """Stop renewing."""
        self._closing.set()
        self._thread.join()
