"""A batch API in memory that returns exactly the files it was given: no HTTP, and no generated lines."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from batchkit.errors import NotFound, OutcomeUnknown
from batchkit.models import Batch, BatchId, BatchProblem, BatchStatus, Download, FileId, RemoteFile, RequestCounts
from batchkit.provider.groq.dialect import GROQ
from batchkit.provider.refusals import is_account_refusal, refusal_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from batchkit.models import RefusalKind, RemoteModel, Trouble

# Unique across all providers, because a database identifies a batch by its id.
_numbers = itertools.count(1)


@dataclass
class Ending:
    """How a batch ends: its final status and its files, None where it has none.

    The first ``late`` reads of the batch name no file; ``away`` downloads return 404, and ``broken`` ones fail temporarily;
    ``torn`` downloads return only the first ``torn_at`` bytes. ``gone`` files are missing permanently, and the provider
    forgets a batch that ``vanishes``.
    """

    status: str = BatchStatus.COMPLETED
    output: bytes | None = None
    error: bytes | None = None
    counts: RequestCounts = field(default_factory=RequestCounts)
    problems: Sequence[BatchProblem] = ()
    late: int = 0
    away: int = 0
    broken: int = 0
    torn: int = 0
    torn_at: int = 0
    gone: frozenset[str] = frozenset()
    vanishes: bool = False


def not_found(what: str) -> NotFound:
    """Return the refusal of an unknown id."""
    return NotFound(f"no such {what}", status=404)


class ScriptedProvider:
    """Implements ``batchkit.provider.base.Provider``. ``bought`` counts creations by shard key."""

    dialect = GROQ

    def __init__(self, on_create: Callable[[bytes], None] = lambda _data: None) -> None:
        self.files: dict[FileId, bytes] = {}
        self.batches: dict[BatchId, Batch] = {}
        self.endings: dict[BatchId, Ending] = {}
        self.bought: Counter[str] = Counter()
        self._on_create = on_create

    def input_of(self, batch_id: BatchId) -> bytes:
        """Return the input file of a batch."""
        file_id = self.batches[batch_id].input_file_id
        assert file_id is not None
        return self.files[file_id]

    def running(self) -> list[BatchId]:
        """Return the batches that have not ended."""
        return [batch_id for batch_id in self.batches if batch_id not in self.endings]

    def end(self, batch_id: BatchId, ending: Ending) -> None:
        """End a batch."""
        self.endings[batch_id] = ending
        for kind, data in (("output", ending.output), ("error", ending.error)):
            if data is not None:
                self.files[FileId(f"{kind}-{batch_id}")] = data
        self.batches[batch_id] = replace(
            self.batches[batch_id], status=ending.status, counts=ending.counts, problems=tuple(ending.problems)
        )

    # The protocol

    def upload_file(self, path: Path, filename: str) -> RemoteFile:
        """Accept a shard file."""
        file_id = FileId(f"file-{next(_numbers)}")
        data = self.files[file_id] = path.read_bytes()
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
        """Create a batch, and count what was bought."""
        if before_sending is not None:
            before_sending()
        self._on_create(self.files[input_file_id])
        self.bought[metadata["batchkit_key"]] += 1
        batch_id = BatchId(f"batch-{input_file_id}")
        self.batches[batch_id] = Batch(
            batch_id,
            BatchStatus.IN_PROGRESS,
            endpoint=endpoint,
            input_file_id=input_file_id,
            completion_window=window,
            metadata=dict(metadata),
        )
        return self.batches[batch_id]

    def get_batches(self, ids: Sequence[BatchId]) -> dict[BatchId, Batch]:
        """Read the batches that have not vanished, as a list would show them."""
        return {batch_id: self._seen(batch_id) for batch_id in ids if not self._has_vanished(batch_id)}

    def get_batch(self, batch_id: BatchId) -> Batch:
        """Read one batch; each call counts towards its late file names."""
        if self._has_vanished(batch_id):
            raise not_found("batch")
        ending = self.endings.get(batch_id)
        if ending is not None and ending.late:
            ending.late -= 1
        return self._seen(batch_id)

    def _has_vanished(self, batch_id: BatchId) -> bool:
        return batch_id in self.endings and self.endings[batch_id].vanishes

    def _seen(self, batch_id: BatchId) -> Batch:
        batch, ending = self.batches[batch_id], self.endings.get(batch_id)
        if ending is None or ending.late:
            return batch
        return replace(
            batch,
            output_file_id=None if ending.output is None else FileId(f"output-{batch_id}"),
            error_file_id=None if ending.error is None else FileId(f"error-{batch_id}"),
        )

    def list_batches(self, *, of_files: Sequence[FileId] = ()) -> Iterator[Batch]:  # noqa: ARG002 - all may be read
        """Read every batch."""
        return iter([self._seen(batch_id) for batch_id in self.batches])

    def cancel_batch(self, batch_id: BatchId) -> Batch:
        """Record the cancellation of a running batch."""
        if batch_id not in self.endings:
            self.batches[batch_id] = replace(self.batches[batch_id], status=BatchStatus.CANCELLING)
        return self._seen(batch_id)

    def download_file(self, file_id: FileId, path: Path) -> Download:
        """Return a file, after the faults that its batch's ending has for it; an input file has none."""
        kind, _, batch_id = file_id.partition("-")
        ending = Ending() if kind == "file" else self.endings[BatchId(batch_id)]
        data = self.files[file_id]
        if kind in ending.gone:
            raise not_found("file")
        if ending.away:
            ending.away -= 1
            raise not_found("file")
        if ending.broken:
            ending.broken -= 1
            raise OutcomeUnknown("the connection broke off")
        if ending.torn:
            ending.torn -= 1
            data = data[: ending.torn_at]
        path.write_bytes(data)
        return Download(path, len(data), hashlib.sha256(data).hexdigest())

    def list_files(self) -> Iterator[RemoteFile]:
        """Read every file."""
        return iter([RemoteFile(file_id, file_id, len(data), "batch") for file_id, data in self.files.items()])

    def delete_file(self, file_id: FileId) -> None:
        """Delete a file."""
        self.files.pop(file_id, None)

    def list_models(self) -> list[RemoteModel]:
        """Return no models."""
        return []

    def refusal_kind(
        self, *, status: int | None, code: str | None, message: str | None, param: str | None = None
    ) -> RefusalKind:
        """Return the same kind as the real provider does."""
        return refusal_kind(status=status, code=code, message=message, param=param)

    def is_account_refusal(self, *, status: int | None, code: str | None, message: str | None) -> bool:
        """Return the same as the real provider does."""
        return is_account_refusal(status=status, code=code, message=message)

    def now(self) -> float | None:
        """Return None, as there is no Date header."""
        return None

    def trouble(self) -> Trouble | None:
        """Return None, as there is no network."""
        return None

    def check(self) -> str | None:
        """Accept the address as a batch API."""
        return None

    def close(self) -> None:
        """No-op: nothing is open."""
