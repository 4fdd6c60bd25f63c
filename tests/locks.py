"""Waiting for another connection to wait."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from batchkit.store.engine import Store

_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def wait_for_a_lock(store: Store) -> None:
    """Wait until another connection waits for a lock of Postgres."""
    for _ in range(1_000):
        with store.read() as connection:
            if connection.execute(text(_WAITING)).scalar_one():
                return
        threading.Event().wait(0.01)
    raise AssertionError("nobody waits for a lock")
