"""The rows of a run with their answers and scores as a table: one row for each row, prompt, model and sample of the run."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa

from batchkit.annotation.row_answers import answered_batches
from batchkit.annotation.skipped import SKIPPED, SkippedRow
from batchkit.annotation.workload_from_table import snapshot_path
from batchkit.datasets import Snapshot, TableWriter, table_name_of
from batchkit.datasets.metadata import with_columns
from batchkit.datasets.values import text_of
from batchkit.errors import UsageError
from batchkit.evaluation.stored_suite import suite_of
from batchkit.evaluation.suite_dataset import parts_of
from batchkit.files import jsonl
from batchkit.store import evaluations
from batchkit.store.outputs import OutputTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy.engine import Connection

    from batchkit.annotation.request_answer import RequestAnswer
    from batchkit.annotation.row_answers import Answered
    from batchkit.engine.runtime import Runner
    from batchkit.evaluation.suite import Suite
    from batchkit.store.evaluations import Evaluation, ScoreOf

PREFIX: Final = "score_"
_ASKED: Final = (("prompt", pa.string()), ("model", pa.string()), ("sample", pa.int64()))
_STATE: Final = (
    ("prompt_tokens", pa.int64()),
    ("completion_tokens", pa.int64()),
    ("cost_usd", pa.float64()),
    ("finish_reason", pa.string()),
    ("custom_id", pa.string()),
    ("status", pa.string()),
    ("error", pa.string()),
)


class _Place(NamedTuple):
    """An answer, or None for a row that was skipped, with the place of its row in the batch."""

    row: int
    answer: RequestAnswer | None
    skipped: SkippedRow | None = None


class ScoredTable:
    """The scored rows of a finished run, as a stream of batches in bounded memory.

    First all columns of the input unchanged, then ``prompt``, ``model``, ``sample``, ``expected``, ``answer``, for each scorer its score
    and ``SCORER_reason`` (why there is none, or what it says beside it), behind those of several judges the same of each as
    ``SCORER:JUDGE``, then ``prompt_tokens``, ``completion_tokens``, ``cost_usd``
    (None: unknown), ``finish_reason``, ``custom_id``, ``status`` and ``error``. A column whose name the input has gets the prefix
    ``score_``. ``expected`` has the type of its column; in a run with rescored answers it is the text that was scored with. A
    row that was skipped has the status ``skipped`` and the reason as its error. Raises ``UsageError`` for a run that is not finished,
    ``UnknownWorkload`` if its answers were cleaned.
    """

    def __init__(self, runner: Runner, evaluation: Evaluation) -> None:
        if evaluation.finished_at is None:
            raise UsageError(
                f"the run {evaluation.name!r} is not finished, so it has no scores",
                hint="`batchkit eval SUITE` finishes it; without --scored its answers so far are written",
            )
        self._runner = runner
        self._evaluation = evaluation
        self._suite = suite_of(evaluation)
        self._workload = runner.find(evaluation.workload)
        self._scorers = [label for scorer in self._suite.scorers for label in scorer.kept_labels]
        source = Snapshot.open(snapshot_path(runner, self._workload)).schema
        self._expected = _expected_column(self._suite)
        self._is_relabelled = evaluation.derived_from is not None
        added = self._added(source)
        self.schema = pa.schema([*source, *added], with_columns(source.metadata, added))

    def _added(self, source: pa.Schema) -> list[pa.Field]:
        expected = pa.field("expected", pa.string())
        if self._expected is not None and self._expected in source.names and not self._is_relabelled:
            expected = source.field(self._expected).with_name("expected")
        scored = [
            field
            for label in self._scorers
            for field in (pa.field(label, pa.float64()), pa.field(f"{label}_reason", pa.string()))
        ]
        wanted = [
            *(pa.field(*column) for column in _ASKED),
            expected,
            pa.field("answer", pa.string()),
            *scored,
            *(pa.field(*column) for column in _STATE),
        ]
        taken = set(source.names)
        added = []
        for field in wanted:
            name = field.name
            while name in taken:
                name = f"{PREFIX}{name}"
            taken.add(name)
            added.append(field.with_name(name))
        return added

    def batches(self, advance: Callable[[int], None] = lambda _rows: None) -> Iterator[pa.RecordBatch]:
        """Yield the rows in the order of the input; ``advance`` gets the number of further rows of the input."""
        number = 1
        # A connection of its own: while the answers are read, theirs can run no other statement.
        with self._runner.store.read() as connection:
            for batch, answered in answered_batches(self._runner, self._workload):
                places = list(_places(answered))
                if places:
                    yield self._batch(connection, batch, places, number)
                number += len(batch)
                advance(len(batch))

    def _batch(
        self, connection: Connection, batch: pa.RecordBatch, places: Sequence[_Place], number: int
    ) -> pa.RecordBatch:
        rows = batch.take(pa.array([place.row for place in places], pa.int64()))
        answers = [place.answer for place in places]
        arrays = [
            *rows.columns,
            *(pa.array([_of(answer, name) for answer in answers], kind) for name, kind in _ASKED),
            self._expected_values(connection, rows, places, number, len(batch)),
            pa.array([None if answer is None else _text(answer) for answer in answers], pa.string()),
        ]
        asked = [answer.seq for answer in answers if answer is not None]
        for label in self._scorers:
            scores = {}
            if asked:
                scores = evaluations.scores_between(
                    connection, self._evaluation.id, label, first=asked[0], last=asked[-1]
                )
            found = [None if answer is None else scores.get(answer.seq) for answer in answers]
            arrays.append(pa.array([None if score is None else score.score for score in found], pa.float64()))
            arrays.append(pa.array([_reason(score) for score in found], pa.string()))
        told = [_state(place) for place in places]
        arrays += [pa.array(column, kind) for column, (_, kind) in zip(zip(*told, strict=True), _STATE, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _expected_values(
        self, connection: Connection, rows: pa.RecordBatch, places: Sequence[_Place], number: int, count: int
    ) -> pa.Array:
        column = self._expected
        if column is None:
            return pa.nulls(len(places), pa.string())
        if not self._is_relabelled:
            return rows.column(column) if column in rows.schema.names else pa.nulls(len(places), pa.string())
        labels = evaluations.labels_between(connection, self._evaluation.id, first=number, last=number + count - 1)
        texts = {place: jsonl.loads(text).get(column) for place, text in labels.items() if text is not None}
        return pa.array([texts.get(number + place.row) for place in places], pa.string())


def write_scored_table(
    runner: Runner,
    evaluation: Evaluation,
    target: str | Path,
    *,
    raw_csv: bool = False,
    advance: Callable[[int], None] = lambda _rows: None,
) -> int:
    """Write the scored rows of a run to a file (see ``TableWriter``) or to ``table:NAME``; returns the number of written rows.

    Raises as ``ScoredTable``, and ``UsageError`` for the target.
    """
    scored = ScoredTable(runner, evaluation)
    name = table_name_of(target)
    writer = (
        TableWriter(Path(target), scored.schema, raw_csv=raw_csv)
        if name is None
        else OutputTable(runner.store, name, scored.schema)
    )
    written = 0
    with writer:
        for batch in scored.batches(advance):
            writer.write(batch)
            written += len(batch)
    return written


def dataset_files(suite: Suite) -> Iterator[Path]:
    """Yield the files of a suite's datasets and examples; nothing for a query."""
    examples = () if suite.examples is None else parts_of(suite.examples.path, suite.folder)
    for part in (*suite.table_parts(), *examples):
        if "://" in part:
            continue
        path = Path(part)
        if path.is_dir():
            yield from path.iterdir()
        else:
            yield path
            yield from map(Path, glob.glob(part, recursive=True))  # noqa: PTH207 - the pattern may be absolute


def _expected_column(suite: Suite) -> str | None:
    return suite.expected or next((scorer.expected for scorer in suite.scorers if scorer.expected), None)


def _places(answered: Sequence[Answered]) -> Iterator[_Place]:
    for row, of_row in enumerate(answered):
        if isinstance(of_row, SkippedRow):
            yield _Place(row, None, of_row)
        else:
            yield from (_Place(row, answer) for answer in of_row)


def _of(answer: RequestAnswer | None, name: str) -> Any:
    return None if answer is None else getattr(answer, name)


def _text(answer: RequestAnswer) -> str | None:
    return answer.text if answer.text is not None or answer.value is None else text_of(answer.value)


def _reason(score: ScoreOf | None) -> str | None:
    return None if score is None else ": ".join(filter(None, (score.reason, score.detail))) or None


def _state(place: _Place) -> tuple[Any, ...]:
    answer = place.answer
    if answer is None:
        reason = None if place.skipped is None else f"{place.skipped.code}: {place.skipped.reason}"
        return None, None, None, None, None, SKIPPED, reason
    error = ": ".join(filter(None, (answer.error_code, answer.error_message)))
    return (
        answer.prompt_tokens,
        answer.completion_tokens,
        answer.cost_usd,
        answer.finish_reason,
        answer.custom_id,
        answer.status,
        error or None,
    )
