"""A web hook, and the harnesses and commands of other folders."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import pytest

from tests.notifications.hook import Hook, running_hook
from tests.steps.conftest import open_harness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["open_harness"]


@pytest.fixture
def hook() -> Iterator[Hook]:
    """Run a web hook on loopback."""
    with running_hook() as running:
        yield running


@pytest.fixture
def script(tmp_path) -> Callable[[str], tuple[str, Path]]:
    """Return a function that writes a Python script, and returns its command line and the file that ``OUT`` names in it."""

    def write(code: str) -> tuple[str, Path]:
        path, out = tmp_path / "on finish.py", tmp_path / "out.txt"
        path.write_text(f"OUT = {str(out)!r}\n{code}", encoding="utf-8")
        return shlex.join([sys.executable, str(path)]), out

    return write
