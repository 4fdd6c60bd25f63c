"""The scorer that asks another model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from batchkit.annotation.parameters import Parameters
from batchkit.datasets.values import text_of
from batchkit.evaluation.scorers.base import DETAIL_CHARACTERS, FoundValue, Score, ScorerBase, error, is_labelled, pick
from batchkit.evaluation.scorers.judge_templates import FACTUALITY, TemplateName, judge_template
from batchkit.evaluation.scorers.number_reading import read_number
from batchkit.evaluation.suite_parts import PromptText, SuiteAnswers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from batchkit.annotation.request_answer import RequestAnswer
    from batchkit.files.checked_yaml import Place

#: The columns of a judge's table beside those of the dataset. The first identifies its rows: ``a`` and the seq of the request, or
#: ``h`` and the number of a row that people have judged.
JUDGED, MODEL_ANSWER, MODEL_NAME, PROMPT_NAME = "judged_answer_id", "model_answer", "model_name", "prompt_name"
JUDGE_COLUMNS = (JUDGED, MODEL_ANSWER, MODEL_NAME, PROMPT_NAME)


class Human(BaseModel):
    """A sample that people have judged: the columns of the ``answer`` they saw, and of their ``label``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answer: str
    label: str


class Judge(ScorerBase):
    """A model's judgement of the answer, requested in a second workload.

    The prompt may use the row's columns, and ``model_answer``, ``model_name`` and ``prompt_name``. The judgement is the judge's answer, or
    the value at ``verdict`` (a dotted path) in its JSON answer: a label with a score in ``scores``, or a number, which is mapped to
    0 to 1 on ``scale`` from low to high (by default the bounds of its answers). ``field`` is the part of the answer that is judged.

    A ``template`` fills in what is not given of the prompt, the answers, the verdict and its worth: ``rubric`` grades from 1 to 5 by
    the text ``criteria``; ``factuality`` compares with the column ``expected``. Both show the column ``question``, if one is named.
    """

    later_fields: ClassVar[frozenset[str]] = frozenset({"template", "criteria", "question"})

    kind: Literal["judge"] = "judge"
    needs_expected: ClassVar[bool] = False
    model: str
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
        return self

    def columns(self) -> Iterator[tuple[Place, str]]:
        """Yield the columns of the expected text, of the question, and of what people have judged."""
        yield from super().columns()
        if self.question is not None:
            yield ("question",), self.question
        if self.human is not None:
            yield ("human", "answer"), self.human.answer
            yield ("human", "label"), self.human.label

    def is_judgeable(self, row: Mapping[str, Any]) -> bool:
        """Whether the row has what the judge compares with."""
        return self.template != "factuality" or is_labelled(row.get(self.expected or ""))

    def label_text(self, judgement: RequestAnswer) -> str | None:
        """Return a judgement as the text that people's labels are compared with; None without a judgement."""
        found = self._verdict_of(judgement)
        return text_of(found.value).strip() if found.exists else None

    def score_of(self, judgement: RequestAnswer) -> Score:
        """Return the score that the judge's judgement stands for."""
        found = self._verdict_of(judgement)
        if not found.exists:
            return error(f"the judge: {judgement.error_code or f'no {self.verdict} in its answer'}")
        word = text_of(found.value)
        if self.scores:
            value = self.scores.get(word)
            return Score(value, None, word) if value is not None else error(f"the judge: {word}")
        read = read_number(word, "whole")
        number = math.nan if read is None else float(read)
        if not math.isfinite(number):
            return error(f"the judge: {word}")
        low, high = self.scale or (self.answers.minimum, self.answers.maximum)
        if low is None or high is None or high <= low:
            return Score(number, None, word)
        return Score((number - low) / (high - low), None, word)

    def _verdict_of(self, judgement: RequestAnswer) -> FoundValue:
        if judgement.status != "succeeded" or judgement.value is None:
            return FoundValue(None, exists=False)
        return FoundValue(judgement.value, exists=True) if self.verdict is None else pick(judgement.value, self.verdict)


def combined(scores: Sequence[Score], how: Literal["mean", "majority"] = "mean") -> Score:
    """Return one score for the judgements of several judges of one answer; those without a score are left out.

    The majority is that of the scores from 0.5 on; an even split is 0.5.
    """
    values = [score.value for score in scores if score.value is not None]
    if not values:
        return scores[0] if scores else error("no judge has judged")
    details = ", ".join(score.detail or "no score" for score in scores)[:DETAIL_CHARACTERS]
    if how == "mean":
        return Score(sum(values) / len(values), None, details)
    good = sum(value >= 0.5 for value in values)  # noqa: PLR2004 - half of the scale
    return Score((math.copysign(1, 2 * good - len(values)) + 1) / 2 if 2 * good != len(values) else 0.5, None, details)
