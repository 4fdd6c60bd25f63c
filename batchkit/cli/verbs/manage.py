"""``cancel``, ``resubmit`` and ``clean``: changing what is there."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from batchkit import formatting
from batchkit.cli.options import common
from batchkit.cli.options.flags import BudgetFlags, DeadlineFlags, DriveFlags, spread
from batchkit.cli.render import console, exits
from batchkit.errors import UsageError

if TYPE_CHECKING:
    from batchkit.engine.progress import Progress


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
    provider: common.Provider = None,
    base_url: common.BaseUrl = None,
    accept_other_key: common.AcceptOtherKey = False,
) -> None:
    """Cancel a workload: unsent requests are withdrawn, running batches are cancelled, answers are kept.

    That includes batches that were adopted. Returns once the provider has taken all cancellations. Stopping takes it up to ten minutes; answers until then are paid for
    and merged. `batchkit resubmit` reopens a cancelled workload.

    Exit codes: 0 cancelled, finished already, or all batches are being cancelled; 4 some batches could not be cancelled yet, and
    the same command resumes.

    For example:

        batchkit cancel nightly
        batchkit cancel nightly --wait
    """
    from batchkit.api.managing import cancel_workload  # noqa: PLC0415 - --help need not wait for the database and the provider
    from batchkit.cli.calls import mode_of  # noqa: PLC0415 - as above
    from batchkit.cli.interrupts import interruptible  # noqa: PLC0415 - as above
    from batchkit.cli.render.conclusion import conclude_cancel  # noqa: PLC0415 - as above
    from batchkit.cli.render.terminal import Terminal  # noqa: PLC0415 - as above
    from batchkit.engine.waves import DriveUntil  # noqa: PLC0415 - as above

    where = common.Where(home, database_url, provider, base_url, accept_other_key)
    settings = where.settings()
    terminal = Terminal(where, common.same_command(), is_for_machines=json, verbose=verbose)
    # One pass is not worth the start of Prefect.
    use_prefect = wait and not no_prefect
    mode = mode_of(terminal, settings, use_prefect=use_prefect, verbose=verbose, timeout_seconds=timeout)
    with interruptible(terminal.interrupted):
        report = cancel_workload(name, DriveUntil.FINISHED if wait else DriveUntil.ONE_PASS, settings, mode)
    raise typer.Exit(conclude_cancel(report, terminal, is_waiting=wait))


@spread
def resubmit(
    name: common.Name,
    *,
    failed: Annotated[
        bool,
        typer.Option("--failed", metavar="", help="Also send requests again that were refused, with fresh budgets."),
    ] = False,
    no_wait: Annotated[
        bool,
        typer.Option(
            "--no-wait", metavar="", help="Only make them pending again; `batchkit watch` or `serve` sends them."
        ),
    ] = False,
    by: DeadlineFlags,
    budget: BudgetFlags,
    flags: DriveFlags,
) -> None:
    """Send requests again that have no answer: those that were cancelled, expired or went missing, with --failed also refused ones.

    Requests with an answer are never sent again. A workload that batchkit made needs this command for expired requests only when they
    expired too often: `run`, `watch` and `serve` resend them automatically. Of adopted batches nothing is sent again before this
    command, and from then on what expires is resent automatically, too. Then it works like `batchkit watch` until the workload is
    finished.

    Exit codes: as for `batchkit watch`; 0 with --no-wait.

    For example:

        batchkit resubmit nightly
        batchkit resubmit nightly --failed
    """
    from batchkit.api.managing import reopen_workload  # noqa: PLC0415 - --help need not wait for the database and the provider
    from batchkit.api.outcomes import RunReport  # noqa: PLC0415 - as above
    from batchkit.api.running import watch_workload  # noqa: PLC0415 - as above
    from batchkit.cli.calls import call, terminal_of  # noqa: PLC0415 - as above
    from batchkit.cli.render import conclusion, outcome  # noqa: PLC0415 - as above

    settings = flags.settings()
    terminal = terminal_of(flags)
    with call(terminal, settings, flags) as mode:
        options = by.deadline_options().with_budget(budget.max_cost, budget.max_total_tokens)
        count, progress, unsendable = reopen_workload(name, settings, mode, failed=failed, options=options)
        if not flags.json:
            for line in outcome.reopened(count, progress, unsendable=unsendable):
                console.say(terminal.err, line)
        if not no_wait:
            report = watch_workload(name, settings, mode)
    if not no_wait:
        raise typer.Exit(conclusion.conclude(report, terminal))
    lines = outcome.unfinished(progress, flags.where, again=flags.where.command("watch", name))
    raise typer.Exit(conclusion.print_outcome(RunReport(progress), terminal, lines, code=exits.SUCCEEDED))


def clean(
    name: common.Name,
    *,
    keep_results: Annotated[
        bool, typer.Option("--keep-results", metavar="", help="Keep the rows in the database; only the files go.")
    ] = False,
    with_adopted: Annotated[
        bool,
        typer.Option("--with-adopted", metavar="", help="Also delete the files of adopted batches at the provider."),
    ] = False,
    yes: common.Yes = False,
    verbose: common.Verbose = False,
    home: common.Home = None,
    database_url: common.DatabaseUrl = None,
    provider: common.Provider = None,
    base_url: common.BaseUrl = None,
) -> None:
    """Delete a finished workload: its files at the provider, here and at the spool's URL, and its results.

    Asks first. Refuses a workload that is not finished. Exported files are not deleted, and files of adopted batches stay at the
    provider unless --with-adopted is given. Afterwards the name can be used
    again, unless the results are kept.

    For example:

        batchkit clean nightly
        batchkit clean nightly --keep-results --yes
    """
    from batchkit.api.managing import clean_workload  # noqa: PLC0415 - --help need not wait for the database and the provider
    from batchkit.api.modes import RunMode  # noqa: PLC0415 - as above

    def confirm(progress: Progress) -> None:
        requests = formatting.counted(progress.counts.total, "request")
        what = "the files" if keep_results else f"the files and the results of {requests}"
        _confirm(f"Delete {what} of {shown_name!r}, here and at the provider?")

    shown_name = formatting.printable(name)
    console.log_to(console.stderr(), verbose=verbose)
    settings = common.Where(home, database_url, provider, base_url).settings()
    mode = RunMode(common.verb())
    if yes:
        report = clean_workload(name, settings, mode, keep_results=keep_results, with_adopted=with_adopted)
    else:
        report = clean_workload(
            name, settings, mode, keep_results=keep_results, with_adopted=with_adopted, confirm=confirm
        )
    freed = formatting.size(report.counts.get("bytes freed", 0))
    remote = formatting.counted(report.counts.get("remote files deleted", 0), "file")
    kept = "; the results are kept" if keep_results else ""
    console.say(console.stdout(), f"{shown_name}: {remote} deleted at the provider, {freed} freed here{kept}")


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            "not a terminal, so nobody can be asked; nothing was deleted", hint="--yes deletes without a question"
        )
    try:
        is_sure = typer.confirm(question, err=True)
    except typer.Abort:
        is_sure = False
    if not is_sure:
        raise UsageError("nothing was deleted")
