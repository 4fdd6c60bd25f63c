"""Storms: two runners on one workload, killed at random instants again and again, under faults drawn by lot. Seeded."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchkit.emulator import Scenario
from batchkit.emulator.faults import batches, calls, lines
from tests.proof.promises import Ideal, Verdict, judge
from tests.proof.stage import Stage, take_picture
from tests.proof.stories import OUTPUT
from tests.workloads import audio_line, chat_line, write_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.emulator.faults import Fault
    from tests.proof.stage import Picture
    from tests.proof.sweep import Backend

REQUESTS = 2_000
_RUNNERS = 2
_MEAN_SECONDS_BETWEEN_DEATHS = 0.5
_LONGEST_END_SECONDS = 100
_SECOND_OUTPUT = "second.jsonl"

#: Never among them: faults by which the provider withholds answers that it has sold, for those have to be bought again.
_LOTS: tuple[Fault, ...] = (
    calls.LoseReply(on=("batches.create",), how="500", every=3),
    calls.LoseReply(on=("files.create", "batches.create"), times=3),
    batches.ListLag(calls=2),
    calls.ListPages(how="overlap"),
    calls.GatewayErrors(on=("files", "batches.retrieve"), every=5),
    calls.RateLimit(on=("files.create", "batches.create"), retry_after=0.05, wait="50ms", every=4),
    calls.CutDownloads(times=1, per_object=True),
    calls.CutDownloads(times=1, per_object=True, how="close-delimited"),
    calls.FileLag(),
    batches.NoFileAs(value="object"),
    batches.EmptyFiles(),
    batches.SkipStatuses(),
    batches.SparseTimestamps(),
    batches.ExtraFields(),
    batches.UnlistedLines(),
    batches.FailBatches(batches=frozenset({1, 4})),
    batches.FailBatches(batches=frozenset({2}), code="mystery", message="No."),
    batches.LyingCounts(say="null"),
    lines.DropLines(count=3, attempts=1),
    lines.DuplicateLines(count=5, second="error"),
    lines.UnknownLines(count=5),
    lines.RawSeparators(fraction=0.2),
    lines.ZeroStatusLines(fraction=0.05, attempts=1),
    lines.FailLines(fraction=0.1, attempts=1, status=503),
)
_ALWAYS: tuple[Fault, ...] = (
    lines.FailLines(fraction=0.03, code="bad_thing"),
    lines.ExpireLines(fraction=0.2, attempts=1),
    batches.ShuffleOutput(),
)


@dataclass(frozen=True)
class Weather:
    """What a seed stands for."""

    seed: int
    faults: tuple[Fault, ...]
    shard_lines: int
    deaths: int

    def __str__(self) -> str:
        drawn = ", ".join(fault.name for fault in self.faults[len(_ALWAYS) :])
        return f"seed {self.seed}: {self.deaths} deaths, shards of {self.shard_lines} lines, {drawn}"


@dataclass(frozen=True)
class Passage:
    """How one storm went: the weather, how many runners were killed in it, and what was found afterwards."""

    weather: Weather
    died: int
    verdict: Verdict


def forecast(seed: int) -> Weather:
    """Draw the weather of a seed."""
    rng = random.Random(seed)  # noqa: S311 - by lot, not a secret
    drawn = tuple(rng.sample(_LOTS, rng.randint(1, 4)))
    return Weather(seed, (*_ALWAYS, *drawn), rng.choice((60, 100, 250, 700)), rng.randint(2, 6))


def requests() -> list[dict[str, Any]]:
    """Write the workload: every question is asked once only, so that an answer shows whose it is."""
    return [
        audio_line(f"sound-{number}")
        if number % 10 == 7
        else chat_line(f"row-{number}", f"Question {number}: naïve \u2028")
        for number in range(REQUESTS)
    ]


def weather_storm(seed: int, backend: Backend) -> Passage:
    """Run the workload through one storm and judge what is left."""
    weather = forecast(seed)
    asked = requests()
    unfinished = Verdict()
    before: list[Picture] = []
    died = 0
    with (
        backend.database() as url,
        Stage(url, Scenario(seed=seed, faults=weather.faults)) as stage,
    ):
        write_lines(stage.folder / "input.jsonl", asked)
        words = (
            "run",
            "input.jsonl",
            "--name",
            "w",
            "--no-prefect",
            "--shard-lines",
            str(weather.shard_lines),
            "--output",
        )
        commands = [(*words, OUTPUT), (*words, _SECOND_OUTPUT)]
        runners = [stage.start(command) for command in commands]
        rng = random.Random(~seed)  # noqa: S311 - by lot, not a secret
        for _ in range(weather.deaths):
            runners[0].join(rng.expovariate(1 / _MEAN_SECONDS_BETWEEN_DEATHS))
            victims = rng.choice(((0,), (1,), (0, 1)))
            for victim in victims:
                runners[victim].kill()
                runners[victim].join()
                died += runners[victim].exitcode < 0
            if len(victims) == _RUNNERS:
                before.append(take_picture(stage))
            for victim in victims:
                runners[victim] = stage.start(commands[victim])
        _wait_for_all(runners, unfinished, stage)
        verdict = judge(stage, Ideal(asked, None, None), before)
        _same_export(verdict, stage)
    verdict.broken += unfinished.broken
    return Passage(weather, died, verdict)


def _wait_for_all(runners: Sequence[Any], verdict: Verdict, stage: Stage) -> None:
    deadline = time.monotonic() + _LONGEST_END_SECONDS
    for runner in runners:
        runner.join(max(deadline - time.monotonic(), 0))
        if runner.exitcode is None:
            runner.kill()
            runner.join()
        if runner.exitcode not in {0, 3}:
            verdict.breach(5, f"a runner ended with {runner.exitcode}: {stage.output()[-3000:]}")


def _same_export(verdict: Verdict, stage: Stage) -> None:
    first, second = stage.folder / OUTPUT, stage.folder / _SECOND_OUTPUT
    if not first.exists() or not second.exists() or first.read_bytes() != second.read_bytes():
        verdict.breach(1, "the two runners exported different results")
