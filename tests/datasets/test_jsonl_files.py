"""JSON Lines as a table: types learned from all lines, nothing dropped, nothing made null."""

from __future__ import annotations

import pytest

from batchkit.datasets import TableWriter, open_table, rows_of
from batchkit.datasets.values import json_text, text_of
from batchkit.errors import InputUnreadable
from batchkit.files import jsonl
from tests.workloads import read_lines, write_lines


def read(path, rows=10_000):
    """Read a file: its types by column, and its rows."""
    table = open_table([str(path)])
    types = {field.name: str(field.type) for field in table.schema}
    return types, [row for batch in table.batches(rows=rows) for row in rows_of(batch)]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2**62, None], "int64"),
        ([1, 2.5], "double"),
        ([True, None], "bool"),
        (["x", "", "\u2028"], "string"),
        ([["a"], []], "list<item: string>"),
        ([{"a": 1, "b": [0.5]}], "struct<a: int64, b: list<item: double>>"),
        ([None, None], "string"),
    ],
)
def test_column_of_one_kind_is_typed(tmp_path, values, kind):
    """Scalars, lists and objects have their types, and come back as they were."""
    path = write_lines(tmp_path / "t.jsonl", [{"x": value} for value in values])
    assert read(path) == ({"x": kind}, [{"x": value} for value in values])


@pytest.mark.parametrize(
    "values",
    [
        [1, "one"],
        [True, 1],
        [{"a": 1}, ["a"]],
        [{"a": 1}, {"a": "one"}],
        [[1, "one"]],
        [2**63, 1],
        [2**60 + 1, 0.5],
        [{}],
        [{f"key {n}": n} for n in range(400)],
        [{f"key {n}": n for n in range(400)}],
        [{"a": 1, "b": 2}, {"b": 2, "a": 1}],
        [{"a": 1}, {"a": 2.5}],
        [1, 2.0],
    ],
)
def test_column_of_several_kinds_is_json(tmp_path, values):
    """What no one type holds is kept as JSON: a row has the value again, and a copy of the file is equal."""
    path = write_lines(tmp_path / "t.jsonl", [{"x": value} for value in values])
    types, rows = read(path, rows=1)
    assert types == {"x": "string"}
    assert rows == [{"x": value} for value in values]
    assert [type(row["x"]) for row in rows] == list(map(type, values))
    for name in ("copy.jsonl", "copy.parquet"):
        table = open_table([str(path)])
        with TableWriter(tmp_path / name, table.schema) as writer:
            for batch in table.batches():
                writer.write(batch)
    assert read_lines(tmp_path / "copy.jsonl") == rows
    assert read(tmp_path / "copy.parquet")[1] == rows


def copied(path, name="copy.jsonl"):
    """Copy a table into JSON Lines, and read its lines."""
    table = open_table([str(path)])
    with TableWriter(path.with_name(name), table.schema) as writer:
        for batch in table.batches():
            writer.write(batch)
    return path.with_name(name).read_bytes()


def test_row_does_not_depend_on_the_others(tmp_path):
    """Columns and members that another row has are absent, not null; a null that is written is one; whole numbers stay whole."""
    lines = [
        b'{"id":1,"n":1,"meta":{"x":1,"y":[]},"more":null}',
        b'{"id":2,"n":2.5,"meta":{"y":"two"},"msgs":[{"role":"user","calls":[{"id":"c"}]}]}',
        b'{"id":3,"n":3,"meta":{},"msgs":null,"late":[{"a":1,"b":2},{"b":2,"a":1}]}',
        b'{"id":4,"more":"x","msgs":[{"role":"user"}],"deep":[[1],[2.5,{"c":1}]],"same":{"x":1.0,"y":null}}',
    ]
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\n".join([*lines, b""]))
    assert copied(path).splitlines() == lines
    rows = read(path)[1]
    assert [json_text(row).encode() for row in rows] == lines
    assert [row["late"] for row in rows] == [None, None, [{"a": 1, "b": 2}, {"b": 2, "a": 1}], None]
    assert [text_of(row["n"]) for row in rows] == ["1", "2.5", "3", ""]


def test_members_that_come_late_are_kept(tmp_path):
    """A column or a member of an object that first occurs behind thousands of lines is there, and absent before."""
    lines = [{"id": n, "meta": {"a": n}} for n in range(10_500)]
    path = write_lines(tmp_path / "t.jsonl", [*lines, {"meta": {"b": "late"}, "extra": 1.5}])
    types, rows = read(path)
    assert types == {"id": "int64", "meta": "string", "extra": "double"}
    assert rows[0] == {"id": 0, "meta": {"a": 0}, "extra": None}
    assert rows[-1] == {"id": None, "meta": {"b": "late"}, "extra": 1.5}
    assert read_lines(path) == [*lines, {"meta": {"b": "late"}, "extra": 1.5}]


def test_integers_of_any_size_are_exact(tmp_path):
    """Alone, inside of others and beside others; what no reader takes is told."""
    path = tmp_path / "t.jsonl"
    big = 10**40
    content = f'{{"x":{big + 1},"in":[{big}],"t":"1234567890123456789012"}}\n{{"x":{big + 2},"in":[1],"t":"-"}}\n'
    path.write_text(content)
    assert [(row["x"], row["in"]) for row in read(path)[1]] == [(big + 1, [big]), (big + 2, [1])]
    assert copied(path).decode() == content
    path.write_text('{"x":1}\n{"x":' + "9" * 5_000 + "}\n")
    with pytest.raises(InputUnreadable, match="line 2: not JSON"):
        read(path)


def test_head_reads_no_further(tmp_path):
    """The first rows have types of their own, whatever stands in the lines behind them."""
    path = write_lines(tmp_path / "t.jsonl", [{"x": 1}, {"x": 2}, {"x": "three"}, b"not JSON"])
    table = open_table([str(path)]).head(2)
    assert str(table.schema.field("x").type) == "int64"
    assert [row for batch in table.batches() for row in rows_of(batch)] == [{"x": 1}, {"x": 2}]


def test_lines_end_at_line_feeds_only(tmp_path):
    """U+2028 and U+0085 within a text are no line ends; blank lines, a carriage return and a byte order mark play no part."""
    path = tmp_path / "t.ndjson"
    path.write_bytes('\ufeff{"x": "a\u2028b\u0085c"}\r\n\n  \n{"x": "d"}'.encode())
    assert read(path)[1] == [{"x": "a\u2028b\u0085c"}, {"x": "d"}]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"x": 1}\n{"x": }\n', "line 2: not JSON"),
        (b'{"x": 1}\n\n[1]\n', "line 3: a list instead of an object"),
        (b'{"x": NaN}\n', "line 1: not JSON"),
        (b'{"x": "caf\xe9"}\n', "line 1: not JSON"),
        (b"\n\n", "has no row"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, content, words):
    """A line that is no object is refused by its number."""
    path = tmp_path / "t.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputUnreadable, match=words):
        read(path)


@pytest.mark.parametrize("content", ['[\n  {"x": 1}\n]\n', '[{"x": 1}]', '{\n  "x": 1\n}\n'])
def test_document_is_explained(tmp_path, content):
    """A list of objects, or one over many lines, is no JSON Lines, and there is a way to make it such."""
    path = tmp_path / "t.json"
    path.write_text(content)
    with pytest.raises(InputUnreadable) as caught:
        read(path)
    assert "jq -c" in (caught.value.hint or "")


def test_numbers_that_json_has_no_limit_for_are_kept(tmp_path):
    """An integer of 64 bits is exact among integers."""
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"x": 9223372036854775807}\n{"x": -9223372036854775808}\n')
    assert [row["x"] for row in read(path)[1]] == [2**63 - 1, -(2**63)]
    assert jsonl.loads(b"9223372036854775807") == 2**63 - 1
