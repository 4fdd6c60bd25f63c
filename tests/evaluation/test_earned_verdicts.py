"""A run has passed only if it was scored, compared with what is comparable, and has not fallen."""

from __future__ import annotations

import re

import numpy as np
import pytest
from sqlalchemy import text

from batchkit.emulator import Scenario
from batchkit.emulator.faults.lines import FailLines
from batchkit.emulator.scenarios.scenario import Reply
from batchkit.errors import InputInvalid, UsageError
from batchkit.evaluation import runs
from batchkit.evaluation.open_runs import open_runs
from batchkit.evaluation.results import find_run, scored_rows, summary
from batchkit.evaluation.scorers import ChoiceScorer, Score
from batchkit.evaluation.suite import Suite
from batchkit.evaluation.suite_file import load_suite
from batchkit.store import evaluations
from tests.evaluation.support import (
    LARGE,
    REVIEWS,
    SMALL,
    means,
    night,
    reviews_suite,
    write_reviews,
    write_suite,
    wrong,
)
from tests.steps.conftest import open_harness

__all__ = ["open_harness"]

OWN = """
name: own
dataset: {path: reviews.csv, key: id}
prompt: "Is this review positive or negative? {{ text }}"
models: [openai/gpt-oss-20b]
answers:
  schema: {type: object, properties: {label: {enum: [positive, negative]}}, required: [label], additionalProperties: false}
expected: label
scorers:
  - {kind: choice, name: acc, field: label}
alarms:
  - {scorer: acc, fall: 0.05}
"""


def set_mood(monkeypatch, mood):
    """Make the scorer of ``OWN`` fail on all answers or on the first ones of a run, or give each the same score."""
    calls = []

    def compare(_self, _given, _truth):
        calls.append(1)
        if mood == "fails" or (mood.startswith("fails on ") and len(calls) <= int(mood.rsplit(maxsplit=1)[-1])):
            raise KeyError("renamed")
        return Score(0.0 if mood == "says 0" else 1.0)

    monkeypatch.setattr(ChoiceScorer, "_compare", compare)


def scorings(found, scorer):
    """Return what a scorer has scored, by model."""
    return {scoring.model: scoring for scoring in found.scorings if scoring.scorer == scorer}


def change_of(found, model=SMALL, scorer="accuracy"):
    """Return the change of one metric over all rows."""
    (change,) = (one for one in found.changes if (one.model, one.scorer) == (model, scorer))
    return change


def relabel(folder, rows, column="label"):
    """Give the first rows the other label."""
    path = folder / "reviews.csv"
    header, *lines = path.read_text().splitlines()
    place = header.split(",").index(column)
    for number in range(rows):
        cells = lines[number].split(",")
        cells[place] = "negative" if cells[place] == "positive" else "positive"
        lines[number] = ",".join(cells)
    path.write_text("\n".join([header, *lines]) + "\n")


def test_a_night_without_scores_is_unscored_and_no_baseline(sqlite_harness, tmp_path, monkeypatch):
    """It says how many were scored and the commonest error; the next night is compared with the one before it."""
    runner, file = sqlite_harness.runner, reviews_suite(tmp_path, 10, OWN)
    assert night(runner, file).verdict == "first"
    set_mood(monkeypatch, "fails")
    broken = night(runner, file)
    assert broken.verdict == "unscored"
    scoring = scorings(broken, "acc")[SMALL]
    assert (scoring.answers, scoring.scored, scoring.errors, scoring.is_enough) == (10, 0, 10, False)
    assert (scoring.commonest_error, scoring.commonest_count) == ("KeyError: 'renamed'", 10)
    set_mood(monkeypatch, "says 0")
    found = night(runner, file)
    assert (found.previous, found.verdict) == ("own-1", "regressed")


@pytest.mark.parametrize(
    ("failing", "least", "verdict"), [(1, "0.95", "unscored"), (1, "0.9", "first"), (0, "1", "first")]
)
def test_enough_of_the_labelled_answers_must_be_scored(sqlite_harness, tmp_path, monkeypatch, failing, least, verdict):
    """The share is that of the suite, of the answers whose rows have an expected value."""
    set_mood(monkeypatch, f"fails on {failing}")
    found = night(sqlite_harness.runner, reviews_suite(tmp_path, 10, f"{OWN}\nmin_scored: {least}\n"))
    assert scorings(found, "acc")[SMALL].errors == failing
    assert found.verdict == verdict


def test_a_judge_whose_answers_are_all_invalid_has_scored_nothing(open_harness_on_sqlite, tmp_path):
    """Its failed requests are a lack of scores, with what is wrong with them."""
    harness = open_harness_on_sqlite(replies=(Reply(match="Is this fair", content="who knows"),))
    judged = REVIEWS.replace(
        "alarms:",
        """  - kind: judge
    model: openai/gpt-oss-120b
    prompt: "Is this fair? {{ text }}: {{ model_answer }}"
    answers: {choices: [fair, unfair], tries: 1}
    scores: {fair: 1, unfair: 0}
alarms:
  - {scorer: judge, fall: 0.05}""",
    )
    found = night(harness.runner, reviews_suite(tmp_path, 3, judged))
    assert found.verdict == "unscored"
    scoring = scorings(found, "judge")[SMALL]
    assert (scoring.scored, scoring.errors) == (0, 3)
    assert scoring.commonest_error is not None
    assert scoring.commonest_error.startswith("the judge: answer_")


def test_a_run_whose_suite_cannot_be_read_is_compared_with_nothing(sqlite_harness, tmp_path):
    """It was written by another version; the new run is scored all the same."""
    runner, file = sqlite_harness.runner, reviews_suite(tmp_path, 4)
    night(runner, file)
    with runner.store.write() as connection:
        connection.execute(text("UPDATE evaluations SET definition = '{}'"))
    found = night(runner, file)
    assert (found.verdict, found.previous) == ("incomparable", "reviews-1")
    assert "cannot read" in found.notes[0]
    assert means(found)[SMALL] == 1.0


def test_a_scorer_that_nothing_watches_decides_no_verdict(sqlite_harness, tmp_path, monkeypatch):
    """Its lack is told all the same. In a suite without alarms every scorer decides."""
    set_mood(monkeypatch, "fails")
    beside = OWN.replace("alarms:\n  - {scorer: acc,", "  - {kind: exact, field: label}\nalarms:\n  - {scorer: exact,")
    found = night(sqlite_harness.runner, reviews_suite(tmp_path, 6, beside))
    assert found.verdict == "first"
    assert [(one.scorer, one.is_watched) for one in found.scorings if not one.is_enough] == [("acc", False)]
    without = OWN[: OWN.index("alarms:")].replace("name: own", "name: quiet")
    assert night(sqlite_harness.runner, reviews_suite(tmp_path, 6, without)).verdict == "unscored"


def test_rows_without_a_label_are_no_lack_unless_there_are_no_others(sqlite_harness, tmp_path):
    """They are left out of the share; a table without any label has no score."""
    runner, file = sqlite_harness.runner, reviews_suite(tmp_path, 12)
    path = tmp_path / "reviews.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:5], *(re.sub("(positive|negative),", ",", line) for line in lines[5:])]) + "\n")
    found = night(runner, file)
    assert found.verdict == "first"
    scoring = scorings(found, "accuracy")[SMALL]
    assert (scoring.scored, scoring.unlabelled, scoring.errors) == (4, 8, 0)
    path.write_text("\n".join([lines[0], *(re.sub("(positive|negative),", ",", line) for line in lines[1:])]) + "\n")
    assert night(runner, file).verdict == "unscored"


def test_failed_answers_that_count_as_wrong_are_counted(open_harness_on_sqlite, tmp_path):
    """A model of which every answer fails has no score at all: that is no fall, but a lack."""
    broken = frozenset(f"r{number}:gpt-oss-20b:1" for number in range(6))
    harness = open_harness_on_sqlite(FailLines(custom_ids=broken, status=400))
    found = night(harness.runner, reviews_suite(tmp_path, 6))
    assert found.verdict == "unscored"
    assert {model: one.is_enough for model, one in scorings(found, "accuracy").items()} == {SMALL: False, LARGE: True}


def test_a_fall_beats_what_was_not_scored(open_harness_on_sqlite, tmp_path):
    """One model fell, another has no scores: the fall is told, and the run is no baseline."""
    harness = open_harness_on_sqlite()
    runner, file = harness.runner, reviews_suite(tmp_path, 40)
    night(runner, file)
    broken = frozenset(f"r{number}:gpt-oss-120b:1" for number in range(40))
    harness.emulator.set_scenario(Scenario(faults=(wrong(0.4), FailLines(custom_ids=broken, status=400))))
    found = night(runner, file)
    assert found.verdict == "regressed"
    assert not find_run(runner, found.run).fully_scored
    harness.emulator.set_scenario(Scenario())
    assert night(runner, file).previous == "reviews-1"


def test_corrected_labels_are_no_fall(open_harness, tmp_path):
    """The former answers are scored with today's labels, nothing is sent for it, and the change of the labels is told first."""
    harness = open_harness()
    runner, file = harness.runner, reviews_suite(tmp_path, 40)
    first = night(runner, file)
    relabel(tmp_path, 9)
    found = night(runner, file)
    assert (found.verdict, found.previous, found.rescored) == ("passed", "reviews-1", "reviews-1.rescored-1")
    assert found.differences[0] == "labels changed in 9 of 40 rows"
    assert means(found)[SMALL] == pytest.approx(31 / 40)
    assert (change_of(found).before, change_of(found).difference) == (pytest.approx(31 / 40), 0.0)
    assert harness.emulator.ledger().totals.requests_executed == 2 * 80
    assert summary(runner, "reviews-1") == first
    derived = find_run(runner, "reviews-1.rescored-1")
    assert (derived.number, derived.derived_from, derived.verdict) == (None, "reviews-1", "rescored")
    assert all(row.flipped is None for row in scored_rows(runner, found.run))
    assert night(runner, file).previous == "reviews-2"


def test_a_real_fall_under_corrected_labels_is_found(open_harness_on_sqlite, tmp_path):
    """Labels were corrected and the model got worse in the same night."""
    harness = open_harness_on_sqlite()
    runner, file = harness.runner, reviews_suite(tmp_path, 60)
    night(runner, file)
    relabel(tmp_path, 5)
    harness.emulator.set_scenario(Scenario(faults=(wrong(0.4),)))
    found = night(runner, file)
    assert found.verdict == "regressed"
    assert [alarm.model for alarm in found.alarms] == [SMALL]
    assert change_of(found, LARGE).difference == 0.0
    fell = [row for row in scored_rows(runner, found.run) if row.flipped == "down"]
    assert len(fell) == change_of(found).flipped_down


def test_a_changed_scorer_is_compared_with_its_own_scores_of_the_former_answers(sqlite_harness, tmp_path):
    """A stricter rule is no worse model; a new scorer has its scores of yesterday at once."""
    runner = sqlite_harness.runner
    night(runner, reviews_suite(tmp_path, 10))
    stricter = REVIEWS.replace(
        "{kind: choice, name: accuracy, field: label}", "{kind: contains, name: accuracy, text: zzz}"
    )
    file = load_suite(write_suite(tmp_path, stricter.replace("alarms:", "  - {kind: exact, field: label}\nalarms:")))
    found = night(runner, file)
    assert found.verdict == "passed"
    assert found.differences[:2] == ("the scorer 'accuracy' changed", "the scorer 'exact' is new")
    assert (change_of(found).before, change_of(found).after) == (0.0, 0.0)
    assert (change_of(found, scorer="exact").before, change_of(found, scorer="exact").pairs) == (1.0, 10)


def test_what_cannot_be_scored_again_is_not_compared(sqlite_harness, tmp_path):
    """The answers of the former run were cleaned, and its labels changed."""
    runner, file = sqlite_harness.runner, reviews_suite(tmp_path, 8)
    night(runner, file)
    runner.clean("reviews-1", keep_results=False)
    relabel(tmp_path, 2)
    found = night(runner, file)
    assert (found.verdict, found.changes, found.rescored) == ("incomparable", (), None)
    assert "reviews-1 cannot be scored again: the answers of 'reviews-1' were cleaned" in found.notes[0]


def test_a_suite_that_changed_says_so(sqlite_harness, tmp_path):
    """Prompt, models, parameters, rules and samples: each is named, and what both runs have is compared."""
    runner = sqlite_harness.runner
    night(runner, reviews_suite(tmp_path, 6))
    other = (
        REVIEWS.replace("Is this review", "Is that review")
        .replace("[openai/gpt-oss-20b, openai/gpt-oss-120b]", "[openai/gpt-oss-20b, qwen/qwen3-32b]")
        .replace("answers:", "parameters: {temperature: 0.5}\nsamples: 2\nanswers:\n  tries: 2", 1)
    )
    found = night(runner, load_suite(write_suite(tmp_path, other)))
    assert found.differences == (
        "the prompt changed",
        "the model 'qwen/qwen3-32b' is new, compared with nothing",
        "the model 'openai/gpt-oss-120b' is gone",
        "the parameter temperature: not set -> 0.5",
        "the rules for answers changed",
        "samples of each row: 1 -> 2",
    )
    assert [change.model for change in found.changes] == [SMALL]
    assert found.verdict == "passed"


def test_a_renamed_model_is_compared_with_nothing(sqlite_harness, tmp_path):
    """No model of this run was in the former one."""
    runner = sqlite_harness.runner
    night(runner, reviews_suite(tmp_path, 6))
    renamed = REVIEWS.replace("[openai/gpt-oss-20b, openai/gpt-oss-120b]", "[qwen/qwen3-32b]")
    found = night(runner, load_suite(write_suite(tmp_path, renamed)))
    assert found.verdict == "incomparable"
    assert found.notes == ("no prompt with a model is also in reviews-1",)


@pytest.mark.parametrize(("kept", "verdict"), [(4, "incomparable"), (5, "passed")])
def test_too_few_common_rows_are_no_comparison(sqlite_harness, tmp_path, kept, verdict):
    """Half of the smaller run's rows must be in both; rows that came and went are counted."""
    runner, file = sqlite_harness.runner, reviews_suite(tmp_path, 10)
    night(runner, file)
    path = tmp_path / "reviews.csv"
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *lines[:kept], *(f"x{line}" for line in lines[kept:])]) + "\n")
    found = night(runner, file)
    assert found.verdict == verdict
    assert found.differences[0] == f"rows: {10 - kept} new, {10 - kept} gone; {kept} rows in both runs"
    if verdict == "incomparable":
        assert f"accuracy of {SMALL} was not compared: 4 rows of 10 scored in reviews-1 and here" in found.notes[0]


def test_a_slice_that_collapses_sets_off_its_alarm(open_harness_on_sqlite, tmp_path):
    """All values of the column are watched; the mean over all rows need not fall."""
    watched = REVIEWS.replace("alarms:\n", "alarms:\n  - {scorer: accuracy, fall: 0.2, slice: language}\n").replace(
        "{scorer: accuracy, fall: 0.05}", "{scorer: accuracy, fall: 0.9}"
    )
    harness = open_harness_on_sqlite()
    runner, file = harness.runner, reviews_suite(tmp_path, 60, watched)
    assert night(runner, file).verdict == "first"
    english = [f"r{number}" for number in range(60) if not number % 3]
    fault = wrong(1.0).model_copy(update={"custom_ids": frozenset(f"{row}:gpt-oss-20b:1" for row in english)})
    harness.emulator.set_scenario(Scenario(faults=(fault,)))
    found = night(runner, file)
    assert found.verdict == "regressed"
    (alarm,) = found.alarms
    assert (alarm.slice, alarm.before, alarm.after, alarm.flipped_down) == ("language=en", 1.0, 0.0, 20)
    moved = {(change.model, change.slice): change.difference for change in found.slice_changes}
    assert moved == {
        (SMALL, "language=de"): 0.0,
        (SMALL, "language=en"): -1.0,
        (LARGE, "language=de"): 0.0,
        (LARGE, "language=en"): 0.0,
    }


def test_a_run_without_scores_is_no_named_baseline(sqlite_harness, tmp_path, monkeypatch):
    """It would compare nothing."""
    runner, file = sqlite_harness.runner, reviews_suite(tmp_path, 4, OWN)
    set_mood(monkeypatch, "fails")
    night(runner, file)
    with pytest.raises(UsageError, match="has scores for too few answers"):
        runs.begin(runner, file, against="own-1")


@pytest.mark.parametrize(
    ("cron", "said"),
    [("0 0 31 2 *", "cron"), ("61 * * * *", "Bad minute"), ("0 2 * *", "five fields"), ("0 0 30 FEB *", "cron")],
)
def test_a_schedule_without_a_time_is_refused(tmp_path, cron, said):
    """A cron expression that never fires would be no night at all."""
    with pytest.raises(InputInvalid) as raised:
        reviews_suite(tmp_path, 1, f"{REVIEWS}\nschedule: {{cron: '{cron}'}}\n")
    assert said in str(raised.value.problems[0])


def test_models_that_the_provider_does_not_have_are_refused(sqlite_harness, tmp_path):
    """Those of judges, too; the check sees all of them before a run is stored."""
    asked: list[set[str]] = []

    def refuse(models):
        asked.append(set(models))
        raise UsageError("there is no such model")

    with pytest.raises(UsageError, match="no such model"):
        runs.begin(sqlite_harness.runner, reviews_suite(tmp_path, 2), check_models=refuse)
    assert asked == [{SMALL, LARGE}]
    assert open_runs(sqlite_harness.runner) == []


def test_an_unfinished_run_of_an_earlier_version_of_batchkit_is_resumed(open_harness, tmp_path):
    """Its version was computed in another way: its definition says that it is the same suite."""
    runner, file = open_harness().runner, reviews_suite(tmp_path, 3)
    begun = runs.begin(runner, file)
    with runner.store.write() as connection:
        connection.execute(text("UPDATE evaluations SET suite_version = 'of old'"))
    assert runs.begin(runner, file).id == begun.id
    assert runs.begin(runner, file, name=begun.name).id == begun.id
    with runner.store.read() as connection:
        assert evaluations.unfinished(connection, "reviews")[0].suite_version == "of old"


def test_the_version_depends_on_each_scorer(tmp_path):
    """Two kinds with the same fields are two versions; columns of clusters and alarms are none."""
    suites = [
        load_suite(write_suite(tmp_path, REVIEWS.replace("{kind: choice, name: accuracy, field: label}", scorer))).suite
        for scorer in ("{kind: exact, name: accuracy}", "{kind: normalised, name: accuracy}")
    ]
    write_reviews(tmp_path, 1)
    assert len({suite.version() for suite in suites}) == 2
    clustered = load_suite(
        write_suite(tmp_path, REVIEWS.replace("key: id}", "key: id, cluster: language}").replace("0.05", "0.5"))
    ).suite
    assert clustered.version() == load_suite(write_suite(tmp_path, REVIEWS)).suite.version()
    assert isinstance(clustered, Suite)


def test_rows_of_one_cluster_count_together(sqlite_harness, tmp_path):
    """The interval of rows that belong together is wider than that of as many independent ones."""
    runner = sqlite_harness.runner
    sqlite_harness.emulator.set_scenario(Scenario(faults=(wrong(0.3),)))
    file = reviews_suite(tmp_path, 24)
    path = tmp_path / "reviews.csv"
    header, *lines = path.read_text().splitlines()
    path.write_text(
        "\n".join([f"{header},passage", *(f"{line},p{place // 6}" for place, line in enumerate(lines))]) + "\n"
    )
    alone = night(runner, file)
    clustered = REVIEWS.replace("name: reviews", "name: passages").replace("key: id}", "key: id, cluster: passage}")
    together = night(runner, load_suite(write_suite(tmp_path, clustered)))
    widths = [
        next(one.high - one.low for one in found.metrics if one.model == SMALL and one.slice is None)
        for found in (alone, together)
    ]
    assert widths[1] > widths[0]
    with pytest.raises(InputInvalid):
        runs.begin(runner, load_suite(write_suite(tmp_path, REVIEWS.replace("key: id}", "key: id, cluster: page}"))))
    assert np.isfinite(widths).all()
