"""A batch API in memory with its own clock: batches progress with time and end as a seeded random draw decides."""

from __future__ import annotations

import hashlib
import itertools
import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batchkit.errors import NotFound, OutcomeUnknown
from batchkit.files import jsonl
from batchkit.models import Batch, BatchId, BatchProblem, BatchStatus, Download, FileId, RemoteFile, RequestCounts
from batchkit.provider.groq.dialect import GROQ
from batchkit.provider.refusals import is_account_refusal, refusal_kind
from batchkit.sharding import hours_of
from tests.factories import chat_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from batchkit.models import RefusalKind, RemoteModel, Trouble

#: How many of 1,000 batches end in each of these ways; the others complete.
EXPIRED_PER_MILLE = 30
FAILED_PER_MILLE = 5
#: How many of 1,000 creations get no reply.
LOST_PER_MILLE = 2
#: How many of 100 requests the model refuses.
REFUSED_PER_CENT = 1
#: Batches on one page of the list (the documented example; the true number is not known).
PAGE_BATCHES = 100

_SHORTEST_SECONDS, _LONGEST_SECONDS = 600.0, 20 * 3_600.0
_VALIDATING_SECONDS = 30.0
_FINALIZING_SECONDS = 20.0
#: The counts of running batches advance in this number of steps, however few requests the batch holds.
_STEPS = 1_000


@dataclass
class _Remote:
    """A batch at the provider; times in Unix seconds."""

    id: BatchId
    endpoint: str
    window: str
    input_file_id: FileId
    metadata: Mapping[str, str]
    custom_ids: Sequence[str]
    created_at: float
    running_seconds: float
    ending: BatchStatus
    ended: Batch | None = None

    @property
    def refused(self) -> list[str]:
        """Return the requests that the model refused."""
        return [custom_id for custom_id in self.done if _hash(custom_id) % 100 < REFUSED_PER_CENT]

    @property
    def answered(self) -> list[str]:
        """Return the requests that the model answered."""
        return [custom_id for custom_id in self.done if _hash(custom_id) % 100 >= REFUSED_PER_CENT]

    @property
    def done(self) -> Sequence[str]:
        """Return the requests that were executed in time."""
        share = {BatchStatus.COMPLETED: 1.0, BatchStatus.EXPIRED: 0.5}.get(self.ending, 0.0)
        return self.custom_ids[: int(len(self.custom_ids) * share)]


def _window_seconds(window: str) -> int:
    return hours_of(window) * 3_600


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())


@dataclass
class SimulatedProvider:
    """Implements ``batchkit.provider.base.Provider``; ``calls`` counts the HTTP calls that a real provider would get."""

    clock: Callable[[], float]
    seed: int = 1
    calls: Counter[str] = field(default_factory=Counter)

    dialect = GROQ

    def __post_init__(self) -> None:
        self._files: dict[FileId, list[str]] = {}
        self._batches: dict[BatchId, _Remote] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def _count(self, call: str) -> None:
        with self._lock:
            self.calls[call] += 1

    def upload_file(self, path: Path, filename: str) -> RemoteFile:
        """Store the custom_ids of a shard file."""
        self._count("upload")
        data = path.read_bytes()
        file_id = FileId(f"file-{next(self._numbers)}")
        self._files[file_id] = [jsonl.loads(line)["custom_id"] for line in data.split(b"\n")[:-1]]
        return RemoteFile(file_id, filename, len(data), "batch")

    def create_batch(
        self,
        *,
        input_file_id: FileId,
        endpoint: str,
        window: str,
        metadata: Mapping[str, str],
        model: str | None = None,  # noqa: ARG002 - the protocol's signature
        before_sending: Callable[[], object] | None = None,
    ) -> Batch:
        """Create a batch and draw how it ends; some replies are lost."""
        if before_sending is not None:
            before_sending()
        self._count("create")
        number = next(self._numbers)
        # The draw depends on the shard, not on the order of arrival, which differs between runs.
        draw = random.Random(f"{self.seed}-{metadata['batchkit_shard']}")  # noqa: S311 - a simulation, not a secret
        fate = draw.randrange(1_000)
        ending = BatchStatus.COMPLETED
        if fate < EXPIRED_PER_MILLE:
            ending = BatchStatus.EXPIRED
        elif fate < EXPIRED_PER_MILLE + FAILED_PER_MILLE:
            ending = BatchStatus.FAILED
        seconds = _window_seconds(window) if ending is BatchStatus.EXPIRED else 0.0
        remote = self._batches[BatchId(f"batch_{number:026d}")] = _Remote(
            id=BatchId(f"batch_{number:026d}"),
            endpoint=endpoint,
            window=window,
            input_file_id=input_file_id,
            metadata=dict(metadata),
            custom_ids=self._files[input_file_id],
            created_at=self.clock(),
            running_seconds=seconds or draw.uniform(_SHORTEST_SECONDS, _LONGEST_SECONDS),
            ending=ending,
        )
        if draw.randrange(1_000) < LOST_PER_MILLE:
            raise OutcomeUnknown("the connection broke off")
        return self._seen(remote)

    def get_batches(self, ids: Sequence[BatchId]) -> dict[BatchId, Batch]:
        """Return up to 200 batches."""
        self._count("status call")
        return {batch_id: self._seen(self._batches[batch_id]) for batch_id in ids}

    def get_batch(self, batch_id: BatchId) -> Batch:
        """Return one batch."""
        self._count("call for one batch")
        if batch_id not in self._batches:
            raise NotFound("no such batch", status=404)
        return self._seen(self._batches[batch_id])

    def list_batches(self, *, of_files: Sequence[FileId] = ()) -> Iterator[Batch]:  # noqa: ARG002 - all may be read
        """Yield every batch, newest first."""
        for place, remote in enumerate(reversed(list(self._batches.values()))):
            if place % PAGE_BATCHES == 0:
                self._count("list page")
            yield self._seen(remote)

    def cancel_batch(self, batch_id: BatchId) -> Batch:
        """Return the batch unchanged, because no simulation cancels."""
        return self.get_batch(batch_id)

    def download_file(self, file_id: FileId, path: Path) -> Download:
        """Write the answers or the refusals of a batch; they are short."""
        self._count("download")
        kind, _, batch_id = file_id.partition(":")
        remote = self._batches[BatchId(batch_id)]
        lines = map(_answer, remote.answered) if kind == "output" else map(_refusal, remote.refused)
        data = b"".join(line + b"\n" for line in lines)
        path.write_bytes(data)
        return Download(path, len(data), hashlib.sha256(data).hexdigest())

    def list_files(self) -> Iterator[RemoteFile]:
        """Yield nothing."""
        return iter(())

    def delete_file(self, file_id: FileId) -> None:
        """Forget an input file."""
        self._files.pop(file_id, None)

    def list_models(self) -> list[RemoteModel]:
        """Return no models."""
        return []

    def refusal_kind(
        self, *, status: int | None, code: str | None, message: str | None, param: str | None = None
    ) -> RefusalKind:
        """Return the kind as the real provider does."""
        return refusal_kind(status=status, code=code, message=message, param=param)

    def is_account_refusal(self, *, status: int | None, code: str | None, message: str | None) -> bool:
        """Return the same as the real provider does."""
        return is_account_refusal(status=status, code=code, message=message)

    def now(self) -> float | None:
        """Return the time of the test's clock."""
        return self.clock()

    def trouble(self) -> Trouble | None:
        """Return None: there is no connection."""
        return None

    def check(self) -> str | None:
        """Return None: it is a batch API."""
        return None

    def close(self) -> None:
        """No-op: nothing is open."""

    def _seen(self, remote: _Remote) -> Batch:
        """Return the current state of a batch."""
        if remote.ended is not None:
            return remote.ended
        age = self.clock() - remote.created_at - _VALIDATING_SECONDS
        if age < 0:
            return self._running(remote, BatchStatus.VALIDATING, 0)
        if remote.ending is not BatchStatus.FAILED:
            share = age / remote.running_seconds
            if share < 1:
                return self._running(remote, BatchStatus.IN_PROGRESS, int(share * _STEPS))
            if remote.ending is BatchStatus.COMPLETED and age < remote.running_seconds + _FINALIZING_SECONDS:
                return self._running(remote, BatchStatus.FINALIZING, _STEPS)
        remote.ended = self._ended(remote)
        return remote.ended

    @staticmethod
    def _running(remote: _Remote, status: BatchStatus, completed: int) -> Batch:
        return _batch(remote, status, RequestCounts(total=_STEPS, completed=completed))

    @staticmethod
    def _ended(remote: _Remote) -> Batch:
        answered, refused = len(remote.answered), len(remote.refused)
        return _batch(
            remote,
            remote.ending,
            RequestCounts(total=len(remote.custom_ids), completed=answered, failed=refused),
            output_file_id=FileId(f"output:{remote.id}") if answered else None,
            error_file_id=FileId(f"error:{remote.id}") if refused else None,
            problems=(BatchProblem("no such model", "model_not_found", 1),)
            if remote.ending is BatchStatus.FAILED
            else (),
        )


def _batch(
    remote: _Remote,
    status: BatchStatus,
    counts: RequestCounts,
    *,
    output_file_id: FileId | None = None,
    error_file_id: FileId | None = None,
    problems: Sequence[BatchProblem] = (),
) -> Batch:
    """Return the batch with its raw object, which the store keeps: about as long as Groq's."""
    created_at = int(remote.created_at)
    expires_at = created_at + _window_seconds(remote.window)
    return Batch(
        id=remote.id,
        status=status,
        endpoint=remote.endpoint,
        input_file_id=remote.input_file_id,
        output_file_id=output_file_id,
        error_file_id=error_file_id,
        completion_window=remote.window,
        created_at=created_at,
        expires_at=expires_at,
        counts=counts,
        metadata=remote.metadata,
        problems=problems,
        raw={
            "id": remote.id,
            "object": "batch",
            "endpoint": remote.endpoint,
            "errors": None,
            "input_file_id": remote.input_file_id,
            "completion_window": remote.window,
            "status": status,
            "output_file_id": output_file_id,
            "error_file_id": error_file_id,
            **dict.fromkeys(("finalizing_at", "failed_at", "expired_at", "cancelled_at", "completed_at")),
            "created_at": created_at,
            "in_progress_at": created_at,
            "expires_at": expires_at,
            "request_counts": {"total": counts.total, "completed": counts.completed, "failed": counts.failed},
            "metadata": dict(remote.metadata),
        },
    )


def _answer(custom_id: str) -> bytes:
    return (
        f'{{"id":"batch_req_out_01jzk4x9f2","custom_id":"{custom_id}","response":{{"status_code":200,'
        f'"request_id":"req_01jzk4x9f2","body":{chat_body("yes")}}},"error":null}}'
    ).encode()


def _refusal(custom_id: str) -> bytes:
    return (
        f'{{"id":"batch_req_out_01jzk4x9f2","custom_id":"{custom_id}","response":{{"status_code":400,'
        '"body":{"error":{"message":"Failed to validate JSON","type":"invalid_request_error",'
        '"code":"json_validate_failed"}}}}'
    ).encode()
