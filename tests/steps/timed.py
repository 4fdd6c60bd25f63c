"""A complete runner on a clock that only tests advance, with a provider whose batches end by that clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from batchkit.engine.runtime import Runner
from batchkit.files import jsonl
from batchkit.models import Batch, BatchId, BatchStatus, RequestCounts
from batchkit.settings import load_settings
from batchkit.steps.split import SplitOptions
from tests.clock import FakeClock
from tests.observing import Watching
from tests.properties.scripted import Ending, ScriptedProvider, not_found
from tests.workloads import chat_line, write_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from batchkit.engine.progress import Progress
    from batchkit.engine.waves import Wait
    from batchkit.models import FileId, RemoteFile

WINDOW_SECONDS = 86_400


class TimedProvider(ScriptedProvider):
    """Answers every request ``takes_seconds`` after its batch was created, by ``clock``; counts calls by name.

    ``on_call`` is called with the name of each call before it is answered, and may raise. ``absent`` says which batch is
    unknown when, ``stale_list`` makes lists show every batch as it was at its creation. ``ahead_seconds`` is how far its clock
    is ahead of the test's. ``counts_by_time`` makes a running batch's counts rise every minute. ``answer`` maps an input
    line to an output line.
    """

    def __init__(self, clock: FakeClock, *, takes_seconds: float = 60.0) -> None:
        super().__init__()
        self.clock = clock
        self.takes_seconds = takes_seconds
        self.calls: Counter[str] = Counter()
        self.on_call: Callable[[str], object] = lambda _call: None
        self.absent: Callable[[float, BatchId], bool] = lambda _now, _batch_id: False
        self.stale_list = False
        self.ahead_seconds = 0.0
        self.expires_after = float(WINDOW_SECONDS)
        self.counts_by_time = False
        self.answer: Callable[[dict[str, Any]], dict[str, Any]] = succeeded
        self._created_at: dict[BatchId, float] = {}

    @property
    def executed(self) -> Counter[str]:
        """Return how often each request was executed and paid for."""
        done: Counter[str] = Counter()
        for batch_id, ending in self.endings.items():
            if ending.output is not None:
                done.update(jsonl.loads(line)["custom_id"] for line in self.input_of(batch_id).splitlines())
        return done

    def created_at(self) -> float:
        """Return when the first batch was created."""
        return min(self._created_at.values())

    def upload_file(self, path: Path, filename: str) -> RemoteFile:
        """Accept a file."""
        self._called("upload")
        return super().upload_file(path, filename)

    def create_batch(
        self,
        *,
        input_file_id: FileId,
        endpoint: str,
        window: str,
        metadata: Mapping[str, str],
        model: str | None = None,
        before_sending: Callable[[], object] | None = None,
    ) -> Batch:
        """Create a batch that ends at its time."""
        self._called("create")
        made = super().create_batch(
            input_file_id=input_file_id,
            endpoint=endpoint,
            window=window,
            metadata=metadata,
            model=model,
            before_sending=before_sending,
        )
        now = self._created_at[made.id] = self.clock()
        self.batches[made.id] = replace(
            made,
            created_at=int(now + self.ahead_seconds),
            expires_at=int(now + self.ahead_seconds + self.expires_after),
        )
        return self.batches[made.id]

    def get_batches(self, ids: Sequence[BatchId]) -> dict[BatchId, Batch]:
        """Read batches from the list."""
        self._called("list")
        self._pass_time()
        known = [batch_id for batch_id in ids if not self.absent(self.clock(), batch_id)]
        found = super().get_batches(known)
        return {batch_id: self._stale(batch) for batch_id, batch in found.items()} if self.stale_list else found

    def get_batch(self, batch_id: BatchId) -> Batch:
        """Read one batch."""
        self._called("get")
        self._pass_time()
        if self.absent(self.clock(), batch_id):
            raise not_found("batch")
        return super().get_batch(batch_id)

    def cancel_batch(self, batch_id: BatchId) -> Batch:
        """Cancel a batch, unless it has ended."""
        self._called("cancel")
        self._pass_time()
        return super().cancel_batch(batch_id)

    def list_batches(self, *, of_files: Sequence[FileId] = ()) -> Iterator[Batch]:
        """Read every batch."""
        self._called("scan")
        self._pass_time()
        return super().list_batches(of_files=of_files)

    def check(self) -> str | None:
        """Count the check."""
        self._called("check")
        return None

    def now(self) -> float | None:
        """Return the time of the provider's clock."""
        return self.clock() + self.ahead_seconds

    def _called(self, name: str) -> None:
        self.calls[name] += 1
        self.on_call(name)

    def _stale(self, batch: Batch) -> Batch:
        return replace(
            batch, status=BatchStatus.IN_PROGRESS, counts=RequestCounts(), output_file_id=None, error_file_id=None
        )

    def _pass_time(self) -> None:
        for batch_id in self.running():
            if self.clock() >= self._created_at[batch_id] + self.takes_seconds:
                lines = [self.answer(jsonl.loads(line)) for line in self.input_of(batch_id).splitlines()]
                output = b"".join(jsonl.dumps(line) + b"\n" for line in lines)
                self.end(batch_id, Ending(output=output, counts=RequestCounts(len(lines), len(lines), 0)))
            elif self.counts_by_time:
                minutes = int(self.clock() - self._created_at[batch_id]) // 60
                self.batches[batch_id] = replace(self.batches[batch_id], counts=RequestCounts(10_000, minutes, 0))


def succeeded(line: dict[str, Any]) -> dict[str, Any]:
    """Return the output line of a request that succeeded."""
    message = {"role": "assistant", "content": f"answer of {line['custom_id']}"}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return {"custom_id": line["custom_id"], "response": {"status_code": 200, "body": body}, "error": None}


def refused(line: dict[str, Any], status: int, code: str, message: str) -> dict[str, Any]:
    """Return the output line of a request that was refused."""
    body = {"error": {"message": message, "code": code}}
    return {"custom_id": line["custom_id"], "response": {"status_code": status, "body": body}, "error": None}


class TimedRun:
    """A workload and the runners on it; ``waits`` holds every wait of every runner."""

    def __init__(self, stack: ExitStack, database_url: str, folder: Path) -> None:
        self.clock = FakeClock()
        self.provider = TimedProvider(self.clock)
        self.waits: list[Wait] = []
        self._stack = stack
        self._database_url = database_url
        self._folder = folder

    def open(self, *, clock: Callable[[], float] | None = None, **settings: Any) -> Runner:
        """Open a runner, by default on the provider's clock; its waits advance that clock."""
        given = {
            "home": self._folder / "home",
            "database_url": self._database_url,
            "api_key": "gsk_any",
            # A day then has few passes.
            "poll_interval_seconds": 60,
            **settings,
        }
        runner = Runner(
            load_settings(**given),
            provider=self.provider,
            clock=clock or self.clock,
            wait=lambda seconds: self.clock.advance(max(seconds, 0.001)),
        )
        return self._stack.enter_context(runner)

    def split(self, runner: Runner, count: int = 20, *, name: str = "work", **options: Any) -> None:
        """Split an input of this many requests."""
        source = write_lines(self._folder / f"{name}.jsonl", [chat_line(f"{name}-{number}") for number in range(count)])
        runner.split([source], name=name, options=SplitOptions(**options))

    def process(self, runner: Runner, *, name: str = "work", seconds: float | None = None) -> Progress:
        """Drive the workload for at most ``seconds`` of the runner's clock."""
        stop_at = None if seconds is None else runner.clock() + seconds
        return runner.process(runner.find(name).id, stop_at=stop_at, observer=Watching(on_wait=self.waits.append))

    def assert_bought_once(self) -> None:
        """Fail unless every request was executed exactly once."""
        assert set(self.provider.executed.values()) == {1}
