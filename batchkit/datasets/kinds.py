"""The Arrow type of a column of JSON values, learned from all of them."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from batchkit.datasets.rows import decimals_field, json_field

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
}


class _Huge:
    """Marks an integer beyond 64 bits."""


class _Wide:
    """Marks an integer that a double cannot hold without loss."""


class _Whole:
    """Marks a float without a fraction, which among integers could not be told from them."""


class Kind:
    """The kinds of values that were seen in one place."""

    __slots__ = ("_fields", "_is_uniform", "_item", "_names", "_scalars", "has_null")

    def __init__(self) -> None:
        self.has_null = False
        self._scalars: set[type] = set()
        self._names: tuple[str, ...] = ()
        self._fields: dict[str, Kind] | None = None
        self._is_uniform = True
        self._item: Kind | None = None

    def see(self, value: Any) -> None:
        """Include one more value; null fits every kind."""
        if value is None:
            self.has_null = True
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
                self._scalars.add(_Wide if _SMALLEST <= value <= _LARGEST else _Huge)
            elif kind is float and _Whole not in self._scalars and value.is_integer():
                self._scalars.add(_Whole)

    def _see_object(self, value: dict[str, Any]) -> None:
        if self._fields is None:
            self._is_uniform = len(value) <= _MOST_FIELDS
            self._fields = {name: Kind() for name in value} if self._is_uniform else {}
            self._names = tuple(self._fields)
        # A member that only some objects have is neither null in the others, nor does it change their order.
        if not self._is_uniform or tuple(value) != self._names:
            self._is_uniform = False
            return
        for name, member in value.items():
            self._fields[name].see(member)

    def field(self, name: str) -> pa.Field:
        """Return the column that holds every value that was seen; of JSON if no type does."""
        if self._fields is None and self._item is None and self._plain_scalars() == {int, float}:
            return decimals_field(name, are_whole_without_fraction=True)
        found = self._arrow()
        return json_field(name) if found is None else pa.field(name, found)

    def _arrow(self) -> pa.DataType | None:
        several = (self._fields is not None) + (self._item is not None) + bool(self._scalars)
        if several > 1:
            return None
        if self._fields is not None:
            return self._struct(self._fields)
        if self._item is not None:
            item = self._item._arrow()  # noqa: SLF001 - of the same class
            return None if item is None else pa.list_(item)
        return _SCALARS.get(frozenset(self._plain_scalars()))

    def _plain_scalars(self) -> set[type]:
        """Return the scalars without the marks that matter only in company."""
        scalars = self._scalars
        if float not in scalars:
            scalars = scalars - {_Wide}
        return scalars if int in scalars else scalars - {_Whole}

    def _struct(self, fields: dict[str, Kind]) -> pa.DataType | None:
        types = {name: field._arrow() for name, field in fields.items()}  # noqa: SLF001 - of the same class
        if not self._is_uniform or not types or None in types.values():
            return None
        return pa.struct(list(types.items()))
