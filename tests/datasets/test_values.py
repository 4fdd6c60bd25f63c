"""How values read as text and as JSON: one way, wherever they are shown or compared."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from uuid import UUID

import pyarrow as pa
import pytest

from batchkit.datasets.rows import rows_of
from batchkit.datasets.values import FractionalFloat, Row, json_text, text_of

DAY = dt.datetime(2026, 1, 2, 3, 4, 5, 600, dt.timezone(dt.timedelta(hours=2)))


@pytest.mark.parametrize(
    ("value", "text", "json"),
    [
        ("a\x00", "a\x00", '"a\\u0000"'),
        (None, "", "null"),
        (True, "true", "true"),
        (10**30, str(10**30), str(10**30)),
        (2.0, "2", "2.0"),
        (-0.5, "-0.5", "-0.5"),
        (1e16, "1e+16", "1e+16"),
        (-0.0, "-0", "-0.0"),
        (FractionalFloat(2.0), "2.0", "2.0"),
        (float("nan"), "", "null"),
        (float("inf"), "inf", "null"),
        (Decimal("2.50"), "2.50", '"2.50"'),
        (Decimal("1E+3"), "1000", '"1000"'),
        (Decimal("0E-8"), "0.00000000", '"0.00000000"'),
        (Decimal("NaN"), "", "null"),
        (DAY, "2026-01-02T03:04:05.000600+02:00", '"2026-01-02T03:04:05.000600+02:00"'),
        (DAY.date(), "2026-01-02", '"2026-01-02"'),
        (dt.time(3, 4), "03:04:00", '"03:04:00"'),
        (dt.timedelta(seconds=5), "5", "5.0"),
        (dt.timedelta(microseconds=-1_500_000), "-1.5", "-1.5"),
        (b"\x00\xff", "AP8=", '"AP8="'),
        (UUID(int=1), str(UUID(int=1)), f'"{UUID(int=1)}"'),
        ([1, None, Decimal("1.0")], '[1,null,"1.0"]', '[1,null,"1.0"]'),
        ({"a": b"x", "b": [dt.timedelta(1)]}, '{"a":"eA==","b":[86400.0]}', '{"a":"eA==","b":[86400.0]}'),
    ],
)
def test_value_has_one_text(value, text, json):
    """Numbers with their digits, times in ISO 8601 without quotes, durations as seconds, bytes as base64, NaN as nothing."""
    assert text_of(value) == text
    assert json_text(value) == json


def test_row_is_shown_without_what_it_does_not_have():
    """A null that it has is shown."""
    row = Row({"a": None, "b": None, "c": Decimal(1)}, absent=["a"])
    assert json_text(row) == text_of(row) == '{"b":null,"c":"1"}'


@pytest.mark.parametrize(
    ("kind", "stored", "text"),
    [
        (pa.timestamp("ns"), 1_577_880_000_123_456_789, "2020-01-01T12:00:00.123456789"),
        (pa.timestamp("ns"), 1_577_880_000_000_001_000, "2020-01-01T12:00:00.000001"),
        (pa.timestamp("ns", "Europe/Berlin"), 1_577_880_000_000_000_001, "2020-01-01T13:00:00.000000001+01:00"),
        (pa.timestamp("s"), 10**12, "+33658-09-27T01:46:40"),
        (pa.timestamp("ms", "UTC"), -(10**14) - 1, "-1199-02-15T14:13:19.999Z"),
        (pa.timestamp("s"), 0, "1970-01-01T00:00:00"),
        (pa.time64("ns"), 1, "00:00:00.000000001"),
        (pa.time64("ns"), 1_000, "00:00:00.000001"),
        (pa.duration("ns"), 1_500, "0.0000015"),
        (pa.duration("s"), 10**15, "1000000000000000"),
        (pa.date32(), 10_000_000, "+29349-01-26"),
        (pa.date64(), -800_000 * 86_400_000, "-0221-09-04"),
    ],
)
@pytest.mark.parametrize("form", ["plain", "listed", "viewed", "nested"])
def test_time_beyond_pythons_is_exact(kind, stored, text, form):
    """Nanoseconds and far years are shown, beside times of Python's and inside of others."""
    bits = {32: pa.int32(), 64: pa.int64()}[kind.bit_width]
    column = pa.array([stored, None, stored], bits).view(kind)
    if form == "plain":
        column = column.slice(1)
    elif form == "listed":
        column = pa.ListArray.from_arrays(pa.array([0, 0, 3]), column).slice(1)
    elif form == "viewed":
        column = pa.ListViewArray.from_arrays(pa.array([2, 1], pa.int32()), pa.array([1, 2], pa.int32()), column)
    else:
        column = pa.StructArray.from_arrays([column, column.dictionary_encode()], ["x", "y"]).slice(1)
    values = [row["c"] for row in rows_of(pa.RecordBatch.from_pydict({"c": column}))]
    if form == "listed":
        (values,) = values
        values = values[1:]
    elif form == "viewed":
        assert values[0] == values[1][1:]
        values = values[1]
    elif form == "nested":
        assert all(value["x"] == value["y"] for value in values)
        values = [value["x"] for value in values]
    assert [text_of(value) for value in values] == ["", text]
