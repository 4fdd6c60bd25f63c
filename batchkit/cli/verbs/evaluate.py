"""``eval``: a suite run, scored, and compared with the last time; or all suites of a folder put on a schedule."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from batchkit.cli.options.flags import CutFlags, DriveFlags, spread
from batchkit.cli.options.tables import SubmitOnly
from batchkit.cli.render import console
from batchkit.errors import UsageError

_PANEL = "Schedules"
_IMPORT_PANEL = "Other programs"

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
        help="The run to compare with: its name, passed, or previous (default what the suite says: passed).",
        show_default=False,
    ),
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
Rescore = Annotated[
    str | None,
    typer.Option(
        "--rescore",
        metavar="RUN",
        help="Score the kept answers of RUN with today's scorers and labels instead of asking; only new judges send requests.",
        show_default=False,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        metavar="",
        help="Show the first requests, what all would cost, and the smallest fall that these rows can find; send nothing.",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        help="Ask about the first N rows only; such a run is outside the suite's series.",
        show_default=False,
    ),
]
Subset = Annotated[
    int | None,
    typer.Option(
        "--subset",
        metavar="N",
        help="Ask about N rows at random, of each slice in proportion; such a run is outside the suite's series.",
        show_default=False,
    ),
]
SubsetSeed = Annotated[
    int, typer.Option("--subset-seed", metavar="S", help="Which rows --subset takes: the same number, the same rows.")
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


Import = Annotated[
    Path | None,
    typer.Option(
        "--import",
        metavar="FILE",
        help="Make a suite of a promptfoo configuration, with its tests as a dataset beside it; name what has no counterpart, and run nothing.",
        rich_help_panel=_IMPORT_PANEL,
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="SUITE",
        help="The suite that --import writes (default NAME-suite.yaml); a file that exists is not overwritten.",
        rich_help_panel=_IMPORT_PANEL,
        show_default=False,
    ),
]


@spread
def evaluate(
    suite: SuitePath = None,
    *,
    run: Run = None,
    against: Against = None,
    submit_only: SubmitOnly = False,
    report: Report = None,
    limit: Limit = None,
    subset: Subset = None,
    subset_seed: SubsetSeed = 0,
    rescore: Rescore = None,
    dry_run: DryRun = False,
    deploy: Deploy = None,
    pool: Pool = "batchkit",
    import_file: Import = None,
    output: Output = None,
    cut: CutFlags,
    flags: DriveFlags,
) -> None:
    """Run the evaluation SUITE: ask its models, score the answers, and compare the scores with the last run that passed.

    The suite names a dataset, prompts, models, scorers and alarms. Each score is stored with its row, answer
    and batch; each metric is shown with its confidence interval. Stop it at any time: the same command resumes the unfinished run, and
    starts the next run after that. If a metric falls by more than an alarm of the suite allows, and not by chance, the exit code is 5.

    Exit codes: 0 all is well; 2 bad usage or input, nothing was sent; 3 finished, but some requests failed, too few answers were scored, or too few rows could be compared; 4 not finished, and the same command resumes; 5 an alarm went off; 6 stopped by the budget; 130 interrupted.

    For example:

        batchkit eval suites/reviews.yaml
        batchkit eval suites/reviews.yaml --against reviews-7 --report reviews.html
        batchkit eval suites/reviews.yaml --dry-run
        batchkit eval suites/reviews.yaml --subset 50
        batchkit eval suites/reviews.yaml --rescore reviews-7
        batchkit eval --deploy suites --pool batchkit
        batchkit eval --import promptfooconfig.yaml -o suites/imported.yaml
    """
    from batchkit.datasets import require_extra  # noqa: PLC0415 - --help need not wait for the database and the provider

    require_extra()
    rows = (limit, subset, subset_seed)
    if import_file is not None and (suite is not None or deploy is not None):
        raise UsageError("--import makes a suite and runs none", hint="leave out SUITE and --deploy")
    if output is not None and import_file is None:
        raise UsageError("--output is the suite that --import writes", hint="--report writes a page about a run")
    if import_file is not None:
        _import(import_file, output, flags)
        return
    match suite, deploy:
        case Path(), None if dry_run:
            if rescore is not None:
                raise UsageError("--dry-run and --rescore contradict each other", hint="leave out one of them")
            raise typer.Exit(_preview(suite, rows, cut, flags))
        case Path(), None if rescore is not None:
            if run is not None or against is not None or submit_only or limit is not None or subset is not None:
                raise UsageError(
                    "--rescore asks nothing: leave out --run, --against, --submit-only, --limit and --subset"
                )
            raise typer.Exit(_rescore(suite, rescore, report, cut, flags))
        case Path(), None:
            raise typer.Exit(
                _evaluate(suite, run, against, report, rows=rows, is_submit_only=submit_only, cut=cut, flags=flags)
            )
        case None, Path():
            _deploy(deploy, pool)
        case _:
            raise UsageError(
                "name a suite, --deploy with a folder of suites, or --import with a file",
                hint="see `batchkit eval --help`",
            )


def _evaluate(
    suite: Path,
    run: str | None,
    against: str | None,
    page: Path | None,
    *,
    rows: tuple[int | None, int | None, int],
    is_submit_only: bool,
    cut: CutFlags,
    flags: DriveFlags,
) -> int:
    from batchkit.api.evaluations import PartOfRows, evaluate_suite  # noqa: PLC0415 - --help need not wait for the database
    from batchkit.cli.calls import call, terminal_of  # noqa: PLC0415 - as above
    from batchkit.cli.render import evaluated  # noqa: PLC0415 - as above
    from batchkit.engine.waves import DriveUntil  # noqa: PLC0415 - as above

    settings = flags.settings(cut)
    terminal = terminal_of(flags)
    with call(terminal, settings, flags) as mode:
        report = evaluate_suite(
            suite,
            run=run,
            against=against,
            page=page,
            part=PartOfRows(*rows),
            options=cut.options(),
            until=DriveUntil.SUBMITTED if is_submit_only else DriveUntil.FINISHED,
            settings=settings,
            mode=mode,
        )
    return evaluated.conclude(report, terminal, is_submit_only=is_submit_only)


def _rescore(suite: Path, run: str, page: Path | None, cut: CutFlags, flags: DriveFlags) -> int:
    from batchkit.api.rescoring import rescore_run  # noqa: PLC0415 - --help need not wait for the database
    from batchkit.cli.calls import call, terminal_of  # noqa: PLC0415 - as above
    from batchkit.cli.render import evaluated  # noqa: PLC0415 - as above

    settings = flags.settings(cut)
    terminal = terminal_of(flags)
    with call(terminal, settings, flags) as mode:
        report = rescore_run(suite, run, page=page, options=cut.options(), settings=settings, mode=mode)
    return evaluated.conclude(report, terminal, is_submit_only=False)


def _preview(suite: Path, rows: tuple[int | None, int | None, int], cut: CutFlags, flags: DriveFlags) -> int:
    from batchkit.api.evaluations import PartOfRows  # noqa: PLC0415 - --help need not wait for the database
    from batchkit.api.suite_previews import preview_suite  # noqa: PLC0415 - --help need not wait for the database
    from batchkit.cli.calls import call, terminal_of  # noqa: PLC0415 - as above
    from batchkit.cli.render import suite_preview  # noqa: PLC0415 - as above

    settings = flags.settings(cut)
    terminal = terminal_of(flags)
    with call(terminal, settings, flags) as mode:
        preview = preview_suite(suite, cut.options(), settings, mode, part=PartOfRows(*rows))
    return suite_preview.show(preview, terminal)


def _import(configuration: Path, output: Path | None, flags: DriveFlags) -> None:
    from batchkit.api.suite_imports import import_suite  # noqa: PLC0415 - --help need not wait for the database
    from batchkit.cli.calls import terminal_of  # noqa: PLC0415 - as above
    from batchkit.cli.render.machine import SCHEMA_VERSION  # noqa: PLC0415 - as above

    made = import_suite(configuration, output, settings=flags.where.settings())
    if terminal_of(flags).is_for_machines:
        files = {"suite": str(made.suite), "dataset": str(made.dataset)}
        console.write_json({"schema_version": SCHEMA_VERSION, **files, "notes": list(made.notes)})
        return
    for note in made.notes:
        console.say(console.stderr(), note)
    console.say(console.stdout(), f"suite written to {made.suite}, its tests to {made.dataset}")
    console.say(console.stdout(), f"check:     batchkit eval {shlex.quote(str(made.suite))} --dry-run")


def _deploy(folder: Path, pool: str) -> None:
    from batchkit.cli.prefect import flows_entry  # noqa: PLC0415 - imports the api

    for line in flows_entry().deploy(folder, pool=pool):
        console.say(console.stdout(), line)
