"""Which run a run is compared with, and for how long a fall is told."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from batchkit.emulator import Scenario
from batchkit.errors import InputInvalid, UnknownWorkload
from batchkit.evaluation import runs
from batchkit.evaluation.open_runs import open_runs
from batchkit.evaluation.results import RunSpan, Window
from batchkit.evaluation.sentences import reason
from batchkit.evaluation.suite import Alarm
from batchkit.evaluation.suite_file import load_suite
from tests.evaluation.support import REVIEWS, SMALL, night, reviews_suite, write_suite, wrong
from tests.steps.conftest import open_harness

__all__ = ["open_harness"]


def test_an_alarm_over_several_runs_finds_what_two_nights_do_not_show(open_harness_on_sqlite, tmp_path):
    """Each night falls by less than the alarm; the means of the first and the last runs show it, and what they are is told."""
    text = REVIEWS.replace("name: reviews", "name: slow").replace(
        "{scorer: accuracy, fall: 0.05}", "{scorer: accuracy, fall: 0.1, over: 6}"
    )
    harness = open_harness_on_sqlite()
    runner, file = harness.runner, reviews_suite(tmp_path, 60, text)
    found = []
    for rows in (0, 1, 4, 7, 10):
        fault = wrong(1.0).model_copy(
            update={"custom_ids": frozenset(f"r{number}:gpt-oss-20b:1" for number in range(rows))}
        )
        harness.emulator.set_scenario(Scenario(faults=(fault,) if rows else ()))
        found.append(night(runner, file))
    assert [one.verdict for one in found] == ["first", "passed", "passed", "passed", "regressed"]
    (alarm,) = found[-1].alarms
    assert (alarm.model, alarm.before, alarm.after) == (SMALL, 1.0, pytest.approx(50 / 60))
    assert alarm.window == Window(5, RunSpan(1, "slow-1", "slow-1"), RunSpan(1, "slow-5", "slow-5"))
    assert reason(found[-1]).startswith(
        f"accuracy of {SMALL} fell by 0.167 over 5 runs: 1.000 -> 0.833 (alarm at 0.100, "
    )
    assert "slow-1 -> slow-5" in reason(found[-1])


def test_an_alarm_that_finds_no_runs_to_compare_has_compared_nothing(open_harness_on_sqlite, tmp_path):
    """The scorer changed, so that no passed run has its scores: a fall behind that is not called passed."""
    text = REVIEWS.replace("{scorer: accuracy, fall: 0.05}", "{scorer: accuracy, fall: 0.05, over: 30}")
    harness = open_harness_on_sqlite()
    night(harness.runner, reviews_suite(tmp_path, 20, text))
    harness.emulator.set_scenario(Scenario(faults=(wrong(1.0),)))
    changed = text.replace(
        "{kind: choice, name: accuracy, field: label}", "{kind: exact, name: accuracy, field: label}"
    )
    found = night(harness.runner, load_suite(write_suite(tmp_path, changed)))
    assert found.verdict == "incomparable"
    assert f"accuracy of {SMALL} was not compared: its alarms found no passed runs to compare with" in found.notes


def test_a_run_without_scores_says_so_and_blames_no_earlier_run(open_harness_on_sqlite, tmp_path):
    """The labels are no numbers: nothing is scored, whatever there is to compare with."""
    harness = open_harness_on_sqlite()
    night(harness.runner, reviews_suite(tmp_path, 20, REVIEWS))
    changed = REVIEWS.replace(
        "{kind: choice, name: accuracy, field: label}", "{kind: number, name: accuracy, field: label}"
    )
    found = night(harness.runner, load_suite(write_suite(tmp_path, changed)))
    assert found.verdict == "unscored"
    assert f"accuracy of {SMALL} was not compared: no answer has a score" in found.notes
    assert not any("found no passed runs" in note for note in found.notes)


def test_an_alarm_over_several_runs_needs_the_key_of_the_rows(tmp_path):
    """Without it no row of an old run can be found again."""
    text = REVIEWS.replace("key: id}", "}").replace(
        "{scorer: accuracy, fall: 0.05}", "{scorer: accuracy, fall: 0, over: 9}"
    )
    with pytest.raises(InputInvalid) as raised:
        reviews_suite(tmp_path, 2, text)
    assert "an alarm over several runs needs `dataset: {key: ...}`" in str(raised.value.problems[0])


def test_a_suite_that_an_earlier_version_stored_can_be_read():
    """It names fields of alarms that are gone, at the values that they had when nobody set them."""
    alarm = {"scorer": "acc", "fall": 0.1, "baseline": "against", "of_last": 7}
    assert Alarm.model_validate(alarm) == Alarm(scorer="acc", fall=0.1)
    with pytest.raises(ValidationError):
        Alarm.model_validate({**alarm, "baseline": "best"})


def test_a_baseline_of_the_suite_that_does_not_exist_is_refused(sqlite_harness, tmp_path):
    """A misspelt run, one that is not finished, and one without scores: nothing is begun, nothing is sent."""
    runner = sqlite_harness.runner
    file = reviews_suite(tmp_path, 4, f"{REVIEWS}\nagainst: review-1\n")
    with pytest.raises(UnknownWorkload, match="no evaluation 'review-1'"):
        runs.begin(runner, file)
    assert open_runs(runner) == []
    assert sqlite_harness.emulator.ledger().calls == {}


def test_a_fall_is_told_every_night_until_somebody_accepts_it(open_harness_on_sqlite, tmp_path):
    """It is compared with the last run that passed, since the night on which it was found; a night that is less sure is no end of it."""
    harness = open_harness_on_sqlite()
    runner, file = harness.runner, reviews_suite(tmp_path, 60)
    found = []
    # The last share alone would be no alarm: p is 0.016, the level for two models 0.005.
    for rows, against in ((0, None), (16, None), (16, None), (6, None), (16, "reviews-3"), (16, None)):
        names = frozenset(f"r{number}:gpt-oss-20b:1" for number in range(rows))
        fault = wrong(1.0).model_copy(update={"custom_ids": names})
        harness.emulator.set_scenario(Scenario(faults=(fault,) if names else ()))
        found.append(night(runner, file, against=against))
    assert [(one.verdict, one.previous) for one in found] == [
        ("first", None),
        ("regressed", "reviews-1"),
        ("regressed", "reviews-1"),
        ("regressed", "reviews-1"),
        ("passed", "reviews-3"),
        ("passed", "reviews-5"),
    ]
    assert [[alarm.since for alarm in one.alarms] for one in found[1:4]] == [[None], ["reviews-2"], ["reviews-2"]]
    assert "(alarm at 0.050 since reviews-2, p 0.016)" in reason(found[3])


def test_a_run_with_a_suspected_fall_is_no_baseline(open_harness_on_sqlite, tmp_path):
    """It passes, since one of two models falls so by chance; the next run is compared with the one before it, and shows the fall."""
    harness = open_harness_on_sqlite()
    runner, file = harness.runner, reviews_suite(tmp_path, 60)
    found = []
    # Of 7 rows that fell p is 0.008 alone and 0.016 of two.
    for rows in (0, 7, 9, 0):
        names = frozenset(f"r{number}:gpt-oss-20b:1" for number in range(rows))
        fault = wrong(1.0).model_copy(update={"custom_ids": names})
        harness.emulator.set_scenario(Scenario(faults=(fault,) if names else ()))
        found.append(night(runner, file))
    assert [(one.verdict, one.previous) for one in found[1:]] == [
        ("passed", "reviews-1"),
        ("regressed", "reviews-1"),
        ("passed", "reviews-1"),
    ]


def test_the_previous_run_is_a_choice(open_harness_on_sqlite, tmp_path):
    """With it only the first night of a fall says so."""
    harness = open_harness_on_sqlite()
    runner, file = harness.runner, reviews_suite(tmp_path, 40, f"{REVIEWS}\nagainst: previous\n")
    night(runner, file)
    harness.emulator.set_scenario(Scenario(faults=(wrong(0.4),)))
    assert [(one.previous, one.verdict) for one in (night(runner, file), night(runner, file))] == [
        ("reviews-1", "regressed"),
        ("reviews-2", "passed"),
    ]
