"""Runs from their beginning to their verdict: resumed, repeated, shared and compared."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pyarrow as pa
import pytest
from pyarrow import parquet as pq
from sqlalchemy import text

from batchkit.annotation.row_answers import read_row_answers
from batchkit.api.modes import RunMode
from batchkit.api.reading import export_results
from batchkit.emulator import Scenario
from batchkit.emulator.faults.lines import FailLines
from batchkit.emulator.scenarios.scenario import Reply
from batchkit.errors import InputInvalid, UnknownWorkload, UsageError, WorkloadConflict
from batchkit.evaluation import runs
from batchkit.evaluation.open_runs import open_runs
from batchkit.evaluation.results import scored_rows, summary
from batchkit.evaluation.suite_file import load_suite
from batchkit.files import jsonl
from batchkit.reports.evaluation_rows import WorstRows
from tests.evaluation.support import (
    LARGE,
    REVIEWS,
    SMALL,
    drive,
    means,
    night,
    reviews_suite,
    write_reviews,
    write_suite,
    wrong,
)
from tests.steps.conftest import open_harness

__all__ = ["open_harness"]

JUDGED = """
  - kind: judge
    model: openai/gpt-oss-120b
    prompt: "Is this fair? {{ text }}: {{ model_answer }}"
    answers:
      schema: {type: object, properties: {verdict: {enum: [fair, unfair]}}, required: [verdict], additionalProperties: false}
    verdict: verdict
    scores: {fair: 1, unfair: 0}
    human: {answer: seen, label: judged}
alarms:"""


def test_a_run_scores_every_answer_with_where_it_comes_from(open_harness, tmp_path):
    """Each score stands beside its row, prompt, model, request and batch; means are over rows, and over each slice."""
    harness = open_harness(wrong(0.3))
    found = night(harness.runner, reviews_suite(tmp_path))
    assert means(found)[LARGE] == 1.0
    assert 0.4 < means(found)[SMALL] < 0.95
    assert [(metric.slice, metric.count) for metric in found.metrics if metric.model == SMALL] == [
        (None, 24),
        ("language=de", 16),
        ("language=en", 8),
    ]
    assert (found.verdict, found.previous, found.failed_answers) == ("first", None, 0)
    with harness.runner.store.read() as connection:
        rows = connection.execute(text("SELECT * FROM scored ORDER BY seq")).mappings().all()
    assert len(rows) == 48
    last = rows[-1]
    assert (last["suite"], last["run"], last["model"], last["row_key"]) == ("reviews", "reviews-1", LARGE, "r23")
    assert (last["row_number"], last["custom_id"], last["workload"]) == (24, "r23:gpt-oss-120b:1", "reviews-1")
    assert last["batch_id"].startswith("batch_")
    assert last["suite_version"] == found.suite_version
    assert sum(row["score"] for row in rows if row["model"] == SMALL) == pytest.approx(24 * means(found)[SMALL])


def test_a_planted_fall_is_found_and_the_rows_that_fell_are_named(open_harness_on_sqlite, tmp_path):
    """One model gets worse from one night to the next: its alarm goes off, the other's does not."""
    harness = open_harness_on_sqlite()
    file = reviews_suite(tmp_path, 80)
    assert night(harness.runner, file).verdict == "first"
    harness.emulator.set_scenario(Scenario(faults=(wrong(0.25),)))
    found = night(harness.runner, file)
    assert (found.run, found.previous, found.verdict) == ("reviews-2", "reviews-1", "regressed")
    changes = {change.model: change for change in found.changes}
    assert (changes[SMALL].is_alarm, changes[LARGE].is_alarm) == (True, False)
    assert changes[SMALL].before == 1.0
    assert changes[SMALL].flipped_down == round(80 * (1 - changes[SMALL].after))
    assert changes[SMALL].pairs == 80
    fell = [row for row in scored_rows(harness.runner, "reviews-2") if row.flipped == "down"]
    assert len(fell) == changes[SMALL].flipped_down
    assert {row.model for row in fell} == {SMALL}
    assert all(row.scores == {"accuracy": 0.0} and row.expected in {"positive", "negative"} for row in fell)


def test_an_unfinished_run_is_resumed_and_a_finished_one_begins_the_next(sqlite_harness, tmp_path):
    """The same command resumes the run until the verdict; nothing is asked or scored twice."""
    runner, file = sqlite_harness.runner, reviews_suite(tmp_path, 6)
    first = runs.begin(runner, file)
    assert runs.begin(runner, file).name == first.name
    workload = runs.next_workload(runner, first)
    assert workload is not None
    drive(sqlite_harness.open_runner(), runs.begin(runner, file))
    once, again = runs.conclude(runner, first), runs.conclude(runner, first)
    assert (once.is_ours, again.is_ours) == (True, False)
    assert once.summary == again.summary == summary(runner, first.name)
    assert runs.begin(runner, file).name == "reviews-2"
    assert sqlite_harness.emulator.ledger().totals.requests_executed == 12
    assert summary(runner, "reviews-2").verdict == "unfinished"


def test_a_run_that_was_killed_while_it_was_scored_ends_the_same(sqlite_harness, tmp_path, monkeypatch):
    """Scores that are there stay; the rest comes when it is done again."""
    runner, file = sqlite_harness.runner, reviews_suite(tmp_path, 12)
    monkeypatch.setattr("batchkit.evaluation.scoring._ROWS_PER_COMMIT", 5)
    evaluation = runs.begin(runner, file)
    drive(runner, evaluation)

    def die(_rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.conclude(runner, evaluation, advance=die)
    with runner.store.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM scores")).scalar_one() == 10
    found = runs.conclude(runner, evaluation).summary
    assert means(found) == {SMALL: 1.0, LARGE: 1.0}
    with runner.store.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM scores")).scalar_one() == 24


def test_two_commands_that_begin_at_once_share_one_run(open_harness, tmp_path, monkeypatch):
    """The second one looked for an unfinished run before the first one had stored its own: nothing is asked twice."""
    harness = open_harness()
    file = reviews_suite(tmp_path, 3)
    look = runs._referred_run
    results = [None, None]
    monkeypatch.setattr(runs, "_referred_run", lambda *asked, **how: results.pop() if results else look(*asked, **how))
    first, second = runs.begin(harness.runner, file), runs.begin(harness.open_runner(), file)
    assert first == second
    assert [found.name for found in open_runs(harness.runner)] == [first.name]


def test_a_scheduled_moment_has_one_run_however_often_it_fires(open_harness, tmp_path):
    """Repeated, late and doubled starts for one moment find the same run; another moment is another run."""
    runner, file = open_harness().runner, reviews_suite(tmp_path, 3)
    moment = 1_750_000_000.0
    with ThreadPoolExecutor(4) as pool:
        begun = list(pool.map(lambda _: runs.begin(runner, file, scheduled_for=moment).name, range(8)))
    assert set(begun) == {"reviews-20250615T150640Z"}
    night(runner, file, scheduled_for=moment)
    assert runs.begin(runner, file, scheduled_for=moment).verdict == "first"
    assert runs.begin(runner, file, scheduled_for=moment + 86_400).name == "reviews-20250616T150640Z"
    assert runs.begin(runner, file).name == "reviews-3"  # a run by hand is none of the schedule's


def test_collecting_finishes_runs_that_are_ready_and_leaves_the_rest(sqlite_harness, tmp_path):
    """A pass scores a run whose answers are there, hands another one to its judge, and waits for neither."""
    runner = sqlite_harness.runner
    file = reviews_suite(tmp_path, 6, REVIEWS.replace("alarms:", JUDGED.strip("\n")))
    evaluation = runs.begin(runner, file)
    main = runs.next_workload(runner, evaluation)
    assert main is not None
    assert list(runs.collect(runner)) == []
    runner.process(main.id)
    assert list(runs.collect(runner)) == []
    judge = runner.find("reviews-1.judge")
    assert judge.request_count == 12 + 4
    assert runs.due_runs(runner) == []
    runner.process(judge.id)
    (collected,) = runs.collect(runner)
    assert collected.summary is not None
    assert collected.summary.workload_names == ("reviews-1", "reviews-1.judge")
    assert means(collected.summary, "judge").keys() == {SMALL, LARGE}
    (agreed,) = collected.summary.judge_agreement
    assert (agreed.rows, agreed.scorer) == (4, "judge")
    assert open_runs(runner) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("{{ model_answer }}", "{{ modelanswer }}", "modelanswer"),
        ("  - kind: judge", "  - {kind: python, function: 'nowhere:fn'}\n  - kind: judge", "nowhere"),
    ],
)
def test_scorers_that_cannot_work_are_told_before_anything_is_paid_for(sqlite_harness, tmp_path, before, after, said):
    """A judge's prompt and a function of the user's are looked at when the run begins."""
    text = REVIEWS.replace("alarms:", JUDGED.strip("\n")).replace(before, after)
    with pytest.raises(UsageError) as raised:
        runs.begin(sqlite_harness.runner, reviews_suite(tmp_path, 3, text))
    problems = getattr(raised.value, "problems", ())
    assert said in f"{raised.value.message} {' '.join(map(str, problems))}"
    assert open_runs(sqlite_harness.runner) == []


@pytest.mark.parametrize(("missing", "expected", "count"), [("zero", 0.5, 8), ("ignore", 1.0, 4)])
def test_a_failed_answer_is_a_wrong_one_unless_the_suite_ignores_it(
    open_harness_on_sqlite, tmp_path, missing, expected, count
):
    """Both ways it is counted as an answer without a score."""
    broken = frozenset(f"r{number}:gpt-oss-20b:1" for number in range(4))
    harness = open_harness_on_sqlite(FailLines(custom_ids=broken, status=400))
    found = night(harness.runner, reviews_suite(tmp_path, 8, f"{REVIEWS}\nmissing: {missing}\n"))
    (metric,) = (metric for metric in found.metrics if metric.model == SMALL and metric.slice is None)
    assert (metric.mean, metric.count, metric.unscored) == (expected, count, 4)
    assert found.failed_answers == 4


def test_rows_are_paired_by_their_key_and_without_one_only_on_the_same_table(sqlite_harness, tmp_path):
    """A table that has changed is compared where rows have names; where they have none it is not, and that is said."""
    runner = sqlite_harness.runner
    night(runner, reviews_suite(tmp_path, 6))
    write_reviews(tmp_path, 9)
    found = night(runner, load_suite(tmp_path / "reviews.yaml"))
    assert [change.pairs for change in found.changes] == [6, 6]
    nameless = REVIEWS.replace(", key: id", "").replace("name: reviews", "name: nameless")
    file = load_suite(write_suite(tmp_path, nameless))
    night(runner, file)
    assert [change.pairs for change in night(runner, file).changes] == [9, 9]
    write_reviews(tmp_path, 7)
    changed = night(runner, file)
    assert changed.changes == ()
    assert changed.verdict == "incomparable"
    assert changed.differences == ("the table changed, and without a `key` no row can be paired",)
    assert "name the rows with `key`" in changed.notes[0]


def test_samples_of_one_row_count_as_one_row(sqlite_harness, tmp_path):
    """Three answers to a row are no three rows: the mean of a row's samples is what is measured and compared."""
    text = REVIEWS.replace("answers:", "samples: 3\nanswers:", 1)
    found = night(sqlite_harness.runner, reviews_suite(tmp_path, 5, text))
    assert [metric.count for metric in found.metrics if metric.slice is None] == [5, 5]
    rows = list(scored_rows(sqlite_harness.runner, "reviews-1"))
    assert [(row.row["id"], row.sample) for row in rows[:4]] == [("r0", 1), ("r0", 2), ("r0", 3), ("r0", 1)]


def test_what_cannot_be_asked_leaves_no_run_behind(sqlite_harness, tmp_path):
    """Columns that the table lacks are told where the suite names them; a row that cannot be rendered ends the run too."""
    runner = sqlite_harness.runner
    file = reviews_suite(tmp_path, 3, REVIEWS.replace("expected: label", "expected: lable"))
    with pytest.raises(InputInvalid) as raised:
        runs.begin(runner, file)
    assert "the table has no column 'lable'" in str(raised.value.problems[0])
    assert str(raised.value.problems[0]).startswith(f"{tmp_path / 'reviews.yaml'}:8:11: ")
    file = reviews_suite(tmp_path, 3)
    (tmp_path / "reviews.csv").write_text("id,text,language,label,seen,judged\na,x,de,positive,,\na,y,de,positive,,\n")
    evaluation = runs.begin(runner, file)
    with pytest.raises(InputInvalid):
        runs.next_workload(runner, evaluation)
    assert open_runs(runner) == []
    assert sqlite_harness.emulator.ledger().calls == {}


def test_a_name_belongs_to_one_version_of_a_suite(sqlite_harness, tmp_path):
    """A named run is resumed by its name; another version of the suite, or another suite, cannot use the name."""
    runner = sqlite_harness.runner
    file = reviews_suite(tmp_path, 3)
    assert night(runner, file, name="friday").run == "friday"
    assert runs.begin(runner, file, name="friday").verdict == "first"
    other = load_suite(write_suite(tmp_path, REVIEWS.replace("Is this", "Was this")))
    with pytest.raises(WorkloadConflict, match="another version"):
        runs.begin(runner, other, name="friday")
    with pytest.raises(UnknownWorkload, match="no evaluation"):
        summary(runner, "saturday")


def test_a_summary_outlives_its_workload(sqlite_harness, tmp_path):
    """Cleaning the answers away keeps metrics and scores, and the next run is compared all the same."""
    runner, file = sqlite_harness.runner, reviews_suite(tmp_path, 4)
    found = night(runner, file)
    runner.clean("reviews-1", keep_results=False)
    assert summary(runner, "reviews-1") == found
    assert [change.pairs for change in night(runner, file).changes] == [4, 4]


TYPED = """
name: typed
dataset: {path: typed.parquet, key: id}
prompt: "Which price {{ text }}"
models: [openai/gpt-oss-20b]
expected: price
slices: [day, took, price]
scorers:
  - {kind: exact}
  - {kind: number}
  - {kind: exact, name: day, expected: day}
  - {kind: choice, expected: label}
  - kind: judge
    model: openai/gpt-oss-120b
    prompt: "Is {{ model_answer }} the price in {{ row }} of {{ note }} {{ label }}?"
    answers: {choices: ["yes", "no"]}
    scores: {"yes": 1, "no": 0}
"""


def test_values_of_any_type_are_expected_sliced_and_judged(open_harness_on_sqlite, tmp_path):
    """Decimals, dates, durations, labels and JSON: each has its text, and the judge reads it, too."""
    features = {"label": {"names": ["neg", "2.50"], "_type": "ClassLabel"}}
    table = pa.table(
        {
            "id": ["a", "b"],
            "text": ["row-a", "row-b"],
            "price": pa.array([Decimal("2.50"), Decimal("10.00")], pa.decimal128(10, 2)),
            "day": [dt.date(2026, 1, 2), dt.date(2026, 3, 4)],
            "took": [dt.timedelta(seconds=5), None],
            "label": [1, 0],
            "note": ['{"x":1}', None],
        }
    )
    json = table.schema.field("note").with_metadata({"batchkit.json": "1"})
    metadata = {"huggingface": jsonl.dumps({"info": {"features": features}})}
    pq.write_table(table.cast(table.schema.set(6, json).with_metadata(metadata)), tmp_path / "typed.parquet")
    harness = open_harness_on_sqlite(
        replies=(
            Reply(match="Is 2.50 the price in", content="yes"),
            Reply(match="Which price", content="2.50"),
        )
    )
    runner = harness.open_runner()
    found = night(runner, load_suite(write_suite(tmp_path, TYPED, "typed.yaml")))
    assert {metric.scorer: metric.mean for metric in found.metrics if metric.slice is None} == {
        "exact": 0.5,
        "number": 0.5,
        "day": 0.0,
        "choice": 0.5,
        "judge": 1.0,
    }
    assert {metric.slice for metric in found.metrics} >= {"day=2026-01-02", "took=5", "price=10.00"}
    asked = [row.row for row in read_row_answers(runner, runner.find(found.workload_names[1]))]
    assert [(row["note"], row["label"]) for row in asked] == [({"x": 1}, "2.50"), (None, "neg")]
    worst = WorstRows(2)
    for row in scored_rows(runner, found.run):
        worst.add(row)
    shown = worst.read(runner, runner.find(found.workload_names[0]))
    assert {row.expected.text for row in shown if row.expected} == {"2.50", "10.00"}


def test_an_export_does_not_overwrite_the_dataset(sqlite_harness, tmp_path):
    """The workload of a run knows the files of its suite."""
    runner = sqlite_harness.runner
    night(runner, reviews_suite(tmp_path, 3))
    before = (tmp_path / "reviews.csv").read_bytes()
    with pytest.raises(UsageError):
        export_results("reviews-1", tmp_path / "reviews.csv", runner.settings, RunMode("export"), raw_csv=False)
    assert (tmp_path / "reviews.csv").read_bytes() == before


def test_labels_have_a_confusion_matrix(open_harness, tmp_path):
    """What was expected against what was answered, for each model: a matrix, and precision, recall and F1 of the classes."""
    broken = frozenset({"r0:gpt-oss-20b:1"})
    harness = open_harness(FailLines(custom_ids=broken, status=400), wrong(0.5))
    found = night(harness.runner, reviews_suite(tmp_path, 24))
    figures = {one.model: one.confusion for one in found.labels}
    assert figures[LARGE].classes == figures[SMALL].classes
    assert set(figures[LARGE].classes) == {"positive", "negative"}
    assert [row[:2] for row in figures[LARGE].counts] == [
        (row.support if place == 0 else 0, row.support if place == 1 else 0)
        for place, row in enumerate(figures[LARGE].per_class)
    ]
    assert (figures[LARGE].macro.f1, figures[LARGE].unanswered) == (1.0, 0)
    small = figures[SMALL]
    assert (small.rows, small.unanswered) == (24, 1)
    assert small.accuracy == pytest.approx(means(found)[SMALL])
    wrongs = sum(small.counts[row][column] for row in range(2) for column in range(2) if row != column)
    assert wrongs == 23 - round(24 * means(found)[SMALL])
    assert summary(harness.runner, found.run) == found
