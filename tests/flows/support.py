"""A runner that follows a script, and snapshots of workloads, for what is only about the Prefect side."""

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
    """Make a workload of 10 requests."""
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
    )


def make_progress(workload: Workload | None = None, *, succeeded: int = 10, failed: int = 0, **values: Any) -> Progress:
    """Make the snapshot of a workload of 10 requests; finished when all of them are accounted for."""
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
    """Make a batch that expired half done."""
    return replace(Batch(BatchId("batch_1"), "expired", counts=RequestCounts(10, 4, 1), expires_at=int(NOW)), **values)


def make_wave(kind: WaveKind = WaveKind.MERGE, shards: int = 2, workload: int = 1) -> Wave:
    """Make a wave of some shards."""
    return Wave(kind, WorkloadId(workload), tuple(ShardId(number) for number in range(shards)))


def make_wait(seconds: float) -> Wait:
    """Make a wait that ends some seconds from ``NOW``."""
    return Wait(NOW + seconds, make_progress(succeeded=3), ("a note",))


class ScriptedRunner:
    """Yields what the script says, per workload, and keeps a diary of what was done; a lone wave is yielded as a group of one.

    ``outcomes`` are what the waves do, in order: a report, or an error to raise; afterwards every wave succeeds. ``clock``
    is a clock in the test's hand.
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
        """Read the workloads that the script is for."""
        return self._workloads

    def trouble(self, _workload_id: WorkloadId) -> Trouble | None:
        """Know nothing to be away."""
        return self.away

    def progress(self, workload_id: WorkloadId) -> Progress:
        """Read a snapshot in the middle."""
        return make_progress(make_workload(int(workload_id)), succeeded=5)

    def drive(self, workload_id: WorkloadId, *, until: object = None, stop_at: float | None = None) -> ScriptedDrive:
        """Begin a drive that asks for the script's actions; ends with its ending."""
        self.diary.append(("drive", int(workload_id), until and str(until), stop_at))
        return ScriptedDrive(workload_id, self._actions(workload_id))

    def work(self, drive: Any, observer: Observer) -> Wait | Done:
        """Do waves as the real runner does."""
        runner: Any = self
        return Runner.work(runner, drive, observer)

    def _actions(self, workload_id: WorkloadId) -> Generator[Waves | Wait, Sequence[WaveOutcome] | None, Progress]:
        for action in self._script:
            outcomes = yield (action,) if isinstance(action, Wave) else action
            self.diary.append(("outcomes", outcomes))
            # As the real drive: an error of a wave ends it, here at once.
            for outcome in outcomes or ():
                if isinstance(outcome, Exception):
                    raise outcome
        if self._ending is not None:
            raise self._ending
        workload = make_workload(int(workload_id))
        progress = make_progress(workload) if self.away is None else make_progress(workload, succeeded=5)
        return progress

    def notify(self, within_seconds: float) -> None:
        """Deliver nothing: no event is written here."""

    def run_wave(self, wave: Wave) -> StepReport:
        """Do as the next outcome says."""
        self.diary.append(("wave", wave))
        outcome = self._outcomes.pop(0) if self._outcomes else StepReport({"merged": len(wave.shard_ids)})
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def run_waves(self, waves: Waves) -> list[StepReport | Exception]:
        """Do waves as the real runner does."""
        return self.threads.do([partial(self.run_wave, wave) for wave in waves])


class Watched(Observer):
    """Keeps what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def began(self, workload: Workload) -> None:
        """Keep it."""
        self.told.append(("began", workload.name))

    def wave_started(self, wave: Wave) -> None:
        """Keep it."""
        self.told.append(("wave_started", wave))

    def wave_ended(self, wave: Wave, outcome: WaveOutcome) -> None:
        """Keep it."""
        self.told.append(("wave_ended", wave, outcome))

    def waiting(self, workload_id: WorkloadId, wait: Wait) -> None:
        """Keep it."""
        self.told.append(("waiting", workload_id, wait))

    def finished(self, progress: Progress) -> None:
        """Keep it."""
        self.told.append(("finished", progress))

    def failed(self, workload: Workload, error: Exception) -> None:
        """Keep it."""
        self.told.append(("failed", workload.name, error))

    def pass_began(self, workloads: Sequence[Workload]) -> None:
        """Keep it."""
        self.told.append(("pass_began", *(workload.name for workload in workloads)))

    def pass_ended(self) -> None:
        """Keep it."""
        self.told.append(("pass_ended",))


class Kept:
    """A sink that keeps what it is given: the name of each call, its arguments and keywords; raises ``trouble`` while there is one."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.trouble: BaseException | None = None

    def __call__(self) -> Any:
        """Return itself, as the function does that a ``PrefectObserver`` gets."""
        return self

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **keywords: Any) -> None:
            self.calls.append((name, arguments, keywords))
            if self.trouble is not None:
                raise self.trouble

        return call

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """Return the arguments of the calls of a name."""
        return [arguments for called, arguments, _keywords in self.calls if called == name]


def lead_on(runner: Any, observer: Observer = DO_NOTHING) -> Any:
    """Make the lead of a flow, without a flow."""
    from batchkit.flows.leading import Lead  # noqa: PLC0415 - imports Prefect
    from batchkit.flows.reporting import PrefectObserver, ReportThread  # noqa: PLC0415 - as above

    sink: Any = Kept()
    return Lead(runner, None, PrefectObserver(sink, ReportThread(), {}), observer)


def wait_until(condition: Callable[[], object], within_seconds: float = 20.0) -> bool:
    """Look every now and then whether something has become true; says whether it did in time."""
    deadline = time.monotonic() + within_seconds
    moment = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        moment.wait(0.05)
    return True
