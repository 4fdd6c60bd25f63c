"""Results as rows of a CSV file, of which no cell is a formula to a spreadsheet (see ``batchkit.datasets.formulas``)."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from batchkit.datasets.formulas import without_formula
from batchkit.files import jsonl
from batchkit.models import RequestState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batchkit.steps.replaced import ReplacedHalves
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


def render(
    rows: Iterator[ExportRow],
    batch_id_of: Callable[[ExportRow], str | None],
    *,
    raw: bool = False,
    replaced: ReplacedHalves,
) -> Iterator[bytes]:
    """Write one piece of UTF-8 per row, the header together with the first; ``raw`` leaves formulas as they are.

    Only a success has an answer: what a failure has for a body is an error, and stands in the error's columns. ``replaced`` counts
    the answers that no UTF-8 holds.
    """
    text = _unchanged if raw else without_formula
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    for row in rows:
        has_answer = row.state == RequestState.SUCCEEDED
        if has_answer:
            replaced.note(row.body)
        writer.writerow(
            (
                text(row.custom_id),
                row.state,
                text(jsonl.answer_text(row.body)) if has_answer else None,
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


def _unchanged(text: str | None) -> str | None:
    return text
