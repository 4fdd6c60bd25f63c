"""Facts about processes, on Linux and macOS."""

from __future__ import annotations

import fcntl
import os
import resource
import sys
from pathlib import Path

import psutil

#: The unit of ``ru_maxrss`` (getrusage(2) of each system).
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024
_LONGEST_PATH_BYTES = 1024


def is_running(pid: int) -> bool:
    """Return whether a process with this id exists and is not a zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped by SIGSTOP."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False


def has_argument(pid: int, argument: str) -> bool:
    """Return whether a process was started with an argument that contains this text."""
    try:
        return any(argument in word for word in psutil.Process(pid).cmdline())
    except psutil.Error:
        return False


def path_of(descriptor: int) -> str:
    """Return the path of an open file of this process."""
    if hasattr(fcntl, "F_GETPATH"):
        return os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(_LONGEST_PATH_BYTES)).rstrip(b"\0"))
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def own_peak_bytes() -> int:
    """Return the peak memory of this process; on Linux, if higher, that of the process that forked it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES


def peak_bytes(pid: int | None = None) -> int:
    """Return the peak memory of a process without that of its parent; None is this process.

    Except on Linux, return the current memory of another process. Raises ``psutil.NoSuchProcess``.
    """
    number = os.getpid() if pid is None else pid
    try:
        lines = Path(f"/proc/{number}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    except (OSError, StopIteration):
        return own_peak_bytes() if pid is None else memory_bytes(number)


def memory_bytes(pid: int | None = None) -> int:
    """Return the current memory of a process; None is this process. Raises ``psutil.NoSuchProcess``."""
    return int(psutil.Process(pid).memory_info().rss)
