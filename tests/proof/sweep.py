"""The crash sweep: one undisturbed run finds the points, then the same story is played once for each, dying there."""

from __future__ import annotations

import random
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url

from tests.postgres import PostgresServer
from tests.proof.points import Harm
from tests.proof.promises import Ideal, Verdict, check_memory, judge
from tests.proof.stage import KILLED, Stage, take_picture

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from batchkit.store.engine import Limits
    from tests.proof.points import Point
    from tests.proof.stage import Picture
    from tests.proof.stories import Story

#: A command that is killed is given again; one that would go on dying has a bug.
_MOST_TRIES = 10
#: A batch that is not in the list is read by itself.
_READ_ALONE = "call GET /batches/*, before"
#: A command that meets an unexpected error ends it by itself, or with one of these and is given again.
_AFTER_AN_ERROR = {1, 4}


@dataclass(frozen=True)
class Backend:
    """Which database a story is played on: a new SQLite file, or a new database on a Postgres server."""

    name: str
    server_url: str | None = None

    @contextmanager
    def database(self) -> Iterator[str | None]:
        """Make an empty database and give its URL; None means the default SQLite file."""
        if self.server_url is None:
            yield None
            return
        server = PostgresServer(make_url(self.server_url))
        name = server.create()
        try:
            yield server.url_of(name)
        finally:
            server.drop(name)
            server.close()


@dataclass(frozen=True)
class Death:
    """During the command with this index (from 0): at a point, or at the so many-th passage of any. Or another harm in its place."""

    command: int
    at: Point | int
    harm: Harm = Harm.DEATH


@dataclass(frozen=True)
class Measured:
    """What an undisturbed play passed: its points, each with its command's index, and the commands' peak memory in bytes."""

    points: tuple[tuple[int, Point], ...]
    peaks: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """How one play went: which deaths it was to die, how many it died (or met its error), and what was found afterwards."""

    story: str
    deaths: tuple[Death, ...]
    died: int
    verdict: Verdict


def measure(story: Story, backend: Backend, *, plant: str | None = None) -> Measured:
    """Play a story undisturbed. Raises ``AssertionError`` when not even that keeps the promises."""
    points: list[tuple[int, Point]] = []
    peaks: list[int] = []
    with backend.database() as url, stage_of(story, url, plant=plant) as stage:
        story.prepare(stage.folder)
        for index, command in enumerate(story.commands):
            code = stage.play(command.words)
            assert code in command.codes, f"{' '.join(command.words)} ended with {code}: {stage.output()}"
            trace = stage.trace()
            points += [(index, point) for point in trace.points]
            peaks.append(trace.peak_bytes)
        verdict = judge(stage, ideal_of(story), [])
        assert verdict.is_clean, f"undisturbed: {verdict}"
    return Measured(tuple(points), tuple(peaks))


def play(
    story: Story, backend: Backend, deaths: Sequence[Death], usual: Measured, *, plant: str | None = None
) -> Outcome:
    """Play a story, dying at the given points in turn and giving the same command again after each death; then judge."""
    left = list(deaths)
    died = 0
    before: list[Picture] = []
    unfinished = Verdict()
    with backend.database() as url, stage_of(story, url, plant=plant) as stage:
        story.prepare(stage.folder)
        for index, command in enumerate(story.commands):
            code: int | None = KILLED
            for _ in range(_MOST_TRIES):
                death = left.pop(0) if left and left[0].command == index else None
                harm = Harm.DEATH if death is None else death.harm
                code = stage.play(command.words, at=None if death is None else death.at, harm=harm)
                if death is not None:
                    died += code == KILLED or (code is not None and death.at in stage.trace().points)
                if code != KILLED and not (harm is Harm.ERROR and code in _AFTER_AN_ERROR):
                    break
                before.append(take_picture(stage))
            if code not in command.codes:
                unfinished.breach(5, f"{' '.join(command.words)} ended with {code}: {stage.output()[-3000:]}")
            elif died:
                check_memory(unfinished, stage.trace().peak_bytes, usual.peaks[index])
        with_errors = any(death.harm is Harm.ERROR for death in deaths)
        verdict = judge(stage, ideal_of(story), before, with_errors=with_errors)
    verdict.broken += unfinished.broken
    return Outcome(story.name, tuple(deaths), died, verdict)


def stage_of(
    story: Story,
    url: str | None,
    *,
    plant: str | None = None,
    limits: Limits | None = None,
    waits: Mapping[str, str] | None = None,
) -> Stage:
    """Make the stage of a story; ``waits`` are settings beside its own."""
    waits = {**story.waits, **(waits or {})}
    return Stage(url, story.scenario(), plant=plant, speed=story.speed, waits=waits, limits=limits)


def ideal_of(story: Story) -> Ideal:
    """Say what must come of a story."""
    return Ideal(story.requests, story.failing, story.rides, story.answers, story.rows)


def each_once(measured: Measured, harm: Harm = Harm.DEATH) -> list[tuple[Death, ...]]:
    """One death, or another harm, at each point."""
    return [(Death(index, point, harm),) for index, point in measured.points]


def between_absences(measured: Measured) -> Measured:
    """Keep the points from the first probe that did not find a batch in the list to the last one."""
    places = [place for place, (_, point) in enumerate(measured.points) if point.label == _READ_ALONE]
    return replace(measured, points=measured.points[places[0] : places[-1] + 1])


def sampled(measured: Measured, count: int, seed: int, harm: Harm = Harm.DEATH) -> list[tuple[Death, ...]]:
    """One death, or another harm, at each of ``count`` points, spread evenly over the life of the story from a seeded start."""
    every = each_once(measured, harm)
    step = max(len(every) / count, 1.0)
    start = random.Random(seed).random() * step  # noqa: S311 - a sample, not a secret
    return [every[int(start + number * step)] for number in range(min(count, len(every)))]


def pairs(measured: Measured, count: int, seed: int) -> list[tuple[Death, ...]]:
    """Two deaths in a row: at any point, and after so many more steps of the command that is given again."""
    rng = random.Random(seed)  # noqa: S311 - a sample, not a secret
    chosen: list[tuple[Death, ...]] = []
    for _ in range(count):
        index, point = rng.choice(measured.points)
        rest = sum(1 for other, _ in measured.points if other == index)
        chosen.append((Death(index, point), Death(index, rng.randint(1, max(rest // 2, 1)))))
    return chosen
