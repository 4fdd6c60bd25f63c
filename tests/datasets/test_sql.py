"""A query as a table, on both kinds of database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from batchkit.datasets import TableWriter, open_table, rows_of
from batchkit.datasets.sql import RowsDigest, SqlTable
from batchkit.errors import UsageError
from tests.workloads import read_lines

ASK = "select * from reviews order by id"


@pytest.fixture
def ask(empty_database_url):
    """Give a function that fills a table of the user's and opens a query on its database."""
    engine = create_engine(empty_database_url)

    def start(columns, rows, query=ASK):
        names = [column.split()[0] for column in columns]
        with engine.begin() as connection:
            connection.execute(text(f"create table reviews ({', '.join(columns)})"))
            bound = ", ".join(f":{name}" for name in names)
            connection.execute(
                text(f"insert into reviews values ({bound})"),  # noqa: S608 - the test's own words
                [dict(zip(names, row, strict=True)) for row in rows],
            )
        return open_table([empty_database_url], query=query)

    yield start
    engine.dispose()


def read(table, rows=10_000):
    """Read a table's rows."""
    return [row for batch in table.batches(rows=rows) for row in rows_of(batch)]


def test_rows_come_typed_and_in_order(ask):
    """Numbers, texts and nulls have their types; a pass can be made again, in batches of any size, or over the first rows."""
    rows = [(n, f"text {n} %s :x é\u2028", n / 2, None if n % 2 else n) for n in range(1, 26)]
    table = ask(["id integer", "body text", "half double precision", "odd integer"], rows)
    expected = [{"id": n, "body": body, "half": half, "odd": odd} for n, body, half, odd in rows]
    assert {field.name: str(field.type) for field in table.schema} == {
        "id": "int64",
        "body": "string",
        "half": "double",
        "odd": "int64",
    }
    assert read(table) == read(table, rows=4) == expected
    assert read(table.head(7), rows=4) == expected[:7]


def test_query_means_what_it_says(ask):
    """A per cent sign, a colon and a semicolon at the end are the query's own."""
    query = "select id, ':name' as colon, 5 % 3 as rest from reviews where body like 'a%' order by id;"
    table = ask(["id integer", "body text"], [(1, "ab"), (2, "b"), (3, "a%")], query)
    assert read(table) == [{"id": 1, "colon": ":name", "rest": 2}, {"id": 3, "colon": ":name", "rest": 2}]


def test_query_only_reads(ask, empty_database_url):
    """A statement that would change the database is refused by it."""
    table = ask(["id integer"], [(1,)], "delete from reviews returning id")
    with pytest.raises(UsageError, match="failed"):
        read(table)
    assert read(open_table([empty_database_url], query=ASK)) == [{"id": 1}]


@pytest.mark.parametrize("query", ["select nothing from nowhere", "select 1 as a, 2 as a"])
def test_queries_that_cannot_be_are_refused(ask, query):
    """The database's own words for a mistake, and a hint."""
    table = ask(["id integer"], [(1,)], query)
    with pytest.raises(UsageError) as caught:
        read(table)
    assert caught.value.hint


def test_table_without_rows_has_its_columns(ask):
    """No row is no reason not to know the names."""
    table = ask(["id integer", "body text"], [(1, "x")], "select * from reviews where id > 1")
    assert (table.columns, read(table)) == (("id", "body"), [])


def test_digest_of_the_query_knows_query_and_place_but_no_password():
    """Two passwords make one query; another text or another database, another."""
    url = "postgresql://me{}@127.0.0.1:1/reviews?application_name=x"
    first, *others = [SqlTable(url.format(word), ASK).query_digest() for word in (":secret", ":other", "")]
    assert others == [first, first]
    assert SqlTable(url.format(""), "select 1").query_digest() != first
    assert SqlTable(url.format("").replace("reviews", "others"), ASK).query_digest() != first
    assert open_table([url.format("")], query=ASK).name == "reviews"


def test_digest_is_that_of_the_rows_in_their_order(ask, empty_database_url):
    """Another row, order, column or value makes another; the text of the query, and the size of a block, do not."""
    rows = [(n, f"te,xt {n}", n / 2) for n in range(1, 26)]
    table = ask(["id integer", "body text", "half double precision"], rows)

    def digest(query):
        return open_table([empty_database_url], query=query).digest()

    assert digest("select id, body, half from reviews where id > 0 order by id") == table.digest()
    others = [
        "select * from reviews where id < 25 order by id",
        "select * from reviews order by id desc",
        "select id, half, body from reviews order by id",
        "select id, body as bodies, half from reviews order by id",
        "select id, case when id = 7 then null else body end as body, half from reviews order by id",
    ]
    assert len({table.digest(), *map(digest, others)}) == 1 + len(others)
    found = [RowsDigest(), RowsDigest()]
    for size, rows_digest in zip((4, 25), found, strict=True):
        for batch in table.batches(rows=size):
            rows_digest.update(batch)
    assert found[0].hexdigest() == found[1].hexdigest() == table.digest()


def test_password_is_in_no_error():
    """A database that is not there is named without the password."""
    table = open_table(["postgresql://me:hunter2@127.0.0.1:1/reviews"], query=ASK)
    with pytest.raises(UsageError) as caught:
        read(table)
    assert "127.0.0.1" in caught.value.message
    assert "hunter2" not in f"{caught.value.message}{caught.value.hint}"
    with pytest.raises(UsageError) as caught:
        open_table(["postgresql://me:hunter2@[::1/reviews"], query=ASK)
    assert "hunter2" not in f"{caught.value.message}{caught.value.hint}"


@pytest.mark.parametrize("url", ["mysql://127.0.0.1/shop", "s3://bucket/rows.csv"])
def test_other_databases_are_not_read(url):
    """Only of SQLite and Postgres it is certain that a query cannot write."""
    with pytest.raises(UsageError, match="is not a supported database"):
        open_table([url], query=ASK)


def test_missing_database_file_is_not_made(tmp_path):
    """A typing error in the name of a file leaves no empty database behind."""
    with pytest.raises(UsageError, match="no database file"):
        open_table([f"sqlite:///{tmp_path / 'typo.db'}"], query=ASK)
    assert not list(tmp_path.iterdir())


def lite(path, statement, rows):
    """Fill a table of SQLite, where any column takes any value."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table reviews (id, x)")
        connection.executemany(statement, rows)
    return open_table([f"sqlite:///{path}"], query=ASK)


def test_late_value_of_another_type_is_told(tmp_path):
    """Behind the rows that the types are learned from: a row that does not fit is named; a text column takes anything."""
    rows = [(n, n) for n in range(1, 10_001)]
    table = lite(tmp_path / "a.db", "insert into reviews values (?, ?)", [*rows, (10_001, 0.5)])
    with pytest.raises(UsageError, match=r"row 10,001 of the query has 0\.5 in the column 'x'") as caught:
        read(table)
    assert "cast(x as text)" in (caught.value.hint or "")
    assert len(read(table.head(10_000), rows=9_999)) == 10_000
    texts = lite(tmp_path / "b.db", "insert into reviews values (?, ?)", [*((n, "t") for n, _ in rows), (10_001, 5)])
    assert read(texts)[-1] == {"id": 10_001, "x": "5"}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 0.5], "double"),
        ([2**53 + 1, 0.5], "string"),
        ([2**62, 1], "int64"),
        ([1, "one"], "string"),
        ([b"\x00\xff", None], "binary"),
        ([None, None], "string"),
    ],
)
def test_mixed_columns_are_wide_enough(tmp_path, values, kind):
    """Whole numbers with decimals are decimals, anything else together is text."""
    table = lite(tmp_path / "a.db", "insert into reviews values (?, ?)", list(enumerate(values)))
    assert str(table.schema.field("x").type) == kind
    found = [row["x"] for row in read(table)]
    assert found == (list(map(str, values)) if kind == "string" and values[0] else values)
    assert list(map(type, found)) == list(map(type, values)) or kind == "string"


def test_types_of_postgres(empty_postgres_url, tmp_path):
    """A numeric is a decimal, times are times, arrays are lists, JSON is JSON, a UUID is text."""
    query = (
        "select 1.50::numeric as price, '2024-05-01'::date as day, '2024-05-01T12:00:00+02:00'::timestamptz as at,"
        " array['a', 'b'] as tags, '{\"n\": [1, null]}'::jsonb as meta, true as yes,"
        " '00000000-0000-0000-0000-000000000001'::uuid as key, '\\x00ff'::bytea as raw"
    )
    table = open_table([empty_postgres_url], query=query)
    assert [str(field.type) for field in table.schema] == [
        "decimal128(38, 2)",
        "date32[day]",
        "timestamp[us, tz=UTC]",
        "list<item: string>",
        "string",
        "bool",
        "string",
        "binary",
    ]
    with TableWriter(tmp_path / "t.jsonl", table.schema) as writer:
        for batch in table.batches():
            writer.write(batch)
    (row,) = read_lines(tmp_path / "t.jsonl")
    assert row == {
        "price": "1.50",
        "day": "2024-05-01",
        "at": "2024-05-01T10:00:00+00:00",
        "tags": ["a", "b"],
        "meta": {"n": [1, None]},
        "yes": True,
        "key": "00000000-0000-0000-0000-000000000001",
        "raw": "AP8=",
    }
    assert make_url(empty_postgres_url).database == table.name


@pytest.mark.parametrize(
    ("rows", "kind", "values"),
    [
        (["1.50::numeric(10, 2)", "null::numeric(10, 2)"], "decimal128(10, 2)", [Decimal("1.50"), None]),
        (["null::numeric(8, 3)"], "decimal128(8, 3)", [None]),
        (["1.5::numeric", "20"], "decimal128(38, 1)", [Decimal("1.5"), Decimal("20.0")]),
        ([f"{10**60}::numeric"], "decimal256(76, 0)", [Decimal(10**60)]),
        ([f"{10**80}::numeric"], "string", [str(10**80)]),
        (["'NaN'::numeric", "1.5"], "string", ["NaN", "1.5"]),
        (["array[1, null]", "array[]::int[]", "null"], "list<item: int64>", [[1, None], [], None]),
        (["array[1.50, 2]"], "list<item: decimal128(38, 2)>", [[Decimal("1.50"), Decimal("2.00")]]),
        (["array[[1, 2], [3, 4]]"], "list<item: list<item: int64>>", [[[1, 2], [3, 4]]]),
        (["array[[1, 2]]", "array[1]"], "string", [[[1, 2]], [1]]),
        (["array['00000000-0000-0000-0000-000000000001'::uuid]"], "list<item: string>", [[str(UUID(int=1))]]),
        (["'[1, \"a\"]'::jsonb", "'{}'"], "string", [[1, "a"], {}]),
        (["'[1, 2]'::json"], "string", [[1, 2]]),
        (["time with time zone '12:30:00+02'"], "string", ["12:30:00+02:00"]),
        (["9007199254740993::bigint", "2"], "int64", [9007199254740993, 2]),
    ],
)
def test_values_of_postgres_keep_type_and_digits(empty_postgres_url, rows, kind, values):
    """Decimals with the digits of their column, lists of one type; what has no type of Arrow's is text, or JSON if it is nested."""
    query = " union all ".join(f"select {place} as place, {row} as x" for place, row in enumerate(rows))
    table = open_table([empty_postgres_url], query=f"select x from ({query}) as rows order by place")  # noqa: S608 - as above
    assert str(table.schema.field("x").type) == kind
    assert [row["x"] for row in read(table, rows=1)] == values


def test_late_decimal_with_more_digits_is_told(empty_postgres_url):
    """It is not rounded; one with fewer places fits."""
    query = "select case when n = {} then {} else 1.5 end as x from generate_series(1, 10002) as n order by n"
    assert len(read(open_table([empty_postgres_url], query=query.format(1, 1.25)))) == 10_002
    for value in ("1.25", "1e37"):
        with pytest.raises(UsageError, match=r"row 10,002 of the query has Decimal\('1"):
            read(open_table([empty_postgres_url], query=query.format(10_002, value)))
