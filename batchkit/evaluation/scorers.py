"""Scorers: the score of an answer, 0 to 1 unless stated otherwise. A scorer that cannot decide returns a reason, and never 0.

Texts are compared as the answer's value reads (see ``answers.Reading``): a choice, a number, a text; with ``field`` a dotted path
into a JSON answer (``person.name``, ``items.0``).
"""

from __future__ import annotations

import math
import re
import string
import unicodedata
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from batchkit.annotation.parameters import Parameters
from batchkit.answers.importing import import_by_path
from batchkit.answers.patterns import BoundedPattern, TookTooLong
from batchkit.answers.rules import Pattern
from batchkit.answers.schemas import ClosedSchema
from batchkit.answers.wording import is_same_choice
from batchkit.datasets.values import as_json, text_of
from batchkit.evaluation.suite_parts import PromptText, SuiteAnswers, read_schema
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from batchkit.annotation.row_answers import RequestAnswer

#: Why there is no score: the answer failed, the row has no expected value, or the scorer could not decide.
NO_ANSWER, NO_EXPECTED, SCORER_ERROR = "no_answer", "no_expected", "scorer_error"
#: Only the beginning of a long answer is searched: a pattern over all of it may take longer than its limit.
REGEX_CHARACTERS = 10_000
#: The columns of a judge's table beside those of the dataset. The first identifies its rows: ``a`` and the seq of the request, or
#: ``h`` and the number of a row that people have judged.
JUDGED, MODEL_ANSWER, MODEL_NAME, PROMPT_NAME = "judged_answer_id", "model_answer", "model_name", "prompt_name"
JUDGE_COLUMNS = (JUDGED, MODEL_ANSWER, MODEL_NAME, PROMPT_NAME)
_AROUND = " \t\r\n.\"'`*"
_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
DETAIL_CHARACTERS = 300


class Score(NamedTuple):
    """A score, or the reason why there is none; ``detail`` is for people."""

    value: float | None
    reason: str | None = None
    detail: str | None = None


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


def normalised(text: str) -> str:
    """Return the text without differences in case, compatible characters (NFKC), punctuation, English articles and blanks, as SQuAD's evaluation does."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    bare = "".join(
        " " if sign in string.punctuation or unicodedata.category(sign)[0] == "P" else sign for sign in folded
    )
    return " ".join(_ARTICLES.sub(" ", bare).split())


def read_number(text: str, which: Literal["whole", "first", "last"]) -> float | None:
    """Return a number from a text, with commas between thousands allowed; None if there is none."""
    if which == "whole":
        word = text.strip(_AROUND)
        return _as_number(word) if _NUMBER.fullmatch(word) else None
    found = _NUMBER.findall(text)
    return _as_number(found[0 if which == "first" else -1]) if found else None


def _as_number(word: str) -> float:
    return float(word.replace(",", ""))


class ScorerBase(BaseModel):
    """The fields of all scorers: a name (by default the kind), and the column of the expected value."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    needs_expected: ClassVar[bool] = True

    kind: str
    name: str = ""
    expected: str | None = None
    field: str | None = None

    @property
    def label(self) -> str:
        """The scorer's name in metrics."""
        return self.name or self.kind

    def prepared(self) -> Callable[[Mapping[str, Any], RequestAnswer, str | None], Score]:
        """Return the function that scores answers, after loading what is slow to load. Raises ``ConfigurationError``."""
        return self._score

    def _score(self, row: Mapping[str, Any], answer: RequestAnswer, expected: str | None) -> Score:
        if answer.status != "succeeded" or answer.value is None:
            return Score(None, NO_ANSWER, answer.error_code or answer.status)
        given = FoundValue(answer.value, exists=True) if self.field is None else pick(answer.value, self.field)
        if not given.exists:
            return Score(0.0, None, f"the answer has no {self.field}")
        truth = self._truth(row, expected)
        if self.needs_expected and not truth.exists:
            return Score(None, NO_EXPECTED)
        return self._compare(given.value, truth.value)

    def _truth(self, row: Mapping[str, Any], expected: str | None) -> FoundValue:
        column = self.expected or expected
        value = row.get(column) if column is not None else None
        is_nan = isinstance(value, float) and math.isnan(value)
        return FoundValue(value, exists=value is not None and not is_nan)

    def _compare(self, given: Any, truth: Any) -> Score:
        # Abstract: a scorer compares in its own way, or replaces the method that calls this one.
        raise NotImplementedError


class Exact(ScorerBase):
    """1 if the answer is the expected text, without regard to blanks around it."""

    kind: Literal["exact"] = "exact"

    def _compare(self, given: Any, truth: Any) -> Score:
        return Score(float(text_of(given).strip() == text_of(truth).strip()))


class Normalised(ScorerBase):
    """1 if both texts are equal after normalisation of case, punctuation, articles and blanks."""

    kind: Literal["normalised"] = "normalised"

    def _compare(self, given: Any, truth: Any) -> Score:
        return Score(float(normalised(text_of(given)) == normalised(text_of(truth))))


class ChoiceScorer(ScorerBase):
    """1 if the answer is the expected choice, without regard to case, signs around it, and other spellings of the same letters."""

    kind: Literal["choice"] = "choice"

    def _compare(self, given: Any, truth: Any) -> Score:
        return Score(float(is_same_choice(text_of(given), text_of(truth))))


class Number(ScorerBase):
    """1 if the number is within ``absolute`` or ``relative`` (a share of the expected number) of the expected one."""

    kind: Literal["number"] = "number"
    absolute: float = Field(default=0.0, ge=0)
    relative: float = Field(default=1e-9, ge=0)
    read: Literal["whole", "first", "last"] = "whole"

    def _compare(self, given: Any, truth: Any) -> Score:
        wanted = read_number(text_of(truth), "whole")
        if wanted is None:
            return Score(None, SCORER_ERROR, f"the expected value {text_of(truth)!r} is not a number")
        found = read_number(text_of(given), self.read)
        if found is None:
            return Score(0.0, None, "no number in the answer")
        return Score(float(abs(found - wanted) <= max(self.absolute, self.relative * abs(wanted))))


class Contains(ScorerBase):
    """1 if the answer contains ``text``, by default the expected text."""

    kind: Literal["contains"] = "contains"
    text: str | None = None
    ignore_case: bool = True

    def _truth(self, row: Mapping[str, Any], expected: str | None) -> FoundValue:
        return super()._truth(row, expected) if self.text is None else FoundValue(self.text, exists=True)

    def _compare(self, given: Any, truth: Any) -> Score:
        whole, part = text_of(given), text_of(truth)
        return Score(float(part.casefold() in whole.casefold() if self.ignore_case else part in whole))


class Regex(ScorerBase):
    """1 if ``pattern`` is found in the first 10,000 characters of the answer; with ``whole`` it must match all of them.

    A pattern that takes longer than a second decides nothing.
    """

    kind: Literal["regex"] = "regex"
    needs_expected: ClassVar[bool] = False
    pattern: Pattern
    whole: bool = False
    ignore_case: bool = False

    @cached_property
    def _bounded(self) -> BoundedPattern:
        return BoundedPattern(self.pattern, ignore_case=self.ignore_case)

    def _compare(self, given: Any, truth: Any) -> Score:  # noqa: ARG002 - only the pattern is compared
        text = text_of(given)[:REGEX_CHARACTERS]
        try:
            return Score(float(self._bounded.matches(text, where="whole" if self.whole else "anywhere")))
        except TookTooLong as gave_up:
            return Score(None, SCORER_ERROR, str(gave_up)[:DETAIL_CHARACTERS])


class JsonFields(ScorerBase):
    """The share of ``fields`` (dotted paths) that are equal in the answer and in the expected document.

    The expected column holds an object, or an object as JSON text. Numbers are equal within 1e-9, texts without blanks around them.
    """

    kind: Literal["json_fields"] = "json_fields"
    fields_: tuple[str, ...] = Field(alias="fields", min_length=1)
    ignore_case: bool = False

    def _compare(self, given: Any, truth: Any) -> Score:
        if isinstance(truth, str):
            try:
                truth = jsonl.loads(truth)
            except jsonl.MalformedJson:
                return Score(None, SCORER_ERROR, "the expected value is not JSON")
        wrong = [path for path in self.fields_ if not self._is_same(pick(given, path), pick(truth, path))]
        share = 1 - len(wrong) / len(self.fields_)
        return Score(share, None, f"differs in: {', '.join(wrong)}"[:DETAIL_CHARACTERS] if wrong else None)

    def _is_same(self, given: FoundValue, truth: FoundValue) -> bool:
        one, other = (
            float(found.value) if isinstance(found.value, Decimal) else as_json(found.value) for found in (given, truth)
        )
        if isinstance(one, str) and isinstance(other, str):
            one, other = one.strip(), other.strip()
            return one.casefold() == other.casefold() if self.ignore_case else one == other
        numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (one, other))
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9) if numbers else bool(one == other)


class SchemaValid(ScorerBase):
    """1 if the answer is JSON that conforms to ``schema`` (a file, or the schema itself); an answer that does not parse scores 0."""

    kind: Literal["schema_valid"] = "schema_valid"
    needs_expected: ClassVar[bool] = False
    json_schema: Annotated[dict[str, Any], read_schema] = Field(alias="schema")

    def prepared(self) -> Callable[[Mapping[str, Any], RequestAnswer, str | None], Score]:
        """Return the scorer with its compiled schema."""
        schema = ClosedSchema(self.json_schema)

        def score(_row: Mapping[str, Any], answer: RequestAnswer, _expected: str | None) -> Score:
            if answer.status != "succeeded" and (answer.error_code or "").partition("_")[0] not in {
                "answer",
                "generation",
            }:
                return Score(None, NO_ANSWER, answer.error_code or answer.status)
            try:
                value = answer.value if isinstance(answer.value, (dict, list)) else jsonl.loads(answer.text or "")
            except jsonl.MalformedJson as error:
                return Score(0.0, None, f"not JSON: {error}"[:DETAIL_CHARACTERS])
            problem = schema.problem(value)
            return Score(1.0) if problem is None else Score(0.0, None, problem[:DETAIL_CHARACTERS])

        return score


class Similarity(ScorerBase):
    """The similarity of the normalised texts, 0 to 1 (rapidfuzz); with ``at_least`` 1 from that value on and 0 below."""

    kind: Literal["similarity"] = "similarity"
    method: Literal["ratio", "partial_ratio", "token_sort_ratio", "token_set_ratio", "WRatio"] = "ratio"
    at_least: float | None = Field(default=None, gt=0, le=1)

    def _compare(self, given: Any, truth: Any) -> Score:
        from rapidfuzz import fuzz  # noqa: PLC0415 - only where it is used

        measure: Callable[[str, str], float] = getattr(fuzz, self.method)
        alike = measure(normalised(text_of(given)), normalised(text_of(truth))) / 100
        return Score(alike if self.at_least is None else float(alike >= self.at_least), None, f"{alike:.3f}")


class Python(ScorerBase):
    """A user's function, ``package.module:function``, called with the row and the ``RequestAnswer``; returns a bool, a number or None.

    None means that it cannot decide. An exception is stored with the answer, without a score.
    """

    kind: Literal["python"] = "python"
    needs_expected: ClassVar[bool] = False
    function: str

    def prepared(self) -> Callable[[Mapping[str, Any], RequestAnswer, str | None], Score]:
        """Return the scorer with the imported function."""
        call = import_by_path(self.function)

        def score(row: Mapping[str, Any], answer: RequestAnswer, _expected: str | None) -> Score:
            if answer.status != "succeeded":
                return Score(None, NO_ANSWER, answer.error_code or answer.status)
            try:
                value = call(dict(row), answer)
                found = None if value is None else float(value)
            except Exception as error:  # noqa: BLE001 - the user's code; one row must not end the scoring of the others
                return Score(None, SCORER_ERROR, f"{type(error).__name__}: {error}"[:DETAIL_CHARACTERS])
            if found is None:
                return Score(None, SCORER_ERROR, "the function returned no score")
            return Score(found) if math.isfinite(found) else Score(None, SCORER_ERROR, f"the function returned {found}")

        return score


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
    """

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

    def label_text(self, judgement: RequestAnswer) -> str | None:
        """Return a judgement as the text that people's labels are compared with; None without a judgement."""
        found = self._verdict_of(judgement)
        return text_of(found.value).strip() if found.exists else None

    def score_of(self, judgement: RequestAnswer) -> Score:
        """Return the score that the judge's judgement stands for."""
        found = self._verdict_of(judgement)
        if not found.exists:
            return Score(None, SCORER_ERROR, f"the judge: {judgement.error_code or f'no {self.verdict} in its answer'}")
        word = text_of(found.value)
        if self.scores:
            value = self.scores.get(word)
            return Score(value, None, word) if value is not None else Score(None, SCORER_ERROR, f"the judge: {word}")
        number = read_number(word, "whole")
        if number is None:
            return Score(None, SCORER_ERROR, f"the judge: {word}"[:DETAIL_CHARACTERS])
        low, high = self.scale or (self.answers.minimum, self.answers.maximum)
        if low is None or high is None or high <= low:
            return Score(number, None, word)
        return Score((number - low) / (high - low), None, word)

    def _verdict_of(self, judgement: RequestAnswer) -> FoundValue:
        if judgement.status != "succeeded" or judgement.value is None:
            return FoundValue(None, exists=False)
        return FoundValue(judgement.value, exists=True) if self.verdict is None else pick(judgement.value, self.verdict)


Scorer = Annotated[
    Exact
    | Normalised
    | ChoiceScorer
    | Number
    | Contains
    | Regex
    | JsonFields
    | SchemaValid
    | Similarity
    | Python
    | Judge,
    Field(discriminator="kind"),
]
