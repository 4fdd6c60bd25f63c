"""Questions about a path that the user named. Where the system refuses an answer, the call that opens the path tells why."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def is_folder(path: Path) -> bool:
    """Return whether a folder is there; False where that may not be known, as below a folder that is closed to this user."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_regular(path: Path) -> bool:
    """Return whether a regular file is there; False as for ``is_folder``."""
    try:
        return path.is_file()
    except OSError:
        return False


def may_exist(path: Path) -> bool:
    """Return whether anything is there, or may be: True where that may not be known."""
    try:
        return path.exists()
    except OSError:
        return True
