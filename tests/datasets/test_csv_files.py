"""CSV as a table: what a column is taken for, what is refused, and where."""

from __future__ import annotations

import csv
import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchkit.datasets import open_table, rows_of
from batchkit.errors import InputUnreadable, UsageError


def read(*paths, rows=10_000):
    """Read files as one table: its types by column, and its rows."""
    table = open_table([str(path) for path in paths])
    types = {field.name: str(field.type) for field in table.schema}
    return types, [row for batch in table.batches(rows=rows) for row in rows_of(batch)]


def write(path, text):
    """Write a file to the letter."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1", "-20", ""], "int64", [1, -20, None]),
        (["1", "2.50", "", "1e-05"], "double", [1.0, 2.5, None, 1e-05]),
        (["true", "false", ""], "bool", [True, False, None]),
        (["007", "12"], "string", ["007", "12"]),
        (["+49", "12"], "string", ["+49", "12"]),
        (["1", "n/a"], "string", ["1", "n/a"]),
        (["12345678901234567890"], "string", ["12345678901234567890"]),
        (["0.12345678901234567"], "string", ["0.12345678901234567"]),
        (["NaN", "1.5"], "string", ["NaN", "1.5"]),
        (["1e5", "2"], "string", ["1e5", "2"]),
        (["-0", "1"], "double", [-0.0, 1.0]),
        (["True", "False"], "string", ["True", "False"]),
        (["2024-01-31", ""], "string", ["2024-01-31", ""]),
        (["", ""], "string", ["", ""]),
    ],
)
def test_column_is_of_numbers_only_when_nothing_is_lost(tmp_path, cells, kind, values):
    """A column gets a narrower type than text when every cell of it is plainly of that type, and comes back as it was."""
    path = write(tmp_path / "t.csv", "id,x\n" + "".join(f"r,{cell}\n" for cell in cells))
    types, rows = read(path)
    assert types == {"id": "string", "x": kind}
    assert [row["x"] for row in rows] == values


def test_late_cell_decides_the_type(tmp_path):
    """The first cell that is no number stands behind thousands of numbers: the column is text, and none of it is lost."""
    path = write(tmp_path / "t.csv", "x,y\n" + "".join(f"{n},a\n" for n in range(11_000)) + "last,a\n")
    types, rows = read(path)
    assert types["x"] == "string"
    assert [row["x"] for row in rows] == [*map(str, range(11_000)), "last"]


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)


@settings(max_examples=40)
@given(rows=st.lists(st.tuples(texts, texts), min_size=1), ending=st.sampled_from(["\n", "\r\n"]))
def test_any_text_comes_back(tmp_path_factory, rows, ending):
    """Quotes, separators, line ends and U+2028 within cells are the cells' own."""
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as handle:
        # The one with line feeds alone quotes every cell.
        dialect = csv.unix_dialect if ending == "\n" else csv.excel
        writer = csv.writer(handle, dialect)
        writer.writerow(["a", "b"])
        # A letter in front keeps all columns text.
        writer.writerows([f"x{first}", f"x{second}"] for first, second in rows)
    _, found = read(path, rows=2)
    assert [(row["a"], row["b"]) for row in found] == [(f"x{first}", f"x{second}") for first, second in rows]


def test_separators_and_names_of_other_programs(tmp_path):
    """Semicolons and tabs separate where the line of names has no comma, a byte order mark is none of the names."""
    text = "\ufeffid;text\n1;one, two\n"
    assert read(write(tmp_path / "a.csv", text))[1] == [{"id": 1, "text": "one, two"}]
    assert read(write(tmp_path / "b.tsv", "id\ttext\n1\tone, two\n"))[1] == [{"id": 1, "text": "one, two"}]
    assert read(write(tmp_path / "c.csv", ",text\n0,x\n"))[1] == [{"column_1": 0, "text": "x"}]


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ("a,b\n1,2\n3\n", 3, "1 cell where line 1 names 2 columns"),
        ("a,b\n1,2\n\n3,4,5\n", 4, "3 cells where"),
        ('a,b\n1,"x\ny"\n2\n', 4, "1 cell where"),
        ('a,b\n1,2\n3,"open\n4,5\n6,7\n', 5, "a quote is never closed"),
        ('a,b\n1,"x"y\n', 2, "expected after"),
        (b"a,b\n1,x\n2,caf\xe9\n3,y\n", 3, "not UTF-8"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, content, line, words):
    """A line with too few or too many cells, an open quote, another encoding: refused, and never filled up or cut."""
    path = write(tmp_path / "t.csv", content)
    with pytest.raises(InputUnreadable) as caught:
        read(path)
    assert caught.value.message.startswith(f"{path}: line {line}: ")
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n1,2\n", "line 1 is blank"),
        (b"a,b,a\n1,2,3\n", "'a' twice"),
        (b"\xff\xfea\x00,\x00b\x00", "UTF-16"),
        (b"PK\x03\x04rest of a spreadsheet", "zip archive or a spreadsheet"),
        # Without the time of packing: the bytes are in the test's name, which every test process must make alike.
        (gzip.compress(b"a,b\n" + b"1,2\n" * 5_000, mtime=0)[:-30], "cut short"),
    ],
)
def test_file_that_is_no_csv_is_refused(tmp_path, content, words):
    """Nothing in it, no names, names twice, another format, a compressed file without its end."""
    path = write(tmp_path / "t.csv", content)
    with pytest.raises(InputUnreadable, match=words):
        read(path)


def test_several_files_are_one_table(tmp_path):
    """Columns are matched by name, types are those that all files together have; what another file lacks is told."""
    first = write(tmp_path / "a.csv", "id,text\n1,one\n")
    second = write(tmp_path / "b.csv", "text,id\ntwo,x2\n")
    assert read(first, second) == (
        {"id": "string", "text": "string"},
        [{"id": "1", "text": "one"}, {"id": "x2", "text": "two"}],
    )
    third = write(tmp_path / "c.csv", "id,body\n3,three\n")
    with pytest.raises(UsageError, match=r"c\.csv lacks the column 'text' of .*a\.csv"):
        read(first, third)


def test_head_reads_no_further(tmp_path):
    """The first rows have types of their own, and a mistake behind them is not met."""
    path = write(tmp_path / "t.csv", "x\n1\n2\nthree\n4,5\n")
    table = open_table([str(path)]).head(2)
    assert [rows_of(batch) for batch in table.batches()] == [[{"x": 1}, {"x": 2}]]
    assert [len(batch) for batch in table.head(5).batches(rows=1)] == [1, 1]
    assert table.digest() != open_table([str(path)]).digest() != open_table([str(path)]).head(1).digest()


def test_long_cells_are_read(tmp_path):
    """A document of a million characters is one cell."""
    path = write(tmp_path / "t.csv", f'id,text\n1,"{"word " * 200_000}"\n')
    assert len(read(path)[1][0]["text"]) == 1_000_000
