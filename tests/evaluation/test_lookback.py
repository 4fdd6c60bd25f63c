"""Alarms over several runs: the first third of the last passed runs against the last one, row by row."""

from __future__ import annotations

import numpy as np
import pytest

from batchkit.evaluation.lookback import compared_over
from batchkit.evaluation.measure import RunScores, load_rows
from batchkit.evaluation.results import SUMMARY, EvaluationSummary, RunSpan, Window
from batchkit.evaluation.suite import Suite
from batchkit.evaluation.verdict import judged
from batchkit.stats.flips import flip_p_values
from batchkit.store import evaluations
from batchkit.store.evaluations import Arm, RowOf, ScoreOf
from tests.evaluation.year_world import at_mean
from tests.reports.test_evaluation_headline import make_change

ROWS = 6
CHOICE = {"kind": "choice", "name": "accuracy"}


def suite(*alarms, scorer=CHOICE, **values):
    """Make a suite whose rows have a key and a slice."""
    given = {"dataset": {"path": "rows.csv", "key": "id"}, "prompt": "?", "expected": "label", "slices": ["kind"]}
    return Suite.model_validate(
        {"name": "s", "models": ["m"], **given, "scorers": [scorer], "alarms": list(alarms), **values}
    )


def over(runs, **values):
    """Make an alarm over so many runs."""
    return {"scorer": "accuracy", "fall": 0.1, "over": runs, **values}


class Series:
    """The runs of a suite, written without asking anything."""

    def __init__(self, store):
        self.store, self.number = store, 0

    def night(
        self, right, verdict="passed", *, of=None, models=("m",), labels=None, previous=None, keys=None, is_slow=False
    ):
        """Write a run: ``right`` has a score for each row, or None, the same for each model; return it.

        One that regressed did so beside the run before, or, if that ``is_slow``, over several runs only.
        """
        of = of or suite()
        self.number += 1
        with self.store.write() as connection:
            run = evaluations.begin(
                connection,
                suite="s",
                suite_version="v",
                definition=of.model_dump_json(by_alias=True),
                arms=[Arm("prompt", "0" * 64, model) for model in models],
                samples=1,
                name=None,
                scheduled_for=None,
                at=float(self.number),
            )
            assert run is not None
            keys = keys or [f"r{row}" for row in range(len(right))]
            labels = labels or ["yes"] * len(right)
            evaluations.add_rows(
                connection,
                run.id,
                [
                    RowOf(place + 1, key, f'{{"kind":"{"even" if place % 2 == 0 else "odd"}"}}', None, label, b"c" * 8)
                    for place, (key, label) in enumerate(zip(keys, labels, strict=True))
                ],
            )
            evaluations.add_scores(
                connection,
                run.id,
                [
                    ScoreOf(
                        "accuracy", row * len(models) + arm, score, None if score is not None else "no_expected", None
                    )
                    for row, score in enumerate(right)
                    for arm in range(len(models))
                ],
            )
            window = Window(9, RunSpan(1, "s-1", "s-1"), RunSpan(1, run.name, run.name))
            raised = (make_change(is_alarm=True, window=window if is_slow else None),) if verdict == "regressed" else ()
            summary = EvaluationSummary(
                "s", run.name, previous, "v", (run.workload,), 0.0, 1.0, (), raised, (), verdict
            )
            evaluations.finish(
                connection,
                run.id,
                verdict=verdict,
                summary=SUMMARY.dump_json(summary).decode(),
                fully_scored=verdict != "unscored",
                at=float(self.number),
            )
            found = evaluations.find(connection, run.name)
        assert found is not None
        return found

    def compared(self, run, of, previous="s-1"):
        """Return what the alarms over several runs compare in a run."""
        with self.store.read() as connection:
            before = evaluations.find(connection, previous)
            assert before is not None
            return list(compared_over(RunScores(connection, run, of, load_rows(connection, run)), before))


def spans(compared):
    """Return the runs of both thirds."""
    window = compared.window
    return (window.before.first, window.before.last), (window.after.first, window.after.last)


def test_the_first_third_of_the_last_passed_runs_is_compared_with_the_last(store):
    """Each row counts with the mean of its scores, the present run is one of the last third, and the middle is not read."""
    series = Series(store)
    for right in ([0.0] * ROWS, [1.0] * ROWS, [1, 1, 1, 0, 1, 1], [0.0] * ROWS, [0.0] * ROWS, [1, 1, 1, 0, 0, 0]):
        series.night(right)
    of = suite(over(6))
    (found,) = series.compared(series.night([1, 1, 0, 0, 0, 0]), of)
    assert spans(found) == (("s-2", "s-3"), ("s-6", "s-7"))
    assert (found.window.runs, found.window.before.count) == (6, 2)
    assert found.pairs.before.tolist() == [1, 1, 1, 0.5, 1, 1]
    assert found.pairs.after.tolist() == [1, 1, 0.5, 0, 0, 0]
    assert found.comparison.difference == pytest.approx(2.5 / 6 - 5.5 / 6)


def test_runs_that_fell_or_were_not_scored_are_left_out(sqlite_store):
    """Only what passed says how good the model was."""
    series = Series(sqlite_store)
    for verdict in ("first", "regressed", "unscored", "passed", "incomparable"):
        series.night([1.0] * ROWS, verdict)
    (found,) = series.compared(series.night([1.0] * ROWS), suite(over(90)))
    assert (spans(found), found.window.runs) == ((("s-1", "s-1"), ("s-6", "s-6")), 4)


def test_runs_that_fell_over_several_runs_only_are_in_the_last_third(store):
    """So it follows the decay, whose beginning stays in the first third until somebody accepts it."""
    series = Series(store)
    for _ in range(6):
        series.night([1.0] * ROWS)
    for right in ([1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]):
        series.night(right, "regressed", previous="s-6", is_slow=True)
    series.night([0.0] * ROWS, "regressed", previous="s-6")
    (found,) = series.compared(series.night([0.0] * ROWS), suite(over(7)))
    assert spans(found) == (("s-1", "s-2"), ("s-8", "s-10"))
    assert (found.window.runs, found.window.after.count) == (9, 2)
    assert found.comparison.difference == pytest.approx(1 / 6 - 1)


def test_a_level_that_somebody_accepted_begins_the_runs_anew(sqlite_store):
    """A run that passed beside one that regressed was compared with it by name: what was before is no measure any more."""
    series = Series(sqlite_store)
    for _ in range(4):
        series.night([1.0] * ROWS)
    series.night([0.0] * ROWS, "regressed", previous="s-4")
    accepting = series.night([0.0] * ROWS, previous="s-5")
    of = suite(over(9))
    assert series.compared(accepting, of, previous="s-5") == []
    (found,) = series.compared(series.night([0.0] * ROWS, previous="s-6"), of, previous="s-6")
    assert spans(found) == (("s-6", "s-6"), ("s-7", "s-7"))


def test_a_run_that_passed_after_a_fall_is_no_acceptance_by_itself(sqlite_store):
    """It was compared with the last run that passed: the model has recovered."""
    series = Series(sqlite_store)
    series.night([1.0] * ROWS, "first")
    series.night([0.0] * ROWS, "regressed", previous="s-1")
    series.night([1.0] * ROWS, previous="s-1")
    (found,) = series.compared(series.night([1.0] * ROWS), suite(over(9)), previous="s-3")
    assert spans(found) == (("s-1", "s-1"), ("s-4", "s-4"))


def test_scores_by_other_scorers_and_other_labels_are_left_out(sqlite_store):
    """They say nothing about the model; rows that came later are compared as far as they go back."""
    series = Series(sqlite_store)
    series.night([0.0] * ROWS, of=suite(scorer={"kind": "exact", "name": "accuracy"}))
    series.night([0.0] * ROWS, labels=["no"] * 2 + ["yes"] * 4)
    keys = [f"r{row}" for row in (0, 1, 2, 3, 4, 9)]
    (found,) = series.compared(series.night([1.0] * ROWS, keys=keys), suite(over(9)))
    assert spans(found)[0] == ("s-2", "s-2")
    assert found.comparison.pairs == 3
    assert series.compared(series.night([1.0] * ROWS, keys=keys), suite(over(9), min_paired=0.9)) == []


def test_a_row_counts_if_half_of_the_runs_have_scored_it(sqlite_store):
    """On each side: a mean of one night of thirty would be as uncertain as that night."""
    series = Series(sqlite_store)
    for _ in range(2):
        series.night([None, 1, 1, 1, 1, 1])
    series.night([1.0] * ROWS)
    for last in range(6):
        series.night([1, None if last > 4 else 1, 1, 1, 1, 1])
    (found,) = series.compared(series.night([1.0] * ROWS), suite(over(10)))
    assert (found.window.before.count, found.comparison.pairs, found.scored) == (3, 5, 6)


def test_a_model_with_a_new_name_has_its_own_runs(sqlite_store):
    """The others are compared over all of theirs."""
    series = Series(sqlite_store)
    of = suite(over(30), models=["m", "new"])
    for models in (("m", "old"), ("m", "old"), ("m", "new")):
        series.night([1.0] * ROWS, models=models)
    found = series.compared(series.night([1.0] * ROWS, models=("m", "new")), of)
    assert {one.arm.model: spans(one)[0][0] for one in found} == {"m": "s-1", "new": "s-3"}


def test_each_value_of_a_slice_can_be_watched_over_several_runs(sqlite_store):
    """An alarm for slices compares each of them, one for all rows the whole."""
    series = Series(sqlite_store)
    for _ in range(2):
        series.night([1.0] * ROWS)
    run = series.night([0, 1, 0, 1, 0, 1])
    of = suite(over(3, slice="kind"))
    found = series.compared(run, of)
    assert {one.slice: one.comparison.difference for one in found} == {"kind=even": -1.0, "kind=odd": 0.0}
    assert [change.is_alarm for change in judged(found, of.alarms)] == [False, False]
    assert [change.threshold for change in judged(found, of.alarms)] == [0.1, 0.1]


# How well a window finds a decay, and how often it finds one where there is none: answers are drawn, so that nothing is stored.

PASSAGES, NIGHTS = 60, 185


def drawn_year(seed, *, decay, nights=NIGHTS + 90, start=90):
    """Draw nights of 300 rows in 60 passages: right answers of each passage; from ``start`` on the mean falls by ``decay`` a week."""
    random = np.random.default_rng([seed, 20])
    passage = np.arange(300) % PASSAGES
    skill = random.normal(0, 2.5, 300) + random.normal(0, 1, PASSAGES)[passage]
    found = np.empty((nights, PASSAGES))
    for night in range(nights):
        shocks = random.normal(0, 0.5, PASSAGES)[passage]
        chances = at_mean(skill + shocks, 0.92 - decay * max(night - start, 0) / 7)
        found[night] = np.bincount(passage, random.random(300) < chances, PASSAGES)
    return found


def fall_over(year, night, runs):
    """Return the fall over so many runs up to a night, and its p-value."""
    window = year[max(night + 1 - runs, 0) : night + 1]
    third = max(len(window) // 3, 1)
    moved = window[-third:].mean(axis=0) - window[:third].mean(axis=0)
    return -moved.sum() / 300, flip_p_values(moved)[1]


def found_after(year, runs, *, fall, level=0.001, start=90):
    """Return the night of the decay on which an alarm first goes off, of every third night; None if it never does."""
    for night in range(start, len(year), 3):
        fell, p_value = fall_over(year, night, runs)
        if fell >= fall and p_value < level:
            return night - start
    return None


def test_a_decay_that_no_two_nights_show_is_found_over_ninety_runs():
    """It is 0.003 a week of 300 rows, and has lasted for 100 nights; the level is corrected for ten means."""
    year = drawn_year(1, decay=0.003)
    (fell, p_value), (_, of_two) = fall_over(year, 190, 90), fall_over(year, 190, 2)
    assert fell >= 0.02
    assert p_value < 0.001 < of_two


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_the_power_and_the_level_over_several_runs():
    """Of 50 decays all are found over 90 runs, half of them within ten weeks; of 200 windows without one few are rejected."""
    years = [drawn_year(seed, decay=0.003) for seed in range(50)]
    after = {runs: [found_after(year, runs, fall=0.02) for year in years] for runs in (2, 30, 60, 90, 180)}
    for runs, nights in after.items():
        tenths = np.percentile([NIGHTS if night is None else night for night in nights], [10, 50, 90])
        print(f"over {runs}: found {50 - nights.count(None)} of 50, after {tenths}")  # noqa: T201 - figures of the README
    assert None not in after[90]
    assert np.median(after[90]) <= 70
    quiet = [drawn_year(1_000 + seed, decay=0.0, nights=90) for seed in range(200)]
    rejected = {level: sum(fall_over(year, 89, 90)[1] < level for year in quiet) for level in (0.05, 0.01)}
    print(f"without a decay: {rejected}")  # noqa: T201 - as above
    assert rejected[0.05] <= 17
    assert rejected[0.01] <= 6
