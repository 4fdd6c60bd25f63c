"""Tables come back as they were: from any source through reading, snapshot and output, in values, types, metadata and order."""

from __future__ import annotations

import csv
import io
import sqlite3
from contextlib import closing
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import ipc
from pyarrow import parquet as pq
from sqlalchemy import create_engine, text

from batchkit.datasets import Snapshot, TableWriter, open_table, rows_of
from batchkit.datasets.values import json_text, text_of
from batchkit.files import jsonl
from tests.datasets.arrow_tables import tables

FEW = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Give a folder that all examples share."""
    return tmp_path_factory.mktemp("round-trip")


def carried(parts, target, rows=2, **options):
    """Read a table into a snapshot, and write it from there; returns the rows that templates read."""
    source = open_table([str(part) for part in parts], **options)
    snapshot = target.with_name("kept.arrows")
    read: list[dict[str, Any]] = []
    with Snapshot.writer(snapshot, source.schema) as writer:
        for batch in source.batches(rows=rows):
            read += rows_of(batch)
            writer.write(batch)
    kept = Snapshot.open(snapshot)
    with TableWriter(target, kept.schema, raw_csv=True) as writer:
        for batch in kept.batches(rows=rows):
            writer.write(batch)
    return read


def in_parquet(table):
    """Give a table as Parquet has it; None if Parquet has no such types."""
    data = io.BytesIO()
    try:
        pq.write_table(table, data)
    except (pa.ArrowException, OSError):
        return None
    return pq.read_table(data)


def same(one, other):
    """Whether two tables are equal, NaN to itself, as are the bytes of their columns."""
    if not one.schema.equals(other.schema) or (one.schema.metadata or {}) != (other.schema.metadata or {}):
        return False
    fields = zip(one.schema, other.schema, strict=True)
    return one.num_rows == other.num_rows and all(
        (mine.metadata or {}) == (theirs.metadata or {}) and written(one, mine.name) == written(other, theirs.name)
        for mine, theirs in fields
    )


def written(table, name):
    """Give the values of a column as Arrow prints all of them: to_pylist knows neither all years nor NaN."""
    chunks = [decoded(chunk) for chunk in table[name].chunks]
    if any("run_end_encoded" in str(chunk.type) for chunk in chunks):
        # Inside of others it is printed with its runs, which end with a batch.
        return [rows_of(batch) for batch in table.select([name]).to_batches(max_chunksize=1)]
    return pa.chunked_array(chunks).combine_chunks().to_string(window=1_000, container_window=1_000)


def decoded(array):
    """Give the values of an encoded column."""
    if pa.types.is_dictionary(array.type):
        return array.dictionary_decode()
    return pc.run_end_decode(array) if pa.types.is_run_end_encoded(array.type) else array


@FEW
@given(table=tables())
def test_any_arrow_table_comes_back(folder, table):
    """To Arrow with every type, to Parquet with those that Parquet has; each value has a text, and a place in JSON and CSV."""
    path = folder / "in.arrow"
    with ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table, max_chunksize=3)
    rows = carried([path], folder / "out.arrow")
    found = ipc.open_file(folder / "out.arrow").read_all()
    has_inner_dictionary = any(
        "dictionary" in str(kind) and not pa.types.is_dictionary(kind) for kind in table.schema.types
    )
    assert has_inner_dictionary or same(table, found)
    assert all(isinstance(text_of(value), str) for row in rows for value in row.values())
    assert all(jsonl.loads_exactly(json_text(row)) is not None for row in rows)
    carried([path], folder / "out.parquet")
    kept = pq.read_table(folder / "out.parquet")
    for field in table.schema:
        if pa.types.is_nested(field.type) and "_view" in str(field.type):
            continue
        expected = in_parquet(table.select([field.name]))
        if pa.types.is_run_end_encoded(field.type):
            decoded_values = pc.run_end_decode(table[field.name].combine_chunks())
            assert kept[field.name].to_pylist() == decoded_values.to_pylist()
        elif expected is not None:
            assert same(expected, kept.select([field.name])), field
        else:
            texts = kept[field.name].to_pylist()
            assert [text is None or jsonl.loads(text) is not None for text in texts] == [True] * len(table)
    for name in ("out.jsonl", "out.csv"):
        carried([path], folder / name)
    assert len((folder / "out.jsonl").read_bytes().splitlines()) == len(table)


_CELLS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=False).map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=2).map(str),
    st.sampled_from(
        ["", "true", "false", "True", "-0", "1e+05", "1E5", "007", "+1", "1.0", "1.10", " 1", "NaN", "inf"]
    ),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=5),
)


@FEW
@given(data=st.data(), separator=st.sampled_from(",;\t|"))
def test_any_csv_comes_back(folder, data, separator):
    """Each cell says in the output, and in a prompt, what it said."""
    kinds = [data.draw(st.sampled_from([_CELLS, st.integers().map(str), st.floats(-9, 9).map(repr)])) for _ in range(2)]
    rows = [["x", *row] for row in data.draw(st.lists(st.tuples(*kinds), min_size=1, max_size=5))]
    path = folder / "in.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, delimiter=separator)
        writer.writerows([["id", "a", "b"], *rows])
    read = carried([path], folder / "out.csv", separator=separator)
    assert [list(map(text_of, row.values())) for row in read] == rows
    with (folder / "out.csv").open(newline="", encoding="utf-8") as handle:
        assert list(csv.reader(handle)) == [["id", "a", "b"], *rows]


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@FEW
@given(
    objects=st.lists(
        st.dictionaries(st.sampled_from(["a", "b", "c"]), _JSON, max_size=3), min_size=1, max_size=5
    ).filter(any)
)
def test_any_json_lines_come_back(folder, objects):
    """Each object has its members, with the numbers, nulls and nested values that it had, whatever the other objects have."""
    path = folder / "in.jsonl"
    lines = [jsonl.dumps(value) for value in objects]
    path.write_bytes(b"\n".join([*lines, b""]))
    read = carried([path], folder / "out.jsonl")
    found = [jsonl.loads_exactly(line) for line in (folder / "out.jsonl").read_bytes().splitlines()]
    # Written as JSON, 1 and 1.0 differ.
    as_texts = [json_text(dict(sorted(value.items()))) for value in map(jsonl.loads_exactly, lines)]
    assert [json_text(dict(sorted(value.items()))) for value in found] == as_texts
    shown = [jsonl.loads_exactly(json_text(row)) for row in read]
    assert [json_text(dict(sorted(value.items()))) for value in shown] == as_texts


_COLUMNS = {
    "integer": st.integers(-(2**63), 2**63 - 1),
    "real": st.floats(allow_nan=False, allow_infinity=False),
    "text": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=5),
    "blob": st.binary(max_size=4),
}


@FEW
@given(rows=st.lists(st.tuples(*(st.none() | values for values in _COLUMNS.values())), min_size=1, max_size=5))
def test_any_query_on_sqlite_comes_back(folder, rows):
    """Numbers, texts and bytes are those of the database."""
    path = folder / "in.db"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"create table t ({', '.join(f'{kind} {kind}' for kind in _COLUMNS)})")
        connection.executemany("insert into t values (?, ?, ?, ?)", rows)
    carried([f"sqlite:///{path}"], folder / "out.parquet", query="select * from t order by rowid")
    assert [tuple(row.values()) for row in pq.read_table(folder / "out.parquet").to_pylist()] == rows


_OF_POSTGRES = {
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "double precision": st.floats(allow_nan=False, allow_infinity=False),
    "text": _COLUMNS["text"],
    "bytea": _COLUMNS["blob"],
    "boolean": st.booleans(),
    "numeric(20, 4)": st.decimals(-(10**15), 10**15, allow_nan=False, places=4),
    "date": st.dates(),
    "timestamp": st.datetimes(),
    "time": st.times(),
    "text[]": st.lists(_COLUMNS["text"], min_size=1, max_size=3),
    "double precision[]": st.lists(st.none() | st.floats(allow_nan=False), min_size=1, max_size=3),
}


@pytest.fixture(scope="module")
def database(postgres_server):
    """Give the address of a database with a table of many types."""
    name = postgres_server.create()
    engine = create_engine(postgres_server.url_of(name))
    with engine.begin() as connection:
        columns = ", ".join(f"c{n} {kind}" for n, kind in enumerate(_OF_POSTGRES))
        connection.execute(text(f"create table t (place integer, {columns})"))
    yield postgres_server.url_of(name), engine
    engine.dispose()
    postgres_server.drop(name)


@settings(FEW, max_examples=20)
@given(rows=st.lists(st.tuples(*(st.none() | values for values in _OF_POSTGRES.values())), min_size=1, max_size=4))
def test_any_query_on_postgres_comes_back(folder, database, rows):
    """Decimals, times, lists, texts and bytes are those of the database, each with its type."""
    url, engine = database
    with engine.begin() as connection:
        connection.exec_driver_sql("truncate t")
        marks = ", ".join(f"%s::{kind}" for kind in _OF_POSTGRES)
        connection.exec_driver_sql(f"insert into t values (%s, {marks})", [(n, *row) for n, row in enumerate(rows)])  # noqa: S608 - the test's own words
        names = ", ".join(f"c{n}" for n in range(len(_OF_POSTGRES)))
    carried([url], folder / "out.parquet", query=f"select {names} from t order by place")  # noqa: S608 - as above
    assert [tuple(row.values()) for row in pq.read_table(folder / "out.parquet").to_pylist()] == rows
