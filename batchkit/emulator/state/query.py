"""The parameters of a list call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchkit.emulator.contract.replies import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters of a list call; ``ids`` are all values of ``id``, ``others`` the last value of each parameter."""

    ids: Sequence[str]
    others: Mapping[str, str]

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """Return a whole number. Raises ``ApiError`` 400 for anything else, or one out of range."""
        text = self.others.get(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            message = f"Invalid '{name}': expected an integer from {least} to {most}, got '{text[:20]}'."
            raise ApiError(400, message, code="invalid_value", param=name)
        return int(text)
