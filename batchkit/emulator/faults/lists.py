"""Faults in what lists say of a batch, while a read by its id tells the truth."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from batchkit.emulator.faults.base import BatchFault

_TERMINAL = ("completed", "failed", "expired", "cancelled")
_UNKNOWN_YET = ("output_file_id", "error_file_id", "errors", *(f"{status}_at" for status in _TERMINAL))


class StaleList(BatchFault):
    """Lists show a batch as running although it has ended, while a read by its id and the reply to a cancel tell the truth."""

    name: ClassVar[str] = "stale-list"
    calls: int | None = Field(
        default=None, ge=1, description="only the first list calls after its creation, by ids or of everything"
    )

    def show_listed(self, shown: dict[str, Any], listings: int) -> None:
        """Show the batch as it was before it ended."""
        if shown["status"] in _TERMINAL and (self.calls is None or listings <= self.calls):
            shown |= {"status": "in_progress", "request_counts": {"completed": 0, "failed": 0, "total": 0}}
            shown |= dict.fromkeys(_UNKNOWN_YET)
