"""Test modules are compiled once, and not by each test process that starts at the same moment."""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def import_from_own_place(session: pytest.Session, worker: dict[str, Any]) -> None:
    """Import the test modules, each worker from another place on, so that it finds most of them compiled by the others.

    Every worker imports all of them anyway, in the order of the collection. What cannot be imported is reported there.
    """
    modules = [module for argument in session.config.args for module in _modules(argument, session.config.rootpath)]
    number, workers = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
    first = len(modules) * number // workers
    for module in [*modules[first:], *modules[:first]]:
        # The collection imports it once more, and reports the error.
        with suppress(Exception, pytest.skip.Exception, pytest.fail.Exception):
            importlib.import_module(module)


def _modules(argument: str, root: Path) -> Iterator[str]:
    path = root / argument.partition("::")[0]
    for file in sorted(path.rglob("test_*.py")) if path.is_dir() else [path]:
        if root in file.parents and str(root) in sys.path:
            yield ".".join(file.relative_to(root).with_suffix("").parts)
