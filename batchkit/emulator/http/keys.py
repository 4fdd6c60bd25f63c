"""The check of the API key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.emulator.contract.replies import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def check_key(headers: Mapping[str, str], names: Sequence[str], api_key: str | None) -> None:
    """Refuse a call without the key in one of the named headers; ``api_key`` None accepts any. Raises ``ApiError`` 401."""
    for name in names:
        token = headers.get(name, "")
        if name == "authorization":
            scheme, _, token = token.partition(" ")
            token = token if scheme.lower() == "bearer" else ""
        token = token.strip()
        if token and (api_key is None or token == api_key):
            return
    raise ApiError(401, "Invalid API Key", code="invalid_api_key")
