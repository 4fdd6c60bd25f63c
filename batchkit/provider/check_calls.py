"""What single calls of a server tell: downloads, how long files are kept, and the ordinary endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from batchkit.errors import ProviderError, ProviderRefused
from batchkit.formatting import printable
from batchkit.provider.check_headers import shown
from batchkit.provider.file_calls import FILES, segment_of

if TYPE_CHECKING:
    from batchkit.models import Batch, FileId, RemoteFile
    from batchkit.provider.check_headers import SeenHeaders
    from batchkit.provider.check_remote import Remote
    from batchkit.provider.dialect import Retention

#: How many calls ``ordinary_calls`` makes.
CALLS: Final = 2
_CHAT: Final = "/chat/completions"
#: What the calls ask for: far more than the answer needs, so that a reservation can be told from what was used.
_MOST_TOKENS: Final = 400
_SECONDS_PER_DAY: Final = 86_400
_CONTENT_HEADERS: Final = ("content-type", "content-length", "content-encoding", "accept-ranges", "location")
_PARTIAL: Final = 206
_RANGE_BYTES: Final = 10
_LONGEST_CHARS: Final = 200


def question(model: str) -> dict[str, Any]:
    """Return the body of a request with a short answer."""
    return {"model": model, "messages": [{"role": "user", "content": "Answer with OK."}]}


def content_call(remote: Remote, file: RemoteFile) -> None:
    """Note the headers of a download, and whether a part of a file can be read."""
    path = f"{FILES}/{segment_of(file.id, 'file')}/content"
    try:
        whole = remote.provider.http.fetch(path, {})
        part = remote.provider.http.fetch(path, {"Range": f"bytes=0-{_RANGE_BYTES - 1}"})
    except ProviderError:
        # Why a file cannot be read is told where it is read back.
        return
    headers = {name: whole.headers[name] for name in _CONTENT_HEADERS if name in whole.headers}
    remote.report.note("headers of a download", shown(headers))
    is_part = part.status == _PARTIAL and len(part.content) == _RANGE_BYTES
    found = f"{_RANGE_BYTES} bytes" if is_part else f"status {part.status}, {len(part.content)} bytes"
    remote.report.note(f"Range: bytes=0-{_RANGE_BYTES - 1}", found)


def kept_until(remote: Remote, batch: Batch, retention: Retention) -> None:
    """Compare for how long the server keeps the files of a batch, where it tells that."""
    files = (
        ("input", batch.input_file_id, retention.input_days, "input_days"),
        ("output", batch.output_file_id, retention.output_days, "output_days"),
    )
    for kind, file_id, days, name in files:
        if file_id is None:
            continue
        subject = f"expiry of an {kind} file"
        told = _days_of(remote, file_id)
        if told is None:
            remote.report.note(subject, "not told")
        elif days is None:
            remote.report.note(subject, f"after {told} days")
            remote.report.corrections[name] = told
        else:
            expected = f"after {days} days"
            remote.report.compare(
                subject, expected, f"after {told} days", is_same=told == days, corrections={name: told}
            )


def _days_of(remote: Remote, file_id: FileId) -> int | None:
    try:
        shown_file = remote.provider.http.get(f"{FILES}/{segment_of(file_id, 'file')}")
    except ProviderError:
        return None
    if not isinstance(shown_file, Mapping):
        return None
    begin, end = shown_file.get("created_at"), shown_file.get("expires_at")
    if not isinstance(begin, int) or not isinstance(end, int) or end <= begin:
        return None
    return max(round((end - begin) / _SECONDS_PER_DAY), 1)


def ordinary_calls(remote: Remote, headers: SeenHeaders, model: str) -> None:
    """Note what a call of the ordinary endpoint takes from the limit of tokens, and what the flex tier answers."""
    body = {**question(model), "max_completion_tokens": _MOST_TOKENS}
    for subject, more in (("an ordinary call", {}), ("a call on the flex tier", {"service_tier": "flex"})):
        headers.limits.pop("chat", None)
        try:
            reply = remote.provider.http.post_once(_CHAT, {**body, **more})
        except ProviderRefused as error:
            of_limits = headers.limits.get("chat")
            told = f" ({shown(of_limits)})" if of_limits else ""
            remote.report.note(subject, f"{printable(error.message, _LONGEST_CHARS)}{told}")
        except ProviderError as error:
            remote.report.note(subject, printable(error.message, _LONGEST_CHARS))
        else:
            remote.report.note(subject, _taken(reply, headers.limits.get("chat", {})))


def _taken(reply: object, limits: Mapping[str, str]) -> str:
    root = reply if isinstance(reply, Mapping) else {}
    usage = root.get("usage")
    used = usage.get("total_tokens") if isinstance(usage, Mapping) else None
    tier = root.get("service_tier")
    of_tier = f"answered by tier {printable(tier, _LONGEST_CHARS)}" if isinstance(tier, str) else "its tier is not told"
    limit, left = (_number(limits.get(f"x-ratelimit-{name}-tokens")) for name in ("limit", "remaining"))
    if limit is None or left is None:
        return f"{of_tier}; no header tells the tokens that are left"
    return (
        f"{of_tier}; {limit - left:,} of {limit:,} tokens are taken after a call that used {used} and asked for up to"
        f" {_MOST_TOKENS}"
    )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < len("1" * 19) else None
