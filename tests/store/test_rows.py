"""The row types: each column is declared once, and few modules know it."""

from __future__ import annotations

import re
from pathlib import Path

import batchkit
from batchkit.steps.export_columns import CSV_COLUMNS, PARQUET_COLUMNS
from batchkit.store import bulk, results
from batchkit.store.rows import AnswerFacts, ResultRow, fields_of, layout
from batchkit.store.tables import results as result_table


def test_a_column_of_the_results_is_named_in_three_files():
    """The row type, the merge that fills it, and the export that shows it; a new column needs no other file."""
    package = Path(batchkit.__file__).parent
    knowing = {
        str(path.relative_to(package))
        for room in ("store", "steps", "engine", "reports")
        for path in (package / room).rglob("*.py")
        if re.search(r"\bservice_tier\b", path.read_text())
    }
    assert knowing == {"store/rows.py", "steps/answer_facts.py", "steps/export_columns.py"}


def test_answer_facts_are_together_in_every_row():
    """Table, statements and streams have the facts in one order, after the other columns; exports show all of them."""
    facts = AnswerFacts._fields
    assert tuple(result_table.c.keys())[-len(facts) - 1 :] == (*facts, "body_seq")
    assert tuple(field.name for field in fields_of(ResultRow)) == tuple(result_table.c.keys())
    assert tuple(field.name for field in bulk._SUCCESSES.own) == ("seq", "attempt", "request_id", *facts)
    assert results.TABLE_COLUMNS[-len(facts) :] == facts
    assert set(facts) <= set(CSV_COLUMNS)
    assert set(facts) <= set(PARQUET_COLUMNS)


def test_a_layout_writes_each_column_once():
    """Common columns come first, omitted columns are not written, and an upsert replaces all but the key."""
    what = layout("bodies", common=("shard_id",))
    assert what.names == "shard_id, seq, body"
    assert what.replacing == "body = excluded.body"
    assert layout("attempts", common=("kind",), without=("workload_id", "attempt")).names.startswith(
        "kind, shard_id, seq,"
    )
