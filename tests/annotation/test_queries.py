"""A query is asked again: unchanged rows send nothing, unfinished ones are finished first, changed ones are asked."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text

import batchkit
from batchkit.annotation import presets
from batchkit.annotation.query_rows import copied, is_of_query
from batchkit.annotation.recipe import load_recipe
from batchkit.annotation.workload_from_table import ensure_workload, with_table
from batchkit.api.table_question import TableQuestion
from batchkit.api.tables import begin_table
from batchkit.datasets import Snapshot
from batchkit.datasets.sql import SqlTable
from batchkit.emulator import Emulator, Scenario
from batchkit.engine.observer import Observer
from batchkit.engine.runtime import Runner
from batchkit.errors import InputInvalid, UsageError, WorkloadConflict
from batchkit.files import jsonl
from tests.cli.conftest import SPEED
from tests.steps.conftest import QUICK
from tests.workloads import read_lines

MODEL = "openai/gpt-oss-20b"
QUERY = "select id, body from reviews order by id"
ROWS = ["good", "bad", None, "fine"]


class Notes(Observer):
    """Remembers what is said."""

    def __init__(self):
        self.said = []

    def note(self, text):
        """Remember it."""
        self.said.append(text)


class Shop:
    """A database of reviews, and the question about them."""

    def __init__(self, url, settings, emulator, folder):
        self.url = url
        self.settings = settings
        self.emulator = emulator
        self.output = folder / "out.jsonl"
        self.notes = Notes()
        self._engine = create_engine(url)
        self.execute("create table reviews (id integer primary key, body text)")
        self.add(1, ROWS)

    def execute(self, statement, **values):
        """Change the reviews."""
        with self._engine.begin() as connection:
            connection.execute(text(statement), values)

    def add(self, first, bodies):
        """Add reviews."""
        for number, body in enumerate(bodies, first):
            self.execute("insert into reviews values (:id, :body)", id=number, body=body)

    def ask(self, *, query=QUERY, **options):
        """Ask about the rows as they are now."""
        given = {"models": MODEL, "key": "id", "on_empty": "skip", "output": self.output, **options}
        return batchkit.annotate(
            self.url, "{{ body }}", query=query, settings=self.settings, observer=self.notes, **given
        )

    def begin(self, name=None):
        """Make the workload of the rows as they are now, and send nothing."""
        recipe = presets.annotation("{{ body }}", models=[MODEL], key="id", on_empty="skip")
        question = TableQuestion(recipe=recipe, parts=[self.url], query=QUERY, name=name)
        with Runner(self.settings) as runner:
            return begin_table(runner, question)[1]

    def answers(self):
        """Read what the output has."""
        return {row["id"]: row["answer"] for row in read_lines(self.output)}

    @property
    def bought(self):
        """How many requests the provider has executed."""
        return self.emulator.ledger().totals.requests_executed

    def close(self):
        """Let go of the database."""
        self._engine.dispose()


@pytest.fixture
def shop(empty_database_url, sqlite_url, tmp_path):
    """Give a database of reviews of each kind, and an emulator that repeats the question."""
    with Emulator(tmp_path / "emulator", Scenario(), speed=SPEED) as emulator:
        settings = batchkit.load_settings(
            api_key=emulator.api_key,
            base_url=emulator.base_url,
            database_url=sqlite_url,
            home=tmp_path / "home",
            **QUICK,
        )
        opened = Shop(empty_database_url, settings, emulator, tmp_path)
        yield opened
        opened.close()


def test_rows_that_have_changed_are_asked_and_rows_that_have_not_send_nothing(shop):
    """A changed, a new and a filled row; another text of the query with the same rows is the same workload."""
    first = shop.ask()
    assert shop.answers() == {1: "Echo: good", 2: "Echo: bad", 3: None, 4: "Echo: fine"}
    assert shop.ask().workload.id == first.workload.id
    assert shop.ask(query="select * from reviews where id > 0 order by id").workload.id == first.workload.id
    assert shop.bought == 3

    shop.execute("update reviews set body = 'CHANGED' where id = 1")
    shop.execute("update reviews set body = 'filled' where id = 3")
    shop.add(5, ["new"])
    second = shop.ask()
    assert second.workload.name != first.workload.name
    assert shop.answers() == {1: "Echo: CHANGED", 2: "Echo: bad", 3: "Echo: filled", 4: "Echo: fine", 5: "Echo: new"}
    shop.execute("delete from reviews where id > 2")
    assert shop.ask(limit=2).counts.total == 2
    shop.add(6, ["beyond the limit"])
    before = shop.bought
    assert shop.ask(limit=2).counts.total == 2
    assert shop.bought == before


def test_an_unfinished_workload_of_the_query_is_finished_first_and_both_are_said(shop):
    """Its rows are bought once; then those of now are asked, of which only the new one is bought."""
    begun = shop.begin()
    assert shop.begin().id == begun.id
    shop.add(5, ["new"])

    other = shop.ask(query="select id, body from reviews where id < 3 order by id", output=None)
    assert (other.counts.total, shop.notes.said) == (2, [])
    ended = shop.ask()
    assert (ended.workload.name != begun.name, ended.counts.total) == (True, 4)
    assert [f"'{begun.name}'" in said for said in shop.notes.said] == [True, True]
    assert "is finished first; then the rows of now are asked" in shop.notes.said[0]
    with Runner(shop.settings) as runner:
        assert runner.progress(begun.id).counts.succeeded == 3
    assert shop.bought == 2 + 3 + 1


def test_a_name_keeps_its_rows(shop):
    """The unfinished workload of that name is finished, and it is said that the rows of now need another one."""
    begun = shop.begin(name="mine")
    shop.add(5, ["new"])
    ended = shop.ask(name="mine")
    assert (ended.workload.id, ended.is_finished) == (begun.id, True)
    assert shop.answers() == {1: "Echo: good", 2: "Echo: bad", 3: None, 4: "Echo: fine"}
    assert "'mine' has those of then; give another --name" in shop.notes.said[-1]
    with pytest.raises(WorkloadConflict, match="the table's content differ"):
        shop.ask(name="mine")
    assert shop.ask(name="other").counts.total == 4


@pytest.mark.parametrize("name", [None, "mine"])
def test_a_workload_of_an_earlier_version_resumes_while_its_rows_are_the_same(shop, tmp_path, name):
    """It has the digest of the query in place of that of the rows."""
    recipe = presets.annotation("{{ body }}", models=[MODEL], key="id", on_empty="skip")
    table = SqlTable(shop.url, QUERY)
    kept, now = copied(table, recipe, tmp_path / "rows")
    before = recipe.model_copy(update={"table": table.name, "table_digest": table.query_digest()})
    with Runner(shop.settings) as runner:
        old = ensure_workload(runner, kept, before, name=name)
        assert is_of_query(old, now)
        assert not is_of_query(old, now.model_copy(update={"query_digest": "another"}))
    assert shop.ask(name=name).workload.id == old.id
    assert shop.bought == 3
    shop.add(5, ["new"])
    if name is None:
        assert shop.ask().counts.total == 4
    else:
        with pytest.raises(WorkloadConflict):
            shop.ask(name=name)


def test_a_table_of_the_results_database_is_not_written_over_by_its_own_query(shop):
    """It may be asked about, and written elsewhere."""
    assert shop.ask(output="table:labels").is_finished
    own = {"query": "select id, body from Labels", "on_empty": "error", "key": None}
    url, shop.url = shop.url, shop.settings.database_url
    with pytest.raises(UsageError, match="table:labels is read by the query"):
        shop.ask(output="table:labels", **own)
    with pytest.raises(InputInvalid):
        shop.ask(output="table:others", **own)
    shop.url = url
    assert shop.ask(output="table:labels").is_finished


def test_the_rows_of_a_query_are_read_once(shop, tmp_path):
    """What was digested is what is asked, though the database changes in between; the name is that of the database."""
    recipe = presets.annotation("{{ body }}", models=[MODEL])
    kept, made = copied(SqlTable(shop.url, QUERY), recipe, tmp_path / "rows")
    shop.execute("delete from reviews")
    assert isinstance(kept, type(Snapshot.open(tmp_path / "x.parquet")))
    assert sum(len(batch) for batch in kept.batches()) == len(ROWS)
    assert kept.name == SqlTable(shop.url, QUERY).name
    assert with_table(made, kept) == made
    stored = load_recipe(jsonl.dumps(made.model_dump(mode="json")).decode())
    assert stored.essence().query_digest == ""
