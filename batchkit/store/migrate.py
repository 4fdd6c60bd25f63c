"""Bringing a database to the schema of this version, and saying whether it is there. Alembic does the work."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

import batchkit
from batchkit.errors import StoreError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from batchkit.store.engine import Store

# Any number will do, as long as every upgrade takes the same lock.
_UPGRADE_LOCK = 4_720_115_623
# Alembic keeps the migration that is running in global variables.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The revision a database is at (None: empty) and the one that this version of batchkit needs."""

    current: str | None
    wanted: str

    @property
    def is_current(self) -> bool:
        """Whether nothing is to be done."""
        return self.current == self.wanted


def migrations_directory() -> Path:
    """Find the migrations: inside the package in a wheel, beside it in a checkout."""
    package = Path(batchkit.__file__).parent
    return next(path for path in (package / "migrations", package.parent / "migrations") if path.is_dir())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_directory()).replace("%", "%%"))
    return config


def _wanted() -> str:
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def check(store: Store) -> SchemaState:
    """Compare the database with this version; changes nothing."""
    with store.read() as connection:
        return SchemaState(MigrationContext.configure(connection).get_current_revision(), _wanted())


def upgrade(store: Store) -> SchemaState:
    """Bring the database up to date in one transaction; returns what it was before.

    Safe to call from several processes at once: one does it, the others wait. Raises ``StoreError`` when the database was
    written by a newer batchkit.
    """
    before = check(store)
    if before.is_current:
        return before
    if before.current is not None and before.current not in _known_revisions():
        raise StoreError(
            f"the database {store.display_url} was written by a newer batchkit (revision {before.current})",
            hint="pip install --upgrade groq-batchkit",
        )
    config = _config()
    with _ONE_AT_A_TIME, store.write(is_upgrade=True) as connection:
        if not store.is_sqlite:
            wait_for_upgrades(connection, store)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before


def wait_for_upgrades(connection: Connection, store: Store) -> None:
    """Wait until no other process upgrades a Postgres database, however long that takes; later ones wait for this transaction."""
    connection.execute(text("SET LOCAL lock_timeout = 0"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
    connection.execute(text(f"SET LOCAL lock_timeout = {round(store.limits.lock_seconds * 1_000)}"))


def _known_revisions() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
