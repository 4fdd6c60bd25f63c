"""Results as rows of a CSV file, of which no cell is a formula to a spreadsheet.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-``, ``@`` and their like as a formula, and a custom_id, an answer or
an error message may be written by a stranger (CWE-1236; OWASP, "CSV Injection"). Such a cell gets an apostrophe in front,
which makes a spreadsheet take it as text. A plain number stays as it is: it computes nothing.

A cell that already begins with apostrophes before such a sign gets one more, so that two texts never become one cell.
Hence the way back: of a cell that begins with apostrophes and then such a sign, take off the first apostrophe.
"""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

from batchkit import jsonl
from batchkit.models import RequestState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batchkit.store.results import ExportRow

COLUMNS = (
    "custom_id",
    "status",
    "answer",
    "finish_reason",
    "status_code",
    "error_code",
    "error_message",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "attempts",
    "batch_id",
)

# The last four are what East Asian input methods make of the first four; spreadsheets take them for the same.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\x00\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def render(
    rows: Iterator[ExportRow], batch_id_of: Callable[[ExportRow], str | None], *, raw: bool = False
) -> Iterator[bytes]:
    """Write one piece of UTF-8 per row, the header together with the first; ``raw`` leaves formulas as they are.

    Only a success has an answer: what a failure has for a body is an error, and stands in the error's columns.
    """
    text = _unchanged if raw else without_formula
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(
            (
                text(row.custom_id),
                row.state,
                text(jsonl.answer_text(row.body)) if row.state == RequestState.SUCCEEDED else None,
                text(row.finish_reason),
                row.status_code,
                text(row.error_code),
                text(row.error_message),
                row.prompt_tokens,
                row.completion_tokens,
                row.total_tokens,
                row.attempts,
                text(batch_id_of(row)),
            )
        )
        # One row at a time: the caller counts what it is given.
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()


def without_formula(text: str | None) -> str | None:
    """Put an apostrophe in front of a text that a spreadsheet would run."""
    if not text or _FORMULA.match(text) is None or _NUMBER.fullmatch(text) is not None:
        return text
    return f"'{text}"


def _unchanged(text: str | None) -> str | None:
    return text
