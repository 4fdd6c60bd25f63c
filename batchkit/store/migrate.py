"""Upgrading a database to the schema of this version, and comparing the two.

Alembic upgrades. It is loaded only then: most commands find a current database, which is known from one table and from the names of the
migrations.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text

import batchkit
from batchkit.errors import StoreError

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy.engine import Connection

    from batchkit.store.engine import Store

# An arbitrary number: every upgrade takes the same lock.
_UPGRADE_LOCK = 4_720_115_623
# Alembic keeps the migration that is running in global variables.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The revision of a database (None: empty) and the one that this version of batchkit needs."""

    current: str | None
    wanted: str

    @property
    def is_current(self) -> bool:
        """Return whether the two are equal."""
        return self.current == self.wanted


def migrations_directory() -> Path:
    """Return the folder of the migrations: inside the package in a wheel, beside it in a checkout."""
    package = Path(batchkit.__file__).parent
    return next(path for path in (package / "migrations", package.parent / "migrations") if path.is_dir())


def _config() -> Config:
    from alembic.config import Config  # noqa: PLC0415 - only for upgrades

    config = Config()
    config.set_main_option("script_location", str(migrations_directory()).replace("%", "%%"))
    return config


# The scripts do not change while a program runs.
@functools.cache
def _wanted() -> str:
    """Return the newest revision: the name of a script begins with its revision."""
    return max(path.name.partition("_")[0] for path in (migrations_directory() / "versions").glob("[0-9]*.py"))


def check(store: Store) -> SchemaState:
    """Compare the database with this version; change nothing."""
    with store.read() as connection:
        current = None
        if inspect(connection).has_table("alembic_version"):
            current = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
        return SchemaState(current, _wanted())


def upgrade(store: Store) -> SchemaState:
    """Upgrade the database in one transaction; return its state before.

    Several processes may call it at the same time: one upgrades, the others wait. Raises ``StoreError`` when the database was
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
    from alembic import command  # noqa: PLC0415 - as above

    config = _config()
    with _ONE_AT_A_TIME, store.write(is_upgrade=True) as connection:
        if not store.is_sqlite:
            wait_for_upgrades(connection, store)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before


def wait_for_upgrades(connection: Connection, store: Store) -> None:
    """Wait without a limit until no other process upgrades a Postgres database; later ones wait for this transaction."""
    connection.execute(text("SET LOCAL lock_timeout = 0"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
    connection.execute(text(f"SET LOCAL lock_timeout = {round(store.limits.lock_seconds * 1_000)}"))


def _known_revisions() -> set[str]:
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - as above

    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
