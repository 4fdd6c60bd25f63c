"""Tables out: what each format keeps, that a file is whole or absent, and that no cell is run."""

from __future__ import annotations

import csv
import datetime as dt
import stat
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from batchkit.datasets import Snapshot, TableWriter, check_target, open_table, rows_of
from batchkit.errors import InputUnreadable, SpoolError, UsageError
from tests.workloads import read_lines

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("text", pa.string()),
        ("score", pa.float64()),
        ("yes", pa.bool_()),
        ("tags", pa.list_(pa.string())),
        ("meta", pa.struct([("n", pa.int64()), ("of", pa.list_(pa.float64()))])),
    ]
)
ROWS: list[dict[str, Any]] = [
    {
        "id": 1,
        "text": 'é "q", \r\n\u2028',
        "score": 0.1,
        "yes": True,
        "tags": ["a", "é"],
        "meta": {"n": 1, "of": [1.5]},
    },
    {"id": -2, "text": "", "score": -0.5, "yes": False, "tags": [], "meta": {"n": None, "of": None}},
    {"id": None, "text": None, "score": None, "yes": None, "tags": None, "meta": None},
]
#: What each format gives back of a row of nulls and of nested values, where that is something else.
TYPED = ["t.parquet", "t.arrow", "t.feather", "t.arrows", "t.jsonl", "t.jsonl.gz", "t.ndjson.zst"]


def write(path, rows, schema=SCHEMA, **options):
    """Write rows in two batches."""
    with TableWriter(path, schema, **options) as writer:
        for part in (rows[:1], rows[1:]):
            writer.write(pa.RecordBatch.from_pylist(part, schema=schema))
    return path


def read(path):
    """Read a table's rows."""
    return [row for batch in open_table([str(path)]).batches() for row in rows_of(batch)]


def cells(path):
    """Read the cells of a CSV file."""
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.reader(handle))


@pytest.mark.parametrize("name", TYPED)
def test_what_is_written_is_read_again(tmp_path, name):
    """Types, nulls, nested values, quotes and line ends survive the way out and in."""
    path = write(tmp_path / name, ROWS)
    assert read(path) == ROWS
    assert [field.type for field in open_table([str(path)]).schema] == [field.type for field in SCHEMA]


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.csv.zst"])
def test_csv_keeps_what_cells_can_hold(tmp_path, name):
    """Scalars come back typed, nested values as their JSON; null is an empty cell, which in a column of text is an empty text."""
    path = write(tmp_path / name, ROWS)
    first, second, third = read(path)
    assert first == {**ROWS[0], "tags": '["a","é"]', "meta": '{"n":1,"of":[1.5]}'}
    assert second == {**ROWS[1], "tags": "[]", "meta": '{"n":null,"of":null}'}
    assert third == {**ROWS[2], "text": "", "tags": "", "meta": ""}


def test_no_cell_is_a_formula_unless_asked(tmp_path):
    """Texts and names of columns that a spreadsheet would run are kept from it; numbers are left alone."""
    schema = pa.schema([("=name()", pa.string()), ("n", pa.int64()), ("json", pa.list_(pa.string()))])
    rows = [{"=name()": text, "n": -1, "json": ["=1+1"]} for text in ("=1+1", "@x", "-5", "'=y", "plain")]
    assert cells(write(tmp_path / "t.csv", rows, schema)) == [
        ["'=name()", "n", "json"],
        ["'=1+1", "-1", '["=1+1"]'],
        ["'@x", "-1", '["=1+1"]'],
        ["-5", "-1", '["=1+1"]'],
        ["''=y", "-1", '["=1+1"]'],
        ["plain", "-1", '["=1+1"]'],
    ]
    assert [row[0] for row in cells(write(tmp_path / "raw.csv", rows, schema, raw_csv=True))] == [
        "=name()",
        *(row["=name()"] for row in rows),
    ]


def test_types_that_json_has_no_word_for_are_text(tmp_path):
    """Bytes are base64, decimals keep their digits, times are ISO 8601, durations seconds."""
    day = dt.datetime(2024, 5, 1, 12, 30, tzinfo=dt.UTC)
    row = {
        "raw": b"\x00\xff",
        "price": Decimal("1.50"),
        "at": day,
        "day": day.date(),
        "clock": dt.time(12, 30),
        "took": dt.timedelta(seconds=90),
        "in": [{"raw": b"\x00"}],
    }
    batch = pa.RecordBatch.from_pylist([row])
    for name in ("t.jsonl", "t.csv"):
        with TableWriter(tmp_path / name, batch.schema) as writer:
            writer.write(batch)
    assert read_lines(tmp_path / "t.jsonl") == [
        {
            "raw": "AP8=",
            "price": "1.50",
            "at": "2024-05-01T12:30:00+00:00",
            "day": "2024-05-01",
            "clock": "12:30:00",
            "took": 90.0,
            "in": [{"raw": "AA=="}],
        }
    ]
    assert cells(tmp_path / "t.csv")[1] == [
        "AP8=",
        "1.50",
        "2024-05-01T12:30:00+00:00",
        "2024-05-01",
        "12:30:00",
        "90",
        '[{"raw":"AA=="}]',
    ]


@pytest.mark.parametrize("name", ["t.parquet", "t.csv.gz", "t.jsonl"])
def test_file_appears_whole_or_not_at_all(tmp_path, name):
    """Whoever fails in the middle leaves the old file as it was, and no piece of a new one."""
    path = write(tmp_path / name, ROWS)
    before = path.read_bytes()

    def break_off():
        with TableWriter(path, SCHEMA) as writer:
            writer.write(pa.RecordBatch.from_pylist(ROWS, schema=SCHEMA))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert [found.name for found in tmp_path.iterdir()] == [name]
    assert path.read_bytes() == before


def test_empty_table_is_a_table(tmp_path):
    """Without rows a file has its columns, where its format has a place for them."""
    for name in ("t.parquet", "t.arrow", "t.csv", "t.jsonl"):
        with TableWriter(tmp_path / name, SCHEMA):
            pass
    assert open_table([str(tmp_path / "t.parquet")]).columns == tuple(SCHEMA.names)
    assert open_table([str(tmp_path / "t.arrow")]).columns == tuple(SCHEMA.names)
    assert cells(tmp_path / "t.csv") == [SCHEMA.names]
    assert (tmp_path / "t.jsonl").read_bytes() == b""


def test_rights_are_the_users_and_a_snapshot_is_private(tmp_path):
    """A file that is replaced keeps its rights; a snapshot may be read by its owner only, its folder too."""
    path = write(tmp_path / "t.csv", ROWS)
    path.chmod(0o640)
    assert stat.S_IMODE(write(path, ROWS).stat().st_mode) == 0o640
    snapshot = tmp_path / "tables" / "work.parquet"
    with Snapshot.writer(snapshot, SCHEMA) as writer:
        writer.write(pa.RecordBatch.from_pylist(ROWS, schema=SCHEMA))
    assert stat.S_IMODE(snapshot.stat().st_mode) == 0o600
    assert stat.S_IMODE(snapshot.parent.stat().st_mode) == 0o700
    assert [row for batch in Snapshot.open(snapshot).batches() for row in rows_of(batch)] == ROWS
    with pytest.raises(InputUnreadable):
        Snapshot.open(tmp_path / "none.parquet").schema  # noqa: B018 - looking is what fails


def test_groups_of_a_parquet_file_are_of_a_size(tmp_path):
    """Small batches are gathered, so that a reader meets few groups."""
    schema = pa.schema([("id", pa.int64())])
    with TableWriter(tmp_path / "t.parquet", schema) as writer:
        for start in range(0, 120_000, 1_000):
            writer.write(pa.RecordBatch.from_arrays([pa.array(range(start, start + 1_000))], schema=schema))
    file = pq.ParquetFile(tmp_path / "t.parquet")
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [50_000, 50_000, 20_000]
    assert file.read()["id"].to_pylist() == list(range(120_000))


@pytest.mark.parametrize(
    "target", ["t.txt", "t", "t.parquet.gz", "table:1st", "table:a-b", "table:", f"table:{'x' * 49}"]
)
def test_targets_that_are_not_written_are_refused(target):
    """Before anything is sent, with the endings and names that there are."""
    with pytest.raises(UsageError) as caught:
        check_target(target)
    assert caught.value.hint


@pytest.mark.parametrize("target", ["t.csv", "t.JSONL.gz", "t.parquet", "t.feather", "table:labels_2", "C:table.csv"])
def test_targets_that_are_written_are_taken(target):
    """Endings in any case, and tables of the results database."""
    check_target(target)


def test_folder_that_cannot_be_written_is_told(tmp_path):
    """A file where a folder should be: an error of the disk with the target's name."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(SpoolError, match=r"t\.csv"):
        write(tmp_path / "file" / "t.csv", ROWS)


def test_marks_that_another_program_kept_do_no_harm(tmp_path):
    """Text that is no JSON any more is text; a mark of text or numbers on other types means nothing; broken UTF-8 is told."""
    marks = {"batchkit.json": "1", "batchkit.numbers": "whole", "batchkit.absent": "1"}
    columns = {"a": pa.array(["{", "null", None]), "b": pa.array([1, 2, None]), "c": pa.array([b"\xff", b"", None])}
    schema = pa.schema([pa.field(name, column.type, metadata=marks) for name, column in columns.items()])
    batch = pa.RecordBatch.from_pydict(columns, schema=schema)
    assert rows_of(batch)[0] == {"a": "{", "b": 1, "c": b"\xff"}
    for name in ("t.jsonl", "t.csv"):
        with TableWriter(tmp_path / name, schema, raw_csv=True) as writer:
            writer.write(batch)
    assert read_lines(tmp_path / "t.jsonl") == [{"a": "{", "b": 1, "c": "/w=="}, {"a": None, "b": 2, "c": ""}, {}]
    assert cells(tmp_path / "t.csv")[1:] == [["{", "1", "/w=="], ["", "2", ""], ["", "", ""]]
    broken = pa.RecordBatch.from_arrays([pa.array([b"\xff"]).view(pa.string())], ["text"])
    with pytest.raises(UsageError, match="'text' has text that is not UTF-8"):
        rows_of(broken)


def test_value_that_a_format_cannot_hold_is_told(tmp_path):
    """Seconds beyond what Parquet's milliseconds reach: another format takes them, and no half of a file is left."""
    batch = pa.RecordBatch.from_pydict({"at": pa.array([10**16], pa.timestamp("s"))})

    def write_to(name):
        with TableWriter(tmp_path / name, batch.schema) as writer:
            writer.write(batch)

    with pytest.raises(UsageError, match=r"out\.parquet cannot be written: .*overflow") as caught:
        write_to("out.parquet")
    assert ".arrow" in (caught.value.hint or "")
    assert not list(tmp_path.iterdir())
    write_to("out.arrow")
    write_to("out.jsonl")
    assert read_lines(tmp_path / "out.jsonl")[0]["at"].startswith("+3168")


def test_arrow_file_takes_the_values_of_changing_dictionaries(tmp_path):
    """Each batch of a source may have another dictionary; inside of others it becomes its values."""
    schema = pa.schema(
        [("x", pa.dictionary(pa.int8(), pa.string())), ("in", pa.list_(pa.dictionary(pa.int8(), pa.string())))]
    )
    batches = [
        pa.RecordBatch.from_pylist([{"x": one, "in": [one, other]}], schema=schema) for one, other in ("ab", "ca", "db")
    ]
    for name in ("t.arrow", "t.arrows", "t.parquet"):
        with TableWriter(tmp_path / name, schema) as writer:
            for batch in batches:
                writer.write(batch)
        table = open_table([str(tmp_path / name)])
        assert table.schema.field("x").type == schema.field("x").type
        assert [row for batch in table.batches() for row in rows_of(batch)] == [
            {"x": one, "in": [one, other]} for one, other in ("ab", "ca", "db")
        ]
