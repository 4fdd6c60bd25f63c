"""Whether two JSON documents are equal, and where they first differ."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from batchkit.datasets.values import as_json

_TOLERANCE: Final = 1e-9
#: Lists without order are matched item by item up to this length; longer ones are sorted first.
_MOST_MATCHED: Final = 500

Pattern = tuple[str, ...]


def is_same_number(one: float | Decimal, other: float | Decimal) -> bool:
    """Whether two finite numbers are equal: integers exactly, because they may be names; other numbers within 1e-9."""
    if one == other:
        return True
    if isinstance(one, int) and isinstance(other, int):
        return False
    try:
        return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    except OverflowError:
        return False


def first_difference(
    one: Any, other: Any, *, ignored: tuple[Pattern, ...] = (), unordered: bool = False, subset: bool = False
) -> str | None:
    """Return the dotted path at which two documents first differ, empty for the documents themselves; None if they are equal.

    With ``subset`` the objects of the first may have more keys.
    """
    return _Comparison(ignored, unordered=unordered, subset=subset).difference(one, other, ())


class _Comparison:
    def __init__(self, ignored: tuple[Pattern, ...], *, unordered: bool, subset: bool) -> None:
        self._ignored = ignored
        self._unordered = unordered
        self._subset = subset

    def difference(self, one: Any, other: Any, path: Pattern) -> str | None:
        """Return the path of the first difference below a path."""
        if self._is_ignored(path):
            return None
        one, other = _plain(one), _plain(other)
        if isinstance(one, dict) and isinstance(other, dict):
            return self._of_objects(one, other, path)
        if isinstance(one, list) and isinstance(other, list):
            return self._of_lists(one, other, path)
        if _is_number(one) and _is_number(other):
            return None if is_same_number(one, other) else ".".join(path)
        return None if type(one) is type(other) and one == other else ".".join(path)

    def _of_objects(self, one: dict[Any, Any], other: dict[Any, Any], path: Pattern) -> str | None:
        for name in other if self._subset else dict.fromkeys((*other, *one)):
            place = (*path, str(name))
            if name not in one or name not in other:
                if not self._is_ignored(place):
                    return ".".join(place)
                continue
            difference = self.difference(one[name], other[name], place)
            if difference is not None:
                return difference
        return None

    def _of_lists(self, one: list[Any], other: list[Any], path: Pattern) -> str | None:
        if self._unordered and self._is_permutation(one, other, path):
            return None
        for number, (first, second) in enumerate(zip(one, other, strict=False)):
            difference = self.difference(first, second, (*path, str(number)))
            if difference is not None:
                return difference
        return ".".join((*path, str(min(len(one), len(other))))) if len(one) != len(other) else None

    def _is_permutation(self, one: list[Any], other: list[Any], path: Pattern) -> bool:
        if len(one) != len(other):
            return False
        if len(one) > _MOST_MATCHED:
            pairs = zip(sorted(one, key=_order), sorted(other, key=_order), strict=True)
            return all(self.difference(first, second, (*path, "*")) is None for first, second in pairs)
        left = list(other)
        for item in one:
            place = next((n for n, free in enumerate(left) if self.difference(item, free, (*path, "*")) is None), None)
            if place is None:
                return False
            left.pop(place)
        return True

    def _is_ignored(self, path: Pattern) -> bool:
        return any(
            len(pattern) == len(path)
            and all("*" in {wanted, part} or wanted == part for wanted, part in zip(pattern, path, strict=True))
            for pattern in self._ignored
        )


def _plain(value: Any) -> Any:
    """Return a value of a table as JSON has it; numbers keep their digits."""
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, (bytes, dt.date, dt.time, dt.timedelta, UUID)):
        return as_json(value)
    if isinstance(value, (float, Decimal)) and not math.isfinite(value):
        return None
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def _order(value: Any) -> tuple[int, Any]:
    """Return what documents are sorted by: numbers as numbers, all others as text."""
    return (0, value) if _is_number(value) else (1, repr(value))
