"""The estimate of the remaining time: courses of real runs are replayed, and each estimate is compared with the outcome."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from batchkit import formatting
from batchkit.cli.render.pace import Pace, time_left
from batchkit.engine.situation import Waiting, WaitKind

T0 = 1_750_000_000.0
DAY = 86_400.0
STEP = 10.0
TOTAL = 20_000


@dataclass
class Course:
    """The course of a run: the number of answers and the waits at each second; it ends at ``end`` seconds."""

    answered: list[tuple[float, int]]
    waits: list[tuple[float, tuple[Waiting, ...]]]
    end: float
    longest_silence: float

    def answered_at(self, second: float) -> int:
        """Return the last figure that was known, without interpolation."""
        return next((count for at, count in reversed(self.answered) if at <= second), 0)

    def waits_at(self, second: float) -> tuple[Waiting, ...]:
        """Return the waits at this second."""
        return next((found for at, found in reversed(self.waits) if at <= second), ())


def test_answers_from_before_the_command_do_not_count_towards_the_rate():
    """The first poll finds answers from hours in which no command polled."""
    pace = Pace()
    pace.see(T0, 0)
    for second in range(5, 45, 5):
        pace.see(T0 + second, 7_000 + 100 * second)
    assert pace.rest_seconds(T0 + 41, 2_000) == pytest.approx(20, abs=6)


def test_no_rate_is_shown_when_answers_stop():
    """A silence longer than any before shows that the rate no longer holds: the rest may wait for the end of its window."""
    pace = Pace()
    for second in range(0, 101, 10):
        pace.see(T0 + second, 10 * second)
    waits = [batches(10_000)]
    quiet, silent = (time_left(waits, pace, T0 + 100 + silence, left=400) for silence in (12, 14))
    assert quiet.startswith("about ")
    assert silent == "unknown (no answer for 14 s)"


def test_no_rate_is_shown_that_extends_beyond_the_window():
    """Requests that expire with the window are sent again, and new batches have another rate."""
    pace = Pace()
    for second in range(0, 101, 10):
        pace.see(T0 + second, second)
    within, beyond = (time_left([batches(100 + end)], pace, T0 + 100, left=100) for end in (110, 90))
    assert within == "about 2 min if the present rate lasts"
    assert beyond == "unknown (the present rate does not answer all of them within the window)"


def test_requests_sent_one_by_one_have_an_honest_estimate_after_a_minute():
    """A free plan answers thirty at once and then one every two seconds: the burst is not taken for the rate."""
    pace = Pace()
    told = {}
    for second in range(0, 541, 2):
        pace.see(T0 + second, min(300, (second > 0) * (30 + second // 2)))
        left = 300 - (30 + second // 2)
        waits = [Waiting(WaitKind.SENDING, "requests being sent one by one", T0, count=left)]
        told[second] = time_left(waits, pace, T0 + second, left=left)
    assert told[40].startswith("unknown (")
    for second in range(90, 500, 2):
        assert told[second].startswith("about ")
        assert said_seconds(told[second]) == pytest.approx(540 - second, abs=70)


def batches(window_end: float, created: float = 0.0) -> Waiting:
    """Return a wait for batches whose window ends at a second of the course."""
    return Waiting(WaitKind.BATCHES, "batches at the provider", T0 + created, T0 + window_end)


def ramp(begin: float, end: float, low: int, high: int, every: float) -> list[tuple[float, int]]:
    """Return evenly spaced answers, one step every ``every`` seconds."""
    steps = int((end - begin) / every)
    return [(begin + number * every, low + (high - low) * number // steps) for number in range(steps + 1)]


def steady() -> Course:
    """Two hours with a step per minute."""
    return Course(ramp(0, 7_200, 0, TOTAL, 60), [(0, (batches(DAY),))], 7_200, 60)


def bursts() -> Course:
    """Whole batches at a time, at uneven intervals."""
    moments = [600, 1_100, 1_900, 2_400, 3_100, 3_500, 4_300, 4_900, 5_600, 6_000]
    told = [(float(at), 2_000 * number) for number, at in enumerate(moments, 1)]
    return Course([(0, 0), *told], [(0, (batches(DAY),))], 6_000, 800)


def stuck() -> Course:
    """Nine tenths in an hour, and the rest only when the window ends."""
    told = [*ramp(0, 3_600, 0, 18_000, 60), (DAY, TOTAL)]
    return Course(told, [(0, (batches(DAY),))], DAY, 60)


def expiring() -> Course:
    """Nine tenths in an hour, then the window ends, and the rest is sent again with a window of two days."""
    told = [*ramp(0, 3_600, 0, 18_000, 60), *ramp(DAY + 600, DAY + 1_800, 18_000, TOTAL, 60)]
    again = Waiting(WaitKind.AGAIN, "2,000 requests to send again", None, T0 + DAY + 300)
    return Course(told, [(0, (batches(DAY),)), (DAY, (again,)), (DAY + 300, (batches(3 * DAY, DAY),))], DAY + 1_800, 60)


def refused() -> Course:
    """Half is accepted at once, the other half is refused for an hour, twice."""
    told = [*ramp(0, 1_800, 0, 10_000, 60), *ramp(7_200, 9_000, 10_000, TOTAL, 60)]
    no_room = [Waiting(WaitKind.REFUSED, "10,000 requests not sent", T0, T0 + until) for until in (3_600, 7_200)]
    waits = [
        (0.0, (batches(DAY), no_room[0])),
        (1_800.0, (no_room[0],)),
        (3_600.0, (no_room[1],)),
        (7_200.0, (batches(DAY + 7_200, 7_200),)),
    ]
    return Course(told, waits, 9_000, 60)


def two_windows() -> Course:
    """Batches of a day and of two days: the later end counts."""
    told = [*ramp(0, 1_800, 0, 10_000, 60), *ramp(90_000, 93_600, 10_000, TOTAL, 60)]
    return Course(told, [(0, (batches(2 * DAY),))], 93_600, 60)


def outage() -> Course:
    """Two hours of outage, in which the provider continues to work."""
    told = [*ramp(0, 1_800, 0, 5_000, 60), (9_000, 18_000), *ramp(9_060, 9_600, 18_200, TOTAL, 60)]
    away = Waiting(WaitKind.OUTAGE, "the provider cannot be reached; tried 9 times", T0 + 1_860, T0 + 2_760)
    return Course(told, [(0, (batches(DAY),)), (1_860, (away,)), (9_000, (batches(DAY),))], 9_600, 60)


COURSES = {make.__name__: make for make in (steady, bursts, stuck, expiring, refused, two_windows, outage)}
_ABOUT = re.compile(r"^about (\d+) (s|min|h|days) if the present rate lasts")
_SECONDS = {"s": 1, "min": 60, "h": 3_600, "days": DAY}


def said_seconds(text: str) -> float | None:
    """Return the seconds in the text of an estimate."""
    found = _ABOUT.match(text)
    return None if found is None else int(found[1]) * _SECONDS[found[2]]


def play(course: Course):
    """Replay a course in steps, as a command would see it; yield the second and the estimate."""
    pace = Pace()
    second = 0.0
    while second < course.end:
        answered = course.answered_at(second)
        pace.see(T0 + second, answered)
        yield second, time_left(course.waits_at(second), pace, T0 + second, left=TOTAL - answered)
        second += STEP


def quiet_from(course: Course, second: float) -> float:
    """Return when answers stop for longer than before, or the end."""
    moments = [at for at, _ in course.answered if at >= second] or [course.end]
    last = second
    for at in moments:
        if at - last > 2 * course.longest_silence:
            return last
        last = at
    return course.end


@pytest.mark.parametrize("name", COURSES)
def test_no_shown_rate_is_disproved_while_answers_come(name):
    """The time to the end, or until answers stop, is at most twice the estimate plus two silences, and not far less."""
    course = COURSES[name]()
    for second, text in play(course):
        said = said_seconds(text)
        if said is None:
            continue
        slack = 2 * course.longest_silence + 60
        if quiet_from(course, second) >= course.end:
            assert course.end - second <= 2 * said + slack, (second, text)
            assert said <= 2 * (course.end - second) + slack, (second, text)


@pytest.mark.parametrize("name", COURSES)
def test_a_rate_is_no_longer_shown_when_answers_stop(name):
    """Within twice the longest earlier silence, the number is gone, and the silence is shown."""
    course = COURSES[name]()
    for second, text in play(course):
        silence = second - max(at for at, _ in course.answered if at <= second)
        if silence > 2 * course.longest_silence + STEP:
            assert said_seconds(text) is None, (second, text)


@pytest.mark.parametrize("name", COURSES)
def test_no_earliest_end_is_disproved(name):
    """Nothing is finished before the stated earliest time."""
    course = COURSES[name]()
    for second, text in play(course):
        for wait in course.waits_at(second):
            if wait.is_not_before and wait.until is not None and wait.until > T0 + second:
                assert text.startswith(f"not before {formatting.when(wait.until, T0 + second)}")
                assert T0 + course.end >= wait.until


def test_a_long_steady_run_has_an_estimate():
    """From the first tenth on a rate is always shown."""
    told = [said_seconds(text) for second, text in play(steady()) if second > 1_500]
    assert all(said is not None for said in told)


def test_a_stuck_run_shows_the_silence():
    """A quarter of an hour after the last answer the text has no minutes left."""
    texts = {second: text for second, text in play(stuck()) if second < 5_000}
    assert texts[4_500.0] == "unknown (no answer for 15 min 00 s)"


def test_an_outage_has_no_estimate():
    """Not even the present rate is shown."""
    assert {text for second, text in play(outage()) if 1_860 <= second < 9_000} == {"unknown while this lasts"}


def test_without_evidence_there_is_no_estimate():
    """Three steps forward are no rate, and neither are a few seconds."""
    pace = Pace()
    for second in range(0, 40, 10):
        pace.see(second, second)
    assert pace.rest_seconds(31, 100) is None
    hasty = Pace()
    for second in range(10):
        hasty.see(second, second)
    assert hasty.rest_seconds(9, 5) is None
    assert time_left([], Pace(), 0, left=5) == "unknown (no new answer seen yet)"


def test_the_estimate_follows_the_observed_rate():
    """At ten a second for a minute, the other six hundred take another minute."""
    pace = Pace()
    for second in range(0, 61, 10):
        pace.see(second, second * 10)
    assert pace.rest_seconds(60, 600) == 60


def test_only_the_recent_past_counts():
    """A fast start an hour ago does not count for the rest."""
    pace = Pace(window_seconds=100)
    for second in range(0, 60, 10):
        pace.see(second, second * 100)
    for second in range(1_000, 1_101, 10):
        pace.see(second, 5_000 + (second - 1_000))
    rest = pace.rest_seconds(1_100, 100)
    assert rest is not None
    assert 90 <= rest <= 110


def test_requests_that_return_unanswered_restart_the_measurement():
    """A rate that counted them is not a rate of answers."""
    pace = Pace()
    for second in range(0, 101, 10):
        pace.see(second, second * 10)
    assert pace.rest_seconds(100, 500) == 50
    pace.see(110, 600)
    assert pace.rest_seconds(110, 900) is None


def test_a_rest_far_longer_than_the_observation_is_not_computed():
    """A minute of evidence says nothing about tomorrow."""
    pace = Pace()
    for second in range(0, 71, 10):
        pace.see(second, second)
    assert pace.rest_seconds(70, 240) == 240
    assert pace.rest_seconds(70, 241) is None


def test_the_estimate_is_never_sooner_than_the_next_check():
    """The end cannot be detected before the next poll."""
    pace = Pace()
    for second in range(0, 61, 10):
        pace.see(second, second * 10)
    assert time_left([], pace, 60, left=10, next_check=360) == "about 5 min if the present rate lasts"


def test_when_every_request_is_answered_only_the_download_is_left():
    """No rate of answers predicts the duration of the download."""
    assert time_left([], Pace(), 0, left=0) == "unknown (every request is answered, the rest is the download)"


def test_batches_past_their_window_are_overdue():
    """A latest end that has passed is not shown again."""
    assert time_left([batches(10)], Pace(), T0 + 20, left=5) == "unknown (no new answer seen yet)"
