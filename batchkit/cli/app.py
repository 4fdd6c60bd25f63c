"""The command ``batchkit``: its verbs, and what becomes of their errors."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

import batchkit
from batchkit.cli.options.common import COMMAND_LINE
from batchkit.cli.options.helptext import help_of
from batchkit.cli.render import console, exits
from batchkit.cli.render.help_pages import VerbCommand, VerbGroup
from batchkit.cli.verbs import (
    adopt,
    annotate,
    db,
    demo,
    doctor,
    emulator,
    evaluate,
    manage,
    moderate,
    provider,
    report,
    run,
    runs,
    serve,
    speak,
    status,
    transcribe,
    view,
    watch,
)
from batchkit.errors import BatchkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_VERBOSE_FLAGS = frozenset({"-v", "--verbose", "--debug"})
_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Workloads": (
        run.run,
        run.submit,
        adopt.adopt,
        watch.watch,
        status.status,
        status.export,
        report.report,
        view.view,
    ),
    "Evaluations": (runs.runs, runs.compare),
    "Tables": (annotate.annotate, transcribe.transcribe, speak.speak, moderate.moderate),
    "Changing a workload": (manage.cancel, manage.resubmit, manage.clean),
    "Tools": (serve.serve, doctor.doctor, demo.demo, emulator.emulator),
}

app = typer.Typer(
    name="batchkit",
    cls=VerbGroup,
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(cls=VerbCommand, help=help_of(_command), rich_help_panel=_panel)(_command)
# The name of a function of Python's own.
app.command("eval", cls=VerbCommand, help=help_of(evaluate.evaluate), rich_help_panel="Evaluations")(evaluate.evaluate)
app.add_typer(db.app, name="db", rich_help_panel="Tools")
app.add_typer(provider.app, name="provider", rich_help_panel="Tools")


def _print_version(wanted: bool) -> None:
    if wanted:
        console.say(console.stdout(), f"batchkit {batchkit.__version__}")
        raise typer.Exit


def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Run bulk workloads on the Groq Batch API, durably, and pay for each answer once.

    Settings come from flags, from the environment (GROQ_API_KEY, BATCHKIT_HOME, BATCHKIT_DATABASE_URL, BATCHKIT_BASE_URL),
    from a .env file in the working directory and from a batchkit.toml there or in a folder above; the first one that has a setting wins. `batchkit doctor` shows where each comes from.

    For example:

        batchkit demo                  try it without a key
        batchkit run requests.jsonl    the same command resumes
        batchkit status
    """


app.callback(help=help_of(root))(root)


def run_command(words: Sequence[str]) -> int:
    """Run one command line (without the leading ``batchkit``); returns the exit code, raises nothing."""
    COMMAND_LINE.set(tuple(words))
    console.survive_odd_terminals()
    err = console.stderr()
    is_verbose = bool(_VERBOSE_FLAGS & set(words))
    console.log_to(err, verbose=is_verbose)
    try:
        _click_command()(args=list(words), prog_name="batchkit")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BatchkitError as error:
        console.complain(err, error)
        if is_verbose:
            console.say(err, traceback.format_exc().rstrip())
        return error.exit_code
    except KeyboardInterrupt:
        console.say(err, "interrupted")
        return exits.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last stop: a bug gets its exit code, and its traceback a place
        _report_bug(error, is_verbose=is_verbose)
        return 1
    return exits.SUCCEEDED


@cache
def _click_command() -> Any:
    # Built from the signatures of all verbs, which takes longer than many a command does.
    return typer.main.get_command(app)


def _report_bug(error: Exception, *, is_verbose: bool) -> None:
    err = console.stderr()
    trace = traceback.format_exc().rstrip()
    console.say(err, f"error: this is a bug in batchkit: {type(error).__name__}: {error}")
    if is_verbose:
        console.say(err, trace)
        return
    try:
        descriptor, path = tempfile.mkstemp(prefix="batchkit-", suffix=".log")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as log:
            log.write(f"batchkit {batchkit.__version__}, Python {sys.version}\n{trace}\n")
    except OSError:
        console.say(err, "hint: -v shows where it happened")
        return
    console.say(err, f"hint: the traceback is in {path}; nothing is lost; the same command resumes")
