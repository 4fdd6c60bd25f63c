"""What all scorers share: the score, the value of an answer and of a row, and the order in which a missing one is reported."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from batchkit.annotation.request_answer import RequestAnswer
    from batchkit.files.checked_yaml import Place

#: Why there is no score: the answer failed, the row has no expected value, or the scorer could not decide.
NO_ANSWER, NO_EXPECTED, SCORER_ERROR = "no_answer", "no_expected", "scorer_error"
DETAIL_CHARACTERS = 300
#: How the scores of several samples of one row become one; see ``reducers``.
Reduction = Literal["mean", "majority", "any", "all", "max"]
#: Characters without a width, which a cell may hold and nobody sees.
_UNSEEN = str.maketrans(dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff"))


class Score(NamedTuple):
    """A score, or the reason why there is none; ``detail`` is for people."""

    value: float | None
    reason: str | None = None
    detail: str | None = None


#: Scores the answer to a row; the text is the suite's column of expected values.
ScoreAnswer = Callable[[Mapping[str, Any], "RequestAnswer", str | None], Score]


class FoundValue(NamedTuple):
    """A value in a row or a document; ``exists`` is False if there is none."""

    value: Any
    exists: bool


def pick(value: Any, path: str) -> FoundValue:
    """Return the value at a dotted path of a document."""
    for part in path.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return FoundValue(None, exists=False)
    return FoundValue(value, exists=True)


def is_labelled(value: Any) -> bool:
    """Whether people gave a value: not null, not NaN, and not a blank text."""
    match value:
        case None:
            return False
        case str():
            return bool(value.translate(_UNSEEN).strip()) if len(value) < DETAIL_CHARACTERS else bool(value.strip())
        case float():
            return not math.isnan(value)
        case Decimal():
            return not value.is_nan()
    return True


def error(message: str) -> Score:
    """Return the result of a scorer that cannot decide."""
    return Score(None, SCORER_ERROR, message[:DETAIL_CHARACTERS])


def wrong(message: str) -> Score:
    """Return the score of a wrong answer."""
    return Score(0.0, None, message[:DETAIL_CHARACTERS])


class SuiteFacts(NamedTuple):
    """What a scorer must know of its suite: its models, its prompts by name (none for a single one), its samples, the labels of all scorers."""

    models: tuple[str, ...]
    prompts: tuple[str, ...]
    samples: int
    labels: tuple[str, ...]


class ScorerBase(BaseModel):
    """The fields of all scorers: a name (by default the kind), the column of the expected value, the part of the answer.

    ``reduce`` makes one score of those of a row's samples; with ``any``, ``k`` is the number of samples of which one must be right
    (see ``reducers``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    needs_expected: ClassVar[bool] = True
    #: The format of answers without which the scorer cannot decide.
    needs_format: ClassVar[str | None] = None
    #: Fields that were added to a kind of scorer: one with its default is not stored, so that no suite gets another version by it.
    later_fields: ClassVar[frozenset[str]] = frozenset()

    kind: str
    name: str = ""
    expected: str | None = None
    field: str | None = None
    reduce: Reduction = "mean"
    k: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _k_is_of_any(self) -> Self:
        if self.k is not None and self.reduce != "any":
            raise ValueError("`k` belongs to `reduce: any`: the chance that one of k samples is right")
        return self

    @model_serializer(mode="wrap")
    def _without_unused(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = written(self)
        for name in {"reduce", "k", *self.later_fields}:
            if getattr(self, name) == type(self).model_fields[name].get_default(call_default_factory=True):
                fields.pop(name, None)
        return fields

    @property
    def label(self) -> str:
        """The scorer's name in metrics."""
        return self.name or (self.kind if self.k is None else f"pass@{self.k}")

    @property
    def kept_labels(self) -> tuple[str, ...]:
        """The names under which scores are kept: the label, and after it those of several judges."""
        return (self.label,)

    def pass_at(self, samples: int) -> str | None:
        """Return the field's name of the metric, ``pass@k``, of ``samples`` samples of each row; None for another metric."""
        is_of_several = self.k is not None or samples > 1
        return f"pass@{self.k or samples}" if self.reduce == "any" and is_of_several else None

    def concerns(self, prompt: str, model: str) -> bool:  # noqa: ARG002 - a scorer of pairs gives those no score that it compares with
        """Whether the scorer scores the answers of a prompt and a model."""
        return True

    def contradictions(self) -> Iterator[tuple[Place, str]]:
        """Yield what keeps the scorer from running, each with its place in the scorer. It may import and run the user's code."""
        yield from ()

    def contradictions_within(self, suite: SuiteFacts) -> Iterator[tuple[Place, str]]:
        """Yield what keeps the scorer from running in a suite, each with its place in the scorer."""
        if self.k is not None and self.k > suite.samples:
            yield (
                ("k",),
                f"pass@{self.k} needs {self.k} samples of each row, and `samples` of the suite is {suite.samples}",
            )

    def columns(self) -> Iterator[tuple[Place, str]]:
        """Yield the columns that the scorer names, each with its place in the scorer."""
        if self.expected is not None:
            yield ("expected",), self.expected

    def prepared(self) -> ScoreAnswer:
        """Return the function that scores answers, after loading what is slow to load. Raises ``ConfigurationError``."""

        def score(row: Mapping[str, Any], answer: RequestAnswer, expected: str | None) -> Score:
            try:
                return self._score(row, answer, expected)
            except (ArithmeticError, RecursionError, TypeError, ValueError) as problem:
                # Some values have no text: an integer of thousands of digits, half a character, a list nested too deeply.
                return error(f"a value cannot be compared: {type(problem).__name__}: {problem}")

        return score

    def _score(self, row: Mapping[str, Any], answer: RequestAnswer, expected: str | None) -> Score:
        # A row that nobody labelled has no score, whatever became of its request.
        truth = self._truth(row, expected)
        if self.needs_expected and not truth.exists:
            return Score(None, NO_EXPECTED)
        if (missing := no_answer(answer)) is not None:
            return missing
        given = self._given(answer)
        if not given.exists:
            return wrong(f"the answer has no {self.field}")
        return self._compare(given.value, truth.value)

    def _given(self, answer: RequestAnswer) -> FoundValue:
        return FoundValue(answer.value, exists=True) if self.field is None else pick(answer.value, self.field)

    def _truth(self, row: Mapping[str, Any], expected: str | None) -> FoundValue:
        column = self.expected or expected
        value = row.get(column) if column is not None else None
        return FoundValue(value, exists=is_labelled(value))

    def _compare(self, given: Any, truth: Any) -> Score:
        # Abstract: a scorer compares in its own way, or replaces the method that calls this one.
        raise NotImplementedError


def no_answer(answer: RequestAnswer) -> Score | None:
    """Return the result for a request without a valid answer; None for an answer, and be it empty or JSON's null."""
    is_null = answer.value is None and (answer.text is None or answer.error_code is not None)
    if answer.status == "succeeded" and not is_null:
        return None
    return Score(None, NO_ANSWER, answer.error_code or answer.status)
