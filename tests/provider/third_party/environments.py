"""Virtual environments for servers of third parties: each has one of its own, installed from the package index and kept."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The longest installation in seconds.
_INSTALL_SECONDS = 1_500
_NEWEST_MINOR = 15
_READY = "installed.txt"
_CHECK = "import sys, venv; sys.exit(sys.version_info[:2] < (3, int(sys.argv[1])))"


@dataclass(frozen=True)
class Package:
    """A server on the package index: one ``version``, which the tests were seen with, and the oldest Python 3 that it runs on."""

    name: str
    version: str
    extra: str = ""
    python_minor: int = 11

    @property
    def requirement(self) -> str:
        """Return what pip is asked for."""
        return f"{self.name}{self.extra}=={self.version}"


def installed(package: Package, cache: Path) -> Path:
    """Return the folder of the package's commands, after its installation below ``cache`` if it is not there yet.

    The test is skipped without a Python that is new enough, and when the index does not have the package.
    """
    folder = cache / f"{package.name}-{package.version}"
    with (cache / f"{folder.name}.lock").open("w") as lock:
        # Another test process may want the same one.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / _READY).exists():
            shutil.rmtree(folder, ignore_errors=True)
            _install(package, folder)
            (folder / _READY).write_text(package.requirement)
    return folder / "bin"


def _install(package: Package, folder: Path) -> None:
    python = next(_pythons(package.python_minor), None)
    if python is None:
        pytest.skip(f"{package.requirement} needs Python 3.{package.python_minor}, and none was found")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", package.requirement]
    try:
        subprocess.run([python, "-m", "venv", str(folder)], check=True, capture_output=True, text=True)
        subprocess.run(pip, check=True, capture_output=True, text=True, timeout=_INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{' '.join(pip[1:])} did not end within {_INSTALL_SECONDS} s")
    except subprocess.CalledProcessError as failed:
        errors = [line for line in failed.stderr.splitlines() if line.startswith("ERROR")]
        pytest.skip(f"{' '.join(pip[1:])} with {python} failed: {' '.join(errors)[-600:]}")


def _pythons(minor: int) -> Iterator[str]:
    """Yield the interpreters that are new enough, this one first."""
    names = [f"python3.{number}" for number in range(minor, _NEWEST_MINOR)]
    found = [sys.executable, *(path for name in names if (path := shutil.which(name)) is not None)]
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    # A command on the path may be pyenv's stand-in for a version that is not chosen.
    found += [str(path) for path in sorted(versions.glob("3.*/bin/python"))]
    for python in found:
        if subprocess.run([python, "-c", _CHECK, str(minor)], check=False, capture_output=True).returncode == 0:
            yield python
