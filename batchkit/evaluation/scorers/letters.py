"""The scorer of multiple choice: the letter that an answer states."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, NamedTuple

from pydantic import BeforeValidator, Field

from batchkit.answers.wording import is_same_choice
from batchkit.datasets.values import text_of
from batchkit.evaluation.scorers.base import NO_EXPECTED, Score, ScorerBase, error, is_labelled, no_answer, wrong

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from batchkit.annotation.request_answer import RequestAnswer
    from batchkit.files.checked_yaml import Place

#: The beginning and the end of a longer answer are read.
READ_CHARACTERS: Final = 10_000
_AROUND: Final = " \t\r\n.,:;\"'`*_$()[]{}\u3002\uff08\uff09\u3010\u3011\u300c\u300d\u201c\u201d\u2018\u2019"
_LATEX: Final = re.compile(r"\\(?:boxed|text|textbf|mathbf|mathrm)\s*(?=\{)|\\[()\[\]]")
_EMPHASIS: Final = re.compile(r"[*_`$]+")


def _letters(value: Any) -> Any:
    """Return the letters of ``A-J``, ``ABCD`` or ``A, B``; any other value unchanged."""
    if not isinstance(value, str):
        return value
    word = value.upper().replace(",", "").replace(" ", "")
    span = re.fullmatch(r"([A-Z])-([A-Z])", word)
    if span is not None:
        word = "".join(map(chr, range(ord(span[1]), ord(span[2]) + 1)))
    if re.fullmatch(r"[A-Z]{2,}", word) is None or len(set(word)) < len(word):
        raise ValueError("write the letters as A-J or ABCD")
    return word


class Stated(NamedTuple):
    """The letter that a text states; without one, why there is none."""

    letter: str | None
    problem: str = ""


class LetterReader:
    """Reads the final letter that a text states, out of given letters.

    A letter alone is it; else the last one that is stated ("Answer: B", "the correct option is (b)", a box); else the one at the
    beginning of a line ("B) because"); else the only one that stands alone. Two letters in one place are no statement.
    """

    def __init__(self, letters: str) -> None:
        one = rf"[{letters}]"
        either = rf"[{letters}{letters.lower()}]"
        marked = rf"[(\[{{\uff08\u3010]\s*(?P<%s>{either})\s*[)\]}}\uff09\u3011]"
        # A and I are words: before another word they are no letter unless a sign follows.
        bare = rf"(?P<%s>{one})(?![^\W_]|['\u2019]\w|-\w)(?!(?<=[AI])\s+(?!because|since|as\b|and\b|or\b|is\b|with\b)[^\W\d_])"
        lone = rf"(?P<%s>{either})(?=\s*[.:;!)\]]*\s*(?:\n|$))"
        letter = "(?:" + "|".join((marked % "m", bare % "b", lone % "l")) + ")"
        best = r"(?:final|correct|best|right|my)\s+"
        filler = r"(?:\s+(?:here|would|should|must|clearly|letter|option|choice|to\s+\w+(?:\s+\w+){0,3})){0,3}"
        verb = r"(?:is|are|be|was)\b|[=:\uff1a-]"
        hence = r"(?:(?:is|therefore|thus|clearly|likely|probably|option|choice|letter)\b|[:=-])?\s*"
        # A bare "option B" discusses it; "answer B" states it.
        said = (
            rf"(?:\b(?:{best}){{0,3}}(?:answer|response|solution){filler}\s*(?:{verb})?\s*{hence}"
            rf"|\b{best}(?:option|choice|letter){filler}\s*(?:{verb})?\s*{hence}"
            rf"|\b(?:option|choice|letter){filler}\s*(?:{verb})\s*{hence}"
            r"|\b(?:choose|chose|pick|select|go\s+with|going\s+with)\s+(?:option\s+|choice\s+|answer\s+|letter\s+)?"
            r"|(?:\u7b54\u6848|\u6b63\u89e3|\u9009\u62e9|\u9078\u64c7)\s*(?:\u662f|\u4e3a|\u70ba|\u306f)?\s*[:\uff1a]?\s*)"
        )
        denied = r"(?!\W{0,3}(?:is|are|was|would\s+be|seems|looks|can)\s*(?:not\b|n['\u2019]t|wrong|incorrect|false))"
        more = rf"\s*(?:,|/|&|\bor\b|\band\b|\uff0c|\u3001)\s*(?:or\s+|and\s+)?[(\[]?(?P<more>{one}|(?<=[(\[]){either})(?![^\W_])"
        self._stated = re.compile(rf"(?i:{said}){letter}{denied}(?:{more})?")
        self._boxed = re.compile(rf"\x00\{{\s*(?P<m>{either})\s*\}}")
        self._leading = re.compile(
            rf"^[\s>#-]*(?:{marked % 'm'}|(?P<b>{either})(?=\s*[).:\]\uff1a\uff09]|\s+-)|(?P<l>{either})(?=\s*$))",
            re.MULTILINE,
        )
        self._alone = re.compile(
            rf"(?<![^\W_]['\u2019])(?<![^\W_])(?<!-)(?<!not )(?<!not \()(?:{marked % 'm'}|{bare % 'b'}){denied}"
        )
        self._letters = letters

    def read(self, text: str) -> Stated:
        """Return the letter that a text states."""
        if len(text) > 2 * READ_CHARACTERS:
            text = f"{text[:READ_CHARACTERS]}\n\u2026\n{text[-READ_CHARACTERS:]}"
        bare = _LATEX.sub(lambda found: "\x00" if "boxed" in found[0] else "", text)
        bare = _EMPHASIS.sub("", bare)
        whole = bare.replace("\x00", "").strip(_AROUND).upper()
        if len(whole) == 1 and whole in self._letters:
            return Stated(whole)
        for pattern, takes_last in (
            (self._boxed, True),
            (self._stated, True),
            (self._leading, False),
            (self._alone, False),
        ):
            found = list(pattern.finditer(bare.replace("\x00", "") if pattern is not self._boxed else bare))
            if found:
                return _final(found, takes_last=takes_last)
        return Stated(None, "no letter in the answer")


def _final(found: list[re.Match[str]], *, takes_last: bool) -> Stated:
    if takes_last:
        found = found[-1:]
    letters = {_letter_of(match) for match in found}
    more = found[-1].groupdict().get("more")
    if more is not None:
        letters.add(more.upper())
    if len(letters) > 1:
        return Stated(None, f"the answer is ambiguous: {', '.join(sorted(letters))}")
    return Stated(letters.pop())


def _letter_of(found: re.Match[str]) -> str:
    return next(str(found[name]) for name in ("m", "b", "l") if found.groupdict().get(name) is not None).upper()


class AnswerLetter(ScorerBase):
    """1 if the answer states the expected letter of a multiple choice; an ambiguous answer is wrong.

    The expected value is a letter. With ``options``, the columns of the choices in the order of the letters (or one column with a list),
    it may be the text of a choice, and so may the answer; with ``count_from`` it is the number of a choice, counted from 0 or 1.
    """

    kind: Literal["answer_letter"] = "answer_letter"
    letters: Annotated[str, BeforeValidator(_letters)] = "ABCDEFGHIJ"
    options: tuple[str, ...] = Field(default=(), max_length=26)
    count_from: Literal[0, 1] | None = None
    needs_expected: ClassVar[bool] = True

    def columns(self) -> Iterator[tuple[Place, str]]:
        """Yield the columns of the expected letter and of the choices."""
        yield from super().columns()
        for place, column in enumerate(self.options):
            yield ("options", place), column

    @cached_property
    def _reader(self) -> LetterReader:
        return LetterReader(self.letters)

    def _score(self, row: Mapping[str, Any], answer: RequestAnswer, expected: str | None) -> Score:
        # A row that nobody labelled has no score, whatever became of its request.
        truth = self._truth(row, expected)
        if not truth.exists:
            return Score(None, NO_EXPECTED)
        if (missing := no_answer(answer)) is not None:
            return missing
        given = self._given(answer)
        if not given.exists:
            return wrong(f"the answer has no {self.field}")
        choices = self._choices(row)
        wanted = self._expected_letter(truth.value, choices)
        if wanted is None:
            return error(f"the expected value {text_of(truth.value)[:80]!r} is no letter of {self.letters}")
        said = text_of(given.value)
        named = self._letter_of_choice(said, choices)
        stated = self._reader.read(said) if named is None else Stated(named)
        if stated.letter is None:
            return wrong(stated.problem)
        return Score(float(stated.letter == wanted), None, stated.letter)

    def labels(
        self, row: Mapping[str, Any], _answer: RequestAnswer, expected: str | None, score: Score
    ) -> tuple[str | None, str | None]:
        """Return the expected and the stated letter of an answer with this score; None where there is none."""
        stated = score.detail if score.value is not None and score.detail in tuple(self.letters) else None
        return self._expected_letter(self._truth(row, expected).value, self._choices(row)), stated

    def _choices(self, row: Mapping[str, Any]) -> list[str]:
        values = [row.get(column) for column in self.options]
        if len(values) == 1 and isinstance(values[0], list):
            values = values[0]
        return [text_of(value) for value in values]

    def _expected_letter(self, truth: Any, choices: list[str]) -> str | None:
        text = text_of(truth).strip()
        if self.count_from is not None and text.isdecimal() and len(text) <= 2:  # noqa: PLR2004 - 26 letters
            place = int(text) - self.count_from
            return self.letters[place] if 0 <= place < len(self.letters) else None
        bare = text.strip(_AROUND).upper()
        if len(bare) == 1 and bare in self.letters:
            return bare
        return self._letter_of_choice(text, choices)

    def _letter_of_choice(self, text: str, choices: list[str]) -> str | None:
        """Return the letter of the only choice that a text is."""
        if len(text) > READ_CHARACTERS:
            return None
        named = [
            letter
            for letter, choice in zip(self.letters, choices, strict=False)
            if is_labelled(choice) and is_same_choice(choice, text)
        ]
        return named[0] if len(named) == 1 else None
