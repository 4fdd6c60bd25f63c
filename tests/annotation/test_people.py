"""Labels of people: figures of annotators and of their vote, and votes that are weighed by errors."""

from __future__ import annotations

from typing import Any

import pytest
from pyarrow import parquet as pq

from batchkit.annotation.columns import value_columns
from batchkit.annotation.people import gold_columns, gold_text
from batchkit.annotation.presets import annotation, moderation
from batchkit.annotation.row_answers import write_output_table
from batchkit.annotation.totals import VOTE, totals
from batchkit.annotation.voting import Voting
from batchkit.annotation.weighing import check_people, weighted_votes
from batchkit.engine.runtime import Runner
from batchkit.errors import UsageError
from batchkit.settings import load_settings
from tests.annotation.test_row_answers import MODELS, Table
from tests.workloads import write_lines

KINDS = {"choices": ["good", "bad"]}
LABELS = {
    "schema": {
        "type": "object",
        "properties": {"mood": {"enum": ["good", "bad"]}, "spam": {"type": "boolean"}, "stars": {"type": "integer"}},
        "required": ["mood", "spam", "stars"],
        "additionalProperties": False,
    }
}


def recipe_of(**options):
    """Return a recipe of three annotators."""
    return annotation("{{ text }}", models=MODELS[:1], **{"samples": 3, **options})


def voting_of(recipe):
    """Return the voting of a recipe."""
    return Voting(recipe, value_columns(recipe))


@pytest.fixture
def open_table(sqlite_url, tmp_path):
    """Return a function that writes a table; where it lies makes no difference here."""
    settings = load_settings(
        home=tmp_path / "home", database_url=sqlite_url, api_key="gsk_none", base_url="http://127.0.0.1:1"
    )
    with Runner(settings) as runner:
        yield lambda rows, name="rows": Table(runner, write_lines(tmp_path / f"{name}.jsonl", rows))


@pytest.fixture
def kinds(open_table):
    """Return the workload of six rows, of which four have a label of people and the last annotator is always wrong on good ones."""
    rows = [
        {"text": f"row {number}", "kind": kind} for number, kind in enumerate(["good", "Good", "bad", "bad", "", None])
    ]
    table: Table = open_table(rows)
    workload = table.annotation(models=MODELS[:1], samples=3, **KINDS)
    table.settle(
        workload,
        [
            *("good", "good", "bad"),
            *("good", "bad", "bad"),
            *("bad", "bad", "bad"),
            *("bad", "good", "bad"),
            *("good", "bad", "bad"),
            *("good", ("answer_invalid", "?"), "bad"),
        ],
    )
    return table, workload


def test_each_annotator_and_the_vote_are_measured(kinds):
    """Rows without a label of people are left out; case does not matter in choices."""
    table, workload = kinds
    found: Any = totals(table.runner, workload, gold=["kind"]).gold["answer"]

    names = [f"{MODELS[0]} #{number}" for number in (1, 2, 3)]
    assert list(found) == [*names, VOTE]
    assert [found[name].rows for name in found] == [4, 4, 4, 4]
    assert [found[name].accuracy.mean for name in found] == [1.0, 0.5, 0.5, 0.75]
    assert found[names[2]].confusion == {("good", "bad"): 2, ("bad", "bad"): 2}


def test_weights_let_a_good_annotator_outvote_two_poor_ones(kinds, tmp_path):
    """With the labels of people, the vote is that of the annotator who was right, and its probability is told."""
    table, workload = kinds
    votes = weighted_votes(table.runner, workload, gold=["kind"], weights="gold")
    write_output_table(table.runner, workload, tmp_path / "out.parquet", weighted=votes)
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()

    assert [row["answer"] for row in rows] == ["good", "good", "bad", "bad", "good", "good"]
    assert all(0.9 < row["confidence"] <= 1 for row in rows)
    found: Any = totals(table.runner, workload, gold=["kind"], weighted=votes).gold["answer"]
    assert found[VOTE].accuracy.mean == 1.0


def test_weights_can_be_learnt_without_people(kinds, tmp_path):
    """Every row has a label and a probability, and a row without an answer neither."""
    table, workload = kinds
    votes = weighted_votes(table.runner, workload, gold=[], weights="dawid-skene")
    write_output_table(table.runner, workload, tmp_path / "out.parquet", weighted=votes)
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()

    assert {row["answer"] for row in rows} <= {"good", "bad"}
    assert all(0.5 <= row["confidence"] <= 1 for row in rows)


def test_columns_of_people_are_named_for_their_labels():
    """One label needs no name, several do; a column with a sign of equality is found first."""
    lone, several = voting_of(recipe_of(**KINDS)), voting_of(recipe_of(**LABELS))

    assert gold_columns(["kind"], lone, ["text", "kind"]) == {"answer": "kind"}
    assert gold_columns(["a=b"], lone, ["text", "a=b"]) == {"answer": "a=b"}
    named = gold_columns(["mood=m", "stars=s"], several, ["m", "s"])
    assert named == {"mood": "m", "stars": "s"}
    for given, words in [("kind", "which of mood, spam, stars"), ("x=m", "no label or number 'x'"), ("mood=y", "'y'")]:
        with pytest.raises(UsageError, match=words):
            gold_columns([given], several, ["kind", "m"])


@pytest.mark.parametrize(
    ("value", "label", "text"),
    [(" GOOD ", "answer", "good"), ("", "answer", None), (None, "answer", None), ("odd", "answer", "odd")],
)
def test_a_choice_of_people_is_the_choice_that_it_names(value, label, text):
    """Blanks and case are no difference; what is no choice stays what it is."""
    assert gold_text(value, recipe_of(**KINDS), label) == text


def test_true_and_false_and_verdicts_are_read():
    """Truth values of CSV and Parquet, and the words of a moderation."""
    recipe = recipe_of(**LABELS)
    assert [gold_text(value, recipe, "spam") for value in (True, "TRUE", "false")] == ["true", "true", "false"]
    assert [gold_text(value, moderation("text"), "safe") for value in ("safe", "unsafe", True)] == [
        "true",
        "false",
        "true",
    ]


@pytest.mark.parametrize(
    ("options", "gold", "weights", "words"),
    [
        ({"number": (1, 5)}, [], "dawid-skene", "labels of a fixed set"),
        ({**KINDS, "samples": 1}, [], "dawid-skene", "one annotator"),
        (KINDS, [], "gold", "needs the labels of people"),
        (KINDS, ["nothing"], None, "no column 'nothing'"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_sent(options, gold, weights, words):
    """Votes on numbers, of one annotator, or without the labels that they need."""
    with pytest.raises(UsageError, match=words):
        check_people(recipe_of(**options), ["text", "kind"], gold=gold, weights=weights)


def test_ratings_of_people_are_numbers(open_table):
    """Errors instead of accuracies; a cell that is no number is named."""
    table: Table = open_table([{"text": "a", "stars": "4"}, {"text": "b", "stars": "2"}, {"text": "c", "stars": ""}])
    workload = table.annotation(models=MODELS[:1], number=(1, 5))
    table.settle(workload, ["5", "2", "1"])

    found: Any = totals(table.runner, workload, gold=["stars"]).gold["answer"]
    assert [(report.rows, report.mean_error) for report in found.values()] == [(2, 0.5)]

    other: Table = open_table([{"text": "a", "stars": "many"}], "other")
    workload = other.annotation(models=MODELS[:1], number=(1, 5))
    other.settle(workload, ["5"])
    with pytest.raises(UsageError, match="no number: 'many'"):
        totals(other.runner, workload, gold=["stars"])
