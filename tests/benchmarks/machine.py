"""The facts besides the code that a figure depends on: the machine and the versions of the software."""

from __future__ import annotations

import os
import platform
import sqlite3
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy.engine import make_url

_PACKAGES = ("httpx", "orjson", "prefect", "psycopg", "sqlalchemy")


def facts(server_url: str | None) -> dict[str, Any]:
    """Return the facts of the machine; the load average shows whether it was idle."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processor": _processor(),
        "system": platform.platform(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "postgres": None if server_url is None else _postgres(server_url),
        **{name: version(name) for name in _PACKAGES},
    }


def in_a_sentence(known: dict[str, Any]) -> str:
    """Return the facts that a reader of the table needs."""
    postgres = f", Postgres {known['postgres']}" if known["postgres"] else ""
    return (
        f"{known['cores']} cores ({known['processor']}), load {known['load'][0]} at the start, Python {known['python']},"
        f" SQLite {known['sqlite']}{postgres}, orjson {known['orjson']}, psycopg {known['psycopg']},"
        f" SQLAlchemy {known['sqlalchemy']}, httpx {known['httpx']}, Prefect {known['prefect']}"
    )


def _processor() -> str:
    # Only Linux has that file.
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _postgres(server_url: str) -> str:
    url = make_url(server_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        return str(connection.execute("SHOW server_version").fetchone()[0])  # type: ignore[index] # it has a row
