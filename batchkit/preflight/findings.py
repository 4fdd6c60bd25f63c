"""Collects the findings of one line, as sentences."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHOWN_CHARS: Final = 40
_SHOWN_NUMBER: Final = 10**15


class PreflightFindings:
    """The reasons and warnings of one line, each once, in the order they were found."""

    __slots__ = ("reasons", "warnings")

    def __init__(self) -> None:
        self.reasons: dict[str, None] = {}
        self.warnings: dict[str, None] = {}

    def refuse(self, reason: str) -> None:
        """Add a sentence that says what is wrong and what to do."""
        self.reasons[reason] = None

    def warn(self, warning: str) -> None:
        """Add a text without any value of the line, so that equal warnings of many lines can be counted."""
        self.warnings[warning] = None


class Repeated:
    """Collects problems of list items by kind, so that a list of thousands makes a few sentences."""

    __slots__ = ("_count", "_first")

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._count: Counter[str] = Counter()

    def add(self, where: str, problem: str) -> None:
        """Add the problem of the item at ``where``."""
        self._first.setdefault(problem, where)
        self._count[problem] += 1

    def report(self, findings: PreflightFindings, most: int = 8) -> None:
        """Refuse once per problem, naming the first place and the number of others; at most ``most`` kinds."""
        for problem, where in list(self._first.items())[:most]:
            others = self._count[problem] - 1
            findings.refuse(f"{where}{f' (and {others:,} more)' if others else ''} {problem}")
        left = len(self._first) - most
        if left > 0:
            findings.refuse(f"{left:,} more kinds of problems in lists of this line are not shown; correct these first")


def describe(value: Any) -> str:
    """Return a short description of a JSON value; long and nested values are not written out."""
    if isinstance(value, str):
        # repr() escapes what cannot be printed or written as UTF-8, such as half of a surrogate pair.
        shown = (
            repr(value) if len(value) <= _SHOWN_CHARS else f"{value[:_SHOWN_CHARS]!r}... ({len(value):,} characters)"
        )
        return shown if value else "an empty string"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "an object" if value else "an empty object"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < _SHOWN_NUMBER):
        return repr(value)
    # Very long integers cannot even be converted to text (sys.set_int_max_str_digits).
    return "a very large number" if isinstance(value, int) else f"of type {type(value).__name__}"


def is_integer(value: Any) -> bool:
    """Whether a JSON value is an integer; true and false are not, although Python counts them as integers."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def one_of(choices: Iterable[str]) -> str:
    """Return a choice as text: ``a, b or c``."""
    *head, last = choices
    return f"{', '.join(head)} or {last}" if head else last


def check_range(
    body: dict[str, Any], name: str, bounds: tuple[float, float], page: str, findings: PreflightFindings
) -> None:
    """Refuse ``body[name]`` unless it is absent, null, or a number within ``bounds``, both of them allowed."""
    value = body.get(name)
    low, high = bounds
    # NaN is outside every range: each comparison with it is false.
    if value is not None and not (is_number(value) and low <= value <= high):
        findings.refuse(
            f"body.{name} is {describe(value)}; give a number from {low:g} to {high:g} or leave it out ({page})",
        )
