"""The proof as a whole: what is played, by how many processes, and the table that shows what came of it."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from rich.table import Table

from tests.proof import stories
from tests.proof.beside import Beside, drive_beside, points_of_the_split
from tests.proof.peer import Stopped, commits, stop_peer
from tests.proof.points import Harm
from tests.proof.refused import Refused, RefusedOutcome, every_refusal, play_refused
from tests.proof.storm import Passage, weather_storm
from tests.proof.sweep import Death, Measured, Outcome, between_absences, each_once, measure, pairs, play, sampled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.proof.points import Point
    from tests.proof.promises import Verdict
    from tests.proof.stories import Story
    from tests.proof.sweep import Backend


T = TypeVar("T")


@dataclass(frozen=True)
class Extent:
    """How much is played on each database; None plays every point."""

    points: int | None
    pairs: int
    points_per_trouble: int
    points_through_prefect: int
    storms: int
    drives_beside: int | None
    points_between_absences: int
    points_per_lost_input: int
    refusals: int | None
    commits: int | None
    seed: int = 0


FULL = Extent(
    points=None,
    pairs=200,
    points_per_trouble=20,
    points_through_prefect=20,
    storms=200,
    drives_beside=None,
    points_between_absences=60,
    points_per_lost_input=20,
    refusals=None,
    commits=None,
)
QUICK = Extent(
    points=12,
    pairs=3,
    points_per_trouble=1,
    points_through_prefect=1,
    storms=1,
    drives_beside=4,
    points_between_absences=2,
    points_per_lost_input=1,
    refusals=4,
    commits=4,
)


@dataclass
class Row:
    """One line of the matrix: sums over plays of one kind on one database."""

    what: str
    points: int = 0
    runs: int = 0
    died: int = 0
    lost: int = 0
    bought_twice: int = 0
    wrong_rows: int = 0
    broken: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether every run kept every promise."""
        return not self.failures

    def add(self, how: str, died: int, verdict: Verdict) -> None:
        """Count one run."""
        self.runs += 1
        self.died += died
        self.lost += verdict.lost
        self.bought_twice += verdict.bought_twice
        self.wrong_rows += verdict.wrong_rows
        self.broken += len(verdict.broken)
        if not verdict.is_clean:
            self.failures.append(f"{how}: {verdict}")


@dataclass(frozen=True)
class _Play:
    story: Story
    backend: Backend
    deaths: tuple[Death, ...]
    usual: Measured

    def __call__(self) -> Outcome:
        return play(self.story, self.backend, self.deaths, self.usual)


@dataclass(frozen=True)
class _Storm:
    seed: int
    backend: Backend

    def __call__(self) -> Passage:
        return weather_storm(self.seed, self.backend)


@dataclass(frozen=True)
class _Beside:
    story: Story
    backend: Backend
    point: Point

    def __call__(self) -> Beside:
        return drive_beside(self.story, self.backend, self.point)


@dataclass(frozen=True)
class _Refused:
    refused: Refused
    backend: Backend

    def __call__(self) -> RefusedOutcome:
        return play_refused(self.refused, self.backend)


@dataclass(frozen=True)
class _Stopped:
    backend: Backend
    point: Point
    is_ended: bool

    def __call__(self) -> Stopped:
        return stop_peer(stories.RUN, self.backend, self.point, is_ended=self.is_ended)


_Work = _Play | _Storm | _Beside | _Refused | _Stopped
_Done = Outcome | Passage | Beside | RefusedOutcome | Stopped


@dataclass(frozen=True)
class _Plan:
    work: Sequence[_Work]
    points: int


def prove(
    backends: Sequence[Backend],
    extent: Extent,
    *,
    only: str = "",
    jobs: int,
    show: Callable[[Row, int, int], None],
) -> Iterator[Row]:
    """Play the lines whose name holds ``only`` and give them as they are done; ``show`` is told a row, and runs done and to do."""
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for what, plan_of in _programme(backends, extent):
            if only not in what:
                continue
            began = time.monotonic()
            plan = plan_of()
            row = Row(what, plan.points)
            for future in as_completed([pool.submit(_do, item) for item in plan.work]):
                _count(row, future.result())
                show(row, row.runs, len(plan.work))
            row.seconds = time.monotonic() - began
            yield row


def _do(work: _Work) -> _Done:
    return work()


def _count(row: Row, done: _Done) -> None:
    if isinstance(done, Outcome):
        deaths = ", then ".join(f"command {death.command + 1}, {death.harm} at {death.at}" for death in done.deaths)
        row.add(f"{done.story}: {deaths}", done.died, done.verdict)
    elif isinstance(done, Beside):
        row.add(f"{done.story}, driven by others at {done.point}", 0, done.verdict)
    elif isinstance(done, RefusedOutcome):
        row.add(str(done.refused), 0, done.verdict)
    elif isinstance(done, Stopped):
        ended = "its session ended soon" if done.is_ended else "its session kept"
        row.add(f"{done.story}, a peer stopped at {done.point}, {ended}", done.was_stopped, done.verdict)
    else:
        row.add(str(done.weather), done.died, done.verdict)


def _programme(backends: Sequence[Backend], extent: Extent) -> Iterator[tuple[str, Callable[[], _Plan]]]:
    """Give each line's name, and how its runs are found."""
    for backend in backends:
        for story in (stories.RUN, stories.VERBS, stories.ANNOTATE):
            yield f"{backend.name}: {story.name}", partial(_each_point, story, backend, extent)
            if story is not stories.ANNOTATE:
                errors = f"{backend.name}: {story.name}, an unexpected error"
                yield errors, partial(_each_error, story, backend, extent)
            if story is stories.RUN:
                yield f"{backend.name}: {story.name}, two deaths", partial(_pairs, story, backend, extent)
                beside = f"{backend.name}: {story.name}, drives beside the split"
                yield beside, partial(_drives_beside, story, backend, extent)
        yield f"{backend.name}: {stories.PREFECT.name}", partial(_through_prefect, backend, extent)
        troubles = f"{backend.name}: run, {len(stories.TROUBLES)} kinds of trouble"
        yield troubles, partial(_under_trouble, backend, extent)
        yield f"{backend.name}: {stories.ABSENT.name}", partial(_while_absent, backend, extent)
        yield f"{backend.name}: run, lost inputs", partial(_lost_inputs, backend, extent)
        yield f"{backend.name}: account refusals", partial(_refusals, backend, extent)
        if backend.server_url is not None:
            yield f"{backend.name}: run, a peer stopped", partial(_peers, backend, extent)
        yield f"{backend.name}: storms, two runners", partial(_storms, backend, extent)


def _each_point(story: Story, backend: Backend, extent: Extent) -> _Plan:
    usual = measure(story, backend)
    chosen = each_once(usual) if extent.points is None else sampled(usual, extent.points, extent.seed)
    return _Plan(_plays(story, backend, chosen, usual), len(usual.points))


def _each_error(story: Story, backend: Backend, extent: Extent) -> _Plan:
    """Raise an error at each point of the steps; the first command of several submits, as ``run`` does, and is left out."""
    usual = measure(story, backend)
    points = replace(usual, points=usual.points if story is stories.RUN else _after_the_first(usual))
    count = len(points.points) if extent.points is None else extent.points
    return _Plan(_plays(story, backend, sampled(points, count, extent.seed, Harm.ERROR), usual), len(points.points))


def _after_the_first(usual: Measured) -> tuple[tuple[int, Point], ...]:
    return tuple((index, point) for index, point in usual.points if index)


def _while_absent(backend: Backend, extent: Extent) -> _Plan:
    """Die at points spread from the first probe that does not find a batch to the last one, and nowhere."""
    usual = measure(stories.ABSENT, backend)
    between = between_absences(usual)
    chosen = sampled(between, extent.points_between_absences, extent.seed)
    return _Plan(_plays(stories.ABSENT, backend, [(), *chosen], usual), len(between.points))


def _lost_inputs(backend: Backend, extent: Extent) -> _Plan:
    plays: list[_Play] = []
    points = 0
    for number, story in enumerate(stories.LOST_INPUTS):
        usual = measure(story, backend)
        points += len(usual.points)
        chosen = sampled(usual, extent.points_per_lost_input, extent.seed + number)
        plays += _plays(story, backend, [(), *chosen], usual)
    return _Plan(plays, points)


def _refusals(backend: Backend, extent: Extent) -> _Plan:
    every = every_refusal()
    chosen = _spread(every, extent.refusals, extent.seed)
    return _Plan([_Refused(refused, backend) for refused in chosen], len(every))


def _peers(backend: Backend, extent: Extent) -> _Plan:
    points = commits(measure(stories.RUN, backend))
    chosen = _spread(points, extent.commits, extent.seed)
    return _Plan([_Stopped(backend, point, is_ended) for point in chosen for is_ended in (True, False)], len(points))


def _spread(every: Sequence[T], count: int | None, seed: int) -> Sequence[T]:
    step = 1 if count is None else max(len(every) // count, 1)
    return every[seed % step :: step]


def _pairs(story: Story, backend: Backend, extent: Extent) -> _Plan:
    usual = measure(story, backend)
    return _Plan(_plays(story, backend, pairs(usual, extent.pairs, extent.seed), usual), len(usual.points))


def _drives_beside(story: Story, backend: Backend, extent: Extent) -> _Plan:
    points = points_of_the_split(measure(story, backend))
    chosen = _spread(points, extent.drives_beside, extent.seed)
    return _Plan([_Beside(story, backend, point) for point in chosen], len(points))


def _through_prefect(backend: Backend, extent: Extent) -> _Plan:
    usual = measure(stories.PREFECT, backend)
    chosen = sampled(usual, extent.points_through_prefect, extent.seed)
    return _Plan(_plays(stories.PREFECT, backend, chosen, usual), len(usual.points))


def _under_trouble(backend: Backend, extent: Extent) -> _Plan:
    plays: list[_Play] = []
    points = 0
    for number, trouble in enumerate(stories.TROUBLES):
        story = stories.under(trouble)
        usual = measure(story, backend)
        points += len(usual.points)
        chosen = sampled(usual, extent.points_per_trouble, extent.seed + number)
        plays += _plays(story, backend, chosen, usual)
    return _Plan(plays, points)


def _storms(backend: Backend, extent: Extent) -> _Plan:
    return _Plan([_Storm(extent.seed + number, backend) for number in range(extent.storms)], 0)


def _plays(story: Story, backend: Backend, chosen: Sequence[tuple[Death, ...]], usual: Measured) -> list[_Play]:
    return [_Play(story, backend, deaths, usual) for deaths in chosen]


def as_table(rows: Sequence[Row]) -> Table:
    """Show the matrix."""
    table = Table(title="Died at every point, started again, judged by the ledger")
    table.add_column("what")
    for name in ("points", "runs", "deaths", "lost", "bought twice", "wrong rows", "promises broken", "seconds"):
        table.add_column(name, justify="right")
    for row in rows:
        numbers = (row.points, row.runs, row.died, row.lost, row.bought_twice, row.wrong_rows, row.broken, row.seconds)
        table.add_row(row.what, *(f"{number:,.0f}" for number in numbers))
    return table
