"""Names of owners, and whether an owner on this machine is still alive.

A lease may outlive its holder by up to its length. On the same machine nobody has to wait for that: the name of an owner
identifies its process, and a dead process holds nothing.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import secrets
import socket
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_FIELDS = 5
_UNKNOWN = "-"
_WRITER = re.compile(r"(?P<place>[0-9a-f]{12})_(?P<pid>[0-9]+)_(?P<started>[0-9]+)_[0-9a-f]{8}")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PROCESS_NAMESPACE = Path("/proc/self/ns/pid")
_SYSCTL = "/usr/sbin/sysctl"
_SYSCTL_SECONDS = 5.0
_HUNDREDTHS = 100


def _start_time(pid: int) -> str | None:
    """Return when a process started, in hundredths of a second; with the pid it identifies one process. None when unknown.

    Counted from the boot on Linux (the kernel's ticks), and from 1970 elsewhere.
    """
    import psutil  # noqa: PLC0415 - a status without a running process does not need it

    try:
        # The public create_time() changes when the system's clock is set, so that a living owner would seem to be another process.
        started = psutil.Process(pid)._ident[1]  # noqa: SLF001 - as said
    except (psutil.Error, OSError):
        return None
    return None if started is None else str(round(started * _HUNDREDTHS))


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _place() -> str:
    """Return the host's name with the id of its boot and its process namespace, ``-`` when these are unknown.

    Host names and numbers of namespaces repeat; the id of a boot does not. Containers on one machine share the boot, but not
    their process numbers.
    """
    return f"{socket.gethostname()}|{_boot_of_linux() or _boot_of_macos() or _UNKNOWN}"


def _boot_of_linux() -> str | None:
    try:
        return f"{_BOOT_ID.read_text().strip()}/{_PROCESS_NAMESPACE.readlink().name}"
    except OSError:
        return None


@functools.cache
def _boot_of_macos() -> str | None:
    command = [_SYSCTL, "-n", "kern.bootsessionuuid"]
    try:
        told = subprocess.run(  # noqa: S603 - nothing of it comes from outside
            command, stdin=subprocess.DEVNULL, capture_output=True, check=True, text=True, timeout=_SYSCTL_SECONDS
        )
        return str(uuid.UUID(told.stdout.strip()))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def new_owner() -> str:
    """Return the name of a new owner: host, its boot and process namespace, process, its start, and a random part."""
    pid = os.getpid()
    return f"{_place()}|{pid}|{_start_time(pid) or _UNKNOWN}|{uuid.uuid4().hex[:12]}"


def is_certainly_dead(owner: str) -> bool:
    """Whether the owner was a process of this machine that no longer exists. When in doubt: no."""
    parts = owner.split("|")
    if len(parts) != _FIELDS or "|".join(parts[:2]) != _place() or _UNKNOWN in {parts[1], parts[3]}:
        return False
    return parts[2].isdecimal() and _has_ended(int(parts[2]), parts[3])


def _has_ended(pid: int, started: str) -> bool:
    now = _start_time(pid)
    # The system may hide the processes of other users: a hidden process may be alive.
    return now != started if now is not None else not _exists(pid)


def new_writer() -> str:
    """Return a name for one writer of this process: at most 48 lower-case letters, digits and ``_``, for files and tables."""
    pid = os.getpid()
    return f"{_place_digest()}_{pid}_{_start_time(pid) or 0}_{secrets.token_hex(4)}"


def is_writer_dead(writer: str) -> bool:
    """Whether a name of ``new_writer`` belongs to a process of this machine that no longer exists. When in doubt: no."""
    parts = _WRITER.fullmatch(writer)
    if parts is None or parts["place"] != _place_digest() or parts["started"] == "0" or _place().endswith(_UNKNOWN):
        return False
    return _has_ended(int(parts["pid"]), parts["started"])


def _place_digest() -> str:
    return hashlib.sha256(_place().encode()).hexdigest()[:12]


def described(owner: str) -> str:
    """Return an owner's name for people: ``HOST (process N)``."""
    host, _, *rest = owner.split("|")
    return f"{host} (process {rest[0]})" if rest else host


def dead_among(owners: Iterable[str]) -> list[str]:
    """Return the owners that are certainly dead."""
    return [owner for owner in owners if is_certainly_dead(owner)]
