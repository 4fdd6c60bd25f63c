"""What happens in a simulated year of nights, and what a night may therefore say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batchkit.evaluation.results import Change

NIGHTS = 365
#: By how much the mean falls in a week, from the middle of the year on.
DECAY_PER_WEEK = 0.003
FALL, COLLAPSE, FAILED_SHARE, ERROR_SHARE = 0.10, 0.45, 0.30, 0.1
RELABELLED, REPLACED = 9, 20
#: The slice that collapses, and the models that events are about.
SLICE, FALLING, DECAYING = "garden", 0, 1


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the nights from ``first`` to ``last``, numbered from 1.

    ``verdicts`` are what its first night may say, ``later`` what the others may. ``is_to_be_found`` says that one of its nights must
    say ``regressed``; a change that ``is_gradual`` is small on each night. If it ``may_alarm``,
    alarms may be about the model at the place ``model`` (None: any).
    """

    name: str
    first: int
    last: int
    verdicts: frozenset[str]
    reason: str
    later: frozenset[str] = frozenset()
    is_to_be_found: bool = False
    is_gradual: bool = False
    may_alarm: bool = False
    model: int | None = None

    def allowed(self, night: int) -> frozenset[str]:
        """Return the verdicts that a night of the event may have."""
        return self.verdicts if night == self.first or not self.later else self.later

    def explains(self, alarm: Change, models: Iterable[str]) -> bool:
        """Whether an alarm is about what the event changed."""
        return self.may_alarm and (self.model is None or alarm.model == list(models)[self.model])


def _verdicts(*names: str) -> frozenset[str]:
    return frozenset(names)


_EITHER = _verdicts("passed", "regressed")


def events(nights: int = NIGHTS) -> list[Event]:
    """Return the events of a year; of a shorter series the same ones closer together, without the decay."""
    if nights < NIGHTS:
        return _placed([2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 11, 13, 16, nights + 1])
    return _placed([12, 24, 36, 48, 58, 70, 82, 94, 101, 112, 126, 131, 145, nights // 2 + 1])


def _placed(at: list[int]) -> list[Event]:
    passed, unscored = _verdicts("passed"), _verdicts("unscored")
    regressed = _verdicts("regressed")
    return [
        Event(
            "labels of 9 rows corrected", at[0], at[0], passed, "yesterday's kept answers are scored by the new labels"
        ),
        Event("scorer fails on all answers", at[1], at[1], unscored, "nothing is known about the models"),
        Event("scorer fails on 10 % of answers", at[2], at[2], unscored, "fewer than 95 % are scored"),
        Event("scorer made stricter", at[3], at[3], passed, "yesterday's kept answers are scored by the new scorer"),
        Event("scorer changed back", at[4], at[4], passed, "yesterday's kept answers are scored by the new scorer"),
        Event("20 rows added, 20 removed", at[5], at[5], passed, "the 280 rows of both nights are compared"),
        Event("no run", at[6], at[6], _verdicts("none"), "the next night is compared with the one before"),
        Event(
            "one model falls by 0.10",
            at[7],
            at[8] - 1,
            _EITHER,
            "the first night finds such a fall about two times of three; from then on each night tells it",
            is_to_be_found=True,
            may_alarm=True,
            model=FALLING,
        ),
        Event("it recovers", at[8], at[8], passed, "a rise sets off no alarm"),
        Event(
            "30 % of answers fail",
            at[9],
            at[9],
            regressed,
            "failed answers count as wrong (`missing: zero`)",
            is_to_be_found=True,
            may_alarm=True,
        ),
        Event("the provider is back", at[9] + 1, at[9] + 1, passed, "a rise sets off no alarm"),
        Event(
            "one model's smallest slice falls by 0.45",
            at[10],
            at[11] - 1,
            regressed,
            "the slice has an alarm of its own",
            later=_EITHER,
            is_to_be_found=True,
            may_alarm=True,
            model=FALLING,
        ),
        Event("the slice recovers", at[11], at[11], passed, "a rise sets off no alarm"),
        Event(
            "a model has a new name",
            at[12],
            at[12],
            _verdicts("passed", "incomparable"),
            "the other models are compared; this one with nothing",
        ),
        Event(
            "one model decays by 0.003 a week",
            at[13],
            NIGHTS,
            _EITHER,
            "a night alone shows nothing; the alarm over 90 runs must",
            is_to_be_found=True,
            is_gradual=True,
            may_alarm=True,
            model=DECAYING,
        ),
    ]


def event_of(planned: Iterable[Event], night: int) -> Event | None:
    """Return the event of a night."""
    return next((event for event in planned if event.first <= night <= event.last), None)
