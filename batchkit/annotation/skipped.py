"""Rows of a table that have no request, and that the user wants skipped: the output has them, with the reason.

They are kept beside the copy of the table, as JSON Lines in the order of the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from batchkit.errors import SpoolError
from batchkit.files import jsonl
from batchkit.files.spool import disk_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload

#: The name of the file in the folder of the workload.
SKIPPED_ROWS: Final = "skipped.jsonl"
#: The status of such a row in the output.
SKIPPED: Final = "skipped"


class SkippedRow(NamedTuple):
    """A row that is not asked: ``number`` starts at 1, ``code`` is the reason for programs and ``reason`` for people."""

    number: int
    code: str
    reason: str

    def line(self) -> bytes:
        r"""Return it as a line of the file, with its ``\n``."""
        return jsonl.dumps(list(self)) + b"\n"


def read_skipped(path: Path) -> Iterator[SkippedRow]:
    """Read the rows of a file in order. Raises ``SpoolError``."""
    with disk_errors("read", path), path.open("rb") as file:
        for line in file:
            try:
                row = SkippedRow(*jsonl.loads(line))
            except (jsonl.MalformedJson, TypeError) as error:
                raise SpoolError(f"{path} is damaged: {error}", hint="restore the contents of BATCHKIT_HOME") from error
            yield row


class SkippedRows:
    """The skipped rows of a workload, for a reader that asks for the numbers of its rows in ascending order."""

    def __init__(self, runner: Runner, workload: Workload) -> None:
        self._rows = read_skipped(runner.kept_file(workload, SKIPPED_ROWS)) if workload.skipped_rows else iter(())
        self._next = next(self._rows, None)

    def at(self, number: int) -> SkippedRow | None:
        """Return the skipped row of this number; None for a row that was asked."""
        found = self._next
        if found is None or found.number != number:
            return None
        self._next = next(self._rows, None)
        return found
