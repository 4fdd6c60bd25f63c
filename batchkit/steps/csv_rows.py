"""Results as rows of a CSV file without cells that a spreadsheet would run as formulas (see ``batchkit.datasets.formulas``)."""

from __future__ import annotations

import csv
import io
from operator import itemgetter
from typing import TYPE_CHECKING

from batchkit.datasets.formulas import without_formula
from batchkit.files import jsonl
from batchkit.models import RequestState
from batchkit.steps.export_columns import CSV_COLUMNS
from batchkit.store.rows import AnswerFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batchkit.steps.replaced import ReplacedHalves
    from batchkit.store.results import ExportRow

#: The cells in the order in which ``render`` collects them.
_SOURCES = (
    "custom_id",
    "status",
    "answer",
    "status_code",
    "error_code",
    "error_message",
    "attempts",
    "batch_id",
    "reused_from",
    *AnswerFacts._fields,
)
_in_order = itemgetter(*map(_SOURCES.index, CSV_COLUMNS))


def render(
    rows: Iterator[ExportRow],
    batch_id_of: Callable[[ExportRow], str | None],
    *,
    raw: bool = False,
    replaced: ReplacedHalves,
) -> Iterator[bytes]:
    """Yield one piece of UTF-8 per row, the first one with the header; ``raw`` leaves formulas unchanged.

    Only a success has an answer: the body of a failure is an error, and is shown in the error's columns. ``replaced`` counts
    the answers that UTF-8 cannot hold.
    """
    text = _unchanged if raw else without_formula
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        has_answer = row.state == RequestState.SUCCEEDED
        if has_answer:
            replaced.note(row.body)
        cells = (
            row.custom_id,
            row.state,
            jsonl.answer_text(row.body) if has_answer else None,
            row.status_code,
            row.error_code,
            row.error_message,
            row.attempts,
            batch_id_of(row),
            row.reused_from,
            *row.facts,
        )
        writer.writerow([text(cell) if isinstance(cell, str) else cell for cell in _in_order(cells)])
        # One row at a time: the caller counts the pieces.
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()


def _unchanged(text: str) -> str:
    return text
