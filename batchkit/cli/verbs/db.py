"""``db``: the schema of the results database, and an index that most of them do not need."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from batchkit import formatting
from batchkit.cli.options import common
from batchkit.cli.options.helptext import help_of
from batchkit.cli.render import console, exits
from batchkit.cli.render.help_pages import VerbCommand, VerbGroup

app = typer.Typer(
    cls=VerbGroup,
    no_args_is_help=True,
    help="Check or upgrade the schema of the results database, or add an index. Commands that send requests upgrade the schema by themselves.",
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


def index(
    *,
    drop: Annotated[bool, typer.Option("--drop", metavar="", help="Remove the index again.")] = False,
    home: common.Home = None,
    database_url: common.DatabaseUrl = None,
) -> None:
    """Build an index of all custom_ids, so that `batchkit view` finds one among millions at once.

    It takes about 40 bytes and the custom_id for each request, which is printed first, and makes later workloads a little slower to
    prepare. On SQLite other commands wait while it is built: some seconds for a million requests. It can be removed at any time.

    For example:

        batchkit db index
        batchkit db index --drop
    """
    from batchkit.api import existing  # noqa: PLC0415 - --help need not wait for the database
    from batchkit.store import custom_id_index  # noqa: PLC0415 - as above
    from batchkit.store.engine import Store  # noqa: PLC0415 - as above

    settings = common.Where(home, database_url).settings()
    missing = existing.missing_file(settings)
    if missing is not None:
        console.say(console.stdout(), f"{missing} does not exist yet")
        raise typer.Exit(exits.NOT_FINISHED)
    store = Store(settings.resolved_database_url)
    try:
        if drop:
            custom_id_index.drop(store)
            console.say(console.stdout(), f"{store.display_url}: there is no index of custom_ids")
            return
        with store.read() as connection:
            size = formatting.size(custom_id_index.estimated_bytes(connection))
            is_there = custom_id_index.exists(connection)
        if is_there:
            console.say(console.stdout(), f"{store.display_url}: the index was there, about {size}")
            return
        console.say(console.stderr(), f"building the index, about {size}")
        began = time.monotonic()
        custom_id_index.build(store)
        took = formatting.duration(time.monotonic() - began)
        console.say(console.stdout(), f"{store.display_url}: the index is built, about {size}, in {took}")
    finally:
        store.close()


for command in (upgrade, check, index):
    app.command(cls=VerbCommand, help=help_of(command))(command)
