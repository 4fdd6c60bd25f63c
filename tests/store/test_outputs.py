"""Tables in the results database: typed, replaced whole, and never in place of a table that batchkit did not create."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from uuid import UUID

import pyarrow as pa
import pytest
from sqlalchemy import inspect, text

from batchkit.datasets.rows import json_field
from batchkit.errors import UsageError
from batchkit.files import jsonl
from batchkit.store.engine import Store
from batchkit.store.output_columns import check_columns
from batchkit.store.outputs import OutputTable

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string())])


def write(store, name, batches, schema=SCHEMA):
    """Write batches of rows into a table."""
    with OutputTable(store, name, schema) as output:
        for rows in batches:
            output.write(pa.RecordBatch.from_pylist(rows, schema=schema))


def read(store, query):
    """Read rows as tuples."""
    with store.read() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def rows_of(ids):
    """Return a batch with these ids."""
    return pa.RecordBatch.from_pylist([{"id": number, "text": "x"} for number in ids], schema=SCHEMA)


def summed(store, name):
    """Return the number of rows of a table, and its least and greatest id."""
    ids = [row[0] for row in read(store, f"select id from {name}")]  # noqa: S608 - a name of the test's
    return len(ids), min(ids), max(ids)


def unfinished(store):
    """Return the tables that are being written, or were left over."""
    with store.read() as connection:
        return [name for name in inspect(connection).get_table_names() if name.startswith("batchkit_new_")]


def start_python(code, *arguments):
    """Start another Python process with a pipe in each direction."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_rows_are_in_order_and_a_second_write_replaces_them(store):
    """Rows are numbered from 1 over all batches; a second write leaves nothing of the first, and no extra table."""
    awkward = 'é "q" \n%s :x'
    write(store, "labels", [[{"id": 7, "text": awkward}, {"id": 5, "text": None}], [{"id": 6, "text": "\x00a"}]])
    assert read(store, "select * from labels order by row_number") == [(1, 7, awkward), (2, 5, None), (3, 6, "\ufffda")]
    write(store, "labels", [[{"id": 1, "text": "new"}]])
    assert read(store, "select * from labels") == [(1, 1, "new")]
    assert unfinished(store) == []


def test_values_have_database_types(store):
    """Numbers, booleans, times and bytes keep their types; nested values and JSON are JSON; decimals keep all digits."""
    row = {
        "n": 2**62,
        "score": 0.5,
        "yes": True,
        "at": dt.datetime(2024, 5, 1, 14, 30, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        "day": dt.date(2024, 5, 1),
        "raw": b"\x00\xff",
        "tags": ["a", "é"],
        "price": Decimal("1.50"),
        "took": dt.timedelta(seconds=1.5),
    }
    inferred = pa.RecordBatch.from_pylist([row])
    schema = pa.schema([*inferred.schema, json_field("any")])
    write(store, "typed", [[{**row, "any": '{"a":1}'}, dict.fromkeys(schema.names)]], schema)
    with store.read() as connection:
        kinds = {column["name"]: str(column["type"]) for column in inspect(connection).get_columns("typed")}
    assert [kinds[name] for name in ("n", "yes", "tags", "any")] == ["BIGINT", "BOOLEAN", "TEXT", "TEXT"]
    assert kinds["score"].startswith("DOUBLE")
    first, second = read(store, 'select n, score, yes, tags, price, took, "any", raw from typed order by row_number')
    price = "1.50" if store.is_sqlite else Decimal("1.50")
    assert kinds["price"] == ("TEXT" if store.is_sqlite else "NUMERIC(3, 2)")
    assert first == (2**62, 0.5, True, '["a","é"]', price, 1.5, '{"a":1}', b"\x00\xff")
    assert second == (None,) * 8
    (moment,) = read(store, "select cast(at as varchar(40)), cast(day as varchar(40)) from typed where n is not null")
    assert moment[0].startswith("2024-05-01 12:30:00")
    assert moment[1] == "2024-05-01"


def test_types_that_a_database_lacks_become_the_nearest_one(store):
    """This covers other forms of text and bytes, dictionary values, nanoseconds, maps, and years beyond Python's."""
    columns = {
        "kind": pa.array(["x", None]).dictionary_encode(),
        "long": pa.array(["\x00", ""], pa.large_string()),
        "code": pa.array([b"ab", None], pa.binary(2)),
        "at": pa.array([1577880000123456789, None], pa.timestamp("ns")),
        "far": pa.array([10**12, 0], pa.timestamp("s")),
        "took": pa.array([1500, None], pa.duration("ns")),
        "map": pa.array([[("k\x00", 1)], None], pa.map_(pa.string(), pa.int64())),
        "huge": pa.array([Decimal(10**40), None], pa.decimal256(50, 0)),
        "key": pa.array([bytes(16), None], pa.uuid()),
        "none": pa.nulls(2),
    }
    batch = pa.RecordBatch.from_pydict(columns)
    with OutputTable(store, "typed", batch.schema) as output:
        output.write(batch)
    first, second = read(
        store, 'select kind, long, code, took, map, huge, "key", "none" from typed order by row_number'
    )
    assert (*first[:4], *first[6:]) == ("x", "\ufffd", b"ab", 1.5e-6, f"{UUID(int=0)}", None)
    assert (jsonl.loads(first[4]), int(first[5])) == ([{"key": "k\ufffd", "value": 1}], 10**40)
    assert second == (None, "", None, None, None, None, None, None)
    times = read(store, "select cast(at as varchar(40)), far is null from typed order by row_number")
    assert [bool(is_null) for _, is_null in times] == [True, False]
    assert times[0][0].startswith("2020-01-01 12:00:00.123456")


def test_foreign_tables_are_not_touched(store):
    """A table without our mark, one of batchkit's own, and a view are refused, at the start and at the swap."""
    with store.write() as connection:
        connection.execute(text("create table orders (id integer)"))
        connection.execute(text("insert into orders values (1)"))
    for name in ("orders", "workloads", "succeeded", *(["Orders"] if store.is_sqlite else [])):
        with pytest.raises(UsageError, match="not touched"):
            write(store, name, [[{"id": 1, "text": "x"}]])
    assert read(store, "select * from orders") == [(1,)]

    def overtaken():
        with OutputTable(store, "mine", SCHEMA) as output:
            output.write(pa.RecordBatch.from_pylist([{"id": 1, "text": "x"}], schema=SCHEMA))
            with store.write() as connection:
                connection.execute(text("create table mine (id integer)"))

    with pytest.raises(UsageError, match="not touched"):
        overtaken()
    assert read(store, "select * from mine") == []


def test_failure_in_the_middle_changes_nothing(store):
    """The old table stays, and the new one is dropped."""
    write(store, "labels", [[{"id": 1, "text": "old"}]])

    def break_off():
        with OutputTable(store, "labels", SCHEMA) as output:
            output.write(pa.RecordBatch.from_pylist([{"id": 2, "text": "new"}], schema=SCHEMA))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert read(store, "select id, text from labels") == [(1, "old")]
    assert unfinished(store) == []


def test_two_writers_of_one_table_do_not_disturb_each_other(store, database_url):
    """Two that write at the same time both succeed, and the last to finish decides the content of the table."""
    other = Store(database_url)
    longest = "a" * 48
    with OutputTable(store, longest, SCHEMA) as one:
        one.write(rows_of(range(100)))
        with OutputTable(other, longest, SCHEMA) as two:
            two.write(rows_of(range(50)))
            one.write(rows_of(range(100, 200)))
        assert summed(store, longest) == (50, 0, 49)
    other.close()
    assert summed(store, longest) == (200, 0, 199)
    assert unfinished(store) == []


def test_writers_that_finish_at_the_same_time_all_succeed(store, database_url):
    """With or without an earlier table, each swap is complete, and no writer is refused."""
    writers, rounds = 4, 3
    start = threading.Barrier(writers, timeout=30)

    def write_rows(number: int) -> None:
        own = Store(database_url)
        try:
            for _ in range(rounds):
                with OutputTable(own, "labels", SCHEMA) as output:
                    output.write(rows_of(range(number * 100, number * 100 + 10 + number)))
                    start.wait()
        finally:
            own.close()

    with ThreadPoolExecutor(writers) as pool:
        for done in [pool.submit(write_rows, number) for number in range(writers)]:
            done.result()
    count, least, most = summed(store, "labels")
    assert (count, most) == (10 + least // 100, least + count - 1)
    assert unfinished(store) == []


_WRITER = """
import sys
import pyarrow as pa
from batchkit.store.engine import Store
from batchkit.store.outputs import OutputTable
schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
with OutputTable(Store(sys.argv[1]), "labels", schema) as output:
    output.write(pa.RecordBatch.from_pylist([{"id": 7, "text": "other"}] * 3, schema=schema))
    print("written", flush=True)
    sys.stdin.readline()
"""


def test_only_tables_of_dead_processes_are_dropped(store, database_url):
    """The next writer drops the unfinished table of a killed process, and leaves that of a live process alone."""
    with (
        start_python(_WRITER, database_url) as killed,
        start_python(_WRITER, database_url) as living,
    ):
        for process in (killed, living):
            assert process.stdout.readline() == "written\n"
        killed.kill()
        killed.wait()
        assert len(unfinished(store)) == 2
        write(store, "labels", [[{"id": 1, "text": "mine"}]])
        assert len(unfinished(store)) == 1
        living.communicate("\n")
        assert living.returncode == 0
    assert read(store, "select id, text from labels") == [(7, "other")] * 3
    assert unfinished(store) == []


def test_unmarked_table_with_the_name_of_an_unfinished_one_is_not_dropped(store):
    """Without the mark it is not batchkit's."""
    with store.write() as connection:
        connection.execute(text("create table batchkit_new_0123456789ab_1_1_01234567 (id integer)"))
    write(store, "labels", [[{"id": 1, "text": "mine"}]])
    assert len(unfinished(store)) == 1


@pytest.mark.parametrize(
    ("names", "words"),
    [(["Text", "text"], "differ only in case"), (["x" * 64], "name of a column"), (["a\nb"], "column")],
)
def test_unusable_column_names_are_refused(sqlite_store, names, words):
    """Names that differ only in case, are too long, or are not one line of text are refused before sending, and by the writer."""
    schema = pa.schema([(name, pa.string()) for name in names])
    with pytest.raises(UsageError, match=words):
        OutputTable(sqlite_store, "labels", schema)
    with pytest.raises(UsageError, match=words):
        check_columns(schema, "labels", is_postgres=False, rows=list)


@pytest.mark.parametrize(
    ("kind", "count", "values", "fits"),
    [
        (pa.float64(), {"sqlite": 1_999, "postgres": 990}, [1.5], True),
        (pa.float64(), {"sqlite": 2_000, "postgres": 1_050}, [1.5], False),
        (pa.float64(), {"sqlite": 1_999, "postgres": 1_599}, [None], True),
        (pa.string(), {"sqlite": 2_000, "postgres": 1_600}, [""], False),
        (pa.string(), {"sqlite": 1_999, "postgres": 1_590}, ["ab"], True),
        (pa.string(), {"sqlite": 1_999, "postgres": 330}, ["a long text, again and again" * 3], True),
        (pa.large_string(), {"sqlite": 2_001, "postgres": 350}, ["a long text, again and again" * 3], False),
    ],
)
def test_the_width_check_agrees_with_the_database(store, kind, count, values, fits):
    """A table that passes can be written; one that is refused is too wide, by its number of columns or by the bytes of its row."""
    schema = pa.schema([(f"c{number}", kind) for number in range(count["sqlite" if store.is_sqlite else "postgres"])])
    batch = pa.RecordBatch.from_arrays([pa.array(values, kind)] * len(schema), schema=schema)

    def check():
        check_columns(schema, "wide", is_postgres=not store.is_sqlite, rows=lambda: [batch])

    if not fits:
        with pytest.raises(UsageError, match="columns") as caught:
            check()
        assert caught.value.hint
        return
    check()
    with OutputTable(store, "wide", schema) as output:
        output.write(batch)
    assert read(store, "select count(*) from wide") == [(1,)]


def test_column_name_of_row_numbers_is_left_to_the_user(store):
    """Our own column then has another name."""
    schema = pa.schema([("row_number", pa.int64())])
    write(store, "labels", [[{"row_number": 40}, {"row_number": 30}]], schema)
    assert read(store, "select row_number from labels order by batchkit_row") == [(40,), (30,)]


def test_column_names_are_taken_literally(store):
    """Characters that are special to a database or its driver are not special in a name, and no value is changed."""
    names = ['say "hi"', "100 %s", ":x", "Order", "naïve", "a\\b"]
    row = dict(zip(names, ["\t\\N\r\n", "\\.", "{}", "", "'", "\\x00"], strict=True)) | {
        "nan": float("nan"),
        "big": 2**64 - 1,
    }
    schema = pa.schema([*[(name, pa.string()) for name in names], ("nan", pa.float64()), ("big", pa.uint64())])
    write(store, "odd", [[row]], schema)
    ((number, *values),) = read(store, "select * from odd")
    assert number == 1
    assert values[:6] == [row[name] for name in names]
    assert values[6] is None or values[6] != values[6]
    assert int(values[7]) == 2**64 - 1


def test_nul_inside_json_is_replaced_too(store):
    """In values and in member names; the same letters after an escaped backslash are not a NUL."""
    schema = pa.schema([("tags", pa.list_(pa.string())), json_field("any")])
    odd = r'{"a\u0000":"\u0000 \\u0000"}'
    write(store, "odd", [[{"tags": ["a\x00", "\\u0000"], "any": odd}]], schema)
    assert read(store, 'select tags, "any" from odd') == [(r'["a\ufffd","\\u0000"]', r'{"a\ufffd":"\ufffd \\u0000"}')]
    if not store.is_sqlite:
        assert read(store, "select tags::jsonb ->> 0, \"any\"::jsonb ->> 'a\ufffd' from odd") == [
            ("a\ufffd", "\ufffd \\u0000")
        ]
