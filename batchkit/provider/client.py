"""A batch API over HTTP: files and batches, in the shape that its dialect describes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import quote

from batchkit.errors import (
    AccountRefused,
    ConfigurationError,
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
from batchkit.provider import wire
from batchkit.provider.base import METADATA_KEY
from batchkit.provider.http import ApiClient
from batchkit.provider.listing import LIST_LIMITS, read_all
from batchkit.provider.options import HTTP_OPTIONS
from batchkit.provider.refusals import is_account_refusal, refusal_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pydantic import SecretStr

    from batchkit.models import RefusalKind, Trouble
    from batchkit.provider.dialect import Dialect
    from batchkit.provider.listing import Identified, ListLimits
    from batchkit.provider.options import HttpOptions

T = TypeVar("T", bound="Identified")

_NO_SUCH_PATH = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.GONE})
_CANNOT_CANCEL = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT})
_FILES = "/files"
_MODELS = "/models"
_READY_SECONDS = 600.0
_READY_POLL_SECONDS = 2.0
#: How many pages of the list are read for batches that have no call of their own; the rest is read one by one.
_PAGES_PER_POLL = 10
#: Up to this many batches are read one by one: a page of the list is larger.
_READ_ALONE = 3
_UPLOAD_AGAIN = "uploading again is safe"
_SETTLED_BY_LIST = "whether the batch exists is settled by reading the list of batches, never by sending it again"


class BatchApi:
    """The batch API of a dialect as a ``Provider``; one instance serves many threads, and ``with`` closes it.

    ``base_url`` is where the paths of the dialect begin; None: the provider's own address. ``api_key`` is sent in one header and
    appears nowhere else. A list is read up to ``list_limits``. Every call has a time limit: see ``HttpOptions``.

    Raises ``ConfigurationError`` for an address or a key that cannot be used, such as ``http://`` to another machine
    that ``options`` do not allow, and without any address.
    """

    def __init__(
        self,
        dialect: Dialect,
        *,
        api_key: SecretStr | str,
        base_url: str | None = None,
        options: HttpOptions = HTTP_OPTIONS,
        list_limits: ListLimits = LIST_LIMITS,
    ) -> None:
        address = dialect.base_url if base_url is None else base_url
        if address is None:
            raise ConfigurationError(
                f"{dialect.title} has no address of its own", hint="give the one of your server with --base-url"
            )
        self.dialect = dialect
        self._shape = dialect.api
        self._list_limits = list_limits
        self._clock = options.clock
        self._sleep = options.sleep
        self._http = ApiClient(
            address,
            api_key,
            auth=dialect.key.auth,
            explain=partial(wire.explain, hints=dialect.hints),
            address_hint=dialect.hints.address,
            options=options,
        )

    def __repr__(self) -> str:
        return f"BatchApi({self.dialect.name!r}, {self._http!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @property
    def http(self) -> ApiClient:
        """The calls themselves, for a check of what a server does."""
        return self._http

    def close(self) -> None:
        """Close the connections; a later call raises ``ProviderUnreachable``."""
        self._http.close()

    # Files

    def upload_file(self, path: Path, filename: str) -> RemoteFile:
        """Upload a shard file under ``filename``, which must end in ``.jsonl``; streamed, and repeated on errors.

        Raises ``TooLarge`` for more than the dialect's ``max_bytes`` without sending anything, and when the provider says so;
        ``SpoolError`` when the file cannot be read; ``OutcomeUnknown`` when no readable answer with an id came, after which
        uploading again is safe.
        """
        try:
            size = path.stat().st_size
        except OSError as error:
            raise SpoolError(f"{path} cannot be read: {error.strerror or error}") from error
        if size > self.dialect.limits.max_bytes:
            raise TooLarge(
                f"{path.name} has {size:,} bytes, {self.dialect.limits.max_bytes:,} are allowed; it was not sent",
                status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            )
        payload = self._http.upload(
            self._shape.upload_path,
            fields=self._shape.upload_fields(filename),
            field="file",
            source=path,
            filename=filename,
        )
        file = wire.remote_file(payload)
        if file is None:
            raise OutcomeUnknown(f"POST {self._shape.upload_path}: the answer carries no file id", hint=_UPLOAD_AGAIN)
        self._wait_until_ready(file)
        return file

    def _wait_until_ready(self, file: RemoteFile) -> None:
        """Wait until a batch may be created of an uploaded file. Raises ``OutcomeUnknown`` after ``_READY_SECONDS``."""
        if not self._shape.ready_statuses:
            return
        ends_at = self._clock() + _READY_SECONDS
        path = f"{_FILES}/{_segment(file.id, 'file')}"
        found: RemoteFile | None = file
        while found is None or found.status not in self._shape.ready_statuses:
            if self._clock() >= ends_at:
                status = "without a status" if found is None or found.status is None else found.status
                raise OutcomeUnknown(
                    f"file {file.id} is still {status} {_READY_SECONDS:,.0f} s after its upload", hint=_UPLOAD_AGAIN
                )
            self._sleep(_READY_POLL_SECONDS)
            with suppress(NotFound):  # some servers show a new file a moment later
                found = wire.remote_file(self._http.get(path))

    def file(self, file_id: FileId) -> RemoteFile:
        """Read a file's object. Raises ``NotFound``."""
        path = f"{_FILES}/{_segment(file_id, 'file')}"
        payload = self._http.get(path)
        found = wire.remote_file(payload)
        if found is None:
            if wire.says_not_found(payload):
                raise NotFound(
                    f"GET {path}: the answer is an error object: there is no such file", status=HTTPStatus.OK
                )
            raise OutcomeUnknown(f"GET {path}: the answer is not about a file")
        return found

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
        model: str | None = None,
        before_sending: Callable[[], object] | None = None,
    ) -> Batch:
        """Create a batch with exactly one POST, on its own connection, without any retry.

        Few providers have an idempotency key: a second POST would buy a second batch. ``before_sending`` is called when the
        connection is open and the headers are sent; its errors are raised, and the provider never receives the body.

        Raises ``ProviderUnreachable`` when no connection was made and ``ProviderRefused`` when the API itself refused: then
        there certainly is no batch. Raises ``OutcomeUnknown`` for everything else: a broken or late exchange, a 5xx, 408,
        409 or 425, a redirect, a refusal that the API did not write, a success without an id.
        """
        path = self._shape.batches_path
        request = self._shape.creation_of(input_file_id=input_file_id, endpoint=endpoint, model=model, window=window)
        request = {**self._shape.creation, **request}
        if kept := self._metadata_to_send(metadata):
            request["metadata"] = kept
        if self._shape.idempotency_field is not None and METADATA_KEY in metadata:
            request[self._shape.idempotency_field] = metadata[METADATA_KEY]
        try:
            batch = self._read_batch(self._http.post_once(path, request, before_sending=before_sending))
        except OutcomeUnknown as error:
            error.hint = f"{_SETTLED_BY_LIST}; {error.hint}" if error.hint else _SETTLED_BY_LIST
            raise
        if batch is None:
            raise OutcomeUnknown(f"POST {path}: the answer carries no batch id", hint=_SETTLED_BY_LIST)
        return batch

    def get_batches(self, ids: Sequence[BatchId]) -> dict[BatchId, Batch]:
        """Read batches with one query by their ids where the provider has one, else in the list, in the order of ``ids``.

        A few, and those that the first pages of a list do not have, are left out where there is no such query: the caller reads them
        one by one. Raises ``ValueError`` for more than the dialect's ``batches_per_poll`` ids.
        """
        wanted = dict.fromkeys(ids)
        if len(wanted) > self.dialect.batches_per_poll:
            raise ValueError(f"{len(wanted)} ids in one call; {self.dialect.batches_per_poll} are allowed")
        found: dict[BatchId, Batch] = {}
        path = self._shape.batches_path
        by_ids = [("id", batch_id) for batch_id in wanted] if self._shape.ids_per_status_call else []
        if not by_ids and len(wanted) <= _READ_ALONE:
            return {}
        cursor: str | None = None
        pages = 0
        while len(found) < len(wanted):
            page = wire.page(
                self._http.get(path, [*by_ids, *self._shape.page_query(cursor)]),
                self._shape.listing,
                size=self._shape.page_size,
                cursor=cursor,
            )
            if page is None:
                raise OutcomeUnknown(f"GET {path}: the answer is not a list")
            pages += 1
            before = len(found)
            read = map(self._read_batch, page.entries)
            found |= {batch.id: batch for batch in read if batch is not None and batch.id in wanted}
            cursor = page.next_cursor
            is_past = len(found) == before if by_ids else pages >= _PAGES_PER_POLL
            if cursor is None or is_past:
                break
        return {batch_id: found[batch_id] for batch_id in wanted if batch_id in found}

    def get_batch(self, batch_id: BatchId) -> Batch:
        """Read one batch. Raises ``NotFound``."""
        path = f"{self._shape.batches_path}/{_segment(batch_id, 'batch')}"
        return self._same_batch(self._http.get(path), batch_id, f"GET {path}")

    def list_batches(self) -> Iterator[Batch]:
        """Read every batch of the organisation, newest first, page by page, each batch once.

        Raises ``ListingIncomplete`` when the end cannot be reached: absence proves nothing then.
        """
        return self._read_all(self._shape.batches_path, self._read_batch, "batches")

    def cancel_batch(self, batch_id: BatchId) -> Batch:
        """Ask for cancellation, which takes some minutes; a batch that has ended already is returned as it is.

        Providers answer 409 or 400 for such a batch. Raises ``NotFound``.
        """
        path = f"{self._shape.batches_path}/{_segment(batch_id, 'batch')}/cancel"
        try:
            return self._same_batch(self._http.post(path), batch_id, f"POST {path}")
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
        page = wire.page(self._http.get(_MODELS), self._shape.listing)
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
        """Return the provider's time in Unix seconds: the ``Date`` of the last reply and the time since; None before the first one.

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
        path = self._shape.batches_path
        try:
            answer = self._http.probe(path)
        except (AccountRefused, RateLimited):
            raise
        except ProviderRefused as refused:
            if refused.status not in _NO_SUCH_PATH and refused.status >= HTTPStatus.BAD_REQUEST:
                raise
            reason = refused.message
        else:
            if wire.page(answer, self._shape.listing) is not None:
                return warning
            reason = f"GET {path} is not answered with a list"
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
            if wire.page(answer, self._shape.listing) is not None:
                return None
            reason = f"GET {_MODELS} is not answered with a list"
        return f"the models of requests cannot be compared with those of the provider: {reason}"

    def _read_all(self, path: str, read: Callable[[object], T | None], what: str) -> Iterator[T]:
        return read_all(
            lambda cursor: self._http.get(path, self._shape.page_query(cursor)),
            read,
            what,
            limits=self._list_limits,
            clock=self._clock,
            style=self._shape.listing,
            size=self._shape.page_size,
        )

    def _read_batch(self, payload: object) -> Batch | None:
        batch = wire.batch(self._shape.batch_of(payload), statuses=self.dialect.statuses)
        names = self._shape.metadata_names
        if batch is None or not names:
            return batch
        return replace(
            batch, metadata={ours: batch.metadata[its] for ours, its in names.items() if its in batch.metadata}
        )

    def _metadata_to_send(self, metadata: Mapping[str, str]) -> dict[str, str]:
        names = self._shape.metadata_names
        if names is None:
            return dict(metadata)
        return {its: metadata[ours] for ours, its in names.items() if ours in metadata}

    def _same_batch(self, payload: object, batch_id: BatchId, call: str) -> Batch:
        batch = self._read_batch(payload)
        if batch is not None and batch.id == batch_id:
            return batch
        if wire.says_not_found(payload):
            raise NotFound(f"{call}: the answer is an error object: there is no such batch", status=HTTPStatus.OK)
        raise OutcomeUnknown(f"{call}: the answer is not about this batch")

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


def _segment(remote_id: str, what: str) -> str:
    """Return an id as one path segment: an empty one would name the whole list, dots another path."""
    if remote_id.strip(". ") == "":
        raise NotFound(f"{remote_id!r} is no {what} id; nothing was sent", status=HTTPStatus.NOT_FOUND)
    return quote(remote_id, safe="")
