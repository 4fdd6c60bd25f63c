"""A batch API over HTTP: files and batches, in the shape that its dialect describes."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote

from batchkit.errors import AccountRefused, NotFound, OutcomeUnknown, ProviderRefused, RateLimited, WrongAddress
from batchkit.models import Batch, BatchId, BatchStatus
from batchkit.provider import wire
from batchkit.provider.base import METADATA_KEY
from batchkit.provider.file_calls import FileCalls, segment_of
from batchkit.provider.refusals import is_account_refusal, refusal_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from batchkit.models import FileId, RefusalKind, RemoteModel, Trouble

_NO_SUCH_PATH = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.GONE})
_CANNOT_CANCEL = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT})
_MODELS = "/models"
#: How many pages of the list are read for batches that have no call of their own; the rest is read one by one.
_PAGES_PER_POLL = 10
#: Up to this many batches are read one by one: a page of the list is larger.
_READ_ALONE = 3
_SETTLED_BY_LIST = "whether the batch exists is settled by reading the list of batches, never by sending it again"


class BatchApi(FileCalls):
    """The batch API of a dialect as a ``Provider``: its batches and models, besides its files."""

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
            batch = self._read_batch(self.http.post_once(path, request, before_sending=before_sending))
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
                self.http.get(path, [*by_ids, *self._shape.page_query(cursor)]),
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
        path = f"{self._shape.batches_path}/{segment_of(batch_id, 'batch')}"
        return self._same_batch(self.http.get(path), batch_id, f"GET {path}")

    def list_batches(self, *, of_files: Sequence[FileId] = ()) -> Iterator[Batch]:
        """Read every batch of the organisation, newest first, page by page, each batch once.

        With ``of_files`` only the batches of these input files are asked for, where the provider has such a filter and that takes fewer
        calls than the list may. A server that ignores the filter shows all. Raises ``ListingIncomplete`` when the end cannot be
        reached: absence proves nothing then.
        """
        path, most = self._shape.batches_path, self._shape.files_per_lookup
        if not of_files or len(of_files) > most * _PAGES_PER_POLL:
            yield from self._read_all(path, self._read_batch, "batches")
            return
        for start in range(0, len(of_files), most):
            query = [(self._shape.file_filter, ",".join(of_files[start : start + most]))]
            yield from self._read_all(path, self._read_batch, "batches", query=query)

    def cancel_batch(self, batch_id: BatchId) -> Batch:
        """Ask for cancellation, which takes some minutes; a batch that has ended already is returned as it is.

        Providers answer 409 or 400 for such a batch. Raises ``NotFound``.
        """
        path = f"{self._shape.batches_path}/{segment_of(batch_id, 'batch')}/cancel"
        try:
            return self._same_batch(self.http.post(path), batch_id, f"POST {path}")
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
        page = wire.page(self.http.get(_MODELS), self._shape.listing)
        if page is None:
            raise OutcomeUnknown(f"GET {_MODELS}: the answer is not a list")
        models = (wire.model(entry) for entry in page.entries)
        return [model for model in models if model is not None]

    def has_model(self, model: str) -> bool:
        """Whether the key may use a model that the list need not have: some servers answer to more names than they list."""
        if any(not part.strip(". ") for part in model.split("/")):
            return False
        try:
            found = wire.model(self.http.get(f"{_MODELS}/{quote(model, safe='/', errors='replace')}"))
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
        return self.http.health.provider_time

    def trouble(self) -> Trouble | None:
        """Return the current outage of calls: from the first failed try until the API itself replies.

        Times are Unix seconds of this machine; tries of all threads are counted together.
        """
        return self.http.health.trouble

    def check(self) -> str | None:
        """Read the models and one page of batches, to check that a batch API answers and accepts the key.

        Returns a warning when the models cannot be read, else None. Raises ``WrongAddress`` when another server answers (an HTML
        page, a body that is not JSON, no list of batches, a redirect), without repetition. Raises ``AccountRefused`` for 401, 402,
        403 and the like, ``ProviderUnreachable``, ``OutcomeUnknown`` or ``RateLimited`` when nothing can be found out now.
        """
        warning = self._models_missing()
        path = self._shape.batches_path
        try:
            answer = self.http.probe(path)
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
        raise self.http.wrong_address(reason)

    def _models_missing(self) -> str | None:
        """Return why the models cannot be read, None when they can."""
        try:
            answer = self.http.probe(_MODELS)
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
