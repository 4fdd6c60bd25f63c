"""Scorers: what an answer is worth, from 0 to 1 where nothing else is said. A scorer that cannot tell says so, and never 0.

Texts are compared as the answer's value reads (see ``answers.Reading``): a choice, a number, a text; with ``field`` a dotted path into a
JSON answer (``person.name``, ``items.0``).
"""

from __future__ import annotations

import math
import re
import string
import unicodedata
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from batchkit.annotation.parameters import Parameters
from batchkit.answers.check import compiled_schema
from batchkit.answers.importing import import_by_path
from batchkit.answers.rules import Pattern
from batchkit.evaluation.parts import Answers, PromptText, read_schema
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from batchkit.annotation.gather import Answer

#: Why there is no score: the answer failed, the row has nothing to compare with, or the scorer itself could not tell.
NO_ANSWER, NO_EXPECTED, SCORER_ERROR = "no_answer", "no_expected", "scorer_error"
#: ``re`` cannot be stopped, and some patterns take time that grows with the square of the text or worse.
REGEX_CHARACTERS = 10_000
#: What a judge's table has beside the columns of the dataset. The first names its rows: ``a`` and the seq of the request, or ``h`` and the
#: number of a row that people have judged.
JUDGED, MODEL_ANSWER, MODEL_NAME, PROMPT_NAME = "judged_answer_id", "model_answer", "model_name", "prompt_name"
JUDGE_COLUMNS = (JUDGED, MODEL_ANSWER, MODEL_NAME, PROMPT_NAME)
_AROUND = " \t\r\n.\"'`*"
_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_DETAIL_CHARACTERS = 300


class Score(NamedTuple):
    """A score, or a reason why there is none; ``detail`` is for people."""

    value: float | None
    reason: str | None = None
    detail: str | None = None


class Truth(NamedTuple):
    """What a row says that the answer should be; ``is_there`` is False for a row without it."""

    value: Any
    is_there: bool


def as_text(value: Any) -> str:
    """Write a value as the text that is compared: numbers without an empty fraction, documents as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return jsonl.dumps(value).decode()


def pick(value: Any, path: str) -> Truth:
    """Follow a dotted path into a document."""
    for part in path.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return Truth(None, is_there=False)
    return Truth(value, is_there=True)


def normalised(text: str) -> str:
    """Fold case, compatible characters (NFKC), punctuation, English articles and blanks away, as SQuAD's evaluation does."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    bare = "".join(
        " " if sign in string.punctuation or unicodedata.category(sign)[0] == "P" else sign for sign in folded
    )
    return " ".join(_ARTICLES.sub(" ", bare).split())


def read_number(text: str, which: Literal["whole", "first", "last"]) -> float | None:
    """Read a number out of a text, with commas between thousands allowed; None when there is none."""
    if which == "whole":
        word = text.strip(_AROUND)
        return _as_number(word) if _NUMBER.fullmatch(word) else None
    found = _NUMBER.findall(text)
    return _as_number(found[0 if which == "first" else -1]) if found else None


def _as_number(word: str) -> float:
    return float(word.replace(",", ""))


class ScorerBase(BaseModel):
    """What all scorers have: a name (by default their kind), and the column that says what is expected."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    needs_expected: ClassVar[bool] = True

    kind: str
    name: str = ""
    expected: str | None = None
    field: str | None = None

    @property
    def label(self) -> str:
        """How metrics call it."""
        return self.name or self.kind

    def prepared(self) -> Callable[[Mapping[str, Any], Answer, str | None], Score]:
        """Give what scores answers; what takes time to load is loaded here. Raises ``ConfigurationError``."""
        return self._score

    def _score(self, row: Mapping[str, Any], answer: Answer, expected: str | None) -> Score:
        if answer.status != "succeeded" or answer.value is None:
            return Score(None, NO_ANSWER, answer.error_code or answer.status)
        given = Truth(answer.value, is_there=True) if self.field is None else pick(answer.value, self.field)
        if not given.is_there:
            return Score(0.0, None, f"the answer has no {self.field}")
        truth = self._truth(row, expected)
        if self.needs_expected and not truth.is_there:
            return Score(None, NO_EXPECTED)
        return self._compare(given.value, truth.value)

    def _truth(self, row: Mapping[str, Any], expected: str | None) -> Truth:
        column = self.expected or expected
        value = row.get(column) if column is not None else None
        return Truth(value, is_there=value is not None)

    def _compare(self, given: Any, truth: Any) -> Score:
        raise NotImplementedError


class Exact(ScorerBase):
    """1 when the answer is the expected text; only blanks around it do not count."""

    kind: Literal["exact"] = "exact"

    def _compare(self, given: Any, truth: Any) -> Score:
        return Score(float(as_text(given).strip() == as_text(truth).strip()))


class Normalised(ScorerBase):
    """1 when both are the same after case, punctuation, articles and blanks are folded away."""

    kind: Literal["normalised"] = "normalised"

    def _compare(self, given: Any, truth: Any) -> Score:
        return Score(float(normalised(as_text(given)) == normalised(as_text(truth))))


class ChoiceScorer(ScorerBase):
    """1 when the answer names the expected choice, whatever its case and the quotes around it."""

    kind: Literal["choice"] = "choice"

    def _compare(self, given: Any, truth: Any) -> Score:
        return Score(float(as_text(given).strip(_AROUND).casefold() == as_text(truth).strip(_AROUND).casefold()))


class Number(ScorerBase):
    """1 when the number is within ``absolute`` or ``relative`` (a share of the expected) of the expected one."""

    kind: Literal["number"] = "number"
    absolute: float = Field(default=0.0, ge=0)
    relative: float = Field(default=1e-9, ge=0)
    read: Literal["whole", "first", "last"] = "whole"

    def _compare(self, given: Any, truth: Any) -> Score:
        wanted = read_number(as_text(truth), "whole")
        if wanted is None:
            return Score(None, SCORER_ERROR, f"the expected value {as_text(truth)!r} is not a number")
        found = read_number(as_text(given), self.read)
        if found is None:
            return Score(0.0, None, "no number in the answer")
        return Score(float(abs(found - wanted) <= max(self.absolute, self.relative * abs(wanted))))


class Contains(ScorerBase):
    """1 when the answer contains ``text``, by default the expected text."""

    kind: Literal["contains"] = "contains"
    text: str | None = None
    ignore_case: bool = True

    def _truth(self, row: Mapping[str, Any], expected: str | None) -> Truth:
        return super()._truth(row, expected) if self.text is None else Truth(self.text, is_there=True)

    def _compare(self, given: Any, truth: Any) -> Score:
        whole, part = as_text(given), as_text(truth)
        return Score(float(part.casefold() in whole.casefold() if self.ignore_case else part in whole))


class Regex(ScorerBase):
    """1 when ``pattern`` is found in the first 10,000 characters of the answer; with ``whole`` it must match all of them."""

    kind: Literal["regex"] = "regex"
    needs_expected: ClassVar[bool] = False
    pattern: Pattern
    whole: bool = False
    ignore_case: bool = False

    def _compare(self, given: Any, truth: Any) -> Score:  # noqa: ARG002 - nothing is expected but the pattern
        text = as_text(given)[:REGEX_CHARACTERS]
        compiled = re.compile(self.pattern, re.IGNORECASE if self.ignore_case else 0)
        return Score(float((compiled.fullmatch(text) if self.whole else compiled.search(text)) is not None))


class JsonFields(ScorerBase):
    """The share of ``fields`` (dotted paths) that are equal in the answer and in the expected document.

    The expected column holds an object, or one as JSON text. Numbers are equal within 1e-9; texts without blanks around them.
    """

    kind: Literal["json_fields"] = "json_fields"
    fields_: tuple[str, ...] = Field(alias="fields", min_length=1)
    ignore_case: bool = False

    def _compare(self, given: Any, truth: Any) -> Score:
        if isinstance(truth, str):
            try:
                truth = jsonl.loads(truth)
            except jsonl.MalformedJson:
                return Score(None, SCORER_ERROR, "the expected value is no JSON")
        wrong = [path for path in self.fields_ if not self._is_same(pick(given, path), pick(truth, path))]
        share = 1 - len(wrong) / len(self.fields_)
        return Score(share, None, f"differs in: {', '.join(wrong)}"[:_DETAIL_CHARACTERS] if wrong else None)

    def _is_same(self, given: Truth, truth: Truth) -> bool:
        one, other = given.value, truth.value
        if isinstance(one, str) and isinstance(other, str):
            one, other = one.strip(), other.strip()
            return one.casefold() == other.casefold() if self.ignore_case else one == other
        numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (one, other))
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9) if numbers else bool(one == other)


class SchemaValid(ScorerBase):
    """1 when the answer is JSON that conforms to ``schema`` (a file, or the schema itself); failed answers that do not parse are 0."""

    kind: Literal["schema_valid"] = "schema_valid"
    needs_expected: ClassVar[bool] = False
    json_schema: Annotated[dict[str, Any], read_schema] = Field(alias="schema")

    def prepared(self) -> Callable[[Mapping[str, Any], Answer, str | None], Score]:
        """Compile the schema."""
        validator = compiled_schema(self.json_schema)

        def score(_row: Mapping[str, Any], answer: Answer, _expected: str | None) -> Score:
            if answer.status != "succeeded" and (answer.error_code or "").partition("_")[0] not in {
                "answer",
                "generation",
            }:
                return Score(None, NO_ANSWER, answer.error_code or answer.status)
            try:
                value = answer.value if isinstance(answer.value, (dict, list)) else jsonl.loads(answer.text or "")
            except jsonl.MalformedJson as error:
                return Score(0.0, None, f"not JSON: {error}"[:_DETAIL_CHARACTERS])
            first = next(iter(validator.iter_errors(value)), None)
            return Score(1.0) if first is None else Score(0.0, None, first.message[:_DETAIL_CHARACTERS])

        return score


class Similarity(ScorerBase):
    """How alike the normalised texts are, 0 to 1 (rapidfuzz); ``at_least`` makes it 1 from there on and 0 below."""

    kind: Literal["similarity"] = "similarity"
    method: Literal["ratio", "partial_ratio", "token_sort_ratio", "token_set_ratio", "WRatio"] = "ratio"
    at_least: float | None = Field(default=None, gt=0, le=1)

    def _compare(self, given: Any, truth: Any) -> Score:
        from rapidfuzz import fuzz  # noqa: PLC0415 - only where it is used

        measure: Callable[[str, str], float] = getattr(fuzz, self.method)
        alike = measure(normalised(as_text(given)), normalised(as_text(truth))) / 100
        return Score(alike if self.at_least is None else float(alike >= self.at_least), None, f"{alike:.3f}")


class Python(ScorerBase):
    """A function of the user's own, ``package.module:function``, called with the row and the ``Answer``; bool, number or None.

    None means that it cannot tell. What it raises is kept with the answer, and is no score.
    """

    kind: Literal["python"] = "python"
    needs_expected: ClassVar[bool] = False
    function: str

    def prepared(self) -> Callable[[Mapping[str, Any], Answer, str | None], Score]:
        """Import the function."""
        call = import_by_path(self.function)

        def score(row: Mapping[str, Any], answer: Answer, _expected: str | None) -> Score:
            if answer.status != "succeeded":
                return Score(None, NO_ANSWER, answer.error_code or answer.status)
            try:
                value = call(dict(row), answer)
                found = None if value is None else float(value)
            except Exception as error:  # noqa: BLE001 - the user's code; one row must not end the scoring of the others
                return Score(None, SCORER_ERROR, f"{type(error).__name__}: {error}"[:_DETAIL_CHARACTERS])
            if found is None:
                return Score(None, SCORER_ERROR, "the function gave no score")
            return Score(found) if math.isfinite(found) else Score(None, SCORER_ERROR, f"the function gave {found}")

        return score


class Human(BaseModel):
    """A sample that people have judged: the columns with the ``answer`` they saw, and with the ``label`` they gave it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answer: str
    label: str


class Judge(ScorerBase):
    """A model's judgement of the answer, asked for in a second workload.

    The prompt knows the row's columns, and ``model_answer``, ``model_name`` and ``prompt_name``. The judgement is what the judge answers, or what
    stands at ``verdict`` (a dotted path) in the JSON that it answers: a word that is worth what ``scores`` says, or a number, which becomes
    0 to 1 on the ``scale`` from low to high (by default the bounds of its answers). ``field`` is the part of the answer that is judged.
    """

    kind: Literal["judge"] = "judge"
    needs_expected: ClassVar[bool] = False
    model: str
    prompt: PromptText
    answers: Answers
    verdict: str | None = None
    scores: dict[str, float] = Field(default_factory=dict)
    scale: tuple[float, float] | None = None
    parameters: Parameters = Parameters()
    human: Human | None = None

    def word(self, judgement: Answer) -> str | None:
        """Read a judgement as the text that people's labels are compared with; None when there is none."""
        found = self._verdict_of(judgement)
        return as_text(found.value).strip() if found.is_there else None

    def worth(self, judgement: Answer) -> Score:
        """Read what the judge's judgement of an answer makes its score."""
        found = self._verdict_of(judgement)
        if not found.is_there:
            return Score(None, SCORER_ERROR, f"the judge: {judgement.error_code or f'no {self.verdict} in its answer'}")
        word = as_text(found.value)
        if self.scores:
            value = self.scores.get(word)
            return Score(value, None, word) if value is not None else Score(None, SCORER_ERROR, f"the judge: {word}")
        number = read_number(word, "whole")
        if number is None:
            return Score(None, SCORER_ERROR, f"the judge: {word}"[:_DETAIL_CHARACTERS])
        low, high = self.scale or (self.answers.minimum, self.answers.maximum)
        if low is None or high is None or high <= low:
            return Score(number, None, word)
        return Score((number - low) / (high - low), None, word)

    def _verdict_of(self, judgement: Answer) -> Truth:
        if judgement.status != "succeeded" or judgement.value is None:
            return Truth(None, is_there=False)
        return Truth(judgement.value, is_there=True) if self.verdict is None else pick(judgement.value, self.verdict)


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
