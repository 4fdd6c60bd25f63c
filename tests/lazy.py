"""Libraries that few tests use and that take long to load: each test process collects all tests, but runs only some."""

from __future__ import annotations

import importlib
from typing import Any


class LazyModule:
    """A module that is loaded when one of its names is first used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)  # pytest asks all that it collects whether it wraps a fixture, or is a mock
        return getattr(importlib.import_module(self._name), name)
