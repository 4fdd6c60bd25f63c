"""Takes off what models put around an answer, and compares words that are written in different ways."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_OPENING, _CLOSING = "<think>", "</think>"
_BLANKS: Final = re.compile(r"\s*")
_FENCE: Final = "```"
_LANGUAGE: Final = re.compile(r"[A-Za-z0-9_+-]*")
_AROUND: Final = " \t\r\n.\u3002,;:!\"'`*_()[]"
_QUOTES: Final = " \t\r\n\"'`"
_EMPHASIS: Final = "*_"
#: Signs that look alike: quotes, apostrophes and hyphens of all kinds. The signs without a width are not seen at all.
_ALIKE: Final = tuple(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02bc\u00b4\u2039\u203a", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d", "-"),
        **dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff", ""),
    }.items()
)
#: The digits and signs of numbers in full width, and the minus sign.
_PLAIN_DIGITS: Final = str.maketrans(
    "\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19\uff0b\uff0d\uff0e\u2212", "0123456789+-.-"
)


def without_thoughts(text: str) -> str:
    """Return the text behind a reasoning model's thoughts (console.groq.com/docs/reasoning, ``reasoning_format: raw``).

    Many chat templates write the opening tag into the prompt: what stands before a closing tag without an opening one is thought
    as well. Thoughts without an end are nothing but thoughts.
    """
    if "think>" not in text:
        return text
    rest = 0
    while True:
        start = _end_of_blanks(text, rest)
        is_opened = text.startswith(_OPENING, start)
        end = text.find(_CLOSING, start)
        if end < 0:
            return "" if is_opened else text[rest:]
        if not is_opened and text.find(_OPENING, start, end) >= 0:
            return text[rest:]
        rest = _end_of_blanks(text, end + len(_CLOSING))


def _end_of_blanks(text: str, start: int) -> int:
    found = _BLANKS.match(text, start)
    return found.end() if found else start


def unfenced(text: str) -> str:
    """Return the content of a code fence, without blanks around it; any other text unchanged."""
    if _FENCE not in text:
        return text
    stripped = text.strip()
    if len(stripped) < 2 * len(_FENCE) or not (stripped.startswith(_FENCE) and stripped.endswith(_FENCE)):
        return text
    inner = stripped[len(_FENCE) : -len(_FENCE)]
    language = _LANGUAGE.match(inner)
    content = inner[language.end() if language else 0 :].strip()
    # In a fence of one word the word is the content.
    return content or inner.strip()


def canonical(text: str) -> str:
    """Return a text as it is compared: one spelling for letters, blanks, quotes and hyphens that look alike, and without case."""
    plain = _with_plain_signs(unicodedata.normalize("NFKC", _with_plain_signs(text))).casefold()
    return " ".join(unicodedata.normalize("NFKC", plain).split())


def _with_plain_signs(text: str) -> str:
    # One pass for each sign: a table (``str.translate``) takes twenty times as long for a text outside Latin-1.
    if not text.isascii():
        for sign, plain in _ALIKE:
            text = text.replace(sign, plain)
    return text


def plain_number(text: str) -> str:
    """Return a number's text with the usual digits and signs, without quotes and a full stop around it."""
    return text.translate(_PLAIN_DIGITS).strip(" \t\r\n\"'`*").rstrip(".")


def is_same_choice(one: str, other: str) -> bool:
    """Whether two texts are the same choice: as they stand, or without the signs around them."""
    ones, others = canonical(one), canonical(other)
    return ones == others or (bool(bare := _bare(ones)) and bare == _bare(others))


def _bare(text: str) -> str:
    bare = text.strip(_AROUND)
    # The point of ".5" belongs to the number.
    return f".{bare}" if bare[:1].isdigit() and f".{bare}" in text else bare


class Choices:
    """Finds the choice that an answer names.

    Word by word first, in any case, then with other spellings of the same letters, then without quotes, and at last without the
    signs around it. A spelling that several choices share names none of them; rules have no two choices that differ in case only.
    """

    def __init__(self, choices: Sequence[str]) -> None:
        def folded(text: str) -> str:
            return text.strip().casefold()

        def without_signs(text: str) -> str:
            return _bare(canonical(text))

        self._spellings = [(spelling, _by(spelling, choices)) for spelling in (folded, canonical, without_signs)]

    def find(self, text: str) -> str | None:
        """Return the choice as its rules spell it; None if the text names none."""
        spelling, found = self._spellings[0]
        if (choice := found.get(spelling(text))) is not None:
            # Most answers, at a third of the price.
            return choice
        variants = (text, unfenced(text), _with_plain_signs(text).strip(_QUOTES), text.strip().strip(_EMPHASIS))
        for variant in dict.fromkeys(variants):
            for spelling, found in self._spellings[:-1]:
                if (choice := found.get(spelling(variant))) is not None:
                    return choice
        spelling, found = self._spellings[-1]
        return found.get(spelling(unfenced(text)))


def _by(spelling: Callable[[str], str], choices: Sequence[str]) -> dict[str, str]:
    """Return the choices by a spelling, without spellings that several share."""
    spelled = [spelling(choice) for choice in choices]
    return {key: choice for key, choice in zip(spelled, choices, strict=True) if key and spelled.count(key) == 1}
