"""The adapter between ``Runner.drive`` and whoever does what it yields: a flow, or the plain loop.

A ``Job`` holds one drive and what it asks for now, so that the drive can change hands in the middle: the plain loop may
begin it while Prefect is still starting, a flow takes it over, and the plain loop takes it back when Prefect is gone.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import anyio
import anyio.to_thread

from batchkit.engine.driver import Wait, reply, tell
from batchkit.engine.waits import Countdown
from batchkit.errors import BatchkitError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence

    from batchkit.engine.driver import Wave, Waves
    from batchkit.engine.progress import Progress
    from batchkit.engine.runtime import Runner
    from batchkit.models import WorkloadId
    from batchkit.steps.context import StepReport

T = TypeVar("T")
R = TypeVar("R")

_LONGEST_NAP_SECONDS = 1.0


class HandsWithdrawn(Exception):
    """Nobody does this flow's work any more: the user interrupted, or the plain loop has taken over."""


class Hands(Protocol):
    """Who does the blocking work that a flow asks for."""

    @property
    def withdrawn(self) -> bool:
        """Whether ``do`` will raise."""
        ...

    async def do(self, call: Callable[[], T], *, beside: bool = False) -> T:
        """Do a blocking call in another thread. Raises what it raises, and ``HandsWithdrawn``.

        Calls are done one after the other, but for those that may be done ``beside`` the others.
        """
        ...

    def flow_ended(self) -> None:
        """Take note that the flow asks for nothing more."""
        ...


class WorkerThreads:
    """Hands for a flow that runs in a process of its own: any worker thread."""

    withdrawn = False

    async def do(self, call: Callable[[], T], *, beside: bool = False) -> T:  # noqa: ARG002 - all are done beside each other
        """Do a blocking call in a worker thread."""
        return await anyio.to_thread.run_sync(call)

    def flow_ended(self) -> None:
        """Change nothing: what the flow leaves, nobody here does."""


class Job(Generic[R]):
    """One drive: what it asks for now, and how it ended. One thread at a time may use it; ``run`` may be called in several.

    ``names`` are those of the workloads that it is about; a drive may add to them as it comes to others. ``on_wave`` is told each wave's report, ``on_wait`` each wait once.
    """

    def __init__(
        self,
        runner: Runner,
        drive: Generator[Waves | Wait, StepReport | None, R],
        *,
        names: Mapping[WorkloadId, str],
        on_wave: Callable[[Wave, StepReport], None] = lambda _wave, _report: None,
        on_wait: Callable[[Wait], None] = lambda _wait: None,
    ) -> None:
        self.runner = runner
        self.names = names
        self._drive = drive
        self._on_wave = on_wave
        self._on_wait = on_wait
        self._action: Waves | Wait | None = None
        self._countdown: Countdown | None = None
        self._ending: Callable[[], R] | None = None
        self._troubles: list[Exception] = []

    @property
    def is_over(self) -> bool:
        """Whether the drive has ended, well or not."""
        return self._ending is not None

    def result(self) -> R:
        """Give what the drive returned, or raise what ended it. Only when it is over."""
        if self._ending is None:
            raise RuntimeError("the drive has not ended")
        return self._ending()

    @property
    def left_seconds(self) -> float:
        """How long the present wait still lasts: no longer than it was meant to when the clock is set back."""
        return 0.0 if self._countdown is None else self._countdown.left_seconds

    def action(self) -> Waves | Wait | None:
        """Say what is to be done now, None when the drive is over; starts the drive."""
        if self._action is None and not self.is_over:
            self._advance(lambda: self._drive.send(None))
        return self._action

    def go_on(self) -> None:
        """End the present wait."""
        self._advance(lambda: self._drive.send(None))

    def answer(self, outcomes: Sequence[StepReport | Exception]) -> None:
        """Tell ``on_wave`` and the drive what became of the present waves, each done or failed for good."""
        if isinstance(self._action, tuple):
            tell(self._action, outcomes, self._on_wave)
        self._advance(reply(self._drive, outcomes))

    def run(self, wave: Wave) -> StepReport:
        """Do one of the present waves. Raises what it raises."""
        try:
            return self.runner.run_wave(wave)
        except Exception as error:
            self.blame(error)
            raise

    def blame(self, error: Exception) -> None:
        """Take an error for that of a present wave, and not of the engine that runs the waves."""
        self._troubles.append(error)

    def is_trouble(self, error: BaseException) -> bool:
        """Whether an error is that of a present wave."""
        return any(error is trouble for trouble in self._troubles)

    def is_beside(self, wave: Wave) -> bool:
        """Whether a wave is to be done beside another of the present ones."""
        return isinstance(self._action, tuple) and wave != self._action[0]

    def picture(self, workload_id: WorkloadId) -> Progress | None:
        """Read where a workload stands, for showing only: None when it cannot be read now."""
        try:
            return self.runner.progress(workload_id)
        except BatchkitError:
            return None

    def _advance(self, step: Callable[[], Waves | Wait]) -> None:
        self._action = None
        self._countdown = None
        self._troubles = []
        try:
            self._action = step()
        except StopIteration as stop:
            value: R = stop.value
            self._ending = lambda: value
        except Exception as error:  # noqa: BLE001 - kept whole, for whoever asks for the result
            self._ending = partial(_throw, error)
        if isinstance(self._action, Wait):
            self._countdown = Countdown(self._action.until, self.runner.clock)
            self._on_wait(self._action)


def _throw(error: Exception) -> Any:
    raise error


class Watcher(Protocol):
    """Who is told what goes on; must neither block nor raise."""

    def wave(self, wave: Wave, report: StepReport) -> None:
        """Take note of a wave that was done."""
        ...

    def wait(self, wait: Wait) -> None:
        """Take note of a wait that begins."""
        ...

    def wants_picture(self) -> bool:
        """Whether it is time to show where a workload stands."""
        ...

    def picture(self, progress: Progress) -> None:
        """Show where a workload stands."""
        ...


async def follow(
    job: Job[R],
    hands: Hands,
    *,
    run_wave: Callable[[Wave], Awaitable[StepReport]],
    watcher: Watcher,
    sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
) -> R:
    """Do what a drive asks for until it is over; gives its result or raises its error.

    ``run_wave`` does a wave by calling ``job.run`` through ``hands``; waves that the drive yields together are done at the
    same time. An error of a wave goes to the drive, which decides. Any other error is the engine's and is raised when all
    waves have ended, with the drive as it was. Sleeps in steps of at most a second. Raises ``HandsWithdrawn``.
    """
    try:
        await _follow(job, hands, run_wave, watcher, sleep)
    except HandsWithdrawn:
        # The plain loop may have come to the end while we asked.
        if not job.is_over:
            raise
    return job.result()


async def _follow(
    job: Job[Any],
    hands: Hands,
    run_wave: Callable[[Wave], Awaitable[StepReport]],
    watcher: Watcher,
    sleep: Callable[[float], Awaitable[object]],
) -> None:
    while not job.is_over:
        action = await hands.do(job.action)
        match action:
            case tuple() as waves:
                outcomes = await _run_together(job, waves, run_wave)
                tell(waves, outcomes, watcher.wave)
                await hands.do(partial(job.answer, outcomes))
                if watcher.wants_picture():
                    picture = await hands.do(partial(job.picture, waves[0].workload_id))
                    if picture is not None:
                        watcher.picture(picture)
            case Wait():
                watcher.wait(action)
                while (left := job.left_seconds) > 0:
                    if hands.withdrawn:
                        raise HandsWithdrawn
                    await sleep(min(left, _LONGEST_NAP_SECONDS))
                await hands.do(job.go_on)


async def _run_together(
    job: Job[Any], waves: Waves, run_wave: Callable[[Wave], Awaitable[StepReport]]
) -> list[StepReport | Exception]:
    results = await asyncio.gather(*map(run_wave, waves), return_exceptions=True)
    outcomes: list[StepReport | Exception] = []
    for result in results:
        if isinstance(result, BaseException) and not (isinstance(result, Exception) and job.is_trouble(result)):
            raise result
        outcomes.append(result)
    return outcomes
