"""Any command that finishes a workload writes the tables that were named at its start, on both kinds of database."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import column, select, table

import batchkit as package
from batchkit.emulator.faults import batches
from batchkit.store.engine import Store

MODEL = "openai/gpt-oss-20b"


@pytest.fixture
def opened(open_emulator, database_url, monkeypatch):
    """Return a function that starts an emulator, with the database of the test."""

    def start(*faults, **scenario):
        monkeypatch.setenv("BATCHKIT_DATABASE_URL", database_url)
        return open_emulator(*faults, **scenario)

    return start


def table_rows(database_url: str, name: str) -> list[tuple[object, ...]]:
    """Read a table of the results database, in any order."""
    store = Store(database_url)
    try:
        with store.read() as connection:
            columns: tuple[Any, ...] = column("text"), column("status")
            return [tuple(row) for row in connection.execute(select(*columns).select_from(table(name)))]
    finally:
        store.close()


def csv_rows(path: str) -> list[dict[str, str]]:
    """Read a CSV file with a header."""
    with Path(path).open() as handle:
        return list(csv.DictReader(handle))


def write_texts(count: int) -> None:
    """Write a table of ``count`` texts."""
    Path("rows.csv").write_text("text\n" + "".join(f"line {number}\n" for number in range(count)))


def test_a_table_of_the_database_and_a_filter(batchkit, opened, database_url):
    """Any command may write the table, and it has only the rows that the filter selects."""
    opened()
    Path("rows.csv").write_text("text\nbread\na bomb\nwine\nbomb it\n")
    asked = ("moderate", "rows.csv", "--text", "text", "--name", "guarded", "--only", "unsafe", "-o", "table:flagged")
    assert batchkit(*asked, "--submit-only", "--no-prefect").code == 0
    ended = batchkit("watch", "guarded", "--no-prefect")
    assert ended.code == 0
    assert "results:   table:flagged" in ended.out
    assert sorted(table_rows(database_url, "flagged")) == [("a bomb", "succeeded"), ("bomb it", "succeeded")]


def test_disputed_rows_go_to_their_own_file(batchkit, opened):
    """The table has all rows, and the review file has those on which the annotators disagree."""
    other = "openai/gpt-oss-120b"
    opened(
        replies=[
            {"match": "line 3", "content": "no", "models": [other]},
            {"match": "line", "content": "yes"},
        ]
    )
    write_texts(5)
    asked = (
        "annotate",
        "rows.csv",
        "--prompt",
        "{{ text }}",
        "--choices",
        "yes,no",
        "--models",
        f"{MODEL},{other}",
        "--samples",
        "1",
    )
    outputs = ("-o", "all.csv", "--review", "disputed.csv", "--name", "votes")
    assert batchkit(*asked, *outputs, "--submit-only", "--no-prefect").code == 0
    assert batchkit("watch", "votes", "--no-prefect").code == 0
    assert [row["text"] for row in csv_rows("all.csv")] == [f"line {number}" for number in range(5)]
    assert [row["text"] for row in csv_rows("disputed.csv")] == ["line 3"]


def test_an_output_named_in_python_is_written_by_any_command_that_finishes_it(batchkit, opened):
    """The call ran out of time; the command line finishes the workload."""
    emulator = opened(batches.StuckBatches())
    write_texts(3)
    given = package.annotate(
        "rows.csv", "{{ text }}", models=MODEL, name="asked", output="asked.csv", timeout_seconds=0.1
    )
    assert not given.is_finished
    assert not Path("asked.csv").exists()
    emulator.set_scenario("clean")
    batchkit("cancel", "asked", "--wait", "--no-prefect")
    assert len(csv_rows("asked.csv")) == 3
