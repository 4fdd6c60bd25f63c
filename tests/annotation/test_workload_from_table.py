"""From a table and a recipe to a workload: once, whole, and the same again."""

from __future__ import annotations

import datetime as dt
from contextlib import ExitStack
from decimal import Decimal

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from batchkit.annotation import presets, rendering, workload_from_table
from batchkit.annotation.parameters import Parameters
from batchkit.annotation.recipe import Prompt, Recipe, load_recipe
from batchkit.annotation.workload_from_table import ensure_workload, snapshot_path
from batchkit.answers.rules import load_rules
from batchkit.datasets import Snapshot, open_table, rows_of
from batchkit.engine.runtime import Runner
from batchkit.errors import InputInvalid, SpoolError, UsageError, WorkloadConflict
from batchkit.files import jsonl
from batchkit.settings import load_settings
from batchkit.steps.split import SplitOptions
from batchkit.store import results
from tests.workloads import read_lines, write_mixed

MODEL = "openai/gpt-oss-20b"


ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def write_table(path, count=30, *, text="good {}"):
    """Write a table of texts as CSV and open it."""
    lines = (f"r{number},{text.format(number)}" for number in range(1, count + 1))
    path.write_text("\n".join(["id,text", *lines, ""]))
    return open_table([str(path)])


@pytest.fixture
def open_runner(sqlite_url, tmp_path):
    """Give a function that opens a runner which has nobody to send anything to."""
    with ExitStack() as stack:

        def start(**overrides):
            given = {"api_key": "gsk_test", "base_url": "http://127.0.0.1:9/openai/v1", **overrides}
            settings = load_settings(home=tmp_path / "home", database_url=sqlite_url, **given)
            return stack.enter_context(Runner(settings))

        yield start


@pytest.fixture
def runner(open_runner):
    """Give a runner that has nobody to send anything to."""
    return open_runner()


@pytest.fixture
def table(tmp_path):
    """Give a table of 30 texts."""
    return write_table(tmp_path / "reviews.csv")


def asking(prompt="Kind? {{ text }}", **fields):
    """Make a recipe."""
    return presets.annotation(prompt, **{"models": [MODEL], **fields})


def texts_of(path):
    """Read the texts of a snapshot in order."""
    return [row["text"] for batch in Snapshot.open(path).batches() for row in rows_of(batch)]


class Killed(BaseException):
    """What ends a process in a test."""


def killed_at(moment):
    """Give a listener that dies at its ``moment``-th call."""
    calls = []

    def listen(_more):
        calls.append(1)
        if len(calls) == moment:
            raise Killed

    return listen


def test_a_table_becomes_a_workload_that_knows_what_it_was_made_of(runner, table, tmp_path):
    """Recipe, rules and rows are kept with it, and its requests are answered."""
    recipe = asking(models=[MODEL, "openai/gpt-oss-120b"], choices=("yes", "no"), tries=2, key="id")
    rows: list[int] = []
    lines: list[int] = []
    workload = ensure_workload(runner, table, recipe, advance=rows.append, checked=lines.append)
    assert (sum(rows), sum(lines), workload.request_count) == (30, 60, 60)
    assert workload.name.startswith("reviews-")
    assert workload.source == "reviews"
    kept = load_recipe(workload.recipe or "")
    assert kept == workload_from_table.with_table(recipe, table)
    assert load_rules(workload.answer_rules) == recipe.rules
    assert texts_of(snapshot_path(runner, workload)) == [f"good {number}" for number in range(1, 31)]
    assert list((tmp_path / "home" / "scratch").iterdir()) == []


def test_the_same_again_renders_nothing_and_a_name_can_be_chosen(runner, table, tmp_path):
    """Also when only how the table is called has changed, or how often bad answers are asked for again."""
    first = ensure_workload(runner, table, asking(), name="mine")
    (tmp_path / "other").mkdir()
    copy = write_table(tmp_path / "other" / "renamed.csv")
    options = SplitOptions(max_attempts=9)
    again = ensure_workload(runner, copy, asking(tries=7), name="mine", options=options, advance=killed_at(1))
    assert again.id == first.id
    assert again.policy.max_attempts == 9
    tries = [jsonl.loads(workload.answer_rules or "")["tries"] for workload in (first, again)]
    assert tries == [3, 7]


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": "Really kind? {{ text }}"},
        {"choices": ("yes", "no")},
        {"models": ["openai/gpt-oss-120b"]},
        {"samples": 2},
        {"limit": 10},
        {"key": "id"},
        {"system": "Be brief."},
        {"instruct": False},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_whatever_changes_a_request_is_another_workload(table, changed):
    """The name is made of the content."""
    names = {
        workload_from_table.default_name(table, workload_from_table.with_table(recipe, table))
        for recipe in (asking(), asking(**changed))
    }
    assert len(names) == 2


def test_a_used_name_is_refused_for_another_recipe_table_or_input(runner, table, tmp_path):
    """The message says what differs."""
    ensure_workload(runner, table, asking(), name="mine")
    with pytest.raises(WorkloadConflict, match=r"another recipe \(prompts, samples differ"):
        ensure_workload(runner, table, asking("Is {{ text }} kind?", samples=2), name="mine")
    longer = write_table(tmp_path / "longer.csv", 31)
    with pytest.raises(WorkloadConflict, match="the table's content"):
        ensure_workload(runner, longer, asking(), name="mine")
    source = write_mixed(tmp_path / "input.jsonl", 10)
    runner.split([source], name="work", options=SplitOptions())
    with pytest.raises(WorkloadConflict, match="was made from requests"):
        ensure_workload(runner, table, asking(), name="work")


@pytest.mark.parametrize("stage", ["advance", "checked"])
def test_a_process_that_dies_in_mid_work_leaves_nothing_half_done(open_runner, table, stage):
    """The next one begins anew, and every row is there once."""
    with pytest.raises(Killed):
        ensure_workload(open_runner(), table, asking(), name="mine", **{stage: killed_at(1)})
    after = open_runner()
    assert after.all_workloads() == []
    assert ensure_workload(after, table, asking(), name="mine").request_count == 30


def test_what_a_killed_process_left_in_its_scratch_folder_is_deleted(runner, table, tmp_path):
    """A process that is not there any more needs nothing."""
    owner = runner.owner.split("|")
    dead = tmp_path / "home" / "scratch" / "%7C".join([*owner[:2], "999999999", *owner[3:]]).replace("/", "%2F")
    living = tmp_path / "home" / "scratch" / "another-machine%7C0%7C1%7C-%7Cabc"
    for folder in (dead, living):
        folder.mkdir(parents=True)
        (folder / "requests.jsonl").write_bytes(b"{}\n")
    ensure_workload(runner, table, asking())
    assert not dead.exists()
    assert living.exists()


def test_all_bad_rows_are_told_together_before_anything_is_sent(runner, tmp_path):
    """The first twenty with their numbers, and how many there are."""
    (tmp_path / "mixed.jsonl").write_bytes(
        b"".join(jsonl.dumps({"text": "good" if number % 3 else None}) + b"\n" for number in range(1, 91))
    )
    mixed = open_table([str(tmp_path / "mixed.jsonl")])
    with pytest.raises(InputInvalid) as caught:
        ensure_workload(runner, mixed, asking())
    assert caught.value.count == 30
    assert [str(problem) for problem in caught.value.problems[:2]] == [
        "mixed, row 3: text is empty, so the row has no question",
        "mixed, row 6: text is empty, so the row has no question",
    ]
    assert len(caught.value.problems) == 20
    assert runner.all_workloads() == []


def test_a_request_that_cannot_be_cut_into_a_shard_is_told_by_its_row(runner, tmp_path):
    """Also when a row makes several requests."""
    (tmp_path / "long.csv").write_text(f"text\nshort\n{'x' * 9_000}\n")
    asked = asking(models=[MODEL, "openai/gpt-oss-120b"])
    with pytest.raises(InputInvalid) as caught:
        ensure_workload(
            runner, open_table([str(tmp_path / "long.csv")]), asked, options=SplitOptions(shard_bytes=5_000)
        )
    assert [str(problem).partition(": ")[0] for problem in caught.value.problems] == ["long, row 2", "long, row 2"]


def test_a_repeated_key_names_both_rows(runner, tmp_path):
    """Its requests could not be told apart."""
    (tmp_path / "twice.csv").write_text("id,text\na,x\nb,y\na,z\n")
    with pytest.raises(InputInvalid) as caught:
        ensure_workload(runner, open_table([str(tmp_path / "twice.csv")]), asking(key="id"))
    assert [str(problem) for problem in caught.value.problems] == [
        "twice, row 3: id: the key 'a' is that of row 1 already"
    ]


def test_parameters_that_groq_refuses_are_told_as_such(runner, table):
    """Not as a line of a file that the user has never seen."""
    wrong = Parameters(reasoning_format="raw", temperature=3)
    with pytest.raises(
        UsageError, match=r"^Groq would refuse the requests: temperature is 3.*reasoning_format is 'raw'"
    ):
        ensure_workload(runner, table, asking(schema={"type": "object"}, parameters=wrong))


def test_a_table_without_rows_is_refused(runner, tmp_path):
    """There is nothing to ask."""
    with pytest.raises(UsageError, match="has no rows"):
        ensure_workload(runner, write_table(tmp_path / "empty.csv", 0), asking())


def test_a_limit_takes_the_first_rows(runner, table):
    """Of the snapshot too."""
    workload = ensure_workload(runner, table, asking(limit=7))
    assert workload.request_count == 7
    assert len(texts_of(snapshot_path(runner, workload))) == 7


@ON_SQLITE
def test_the_table_goes_with_its_workload_when_that_is_cleaned(open_harness, table):
    """Until then it does not matter what becomes of the source."""
    harness = open_harness()
    workload = ensure_workload(harness.runner, table, asking(), name="mine")
    harness.runner.process(workload.id)
    path = snapshot_path(harness.runner, workload)
    assert path.stat().st_mode & 0o077 == 0
    harness.runner.clean("mine", keep_results=False)
    assert not path.exists()
    with pytest.raises(SpoolError, match="is missing"):
        snapshot_path(harness.runner, workload)


def test_a_shared_spool_has_the_table_for_every_machine(open_runner, table, tmp_path):
    """What one process put there, another one finds; nothing stays on this machine."""
    shared = {"spool_url": f"file://{tmp_path / 'shared'}"}
    workload = ensure_workload(open_runner(**shared), table, asking())
    other = open_runner(**shared)
    assert len(texts_of(snapshot_path(other, workload))) == 30
    assert snapshot_path(other, workload) == snapshot_path(other, workload)
    [kept] = (tmp_path / "shared").rglob(rendering.SNAPSHOT)
    kept.unlink()
    with pytest.raises(SpoolError, match="is missing"):
        snapshot_path(open_runner(**shared), workload)


def test_every_answer_comes_back_to_its_own_row(open_harness, table):
    """The emulator repeats the question, so each answer shows which row it belongs to."""
    harness = open_harness()
    workload = ensure_workload(harness.runner, table, asking("{{ id }} {{ text }}"), name="mine")
    assert harness.runner.process(workload.id).counts.succeeded == 30
    harness.runner.export("mine", harness.home.parent / "out.jsonl")
    said = [
        line["response"]["body"]["choices"][0]["message"]["content"]
        for line in read_lines(harness.home.parent / "out.jsonl")
    ]
    assert said == [f"Echo: r{number} good {number}" for number in range(1, 31)]


def test_a_truncated_answer_is_never_asked_for_with_more_than_its_model_writes(open_runner, tmp_path):
    """Whoever made the recipe, the workload knows what each of its models writes at most: beyond it the provider refuses."""
    small = "meta-llama/llama-4-scout-17b-16e-instruct"
    recipe = Recipe(kind="evaluate", prompts=(Prompt(user="{{ text }}"),), models=(small, MODEL))
    workload = ensure_workload(open_runner(), write_table(tmp_path / "t.csv", 2), recipe)
    rules = load_rules(workload.answer_rules)
    assert rules is not None
    assert (rules.cap_for(small), rules.cap_for(MODEL)) == (8_192, rules.max_tokens_cap)


@pytest.mark.parametrize(
    ("values", "kind", "keys"),
    [
        ([Decimal("1.50"), Decimal("2.00")], pa.decimal128(5, 2), ["1.50", "2.00"]),
        ([dt.date(2026, 1, 2), dt.date(2026, 1, 3)], pa.date32(), ["2026-01-02", "2026-01-03"]),
        ([1.0, 2.5], pa.float64(), ["1", "2.5"]),
        ([True, False], pa.bool_(), ["true", "false"]),
    ],
)
def test_key_is_written_as_it_is_shown(runner, tmp_path, values, kind, keys):
    """In the custom_ids, and where it repeats."""
    path = tmp_path / "keyed.parquet"
    for column, repeats in ((values, False), ([values[0], values[0]], True)):
        pq.write_table(pa.table({"id": pa.array(column, kind), "text": ["a", "b"]}), path)
        table = open_table([str(path)])
        if repeats:
            with pytest.raises(InputInvalid) as caught:
                ensure_workload(runner, table, asking(key="id"))
            assert f"the key {keys[0]!r} is that of row 1" in str(caught.value.problems[0])
        else:
            assert [
                row.custom_id.split(":")[0]
                for row in results_of(runner, ensure_workload(runner, table, asking(key="id")))
            ] == keys


def test_integers_beyond_64_bits_that_differ_are_two_keys(runner, tmp_path):
    """No double stands between them."""
    path = tmp_path / "t.jsonl"
    path.write_text("".join(f'{{"id":{10**30 + n},"text":"t"}}\n' for n in range(2)))
    workload = ensure_workload(runner, open_table([str(path)]), asking(key="id"))
    assert [row.custom_id.split(":")[0] for row in results_of(runner, workload)] == [str(10**30), str(10**30 + 1)]


def results_of(runner, workload):
    """List the requests of a workload."""
    with runner.store.read() as connection:
        return list(results.stream(connection, workload.id))
