"""Parquet, Arrow and saved data sets as a table: every type is kept, values are read in one form, files of one kind are one table."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pytest
from pyarrow import feather, ipc
from pyarrow import parquet as pq

from batchkit.datasets import open_table, rows_of
from batchkit.errors import InputUnreadable, UsageError
from batchkit.files import jsonl

ROWS = pa.table(
    {
        "id": pa.array([1, 2, None], pa.int32()),
        "text": pa.array(["é", "", None], pa.large_string()),
        "view": pa.array(["a", "b", None], pa.string_view()),
        "label": pa.array(["x", "y", "x"]).dictionary_encode(),
        "at": pa.array([dt.datetime(2024, 5, 1, 12, 30, tzinfo=dt.UTC)] * 3, pa.timestamp("ns", "UTC")),
        "price": pa.array([Decimal("1.50"), None, Decimal("-2.00")]),
        "tags": pa.array([["a"], [], None], pa.large_list(pa.large_string())),
        "meta": pa.array([{"n": 1, "of": [1.5]}, None, {"n": None, "of": []}]),
        "pairs": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
        "blob": pa.array([b"\x00\xff", b"", None]),
        "none": pa.nulls(3),
    }
)


def write_parquet(path, table):
    """Write Parquet as other programs do."""
    pq.write_table(table, path)


def write_feather(path, table):
    """Write Feather as other programs do."""
    feather.write_feather(table, str(path))


def write_stream(path, table):
    """Write an Arrow stream."""
    with pa.OSFile(str(path), "wb") as file, ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


WRITERS = {"t.parquet": write_parquet, "t.feather": write_feather, "t.arrow": write_stream}


def read(*paths, rows=10_000):
    """Read files as one table: its types by column, and its rows."""
    table = open_table([str(path) for path in paths])
    types = {field.name: str(field.type) for field in table.schema}
    return types, [row for batch in table.batches(rows=rows) for row in rows_of(batch)]


@pytest.mark.parametrize("name", WRITERS)
def test_types_are_kept_and_values_are_read_in_one_form(tmp_path, name):
    """A column has the type of its file; text is read as text however it is stored, a map as a list of pairs."""
    # Feather has no view of text.
    table = ROWS.drop_columns(["view"]) if name == "t.feather" else ROWS
    table = table.replace_schema_metadata({"own": "words"})
    WRITERS[name](tmp_path / name, table)
    opened = open_table([str(tmp_path / name)])
    assert opened.schema.equals(table.schema)
    assert opened.schema.metadata == {b"own": b"words"}
    rows = [row for batch in opened.batches(rows=2) for row in rows_of(batch)]
    values = ROWS.drop_columns(["pairs", "view"]).to_pylist()
    assert [{column: row[column] for column in values[0]} for row in rows] == values
    assert [row["pairs"] for row in rows] == [[{"key": "k", "value": 1}], [], None]


def test_files_of_one_kind_are_one_table_with_the_wider_types(tmp_path):
    """Columns are matched by name, whole numbers and decimals become decimals, a column of nulls takes the others' type."""
    write_parquet(tmp_path / "a.parquet", pa.table({"id": pa.array([1], pa.int16()), "x": pa.nulls(1)}))
    write_parquet(tmp_path / "b.parquet", pa.table({"x": ["b"], "id": pa.array([2**40], pa.int64())}))
    assert read(tmp_path / "a.parquet", tmp_path / "b.parquet") == (
        {"id": "int64", "x": "string"},
        [{"id": 1, "x": None}, {"id": 2**40, "x": "b"}],
    )
    texts = pa.array(["c"])
    write_parquet(tmp_path / "e.parquet", pa.table({"id": [3], "x": texts.dictionary_encode()}))
    write_parquet(tmp_path / "f.parquet", pa.table({"id": [4], "x": texts.cast(pa.large_string())}))
    types, rows = read(*(tmp_path / f"{name}.parquet" for name in "befb"))
    assert (types["x"], [row["x"] for row in rows]) == ("string", ["b", "c", "c", "b"])
    write_parquet(tmp_path / "c.parquet", pa.table({"id": ["three"], "x": ["c"]}))
    with pytest.raises(UsageError, match="columns of different types"):
        read(tmp_path / "a.parquet", tmp_path / "c.parquet")
    write_parquet(tmp_path / "d.parquet", pa.table({"id": [4]}))
    with pytest.raises(UsageError, match=r"d\.parquet lacks the column 'x'"):
        read(tmp_path / "a.parquet", tmp_path / "d.parquet")


def test_damaged_files_are_refused(tmp_path):
    """A file that ends too early, and one that is something else: told with its name."""
    for name, writer in WRITERS.items():
        path = tmp_path / name
        writer(path, ROWS.drop_columns(["view"]))
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(InputUnreadable, match=name):
            read(path)
    (tmp_path / "u.parquet").write_text("id,text\n1,one\n")
    with pytest.raises(InputUnreadable, match="not a Parquet file"):
        read(tmp_path / "u.parquet")


def test_column_that_is_there_twice_is_refused(tmp_path):
    """Of two columns of a name nobody could say which is meant."""
    write_parquet(tmp_path / "t.parquet", pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]))
    with pytest.raises(UsageError, match="'a' twice"):
        read(tmp_path / "t.parquet")


def save_dataset(folder, *tables):
    """Save a data set as Hugging Face ``datasets`` does: Arrow streams, and what they are in JSON."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05d}-of-{len(tables):05d}.arrow" for number in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        write_stream(folder / name, table)
    state = {"_data_files": [{"filename": name} for name in names], "_split": "train", "_format_type": None}
    (folder / "state.json").write_bytes(jsonl.dumps(state))
    (folder / "dataset_info.json").write_bytes(jsonl.dumps({"features": {}}))


def test_saved_dataset_is_a_table(tmp_path):
    """The shards of a data set are read in their order; its name is the folder's."""
    save_dataset(tmp_path / "reviews", pa.table({"text": ["a", "b", "c"]}), pa.table({"text": ["d"]}))
    table = open_table([str(tmp_path / "reviews")])
    assert table.name == "reviews"
    assert [row["text"] for batch in table.batches(rows=2) for row in rows_of(batch)] == ["a", "b", "c", "d"]


def test_dataset_of_several_splits_asks_for_one(tmp_path):
    """Which split is meant is the user's to say; the names are given."""
    for split in ("train", "test"):
        save_dataset(tmp_path / "reviews" / split, pa.table({"text": [split]}))
    (tmp_path / "reviews" / "dataset_dict.json").write_bytes(jsonl.dumps({"splits": ["train", "test"]}))
    with pytest.raises(UsageError, match="train, test") as caught:
        open_table([str(tmp_path / "reviews")])
    assert str(tmp_path / "reviews" / "train") in (caught.value.hint or "")
    assert read(tmp_path / "reviews" / "test")[1] == [{"text": "test"}]
