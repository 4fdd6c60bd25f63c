"""The rows of a table with their answers, from a workload that was made from the table.

The rows come from the snapshot that was taken when the requests were made, the answers from the store, both as streams in the
order of the requests. They are matched by custom_id, not by position.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batchkit.annotation.executed_tools import executed_tools
from batchkit.annotation.output_columns import OutputColumns, tells_tools
from batchkit.annotation.recipe import load_recipe
from batchkit.annotation.request_answer import RequestAnswer
from batchkit.annotation.reviewed import DecidedRows
from batchkit.annotation.skipped import SkippedRow, SkippedRows
from batchkit.annotation.spoken import placed
from batchkit.annotation.workload_from_table import request_ids, snapshot_path
from batchkit.answers.check import AnswerCheck
from batchkit.datasets import Snapshot, TableWriter, rows_of, table_name_of
from batchkit.errors import SpoolError, UsageError
from batchkit.files.jsonl import answer_text
from batchkit.models import RequestState
from batchkit.provider.pricing import Pricing, pricing_of
from batchkit.steps.replaced import ReplacedHalves
from batchkit.store import attempts, results, shards
from batchkit.store.outputs import OutputTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pyarrow as pa

    from batchkit.annotation.ids import RequestIds
    from batchkit.annotation.recipe import Recipe
    from batchkit.annotation.weighing import WeightedVotes
    from batchkit.engine.runtime import Runner
    from batchkit.models import ShardId, Workload
    from batchkit.store.attempts import Spent
    from batchkit.store.results import ExportRow

#: The number of answers in memory at once; a transcript is as large as a hundred labels.
_ANSWERS_AT_ONCE: Final = 4_096
_TRANSCRIPTS_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class RowAnswers:
    """A row of the table, ``number`` starting at 1, with its answers: by prompt, then model, then sample.

    A row that was ``skipped`` has none.
    """

    number: int
    row: dict[str, Any]
    answers: tuple[RequestAnswer, ...]
    skipped: SkippedRow | None = None


#: What there is beside a row: its answers, or why it was not asked.
Answered = tuple[RequestAnswer, ...] | SkippedRow


def read_row_answers(runner: Runner, workload: Workload) -> Iterator[RowAnswers]:
    """Stream the rows of a workload that was made from a table, in order, each with all its answers, in bounded memory.

    Raises ``UsageError`` if it was made from requests or is not split yet, ``SpoolError`` if the snapshot is lost or does not belong to
    the requests.
    """
    rows = (
        answered
        for batch, answers in answered_batches(runner, workload)
        for answered in zip(rows_of(batch), answers, strict=True)
    )
    for number, (row, of_row) in enumerate(rows, 1):
        if isinstance(of_row, SkippedRow):
            yield RowAnswers(number, row, (), of_row)
        else:
            yield RowAnswers(number, row, of_row)


def answered_batches(runner: Runner, workload: Workload) -> Iterator[tuple[pa.RecordBatch, list[Answered]]]:
    """Stream the rows as batches of their columns, each with the answers of its rows. Raises as ``read_row_answers``."""
    return _answered_batches(runner, workload, _recipe_of(workload), ReplacedHalves())


def write_output_table(
    runner: Runner,
    workload: Workload,
    target: str | Path,
    *,
    raw_csv: bool = False,
    review_only: bool = False,
    where: str | None = None,
    weighted: WeightedVotes | None = None,
    advance: Callable[[int], None] = lambda _rows: None,
) -> int:
    """Write the table with its answers, one row for each input row in order; returns the number of written rows.

    ``target`` is a file (see ``TableWriter``), or ``table:NAME`` for a table in the results database (see ``OutputTable``). The
    columns are those of ``OutputColumns``. ``review_only`` keeps the rows that people should look at (see ``Voting.review``), ``where`` the rows that are
    ``safe`` or ``unsafe``. ``weighted`` votes, which have learnt from the workload, take the place of the majority. ``advance`` gets the number of further rows that were read. Raises as ``read_row_answers``, and
    ``UsageError`` for the target and for a filter that does not fit the answers.
    """
    recipe = _recipe_of(workload)
    snapshot = Snapshot.open(snapshot_path(runner, workload))
    decided = DecidedRows(runner, workload)
    columns = OutputColumns(
        recipe,
        snapshot.schema,
        weighted,
        is_reviewed=decided.count > 0,
        tells_tools=tells_tools(recipe, workload.provider),
    )
    wanted = columns.chooser(review_only=review_only, where=where)
    written = 0
    replaced = ReplacedHalves()
    folder = Path(target).absolute().parent
    with _open(runner, target, columns.schema, raw_csv=raw_csv) as writer:
        for batch, answers in _answered_batches(runner, workload, recipe, replaced):
            decisions = decided.following(len(batch)) if decided.count else ()
            shown = answers if recipe.speech is None else placed(answers, runner.spool, folder)
            annotated = wanted(columns.with_answers(batch, shown, decided=decisions, review_only=review_only))
            if len(annotated):
                writer.write(annotated)
                written += len(annotated)
            advance(len(batch))
    replaced.report(str(target))
    return written


def _open(runner: Runner, target: str | Path, schema: pa.Schema, *, raw_csv: bool) -> TableWriter | OutputTable:
    name = table_name_of(target)
    return (
        TableWriter(Path(target), schema, raw_csv=raw_csv) if name is None else OutputTable(runner.store, name, schema)
    )


def _recipe_of(workload: Workload) -> Recipe:
    if workload.recipe is None:
        raise UsageError(
            f"the workload {workload.name!r} was made from requests and not from a table",
            hint="`batchkit export` writes its results",
        )
    if workload.request_count is None:
        raise UsageError(
            f"the workload {workload.name!r} is not prepared yet", hint="run the command again that created it"
        )
    return load_recipe(workload.recipe)


def _answered_batches(
    runner: Runner, workload: Workload, recipe: Recipe, replaced: ReplacedHalves
) -> Iterator[tuple[pa.RecordBatch, list[Answered]]]:
    """Yield the rows in batches, with the answers of each; ``replaced`` counts characters that UTF-8 cannot hold."""
    at_once = _TRANSCRIPTS_AT_ONCE if recipe.rules.format == "transcript" else _ANSWERS_AT_ONCE
    per_row = recipe.requests_per_row
    path = snapshot_path(runner, workload)
    snapshot = Snapshot.open(path)
    ids = request_ids(recipe, path)
    skipped = SkippedRows(runner, workload)
    number = 0
    # Two connections, because two streams are read at the same time.
    with (
        runner.store.read() as connection,
        runner.store.read() as beside,
        closing(attempts.spent_on_bad_answers(beside, workload.id)) as on_bad_answers,
        closing(results.stream(connection, workload.id)) as stream,
    ):
        reader = _AnswerReader(
            recipe,
            shards.batch_ids(connection, workload.id),
            pricing_of(workload.provider, workload.lane),
            tells_tools=tells_tools(recipe, workload.provider),
        )
        spent = _SpentTokens(on_bad_answers)
        for batch in snapshot.batches(rows=max(at_once // per_row, 1)):
            answers: list[Answered] = []
            for key in _keys(batch, ids, recipe, number + 1):
                number += 1
                skipped_row = skipped.at(number)
                if skipped_row is not None:
                    answers.append(skipped_row)
                    continue
                of_row = list(islice(stream, per_row))
                expected = ids.of_key(key)
                if [found.custom_id for found in of_row] != expected:
                    raise _foreign(workload, number)
                for found in of_row:
                    replaced.note(found.body)
                answers.append(tuple(reader.read(found, place, spent) for place, found in enumerate(of_row)))
            yield batch, answers
        if next(stream, None) is not None:
            raise _foreign(workload, number + 1)


def _keys(batch: pa.RecordBatch, ids: RequestIds, recipe: Recipe, first: int) -> Iterator[str]:
    if recipe.key is None:
        return (ids.key_of(None, number) for number in range(first, first + len(batch)))
    rows = rows_of(batch.select([recipe.key]))
    return (ids.key_of(row, number) for number, row in enumerate(rows, first))


def _foreign(workload: Workload, number: int) -> SpoolError:
    return SpoolError(
        f"the table that is kept for the workload {workload.name!r} does not match its requests (row {number:,})",
        hint="restore the contents of BATCHKIT_HOME; `batchkit export` writes the results without the table",
    )


class _SpentTokens:
    """The tokens of rejected answers; requested in input order."""

    def __init__(self, stream: Iterator[Spent]) -> None:
        self._stream = stream
        self._next = next(stream, None)

    def of(self, row: ExportRow) -> tuple[int | None, int | None]:
        """Return all tokens of a request (prompt, completion): those of its success, if any, and of every rejected answer."""
        success = row.state == RequestState.SUCCEEDED
        prompt, completion = (row.facts.prompt_tokens, row.facts.completion_tokens) if success else (None, None)
        while self._next is not None and self._next.seq < row.seq:
            self._next = next(self._stream, None)
        if self._next is None or self._next.seq != row.seq:
            return prompt, completion
        return (prompt or 0) + self._next.prompt_tokens, (completion or 0) + self._next.completion_tokens


class _AnswerReader:
    """Reads the stored results of a recipe's requests."""

    def __init__(
        self, recipe: Recipe, batch_ids: Mapping[ShardId, str | None], pricing: Pricing, *, tells_tools: bool
    ) -> None:
        self._pricing = pricing
        self._tells_tools = tells_tools
        self._check = AnswerCheck(recipe.answer_rules({}))
        self._batch_ids = batch_ids
        self._is_audio = recipe.audio is not None
        self._is_speech = recipe.speech is not None
        self._annotators = [
            (prompt.name, model, sample)
            for prompt in recipe.prompts
            for model in recipe.models
            for sample in range(1, recipe.samples + 1)
        ]

    def read(self, row: ExportRow, place: int, spent: _SpentTokens) -> RequestAnswer:
        """Return the result of a row's ``place``-th request, counted from 0."""
        prompt, model, sample = self._annotators[place]
        value, code, message = None, row.error_code, row.error_message
        if row.state == RequestState.SUCCEEDED and row.body is not None:
            reading = self._check.read(row.body)
            value, code, message = reading.value, reading.code, reading.message or None
        prompt_tokens, completion_tokens = spent.of(row)
        shard_id = row.shard_id if row.result_shard_id is None else row.result_shard_id
        return RequestAnswer(
            row.custom_id,
            row.seq,
            prompt,
            model,
            sample,
            row.state,
            value,
            value if isinstance(value, str) else answer_text(row.body),
            code,
            message,
            row.facts.finish_reason,
            row.attempts,
            prompt_tokens,
            completion_tokens,
            self._cost(model, prompt_tokens, completion_tokens, value) if row.reused_from is None else 0.0,
            self._batch_ids.get(shard_id),
            shard_id,
            row.reused_from,
            executed_tools(row.body) if self._tells_tools and value is not None else None,
        )

    def _cost(self, model: str, prompt_tokens: int | None, completion_tokens: int | None, value: Any) -> float | None:
        if self._is_audio:
            seconds = value["duration"] if value is not None else None
            return None if seconds is None else self._pricing.price_audio(model, seconds)
        if self._is_speech:
            characters = None if value is None else value.get("characters")
            return None if characters is None else self._pricing.price_speech(model, characters)
        if prompt_tokens is None or completion_tokens is None:
            return None
        return self._pricing.price(model, prompt_tokens, completion_tokens)
