"""Where the tests' files go: into memory if there is plenty, because thousands of syncs need not wait for a disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - used through temporary folders only
_ENOUGH_BYTES = 2 << 30


def roomy_folder() -> Path:
    """Choose the folder for temporary folders."""
    with suppress(OSError):
        if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > _ENOUGH_BYTES:
            return MEMORY
    return Path(tempfile.gettempdir())
