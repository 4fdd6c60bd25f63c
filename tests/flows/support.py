"""A scripted runner and snapshots of workloads, for tests that cover only the Prefect side."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from batchkit.engine.observer import DO_NOTHING, Observer
from batchkit.engine.progress import Progress, WorkloadState
from batchkit.engine.runtime import Runner
from batchkit.engine.threads import ThreadGroup
from batchkit.engine.waves import Wait, Wave, WaveKind
from batchkit.models import (
    Batch,
    BatchId,
    FailureReason,
    RequestCounts,
    RequestCountsByState,
    RetryPolicy,
    ShardId,
    Trouble,
    Usage,
    Workload,
    WorkloadId,
)
from batchkit.steps.context import StepReport
from tests.observing import ScriptedDrive

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from batchkit.engine.driver import WaveOutcome
    from batchkit.engine.waves import Done, Waves

NOW = 1_750_000_000.0


def make_workload(number: int = 1, name: str = "work") -> Workload:
    """Return a workload of 10 requests."""
    return Workload(
        id=WorkloadId(number),
        name=name,
        created_at=NOW,
        source="in.jsonl",
        directory=name,
        input_sha256="0" * 64,
        request_count=10,
        window="24h",
        max_window="7d",
        shard_lines=10,
        shard_bytes=1_000,
        policy=RetryPolicy(),
        credential=None,
        cancel_requested_at=None,
        provider="groq",
    )


def make_progress(workload: Workload | None = None, *, succeeded: int = 10, failed: int = 0, **values: Any) -> Progress:
    """Return the snapshot of a workload of 10 requests; it is finished when all of them are final."""
    counts = RequestCountsByState(total=10, in_flight=10 - succeeded - failed, succeeded=succeeded, failed=failed)
    progress = Progress(
        workload=workload or make_workload(),
        state=WorkloadState.RUNNING if counts.unresolved else WorkloadState.FINISHED,
        counts=counts,
        shards={},
        batches={},
        remote_done=0,
        failures=(FailureReason("invalid_request", 400, failed, "no such model"),) if failed else (),
        usage=Usage(70, 30, 100),
        expired_attempts=0,
        attention=(),
        last_merged_at=None,
        read_at=NOW + 90,
    )
    return replace(progress, **values)


def make_batch(**values: Any) -> Batch:
    """Return a batch that expired half done."""
    return replace(Batch(BatchId("batch_1"), "expired", counts=RequestCounts(10, 4, 1), expires_at=int(NOW)), **values)


def make_wave(kind: WaveKind = WaveKind.MERGE, shards: int = 2, workload: int = 1) -> Wave:
    """Return a wave of some shards."""
    return Wave(kind, WorkloadId(workload), tuple(ShardId(number) for number in range(shards)))


def make_wait(seconds: float) -> Wait:
    """Return a wait that ends some seconds after ``NOW``."""
    return Wait(NOW + seconds, make_progress(succeeded=3), ("a note",))


class ScriptedRunner:
    """Yields the script's actions per workload, and records what was done in a diary; a single wave is yielded as a group of one.

    ``outcomes`` are the outcomes of the waves in order: a report, or an error to raise; after them every wave succeeds.
    ``clock`` is a clock that the test sets.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        script: Sequence[Wave | Waves | Wait],
        *,
        home: Path = Path("unused"),
        outcomes: Sequence[StepReport | BaseException] = (),
        workloads: Sequence[Workload] = (),
        ending: BaseException | None = None,
    ) -> None:
        self.clock = clock
        self.settings = SimpleNamespace(home=home, task_runner="threads")
        self.threads = ThreadGroup()
        self.diary: list[object] = []
        self._script = script
        self._outcomes = list(outcomes)
        self._workloads = list(workloads)
        self._ending = ending
        self.away: Trouble | None = None

    def open_workloads(self) -> list[Workload]:
        """Return the workloads of the script."""
        return self._workloads

    def trouble(self, _workload_id: WorkloadId) -> Trouble | None:
        """Return None: there is no outage."""
        return self.away

    def progress(self, workload_id: WorkloadId) -> Progress:
        """Return a snapshot of a half-finished workload."""
        return make_progress(make_workload(int(workload_id)), succeeded=5)

    def drive(self, workload_id: WorkloadId, *, until: object = None, stop_at: float | None = None) -> ScriptedDrive:
        """Return a drive that yields the script's actions and ends with its ending."""
        self.diary.append(("drive", int(workload_id), until and str(until), stop_at))
        return ScriptedDrive(workload_id, self._actions(workload_id))

    def work(self, drive: Any, observer: Observer) -> Wait | Done:
        """Run waves as the real runner does."""
        runner: Any = self
        return Runner.work(runner, drive, observer)

    def _actions(self, workload_id: WorkloadId) -> Generator[Waves | Wait, Sequence[WaveOutcome] | None, Progress]:
        for action in self._script:
            outcomes = yield (action,) if isinstance(action, Wave) else action
            self.diary.append(("outcomes", outcomes))
            # As in the real drive, an error of a wave ends it, here at once.
            for outcome in outcomes or ():
                if isinstance(outcome, Exception):
                    raise outcome
        if self._ending is not None:
            raise self._ending
        workload = make_workload(int(workload_id))
        progress = make_progress(workload) if self.away is None else make_progress(workload, succeeded=5)
        return progress

    def notify(self, within_seconds: float) -> None:
        """No-op: no event is written here."""

    def run_wave(self, wave: Wave) -> StepReport:
        """Return or raise the next outcome."""
        self.diary.append(("wave", wave))
        outcome = self._outcomes.pop(0) if self._outcomes else StepReport({"merged": len(wave.shard_ids)})
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def run_waves(self, waves: Waves) -> list[StepReport | Exception]:
        """Run waves as the real runner does."""
        return self.threads.do([partial(self.run_wave, wave) for wave in waves])


class Watched(Observer):
    """Records all its calls in order."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def began(self, workload: Workload) -> None:
        """Record the call."""
        self.told.append(("began", workload.name))

    def wave_started(self, wave: Wave) -> None:
        """Record the call."""
        self.told.append(("wave_started", wave))

    def wave_ended(self, wave: Wave, outcome: WaveOutcome) -> None:
        """Record the call."""
        self.told.append(("wave_ended", wave, outcome))

    def waiting(self, workload_id: WorkloadId, wait: Wait) -> None:
        """Record the call."""
        self.told.append(("waiting", workload_id, wait))

    def finished(self, progress: Progress) -> None:
        """Record the call."""
        self.told.append(("finished", progress))

    def failed(self, workload: Workload, error: Exception) -> None:
        """Record the call."""
        self.told.append(("failed", workload.name, error))

    def pass_began(self, workloads: Sequence[Workload]) -> None:
        """Record the call."""
        self.told.append(("pass_began", *(workload.name for workload in workloads)))

    def pass_ended(self) -> None:
        """Record the call."""
        self.told.append(("pass_ended",))


class Kept:
    """A sink that records each call with its arguments and keywords, and raises ``trouble`` while it is set."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.trouble: BaseException | None = None

    def __call__(self) -> Any:
        """Return itself, as a ``PrefectObserver`` expects a function that returns its sink."""
        return self

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **keywords: Any) -> None:
            self.calls.append((name, arguments, keywords))
            if self.trouble is not None:
                raise self.trouble

        return call

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """Return the arguments of all calls with this name."""
        return [arguments for called, arguments, _keywords in self.calls if called == name]


def lead_on(runner: Any, observer: Observer = DO_NOTHING) -> Any:
    """Return the lead of a flow, without a flow."""
    from batchkit.flows.leading import Lead  # noqa: PLC0415 - imports Prefect
    from batchkit.flows.reporting import PrefectObserver, ReportThread  # noqa: PLC0415 - as above

    sink: Any = Kept()
    return Lead(runner, None, PrefectObserver(sink, ReportThread(), {}), observer)


def wait_until(condition: Callable[[], object], within_seconds: float = 20.0) -> bool:
    """Poll until a condition is true; return whether it became true in time."""
    deadline = time.monotonic() + within_seconds
    moment = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        moment.wait(0.05)
    return True
