"""The command of a very careless user: all logs of all libraries are on, and tracebacks show local variables.

``python noisy.py VERB ... ";" VERB ...`` runs several commands in one process and prints each one's exit code. ``BUG`` before
a verb makes the HTTP library raise an unexpected error, below frames whose variables hold the request.
"""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import contextmanager, nullcontext
from itertools import groupby
from typing import TYPE_CHECKING, Any

import httpx
from rich import traceback

from batchkit.cli.app import run_command
from batchkit.cli.prefect import leave

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def broken() -> Iterator[None]:
    """Make every request end in a bug."""
    send = httpx.HTTPTransport.handle_request

    def fail(_self: httpx.HTTPTransport, request: httpx.Request) -> Any:
        header = request.headers["authorization"]
        raise RuntimeError(f"a bug beside a header of {len(header)} characters")

    httpx.HTTPTransport.handle_request = fail  # type: ignore[method-assign, assignment] # replaced for a moment
    try:
        yield
    finally:
        httpx.HTTPTransport.handle_request = send  # type: ignore[method-assign] # the original


def main() -> None:
    """Run the commands."""
    logging.basicConfig(level=logging.DEBUG, format="%(name)s %(levelname)s %(message)s")
    for name in ("sqlalchemy.engine", "sqlalchemy.pool", "httpx", "httpcore", "alembic", "prefect", "psycopg"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    traceback.install(show_locals=True)
    threading.excepthook = lambda arguments: sys.excepthook(
        arguments.exc_type, arguments.exc_value or SystemExit(), arguments.exc_traceback
    )
    code = 0
    for is_separator, words in groupby(sys.argv[1:], lambda word: word == ";"):
        if not is_separator:
            command = list(words)
            is_broken = command[0] == "BUG"
            with broken() if is_broken else nullcontext():
                command = command[is_broken:]
                code = run_command(command)
            print(f"exit code {code}: {command[0]}", flush=True)  # noqa: T201 - the test reads it
    leave(code)


if __name__ == "__main__":
    main()
