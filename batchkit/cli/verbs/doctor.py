"""``doctor``: a check of what batchkit needs."""

from __future__ import annotations

from typing import Annotated

import typer

from batchkit.cli.options import common  # noqa: TC001 - Typer reads the annotations
from batchkit.cli.render import console, exits


def doctor(
    *,
    json: Annotated[bool, typer.Option("--json", metavar="", help="Print one line of JSON on stdout.")] = False,
    home: common.Home = None,
    database_url: common.DatabaseUrl = None,
    provider: common.Provider = None,
    base_url: common.BaseUrl = None,
) -> None:
    """Check what batchkit needs: versions, settings, key and plan, database, disk space, spool, Prefect, clock.

    It changes nothing and sends no request that costs anything; a spool at a URL is tested with a small file, which is deleted.
    Secrets are not printed.

    Exit codes: 0 nothing failed (warnings are allowed); 4 something did.

    For example:

        batchkit doctor
    """
    from batchkit import doctor as checks  # noqa: PLC0415 - --help need not wait for the database and the provider
    from batchkit.cli.render import display, machine  # noqa: PLC0415 - as above

    flags = {"home": home, "database_url": database_url, "provider": provider, "base_url": base_url}
    findings = []
    for finding in checks.examine({name: value for name, value in flags.items() if value is not None}):
        findings.append(finding)
        if not json:
            console.show(console.stdout(), display.finding_line(finding))
    if json:
        console.write_json(machine.findings(findings))
    raise typer.Exit(exits.NOT_FINISHED if checks.has_failure(findings) else exits.SUCCEEDED)
