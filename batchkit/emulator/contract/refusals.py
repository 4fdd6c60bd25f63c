"""The refusal of a single request, the same in a batch line and in a synchronous call."""

from __future__ import annotations

from typing import Any


class RequestRefused(Exception):
    """A 4xx answer with its error body."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.status = status
        self.error = error


def refused(status: int, message: str, *, code: str | None = None, **fields: Any) -> RequestRefused:
    """Return a refusal of type ``invalid_request_error``; ``fields`` are further keys of the error body."""
    error: dict[str, Any] = {"message": message, "type": "invalid_request_error"}
    if code is not None:
        error["code"] = code
    return RequestRefused(status, {**error, **fields})
