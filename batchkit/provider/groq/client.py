"""The Groq Batch API (console.groq.com/docs/batch and /docs/api-reference): its paths, its calls, its limits.

Only this module and ``wire.py``, which reads its JSON, know Groq's names.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import quote

from batchkit.errors import (
    AccountRefused,
    Forbidden,
    NotFound,
    OutcomeUnknown,
    ProviderRefused,
    RateLimited,
    SpoolError,
    TooLarge,
    WrongAddress,
)
from batchkit.models import Batch, BatchId, BatchStatus, Download, FileId, RemoteFile, RemoteModel
from batchkit.provider.access import credential_digest
from batchkit.provider.base import ProviderLimits
from batchkit.provider.groq import wire
from batchkit.provider.groq.listing import LIST_LIMITS, read_all
from batchkit.provider.http import ApiClient
from batchkit.provider.options import HTTP_OPTIONS
from batchkit.provider.refusals import is_account_refusal, refusal_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pydantic import SecretStr

    from batchkit.models import RefusalKind, Trouble
    from batchkit.provider.groq.listing import Identified, ListLimits
    from batchkit.provider.options import HttpOptions

T = TypeVar("T", bound="Identified")

__all__ = ["BASE_URL", "LIMITS", "GroqProvider", "credential_digest"]

BASE_URL = "https://api.groq.com/openai/v1"

#: console.groq.com/docs/batch: 50,000 lines, 200 MB, 200 ids, windows from 24 hours to 7 days. MB is read as the smaller unit.
LIMITS = ProviderLimits(
    max_lines=50_000,
    max_bytes=200_000_000,
    ids_per_status_call=200,
)

_FILES = "/files"
_BATCHES = "/batches"
_MODELS = "/models"
_PURPOSE = "batch"
_NO_SUCH_PATH = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.GONE})
_CANNOT_CANCEL = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT})
_ADDRESS_HINT = (
    f"check the base URL (BATCHKIT_BASE_URL): the one of Groq is {BASE_URL}, and /openai/v1 belongs to it; "
    "and check that no proxy or login page answers in its place"
)
_SETTLED_BY_LIST = "whether the batch exists is settled by reading the list of batches, never by sending it again"


class GroqProvider:
    """The Groq Batch API as a ``Provider``; one instance serves many threads, and ``with`` closes it.

    ``base_url`` ends in ``/openai/v1``. ``api_key`` is sent in the Authorization header and appears nowhere else. A list is read
    up to ``list_limits``. Every call has a time limit: see ``HttpOptions``.

    Raises ``ConfigurationError`` for an address or a key that cannot be used, such as ``http://`` to another machine
    that ``options`` do not allow.
    """

    limits: ProviderLimits = LIMITS

    def __init__(
        self,
        *,
        api_key: SecretStr | str,
        base_url: str = BASE_URL,
        options: HttpOptions = HTTP_OPTIONS,
        list_limits: ListLimits = LIST_LIMITS,
    ) -> None:
        self._list_limits = list_limits
        self._clock = options.clock
        self._http = ApiClient(base_url, api_key, explain=wire.explain, address_hint=_ADDRESS_HINT, options=options)

    def __repr__(self) -> str:
        return f"GroqProvider({self._http!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a later call raises ``ProviderUnreachable``."""
        self._http.close()

    # Files

    def upload_file(self, path: Path, filename: str) -> RemoteFile:
        """Upload a shard file under ``filename``, which must end in ``.jsonl``; streamed, and repeated on errors.

        Raises ``TooLarge`` for more than ``limits.max_bytes`` without sending anything, and when Groq says so;
        ``SpoolError`` when the file cannot be read; ``OutcomeUnknown`` when no readable answer with an id came, after which
        uploading again is safe.
        """
        try:
            size = path.stat().st_size
        except OSError as error:
            raise SpoolError(f"{path} cannot be read: {error.strerror or error}") from error
        if size > self.limits.max_bytes:
            raise TooLarge(
                f"{path.name} has {size:,} bytes, {self.limits.max_bytes:,} are allowed; it was not sent",
                status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            )
        payload = self._http.upload(_FILES, fields={"purpose": _PURPOSE}, field="file", source=path, filename=filename)
        file = wire.remote_file(payload)
        if file is None:
            raise OutcomeUnknown(f"POST {_FILES}: the answer carries no file id", hint="uploading again is safe")
        return file

    def download_file(self, file_id: FileId, path: Path) -> Download:
        """Stream a file to ``path``; it appears complete, synced and renamed, or not at all.

        The size is checked against Content-Length and the file object's ``bytes``, if they are known (an absent, null or zero
        ``bytes`` is unknown). One of them must announce an empty file. A torn transfer is repeated from the start, then raised as
        ``TornDownload``.

        Raises ``NotFound`` when the file is gone, ``SpoolError`` for an error of the disk.
        """
        segment = _segment(file_id, "file")
        expected_bytes, accept_unframed = self._announced_size(segment)
        return self._http.download(
            f"{_FILES}/{segment}/content", path, expected_bytes=expected_bytes, accept_unframed=accept_unframed
        )

    def list_files(self) -> Iterator[RemoteFile]:
        """Read every file of the organisation. Raises ``ListingIncomplete`` when the end cannot be reached."""
        return self._read_all(_FILES, wire.remote_file, "files")

    def delete_file(self, file_id: FileId) -> None:
        """Delete a file; one that is gone already counts as deleted."""
        try:
            self._http.delete(f"{_FILES}/{_segment(file_id, 'file')}")
        except NotFound:
            return

    # Batches

    def create_batch(
        self,
        *,
        input_file_id: FileId,
        endpoint: str,
        window: str,
        metadata: Mapping[str, str],
        before_sending: Callable[[], object] | None = None,
    ) -> Batch:
        """Create a batch with exactly one POST, on its own connection, without any retry.

        Groq has no idempotency key, so a second POST would buy a second batch. ``before_sending`` is called when the connection
        is open and the headers are sent; its errors are raised, and Groq never receives the body.

        Raises ``ProviderUnreachable`` when no connection was made and ``ProviderRefused`` when the API itself refused: then
        there certainly is no batch. Raises ``OutcomeUnknown`` for everything else: a broken or late exchange, a 5xx, 408,
        409 or 425, a redirect, a refusal that the API did not write, a success without an id.
        """
        request = {
            "input_file_id": input_file_id,
            "endpoint": endpoint,
            "completion_window": window,
            "metadata": dict(metadata),
        }
        try:
            batch = wire.batch(self._http.post_once(_BATCHES, request, before_sending=before_sending))
        except OutcomeUnknown as error:
            error.hint = f"{_SETTLED_BY_LIST}; {error.hint}" if error.hint else _SETTLED_BY_LIST
            raise
        if batch is None:
            raise OutcomeUnknown(f"POST {_BATCHES}: the answer carries no batch id", hint=_SETTLED_BY_LIST)
        return batch

    def get_batches(self, ids: Sequence[BatchId]) -> dict[BatchId, Batch]:
        """Read up to 200 batches with one ``id=A&id=B`` query (console.groq.com/docs/batch), in the order of ``ids``.

        Ids that Groq leaves out are left out. If the answer has pages, they are read as long as they contain requested batches.
        Raises ``ValueError`` for more than ``limits.ids_per_status_call`` ids.
        """
        wanted = dict.fromkeys(ids)
        if len(wanted) > self.limits.ids_per_status_call:
            raise ValueError(f"{len(wanted)} ids in one call; {self.limits.ids_per_status_call} are allowed")
        found: dict[BatchId, Batch] = {}
        query = [("id", batch_id) for batch_id in wanted]
        cursor: str | None = None
        while len(found) < len(wanted):
            page = wire.page(self._http.get(_BATCHES, [*query, *_cursor(cursor)]))
            if page is None:
                raise OutcomeUnknown(f"GET {_BATCHES}: the answer is not a list")
            before = len(found)
            read = (wire.batch(entry) for entry in page.entries)
            found |= {batch.id: batch for batch in read if batch is not None and batch.id in wanted}
            cursor = page.next_cursor
            if cursor is None or len(found) == before:
                break
        return {batch_id: found[batch_id] for batch_id in wanted if batch_id in found}

    def get_batch(self, batch_id: BatchId) -> Batch:
        """Read one batch. Raises ``NotFound``."""
        path = f"{_BATCHES}/{_segment(batch_id, 'batch')}"
        return _same_batch(self._http.get(path), batch_id, f"GET {path}")

    def list_batches(self) -> Iterator[Batch]:
        """Read every batch of the organisation, newest first, page by page, each batch once.

        Raises ``ListingIncomplete`` when the end cannot be reached: absence proves nothing then.
        """
        return self._read_all(_BATCHES, wire.batch, "batches")

    def cancel_batch(self, batch_id: BatchId) -> Batch:
        """Ask for cancellation, which takes up to ten minutes; a batch that has ended already is returned as it is.

        Groq does not document its answer for such a batch; OpenAI answers 409, other servers 400.
        Raises ``NotFound``.
        """
        path = f"{_BATCHES}/{_segment(batch_id, 'batch')}/cancel"
        try:
            return _same_batch(self._http.post(path), batch_id, f"POST {path}")
        except ProviderRefused as refused:
            if refused.status not in _CANNOT_CANCEL:
                raise
            batch = self.get_batch(batch_id)
            if not batch.is_terminal and batch.status != BatchStatus.CANCELLING:
                raise
            return batch

    # Models

    def list_models(self) -> list[RemoteModel]:
        """Read the models that the key may use, including those that are shut down (``active`` false)."""
        page = wire.page(self._http.get(_MODELS))
        if page is None:
            raise OutcomeUnknown(f"GET {_MODELS}: the answer is not a list")
        models = (wire.model(entry) for entry in page.entries)
        return [model for model in models if model is not None]

    def has_model(self, model: str) -> bool:
        """Whether the key may use a model that the list need not have: some servers answer to more names than they list."""
        if any(not part.strip(". ") for part in model.split("/")):
            return False
        try:
            found = wire.model(self._http.get(f"{_MODELS}/{quote(model, safe='/', errors='replace')}"))
        except NotFound:
            return False
        return found is not None and found.active

    def refusal_kind(
        self, *, status: int | None, code: str | None, message: str | None, param: str | None = None
    ) -> RefusalKind:
        """See ``refusals.refusal_kind``."""
        return refusal_kind(status=status, code=code, message=message, param=param)

    def is_account_refusal(self, *, status: int | None, code: str | None, message: str | None) -> bool:
        """See ``refusals.is_account_refusal``."""
        return is_account_refusal(status=status, code=code, message=message)

    # The provider itself

    def now(self) -> float | None:
        """Return Groq's time in Unix seconds: the ``Date`` of the last reply and the time since; None before the first one.

        Every reply counts, even a refusal. A ``Date`` is whole seconds and as old as the reply.
        """
        return self._http.health.provider_time

    def trouble(self) -> Trouble | None:
        """Return the current outage of calls: from the first failed try until the API itself replies.

        Times are Unix seconds of this machine; tries of all threads are counted together.
        """
        return self._http.health.trouble

    def check(self) -> str | None:
        """Read the models and one page of batches, to check that a batch API answers and accepts the key.

        Returns a warning when the models cannot be read, else None. Raises ``WrongAddress`` when another server answers (an HTML
        page, a body that is not JSON, no list of batches, a redirect), without repetition. Raises ``AccountRefused`` for 401, 402,
        403 and the like, ``ProviderUnreachable``, ``OutcomeUnknown`` or ``RateLimited`` when nothing can be found out now.
        """
        warning = self._models_missing()
        try:
            answer = self._http.probe(_BATCHES)
        except (AccountRefused, RateLimited):
            raise
        except ProviderRefused as refused:
            if refused.status not in _NO_SUCH_PATH and refused.status >= HTTPStatus.BAD_REQUEST:
                raise
            reason = refused.message
        else:
            if wire.page(answer) is not None:
                return warning
            reason = f"GET {_BATCHES} is not answered with a list"
        raise self._http.wrong_address(reason)

    def _models_missing(self) -> str | None:
        """Return why the models cannot be read, None when they can."""
        try:
            answer = self._http.probe(_MODELS)
        except (AccountRefused, RateLimited):
            raise
        except ProviderRefused as refused:
            reason = refused.message
        except WrongAddress as wrong:
            reason = str(wrong.__cause__)
        else:
            if wire.page(answer) is not None:
                return None
            reason = f"GET {_MODELS} is not answered with a list"
        return f"the models of requests cannot be compared with those of the provider: {reason}"

    def _read_all(self, path: str, read: Callable[[object], T | None], what: str) -> Iterator[T]:
        return read_all(
            lambda cursor: self._http.get(path, _cursor(cursor)),
            read,
            what,
            limits=self._list_limits,
            clock=self._clock,
        )

    def _announced_size(self, segment: str) -> tuple[int | None, bool]:
        """Return the size by the file object, None if unknown, and whether a body without a length is accepted."""
        try:
            file = wire.remote_file(self._http.get(f"{_FILES}/{segment}"))
        except ProviderRefused as refused:
            if isinstance(refused, AccountRefused | RateLimited) and not isinstance(refused, Forbidden):
                # The content would be refused in the same way.
                raise
            # Without a file object the content may still exist: it was paid for.
            return None, True
        except OutcomeUnknown:
            # The size exists but could not be read now: only a body that shows its own end is accepted.
            return None, False
        return (None if file is None else file.size_bytes), True


def _cursor(cursor: str | None) -> list[tuple[str, str]]:
    return [] if cursor is None else [("cursor", cursor)]


def _same_batch(payload: object, batch_id: BatchId, call: str) -> Batch:
    batch = wire.batch(payload)
    if batch is not None and batch.id == batch_id:
        return batch
    if wire.says_not_found(payload):
        raise NotFound(f"{call}: the answer is an error object: there is no such batch", status=HTTPStatus.OK)
    raise OutcomeUnknown(f"{call}: the answer is not about this batch")


def _segment(remote_id: str, what: str) -> str:
    """Return an id as one path segment: an empty one would name the whole list, dots another path."""
    if remote_id.strip(". ") == "":
        raise NotFound(f"{remote_id!r} is no {what} id; nothing was sent", status=HTTPStatus.NOT_FOUND)
    return quote(remote_id, safe="")
