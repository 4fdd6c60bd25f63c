"""Services that are slow to start, started once for all test processes of one run."""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    import pytest

_PAUSE_SECONDS = 0.05


@contextmanager
def shared_between_workers(
    folders: pytest.TempPathFactory, name: str, start: Callable[[], AbstractContextManager[str]]
) -> Iterator[str]:
    """Yield the address of the service that ``start`` starts.

    The first test process starts it, and ends it when no other process uses it any more. A process that dies releases it.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        with start() as address:
            yield address
        return
    folder = folders.getbasetemp().parent
    address_file, lock = folder / f"{name}.address", folder / f"{name}.lock"
    with ExitStack() as stack, (folder / f"{name}.users").open("w") as users:
        with _locked(lock):
            fcntl.flock(users, fcntl.LOCK_SH)
            is_ours = not address_file.exists()
            if is_ours:
                address_file.write_text(stack.enter_context(start()))
            address = address_file.read_text()
        try:
            yield address
        finally:
            while is_ours and not _is_given_up(users.fileno(), address_file, lock):
                threading.Event().wait(_PAUSE_SECONDS)


def _is_given_up(users: int, address_file: Path, lock: Path) -> bool:
    """Return whether no other process uses it; in that case its address is removed."""
    with _locked(lock):
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        address_file.unlink()
        return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
