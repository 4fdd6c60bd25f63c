"""The parameters of a list call."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
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

    def moment(self, name: str) -> float | None:
        """Return an ISO 8601 time as Unix seconds, in UTC unless it has a zone. Raises ``ApiError`` 400 for anything else."""
        text = self.others.get(name)
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            message = f"Invalid '{name}': expected a time, got '{text[:40]}'."
            raise ApiError(400, message, code="invalid_value", param=name) from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
