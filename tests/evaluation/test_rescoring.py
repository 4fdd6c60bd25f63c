"""The kept answers of a run are scored again with other scorers and labels."""

from __future__ import annotations

import pytest

from batchkit.api.modes import RunMode
from batchkit.api.rescoring import rescore_run
from batchkit.errors import BatchkitError, InputInvalid, UnknownWorkload, UsageError
from batchkit.evaluation import runs
from batchkit.evaluation.metrics import measure
from batchkit.evaluation.results import find_run, scored_rows, summary
from batchkit.evaluation.suite_file import load_suite
from tests.evaluation.support import REVIEWS, SMALL, means, night, reviews_suite, write_suite, wrong
from tests.steps.conftest import open_harness

__all__ = ["open_harness"]

STRICTER = REVIEWS.replace(
    "{kind: choice, name: accuracy, field: label}", "{kind: contains, name: accuracy, text: zzz}"
)
JUDGED = REVIEWS.replace(
    "alarms:",
    """  - kind: judge
    model: openai/gpt-oss-120b
    prompt: "Is this fair? {{ text }}: {{ model_answer }}"
    answers: {choices: [fair, unfair]}
    scores: {fair: 1, unfair: 0}
alarms:""",
)


def again(harness, tmp_path, run="reviews-1", text=STRICTER):
    """Score a run again with another suite."""
    path = write_suite(tmp_path, text, "again.yaml")
    return rescore_run(path, run, settings=harness.runner.settings, mode=RunMode("eval"))


def executed(harness):
    """Return how many requests the emulator has executed."""
    return harness.emulator.ledger().totals.requests_executed


def test_todays_scorers_give_a_derived_run_and_nothing_is_sent(open_harness, tmp_path):
    """It is outside the series: neither the next number nor the next comparison knows it; the same again is the same run."""
    harness = open_harness()
    runner, file = harness.runner, reviews_suite(tmp_path, 6)
    night(runner, file)
    sent = executed(harness)
    found = again(harness, tmp_path)
    assert (found.run, found.verdict) == ("reviews-1.rescored-1", "rescored")
    assert found.summary is not None
    assert means(found.summary) == {SMALL: 0.0, "openai/gpt-oss-120b": 0.0}
    assert again(harness, tmp_path).run == "reviews-1.rescored-1"
    assert again(harness, tmp_path, text=REVIEWS).run == "reviews-1.rescored-2"
    assert executed(harness) == sent
    assert means(summary(runner, "reviews-1"))[SMALL] == 1.0
    following = night(runner, file)
    assert (following.run, following.previous, following.rescored) == ("reviews-2", "reviews-1", None)
    assert [row.scores for row in scored_rows(runner, "reviews-1.rescored-1")] == [{"accuracy": 0.0}] * 12


def test_labels_of_todays_table_are_used(sqlite_harness, tmp_path):
    """Rows are found by their key; rows that are new or gone today change nothing."""
    runner = sqlite_harness.runner
    night(runner, reviews_suite(tmp_path, 6))
    path = tmp_path / "reviews.csv"
    header, *lines = path.read_text().splitlines()
    first = lines[0].replace("positive", "?").replace("negative", "positive").replace("?", "negative")
    path.write_text("\n".join([header, *reversed(lines[1:5]), first, "new,a,de,positive,,"]) + "\n")
    found = again(sqlite_harness, tmp_path, text=REVIEWS)
    assert found.summary is not None
    assert means(found.summary)[SMALL] == pytest.approx(5 / 6)


def test_a_new_judge_is_asked_and_a_known_one_is_not(sqlite_harness, tmp_path):
    """Only the judgements that are missing are bought."""
    runner = sqlite_harness.runner
    night(runner, reviews_suite(tmp_path, 4))
    sent = executed(sqlite_harness)
    found = again(sqlite_harness, tmp_path, text=JUDGED)
    assert found.summary is not None
    assert means(found.summary, "judge").keys() == {SMALL, "openai/gpt-oss-120b"}
    assert executed(sqlite_harness) == sent + 8
    night(runner, load_suite(write_suite(tmp_path, JUDGED)))
    sent = executed(sqlite_harness)
    stricter = JUDGED.replace(
        "{kind: choice, name: accuracy, field: label}", "{kind: exact, name: accuracy, field: label}"
    )
    other = again(sqlite_harness, tmp_path, run="reviews-2", text=stricter)
    assert other.summary is not None
    assert means(other.summary, "judge").keys() == {SMALL, "openai/gpt-oss-120b"}
    assert executed(sqlite_harness) == sent


def test_a_rescoring_that_was_killed_is_continued(sqlite_harness, tmp_path, monkeypatch):
    """Scores that are stored stay; the same command finishes the same derived run."""
    runner = sqlite_harness.runner
    night(runner, reviews_suite(tmp_path, 12))
    monkeypatch.setattr("batchkit.evaluation.scoring._ROWS_PER_COMMIT", 5)

    def die(*_given):
        raise KeyboardInterrupt

    monkeypatch.setattr("batchkit.evaluation.rescoring.measure", die)
    with pytest.raises(KeyboardInterrupt):
        again(sqlite_harness, tmp_path)
    assert find_run(runner, "reviews-1.rescored-1").finished_at is None
    assert runs.due_runs(runner) == []
    monkeypatch.setattr("batchkit.evaluation.rescoring.measure", measure)
    assert again(sqlite_harness, tmp_path).verdict == "rescored"


def test_what_cannot_be_scored_again_is_refused(sqlite_harness, tmp_path):
    """Unknown, unfinished, derived and cleaned runs, another suite, columns that are not there: each in one sentence."""
    harness, runner = sqlite_harness, sqlite_harness.runner
    file = reviews_suite(tmp_path, 4)
    with pytest.raises(UnknownWorkload, match="no evaluation 'reviews-1'"):
        again(harness, tmp_path)
    begun = runs.begin(runner, file)
    with pytest.raises(UsageError, match="is not finished"):
        again(harness, tmp_path)
    runs.next_workload(runner, begun)
    night(runner, file)
    with pytest.raises(UsageError, match="belongs to the suite 'reviews', this is 'others'"):
        again(harness, tmp_path, text=STRICTER.replace("name: reviews", "name: others"))
    with pytest.raises(InputInvalid):
        again(harness, tmp_path, text=STRICTER.replace("expected: label", "expected: lable"))
    again(harness, tmp_path)
    with pytest.raises(UsageError, match="has scores of the answers of 'reviews-1'"):
        again(harness, tmp_path, run="reviews-1.rescored-1")
    runner.clean("reviews-1", keep_results=False)
    with pytest.raises(BatchkitError, match="were cleaned"):
        again(harness, tmp_path, text=REVIEWS)


def test_a_model_that_was_wrong_is_wrong_again(open_harness_on_sqlite, tmp_path):
    """The same scorers and labels give the same scores."""
    harness = open_harness_on_sqlite(wrong(0.5))
    before = night(harness.runner, reviews_suite(tmp_path, 20))
    found = again(harness, tmp_path, text=REVIEWS)
    assert found.summary is not None
    assert found.summary.metrics == before.metrics
