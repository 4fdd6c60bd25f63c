"""Torn downloads: not every byte of the file arrived, or not certainly."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from batchkit.errors import TornDownload
from batchkit.provider.failures import is_html
from batchkit.provider.reading import is_readable
from batchkit.provider.retry import TryAgain

if TYPE_CHECKING:
    import httpx

_HINT = "nothing was lost at the provider; the same command fetches it again"


def torn(call: str, reason: str, *, cause: BaseException | None = None, repeats: bool = True) -> TryAgain:
    """Return the error of one try; ``repeats``: the next try may follow at once."""
    error = TornDownload(f"{call}: {reason}", hint=_HINT)
    error.__cause__ = cause
    return TryAgain(error, repeats=repeats)


def no_file_reason(response: httpx.Response) -> str | None:
    """Return why a success cannot be the whole file, before its body is read; None if it can."""
    if response.status_code != HTTPStatus.OK:
        return f"status {response.status_code} does not stand for a whole file"
    if is_html(response.headers):
        return "an HTML page came instead of the file"
    if not is_readable(response):
        return f"its encoding ({response.headers['content-encoding'][:20]}) cannot be read"
    return None


def torn_reason(
    response: httpx.Response, size_bytes: int, expected_bytes: int | None, accept_unframed: bool
) -> str | None:
    """Return why ``size_bytes`` bytes are not the whole body; None if they can be.

    The library has compared the length with Content-Length already (RFC 9112, section 8), so a body with a length, or in chunks,
    is as long as the server intended. The file object's size is a second check.
    """
    if expected_bytes and size_bytes != expected_bytes:
        return f"{size_bytes:,} bytes came, the file has {expected_bytes:,}"
    announced = response.headers.get("content-length")
    if announced is None and "transfer-encoding" not in response.headers and not (expected_bytes or accept_unframed):
        return "its length is not known, so that its end cannot be told from a cut"
    if size_bytes == 0 and announced != "0" and expected_bytes != 0:
        return "nothing came, and nothing says that the file is empty"
    return None
