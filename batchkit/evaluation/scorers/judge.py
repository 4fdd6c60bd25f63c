"""The scorer that asks another model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from batchkit.annotation.parameters import Parameters
from batchkit.datasets.values import text_of
from batchkit.evaluation.pairwise import JUDGED_PAIRS, LOST, TIED, WON, WORTH
from batchkit.evaluation.scorers.base import DETAIL_CHARACTERS, FoundValue, Score, ScorerBase, error, is_labelled, pick
from batchkit.evaluation.scorers.judge_templates import (
    FACTUALITY,
    FIRST_ANSWER,
    REASONING,
    SECOND_ANSWER,
    TemplateName,
    judge_template,
)
from batchkit.evaluation.scorers.number_reading import read_number
from batchkit.evaluation.suite_parts import PromptText, SuiteAnswers
from batchkit.formatting import short_models

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from batchkit.annotation.request_answer import RequestAnswer
    from batchkit.evaluation.pairwise import JudgedPair
    from batchkit.evaluation.scorers.base import SuiteFacts
    from batchkit.files.checked_yaml import Place

#: The columns of a judge's table beside those of the dataset. The first identifies its rows: a letter (see ``judged_table``) and a number.
JUDGED, MODEL_ANSWER, MODEL_NAME, PROMPT_NAME = "judged_answer_id", "model_answer", "model_name", "prompt_name"
_BESIDE_ONE = (JUDGED, MODEL_ANSWER, MODEL_NAME, PROMPT_NAME)
#: Of a pair the judge does not learn whose answers they are.
_BESIDE_PAIRS = (JUDGED, FIRST_ANSWER, SECOND_ANSWER)
_SEVERAL: Final = 2
#: The beginning of what is said of a judge that gave no score.
FAILED: Final = "the judge: "
#: The reasons of both orders fit into one text.
_REASON_CHARACTERS: Final = 120
_LIKED: Final = {WON: "better", TIED: "equal", LOST: "worse"}
_HALF: Final = 0.5


class Human(BaseModel):
    """A sample that people have judged: the columns of the ``answer`` they saw, and of their ``label``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answer: str
    label: str


class Opponent(BaseModel):
    """What an answer is compared with: the answer of another ``model`` or ``prompt`` of the suite, or the text in a ``column``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = None
    prompt: str | None = None
    column: str | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(value is not None for value in (self.model, self.prompt, self.column)) != 1:
            raise ValueError("name one of `model`, `prompt` or `column`")
        return self

    @property
    def name(self) -> str:
        """The name of the model, the prompt or the column."""
        return self.model or self.prompt or self.column or ""


class Judge(ScorerBase):
    """A model's judgement of the answer, requested in a second workload.

    The prompt may use the row's columns, and ``model_answer``, ``model_name`` and ``prompt_name``. The judgement is the judge's answer, or
    the value at ``verdict`` (a dotted path) in its JSON answer: a label with a score in ``scores``, or a number, which is mapped to
    0 to 1 on ``scale`` from low to high (by default the bounds of its answers). ``field`` is the part of the answer that is judged.

    A ``template`` fills in what is not given of the prompt, the answers, the verdict and its worth: ``rubric`` grades from 1 to 5 by
    the text ``criteria``; ``factuality`` compares with the column ``expected``; ``pairwise`` compares with what ``against`` names, once in
    each order (columns ``first_answer`` and ``second_answer``). All show the column ``question``, if one is named.

    Several ``judges`` judge every answer, and ``combine`` makes one score of theirs (see ``combined``).
    """

    later_fields: ClassVar[frozenset[str]] = frozenset(
        {"template", "criteria", "question", "against", "judges", "combine"}
    )

    kind: Literal["judge"] = "judge"
    needs_expected: ClassVar[bool] = False
    model: str | None = None
    judges: tuple[str, ...] = ()
    combine: Literal["mean", "majority"] = "mean"
    prompt: PromptText
    answers: SuiteAnswers
    verdict: str | None = None
    scores: dict[str, float] = Field(default_factory=dict)
    scale: tuple[float, float] | None = None
    parameters: Parameters = Parameters()
    human: Human | None = None
    template: TemplateName | None = None
    criteria: str | None = None
    question: str | None = None
    against: Opponent | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not isinstance(name := given.get("template"), str):
            return given
        named = {field: given.get(field) for field in ("criteria", "question", "expected")}
        if any(value is not None and not isinstance(value, str) for value in named.values()):
            return given
        template = judge_template(name, **named)
        filled = {key: value for key, value in template._asdict().items() if value}
        return {**filled, **{key: value for key, value in given.items() if value is not None}}

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.template is None and (self.criteria is not None or self.question is not None):
            raise ValueError("`criteria` and `question` belong to a `template`")
        if self.template == "factuality" and set(self.scores) != set(FACTUALITY):
            raise ValueError(f"give each verdict a score: {', '.join(FACTUALITY)}")
        if (self.against is None) == (self.template == "pairwise"):
            raise ValueError("`template: pairwise` and `against`, which names what to compare with, belong together")
        if self.against is not None and (self.human is not None or self.scale is not None or self.scores != WORTH):
            raise ValueError("a pair is won, tied or lost: `human`, `scale` and `scores` are of judges of one answer")
        return self

    @model_validator(mode="after")
    def _has_judges(self) -> Self:
        if (self.model is None) == (not self.judges):
            raise ValueError("name the judging `model`, or several `judges`")
        if self.judges and not len(set(self.judges)) == len(self.judges) >= _SEVERAL:
            raise ValueError("`judges` are two or more different models")
        if not self.judges and self.combine != "mean":
            raise ValueError("`combine` belongs to several `judges`")
        return self

    def judgements_of(self) -> dict[str, Any]:
        """Return what decides the requests of the judge; what becomes of the judgements is no part of it."""
        return self.model_dump(
            mode="json", exclude={"name", "verdict", "scores", "scale", "combine", "reduce", "k"}, by_alias=True
        )

    @property
    def models(self) -> tuple[str, ...]:
        """The models that judge."""
        return self.judges if self.model is None else (self.model,)

    @property
    def labels_of_judges(self) -> tuple[str, ...]:
        """The names under which the scores of each judge are kept, in the order of ``models``; a single judge has the scorer's own."""
        if self.model is not None:
            return (self.label,)
        return tuple(f"{self.label}:{name}" for name in short_models(self.judges).values())

    @property
    def kept_labels(self) -> tuple[str, ...]:
        """The names under which scores are kept: the label, and after it those of several judges."""
        return (self.label,) if self.model is not None else (self.label, *self.labels_of_judges)

    @property
    def columns_beside(self) -> tuple[str, ...]:
        """The columns of the judge's table beside those of the dataset."""
        return _BESIDE_ONE if self.against is None else _BESIDE_PAIRS

    def columns(self) -> Iterator[tuple[Place, str]]:
        """Yield the columns of the expected text, of the question, of what is compared with, and of what people have judged."""
        yield from super().columns()
        if self.question is not None:
            yield ("question",), self.question
        if self.against is not None and self.against.column is not None:
            yield ("against", "column"), self.against.column
        if self.human is not None:
            yield ("human", "answer"), self.human.answer
            yield ("human", "label"), self.human.label

    def contradictions_within(self, suite: SuiteFacts) -> Iterator[tuple[Place, str]]:
        """Yield what keeps the judge from judging in a suite: what it compares with is not asked, a name is taken."""
        yield from super().contradictions_within(suite)
        for label in set(self.kept_labels[1:]).intersection(suite.labels):
            yield (
                ("judges",),
                f"the scores of one judge are kept as {label!r}: give the scorer {label!r} another `name`",
            )
        yield from self.unknown_opponent(suite.models, suite.prompts)

    def unknown_opponent(self, models: Sequence[str], prompts: Sequence[str]) -> Iterator[tuple[Place, str]]:
        """Yield why no answers to these prompts of these models can be compared with what ``against`` names."""
        against = self.against
        if against is None:
            return
        for what, name, known in (("model", against.model, models), ("prompt", against.prompt, prompts)):
            if name is not None and name not in known:
                there_are = f"there are: {', '.join(known)}" if known else "there are none by name"
                yield ("against", what), f"there is no {what} {name!r} in the suite; {there_are}"
            elif name is not None and len(known) < _SEVERAL:
                yield ("against", what), f"{name!r} is the only {what} of the suite: no other is compared with it"

    def concerns(self, prompt: str, model: str) -> bool:
        """Whether the judge scores the answers of a prompt and a model: not those that it compares others with."""
        return self.against is None or (model != self.against.model and prompt != self.against.prompt)

    def is_judgeable(self, row: Mapping[str, Any]) -> bool:
        """Whether the row has what the judge compares with."""
        if self.against is not None and self.against.column is not None:
            return is_labelled(row.get(self.against.column))
        return self.template != "factuality" or is_labelled(row.get(self.expected or ""))

    def label_text(self, judgement: RequestAnswer) -> str | None:
        """Return a judgement as the text that people's labels are compared with; None without a judgement."""
        found = self._verdict_of(judgement)
        return text_of(found.value).strip() if found.exists else None

    def score_of(self, judgement: RequestAnswer) -> Score:
        """Return the score that a judgement of one answer stands for."""
        found = self._verdict_of(judgement)
        if not found.exists:
            return error(f"{FAILED}{judgement.error_code or f'no {self.verdict} in its answer'}")
        word = text_of(found.value)
        detail = _with_reason(word, judgement)
        if self.scores:
            value = self.scores.get(word)
            return Score(value, None, detail) if value is not None else error(f"{FAILED}{word}")
        read = read_number(word, "whole")
        number = math.nan if read is None else float(read)
        if not math.isfinite(number):
            return error(f"{FAILED}{word}")
        low, high = self.scale or (self.answers.minimum, self.answers.maximum)
        if low is None or high is None or high <= low:
            return Score(number, None, detail)
        return Score((number - low) / (high - low), None, detail)

    def pair_of(self, shown_first: RequestAnswer, shown_second: RequestAnswer) -> JudgedPair | None:
        """Return the judgements of a pair in both orders; None unless both can be read."""
        words = (self.label_text(shown_first), self.label_text(shown_second))
        return next((pair for said, pair in JUDGED_PAIRS.items() if said == words), None)

    def score_of_pair(self, shown_first: RequestAnswer, shown_second: RequestAnswer) -> Score:
        """Return the score of an answer from its judgements in both orders; one order alone decides nothing."""
        pair = self.pair_of(shown_first, shown_second)
        if pair is None:
            alone = self.score_of(shown_first)
            return alone if alone.value is None else self.score_of(shown_second)
        how = {WON: "won", TIED: "tied", LOST: "lost"}[pair.score]
        told = "the order decided" if pair.is_of_order and pair.score == TIED else how
        first = _with_reason(_LIKED[WORTH[pair.shown_first]], shown_first, _REASON_CHARACTERS)
        second = _with_reason(_LIKED[1 - WORTH[pair.shown_second]], shown_second, _REASON_CHARACTERS)
        return Score(pair.score, None, f"{told}; shown first {first}; shown second {second}")

    def _verdict_of(self, judgement: RequestAnswer) -> FoundValue:
        if judgement.status != "succeeded" or judgement.value is None:
            return FoundValue(None, exists=False)
        return FoundValue(judgement.value, exists=True) if self.verdict is None else pick(judgement.value, self.verdict)


def _with_reason(word: str, judgement: RequestAnswer, most: int = DETAIL_CHARACTERS) -> str:
    """Return a verdict with the reason that the judge gives for it, if it gives one."""
    found = pick(judgement.value, REASONING)
    reason = found.value.strip() if isinstance(found.value, str) else ""
    return f"{word}: {reason}"[:most] if reason else word


def combined(scores: Mapping[str, Score], how: Literal["mean", "majority"] = "mean") -> Score:
    """Return one score for the scores of several judges by their names; those without a score have no say.

    The majority is 1 if more than half of the scores are above 0.5, 0 if more than half are below, and 0.5 otherwise. Without any
    score, the reason is that of the first judge.
    """
    values = [score.value for score in scores.values() if score.value is not None]
    detail = ", ".join(f"{name} {_told(score)}" for name, score in scores.items())[:DETAIL_CHARACTERS]
    if not values:
        return Score(None, next(score.reason for score in scores.values()), detail)
    if how == "mean":
        return Score(sum(values) / len(values), None, detail)
    good, bad = (sum(sign * (value - _HALF) > 0 for value in values) for sign in (1, -1))
    return Score(1.0 if 2 * good > len(values) else 0.0 if 2 * bad > len(values) else _HALF, None, detail)


def _told(score: Score) -> str:
    return f"{score.value:g}" if score.value is not None else f"no score ({(score.detail or '').removeprefix(FAILED)})"
