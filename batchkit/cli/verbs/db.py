"""``db``: the schema of the results database."""

from __future__ import annotations

import typer

from batchkit.cli.options import common
from batchkit.cli.options.helptext import help_of
from batchkit.cli.render import console, exits
from batchkit.cli.render.help_pages import VerbCommand, VerbGroup

app = typer.Typer(
    cls=VerbGroup,
    no_args_is_help=True,
    help="Check or upgrade the schema of the results database. Commands that send requests upgrade it by themselves.",
)


def upgrade(*, home: common.Home = None, database_url: common.DatabaseUrl = None) -> None:
    """Upgrade the database to the schema of this version; create it if it does not exist.

    Safe to run at any time and from several machines at once. It changes no data.

    For example:

        batchkit db upgrade
        batchkit db upgrade --database-url postgresql+psycopg://user@host/batchkit
    """
    from batchkit.store import migrate  # noqa: PLC0415 - --help need not wait for the database
    from batchkit.store.engine import Store  # noqa: PLC0415 - as above

    store = Store(common.Where(home, database_url).settings().resolved_database_url)
    try:
        before = migrate.upgrade(store)
    finally:
        store.close()
    done = "was up to date" if before.is_current else f"upgraded from {before.current or 'nothing'} to {before.wanted}"
    console.say(console.stdout(), f"{store.display_url}: {done}")


def check(*, home: common.Home = None, database_url: common.DatabaseUrl = None) -> None:
    """Check whether the database has the schema of this version; changes nothing.

    Exit codes: 0 it has; 4 it does not, or there is no database yet: `batchkit db upgrade` is needed.

    For example:

        batchkit db check
    """
    from batchkit.api import existing  # noqa: PLC0415 - --help need not wait for the database
    from batchkit.store import migrate  # noqa: PLC0415 - as above
    from batchkit.store.engine import Store  # noqa: PLC0415 - as above

    settings = common.Where(home, database_url).settings()
    missing = existing.missing_file(settings)
    if missing is not None:
        console.say(console.stdout(), f"{missing} does not exist yet")
        raise typer.Exit(exits.NOT_FINISHED)
    store = Store(settings.resolved_database_url)
    try:
        state = migrate.check(store)
    finally:
        store.close()
    found = "is up to date" if state.is_current else f"has {state.current or 'no schema'}, {state.wanted} is needed"
    console.say(console.stdout(), f"{store.display_url}: {found}")
    raise typer.Exit(exits.SUCCEEDED if state.is_current else exits.NOT_FINISHED)


for command in (upgrade, check):
    app.command(cls=VerbCommand, help=help_of(command))(command)
