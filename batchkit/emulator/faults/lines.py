"""Faults in single lines: requests that fail or get lost, and their entries in the result files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import orjson
from pydantic import Field

from batchkit.emulator.contract.models import no_such_model
from batchkit.emulator.faults.base import LineFault

if TYPE_CHECKING:
    from batchkit.emulator.contract.outcome import EmulatedOutcome


class FailLines(LineFault):
    """Requests are refused one by one and land in the error file with an HTTP status and the provider's error body."""

    name: ClassVar[str] = "fail-lines"
    status: int = Field(default=400, ge=400, le=599, description="the line's status_code")
    code: str | None = Field(default=None, description="the error's code")
    type: str = Field(default="invalid_request_error", description="the error's type")
    message: str = Field(
        default="The request was refused by the emulator's scenario.", description="the error's message"
    )
    bare: bool = Field(
        default=False, description="leave out request_id and the top-level error key, as Groq has been seen to"
    )

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Replace the answer by an error body."""
        error: dict[str, Any] = {"message": self.message, "type": self.type}
        if self.code is not None:
            error["code"] = self.code
        _refuse(outcome, self.status, error, bare=self.bare)


class FailGeneration(LineFault):
    """Requests fail with json_validate_failed or tool_use_failed, as when a model's answer does not parse."""

    name: ClassVar[str] = "fail-generation"
    code: Literal["json_validate_failed", "tool_use_failed"] = Field(
        default="json_validate_failed", description="which of the two"
    )
    failed_generation: str = Field(default="", description="what the model had written, often nothing")

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Replace the answer by the error body."""
        what = "validate JSON" if self.code == "json_validate_failed" else "call a function"
        error = {
            "message": f"Failed to {what}. Please adjust your prompt. See 'failed_generation' for more details.",
            "type": "invalid_request_error",
            "code": self.code,
            "failed_generation": self.failed_generation,
        }
        _refuse(outcome, 400, error, bare=True)


class RetireModels(LineFault):
    """Models are gone between upload and run: each request to them is refused on its own with 404 model_not_found."""

    name: ClassVar[str] = "retire-models"

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Replace the answer by the error body."""
        model = outcome.body.get("model", "of this request") if isinstance(outcome.body, dict) else "of this request"
        error = {"message": no_such_model(model), "type": "invalid_request_error", "code": "model_not_found"}
        _refuse(outcome, 404, error, bare=False)


class TimeOutLines(LineFault):
    """Requests end without a response: response is null and the top-level error says request_timeout."""

    name: ClassVar[str] = "time-out-lines"
    code: str = Field(default="request_timeout", description="the top-level error's code")
    message: str = Field(default="The request timed out.", description="the top-level error's message")

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Replace the answer by a top-level error; the batch counts the request as failed."""
        outcome.status = 408
        outcome.succeeded = False
        outcome.output = []
        outcome.errors = [outcome.record(None, {"code": self.code, "message": self.message})]


class ExpireLines(LineFault):
    """Requests are not reached before the window runs out, so their batch ends as expired with partial files."""

    name: ClassVar[str] = "expire-lines"

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Leave the line unexecuted until the window's end."""
        outcome.held = True
        outcome.executed = outcome.succeeded = False
        outcome.output, outcome.errors = [], []


class DropLines(LineFault):
    """Requests count as completed but appear in neither result file."""

    name: ClassVar[str] = "drop-lines"
    executed: bool = Field(default=False, description="whether the ledger holds them as executed and paid for")

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Take the line out of both files."""
        outcome.output, outcome.errors = [], []
        outcome.executed = self.executed
        outcome.succeeded = outcome.succeeded and self.executed


class DuplicateLines(LineFault):
    """Result lines appear twice under one custom_id."""

    name: ClassVar[str] = "duplicate-lines"
    second: Literal["same", "other", "error"] = Field(
        default="same", description="the second copy: identical, another answer, or an error in the error file"
    )

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Add the second copy."""
        if self.second == "error":
            error = {"message": "Internal Server Error", "type": "internal_server_error"}
            response = {"status_code": 500, "request_id": outcome.request_id, "body": {"error": error}}
            outcome.errors.append(outcome.record(response))
            return
        for records in (outcome.output, outcome.errors):
            if records:
                records.append(records[0] if self.second == "same" else _other_answer(records[0]))


class UnknownLines(LineFault):
    """An extra result line appears whose custom_id was in no request of the batch."""

    name: ClassVar[str] = "unknown-lines"
    prefix: str = Field(default="unknown-", description="put before the custom_id of the line it follows")

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Add a successful line under a made-up custom_id."""
        response = {"status_code": 200, "request_id": outcome.request_id, "body": outcome.body}
        outcome.output.append({**outcome.record(response), "custom_id": self.prefix + outcome.custom_id})


class BreakLines(LineFault):
    """Result lines are not valid JSON."""

    name: ClassVar[str] = "break-lines"
    how: Literal["cut", "unescaped", "not-utf8"] = Field(
        default="cut",
        description="cut in the middle (custom_id still readable), a raw control character, or bytes that are not UTF-8",
    )

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Break the bytes of the line, which then has no usable answer."""
        outcome.succeeded = False
        for records in (outcome.output, outcome.errors):
            records[:] = [
                self._spoil(record if isinstance(record, bytes) else orjson.dumps(record)) for record in records
            ]

    def _spoil(self, line: bytes) -> bytes:
        middle = max(line.find(b'"response"'), len(line) // 2)
        if self.how == "cut":
            return line[:middle]
        return line[:middle] + (b"\x01" if self.how == "unescaped" else b"\xff\xfe") + line[middle:]


class ZeroStatusLines(LineFault):
    """Requests end with status_code 0, an empty request_id and an empty body although error is null."""

    name: ClassVar[str] = "zero-status-lines"

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Put the hollow line into the error file."""
        outcome.status = 0
        outcome.succeeded = False
        outcome.output = []
        outcome.errors = [outcome.record({"status_code": 0, "request_id": "", "body": {}})]


class HollowSuccesses(LineFault):
    """Lines of the output file carry an error at the top level, or no body, although their status_code is 200."""

    name: ClassVar[str] = "hollow-successes"
    how: Literal["error", "null-body", "null-response"] = Field(default="error", description="which part is wrong")

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Break the success."""
        outcome.succeeded = False
        response: dict[str, Any] | None = {"status_code": 200, "request_id": outcome.request_id, "body": outcome.body}
        error = None
        if self.how == "error":
            error = {"code": "server_error", "message": "The server had an error while processing your request."}
        elif self.how == "null-body":
            response = {"status_code": 200, "request_id": outcome.request_id, "body": None}
        else:
            response = None
        outcome.output = [outcome.record(response, error)]
        outcome.errors = []


class ExtraLineFields(LineFault):
    """Result lines carry fields that no documentation names: beside the response, inside it and in its body."""

    name: ClassVar[str] = "extra-line-fields"
    fields: dict[str, Any] = Field(
        default={"project_id": "project_x", "usage_breakdown": {"models": []}, "service_tier": "batch"},
        description="the fields and their values",
    )

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Add the fields wherever the line is an object."""
        for record in (*outcome.output, *outcome.errors):
            if not isinstance(record, dict):
                continue
            response = record.get("response")
            body = response.get("body") if isinstance(response, dict) else None
            for part in (record, response, body):
                if isinstance(part, dict):
                    part.update(self.fields)


def _refuse(outcome: EmulatedOutcome, status: int, error: dict[str, Any], *, bare: bool) -> None:
    outcome.status = status
    outcome.body = {"error": error}
    outcome.settle()
    if bare:
        response = {"status_code": status, "body": outcome.body}
        outcome.errors = [{"id": outcome.line_id, "custom_id": outcome.custom_id, "response": response}]


def _other_answer(record: dict[str, Any] | bytes) -> dict[str, Any] | bytes:
    if isinstance(record, bytes):
        return record
    copy: dict[str, Any] = orjson.loads(orjson.dumps(record))
    body = (copy.get("response") or {}).get("body")
    if isinstance(body, dict) and body.get("choices"):
        body["choices"][0]["message"]["content"] = "Another answer to the same request."
    return copy
