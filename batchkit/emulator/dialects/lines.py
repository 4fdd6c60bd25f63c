"""Lines of input and result files as each provider reads and writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchkit.emulator.contract.outcome import Record
    from batchkit.emulator.dialects.dialect import Dialect

_ERROR_CLASS = 400


def request_read(dialect: Dialect, request: dict[str, Any], endpoint: str, model: str | None) -> dict[str, Any]:
    """Return a line with the url and the model that the provider takes from the batch."""
    if "url" not in dialect.line_keys:
        request = {**request, "url": endpoint}
    if dialect.model_of_job and model is not None:
        request = {**request, "body": {**request["body"], "model": model}}
    return request


def record_written(dialect: Dialect, record: Record) -> Record:
    """Return a line of a result file as the provider writes it; broken lines stay as they are."""
    if isinstance(record, bytes):
        return record
    if dialect.error_lines == "error":
        record = _with_error(record, dialect.relayed_error)
    response = record.get("response")
    if dialect.bodies_as_text and isinstance(response, dict) and not isinstance(response.get("body"), str):
        record = {**record, "response": {**response, "body": orjson.dumps(response.get("body")).decode()}}
    return record


def _with_error(record: dict[str, Any], relayed: Mapping[str, str] | None) -> dict[str, Any]:
    """Move the refusal of a request from its response to the top, perhaps in other words, and leave out what is null."""
    response = record.get("response")
    if isinstance(response, dict) and response.get("status_code", 0) >= _ERROR_CLASS:
        body = response.get("body")
        refusal = body.get("error") if isinstance(body, dict) else None
        refusal = refusal or {"message": "request failed"}
        if relayed is not None:
            seen = {"status": response["status_code"], "message": refusal.get("message")}
            refusal = {member: words.format_map(seen) for member, words in relayed.items()}
        record = {**record, "response": None, "error": refusal}
    return {key: value for key, value in record.items() if value is not None or key not in {"response", "error"}}
