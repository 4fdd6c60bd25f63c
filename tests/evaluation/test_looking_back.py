"""Looking back: the list of runs, runs side by side, and the scored rows as a table."""

from __future__ import annotations

import csv
from datetime import date

import pyarrow as pa
import pytest
from pyarrow import parquet as pq
from sqlalchemy import text

from batchkit.api import existing, looking_back
from batchkit.api.modes import RunMode
from batchkit.emulator import Scenario
from batchkit.emulator.faults.lines import FailLines
from batchkit.errors import UnknownWorkload, UsageError
from batchkit.evaluation import runs
from batchkit.evaluation.results import find_run, scored_rows, summary
from batchkit.evaluation.scored_table import ScoredTable
from batchkit.evaluation.scorers import NO_ANSWER
from batchkit.evaluation.side_by_side import compare_all
from batchkit.evaluation.suite_file import load_suite
from batchkit.files import jsonl
from batchkit.settings import load_settings
from batchkit.store import evaluations
from tests.evaluation.support import LARGE, REVIEWS, SMALL, drive, night, reviews_suite, write_suite, wrong
from tests.evaluation.test_earned_verdicts import relabel
from tests.evaluation.test_runs import JUDGED
from tests.steps.conftest import open_harness

__all__ = ["open_harness"]


def scored(harness, name="reviews-1"):
    """Return the scored rows of a run as dictionaries."""
    return looking_back.scored_table(name, harness.runner.settings).to_pylist()


def test_runs_have_verdicts_scores_changes_and_cost(open_harness, tmp_path):
    """The change is that of the verdict; the cost is the sum over the rows' own costs."""
    harness = open_harness(wrong(0.1))
    runner, file = harness.runner, reviews_suite(tmp_path, 40)
    night(runner, file)
    harness.emulator.set_scenario(Scenario(seed=3, faults=(wrong(0.6), FailLines(count=1, status=400))))
    second = night(runner, file)
    evaluation = runs.begin(runner, file)

    first, fallen, begun = looking_back.runs(settings=runner.settings)

    assert [one.run for one in (first, fallen, begun)] == ["reviews-1", "reviews-2", "reviews-3"]
    assert [one.verdict for one in (first, fallen, begun)] == ["first", "regressed", "unfinished"]
    assert [one.failed_answers for one in (first, fallen, begun)] == [0, second.failed_answers, None]
    assert [score.difference for score in first.scores] == [None, None]
    (change,) = [change for change in second.changes if change.model == SMALL]
    (score,) = [score for score in fallen.scores if score.model == SMALL]
    assert (score.difference, score.p_value, score.is_alarm) == (change.difference, change.p_value, True)
    assert (fallen.previous, begun.progress, begun.cost_usd) == ("reviews-1", None, None)
    costs = [row["cost_usd"] for row in scored(harness)]
    assert first.cost_usd == pytest.approx(sum(costs))
    runs.next_workload(runner, evaluation)
    assert looking_back.runs("reviews", settings=runner.settings)[-1].progress.counts.total == 80
    assert [one.run for one in looking_back.runs(file.path, limit=1, settings=runner.settings)] == ["reviews-3"]
    runner.clean("reviews-1", keep_results=False)
    assert looking_back.runs(settings=runner.settings)[0].cost_usd is None


def test_runs_outside_the_series_are_marked(open_harness, tmp_path):
    """Rescored answers have no number; neither have runs of some rows only."""
    harness = open_harness()
    runner = harness.runner
    night(runner, reviews_suite(tmp_path, 10))
    relabel(tmp_path, 2)
    night(runner, runs_file := reviews_file(tmp_path))
    with runner.store.write() as connection:
        connection.execute(text("UPDATE evaluations SET number = NULL WHERE name = 'reviews-2'"))

    found = {one.run: one for one in looking_back.runs(runs_file.suite.name, settings=runner.settings)}

    assert {name: (one.kind, one.number) for name, one in found.items()} == {
        "reviews-1": ("series", 1),
        "reviews-2": ("partial", None),
        "reviews-1.rescored-1": ("rescored", None),
    }
    assert found["reviews-1.rescored-1"].derived_from == "reviews-1"
    assert found["reviews-1.rescored-1"].cost_usd is None


def reviews_file(folder, text_of_suite=REVIEWS):
    """Load the suite without writing its table."""
    return load_suite(write_suite(folder, text_of_suite))


def test_looking_back_creates_nothing(tmp_path):
    """Neither a database nor its folder; a suite without runs is unknown."""
    settings = load_settings(home=tmp_path / "home", database_url=None)
    with pytest.raises(UnknownWorkload, match="there are no runs yet"):
        looking_back.runs(settings=settings)
    assert not (tmp_path / "home").exists()


def test_a_suite_without_runs_is_unknown(sqlite_harness):
    """Without a suite's name there is nothing to complain about."""
    settings = sqlite_harness.runner.settings
    assert looking_back.runs(settings=settings) == []
    with pytest.raises(UnknownWorkload, match="'reviws'"):
        looking_back.runs("reviws", settings=settings)


def test_the_scored_rows_are_the_rows_of_the_run(open_harness, tmp_path):
    """One for each row, prompt, model and sample, with the scores, and the reason where there is none."""
    harness = open_harness(wrong(0.3), FailLines(custom_ids=frozenset({"r3:gpt-oss-20b:1"}), status=400))
    runner = harness.runner
    night(runner, reviews_suite(tmp_path, 12, REVIEWS.replace("models:", "samples: 2\nmodels:")))
    expected = list(scored_rows(runner, "reviews-1"))

    found = scored(harness)

    assert len(found) == 12 * 2 * 2
    for row, known in zip(found, expected, strict=True):
        assert {name: row[name] for name in known.row} == known.row
        assert (row["model"], row["sample"], row["custom_id"]) == (known.model, known.sample, known.custom_id)
        assert (row["answer"], row["expected"]) == (known.answer_text, known.expected)
        assert (row["accuracy"], row["status"], row["error"]) == (known.scores["accuracy"], known.status, known.error)
    (failed,) = [row for row in found if row["status"] == "failed"]
    assert failed["accuracy"] is None
    assert failed["accuracy_reason"].startswith(f"{NO_ANSWER}: ")
    assert {row["accuracy_reason"] for row in found if row is not failed} == {None}
    assert all(row["prompt_tokens"] and row["finish_reason"] for row in found if row["status"] == "succeeded")


def test_files_keep_the_types_and_the_names_of_the_input(open_harness, tmp_path):
    """A column of ours whose name the table has gets a prefix; parquet keeps types, .csv is protected, the database takes a table."""
    harness = open_harness()
    runner = harness.runner
    reviews_suite(tmp_path, 6)
    rows = [
        {"id": number, "text": f"review number {number}", "language": "en", "label": "positive", "score_model": 1.5}
        | {"model": "=1+1", "day": date(2026, 1, number + 1)}
        for number in range(6)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "reviews.parquet")
    night(runner, reviews_file(tmp_path, REVIEWS.replace("reviews.csv", "reviews.parquet")))
    settings = runner.settings

    for name in ("scored.parquet", "scored.csv", "raw.csv", "scored.jsonl"):
        count = looking_back.export_scored(
            "reviews-1", str(tmp_path / name), settings, RunMode(), raw_csv=name == "raw.csv"
        )
        assert count == 12
    assert looking_back.export_scored("reviews-1", "table:scored_rows_kept", settings, RunMode()) == 12

    table = pq.read_table(tmp_path / "scored.parquet")
    assert table.schema.field("day").type == pa.date32()
    assert table.schema.field("id").type == pa.int64()
    assert table.schema.field("accuracy").type == pa.float64()
    assert set(table.column("model").to_pylist()) == {"=1+1"}
    assert set(table.column("score_score_model").to_pylist()) == {SMALL, LARGE}
    with (tmp_path / "scored.csv").open(newline="") as file:
        assert {row["model"] for row in csv.DictReader(file)} == {"'=1+1"}
    with (tmp_path / "raw.csv").open(newline="") as file:
        assert {row["model"] for row in csv.DictReader(file)} == {"=1+1"}
    lines = [jsonl.loads(line) for line in (tmp_path / "scored.jsonl").read_bytes().splitlines()]
    assert [line["custom_id"] for line in lines] == table.column("custom_id").to_pylist()
    with runner.store.read() as connection:
        kept = connection.execute(text("SELECT count(*), sum(accuracy) FROM scored_rows_kept")).one()
    assert kept[0] == 12
    assert kept[1] == sum(table.column("accuracy").to_pylist())


def test_what_cannot_be_exported_is_refused(sqlite_harness, tmp_path):
    """An unknown and an unfinished run, the input itself, and a type that is not written; nothing appears."""
    runner, file = sqlite_harness.runner, reviews_suite(tmp_path, 4)
    settings, target = runner.settings, tmp_path / "out.parquet"
    evaluation = runs.begin(runner, file)
    drive(runner, evaluation)
    with pytest.raises(UsageError, match="is not finished"):
        looking_back.export_scored("reviews-1", str(target), settings, RunMode())
    runs.conclude(runner, evaluation)
    with pytest.raises(UnknownWorkload):
        looking_back.export_scored("reviews-2", str(target), settings, RunMode())
    with pytest.raises(UsageError, match="is the input"):
        looking_back.export_scored("reviews-1", str(tmp_path / "reviews.csv"), settings, RunMode())
    with pytest.raises(UsageError, match="cannot write"):
        looking_back.export_scored("reviews-1", str(tmp_path / "out.xlsx"), settings, RunMode())
    assert not target.exists()
    runner.clean("reviews-1", keep_results=False)
    with pytest.raises(UnknownWorkload):
        ScoredTable(runner, find_run(runner, "reviews-1"))


def test_a_rescored_run_has_the_labels_that_it_was_scored_with(open_harness, tmp_path):
    """The kept table has the former ones."""
    harness = open_harness()
    runner = harness.runner
    night(runner, reviews_suite(tmp_path, 10))
    relabel(tmp_path, 2)
    night(runner, reviews_file(tmp_path))

    found = scored(harness, "reviews-1.rescored-1")

    changed = {row["id"] for row in found if row["expected"] != row["label"]}
    assert changed == {"r0", "r1"}
    assert {row["accuracy"] for row in found if row["id"] in changed} == {0.0}
    assert all(row["expected"] for row in found)


def test_runs_side_by_side(open_harness, tmp_path):
    """The first is compared with each other one over the rows of both, with one correction for all metrics."""
    harness = open_harness(wrong(0.1))
    runner, file = harness.runner, reviews_suite(tmp_path, 40)
    night(runner, file)
    harness.emulator.set_scenario(Scenario(seed=3, faults=(wrong(0.6),)))
    second = night(runner, file)
    harness.emulator.set_scenario(Scenario())
    night(runner, file)

    found = compare_all(runner, ["reviews-1", "reviews-2", "reviews-3"])

    assert [one.run for one in found.comparisons] == ["reviews-2", "reviews-3"]
    (small,) = [one for one in found.metrics if (one.model, one.slice) == (SMALL, None)]
    assert [metric.mean for metric in small.of_runs] == [
        metric.mean
        for name in ("reviews-1", "reviews-2", "reviews-3")
        for metric in summary(runner, name).metrics
        if (metric.model, metric.slice) == (SMALL, None)
    ]
    change = next(one for one in found.comparisons[0].changes if (one.model, one.slice) == (SMALL, None))
    stored = next(one for one in second.changes if one.model == SMALL)
    assert (change.difference, change.p_value, change.pairs) == (stored.difference, stored.p_value, stored.pairs)
    # Four metrics are compared, and this is the smallest of the four.
    assert change.corrected_p == pytest.approx(min(4 * change.p_value, 1))
    assert {one.slice for one in found.comparisons[0].changes} == {None, "language=de", "language=en"}
    assert found.comparisons[0].differences == ()


def test_changed_labels_are_compared_as_the_verdict_compares_them(open_harness, tmp_path):
    """The first run's answers are scored again, once; its rescored run can only be the first."""
    harness = open_harness()
    runner = harness.runner
    night(runner, reviews_suite(tmp_path, 20))
    relabel(tmp_path, 4)
    second = night(runner, reviews_file(tmp_path))

    for _ in range(2):
        (one,) = compare_all(runner, ["reviews-1", "reviews-2"]).comparisons
        assert one.rescored == second.rescored == "reviews-1.rescored-1"
        assert one.differences == second.differences
        assert {change.difference for change in one.changes} == {0.0}
    with runner.store.read() as connection:
        assert len(evaluations.derived_from(connection, "reviews-1")) == 1
    with pytest.raises(UsageError, match="rescored answers"):
        compare_all(runner, ["reviews-2", "reviews-1.rescored-1"])
    (again,) = compare_all(runner, ["reviews-1.rescored-1", "reviews-2"]).comparisons
    assert (again.rescored, {change.difference for change in again.changes}) == (None, {0.0})


def test_runs_that_cannot_be_compared_are_refused(open_harness_on_sqlite, tmp_path):
    """Unknown, unfinished and unscored ones, and a run with itself."""
    harness = open_harness_on_sqlite()
    runner, file = harness.runner, reviews_suite(tmp_path, 4)
    night(runner, file)
    broken = frozenset(f"r{number}:gpt-oss-20b:1" for number in range(4))
    harness.emulator.set_scenario(Scenario(faults=(FailLines(custom_ids=broken, status=400),)))
    assert night(runner, file).verdict == "unscored"
    runs.begin(runner, file)
    settings = runner.settings
    for other, why in (("reviews-2", "too few answers"), ("reviews-3", "not finished"), ("reviews-1", "no two")):
        with pytest.raises(UsageError, match=why):
            looking_back.compare_runs("reviews-1", other, settings=settings)
    with pytest.raises(UnknownWorkload):
        looking_back.compare_runs("reviews-1", "reviews-9", settings=settings)


def test_a_workload_is_shown_with_its_run(open_harness, tmp_path):
    """That of a judge too; one of the user's own with such a name is not."""
    harness = open_harness()
    runner = harness.runner
    night(runner, reviews_suite(tmp_path, 6, REVIEWS.replace("\nalarms:", JUDGED)))
    harness.run(5, name="reviews-1.mine")
    settings = runner.settings

    found = existing.runs_of(settings, existing.snapshots(settings, None))

    assert {name: (run.run, run.suite, run.verdict) for name, run in found.items()} == {
        "reviews-1": ("reviews-1", "reviews", "first"),
        "reviews-1.judge": ("reviews-1", "reviews", "first"),
    }
    assert existing.runs_of(settings, existing.snapshots(settings, "reviews-1.judge")).keys() == {"reviews-1.judge"}
    assert existing.runs_of(settings, existing.snapshots(settings, "reviews-1.mine")) == {}
    (run,) = looking_back.runs(settings=settings)
    assert run.cost_usd is not None
    assert [score.scorer for score in run.scores] == ["accuracy", "accuracy", "judge", "judge"]
