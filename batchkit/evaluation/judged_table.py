"""The table of a judge's workload: the answers of a run with their rows, and the sample that people have judged.

The column ``judged_answer_id`` names its rows: ``h`` and the number of a labelled row of the dataset, ``a`` and the ``seq`` of the request
whose answer is judged alone. A pair has two rows, with the ``seq`` of the answer that gets the score: ``f``, in which that one is
shown first, and ``s``, in which it is shown second.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from batchkit.annotation.row_answers import answered_batches
from batchkit.annotation.skipped import SkippedRow
from batchkit.annotation.workload_from_table import snapshot_path
from batchkit.datasets import Snapshot, rows_of
from batchkit.datasets.values import text_of
from batchkit.evaluation.scorers import pick

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from batchkit.annotation.request_answer import RequestAnswer
    from batchkit.datasets import Table
    from batchkit.engine.runtime import Runner
    from batchkit.evaluation.scorers import Judge
    from batchkit.models import Workload

LABELLED: Final = "h"
ALONE: Final = "a"
SHOWN_FIRST: Final = "f"
SHOWN_SECOND: Final = "s"


class _Judged(NamedTuple):
    """A row of a judge's table: the place of its row in a batch of the dataset, and the texts of ``Judge.columns_beside``."""

    place: int
    texts: tuple[str, ...]


def write_judged(runner: Runner, main: Workload, judge: Judge, path: Path) -> int:
    """Write what is to judge of a finished workload, the sample of people first; returns the number of rows."""
    import pyarrow as pa  # noqa: PLC0415 - only where there is a judge

    source = Snapshot.open(snapshot_path(runner, main))
    beside = [(name, pa.string()) for name in judge.columns_beside]
    schema = pa.schema([*source.schema, *beside], source.schema.metadata)
    written = 0
    with Snapshot.writer(path, schema) as writer:
        for batch, judged in chain(_labelled(source, judge), _answers(runner, main, judge)):
            if judged:
                rows = batch.take(pa.array([one.place for one in judged], pa.int64()))
                own = [pa.array(texts, pa.string()) for texts in zip(*(one.texts for one in judged), strict=True)]
                writer.write(pa.RecordBatch.from_arrays([*rows.columns, *own], schema=schema))
                written += len(judged)
    return written


def judged_text(answer: RequestAnswer, judge: Judge) -> str | None:
    """Return the part of an answer that is judged; None for a failed answer, and for one without that part."""
    if answer.status != "succeeded" or answer.value is None:
        return None
    if judge.field is None:
        return text_of(answer.value)
    found = pick(answer.value, judge.field)
    return text_of(found.value) if found.exists else None


def opponent_text(
    judge: Judge, row: Mapping[str, Any], answers: Sequence[RequestAnswer], answer: RequestAnswer
) -> str | None:
    """Return what an answer to a row is compared with, of all ``answers`` to the row the one to the same sample; None if it failed."""
    against = judge.against
    if against is None:
        return None
    if against.column is not None:
        return text_of(row[against.column])
    wanted = (against.prompt or answer.prompt, against.model or answer.model, answer.sample)
    found = next((one for one in answers if (one.prompt, one.model, one.sample) == wanted), None)
    return None if found is None else judged_text(found, judge)


def _labelled(source: Table, judge: Judge) -> Iterator[tuple[pa.RecordBatch, list[_Judged]]]:
    human = judge.human
    if human is None:
        return
    number = 0
    for batch in source.batches():
        judged = []
        for place, row in enumerate(rows_of(batch.select([human.answer, human.label]))):
            number += 1
            answer = text_of(row[human.answer])
            if answer and text_of(row[human.label]):
                judged.append(_Judged(place, (f"{LABELLED}{number}", answer, "", "")))
        yield batch, judged


def _answers(runner: Runner, main: Workload, judge: Judge) -> Iterator[tuple[pa.RecordBatch, list[_Judged]]]:
    for batch, answered in answered_batches(runner, main):
        rows = rows_of(batch)
        judged = [
            _Judged(place, texts)
            for place, of_row in enumerate(answered)
            if not isinstance(of_row, SkippedRow) and judge.is_judgeable(rows[place])
            for answer in of_row
            for texts in _shown(judge, rows[place], of_row, answer)
        ]
        yield batch, judged


def _shown(
    judge: Judge, row: Mapping[str, Any], answers: Sequence[RequestAnswer], answer: RequestAnswer
) -> Iterator[tuple[str, ...]]:
    """Yield what the judge is shown of an answer: once alone, or twice in a pair. Two equal texts are a tie without a judge."""
    text = judged_text(answer, judge)
    if text is None or not judge.concerns(answer.prompt, answer.model):
        return
    if judge.against is None:
        yield f"{ALONE}{answer.seq}", text, answer.model, answer.prompt
        return
    other = opponent_text(judge, row, answers, answer)
    if other is not None and other != text:
        yield f"{SHOWN_FIRST}{answer.seq}", text, other
        yield f"{SHOWN_SECOND}{answer.seq}", other, text
