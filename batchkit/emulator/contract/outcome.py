"""The result of one input line: its records for the output and error file, and its entry in the ledger.

Record shapes: console.groq.com/docs/batch for successes, the OpenAI Batch guide for expired and cancelled lines.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

Record = dict[str, Any] | bytes
"""A line of a result file: an object, or bytes (without newline) for a broken line."""

EXPIRED = {
    "code": "batch_expired",
    "message": "This request could not be executed before the completion window expired.",
}
CANCELLED = {
    "code": "batch_cancelled",
    "message": "This request was not executed because the batch was cancelled.",
}


@dataclass(slots=True)
class EmulatedOutcome:
    """The result of one line before it is written; faults change it in place.

    ``executed`` and ``succeeded`` go into the ledger. A ``held`` line is not executed and keeps its batch open until the window ends.
    """

    line_id: str
    custom_id: str
    request_id: str
    status: int
    body: Any
    output: list[Record] = field(default_factory=list)
    errors: list[Record] = field(default_factory=list)
    executed: bool = True
    succeeded: bool = False
    held: bool = False

    def settle(self) -> None:
        """Add the normal answer to its file."""
        self.output, self.errors = [], []
        self.succeeded = 200 <= self.status < 300  # noqa: PLR2004 - the HTTP class
        response = {"status_code": self.status, "request_id": self.request_id, "body": self.body}
        (self.output if self.succeeded else self.errors).append(self.record(response))

    def record(self, response: dict[str, Any] | None, error: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return a line of a result file."""
        return {"id": self.line_id, "custom_id": self.custom_id, "response": response, "error": error}


def unexecuted_record(line_id: str, custom_id: str, error: dict[str, Any]) -> dict[str, Any]:
    """Return the error file's line for a request that the window's end or a cancellation left unexecuted."""
    return {"id": line_id, "custom_id": custom_id, "response": None, "error": error}


def encode(record: Record) -> bytes:
    """Return the bytes of a line, newline included; text stays unescaped UTF-8 as in Groq's own files."""
    if isinstance(record, bytes):
        return record + b"\n"
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
