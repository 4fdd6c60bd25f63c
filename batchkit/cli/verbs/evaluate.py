"""``eval``: a suite run, scored, and compared with the last time; or all suites of a folder put on a schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchkit.cli.options.flags import CutFlags, DriveFlags, spread
from batchkit.errors import UsageError

_PANEL = "Schedules"

SuitePath = Annotated[
    Path | None, typer.Argument(metavar="SUITE", help="The YAML file of a suite.", show_default=False)
]
Run = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="NAME",
        help="The run's name: the same name resumes it (default SUITE-NUMBER, the unfinished run or the next).",
        show_default=False,
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="NAME",
        help="The run to compare with: its name, previous, or passed (default what the suite says: previous).",
        show_default=False,
    ),
]
SubmitOnly = Annotated[
    bool,
    typer.Option("--submit-only", metavar="", help="Return once everything is submitted; the same command collects."),
]
Report = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="Write a page about the run when it is finished (default what the suite says, or none).",
        show_default=False,
    ),
]
Deploy = Annotated[
    Path | None,
    typer.Option(
        "--deploy",
        metavar="FOLDER",
        help="Give every suite of a folder that has a schedule its Prefect deployment, and run nothing.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Pool = Annotated[
    str,
    typer.Option("--pool", metavar="POOL", help="The Prefect work pool of the deployments.", rich_help_panel=_PANEL),
]


@spread
def evaluate(
    suite: SuitePath = None,
    *,
    run: Run = None,
    against: Against = None,
    submit_only: SubmitOnly = False,
    report: Report = None,
    deploy: Deploy = None,
    pool: Pool = "batchkit",
    cut: CutFlags,
    flags: DriveFlags,
) -> None:
    """Run the evaluation SUITE: ask its models, score the answers, and compare the scores with the previous run.

    The suite names a dataset, prompts, models, scorers and alarms. Each score is stored with its row, answer
    and batch; each metric is shown with its confidence interval. Stop it at any time: the same command resumes the unfinished run, and
    starts the next run after that. If a metric falls by more than an alarm of the suite allows, and not by chance, the exit code is 5.

    Exit codes: 0 all is well; 2 bad usage or input, nothing was sent; 3 finished, but some requests failed; 4 not finished, and the same command resumes; 5 an alarm went off; 130 interrupted.

    For example:

        batchkit eval suites/reviews.yaml
        batchkit eval suites/reviews.yaml --against reviews-7 --report reviews.html
        batchkit eval --deploy suites --pool batchkit
    """
    from batchkit.datasets import require_extra  # noqa: PLC0415 - --help need not wait for the database and the provider

    require_extra()
    from batchkit.cli import evaluation_job  # noqa: PLC0415 - as above

    match suite, deploy:
        case Path(), None:
            order = evaluation_job.EvaluationOrder(
                suite, run, against, cut.options(), is_submit_only=submit_only, report=report
            )
            raise typer.Exit(evaluation_job.carry_out(order, flags.settings(cut), flags.manner()))
        case None, Path():
            raise typer.Exit(evaluation_job.deploy(deploy, pool))
        case _:
            raise UsageError(
                "name either a suite or --deploy with a folder of suites", hint="see `batchkit eval --help`"
            )
