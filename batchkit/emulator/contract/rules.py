"""The rules for one batch: the provider's and the scenario's timing, changed by the faults that hit the batch; and the limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class BatchRules:
    """Everything about a batch in which servers differ or misbehave. Durations are provider seconds.

    The defaults are documented by Groq, or OpenAI's behaviour where Groq's is not documented.
    """

    validating_seconds: float
    seconds_per_line: float
    finalizing_seconds: float
    cancelling_seconds: float
    stuck_in: Literal["validating", "in_progress", "finalizing"] | None = None
    bad_lines: Literal["reject_batch", "skip_lines"] = "reject_batch"
    duplicate_custom_ids: Literal["reject", "run"] = "reject"
    single_url: bool = False
    single_model: bool = False
    refused_models: frozenset[str] = frozenset()
    refusal: dict[str, Any] | None = None
    input_lost: bool = False
    expired_lines_listed: bool = True
    cancelled_lines_listed: bool = True
    cancel_ends_as: Literal["cancelled", "completed"] = "cancelled"
    shuffled: bool = False
    empty_files: frozenset[Literal["output", "error"]] = frozenset()
    never_expires: bool = False
    files_named_after_seconds: float = 0.0
    gone_status: Literal[200, 404] = 404
    cancel_ended_status: Literal[200, 400, 409] = 409


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that hold: the scenario's where it names one, else the provider's. None is no limit."""

    max_lines: int | None
    max_bytes: int | None
    max_line_bytes: int | None
    max_files: int | None
    ids_per_query: int
    page_size: int
    max_page_size: int
    errors_shown: int
