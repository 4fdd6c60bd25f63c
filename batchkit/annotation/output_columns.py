"""The columns of the output table: the input's columns, the answers, and the state of the requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from batchkit.annotation.column_values import filled, fitted
from batchkit.annotation.columns import free_name, value_columns
from batchkit.annotation.executed_tools import TOOL_COLUMNS, tool_cells
from batchkit.annotation.skipped import SKIPPED, SkippedRow
from batchkit.annotation.votes import Vote
from batchkit.annotation.voting import Voting
from batchkit.datasets.metadata import with_columns
from batchkit.datasets.rows import is_json, json_texts
from batchkit.errors import UsageError
from batchkit.models import RequestState
from batchkit.provider.stored import runs_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from batchkit.annotation.recipe import Recipe
    from batchkit.annotation.request_answer import RequestAnswer
    from batchkit.annotation.row_answers import Answered
    from batchkit.annotation.weighing import WeightedVotes

#: The error code of a valid answer that does not fit into its column.
TOO_LARGE: Final = "answer_too_large"
_STATE: Final = (
    ("custom_id", pa.string()),
    ("status", pa.string()),
    ("error", pa.string()),
    ("error_message", pa.string()),
    ("attempts", pa.int64()),
    ("prompt_tokens", pa.int64()),
    ("completion_tokens", pa.int64()),
    ("cost_usd", pa.float64()),
    ("reused_from", pa.string()),
)
_REVIEWED: Final = ("reviewed", pa.bool_())
_AGREEMENT: Final = (("agreement", pa.float64()), ("votes", pa.int64()))


class OutputColumns:
    """The columns of the output table.

    First all columns of the input unchanged, with the metadata of the schema, then the columns of the answer (see ``columns.value_columns``), then ``custom_id``,
    ``status``, ``error`` (a code), ``error_message``, ``attempts``, ``prompt_tokens``, ``completion_tokens``, ``cost_usd`` (None:
    unknown) and ``reused_from``, which names the request whose answer the row got without being sent. A new column whose name is taken gets the prefix ``answer_``.

    With several annotators (prompts, models, samples) the answer's columns hold the vote on the valid answers, property by
    property: the majority, null in a tie, and the median of numbers. ``agreement`` follows them (see ``votes.Vote``), then ``votes``,
    the number of valid answers, and for numbers ``spread``, the highest minus the lowest. With ``weighted`` votes labels are theirs,
    and ``confidence`` is the probability of each. With ``is_reviewed`` the column ``reviewed`` says whose answer people decided. With ``tells_tools`` (see
    ``tells_tools``) ``tools`` lists the tools that compound systems have run for the row, ``tool_count`` counts them, and
    ``executed_tools`` is what the server tells of them, with arguments and results, as JSON. Attempts, tokens and cost are sums; ``status`` is
    ``succeeded`` if one request succeeded; ``custom_id`` is the part that the row's requests share; ``answers`` lists the answer of
    each annotator. A row that was skipped has the status ``skipped``, the reason as its error, no ``custom_id`` and no answer.
    """

    def __init__(
        self,
        recipe: Recipe,
        table: pa.Schema,
        weighted: WeightedVotes | None = None,
        *,
        is_reviewed: bool = False,
        tells_tools: bool = False,
    ) -> None:
        self._recipe = recipe
        self._tells_tools = tells_tools
        self._is_reviewed = is_reviewed
        self._weighted = weighted
        self._is_voted = recipe.requests_per_row > 1
        self._values = value_columns(recipe)
        self._voting = Voting(recipe, self._values)
        told = [
            *(self._vote_columns() if self._is_voted else ()),
            *([_REVIEWED] if is_reviewed else []),
            *(TOOL_COLUMNS if tells_tools else ()),
            *_STATE,
        ]
        taken = set(table.names)
        self._state = [pa.field(free_name(name, taken), kind) for name, kind in told]
        taken.update(field.name for field in self._state)
        self._named = []
        for field in self._values.fields:
            self._named.append(field.with_name(free_name(field.name, taken)))
            taken.add(self._named[-1].name)
        self._answers = [pa.field(free_name("answers", taken), self._answers_type())] if self._is_voted else []
        added = [*self._named, *self._state, *self._answers]
        self.schema = pa.schema([*table, *added], with_columns(table.metadata, added))

    @property
    def names(self) -> dict[str, str]:
        """The columns of the answer by the names in its value."""
        return {field.name: named.name for field, named in zip(self._values.fields, self._named, strict=True)}

    def with_answers(
        self,
        batch: pa.RecordBatch,
        answered: Sequence[Answered],
        *,
        decided: Sequence[Mapping[str, Any] | None] = (),
        review_only: bool = False,
    ) -> pa.RecordBatch:
        """Return rows together with their answers; with ``review_only`` only those that people should look at.

        ``decided`` are what people decided about the rows, in place of the answers; None for a row about which they did not.
        """
        answers = [() if isinstance(of_row, SkippedRow) else of_row for of_row in answered]
        valid = [
            [self._values.spread(answer.value) for answer in of_row if answer.value is not None] for of_row in answers
        ]
        votes = [self._vote(values) for values in valid]
        spread = [vote.value or {} for vote in votes]
        confidences = self._weigh(answers, spread)
        for place, decision in enumerate(decided):
            if decision is not None:
                spread[place] = {**spread[place], **decision}
        too_large: dict[int, str] = {}
        arrays = list(batch.columns)
        for field in self._values.fields:
            array, unfit = filled(field, [values.get(field.name) for values in spread])
            arrays.append(array)
            too_large |= dict.fromkeys(unfit, field.name)
        if self._is_voted:
            arrays += self._told_of_votes(votes, valid, answered)
        if self._weighted is not None:
            arrays.append(pa.array(confidences, self._confidence_type()))
        if self._is_reviewed:
            arrays.append(pa.array([decision is not None for decision in decided], pa.bool_()))
        if self._tells_tools:
            cells = [tool_cells(_tools_of(of_row)) for of_row in answers]
            columns = zip(*cells, strict=True) if cells else ((),) * len(TOOL_COLUMNS)
            arrays += [pa.array(column, kind) for column, (_, kind) in zip(columns, TOOL_COLUMNS, strict=True)]
        arrays += self._state_columns(answered, too_large)
        if self._is_voted:
            arrays.append(filled(self._answers[0], [list(map(self._struct, of_row)) for of_row in answers])[0])
        whole = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        if not review_only:
            return whole
        open_rows = [decision is None for decision in decided] or [True] * len(answered)
        chosen = [
            is_open and not isinstance(of_row, SkippedRow) and self._voting.review(values) is not None
            for of_row, values, is_open in zip(answered, valid, open_rows, strict=True)
        ]
        return whole.filter(pa.array(chosen, pa.bool_()))

    def _vote_columns(self) -> tuple[tuple[str, pa.DataType], ...]:
        numbers = self._voting.numbers
        spread = (("spread", self._of_each(tuple(numbers))),) if numbers else ()
        confidence = () if self._weighted is None else (("confidence", self._confidence_type()),)
        return (*_AGREEMENT, *spread, *confidence)

    def _of_each(self, names: tuple[str, ...]) -> pa.DataType:
        """Return the type of a number about each of some columns of the answers: one number where an answer is one value."""
        is_lone = len(self._values.fields) == 1
        return pa.float64() if is_lone else pa.struct([(name, pa.float64()) for name in names])

    def _confidence_type(self) -> pa.DataType:
        return self._of_each(() if self._weighted is None else self._weighted.labels)

    def _weigh(self, answers: Sequence[tuple[RequestAnswer, ...]], spread: list[Any]) -> list[Any]:
        """Put the weighted labels in place of the majority; returns the confidences of each row."""
        if self._weighted is None:
            return []
        confidences: list[Any] = []
        for place, of_row in enumerate(answers):
            values = [None if answer.value is None else self._values.spread(answer.value) for answer in of_row]
            if all(value is None for value in values):
                confidences.append(None)
                continue
            votes = self._weighted.vote(values)
            spread[place] = {**spread[place], **{label: value for label, (value, _) in votes.items()}}
            found = {label: confidence for label, (_, confidence) in votes.items()}
            confidences.append(found if len(self._values.fields) > 1 else next(iter(found.values())))
        return confidences

    def _told_of_votes(
        self, votes: Sequence[Vote], valid: Sequence[Sequence[Any]], answered: Sequence[Answered]
    ) -> list[pa.Array]:
        counts = [
            None if isinstance(of_row, SkippedRow) else len(values)
            for of_row, values in zip(answered, valid, strict=True)
        ]
        columns = [pa.array([vote.agreement for vote in votes], pa.float64()), pa.array(counts, pa.int64())]
        if self._voting.numbers:
            kind = self._of_each(tuple(self._voting.numbers))
            spreads = [vote.spread for vote in votes]
            if not pa.types.is_struct(kind):
                spreads = [None if of_row is None else next(iter(of_row.values())) for of_row in spreads]
            columns.append(pa.array(spreads, kind))
        return columns

    def _state_columns(self, answered: Sequence[Answered], too_large: dict[int, str]) -> list[pa.Array]:
        state_of = _state_of_several if self._is_voted else _state_of_one
        states = [
            _state_of_skipped(of_row) if isinstance(of_row, SkippedRow) else state_of(of_row) for of_row in answered
        ]
        for place, name in too_large.items():
            message = f"{name!r} does not fit its column; `batchkit export` contains it"
            states[place] = states[place]._replace(error=TOO_LARGE, error_message=message)
        columns = zip(*states, strict=True) if states else ((),) * len(_STATE)
        return [pa.array(column, kind) for column, (_, kind) in zip(columns, _STATE, strict=True)]

    def chooser(self, *, review_only: bool, where: str | None) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
        """Return a function that filters rows of the output. Raises ``UsageError`` for a filter that does not fit the answers."""
        if review_only and not self._is_voted:
            raise UsageError(
                "there is nothing to review: one annotator cannot disagree", hint="use several models, or --samples 3"
            )
        if where is not None and (self._recipe.rules.format != "safety" or where not in {"safe", "unsafe"}):
            raise UsageError(
                f"{where!r} is not a filter for these answers", hint="the filters of a moderation are safe and unsafe"
            )

        def choose(batch: pa.RecordBatch) -> pa.RecordBatch:
            return batch if where is None else batch.filter(pc.equal(batch[self._named[0].name], where == "safe"))

        return choose

    def _vote(self, valid: Sequence[Any]) -> Vote:
        """Return the value of a row's valid answers, by the names of the columns."""
        return self._voting.vote(valid) if self._is_voted else Vote(valid[0] if valid else None, None)

    def _answers_type(self) -> pa.DataType:
        fields = self._values.fields
        value = fields[0].type if len(fields) == 1 else pa.struct([(field.name, field.type) for field in fields])
        texts = ["custom_id", "prompt", "model"]
        return pa.list_(
            pa.struct(
                [
                    *((name, pa.string()) for name in texts),
                    ("sample", pa.int64()),
                    ("status", pa.string()),
                    ("value", value),
                    ("error", pa.string()),
                    ("error_message", pa.string()),
                    ("reused_from", pa.string()),
                ]
            )
        )

    def _struct(self, answer: RequestAnswer) -> dict[str, Any]:
        return {
            "custom_id": answer.custom_id,
            "prompt": answer.prompt,
            "model": answer.model,
            "sample": answer.sample,
            "status": answer.status,
            "value": None if answer.value is None else self._listed(answer.value),
            "error": answer.error_code,
            "error_message": answer.error_message,
            "reused_from": answer.reused_from,
        }

    def _listed(self, value: Any) -> Any:
        """Return an answer for the ``answers`` column: there, values that only JSON can hold are text."""
        spread = self._values.spread(value)
        cells = {
            field.name: json_texts([spread.get(field.name)])[0]
            if is_json(field)
            else fitted(spread.get(field.name), field.type)
            for field in self._values.fields
        }
        return next(iter(cells.values())) if len(cells) == 1 else cells


def tells_tools(recipe: Recipe, provider: str) -> bool:
    """Return whether answers to a recipe tell which tools were run for them."""
    return any(runs_tools(provider, model) for model in recipe.models)


def _tools_of(answers: Iterable[RequestAnswer]) -> list[Any] | None:
    """Return the tools of all answers of a row, in their order; None without any answer that tells them."""
    found = [answer.executed_tools for answer in answers if answer.executed_tools is not None]
    return [tool for tools in found for tool in tools] if found else None


class _RowState(NamedTuple):
    """The state of a row's requests, in the order of the columns."""

    custom_id: str | None
    status: str
    error: str | None
    error_message: str | None
    attempts: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    reused_from: str | None


def _state_of_skipped(row: SkippedRow) -> _RowState:
    return _RowState(None, SKIPPED, row.code, row.reason, 0, None, None, None, None)


def _state_of_one(answers: tuple[RequestAnswer, ...]) -> _RowState:
    (answer,) = answers
    return _RowState(
        answer.custom_id,
        answer.status,
        answer.error_code,
        answer.error_message,
        answer.attempts,
        answer.prompt_tokens,
        answer.completion_tokens,
        answer.cost_usd,
        answer.reused_from,
    )


def _state_of_several(answers: tuple[RequestAnswer, ...]) -> _RowState:
    status = _status(answers)
    failure = None if status == RequestState.SUCCEEDED else next((each for each in answers if each.error_code), None)
    priced = [answer for answer in answers if answer.prompt_tokens is not None or answer.cost_usd is not None]
    costs = [answer.cost_usd for answer in priced]
    return _RowState(
        answers[0].custom_id.partition(":")[0],
        status,
        None if failure is None else failure.error_code,
        None if failure is None else failure.error_message,
        sum(answer.attempts for answer in answers),
        _sum(answer.prompt_tokens for answer in priced),
        _sum(answer.completion_tokens for answer in priced),
        # One unknown price makes the sum unknown.
        None if None in costs or not costs else round(sum(cost for cost in costs if cost is not None), 12),
        "; ".join(dict.fromkeys(answer.reused_from for answer in answers if answer.reused_from is not None)) or None,
    )


def _status(answers: Sequence[RequestAnswer]) -> str:
    """Return succeeded if one request succeeded, else the state of an unfinished one, else that of the first."""
    states = [answer.status for answer in answers]
    for state in (RequestState.SUCCEEDED, RequestState.IN_FLIGHT, RequestState.PENDING):
        if state.value in states:
            return state.value
    return states[0]


def _sum(numbers: Iterable[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None
