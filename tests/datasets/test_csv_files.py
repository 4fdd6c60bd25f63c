"""CSV as a table: what a column is taken for, what is refused, and where."""

from __future__ import annotations

import csv
import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchkit.datasets import TableWriter, open_table, rows_of
from batchkit.datasets.values import text_of
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
        (["1", "2.5", "", "1e-05"], "double", [1, 2.5, None, 1e-05]),
        (["1.0", "2.5", "", "1e-05"], "double", [1.0, 2.5, None, 1e-05]),
        (["1.10", "1.1"], "string", ["1.10", "1.1"]),
        (["1", "2.0"], "string", ["1", "2.0"]),
        (["1e+05", "2.5"], "string", ["1e+05", "2.5"]),
        (["0.1", "9007199254740993"], "string", ["0.1", "9007199254740993"]),
        (["true", "false", ""], "bool", [True, False, None]),
        (["007", "12"], "string", ["007", "12"]),
        (["+49", "12"], "string", ["+49", "12"]),
        (["1", "n/a"], "string", ["1", "n/a"]),
        (["12345678901234567890"], "string", ["12345678901234567890"]),
        (["0.12345678901234567"], "string", ["0.12345678901234567"]),
        (["NaN", "1.5"], "string", ["NaN", "1.5"]),
        (["1e5", "2"], "string", ["1e5", "2"]),
        (["-0", "1"], "string", ["-0", "1"]),
        (["-0.0", "1.0"], "double", [-0.0, 1.0]),
        (["true", "1"], "string", ["true", "1"]),
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


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.csv", "\ufeffid;text\n1;one, two\n", [{"id": 1, "text": "one, two"}]),
        ("b.csv", '"Paid, net";text\n"4,5";so, so\n', [{"Paid, net": "4,5", "text": "so, so"}]),
        ("c.tsv", "unit, price\ttext\n1\tone, two\n", [{"unit, price": 1, "text": "one, two"}]),
        ("d.tsv", "a,b;c\n1\n", [{"a,b;c": 1}]),
        ("e.csv", "sep=;\r\nid;a,b,c\r\n1;x\r\n", [{"id": 1, "a,b,c": "x"}]),
        ("f.csv", '\ufeff"sep=|"\nid|text\n1|x\n', [{"id": 1, "text": "x"}]),
        ("g.csv", "sep=\t\nid\ttext\n1\tx\n", [{"id": 1, "text": "x"}]),
        ("h.csv", ",text\n0,x\n", [{"column_1": 0, "text": "x"}]),
        ("i.csv", '"a;b;""c""",d\n1,2\n', [{'a;b;"c"': 1, "d": 2}]),
        ("j.csv", "one column\nx\n", [{"one column": "x"}]),
    ],
)
def test_separators_of_other_programs_are_seen(tmp_path, name, text, rows):
    """The sign that stands most often outside of quotes, the one that Excel names, or a tab in .tsv; a byte order mark is no name."""
    assert read(write(tmp_path / name, text))[1] == rows


def test_separator_can_be_named(tmp_path):
    """It beats what the file looks like, is part of the digest, and only CSV has one."""
    path = write(tmp_path / "a.csv", "sep=;\n" + "id|a;b;c\n1|x\n")
    table = open_table([str(path)], separator="|")
    assert open_table([str(write(tmp_path / "b.csv", "a,b,c\tx\n1\t2\n"))], separator="\\t").columns == ("a,b,c", "x")
    assert [row for batch in table.batches() for row in rows_of(batch)] == [{"id": 1, "a;b;c": "x"}]
    assert table.digest() != open_table([str(path)]).digest()
    for separator in ("", "||", '"', "\n"):
        with pytest.raises(UsageError, match="cannot separate"):
            open_table([str(path)], separator=separator)
    with pytest.raises(UsageError, match="only CSV"):
        open_table([str(write(tmp_path / "a.jsonl", "{}"))], separator=";")


@pytest.mark.parametrize(("text", "words"), [("a,b\n1\n", "commas"), ("sep=|\na|b\n1\n", "bars")])
def test_error_says_which_separator_was_taken(tmp_path, text, words):
    """Whoever has another one knows then what to do."""
    path = write(tmp_path / "a.csv", text)
    with pytest.raises(InputUnreadable) as caught:
        read(path)
    assert f"separated by {words}" in caught.value.message
    assert "--separator" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("cells", "texts"),
    [(["1", "2.5"], ["1", "2.5"]), (["1.0", "2.5"], ["1.0", "2.5"]), (["true", "false"], ["true", "false"])],
)
def test_cell_is_shown_and_written_as_it_stands(tmp_path, cells, texts):
    """A typed column says in a prompt, in CSV and in JSON what the cell said."""
    path = write(tmp_path / "t.csv", "x\n" + "\n".join(cells) + "\n")
    table = open_table([str(path)])
    assert [text_of(row["x"]) for batch in table.batches() for row in rows_of(batch)] == texts
    for name in ("u.csv", "u.jsonl"):
        with TableWriter(tmp_path / name, table.schema) as writer:
            for batch in table.batches():
                writer.write(batch)
    assert (tmp_path / "u.csv").read_text().split() == ["x", *texts]
    assert (tmp_path / "u.jsonl").read_text().split() == [f'{{"x":{text}}}' for text in texts]


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
