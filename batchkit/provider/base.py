"""What batchkit asks of a batch API. ``provider/groq.py`` is the first answer to it.

Every call either returns, or raises one of the ``ProviderError`` family, or ``SpoolError`` for a file of ours: nothing of the
HTTP library passes this line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from batchkit.models import Batch, BatchId, Download, FileId, RefusalKind, RemoteFile, RemoteModel, Trouble


@dataclass(frozen=True, slots=True)
class Limits:
    """What the provider takes in one file and in one call."""

    max_lines: int
    max_bytes: int
    ids_per_status_call: int


class Provider(Protocol):
    """A batch API. Implementations are safe to use from several threads at once."""

    limits: Limits

    def upload_file(self, path: Path, filename: str) -> RemoteFile:
        """Upload a shard file, streamed. Repeated freely: an extra copy costs nothing but space.

        Raises ``TooLarge``, before anything is sent when the file is over ``limits.max_bytes``; ``OutcomeUnknown`` when no
        readable answer came, after which uploading again is safe; ``SpoolError`` when the file cannot be read.
        """
        ...

    def create_batch(
        self,
        *,
        input_file_id: FileId,
        endpoint: str,
        window: str,
        metadata: Mapping[str, str],
        before_sending: Callable[[], object] | None = None,
    ) -> Batch:
        """Create a batch: sent once and never again by this call.

        ``before_sending`` is called at the last moment at which nothing can be bought yet; what it raises comes out, and
        nothing is bought.

        Raises ``OutcomeUnknown`` when the batch may exist; ``ProviderRefused`` or ``ProviderUnreachable`` when it
        certainly does not. What leaves a doubt, such as a 409 or a refusal that a gateway wrote, counts as unknown.
        """
        ...

    def get_batches(self, ids: Sequence[BatchId]) -> dict[BatchId, Batch]:
        """Read up to ``limits.ids_per_status_call`` batches in one call; ids that the provider leaves out are left out.

        Raises ``ValueError`` for more ids.
        """
        ...

    def get_batch(self, batch_id: BatchId) -> Batch:
        """Read one batch. Raises ``NotFound``."""
        ...

    def list_batches(self) -> Iterator[Batch]:
        """Read every batch of the account, newest first, page by page.

        Raises ``ListingIncomplete`` when the end cannot be reached: absence proves nothing then.
        """
        ...

    def cancel_batch(self, batch_id: BatchId) -> Batch:
        """Ask for cancellation; a batch that has ended already is returned as it is. Raises ``NotFound``."""
        ...

    def download_file(self, file_id: FileId, path: Path) -> Download:
        """Stream a file to ``path`` by way of a temporary neighbour and a rename.

        Checked against Content-Length and the file object's ``bytes``; a torn transfer is repeated, then raised as
        ``TornDownload``. Raises ``NotFound`` when the file is gone, ``SpoolError`` when the disk refuses. The folder of
        ``path`` must exist; the neighbour's name ends in ``.part`` and does not outlive the call.
        """
        ...

    def list_files(self) -> Iterator[RemoteFile]:
        """Read every file of the account. Raises ``ListingIncomplete`` when the end cannot be reached."""
        ...

    def delete_file(self, file_id: FileId) -> None:
        """Delete a file; one that is gone already counts as deleted."""
        ...

    def list_models(self) -> list[RemoteModel]:
        """Read the models that the key may use."""
        ...

    def refusal_kind(
        self, *, status: int | None, code: str | None, message: str | None, param: str | None = None
    ) -> RefusalKind:
        """Return what a refusal concerns: of a call, of a whole batch, or of one line of its output."""
        ...

    def now(self) -> float | None:
        """Return the provider's own time in Unix seconds, by the ``Date`` of its last reply; None before the first one."""
        ...

    def trouble(self) -> Trouble | None:
        """Return the trouble that calls are meeting now, known from the first failed try on; None after any reply of the API."""
        ...

    def check(self) -> str | None:
        """Ask whether a batch API answers at this address and takes this key; nothing is changed by it.

        Returns a warning worth telling, None when all is well. Raises ``WrongAddress`` when something else answers there,
        ``AccountRefused`` when the account may not use it, and what any call raises when nothing can be known now.
        """
        ...

    def close(self) -> None:
        """Release the connections."""
        ...
