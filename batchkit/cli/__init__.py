"""The command line. Verbs parse, call and print; what they call is loaded when they run."""

from __future__ import annotations

import sys


def main() -> None:
    """Run ``batchkit`` with the words of the command line and leave with its exit code."""
    try:
        from batchkit.cli.render.pipes import outlive_readers  # noqa: PLC0415 - an early Ctrl-C is not worth a traceback

        outlive_readers()
        from batchkit.cli.app import run_command  # noqa: PLC0415 - as above
        from batchkit.cli.interrupts import insistent  # noqa: PLC0415 - as above

        with insistent():
            exit_code = run_command(sys.argv[1:])
    except KeyboardInterrupt:
        exit_code = 130
    # Python would end `python -m batchkit` by SIGINT for an interrupt that met text compiled by a library, until it next
    # compiles some (run_eval_code_obj in its pythonrun.c).
    exec("")  # noqa: S102 - nothing
    if "batchkit.cli.prefect" in sys.modules:
        from batchkit.cli.prefect import leave  # noqa: PLC0415 - only needed when it has been loaded

        leave(exit_code)
    sys.exit(exit_code)
