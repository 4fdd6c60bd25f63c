"""Regular expressions over texts of strangers: the one place that compiles and runs them, within bounds of time and memory.

The expressions are those of Python's ``re``; the ``regex`` package runs them, because it can give up.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal

import regex

_SECONDS: Final = 1.0
#: After a few answers that took too long the next ones get less time: a pattern that runs away does so often.
_SECONDS_LATER: Final = 0.05
_PATIENT_TIMES: Final = 5
_LONGEST_TEXT: Final = 1_000_000
_LONGEST_PATTERN: Final = 20_000
#: The engine writes counted repetitions out: nested ones would take gigabytes.
_MOST_REPETITIONS: Final = 100_000
_TOKEN: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d*)(?:,(\d*))?\}|.", re.DOTALL)


class TookTooLong(Exception):
    """The match was given up; the message says why."""


class BoundedPattern:
    """A regular expression that is given up after a second of one text. Raises ``ValueError`` for one that cannot be used."""

    def __init__(self, pattern: str, *, ignore_case: bool = False) -> None:
        self.pattern = pattern
        self._compiled = _compiled(pattern, ignore_case=ignore_case)
        self._overruns = 0

    def matches(self, text: str, *, where: Literal["whole", "anywhere"] = "whole") -> bool:
        """Whether the pattern matches the whole text, or a part of it. Raises ``TookTooLong``."""
        if len(text) > _LONGEST_TEXT:
            raise TookTooLong(f"the text is too long for a pattern: {len(text):,} characters")
        run = self._compiled.fullmatch if where == "whole" else self._compiled.search
        try:
            return run(text, timeout=_SECONDS if self._overruns < _PATIENT_TIMES else _SECONDS_LATER) is not None
        except (TimeoutError, MemoryError) as error:
            self._overruns += 1
            what = "too long" if isinstance(error, TimeoutError) else "too much memory"
            raise TookTooLong(f"the pattern took {what}: {self.pattern}") from None


@lru_cache(maxsize=64)
def _compiled(pattern: str, *, ignore_case: bool) -> regex.Pattern[str]:
    if len(pattern) > _LONGEST_PATTERN:
        raise ValueError(f"it has more than {_LONGEST_PATTERN:,} characters")
    if _repetitions(pattern) > _MOST_REPETITIONS:
        raise ValueError("its counted repetitions multiply to too much; use + or * in place of the inner ones")
    try:
        return regex.compile(pattern, regex.IGNORECASE if ignore_case else 0)
    except (regex.error, RecursionError, OverflowError) as error:
        raise ValueError(str(error) or type(error).__name__) from None


def _repetitions(pattern: str) -> int:
    """Return how many items the pattern has when its counted repetitions are written out."""
    sizes = [0]
    last = 0
    for token in _TOKEN.finditer(pattern):
        sign = token[0]
        if sign == "(":
            sizes.append(0)
            last = 0
            continue
        if sign == ")" and len(sizes) > 1:
            last = max(sizes.pop(), 1)
        elif token[1] is not None:
            times = max(_count(token[1]), _count(token[2]), 1)
            sizes[-1] += last * (times - 1)
            last *= times
            continue
        else:
            last = 1
        sizes[-1] += last
        if max(sizes) > _MOST_REPETITIONS:
            break
    return max(sizes)


def _count(digits: str | None) -> int:
    return min(int(digits[:9]), _MOST_REPETITIONS + 1) if digits else 0
