"""Alarms: a planted fall is found, noise is not, at the rates that the level promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from batchkit.evaluation.measure import PairedScores
from batchkit.evaluation.suite import Alarm
from batchkit.evaluation.verdict import Compared, judged, key_of, verdict_of
from batchkit.stats.paired import PairedComparison, compare_pairs
from batchkit.store.evaluations import Arm
from tests.evaluation.year_world import at_mean

ARMS = [Arm("prompt", "0" * 64, model) for model in ("small", "large", "larger", "largest")]
ALARM = Alarm(scorer="accuracy", fall=0.05)
OF_SLICES = Alarm(scorer="accuracy", fall=0.15, slice="category")
ROWS, PASSAGES, SLICES = 300, 60, 3
PASSAGE_OF = np.arange(ROWS) % PASSAGES


NOTHING = PairedScores(np.array([]), np.array([]), None)


def compared(difference, fall_p_value, *, arm=ARMS[0], scorer="accuracy", **values):
    """Make a comparison that moved so far, with this evidence for a fall."""
    comparison = PairedComparison(0.9, 0.9 + difference, difference, 0, 0, 0.5, fall_p_value, "by hand", ROWS, 1, 0)
    return Compared(scorer, arm, comparison, NOTHING, ROWS, **values)


def compare(before, after, *, arm=ARMS[0], clusters=None):
    """Compare scores of two nights."""
    found = compare_pairs(before, after, clusters)
    assert found is not None
    return Compared("accuracy", arm, found, PairedScores(before, after, clusters), len(before))


def draw(random, mean):
    """Draw a night of right and wrong answers."""
    return (random.random(ROWS) < mean).astype(float)


def nights(random, *, before, after, arms=1):
    """Draw two nights for each arm, of which the first may change, and say whether its alarm, or any where none did, goes off."""
    means = [after, *[before] * (arms - 1)]
    found = [compare(draw(random, before), draw(random, mean), arm=arm) for arm, mean in zip(ARMS, means, strict=False)]
    changes = judged(found, [ALARM])
    return changes[0].is_alarm if before != after else verdict_of(changes) == "regressed"


def graded_nights(random, *, fall):
    """Draw two nights of scores between 0 and 1, the second one lower by ``fall``, and judge them."""
    skill = random.beta(6, 2, ROWS)
    first = np.clip(skill + random.normal(0, 0.1, ROWS), 0, 1)
    second = np.clip(skill - fall + random.normal(0, 0.1, ROWS), 0, 1)
    return verdict_of(judged([compare(first, second)], [ALARM])) == "regressed"


def drawn_in_passages(random, *, before, after):
    """Draw two nights of a model on rows with their own difficulty, in passages that are easy or hard together, other ones each night."""
    skill = random.normal(0, 2.5, ROWS) + random.normal(0, 1, PASSAGES)[PASSAGE_OF]
    chances = (at_mean(skill + random.normal(0, 0.5, PASSAGES)[PASSAGE_OF], mean) for mean in (before, after))
    return [(random.random(ROWS) < chance).astype(float) for chance in chances]


def suite_nights(random, *, after, arms=4):
    """Judge two nights of a suite with passages, slices and models, of which the first may change from 0.90; return the changes."""
    found = []
    for arm, mean in zip(ARMS[:arms], [after, *[0.9] * (arms - 1)], strict=True):
        first, second = drawn_in_passages(random, before=0.9, after=mean)
        found.append(compare(first, second, arm=arm, clusters=PASSAGE_OF))
        for value in range(SLICES):
            inside = np.equal(PASSAGE_OF % SLICES, value)
            of_slice = compare(first[inside], second[inside], arm=arm, clusters=PASSAGE_OF[inside])
            found.append(replace(of_slice, slice=f"category={value}", slice_column="category"))
    return judged(found, [ALARM, OF_SLICES])


def is_told(changes):
    """Whether an alarm about the first model, over all rows or in a slice, went off."""
    return any(change.is_alarm and change.model == ARMS[0].model for change in changes)


def test_a_fall_must_be_large_and_no_chance():
    """An alarm goes off for a fall that is both; for neither alone, and never for a rise."""
    for difference, p_value, expected in (
        (-0.06, 0.001, True),
        (-0.06, 0.02, False),
        (-0.04, 0.001, False),
        (0.06, 0.001, False),
    ):
        (change,) = judged([compared(difference, p_value)], [ALARM])
        assert (change.is_alarm, change.threshold) == (expected, 0.05)
        assert verdict_of([change]) == ("regressed" if expected else "passed")


def test_what_no_alarm_watches_sets_none_off():
    """An alarm is about its scorer, and about one model or prompt if it says so."""
    moved = [compared(-0.2, 1e-6, arm=arm) for arm in ARMS[:2]] + [compared(-0.2, 1e-6, scorer="other")]
    changes = judged(moved, [Alarm(scorer="accuracy", fall=0.05, model="large")])
    assert [change.is_alarm for change in changes] == [False, True, False]
    assert [change.fall_p_value is None for change in changes] == [True, False, True]


def test_the_level_holds_for_the_whole_suite():
    """With four models the smallest p-value counts four times: Holm's correction."""
    moved = [compared(-0.1, p, arm=arm) for arm, p in zip(ARMS, (0.004, 0.002, 0.5, 0.5), strict=True)]
    changes = judged(moved, [ALARM])
    assert [change.fall_p_value for change in changes] == pytest.approx([0.012, 0.008, 1.0, 1.0])
    assert [change.is_alarm for change in changes] == [False, True, False, False]


def test_of_two_alarms_on_one_metric_the_one_that_goes_off_is_shown():
    """Asking the same twice is asked once, and corrected for once."""
    alarms = [Alarm(scorer="accuracy", fall=0.5), Alarm(scorer="accuracy", fall=0.05)]
    (change,) = judged([compared(-0.1, 0.009)], alarms)
    assert (change.is_alarm, change.threshold, change.fall_p_value) == (True, 0.05, 0.009)


@pytest.mark.parametrize(
    ("difference", "p_value", "is_on"), [(-0.06, 0.04, True), (-0.06, 0.05, False), (-0.04, 0.0001, False)]
)
def test_an_alarm_stays_on_while_the_fall_is_there(difference, p_value, is_on):
    """It was found among all already, so it is tested alone: the corrected p-value of 8 models would end it."""
    moved = [compared(difference, p_value, slice="a=b", slice_column="a")]
    moved += [
        compared(0.0, 1.0, arm=Arm("prompt", "0" * 64, f"m{place}"), slice="a=b", slice_column="a")
        for place in range(7)
    ]
    alarm = Alarm(scorer="accuracy", fall=0.05, slice="a")
    change, *others = judged(moved, [alarm], {key_of(moved[0]): "s-7"})
    assert (change.is_alarm, change.since) == (is_on, "s-7" if is_on else None)
    assert not any(other.is_alarm for other in others)
    assert not judged(moved, [alarm])[0].is_alarm


def test_a_fall_that_is_significant_alone_is_suspected():
    """It raises no alarm among eight, and the run is no baseline: the next one is compared with the same run."""
    moved = [
        compared(-0.06, 0.004),
        *(compared(0.0, 1.0, arm=Arm("prompt", "0" * 64, f"m{place}")) for place in range(7)),
    ]
    changes = judged(moved, [ALARM])
    assert [change.is_suspect for change in changes] == [True, *[False] * 7]
    assert verdict_of(changes) == "passed"
    assert not any(change.is_suspect for change in judged([compared(-0.04, 0.004)] * 8, [ALARM]))
    assert [change.is_suspect for change in judged([compared(-0.06, 0.004)], [ALARM])] == [False]


def test_a_sample_of_planted_falls_is_found_and_noise_is_not():
    """Ten nights of each kind; the slow tests have the rates."""
    random = np.random.default_rng(1)
    assert sum(nights(random, before=0.9, after=0.75) for _ in range(10)) == 10
    assert sum(nights(random, before=0.9, after=0.9) for _ in range(10)) == 0


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("arms", [1, 4])
def test_planted_falls_are_found_at_the_rate_that_theory_gives(arms):
    """Of 100 falls from 0.90 to 0.75 on 300 rows at least 95 are found, in one model alone and in one of four."""
    found = [nights(np.random.default_rng(seed), before=0.9, after=0.75, arms=arms) for seed in range(100)]
    assert sum(found) >= 95


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("arms", [1, 4])
def test_noise_sets_off_no_more_alarms_than_the_level_allows(arms):
    """Of 100 pairs of nights without any fall at most 3 end with an alarm at level 1 %, with one model and with four."""
    found = [nights(np.random.default_rng(seed), before=0.85, after=0.85, arms=arms) for seed in range(100)]
    assert sum(found) <= 3


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_graded_scores_keep_the_same_promises():
    """A fall of 0.08 in scores from 0 to 1 is found at least 95 times of 100; without a fall there is an alarm at most 3 times."""
    assert sum(graded_nights(np.random.default_rng(seed), fall=0.08) for seed in range(100)) >= 95
    assert sum(graded_nights(np.random.default_rng(seed), fall=0.0) for seed in range(100)) <= 3


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("arms", [1, 4])
def test_planted_falls_are_found_in_suites_with_passages_and_slices(arms):
    """The same falls among 4 watched means, and among 16: rows of one passage count together, so fewer are found."""
    found = [is_told(suite_nights(np.random.default_rng(seed), after=0.75, arms=arms)) for seed in range(100)]
    assert sum(found) >= 95


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("arms", [1, 4])
def test_noise_sets_off_no_more_alarms_in_suites_with_passages_and_slices(arms):
    """Passages that are harder together on a night are no fall of the model."""
    changes = [suite_nights(np.random.default_rng(seed), after=0.9, arms=arms) for seed in range(100)]
    assert sum(verdict_of(of_night) == "regressed" for of_night in changes) <= 3
