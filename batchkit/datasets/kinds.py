"""The Arrow type of a column of JSON values, learned from all of them."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

_SMALLEST: Final = -(2**63)
_LARGEST: Final = 2**63 - 1
_EXACT: Final = 2**53  # the integers that a double holds without loss
#: An object with more names is treated as a dictionary of data, not as a record.
_MOST_FIELDS: Final = 256

_SCALARS: Final = {
    frozenset(): pa.string(),
    frozenset({str}): pa.string(),
    frozenset({bool}): pa.bool_(),
    frozenset({int}): pa.int64(),
    frozenset({float}): pa.float64(),
    frozenset({int, float}): pa.float64(),
}


class _Huge:
    """Marks an integer beyond 64 bits."""


class Kind:
    """The kinds of values that were seen in one place."""

    __slots__ = ("_fields", "_item", "_scalars")

    def __init__(self) -> None:
        self._scalars: set[type] = set()
        self._fields: dict[str, Kind] | None = None
        self._item: Kind | None = None

    def see(self, value: Any) -> None:
        """Include one more value; null fits every kind."""
        if value is None:
            return
        kind = type(value)
        if kind is dict:
            self._see_object(value)
        elif kind is list:
            if self._item is None:
                self._item = Kind()
            for item in value:
                self._item.see(item)
        else:
            self._scalars.add(kind)
            if kind is int and not -_EXACT <= value <= _EXACT:
                # Such an integer fits among integers, but not among decimals; beyond 64 bits it fits nowhere.
                self._scalars.add(_Wide if _SMALLEST <= value <= _LARGEST else _Huge)

    def _see_object(self, value: dict[str, Any]) -> None:
        if self._fields is None:
            self._fields = {}
        for name, member in value.items():
            field = self._fields.get(name)
            if field is None:
                if len(self._fields) > _MOST_FIELDS:
                    return
                field = self._fields[name] = Kind()
            field.see(member)

    def arrow(self) -> pa.DataType | None:
        """Return the type that holds every value that was seen; None if only JSON does."""
        several = (self._fields is not None) + (self._item is not None) + bool(self._scalars)
        if several > 1:
            return None
        if self._fields is not None:
            return self._struct(self._fields)
        if self._item is not None:
            item = self._item.arrow()
            return None if item is None else pa.list_(item)
        scalars = self._scalars
        if float not in scalars:
            scalars = scalars - {_Wide}
        return _SCALARS.get(frozenset(scalars))

    @staticmethod
    def _struct(fields: dict[str, Kind]) -> pa.DataType | None:
        types = {name: field.arrow() for name, field in fields.items()}
        if not types or len(types) > _MOST_FIELDS or None in types.values():
            return None
        return pa.struct(list(types.items()))


class _Wide:
    """Marks an integer that a double cannot hold without loss."""
