"""The file calls of a batch API, in the shape that its dialect describes, and its connections."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Self, TypeVar
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
)
from batchkit.provider import wire
from batchkit.provider.http import ApiClient
from batchkit.provider.listing import LIST_LIMITS, read_all
from batchkit.provider.options import HTTP_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pydantic import SecretStr

    from batchkit.models import Download, FileId, RemoteFile
    from batchkit.provider.dialect import Dialect
    from batchkit.provider.listing import Identified, ListLimits
    from batchkit.provider.options import HttpOptions

T = TypeVar("T", bound="Identified")

FILES: Final = "/files"
_READY_SECONDS = 600.0
_READY_POLL_SECONDS = 2.0
_UPLOAD_AGAIN = "uploading again is safe"


class FileCalls:
    """The file calls of a dialect; one instance serves many threads, and ``with`` closes it.

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
        #: The calls themselves, also for a check of what a server does.
        self.http = ApiClient(
            address,
            api_key,
            auth=dialect.key.auth,
            explain=partial(wire.explain, hints=dialect.hints),
            address_hint=dialect.hints.address,
            options=options,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dialect.name!r}, {self.http!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a later call raises ``ProviderUnreachable``."""
        self.http.close()

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
        payload = self.http.upload(
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
        path = f"{FILES}/{segment_of(file.id, 'file')}"
        found: RemoteFile | None = file
        while found is None or found.status not in self._shape.ready_statuses:
            if self._clock() >= ends_at:
                status = "without a status" if found is None or found.status is None else found.status
                raise OutcomeUnknown(
                    f"file {file.id} is still {status} {_READY_SECONDS:,.0f} s after its upload", hint=_UPLOAD_AGAIN
                )
            self._sleep(_READY_POLL_SECONDS)
            with suppress(NotFound):  # some servers show a new file a moment later
                found = wire.remote_file(self.http.get(path))

    def file(self, file_id: FileId) -> RemoteFile:
        """Read a file's object. Raises ``NotFound``."""
        path = f"{FILES}/{segment_of(file_id, 'file')}"
        payload = self.http.get(path)
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
        segment = segment_of(file_id, "file")
        expected_bytes, accept_unframed = self._announced_size(segment)
        return self.http.download(
            f"{FILES}/{segment}/content", path, expected_bytes=expected_bytes, accept_unframed=accept_unframed
        )

    def list_files(self) -> Iterator[RemoteFile]:
        """Read every file of the organisation. Raises ``ListingIncomplete`` when the end cannot be reached."""
        return self._read_all(FILES, wire.remote_file, "files")

    def delete_file(self, file_id: FileId) -> None:
        """Delete a file; one that is gone already counts as deleted."""
        try:
            self.http.delete(f"{FILES}/{segment_of(file_id, 'file')}")
        except NotFound:
            return

    def _read_all(
        self, path: str, read: Callable[[object], T | None], what: str, *, query: Sequence[tuple[str, str]] = ()
    ) -> Iterator[T]:
        return read_all(
            lambda cursor: self.http.get(path, [*query, *self._shape.page_query(cursor)]),
            read,
            what,
            limits=self._list_limits,
            clock=self._clock,
            style=self._shape.listing,
            size=self._shape.page_size,
        )

    def _announced_size(self, segment: str) -> tuple[int | None, bool]:
        """Return the size by the file object, None if unknown, and whether a body without a length is accepted."""
        try:
            file = wire.remote_file(self.http.get(f"{FILES}/{segment}"))
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


def segment_of(remote_id: str, what: str) -> str:
    """Return an id as one path segment: an empty one would name the whole list, dots another path."""
    if remote_id.strip(". ") == "":
        raise NotFound(f"{remote_id!r} is no {what} id; nothing was sent", status=HTTPStatus.NOT_FOUND)
    return quote(remote_id, safe="")
