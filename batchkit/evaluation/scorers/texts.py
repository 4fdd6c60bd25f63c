"""Scorers that compare texts."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from batchkit.answers.patterns import BoundedPattern, TookTooLong
from batchkit.answers.rules import Pattern
from batchkit.answers.wording import Choices, is_same_choice
from batchkit.datasets.values import text_of
from batchkit.evaluation.scorers.base import FoundValue, Score, ScorerBase, error, is_labelled, wrong
from batchkit.evaluation.scorers.normalising import normalised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from batchkit.annotation.request_answer import RequestAnswer
    from batchkit.files.checked_yaml import Place

#: Only the beginning of a long answer is searched: a pattern over all of it may take longer than its limit.
REGEX_CHARACTERS = 10_000
#: A longer text is not normalised: within a second that is not possible for every text.
NORMALISED_CHARACTERS = 2_000_000
#: The time of a similarity grows with the product of the lengths; that of the best part with the square of the shorter one as well.
SIMILARITY_CHARACTERS = 100_000
_MOST_STEPS = 3e10
#: From here on WRatio looks for the best part.
_PART_OF = 1.5


class Exact(ScorerBase):
    """1 if the answer is the expected text, without regard to blanks around it.

    A number, a boolean or null of an answer may be written as the model wrote it, or as a table writes it.
    """

    kind: Literal["exact"] = "exact"

    def _score(self, row: Mapping[str, Any], answer: RequestAnswer, expected: str | None) -> Score:
        score = super()._score(row, answer, expected)
        if score.value == 0 and self.field is None and answer.text and not isinstance(answer.value, (str, list, dict)):
            return self._compare(answer.text, self._truth(row, expected).value)
        return score

    def _compare(self, given: Any, truth: Any) -> Score:
        return Score(float(text_of(given).strip() == text_of(truth).strip()))


class Normalised(ScorerBase):
    """1 if both texts are equal after normalisation of case, punctuation, articles and blanks."""

    kind: Literal["normalised"] = "normalised"

    def _compare(self, given: Any, truth: Any) -> Score:
        answered, wanted = text_of(given), text_of(truth)
        if answered == wanted:
            return Score(1.0)
        if _too_long(answered, wanted):
            return _TOO_LONG
        return Score(float(normalised(answered) == normalised(wanted)))


class ChoiceScorer(ScorerBase):
    """1 if the answer is the expected choice, without regard to case, signs around it, and other spellings of the same letters.

    With ``choices`` the answer and the expected text each name one of them, word by word before anything is stripped.
    """

    later_fields: ClassVar[frozenset[str]] = frozenset({"choices"})

    kind: Literal["choice"] = "choice"
    choices: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _tells_choices_apart(self) -> Self:
        folded = [choice.strip().casefold() for choice in self.choices]
        if len(set(folded)) < len(folded) or "" in folded:
            raise ValueError("the choices must differ in more than case and space, and none may be empty")
        return self

    def labels(
        self, row: Mapping[str, Any], answer: RequestAnswer, expected: str | None, score: Score
    ) -> tuple[str | None, str | None]:
        """Return the expected and the answered label of an answer with this score; None where there is none.

        A label is one of the ``choices``; without them it is the text, in small letters and without the blanks around it.
        """
        wanted = self._label(self._truth(row, expected).value)
        if score.value is None:
            return wanted, None
        return wanted, wanted if score.value == 1 else self._label(self._given(answer).value)

    def _label(self, value: Any) -> str | None:
        if value is None:
            return None
        text = text_of(value)
        return self._known.find(text) if self.choices else text.strip().casefold()

    @cached_property
    def _known(self) -> Choices:
        return Choices(self.choices)

    def _compare(self, given: Any, truth: Any) -> Score:
        answered, wanted = text_of(given), text_of(truth)
        if not self.choices:
            return Score(float(is_same_choice(answered, wanted)))
        choice = self._known.find(wanted)
        if choice is None:
            return error(f"the expected value {wanted[:80]!r} is none of: {', '.join(self.choices)}")
        return Score(float(self._known.find(answered) == choice))


class Contains(ScorerBase):
    """1 if the answer contains ``text``, by default the expected text."""

    kind: Literal["contains"] = "contains"
    text: str | None = None
    ignore_case: bool = True

    @field_validator("text")
    @classmethod
    def _is_no_blank(cls, text: str | None) -> str | None:
        if text is not None and not is_labelled(text):
            raise ValueError("every answer contains a blank text: write the text, or leave it out for the expected one")
        return text

    def _truth(self, row: Mapping[str, Any], expected: str | None) -> FoundValue:
        return super()._truth(row, expected) if self.text is None else FoundValue(self.text, exists=True)

    def _compare(self, given: Any, truth: Any) -> Score:
        whole, part = text_of(given), text_of(truth)
        if self.text is None:
            part = part.strip()
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

    def contradictions(self) -> Iterator[tuple[Place, str]]:
        """Yield whether the pattern takes too long for texts that repeat one of its own characters."""
        yield from super().contradictions()
        signs = dict.fromkeys(sign for sign in f"a1 {self.pattern}" if sign.isalnum() or sign == " ")
        for sign in list(signs)[:_MOST_PROBES]:
            try:
                self._matches(sign * _PROBE_CHARACTERS + "\N{REPLACEMENT CHARACTER}")
            except TookTooLong:
                yield (
                    ("pattern",),
                    f"the pattern takes too long for a text that repeats {sign!r}; it repeats what repeats",
                )
                return

    def _compare(self, given: Any, truth: Any) -> Score:  # noqa: ARG002 - only the pattern is compared
        try:
            return Score(float(self._matches(text_of(given)[:REGEX_CHARACTERS])))
        except TookTooLong as gave_up:
            return error(str(gave_up))

    def _matches(self, text: str) -> bool:
        return self._bounded.matches(text, where="whole" if self.whole else "anywhere")


_MOST_PROBES = 8
_PROBE_CHARACTERS = 2_000


class Similarity(ScorerBase):
    """The similarity of the normalised texts, 0 to 1 (rapidfuzz); with ``at_least`` 1 from that value on and 0 below.

    ``partial_ratio`` gives less than 1 to a part of a word: 5 is not -5.
    """

    kind: Literal["similarity"] = "similarity"
    method: Literal["ratio", "partial_ratio", "token_sort_ratio", "token_set_ratio", "WRatio"] = "ratio"
    at_least: float | None = Field(default=None, gt=0, le=1)

    def contradictions(self) -> Iterator[tuple[Place, str]]:
        """Yield whether the library that compares is missing."""
        yield from super().contradictions()
        try:
            import_module("rapidfuzz")
        except ImportError as problem:
            yield (), f"rapidfuzz cannot be imported: {problem}; pip install 'groq-batchkit[annotate]'"

    def _compare(self, given: Any, truth: Any) -> Score:
        answered, wanted = text_of(given), text_of(truth)
        is_too_long = answered != wanted and _too_long(answered, wanted)
        alike = None if is_too_long else self._alike(answered, wanted)
        if alike is None:
            return _TOO_LONG
        return Score(alike if self.at_least is None else float(alike >= self.at_least), None, f"{alike:.3f}")

    def _alike(self, one: str, other: str) -> float | None:
        from rapidfuzz import fuzz  # noqa: PLC0415 - only where it is used

        if one == other or (one := normalised(one)) == (other := normalised(other)):
            return 1.0
        shorter, longer = sorted((len(one), len(other)))
        takes_parts = self.method == "partial_ratio" or (self.method == "WRatio" and longer >= _PART_OF * shorter)
        if longer > SIMILARITY_CHARACTERS or (takes_parts and shorter**2 * longer > _MOST_STEPS):
            return None
        measure: Callable[[str, str], float] = getattr(fuzz, self.method)
        alike = measure(one, other) / 100
        if alike == 1 and self.method in {"partial_ratio", "WRatio"} and not _has_words_of(one, other):
            return (1 + fuzz.ratio(one, other) / 100) / 2
        return alike


class TokenF1(ScorerBase):
    """The F1 of the words that the normalised texts share, as in SQuAD's evaluation."""

    kind: Literal["f1"] = "f1"

    def _compare(self, given: Any, truth: Any) -> Score:
        if (answered := text_of(given)) == (wanted := text_of(truth)):
            return Score(1.0)
        if _too_long(answered, wanted):
            return _TOO_LONG
        ones, others = normalised(answered).split(), normalised(wanted).split()
        shared = (Counter(ones) & Counter(others)).total()
        if not shared:
            return wrong("no word is the same")
        return Score(2 * shared / (len(ones) + len(others)))


_TOO_LONG = error("the texts are too long to compare")


def _too_long(one: str, other: str) -> bool:
    return max(len(one), len(other)) > NORMALISED_CHARACTERS


def _has_words_of(one: str, other: str) -> bool:
    """Whether the shorter text is a sequence of whole words of the longer one."""
    shorter, longer = sorted((f" {one} ", f" {other} "), key=len)
    return shorter in longer
