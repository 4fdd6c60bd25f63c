"""``serve``, ``doctor``, ``demo`` and ``emulator``: what stands around the workloads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchkit.cli.options import common, completion
from batchkit.cli.render import console, exits

_DEMO_HOME = Path("batchkit-demo")


def serve(
    *,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=1, help="How often the open workloads are advanced.")
    ] = 60,
    on_finish: common.OnFinish = None,
    verbose: common.Verbose = False,
    home: common.Home = None,
    database_url: common.DatabaseUrl = None,
    base_url: common.BaseUrl = None,
    accept_other_key: common.AcceptOtherKey = False,
) -> None:
    """Drive all open workloads, pass after pass, until stopped.

    It finishes workloads that `batchkit submit` has started. Several such processes can share one database. With a configured
    Prefect server, each pass that finds open workloads is shown as a flow run. For workers on a Prefect work pool see
    flows/prefect.yaml.

    A workload that fails is retried after a growing wait. A workload that takes long does not delay the others.

    Exit codes: 0 after Ctrl-C or SIGTERM, which give running work two seconds to end; 130 after a second one.

    For example:

        batchkit serve
        batchkit serve --interval 300
    """
    from batchkit.api import serving  # noqa: PLC0415 - --help need not wait for the provider
    from batchkit.cli.interrupts import interruptible  # noqa: PLC0415 - as above
    from batchkit.cli.prefect import flows_entry  # noqa: PLC0415 - as above
    from batchkit.cli.render import outcome  # noqa: PLC0415 - as above

    err = console.stderr()
    console.log_to(err, verbose=verbose)
    settings = common.Where(home, database_url, base_url, accept_other_key).settings(on_finish=on_finish)
    console.say(err, f"advancing every open workload every {interval:g} s; Ctrl-C ends it")

    def farewell() -> None:
        console.tell(err, outcome.interrupted_all(again=common.same_command()))

    with interruptible(farewell):

        def note(text: str) -> None:
            console.log_line(err, text)

        mirror = flows_entry().open_mirror(settings, on_note=note, interval_seconds=interval)
        serving.serve(settings, interval_seconds=interval, on_note=note, observer=mirror)
    console.say(err, "stopped; the batches continue at the provider")


def doctor(
    *,
    json: Annotated[bool, typer.Option("--json", metavar="", help="Print one line of JSON on stdout.")] = False,
    home: common.Home = None,
    database_url: common.DatabaseUrl = None,
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

    flags = {"home": home, "database_url": database_url, "base_url": base_url}
    findings = []
    for finding in checks.examine({name: value for name, value in flags.items() if value is not None}):
        findings.append(finding)
        if not json:
            console.show(console.stdout(), display.finding_line(finding))
    if json:
        console.write_json(machine.findings(findings))
    raise typer.Exit(exits.NOT_FINISHED if checks.has_failure(findings) else exits.SUCCEEDED)


def demo(
    *,
    no_prefect: common.NoPrefect = False,
    verbose: common.Verbose = False,
    home: Annotated[
        Path, typer.Option("--home", metavar="FOLDER", help="Where everything is put; delete it when you are done.")
    ] = _DEMO_HOME,
) -> None:
    """Run a demo without a key: about 1,000 requests against an emulated Groq Batch API on this machine.

    It runs the real pipeline; the scenario makes some requests fail permanently and some expire once. It takes less than a minute,
    and prints what happened and which commands show more. Nothing leaves the machine and nothing costs anything. After Ctrl-C the
    same command resumes; after a finished demo it starts another one beside it.

    Exit code: 0 when the demo ran as planned, although some requests fail permanently.

    For example:

        batchkit demo
        batchkit demo --home /tmp/batchkit-demo --no-prefect
    """
    from batchkit.cli.verbs import demonstration  # noqa: PLC0415 - --help need not wait for the emulator

    raise typer.Exit(demonstration.run(home, use_prefect=not no_prefect, verbose=verbose))


def emulator(
    *,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", help="The port to listen on; 0 takes a free one.")] = 8765,
    scenario: Annotated[
        str | None,
        typer.Option(
            "--scenario",
            metavar="NAME|FILE",
            help="A ready-made scenario, or a .toml or .json file (default what the directory was last served with, at"
            " first clean).",
            show_default=False,
            autocompletion=completion.scenario_names,
        ),
    ] = None,
    speed: Annotated[
        float, typer.Option("--speed", metavar="FACTOR", help="Provider seconds that pass in a real second.")
    ] = 3_600,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory",
            metavar="FOLDER",
            help="Where everything is kept, so that a later emulator continues from there (default a temporary folder).",
            show_default=False,
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            "--api-key", metavar="KEY", help="The only key that is accepted (default any).", show_default=False
        ),
    ] = None,
    any_model: Annotated[
        bool,
        typer.Option(
            "--any-model",
            metavar="",
            help="Answer requests to any model (default only to those that GET /models lists: Groq's, or the scenario's).",
        ),
    ] = False,
    verbose: common.Verbose = False,
    list_scenarios: Annotated[
        bool, typer.Option("--list-scenarios", metavar="", help="List the ready-made scenarios.")
    ] = False,
    list_faults: Annotated[
        bool,
        typer.Option(
            "--list-faults", metavar="", help="List the faults that a scenario file can name, with their parameters."
        ),
    ] = False,
) -> None:
    """Serve an emulated Groq Batch API on this machine, for trials and tests.

    It answers with made-up texts. The scenario sets how long batches take and which faults occur. GET /_emulator/ledger shows
    which requests were executed and paid for. It runs until Ctrl-C.

    For example:

        batchkit emulator --scenario expire-30
        export GROQ_API_KEY=any BATCHKIT_BASE_URL=http://127.0.0.1:8765/openai/v1
        batchkit run requests.jsonl
    """
    from batchkit.cli import emulated  # noqa: PLC0415 - --help need not wait for the emulator

    if list_scenarios:
        emulated.scenarios()
    elif list_faults:
        emulated.faults()
    else:
        emulated.serve_emulator(
            directory,
            scenario,
            speed=speed,
            host=host,
            port=port,
            api_key=api_key,
            any_model=any_model,
            verbose=verbose,
        )
