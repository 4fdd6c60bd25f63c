"""Rows that people settle: who gets which row, what is stored, and what the output says."""

from __future__ import annotations

import pytest
from pyarrow import parquet as pq

from batchkit.annotation.recipe import load_recipe
from batchkit.annotation.row_answers import write_output_table
from batchkit.annotation.totals import totals_of_rows
from batchkit.engine.runtime import Runner
from batchkit.settings import load_settings
from batchkit.stats.gold import GoldReport
from batchkit.store import reviews
from batchkit.store.engine import Store
from batchkit.view.reviewing import CLAIM_SECONDS
from tests.view.conftest import serving
from tests.view.labelled import THREE, annotate, is_disputed, right

ROWS = 24
DISPUTED = [number + 1 for number in range(ROWS) if is_disputed(number)]


class Person:
    """A reviewer with a tab of their own."""

    def __init__(self, view, workload, name, tab="a"):
        self.view, self.fields = view, {"name": workload.name, "reviewer": name, "tab": tab}

    def call(self, what, **more):
        """Make a call of the page's script."""
        return self.view.post(f"/review/{what}", **{**self.fields, **more})

    def take(self, **more):
        """Take the next row; None when there is none."""
        return self.view.value(self.call("next", **more))["row"]

    def decide(self, number, label, **more):
        """Decide a row."""
        return self.call("decide", number=number, **{"value.answer": label, **more})


@pytest.fixture
def workload(database_url, tmp_path):
    """Return a finished annotation of 24 rows, six of them disputed."""
    return annotate(tmp_path / "home", database_url, tmp_path, ROWS)


@pytest.fixture
def clock(view):
    """Return a clock of the server that stands until it is moved."""
    reader = view.server._view.reader
    now = [1_760_000_000.0]
    reader.clock = lambda: now[0]
    return now


def output(database_url, tmp_path, workload):
    """Write the output table and return its rows."""
    target = tmp_path / "out.parquet"
    with Runner(load_settings(home=tmp_path / "home", database_url=database_url)) as runner:
        write_output_table(runner, runner.find(workload.name), target)
    return pq.read_table(target).to_pylist()


def test_a_decision_is_stored_and_wins_in_the_output(view, workload, clock, database_url, tmp_path):
    """With name, time and note; the models' answers stay beside it; the proposal is the vote of the models."""
    ada = Person(view, workload, "  Ada\x1b[31m  Lovelace ")
    row = ada.take()
    assert (row["number"], row["reason"]) == (DISPUTED[0], "disputed")
    assert dict(row["cells"])["id"] == "review-1"
    assert [values for _, values in row["answers"]][1] != row["answers"][0][1]
    assert row["proposed"] == {"answer": right(1)}
    assert view.value(ada.decide(row["number"], "mixed", note="a closer look")) == {"stored": True}

    store = Store(database_url)
    with store.read() as connection:
        found = reviews.of_rows(connection, workload.id, [row["number"]])[row["number"]]
    store.close()
    assert found.reviewer == "Ada␛[31m Lovelace"
    assert (found.at, found.note, found.decision) == (clock[0], "a closer look", '{"answer":"mixed"}')
    rows = output(database_url, tmp_path, workload)
    assert [(one["answer"], one["reviewed"]) for one in rows[:3]] == [
        (right(0), False),
        ("mixed", True),
        (right(2), False),
    ]
    assert len(rows[1]["answers"]) == 3


def test_several_people_never_get_the_same_row(view, workload):
    """Neither two people, nor one in two tabs; a row that one of them was given back is free again."""
    people = [Person(view, workload, "Ada"), Person(view, workload, "Ada", "b"), Person(view, workload, "Bob", "c")]
    taken = [person.take()["number"] for person in people]
    assert sorted(taken) == DISPUTED[:3]
    assert people[0].take()["number"] == taken[0], "who asks again keeps the row"
    assert people[2].decide(taken[0], "mixed").status == 409
    people[0].call("skip", number=taken[0])
    assert people[0].take(skipped=str(taken[0]))["number"] == DISPUTED[3]
    assert people[2].take()["number"] == taken[0]


def test_a_killed_reviewer_leaves_no_row_behind(view, workload, clock):
    """A claim that nobody renews passes to the next one, and what the first one then sends is refused."""
    ada, bob = Person(view, workload, "Ada"), Person(view, workload, "Bob", "b")
    number = ada.take()["number"]
    clock[0] += CLAIM_SECONDS - 1
    assert bob.take()["number"] != number
    assert view.value(ada.call("hold", number=number)) == {"held": True}
    clock[0] += CLAIM_SECONDS - 1
    assert bob.take(skipped="")["number"] != number
    clock[0] += 2
    carl = Person(view, workload, "Carl", "c")
    assert carl.take()["number"] == number
    assert ada.call("hold", number=number).status == 409
    assert ada.decide(number, "mixed").status == 409
    assert view.value(carl.decide(number, "mixed")) == {"stored": True}
    assert ada.decide(number, "positive").status == 409
    clock[0] += 2 * CLAIM_SECONDS
    assert bob.call("hold", number=number).status == 409, "what is decided is no claim that ends"


def test_the_last_decision_can_be_taken_back(view, workload):
    """The row is before the reviewer again, with what was chosen and noted; nobody takes back what another one decided."""
    ada, bob = Person(view, workload, "Ada"), Person(view, workload, "Bob", "b")
    number = ada.take()["number"]
    ada.decide(number, "mixed", note="sure?")
    assert bob.call("undo", number=number).status == 409
    reply = view.value(ada.call("undo", number=number))
    assert (reply["done"], reply["row"]["number"]) == (0, number)
    assert (reply["row"]["proposed"], reply["row"]["note"]) == ({"answer": "mixed"}, "sure?")
    assert bob.take()["number"] != number
    assert view.value(ada.decide(number, "negative")) == {"stored": True}
    assert ada.call("undo", number=DISPUTED[-1]).status == 409


def test_the_end_of_a_review(view, workload, database_url, tmp_path):
    """Each disputed row once, then none is left; ``all`` has the others; decisions count as gold when asked."""
    ada = Person(view, workload, "Ada")
    seen = []
    while (row := ada.take()) is not None:
        seen.append(row["number"])
        ada.decide(row["number"], right(row["number"] - 1))
    assert seen == DISPUTED
    assert ada.take(all=1)["number"] == 1
    with Runner(load_settings(home=tmp_path / "home", database_url=database_url)) as runner:
        found = totals_of_rows(runner, runner.find(workload.name), load_recipe(workload.recipe), counts_reviews=True)
    figures = found.gold["answer"]
    assert {name: report.rows for name, report in figures.items()} == dict.fromkeys([*THREE, "vote"], len(DISPUTED))
    shares = {name: of.accuracy.mean for name, of in figures.items() if isinstance(of, GoldReport) and of.accuracy}
    assert (shares[THREE[0]], shares[THREE[1]], shares["vote"]) == (1.0, 0.0, 1.0)
    page = view.get("/annotation", name=workload.name, reviews=1)
    assert f"Decided by people: Ada {len(DISPUTED)}" in page.words
    assert "annotators and people" in page.words
    assert "annotators and people" not in view.get("/annotation", name=workload.name).words


def test_answers_that_break_the_rules_are_refused(view, workload):
    """Another label, nothing at all, a row that is none, a name that is none: nothing is stored."""
    ada = Person(view, workload, "Ada")
    number = ada.take()["number"]
    for reply in (
        ada.decide(number, "excellent"),
        ada.call("decide", number=number),
        ada.decide("1e3", "mixed"),
        ada.decide("", "mixed"),
        Person(view, workload, " ").call("next"),
        Person(view, workload, "Ada", "<b>").call("next"),
        Person(view, workload, "Ada").call("next", name="other"),
    ):
        assert reply.status in {400, 404}, reply.text
    assert ada.decide(10_000_000, "mixed").status == 409
    assert view.server._view.reviewing.done(view.server._view.reviewing.task(workload.name)) == 0


def test_objects_have_a_question_for_each_column(sqlite_url, tmp_path):
    """Labels and flags are chosen, texts and numbers written; the decision has their types."""
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["good", "bad"]}, "spam": {"type": "boolean"}, "stars": {"type": "integer"}},
        "required": ["kind", "spam", "stars"],
        "additionalProperties": False,
    }
    workload = annotate(
        tmp_path / "home", sqlite_url, tmp_path, 4, models=THREE[:1], choices=(), schema=schema, key="id"
    )
    with serving(tmp_path / "home", sqlite_url) as view:
        page = view.get("/review", name=workload.name)
        assert page.text.count("<fieldset") == 3
        assert page.text.count('class="choice"') == 4
        ada = Person(view, workload, "Ada")
        row = ada.take()
        assert row["reason"] == "unanswered"
        given = {"value.kind": "bad", "value.spam": "true", "value.stars": "3"}
        assert view.value(ada.call("decide", number=row["number"], **given)) == {"stored": True}
        assert ada.call("decide", number=ada.take()["number"], **{**given, "value.stars": "many"}).status == 400
    assert (
        output(sqlite_url, tmp_path, workload)[0] | {"kind": "bad", "spam": True, "stars": 3, "reviewed": True}
        == (output(sqlite_url, tmp_path, workload)[0])
    )
