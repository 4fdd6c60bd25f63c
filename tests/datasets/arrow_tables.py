"""Tables of any Arrow type, for properties."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import strategies as st

_INTEGERS = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
_ZONES = st.sampled_from([None, "UTC", "Europe/Berlin", "+05:30"])


def _nulled(draw: Any, array: pa.Array) -> pa.Array:
    """Replace some values by nulls."""
    keep = draw(st.lists(st.booleans(), min_size=len(array), max_size=len(array)))
    return pc.if_else(pa.array(keep, pa.bool_()), array, pa.scalar(None, array.type))


def _listed(draw: Any, values: st.SearchStrategy[Any], kind: pa.DataType, length: int) -> pa.Array:
    return pa.array(draw(st.lists(st.none() | values, min_size=length, max_size=length)), kind)


@st.composite
def _numbers(draw: Any, length: int) -> pa.Array:
    kind = draw(
        st.sampled_from([pa.bool_(), pa.int8(), pa.uint64(), pa.int64(), pa.float16(), pa.float32(), pa.float64()])
    )
    if pa.types.is_boolean(kind):
        return _listed(draw, st.booleans(), kind, length)
    if pa.types.is_floating(kind):
        return _listed(draw, st.floats(width=kind.bit_width), kind, length)
    low, high = (0, 2**64 - 1) if kind == pa.uint64() else (-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1)
    return _listed(draw, st.integers(low, high), kind, length)


@st.composite
def _decimals(draw: Any, length: int) -> pa.Array:
    kind = draw(st.sampled_from([pa.decimal32(9, 2), pa.decimal64(18, 0), pa.decimal128(38, 10), pa.decimal256(70, 3)]))
    most = 10**kind.precision - 1
    return _listed(draw, st.integers(-most, most).map(lambda n: Decimal(f"{n}E-{kind.scale}")), kind, length)


@st.composite
def _times(draw: Any, length: int) -> pa.Array:
    """Draw by the integers that are stored: years beyond Python's, too."""
    unit = draw(st.sampled_from(["s", "ms", "us", "ns"]))
    kind = draw(
        st.sampled_from([pa.timestamp(unit, draw(_ZONES)), pa.duration(unit), pa.date32(), pa.date64()])
        | st.just(pa.time32(unit) if unit in {"s", "ms"} else pa.time64(unit))
    )
    bits = kind.bit_width
    values = st.integers(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1) | st.integers(-(10**6), 10**6)
    if kind.bit_width == 64 and unit == "s":
        # Parquet has milliseconds at most.
        values = st.integers(-(10**15), 10**15)
    if pa.types.is_time(kind):
        values = st.integers(0, 86_400 * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit] - 1)
    if kind == pa.date64():
        values = st.integers(-(10**8), 10**8).map(lambda day: day * 86_400_000)
    return _nulled(draw, _listed(draw, values, _INTEGERS[bits], length).fill_null(0).view(kind))


@st.composite
def _texts(draw: Any, length: int) -> pa.Array:
    kind = draw(st.sampled_from([pa.string(), pa.large_string(), pa.string_view(), pa.null(), pa.json_(pa.string())]))
    if pa.types.is_null(kind):
        return pa.nulls(length)
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, _listed(draw, st.just('{"a":1}'), pa.string(), length))
    return _listed(draw, _TEXTS, kind, length)


@st.composite
def _bytes(draw: Any, length: int) -> pa.Array:
    kind = draw(st.sampled_from([pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(2), pa.uuid()]))
    sizes = {pa.binary(2): (2, 2), pa.uuid(): (16, 16)}
    low, high = sizes.get(kind, (0, 4))
    return _listed(draw, st.binary(min_size=low, max_size=high), kind, length)


@st.composite
def _encoded(draw: Any, length: int) -> pa.Array:
    values = draw(_texts(length)) if draw(st.booleans()) else draw(_numbers(length))
    is_plain = not isinstance(values.type, pa.BaseExtensionType) and values.type not in {
        pa.null(),
        pa.string_view(),
        pa.float16(),
    }
    if is_plain and draw(st.booleans()):
        return values.dictionary_encode()
    if pa.types.is_integer(values.type):
        return pc.run_end_encode(values)
    return pa.array([(1, 2, 3)] * length, pa.month_day_nano_interval())


def arrays(length: int, depth: int = 2) -> st.SearchStrategy[pa.Array]:
    """Return arrays of any type, nested up to ``depth``."""
    leaves = st.one_of(
        *(made(length) for made in (_numbers, _decimals, _times, _texts, _bytes, _encoded)),
    )
    return leaves if depth == 0 else leaves | _nested(length, depth)


@st.composite
def _nested(draw: Any, length: int, depth: int) -> pa.Array:
    form = draw(st.sampled_from(["struct", "list", "fixed", "map", "view", "empty"]))
    mask = pa.array(draw(st.lists(st.booleans(), min_size=length, max_size=length)), pa.bool_())
    if form == "struct":
        parts = [draw(arrays(length, depth - 1)) for _ in range(draw(st.integers(1, 2)))]
        return pa.StructArray.from_arrays(parts, [f"m{n}" for n in range(len(parts))], mask=mask)
    if form == "empty":
        return pa.array([{}] * length, pa.struct([]))
    inner = draw(arrays(2 * length, depth - 1))
    if form == "fixed":
        return pa.FixedSizeListArray.from_arrays(inner, 2)
    if form == "map":
        keys = pa.array([str(n) for n in range(2 * length)])
        return pa.MapArray.from_arrays(pa.array(range(0, 2 * length + 1, 2), pa.int32()), keys, inner)
    if form == "view":
        return pa.ListViewArray.from_arrays(
            pa.array(range(length), pa.int32()), pa.array([1] * length, pa.int32()), inner
        )
    return pa.ListArray.from_arrays(pa.array(range(0, 2 * length + 1, 2), pa.int32()), inner)


@st.composite
def tables(draw: Any) -> pa.Table:
    """Draw a table with metadata of its schema and its fields, in one or several batches."""
    length = draw(st.integers(1, 4))
    columns = [draw(arrays(length)) for _ in range(draw(st.integers(1, 3)))]
    fields = [
        pa.field(f"c{n}", column.type, metadata=draw(st.none() | st.just({"said": "by whom"})))
        for n, column in enumerate(columns)
    ]
    schema = pa.schema(fields, draw(st.none() | st.just({"own": "words"})))
    return pa.Table.from_arrays(columns, schema=schema)
