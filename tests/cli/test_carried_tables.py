"""``annotate`` on one table of each kind: the question shows what the row holds, and every column comes back as it was."""

from __future__ import annotations

import csv
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import ipc
from pyarrow import parquet as pq
from sqlalchemy import create_engine, text

from batchkit.files import jsonl

MODEL = "openai/gpt-oss-20b"
#: The emulator repeats the question.
ECHO = "Echo: "


@pytest.fixture
def asked(batchkit, open_emulator):
    """Give a function that asks about a table and gives where it was written, with the answers without their echo."""
    open_emulator()

    def ask(table, prompt, output, *more):
        arguments = ("annotate", table, "--prompt", prompt, "-m", MODEL, "-o", output, "--no-prefect", *more)
        ended = batchkit(*arguments)
        assert ended.code == 0, ended.err
        return Path(output)

    return ask


def test_arrow_file_of_many_types(asked):
    """To Arrow as it was; to Parquet as JSON where that has no such type."""
    features = {
        "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
        "text": {"dtype": "string", "_type": "Value"},
    }
    columns = {
        "text": pa.array(["a", "b"], pa.large_string()),
        "label": pa.array([1, 0]),
        "at": pa.array([1_577_880_000_123_456_789, None], pa.timestamp("ns")),
        "meta": pa.array([{}, {}], pa.struct([])),
        "took": pa.array([5, None], pa.duration("s")),
    }
    info = {"huggingface": jsonl.dumps({"info": {"features": features}})}
    table = pa.table(columns).replace_schema_metadata(info)
    with ipc.new_file("given.arrow", table.schema) as file:
        file.write_table(table)
    prompt = "{{ text }} {{ label }} {{ at }} {{ meta }} {{ took }}"
    found = ipc.open_file(asked("given.arrow", prompt, "out.arrow")).read_all()
    assert found.select(table.column_names).equals(table)
    assert found["answer"].to_pylist() == [f"{ECHO}a pos 2020-01-01T12:00:00.123456789 {{}} 5", f"{ECHO}b neg  {{}} "]
    described = jsonl.loads(found.schema.metadata[b"huggingface"])["info"]["features"]
    assert described["label"] == features["label"]
    assert described["answer"] == features["text"]
    found = pq.read_table(asked("given.arrow", prompt, "out.parquet"))
    assert found["meta"].to_pylist() == ["{}", "{}"]
    assert found.schema.field("at").type == pa.timestamp("ns")


def test_csv_of_other_programs(asked):
    """No cell is written otherwise than it was, in the question, in the key and in the output."""
    rows = [
        ["v", "price", "n", "ok", "e"],
        ["1.10", "9.90", "1", "true", "1e+05"],
        ["1.1", "10.00", "2.5", "false", "-0"],
    ]
    with Path("given.csv").open("w", newline="") as handle:
        csv.writer(handle, delimiter="|").writerows(rows)
    prompt = "{{ v }} {{ price }} {{ n }} {{ ok }} {{ e }}"
    path = asked("given.csv", prompt, "out.csv", "--separator", "|", "--key", "v")
    with path.open(newline="") as handle:
        found = list(csv.DictReader(handle))
    assert [[row[name] for name in rows[0]] for row in found] == rows[1:]
    assert [row["answer"] for row in found] == [ECHO + " ".join(row) for row in rows[1:]]
    assert [row["custom_id"].split(":")[0] for row in found] == ["1.10", "1.1"]


def test_evaluation_of_a_csv_with_a_separator(batchkit, open_emulator):
    """The suite names it."""
    open_emulator()
    Path("given.csv").write_text("id|text|price\na|2.50|2.50\n")
    suite = f'{{name: s, dataset: {{path: given.csv, key: id, separator: "|"}}, prompt: "{{{{ text }}}}", models: [{MODEL}], '
    Path("s.yaml").write_text(suite + "scorers: [{kind: contains, expected: price}]}")
    ended = batchkit("eval", "s.yaml", "--no-prefect")
    assert (ended.code, "1.000" in ended.out) == (0, True), ended.err


def test_json_lines_with_members_of_their_own(asked):
    """A row has what it had, and nothing of the others."""
    rows = [
        {"id": 10**30, "meta": {"x": 1}},
        {"id": 10**30 + 1, "meta": {"y": [2.5, None]}, "late": None},
        {"id": 2, "meta": {}},
    ]
    Path("given.jsonl").write_bytes(b"".join(jsonl.dumps(row) + b"\n" for row in rows))
    path = asked("given.jsonl", "{{ row }}", "out.jsonl", "--key", "id")
    found = [jsonl.loads_exactly(line) for line in path.read_bytes().splitlines()]
    assert [{name: row[name] for name in list(row)[: list(row).index("answer")]} for row in found] == rows
    assert [row["answer"] for row in found] == [ECHO + jsonl.dumps(row).decode() for row in rows]


def test_query_on_sqlite(asked):
    """Numbers, texts and bytes are those of the database."""
    with closing(sqlite3.connect("given.db")) as connection, connection:
        connection.execute("create table t (id integer, x real, b blob)")
        connection.executemany("insert into t values (?, ?, ?)", [(1, 2.0, b"\xff"), (2, 2.5, None)])
    query = ("--query", "select * from t order by id")
    found = pq.read_table(asked("sqlite:///given.db", "{{ id }} {{ x }} {{ b }}", "out.parquet", *query)).to_pylist()
    assert [(row["id"], row["x"], row["b"]) for row in found] == [(1, 2.0, b"\xff"), (2, 2.5, None)]
    assert [row["answer"] for row in found] == [f"{ECHO}1 2 /w==", f"{ECHO}2 2.5 "]


def test_query_on_postgres(asked, postgres_url, monkeypatch):
    """A numeric is a decimal and an array a list, in a file and in a table of the results database, which also has no NUL."""
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text("create table t (id integer, price numeric(10, 2), tags text[])"))
        connection.execute(text("insert into t values (1, 9.90, array['a', 'b']), (2, 10, null)"))
    given = (postgres_url, "{{ id }} {{ price }} {{ tags }}")
    query = ("--query", "select * from t order by id")
    table = pq.read_table(asked(*given, "out.parquet", *query))
    assert [str(table.schema.field(name).type) for name in ("price", "tags")] == [
        "decimal128(10, 2)",
        "list<element: string>",
    ]
    assert table["price"].to_pylist() == [Decimal("9.90"), Decimal("10.00")]
    assert table["answer"].to_pylist() == [f'{ECHO}1 9.90 ["a","b"]', f"{ECHO}2 10.00 "]
    monkeypatch.setenv("BATCHKIT_DATABASE_URL", postgres_url)
    Path("nul.jsonl").write_text(
        '{"id":1,"tags":["x\\u0000"],"any":{"k\\u0000":"\\\\u0000"},"n":1}\n{"id":2,"any":[]}\n'
    )
    asked("nul.jsonl", "{{ id }}", "table:nul")
    asked(*given, "table:priced", *query)
    with engine.begin() as connection:
        priced = connection.execute(text("select price, tags::jsonb from priced order by row_number")).all()
        odd = connection.execute(text('select tags::jsonb, "any"::jsonb, n from nul order by row_number')).all()
    engine.dispose()
    assert [tuple(row) for row in priced] == [(Decimal("9.90"), ["a", "b"]), (Decimal("10.00"), None)]
    assert [tuple(row) for row in odd] == [(["x\ufffd"], {"k\ufffd": "\\u0000"}, 1), (None, [], None)]


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_table_that_the_database_cannot_have_is_refused_before_anything_is_sent(batchkit, open_emulator, more):
    """Too many columns, names that differ only in case: exit code 2, and nothing was asked."""
    emulator = open_emulator()
    wide = [f"c{number}" for number in range(2_000)]
    for names, words in ((wide, "2,010 columns"), (["Text", "text"], "differ only in case")):
        Path("given.csv").write_text(f"{','.join(names)}\n{','.join(['v'] * len(names))}\n")
        prompt = f"{{{{ {names[0]} }}}}"
        ended = batchkit(
            "annotate", "given.csv", "--prompt", prompt, "-m", MODEL, "-o", "table:wide", "--no-prefect", *more
        )
        assert (ended.code, words in ended.err) == (2, True), ended.err
    assert not emulator.ledger().totals.uploads
