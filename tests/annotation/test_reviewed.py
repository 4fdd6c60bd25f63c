"""What people decided comes back: stored apart from the models' answers, and used in the output."""

from __future__ import annotations

import pytest
from pyarrow import parquet as pq

from batchkit.annotation.recipe import load_recipe
from batchkit.annotation.reviewed import read_decisions, store_decisions
from batchkit.annotation.row_answers import write_output_table
from batchkit.datasets import open_table
from batchkit.engine.runtime import Runner
from batchkit.errors import UsageError
from batchkit.settings import load_settings
from tests.annotation.test_row_answers import MODELS, Table
from tests.workloads import write_lines

ROWS = [{"id": "a", "text": "one"}, {"id": "b", "text": "two"}, {"id": "c", "text": "three"}]
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["good", "bad"]}, "stars": {"type": "integer"}, "spam": {"type": "boolean"}},
    "required": ["kind", "stars", "spam"],
    "additionalProperties": False,
}


@pytest.fixture
def table(database_url, tmp_path):
    """Return a table of three rows and a runner for it; once on each kind of database."""
    settings = load_settings(
        home=tmp_path / "home", database_url=database_url, api_key="gsk_none", base_url="http://127.0.0.1:1"
    )
    with Runner(settings) as runner:
        yield Table(runner, write_lines(tmp_path / "rows.jsonl", ROWS))


def decide(table, workload, path):
    """Store the decisions of a file."""
    recipe = load_recipe(workload.recipe)
    source = open_table([str(table.path)]).schema
    decisions = read_decisions(recipe, open_table([str(path)]), source)
    return store_decisions(table.runner, workload, recipe, decisions, reviewer=str(path))


def rows_of(table, workload, folder, **options):
    """Write the output and return its rows."""
    target = folder / "out.parquet"
    write_output_table(table.runner, workload, target, **options)
    return pq.read_table(target).to_pylist()


def test_a_corrected_review_wins_in_the_output(table, tmp_path):
    """The rows to review are written, corrected and given back; models' answers stay beside, and the rows need no review any more."""
    workload = table.annotation(models=MODELS, choices=["good", "bad"], key="id")
    table.settle(workload, ["good", "bad", "good", "good", "bad", "good"])
    review = tmp_path / "disputed.csv"
    assert write_output_table(table.runner, workload, review, review_only=True) == 2
    head, first, second = review.read_text().splitlines()
    assert first.startswith("a,one,,")
    review.write_text("\n".join([head, first.replace("a,one,,", "a,one,bad,"), second]) + "\n")

    assert decide(table, workload, review) == 1
    rows = rows_of(table, workload, tmp_path)

    assert [(row["answer"], row["reviewed"]) for row in rows] == [("bad", True), ("good", False), (None, False)]
    assert [answer["value"] for answer in rows[0]["answers"]] == ["good", "bad"]
    assert rows[0]["agreement"] == 0.5
    assert write_output_table(table.runner, workload, review, review_only=True) == 1


def test_a_later_decision_replaces_an_earlier_one(table, tmp_path):
    """Of the same row; others stay."""
    workload = table.annotation(models=MODELS[:1], choices=["good", "bad"])
    table.settle(workload, ["good", "good", "good"])
    for lines in (["1,bad", "2,bad"], ["2,good"]):
        (tmp_path / "decided.csv").write_text("\n".join(["custom_id,answer", *lines]) + "\n")
        decide(table, workload, tmp_path / "decided.csv")

    assert [row["answer"] for row in rows_of(table, workload, tmp_path)] == ["bad", "good", "good"]


def test_objects_are_decided_whole_and_typed(table, tmp_path):
    """Numbers and truth values of a CSV are those of the schema."""
    workload = table.annotation(models=MODELS[:1], schema=SCHEMA, key="id")
    table.settle(workload, ['{"kind":"good","stars":1,"spam":false}'] * 3)
    (tmp_path / "decided.csv").write_text("id,kind,stars,spam\nb,bad,5,TRUE\n")
    decide(table, workload, tmp_path / "decided.csv")

    second = rows_of(table, workload, tmp_path)[1]
    assert (second["kind"], second["stars"], second["spam"], second["reviewed"]) == ("bad", 5, True, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,answer\na,odd\n", "row 1: 'odd' is none of"),
        ("id,answer\na,good\na,bad\n", "row 2: the row 'a' is decided twice"),
        ("id,answer\nz,good\n", "1 keys belong to no row: 'z'"),
        ("answer\ngood\n", "no column 'id'"),
        ("id,kind\na,good\n", "no column 'answer'"),
    ],
)
def test_what_cannot_be_a_decision_is_refused_and_nothing_is_stored(table, tmp_path, text, words):
    """A wrong label, a contradiction, a key of another table, a missing column."""
    workload = table.annotation(models=MODELS[:1], choices=["good", "bad"], key="id")
    table.settle(workload, ["good"] * 3)
    (tmp_path / "decided.csv").write_text(text)

    with pytest.raises(UsageError, match=words):
        decide(table, workload, tmp_path / "decided.csv")
    assert "reviewed" not in rows_of(table, workload, tmp_path)[0]
