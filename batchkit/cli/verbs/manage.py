"""``cancel``, ``resubmit`` and ``clean``: changing what is there."""

from __future__ import annotations

from typing import Annotated

import typer

from batchkit.cli.options import common
from batchkit.cli.options.flags import DriveFlags, spread


def cancel(
    name: common.Name,
    *,
    wait: Annotated[
        bool, typer.Option("--wait", metavar="", help="Stay until the last batch has ended and its answers are in.")
    ] = False,
    json: common.Json = False,
    no_prefect: common.NoPrefect = False,
    verbose: common.Verbose = False,
    timeout: common.Timeout = None,
    home: common.Home = None,
    database_url: common.DatabaseUrl = None,
    base_url: common.BaseUrl = None,
    accept_other_key: common.AcceptOtherKey = False,
) -> None:
    """Cancel a workload: unsent requests are withdrawn, running batches are cancelled, answers are kept.

    Returns once the provider has taken all cancellations. Stopping takes it up to ten minutes; answers until then are paid for
    and merged. `batchkit resubmit` reopens a cancelled workload.

    Exit codes: 0 cancelled, finished already, or all batches are being cancelled; 4 some batches could not be cancelled yet, and
    the same command resumes.

    For example:

        batchkit cancel nightly
        batchkit cancel nightly --wait
    """
    from batchkit.cli import chores, job  # noqa: PLC0415 - --help need not wait for the database and the provider

    where = common.Where(home, database_url, base_url, accept_other_key)
    manner = job.Manner(where, not no_prefect, verbose, json, timeout)
    raise typer.Exit(chores.cancel(name, where.settings(), manner, stay=wait))


@spread
def resubmit(
    name: common.Name,
    *,
    failed: Annotated[
        bool, typer.Option("--failed", metavar="", help="Also send the failed requests again, with fresh budgets.")
    ] = False,
    no_wait: Annotated[
        bool,
        typer.Option(
            "--no-wait", metavar="", help="Only make them pending again; `batchkit watch` or `serve` sends them."
        ),
    ] = False,
    flags: DriveFlags,
) -> None:
    """Send requests again that have no answer: cancelled ones, and with --failed those that failed permanently.

    Requests with an answer are never sent again. Expired requests do not need this command: `run`, `watch` and
    `serve` resend them automatically. Then it works like `batchkit watch` until the workload is finished.

    Exit codes: as for `batchkit watch`; 0 with --no-wait.

    For example:

        batchkit resubmit nightly --failed
    """
    from batchkit.cli import chores  # noqa: PLC0415 - --help need not wait for the database and the provider

    raise typer.Exit(chores.resubmit(name, flags.settings(), flags.manner(), failed=failed, stay=not no_wait))


def clean(
    name: common.Name,
    *,
    keep_results: Annotated[
        bool, typer.Option("--keep-results", metavar="", help="Keep the rows in the database; only the files go.")
    ] = False,
    yes: common.Yes = False,
    verbose: common.Verbose = False,
    home: common.Home = None,
    database_url: common.DatabaseUrl = None,
    base_url: common.BaseUrl = None,
) -> None:
    """Delete a finished workload: its files at the provider, here and at the spool's URL, and its results.

    Asks first. Refuses a workload that is not finished. Exported files are not deleted. Afterwards the name can be used
    again, unless the results are kept.

    For example:

        batchkit clean nightly
        batchkit clean nightly --keep-results --yes
    """
    from batchkit.cli import chores, job  # noqa: PLC0415 - --help need not wait for the database and the provider

    where = common.Where(home, database_url, base_url)
    manner = job.Manner(where, verbose=verbose)
    raise typer.Exit(chores.clean(name, where.settings(), manner, keep_results=keep_results, ask=not yes))
