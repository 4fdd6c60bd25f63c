"""The interface of a batch API. ``client`` implements it for every dialect.

Every call returns, or raises a ``ProviderError`` or, for a local file, ``SpoolError``; never an exception of the HTTP library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from batchkit.models import Batch, BatchId, Download, FileId, RefusalKind, RemoteFile, RemoteModel, Trouble
    from batchkit.provider.dialect import Dialect


#: The member of a batch's metadata that has the key of its shard.
METADATA_KEY: Final = "batchkit_key"


class Provider(Protocol):
    """A batch API. Implementations are safe to use from several threads at once."""

    dialect: Dialect

    def upload_file(self, path: Path, filename: str) -> RemoteFile:
        """Upload a shard file, streamed. The call may be repeated: an extra copy costs only space.

        Raises ``TooLarge``, before anything is sent when the file is larger than the dialect allows; ``OutcomeUnknown`` when no
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
        model: str | None = None,
        before_sending: Callable[[], object] | None = None,
    ) -> Batch:
        """Create a batch; the request is sent exactly once. ``model`` is that of all lines where a file may have one only.

        ``before_sending`` is called at the last moment before anything can be bought; its errors are raised, and nothing is
        bought.

        Raises ``OutcomeUnknown`` when the batch may exist; ``ProviderRefused`` or ``ProviderUnreachable`` when it certainly
        does not. Doubtful replies, such as a 409 or a refusal that a gateway wrote, count as unknown.
        """
        ...

    def get_batches(self, ids: Sequence[BatchId]) -> dict[BatchId, Batch]:
        """Read batches with as few calls as the provider allows; ids that are not found in them are left out.

        At most ``batches_per_poll`` ids of the dialect; raises ``ValueError`` for more.
        """
        ...

    def get_batch(self, batch_id: BatchId) -> Batch:
        """Read one batch. Raises ``NotFound``."""
        ...

    def list_batches(self, *, of_files: Sequence[FileId] = ()) -> Iterator[Batch]:
        """Read every batch of the account, newest first, page by page.

        With ``of_files`` it is enough to yield the batches of these input files. Raises ``ListingIncomplete`` when the end cannot be reached: absence proves nothing then.
        """
        ...

    def cancel_batch(self, batch_id: BatchId) -> Batch:
        """Ask for cancellation; a batch that has ended already is returned as it is. Raises ``NotFound``."""
        ...

    def download_file(self, file_id: FileId, path: Path) -> Download:
        """Stream a file to a temporary neighbour of ``path``, and rename it.

        The size is checked against Content-Length and the file object's ``bytes``; a torn transfer is repeated, then raised as
        ``TornDownload``. Raises ``NotFound`` when the file is gone, ``SpoolError`` for an error of the disk. The folder of
        ``path`` must exist; the neighbour's name ends in ``.part``, and the neighbour is deleted before the call ends.
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
        """Return the kind of a refusal of a call, of a whole batch, or of one line of its output."""
        ...

    def is_account_refusal(self, *, status: int | None, code: str | None, message: str | None) -> bool:
        """Return whether ``refusal_kind`` is ``ACCOUNT``, faster: a merge asks for each line with an error."""
        ...

    def now(self) -> float | None:
        """Return the provider's own time in Unix seconds, by the ``Date`` of its last reply; None before the first one."""
        ...

    def trouble(self) -> Trouble | None:
        """Return the current outage of calls, from the first failed try on; None after any reply of the API."""
        ...

    def check(self) -> str | None:
        """Check that a batch API answers at this address and accepts this key; changes nothing.

        Returns a warning for the user, or None. Raises ``WrongAddress`` when another server answers, ``AccountRefused`` when the
        account may not use it, and other ``ProviderError`` when nothing can be found out now.
        """
        ...

    def close(self) -> None:
        """Release the connections."""
        ...
