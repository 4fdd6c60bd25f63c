"""``watch``: driving what is there until it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from batchkit.cli.options import completion
from batchkit.cli.options.flags import BudgetFlags, DriveFlags, spread
from batchkit.cli.render import console
from batchkit.errors import UsageError

if TYPE_CHECKING:
    from batchkit.api.outcomes import SeveralReport

MaybeName = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="The workload's name (default all that are open).",
        show_default=False,
        autocompletion=completion.workload_names,
    ),
]


@spread
def watch(
    name: MaybeName = None,
    *,
    budget: BudgetFlags,
    flags: DriveFlags,
) -> None:
    """Drive a workload until it is finished, with live progress; without NAME all open workloads at the same time.

    `watch` also does the work: it submits, fetches, merges and resends. Several commands can watch one workload, on several machines.
    For a finished workload it prints the result. If one of several workloads fails, it is retried later, and the others continue.

    Exit codes: 0 every request succeeded; 3 finished, but some requests failed; 4 not finished, and the same command
    resumes; 6 stopped by the budget; 130 interrupted. With several workloads the worst exit code counts, and the failed ones are listed.

    For example:

        batchkit watch nightly
        batchkit watch --timeout 3600
    """
    with console.busy(console.stderr(), "loading"):
        from batchkit.api import running  # noqa: PLC0415 - --help need not wait for the database and the provider
        from batchkit.api.outcomes import RunReport  # noqa: PLC0415 - as above
        from batchkit.cli.calls import call, terminal_of  # noqa: PLC0415 - as above
        from batchkit.cli.prefect import check_task_runner  # noqa: PLC0415 - as above
        from batchkit.cli.render import conclusion  # noqa: PLC0415 - as above

    if name is None and (budget.max_cost is not None or budget.max_total_tokens is not None):
        raise UsageError("a budget belongs to one workload", hint="name it: batchkit watch NAME --max-cost USD")
    settings = flags.settings()
    terminal = terminal_of(flags)
    with call(terminal, settings, flags) as mode:
        if name is not None:
            report: RunReport | SeveralReport = running.watch_workload(name, settings, mode, budget.options())
        else:
            if not flags.no_prefect:
                check_task_runner(settings)
            report = running.watch_open(settings, mode)
    if isinstance(report, RunReport):
        raise typer.Exit(conclusion.conclude(report, terminal))
    raise typer.Exit(conclusion.conclude_all(report, terminal))
