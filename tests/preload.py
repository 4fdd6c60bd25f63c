"""Imports everything that a command imports: the server process imports this module, and each command is forked from it."""

from __future__ import annotations

import gc
import importlib
import pkgutil
import tempfile
from pathlib import Path

import batchkit
from batchkit.cli import app
from batchkit.settings import load_settings
from batchkit.store import migrate
from batchkit.store.engine import Store

# `flows` imports Prefect, which most commands do not need; the pytest plugin belongs in pytest's process.
_NOT_PRELOADED = ("batchkit.flows", "batchkit.__main__", "batchkit.emulator.pytest_plugin")


def _load_everything() -> None:
    for module in pkgutil.walk_packages([str(Path(batchkit.__file__).parent)], "batchkit."):
        if not module.name.startswith(_NOT_PRELOADED):
            importlib.import_module(module.name)
    for name in ("httpcore", "numpy", "psycopg", "psycopg_binary"):
        importlib.import_module(name)


def _fill_caches() -> None:
    """Build the command line, read settings and migrate a database: each of them caches what it has built."""
    app._click_command()
    load_settings()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/batchkit.db")
        migrate.upgrade(store)
        store.close()


_load_everything()
_fill_caches()
gc.freeze()
