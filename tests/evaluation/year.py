"""A year of nights of one suite: the real path from the table to the verdict, on SQLite, with drawn answers in place of a provider's.

Run it with ``python -m tests.evaluation.year [--seed N] [--models 4]``. Chance and events are planted, so that the right verdict of
each night is known.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from batchkit.annotation.workload_from_table import snapshot_path
from batchkit.datasets import Snapshot
from batchkit.engine.runtime import Runner
from batchkit.evaluation import runs, scoring
from batchkit.evaluation.scorers.texts import ChoiceScorer
from batchkit.evaluation.sentences import reason
from batchkit.evaluation.suite_file import load_suite
from batchkit.settings import load_settings
from tests.evaluation.support import write_suite
from tests.evaluation.year_plan import ERROR_SHARE, NIGHTS, Event, event_of, events
from tests.evaluation.year_world import ASKED, LABELS, World, drawn_answers
from tests.lazy import LazyModule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from batchkit.annotation.row_answers import RowAnswers
    from batchkit.evaluation.results import Change, EvaluationSummary
    from batchkit.models import Workload

stats = LazyModule("scipy.stats")

LEVEL = 0.01
SUITE = """
name: year
dataset: {{path: reviews.csv, key: id, cluster: passage}}
prompt: "{asked} {{{{ text }}}}"
models: {models}
answers:
  schema: {{type: object, properties: {{label: {{enum: {labels}}}}}, required: [label], additionalProperties: false}}
expected: label
slices: [category]
scorers:
  - {{kind: {kind}, name: accuracy, field: label}}
alarms:
  - {{scorer: accuracy, fall: 0.05, level: 0.01}}
  - {{scorer: accuracy, fall: 0.02, level: 0.01, over: 90}}
  - {{scorer: accuracy, fall: 0.15, level: 0.01, slice: category}}
against: {against}
"""


@dataclass(frozen=True)
class Night:
    """What a night said, and what it should have said."""

    number: int
    event: Event | None
    verdict: str
    said: str = ""
    #: Alarms that are about nothing that was planted, with the suite's smallest falls and without any.
    false_alarms: int = 0
    false_at_any_fall: int = 0
    #: Whether an alarm is about what was planted.
    is_told: bool = False

    @property
    def is_right(self) -> bool:
        """Whether the verdict is one of those that the night's event allows."""
        allowed = {"passed", "first"} if self.event is None else self.event.allowed(self.number)
        return self.verdict in allowed and not self.false_alarms


@dataclass
class Year:
    """All nights of a year, in order."""

    nights: list[Night] = field(default_factory=list)

    @property
    def quiet(self) -> list[Night]:
        """The compared nights without an event, and those of the decay: there an alarm about another model is false."""
        return [
            night
            for night in self.nights
            if (night.event is None or night.event.is_gradual) and night.verdict != "first"
        ]

    def false_alarms(self) -> int:
        """Count the quiet nights with an alarm about nothing that was planted."""
        return sum(night.false_alarms > 0 for night in self.quiet)

    def false_at_any_fall(self) -> int:
        """Count the same if any fall is large enough."""
        return sum(night.false_at_any_fall > 0 for night in self.quiet)

    def wrong(self) -> list[Night]:
        """Return the nights with a verdict that nothing allows; false alarms of the ``quiet`` ones are counted apart."""
        events_of = [night for night in self.nights if night.event is not None and not night.event.is_gradual]
        return [night for night in events_of if not night.is_right]

    def nights_of(self, event: Event) -> list[Night]:
        """Return the nights of an event."""
        return [night for night in self.nights if night.event == event]

    def found_after(self, event: Event) -> int | None:
        """Return after how many nights of an event a verdict told it; None if none did."""
        return next(
            (place for place, night in enumerate(self.nights_of(event), 1) if night.verdict == "regressed"), None
        )

    def told_on(self, event: Event) -> tuple[int, int]:
        """Return on how many nights of an event a verdict told it, and how many there are from the first of these on."""
        told = [night.is_told for night in self.nights_of(event)]
        since = told[(self.found_after(event) or 1) - 1 :]
        return since.count(True), len(since)


def largest_count(nights: int, level: float = LEVEL) -> int:
    """Return the largest number of false alarms that a level explains: more have a chance below 1 %."""
    return int(stats.binom.ppf(0.99, nights, level))


def play(folder: Path, *, seed: int, models: int = 2, nights: int = NIGHTS, against: str = "passed") -> Iterator[Night]:
    """Play a series of nights in an empty folder."""
    planned = events(nights)
    world = World(seed, models, planned)
    nights_of: dict[str, int] = {}
    settings = load_settings(home=folder / "home", database_url=f"sqlite:///{folder / 'batchkit.db'}", api_key="any")

    def drawn(runner: Runner, workload: Workload) -> Iterator[RowAnswers]:
        return drawn_answers(world, nights_of[workload.name], Snapshot.open(snapshot_path(runner, workload)))

    with Runner(settings) as runner, patch.object(scoring, "read_row_answers", drawn):
        for number in range(1, nights + 1):
            event = event_of(planned, number)
            if event is not None and event.name == "no run":
                yield Night(number, event, "none")
                continue
            world.write_table(folder, number)
            evaluation = runs.begin(runner, load_suite(write_suite(folder, _suite(world, number, planned, against))))
            runs.next_workload(runner, evaluation)
            nights_of[evaluation.workload] = number
            with _scorer(event):
                found = runs.conclude(runner, evaluation).summary
            yield _judged(found, number, event, world.models(number))


def _suite(world: World, number: int, planned: list[Event], against: str) -> str:
    stricter, back = (
        event_.first for event_ in planned if event_.name in {"scorer made stricter", "scorer changed back"}
    )
    return SUITE.format(
        asked=ASKED,
        models=f"[{', '.join(world.models(number))}]",
        labels=f"[{', '.join(LABELS)}]",
        kind="exact" if stricter <= number < back else "choice",
        against=against,
    )


def _scorer(event: Event | None) -> Any:
    """Return a context in which the scorer fails as the event says."""
    if event is None or not event.name.startswith("scorer fails"):
        return nullcontext()
    share = 1.0 if "all" in event.name else ERROR_SHARE
    random = np.random.default_rng(event.first)
    whole: Callable[..., Any] = ChoiceScorer._compare

    def failing(self: ChoiceScorer, given: Any, truth: Any) -> Any:
        if random.random() < share:
            raise KeyError("renamed")
        return whole(self, given, truth)

    return patch.object(ChoiceScorer, "_compare", failing)


def _judged(found: EvaluationSummary, number: int, event: Event | None, names: list[str]) -> Night:
    def unexplained(changes: Iterable[Change]) -> list[Change]:
        return [change for change in changes if event is None or not event.explains(change, names)]

    # The p-values are corrected for everything that is watched, whatever the smallest fall is.
    changes = (*found.changes, *found.slice_changes)
    significant = [change for change in changes if change.difference < 0 and (change.fall_p_value or 1.0) < LEVEL]
    return Night(
        number=number,
        event=event,
        verdict=found.verdict,
        said=reason(found),
        false_alarms=len(unexplained(found.alarms)),
        false_at_any_fall=len(unexplained(significant)),
        is_told=len(unexplained(found.alarms)) < len(found.alarms),
    )


def report(year: Year, planned: list[Event]) -> str:
    """Return the tables of a year as Markdown."""
    verdicts = Counter(night.verdict for night in year.nights)
    quiet = len(year.quiet)
    lines = [
        "nights: " + ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common()),
        "",
        "| Nights | Event | May say | Said | First told on its night | Told on |",
        "|---|---|---|---|---|---|",
    ]
    for event in planned:
        of_event = [night for night in year.nights if night.event == event]
        if not of_event:
            continue
        said = Counter(night.verdict for night in of_event)
        after = year.found_after(event)
        found = "-" if not event.is_to_be_found else "not found" if after is None else f"{after}"
        told = "{} of {}".format(*year.told_on(event)) if event.is_to_be_found and after else "-"
        numbers = f"{event.first}" if event.first == event.last else f"{event.first}-{event.last}"
        lines.append(
            f"| {numbers} | {event.name} | {', '.join(sorted(event.verdicts))} |"
            f" {', '.join(f'{count} {verdict}' for verdict, count in said.most_common())} | {found} | {told} |"
        )
    for name, count in (("as the suite has it", year.false_alarms()), ("any fall counts", year.false_at_any_fall())):
        p_value = stats.binomtest(count, quiet, LEVEL, alternative="greater").pvalue if quiet else 1.0
        lines.append(
            f"false alarms, {name}: {count} of {quiet} nights without an event;"
            f" level {LEVEL} allows {LEVEL * quiet:.1f}, at most {largest_count(quiet)} (binomial p {p_value:.2f})"
        )
    lines += [
        f"WRONG {night.number} {night.event and night.event.name}: {night.verdict} {night.said}"
        for night in year.wrong()
    ]
    lines += [f"false alarm on night {night.number}: {night.said}" for night in year.quiet if night.false_alarms]
    return "\n".join(lines)


def main() -> None:
    """Play a year and print its report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--models", type=int, default=2, choices=(2, 3, 4))
    parser.add_argument("--nights", type=int, default=NIGHTS)
    parser.add_argument("--against", default="passed", choices=("passed", "previous"))
    parser.add_argument("--verbose", action="store_true", help="print each night")
    asked = parser.parse_args()
    year = Year()
    with tempfile.TemporaryDirectory() as folder:
        for night in play(
            Path(folder), seed=asked.seed, models=asked.models, nights=asked.nights, against=asked.against
        ):
            year.nights.append(night)
            if asked.verbose:
                event = "" if night.event is None else night.event.name
                sys.stdout.write(f"{night.number} {event}: {night.verdict} {night.said}\n")
                sys.stdout.flush()
    sys.stdout.write(f"{report(year, events(asked.nights))}\n")


if __name__ == "__main__":
    main()
