"""The folder for the tests' temporary files: in memory if enough is free, because the tests sync thousands of files."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - only temporary folders are made in it
_REQUIRED_FREE_BYTES = 2 << 30


def base_folder() -> Path:
    """Return the folder in which tests make their temporary folders."""
    # Not every system has such a folder.
    with suppress(OSError):
        if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > _REQUIRED_FREE_BYTES:
            return MEMORY
    return Path(tempfile.gettempdir())
