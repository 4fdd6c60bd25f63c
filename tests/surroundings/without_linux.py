"""Simulates, on Linux, a system without features that only Linux has; imported at the start of every process of a command.

It runs as ``sitecustomize``, before all other imports, so that libraries which test for features choose as on macOS.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import selectors
import signal
import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

#: Names that CPython has on Linux and not on macOS, by module; AF_PACKET stays, because psutil's Linux code needs it.
ONLY_LINUX: Final = {
    errno: r"EREMOTEIO|ERESTART|ENOTUNIQ|ENOMEDIUM",
    fcntl: r"F_(SET|GET)PIPE_SZ|F_ADD_SEALS|F_GET_SEALS|F_SEAL_\w+|F_OFD_\w+|F_NOTIFY|DN_\w+|LOCK_(MAND|READ|WRITE|RW)",
    os: r"pidfd_open|P_PIDFD|sched_(?!yield|get_priority)\w+|posix_fadvise|posix_fallocate|POSIX_FADV_\w+|copy_file_range|fdatasync"
    r"|memfd_create|MFD_\w+|eventfd\w*|EFD_\w+|splice|SPLICE_\w+|O_(TMPFILE|DIRECT|PATH|LARGEFILE|NOATIME|RSYNC)|pipe2"
    r"|(get|set|list|remove)xattr|XATTR_\w+|getrandom|GRND_\w+|[gs]etres[ug]id|unshare|setns|CLONE_\w+|waitid|waitid_result",
    select: r"epoll|EPOLL\w+",
    selectors: r"EpollSelector",
    signal: r"pidfd_send_signal|sigtimedwait|sigwaitinfo|SIGPWR|SIGSTKFLT|SIGPOLL|SIGRTM\w+",
    socket: r"SOCK_(CLOEXEC|NONBLOCK)|TCP_(KEEPIDLE|USER_TIMEOUT|QUICKACK|CORK|INFO|DEFER_ACCEPT|SYNCNT|LINGER2)"
    r"|SO_(PEERCRED|BINDTODEVICE|DOMAIN|PROTOCOL|MARK|PASSCRED|PRIORITY)|AF_(NETLINK|VSOCK|ALG|CAN|TIPC|RDS)",
    time: r"CLOCK_(BOOTTIME|TAI)",
}
_BOOT = "3b0d8a52-1c63-4f0e-9d59-6f1f6a1c2b77"


def play(folder: Path) -> None:
    """Remove those names, and make owners read the boot id from a fake sysctl in ``folder``."""
    for module, names in ONLY_LINUX.items():
        for name in [name for name in dir(module) if re.fullmatch(names, name)]:
            delattr(module, name)
    # The default is already chosen here, because sockets import selectors.
    selectors.DefaultSelector = selectors.PollSelector  # type: ignore[misc, assignment] # another class of the same shape

    from batchkit import owners  # noqa: PLC0415 - only now, as said above

    command = folder / "sysctl"
    if not command.exists():
        command.write_text(f"#!/bin/sh\necho {_BOOT}\n")
        command.chmod(0o700)
    owners._BOOT_ID, owners._SYSCTL = folder / "none", str(command)
