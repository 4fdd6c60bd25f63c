"""The JSON of batch APIs, read leniently. Pure; no function raises for any JSON value in any place.

The shape is that of console.groq.com/docs/batch, /docs/api-reference, /docs/errors and /docs/rate-limits, which is OpenAI's. If
the documents contradict each other or differ from the replies of similar servers, every reading is accepted. What a provider names in
another way is in its dialect.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from batchkit.files.jsonl import dumps
from batchkit.models import (
    Batch,
    BatchId,
    BatchProblem,
    BatchStatus,
    FileId,
    RefusalKind,
    RemoteFile,
    RemoteModel,
    RequestCounts,
)
from batchkit.provider.dialect import ListStyle
from batchkit.provider.failures import Refusal
from batchkit.provider.headers import parse_duration
from batchkit.provider.refusals import refusal_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.provider.dialect import Hints

# The sum of two of them fits in 32 bits, as a database needs it.
_LARGEST_COUNT = 1_000_000_000
_LARGEST_SIZE = 2**63 - 1
_LATEST_TIME = 253_402_300_799  # the last second of the year 9999
_LONGEST_PROBLEM_CHARS = 1_000
_LONGEST_STATUS_CHARS = 100
_KNOWN_STATUSES = frozenset(BatchStatus)
_TRY_AGAIN = re.compile(r"try again in ((?:[0-9.]+[a-z\u00b5]+)+)", re.IGNORECASE)

_NOT_FOUND = re.compile(r"not[ _]found|\bno (?:such )?batch\b|does not exist", re.IGNORECASE)

_UNKNOWN_PATH_CODE = "unknown_url"


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list. ``next_cursor`` is what asks for the next page, None on the last one.

    ``has_unreachable_rest``: there is more, but it is not said how to ask for it. ``total`` is how many entries a list in numbered
    pages has; None: not said.
    """

    entries: Sequence[object]
    next_cursor: str | None
    has_unreachable_rest: bool
    total: int | None = None


def explain(status: int, payload: object, *, hints: Hints) -> Refusal:
    """Read an error body: ``{"error": {message, type, code, param}}`` (console.groq.com/docs/errors), or a similar shape."""
    root = payload if isinstance(payload, Mapping) else {}
    error = root.get("error", root)
    if not isinstance(error, Mapping):
        error = {"message": error}
    error = _with_first_problem(error)
    message = text(error.get("message")) or text(error.get("detail")) or text(root.get("detail"))
    code, kind_of_error, param = text(error.get("code")), text(error.get("type")), text(error.get("param"))
    # Some servers send the code as the type.
    kind = refusal_kind(status=status, code=code or kind_of_error, message=message, param=param)
    hint = hints.by_code.get(code or "") or hints.by_status.get(status)
    if hint is None and kind is RefusalKind.ACCOUNT:
        hint = hints.account
    return Refusal(
        message=message,
        code=code,
        type=kind_of_error,
        param=param,
        hint=hint,
        retry_after_seconds=_wait_in_message(message),
        kind=kind,
        is_unknown_path=code == _UNKNOWN_PATH_CODE,
    )


def _with_first_problem(error: Mapping[str, object]) -> Mapping[str, object]:
    """Read a refusal of FastAPI, ``{"detail": [{loc, msg, type}]}``: the framework refuses a body before the API sees it."""
    problems = error.get("detail")
    first = problems[0] if isinstance(problems, list) and problems else None
    if not isinstance(first, Mapping):
        return error
    place = first.get("loc")
    param = place[-1] if isinstance(place, list) and place else None
    return {"message": first.get("msg"), "type": first.get("type"), "param": param}


def says_not_found(payload: object) -> bool:
    """Return whether a reply is an error object for a missing object: some servers send it with status 200."""
    error = payload.get("error") if isinstance(payload, Mapping) else None
    if not isinstance(error, Mapping):
        return False
    texts = (text(error.get(name)) for name in ("code", "type", "message"))
    return any(found is not None and _NOT_FOUND.search(found) for found in texts)


def page(
    payload: object, style: ListStyle = ListStyle.CURSOR, *, size: int | None = None, cursor: str | None = None
) -> Page | None:
    """Read ``{"object": "list", "data": [...]}``; None when it is not a list. ``cursor`` is what asked for this page.

    ``data`` null is an empty list, as some servers send it. In every style a page that names a cursor is continued with it, because
    only a server that pages by cursors sends one. ``size`` is that of a full page: if it does not say whether there is more, the next
    page will.
    """
    if style is ListStyle.WHOLE and isinstance(payload, list):
        payload = {"data": payload}
    if not isinstance(payload, Mapping) or "data" not in payload:
        return None
    entries = payload["data"]
    if entries is None:
        entries = []
    if not isinstance(entries, list):
        return None
    # On the last page ``paging`` or its cursor may be absent or null (console.groq.com/docs/batch). Any other value there may mean
    # that there is more.
    paging = payload.get("paging")
    named = paging.get("next_cursor") if isinstance(paging, Mapping) else paging
    next_cursor = text(named) if named and isinstance(paging, Mapping) else None
    has_more = payload.get("has_more") is True
    may_have_more = has_more or (payload.get("has_more") is None and size is not None and len(entries) >= size)
    if next_cursor is None and may_have_more and style is ListStyle.AFTER:
        next_cursor = text(payload.get("last_id")) or _id_of_last(entries)
    total = _integer(payload.get("total")) if style is ListStyle.PAGE else None
    # Only an empty page ends numbered pages: a server may give fewer entries than were asked for.
    if style is ListStyle.PAGE and next_cursor is None and (entries or (cursor is None and total)):
        next_cursor = str(int(cursor or 0) + 1)
    return Page(
        entries=entries,
        next_cursor=next_cursor,
        has_unreachable_rest=(has_more or bool(named)) and next_cursor is None,
        total=total,
    )


def _id_of_last(entries: Sequence[object]) -> str | None:
    last = entries[-1] if entries else None
    return text(last.get("id")) if isinstance(last, Mapping) else None


def batch(payload: object, *, statuses: Mapping[str, BatchStatus] | None = None) -> Batch | None:
    """Read a batch object; None when it has no id. An unknown status is kept, an absent one is ``unknown``.

    ``statuses`` translates status words, in lower case, that are not ours.
    """
    if not isinstance(payload, Mapping):
        return None
    batch_id = text(payload.get("id"))
    if batch_id is None:
        return None
    return Batch(
        id=BatchId(batch_id),
        status=_status(payload.get("status"), statuses or {}),
        endpoint=text(payload.get("endpoint")) or "",
        input_file_id=_file_id(payload.get("input_file_id")),
        output_file_id=_file_id(payload.get("output_file_id")),
        error_file_id=_file_id(payload.get("error_file_id")),
        completion_window=text(payload.get("completion_window")) or "",
        created_at=_time(payload.get("created_at")),
        expires_at=_time(payload.get("expires_at")),
        counts=_counts(payload.get("request_counts")),
        metadata=_metadata(payload.get("metadata")),
        problems=problems(payload.get("errors")),
        raw=payload,
    )


def problems(errors: object) -> tuple[BatchProblem, ...]:
    """Read a batch's ``errors``: null, {}, a bare list (Groq's guide), {"data": [...]} (its reference), strings."""
    if isinstance(errors, Mapping) and "data" in errors:
        errors = errors["data"]
    if not errors or isinstance(errors, bool):
        return ()
    entries = errors if isinstance(errors, list) else [errors]
    return tuple(_problem(entry) for entry in entries if entry)


def remote_file(payload: object) -> RemoteFile | None:
    """Read a file object; None when it has no id."""
    if not isinstance(payload, Mapping):
        return None
    file_id = _file_id(payload.get("id"))
    if file_id is None:
        return None
    size = _integer(payload.get("bytes"))
    return RemoteFile(
        id=file_id,
        filename=text(payload.get("filename")) or "",
        size_bytes=size if size is not None and 0 <= size <= _LARGEST_SIZE else None,
        purpose=text(payload.get("purpose")) or "",
        created_at=_time(payload.get("created_at")),
        status=text(payload.get("status")),
    )


def model(payload: object) -> RemoteModel | None:
    """Read an entry of GET /models; None when it has no id. Only ``active`` false means that a model is shut down."""
    if not isinstance(payload, Mapping):
        return None
    model_id = text(payload.get("id"))
    if model_id is None:
        return None
    return RemoteModel(id=model_id, active=payload.get("active") is not False)


def text(value: object) -> str | None:
    """Return a string that is not blank, or a number as a string; None for anything else.

    Characters that no database stores as text (U+0000, lone surrogates) become a replacement character.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        return None
    return value.replace("\x00", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _file_id(value: object) -> FileId | None:
    word = text(value)
    return None if word is None else FileId(word)


def _status(value: object, statuses: Mapping[str, BatchStatus]) -> str:
    word = text(value)
    if word is None:
        return "unknown"
    known = word.strip().lower()
    known = statuses.get(known, known)
    return known if known in _KNOWN_STATUSES else word[:_LONGEST_STATUS_CHARS]


def _integer(value: object) -> int | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, float) and math.isfinite(value) else None


def _time(value: object) -> int | None:
    """Read Unix seconds: a number, a number as a string, or an ISO 8601 time. Zero and less mean that no time was set."""
    seconds = _integer(value)
    if seconds is None and isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            seconds = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
        except (ValueError, OverflowError):
            return None
    return seconds if seconds is not None and 0 < seconds <= _LATEST_TIME else None


def _counts(value: object) -> RequestCounts:
    counts = value if isinstance(value, Mapping) else {}
    total, completed, failed = (
        min(max(_integer(counts.get(name)) or 0, 0), _LARGEST_COUNT) for name in ("total", "completed", "failed")
    )
    return RequestCounts(total=total, completed=completed, failed=failed)


def _metadata(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    pairs = ((text(key), text(entry)) for key, entry in value.items())
    return {key: entry for key, entry in pairs if key is not None and entry is not None}


def _problem(entry: object) -> BatchProblem:
    if not isinstance(entry, Mapping):
        return BatchProblem(message=_cut(text(entry) or _written(entry)))
    line = _integer(entry.get("line"))
    code = text(entry.get("code"))
    return BatchProblem(
        message=_cut(text(entry.get("message")) or code or _written(entry)),
        code=code,
        line=line if line is not None and 0 < line <= _LARGEST_COUNT else None,
        param=text(entry.get("param")),
    )


def _written(value: object) -> str:
    return dumps(value).decode(errors="replace").replace("\x00", "\ufffd")


def _cut(message: str) -> str:
    return message if len(message) <= _LONGEST_PROBLEM_CHARS else message[: _LONGEST_PROBLEM_CHARS - 3] + "..."


def _wait_in_message(message: str | None) -> float | None:
    """Read ``Please try again in 9m38.016s``, for a 429 that has the wait only in its message."""
    found = _TRY_AGAIN.search(message) if message else None
    return parse_duration(found[1].rstrip(".")) if found else None
