"""Checks of output files: a file that cannot be written is refused before anything is sent."""

from __future__ import annotations

import stat
import tempfile
from typing import TYPE_CHECKING

from batchkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_PAGE_BYTES = 256


def check_file(target: Path, *, inputs: Iterable[Path] = (), makes_folder: bool = False) -> None:
    """Raise ``UsageError`` when no file can be written at ``target``, or when it is one of ``inputs``.

    A missing folder is refused, unless the writer ``makes_folder``. Nothing is created.
    """
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        mode = None
    except (OSError, ValueError) as error:
        raise _not_written(target, getattr(error, "strerror", None) or str(error)) from error
    if mode is not None and stat.S_ISDIR(mode):
        raise UsageError(f"{target} is a folder", hint="name a file")
    if mode is not None and not stat.S_ISREG(mode):
        raise _not_written(target, "it is no regular file")
    if any(are_same(target, path) for path in inputs):
        raise overwrites_input(target)
    folder = target.absolute().parent
    while makes_folder and not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise UsageError(f"{target} cannot be written: there is no such folder", hint="make the folder first")
    try:
        # Permissions do not show a full or read-only file system. The test file has no name, or is unlinked at once.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _not_written(target, f"{folder}: {error.strerror or error}") from error


def check_page(target: Path) -> None:
    """Raise ``UsageError`` when a page would overwrite a file that is no page: an input, for example."""
    try:
        with target.open("rb") as file:
            first = file.read(_PAGE_BYTES)
    except OSError:
        # Whether it can be written is another question.
        return
    if first.strip() and not first.lstrip().lower().startswith(b"<!doctype html"):
        raise UsageError(f"{target} is no page; a report would overwrite it", hint="name another output")


def overwrites_input(target: Path) -> UsageError:
    """Return the error of an output that is an input."""
    return UsageError(f"{target} is the input; the results would overwrite it", hint="name another output")


def are_same(one: Path, other: Path) -> bool:
    """Whether two paths are the same file, also by links or another path of its folder, and also before the file exists.

    Names that differ only in the case of their letters are the same on many disks, unless this one has both.
    """
    try:
        first, second = one.resolve(), other.resolve()
        if one.exists() and other.exists():
            return first == second or one.samefile(other)
        return str(first).casefold() == str(second).casefold()
    except (OSError, RuntimeError, ValueError):
        return False


def _not_written(target: Path, reason: str) -> UsageError:
    return UsageError(f"{target} cannot be written: {reason}", hint="name another output")
