"""Folds texts for a comparison: without case, punctuation and articles, but with every sign that tells answers apart."""

from __future__ import annotations

import re
import string
import unicodedata
from typing import Final

_CURRENCY: Final = "$\u00a2-\u00a5\u20a0-\u20cf"
_DASHES: Final = "\u2010-\u2015\u2212-"
#: NFKC would make 52 of five squared, and join a fraction to the number before it.
_RAISED: Final = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u207b]+")
_FRACTION: Final = re.compile("(?<=[0-9])(?=[\u00bc-\u00be\u2150-\u215e\u2189])")
#: Blanks between a number and the signs that belong to it.
_LOOSE: Final = re.compile(rf"\s(?:(?<=[0-9]\s)(?=[%\u2030{_CURRENCY}](?![0-9]))|(?<=[{_CURRENCY}]\s)(?=[0-9]))")
#: Signs that stay, by what stands around them. The class comes first because the engine skips to its members.
_KEPT: Final = re.compile(
    rf"""[.,%<>^+\#\u2030\u2044{_CURRENCY}{_DASHES}](?:
      (?<=[{_DASHES}]) (?<![^\W_].) (?=[{_CURRENCY}]?\.?[0-9])     # -5, -$5, -.5
    | (?<=[{_DASHES}]) (?<=[{_CURRENCY}].) (?=\.?[0-9])            # $-5
    | (?<=[{_DASHES}]) (?<=[^\W\d_].) (?<![^\W_'].{{2}}) (?![\w-]) # the grade A-
    | (?<=[0-9][.,\u2044]) (?=[0-9])                               # 1.5, 1,5, 1/2 as one character
    | (?<=\.) (?<![\w.].) (?=[^\W_])                               # .5, .NET
    | (?<=[0-9][%\u2030{_CURRENCY}])                               # 50%, 5$
    | (?<=[{_CURRENCY}]) (?=[{_DASHES}]?\.?[0-9])                  # $5, $-5
    | (?<=\+) (?<=[^\W_].|\+.) (?![^\W_])                          # C++, A+, 18+
    | (?<=[^\W\d_]\#) (?![^\W_])                                   # C#
    | (?<=[<>]) (?=\s?[{_DASHES}]?[0-9])                           # <5
    | (?<=[^\W_]\^) (?=[-+]?[^\W_])                                # x^2
    )""",
    re.VERBOSE,
)
#: An article stands before another word. At the end of a text it is an answer: "Vitamin A".
_ARTICLE: Final = re.compile(r"(?<!\S)(?:an?|the) (?!(?:an?|the)(?!\S))")
#: Private characters that stand for the kept signs until the others are gone.
_FIRST_PRIVATE: Final = 0xF0000
_LAST_SIGN: Final = 0x2FFF


class _Blanks(dict[int, str | int]):
    """A table for ``str.translate`` that fills itself: punctuation becomes a blank, and a private character its sign."""

    def __missing__(self, code: int) -> str | int:
        sign = chr(code)
        found: str | int = code
        if sign in string.punctuation or unicodedata.category(sign)[0] == "P":
            found = " "
        elif _FIRST_PRIVATE <= code <= _FIRST_PRIVATE + _LAST_SIGN:
            found = chr(code - _FIRST_PRIVATE)
        self[code] = found
        return found


_BLANKS: Final = _Blanks()
_DASH: Final = re.compile(f"[{_DASHES}]")


def normalised(text: str) -> str:
    """Return the text without differences in case, compatible characters (NFKC), punctuation, English articles and blanks.

    That is what SQuAD's evaluation does, but what tells answers apart stays: a minus before a number, a point or a comma between
    digits, a percent or currency sign beside a number, the signs of ``C++``, ``C#``, ``.NET`` and of grades. An article at the end
    stays, and a text of nothing but signs keeps them.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _FRACTION.sub(" ", _RAISED.sub(_lowered, text)))
    folded = text.casefold()
    bare = " ".join(_KEPT.sub(_kept, _LOOSE.sub("", folded)).translate(_BLANKS).split())
    return _ARTICLE.sub("", bare) or " ".join(folded.split())


def _lowered(found: re.Match[str]) -> str:
    return f"^{found[0]}"


def _kept(found: re.Match[str]) -> str:
    sign = "-" if _DASH.match(found[0]) else found[0]
    return chr(_FIRST_PRIVATE + ord(sign))
