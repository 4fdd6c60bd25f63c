"""Reads a number from a text: all of it or none. Digits in the middle of something else are no number."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final, Literal

Which = Literal["whole", "first", "last"]
#: Only so much of a text is searched for its first or last number, and no number is longer than its digits.
SEARCHED_CHARACTERS: Final = 100_000
_MOST_DIGITS: Final = 5_000
_QUOTES: Final = " \t\r\n\"'`*_\u201c\u201d\u2018\u2019"
_MINUS: Final = "\u2010-\u2015\u2212\ufe63\uff0d\\-"
_CURRENCY: Final = "$\u00a2-\u00a5\u0e3f\u20a0-\u20cf\ufe69\uff04\uffe0\uffe1\uffe5"
_CODES: Final = (
    "USD EUR GBP JPY CNY RMB INR CHF CAD AUD NZD SEK NOK DKK PLN CZK HUF RON BGN TRY RUB UAH ILS AED SAR ZAR NGN KES EGP BRL MXN "
    "ARS CLP COP PEN KRW TWD HKD SGD THB MYR IDR PHP VND"
)
_MONEY: Final = rf"(?:(?:US|A|C|HK|NZ|R)?[{_CURRENCY}]|(?:{'|'.join(_CODES.split())}))"
#: Scripts that put no blanks between a number and the next word.
_UNSPACED: Final = "\u0e00-\u0eff\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f"
_BLANK_IN_NUMBER: Final = "\u00a0\u202f\u2009"
#: Everything that is written without a gap: a number, a date, a version, a range, a product.
_RUN: Final = re.compile(
    rf"(?:(?![{_UNSPACED}])[\w.,:/'\u2019^+{_MINUS}{_CURRENCY}{_BLANK_IN_NUMBER}]|(?<=[_^])\{{+[^{{}}\s]*\}}*)+"
)
_GAP: Final = re.compile(r"(?<=[^\W\d_])[:,;](?=[^\s\w]?\d)|(?<=\d)[,:;](?=[^\W\d_])")
_OTHER_DIGIT: Final = re.compile(r"(?![0-9])\d")
_POWER: Final = re.compile(
    rf"(?<=[0-9])\s*(?:\u00d7|\u00b7|\*|x|\\times|\\cdot)\s*10\s*"
    rf"(?:(?:\^|\*\*)\s*\{{?\s*([+{_MINUS}]?[0-9]+)\s*\}}?|([\u207a\u207b]?[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+))"
)
_LATEX_GROUP: Final = re.compile(r"(?<=[0-9])(?:\\[,;:! ]|\{,\})(?=[0-9]{3}(?![0-9]))")
#: Fractions and roots are no number that is read: what is left of them is a letter and no digits.
_LATEX_TERM: Final = re.compile(r"\\(?:[dt]?frac\s*\{[^{}]*\}\s*\{[^{}]*\}|sqrt\s*(?:\[[^\[\]]*\])?\s*\{[^{}]*\})")
_LATEX_BOX: Final = re.compile(r"\\(?:boxed|fbox|text|textbf|mathbf|mathrm|bf|displaystyle)\s*\{(.*)\}", re.DOTALL)
_MATH: Final = (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"), ("$", "$"))


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """How numbers are written: the decimal sign, the sign between thousands (None without one), and the units they may carry.

    Three percent is 3, not 0.03: a unit is taken off.
    """

    decimal: str = "."
    thousands: str | None = ","
    currency: bool = False
    percent: bool = False


PLAIN: Final = NumberFormat()


def read_number(text: str, which: Which, written: NumberFormat = PLAIN) -> Decimal | None:
    """Return a number from a text; None if there is none.

    ``whole`` allows nothing around it but quotes, emphasis, a full stop, and LaTeX's box; ``first`` and ``last`` search,
    and take off currency and percent signs in any case.
    """
    if which == "whole":
        return _whole(text, written)
    if len(text) > SEARCHED_CHARACTERS:
        text = _window(text, which)
    words = _RUN.finditer(_GAP.sub(" ", _plain(text, written)))
    if which == "last":
        # Most texts end near their last number.
        words = reversed(list(words))
    numbers = (_strict(word, written, is_searched=True) for found in words if (word := _trimmed(found[0])))
    return next((number for number in numbers if number is not None), None)


def number_of(value: Any) -> Decimal | None:
    """Return a value that is a number already with all its digits; None for any other value, and for inf and NaN."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, float):
        # The shortest text that reads back as the same float is what its source wrote.
        value = Decimal(float.__repr__(value))
    return value if isinstance(value, Decimal) and value.is_finite() else None


def _window(text: str, which: Which) -> str:
    if which == "first":
        return text[:SEARCHED_CHARACTERS].rpartition(" ")[0]
    return text[-SEARCHED_CHARACTERS:].partition(" ")[2]


def _whole(text: str, written: NumberFormat) -> Decimal | None:
    if len(text) > SEARCHED_CHARACTERS:
        return None
    word = _stripped(text)
    for _ in range(3):
        for opening, closing in _MATH:
            if word.startswith(opening) and word.endswith(closing) and len(word) > len(opening) + len(closing):
                word = _stripped(word[len(opening) : -len(closing)])
        if (boxed := _LATEX_BOX.fullmatch(word)) is None:
            break
        word = _stripped(boxed[1])
    return _strict(_plain(word, written), written)


def _stripped(text: str) -> str:
    return text.strip(_QUOTES).rstrip(f".{_QUOTES}")


def _trimmed(word: str) -> str:
    """Return a word without the punctuation around it: a sign or a point before a digit belongs to a number."""
    word = word.lstrip(",:/'\u2019^_\u00a0\u202f\u2009")
    return (word.lstrip(".") if word.startswith("..") else word).rstrip(
        ".,:;/'\u2019^_+\u00a0\u202f\u2009\u2013\u2014-"
    )


def _plain(text: str, written: NumberFormat) -> str:
    """Return a text with ASCII digits, and LaTeX's and other ways of writing a number as this module's patterns know them."""
    if not text.isascii():
        text = _OTHER_DIGIT.sub(lambda found: str(unicodedata.decimal(found[0])), text)
        text = text.replace("\uff0e", ".").replace("\uff0c", ",").replace("\uff0b", "+").replace("\uff05", "%")
    if "\\" in text or "{,}" in text:
        text = _LATEX_TERM.sub("x", text).replace("\\%", "%").replace("\\$", "$")
        text = _LATEX_GROUP.sub(written.thousands or "", text)
    text = _POWER.sub(_exponent, text)
    if written.thousands == "'":
        text = text.replace("\u2019", "'")
    elif written.thousands == " ":
        text = re.sub(rf"(?<=[0-9])[ {_BLANK_IN_NUMBER}](?=[0-9]{{3}}(?![0-9]))", "\u00a0", text)
    return text


def _exponent(found: re.Match[str]) -> str:
    return f"e{found[1] or unicodedata.normalize('NFKC', found[2])}"


def _strict(word: str, written: NumberFormat, *, is_searched: bool = False) -> Decimal | None:
    matched = _grammar(written.decimal, written.thousands, is_searched or written.currency, written.percent).fullmatch(
        word
    )
    if matched is None or len(matched["digits"]) > _MOST_DIGITS:
        return None
    digits = matched["digits"]
    if written.thousands is not None:
        digits = digits.replace("\u00a0" if written.thousands == " " else written.thousands, "")
    is_negative = any(sign not in {None, "", "+"} for sign in (matched["outer"], matched["inner"]))
    exponent = re.sub(f"[{_MINUS}]", "-", matched["exponent"] or "")
    try:
        number = Decimal(digits.replace(written.decimal, ".") + exponent)
    except InvalidOperation:
        return None  # an exponent beyond all bounds
    if not number.is_finite():
        return None
    return number.copy_negate() if is_negative else number


@lru_cache(maxsize=64)
def _grammar(decimal: str, thousands: str | None, currency: bool, percent: bool) -> re.Pattern[str]:
    point = re.escape(decimal)
    between = re.escape("\u00a0" if thousands == " " else thousands) if thousands is not None else None
    grouped = "" if between is None else rf"[1-9][0-9]{{0,2}}(?:{between}[0-9]{{3}})+|"
    sign = rf"[+{_MINUS}]?"
    signed = rf"(?P<outer>{sign})(?P<inner>)"
    if currency:
        money = rf"(?:{_MONEY}\s*)"
        signed = rf"(?:(?P<outer>{sign}){money}{{0,2}}|{money}{{1,2}}(?P<inner>{sign}))"
    return re.compile(
        rf"{signed}(?P<digits>(?:{grouped}[0-9]+)(?:{point}[0-9]+)?|{point}[0-9]+)"
        rf"(?P<exponent>[eE][+{_MINUS}]?[0-9]{{1,18}})?"
        + (r"(?:\s*%)?" if percent else "")
        + (rf"(?:\s*{_MONEY}){{0,2}}" if currency else "")
    )
