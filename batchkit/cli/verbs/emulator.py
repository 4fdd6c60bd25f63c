"""``emulator``: an emulated batch API on this machine."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from batchkit.cli.options import common, completion
from batchkit.cli.render import console
from batchkit.errors import UsageError

if TYPE_CHECKING:
    from batchkit.emulator import Emulator

Directory = Annotated[
    Path | None,
    typer.Option(
        "--directory",
        metavar="FOLDER",
        help="Where everything is kept, so that a later emulator continues from there (default a temporary folder).",
        show_default=False,
    ),
]


def emulator(
    *,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option("--port", metavar="N", min=0, max=65_535, help="The port to listen on; 0 takes a free one."),
    ] = 8765,
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
    provider: Annotated[
        str | None,
        typer.Option(
            "--provider",
            metavar="NAME",
            help="The provider to be: groq, openai, azure, qwen, kimi, nebius, litellm, ogx, vllm, together or mistral"
            " (default what the directory was last served as, at first groq).",
            show_default=False,
            autocompletion=completion.emulated_providers,
        ),
    ] = None,
    directory: Directory = None,
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
            help="Answer requests to any model (default only to those that GET /models lists: the provider's, or the scenario's).",
        ),
    ] = False,
    plan: Annotated[
        Literal["free", "developer"] | None,
        typer.Option(
            "--plan",
            metavar="free|developer",
            help="The account's plan: its rate limits of synchronous calls, its service tiers, and with free no batches (default"
            " none, with no short limits), unless the scenario names one.",
            show_default=False,
        ),
    ] = None,
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
    """Serve an emulated batch API on this machine, for trials and tests: Groq's, or with --provider another one's.

    It answers batches and synchronous calls with made-up texts. The scenario sets how long batches take and which faults occur. GET /_emulator/ledger shows
    which requests were executed and paid for. It runs until Ctrl-C.

    For example:

        batchkit emulator --scenario expire-30
        export GROQ_API_KEY=any BATCHKIT_BASE_URL=http://127.0.0.1:8765/openai/v1
        batchkit run requests.jsonl

        batchkit emulator --provider openai
        batchkit emulator --plan free --speed 60
    """
    if list_scenarios or list_faults:
        from batchkit.cli.render import scenarios  # noqa: PLC0415 - --help need not wait for the emulator

        scenarios.show_scenarios() if list_scenarios else scenarios.show_faults()
        return
    from batchkit.emulator import serve  # noqa: PLC0415 - as above

    if not 0 < speed < math.inf:
        raise UsageError(f"--speed {speed:g} is no speed", hint="give a number above 0; 1 is the provider's own speed")
    console.log_to(console.stderr(), verbose=verbose)
    serve(
        directory,
        scenario,
        speed=speed,
        host=host,
        port=port,
        api_key=api_key,
        any_model=any_model,
        provider=provider,
        plan=plan,
        on_ready=lambda emulator: _announce(emulator, has_key=bool(api_key)),
    )


def _announce(emulator: Emulator, *, has_key: bool) -> None:
    from batchkit.emulator import DEFAULT_PROVIDER  # noqa: PLC0415 - as above

    out, err = console.stdout(), console.stderr()
    console.say(out, emulator.base_url)
    out.file.flush()
    dialect = emulator.dialect
    provider = "" if dialect.name == DEFAULT_PROVIDER else f"BATCHKIT_PROVIDER={dialect.name} "
    key = f"{dialect.key_variable}={'...' if has_key else 'any'}"
    console.say(err, f"export {provider}BATCHKIT_BASE_URL={emulator.base_url} {key}")
    console.say(err, f"ledger: {emulator.root_url}/_emulator/ledger; files in {emulator.directory}; Ctrl-C ends it")
