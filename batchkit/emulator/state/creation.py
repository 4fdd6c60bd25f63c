"""What a create may say, and what each provider refuses in it. Texts are OpenAI's, because Groq's are not documented."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from batchkit.emulator.contract.replies import ApiError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.emulator.dialects.dialect import Dialect

_METADATA_PAIRS = 16
_METADATA_KEY_CHARACTERS = 64
_METADATA_VALUE_CHARACTERS = 512


@dataclass(frozen=True, slots=True)
class Creation:
    """A create that makes sense; ``metadata`` is JSON, ``seconds`` the length of the window."""

    input_file_id: str
    endpoint: str
    window: str
    seconds: int
    metadata: str | None
    model: str | None
    idempotency_key: str | None


def read_creation(dialect: Dialect, body: dict[str, Any]) -> Creation:
    """Read the body of a create. Raises ``ApiError`` 400 for a malformed one."""
    if dialect.shape == "mistral":
        body = _from_mistral(dialect, body)
    if dialect.create_fields is not None and (unknown := next(iter(body.keys() - dialect.create_fields), None)):
        raise ApiError(400, f"Unknown parameter: '{unknown}'.", code="unknown_parameter", param=unknown)
    if dialect.windows.default is not None and body.get("completion_window") is None:
        body = {**body, "completion_window": dialect.windows.default}
    for key in ("input_file_id", "endpoint", "completion_window"):
        _check_text(body, key)
    endpoint, window = body["endpoint"], body["completion_window"]
    if endpoint not in dialect.endpoints:
        raise _invalid_value("endpoint", endpoint, dialect.endpoints)
    seconds = dialect.windows.seconds(window)
    if seconds is None:
        raise _invalid_value("completion_window", window, (dialect.windows.offered(),))
    idempotency_key = body.get(dialect.idempotency_field) if dialect.idempotency_field else None
    model = body.get("model") if dialect.model_of_job else body.get("model_id")
    return Creation(
        input_file_id=body["input_file_id"],
        endpoint=endpoint,
        window=window,
        seconds=seconds,
        metadata=_read_metadata(dialect, body.get("metadata")),
        model=model if isinstance(model, str) else None,
        idempotency_key=idempotency_key if isinstance(idempotency_key, str) else None,
    )


def _from_mistral(dialect: Dialect, body: dict[str, Any]) -> dict[str, Any]:
    """Return a job's create in the inner form. Requests inside the create, and several files, are not emulated."""
    files, hours = body.get("input_files"), body.get("timeout_hours", 24)
    if not isinstance(files, list) or len(files) != 1 or not isinstance(files[0], str):
        message = "Field 'input_files' must be a list of one file id (more are not emulated, nor are 'requests')."
        raise ApiError(400, message, code="missing", param="input_files")
    window = f"{hours}h" if isinstance(hours, int) else ""
    if dialect.windows.seconds(window) is None:
        message = f"Input should be a number of hours: {dialect.windows.offered()}"
        raise ApiError(400, message, code="int_range", param="timeout_hours")
    _check_text(body, "model")
    return {**body, "input_file_id": files[0], "completion_window": window}


def _check_text(body: dict[str, Any], key: str) -> None:
    if key not in body:
        raise ApiError(400, f"Missing required parameter: '{key}'.", code="missing_required_parameter", param=key)
    if not isinstance(body[key], str):
        raise ApiError(400, f"Invalid type for '{key}': expected a string.", code="invalid_type", param=key)


def _invalid_value(param: str, value: str, supported: Sequence[str]) -> ApiError:
    choices = ", ".join(f"'{choice}'" for choice in supported)
    return ApiError(
        400, f"Invalid value: '{value}'. Supported values are: {choices}.", code="invalid_value", param=param
    )


def _read_metadata(dialect: Dialect, metadata: Any) -> str | None:
    """Return what the provider keeps of the metadata, as JSON. Raises ``ApiError`` 400 for what it refuses."""
    if metadata is None or dialect.metadata == "none":
        return None
    if not isinstance(metadata, dict):
        raise ApiError(400, "Invalid type for 'metadata': expected an object.", code="invalid_type", param="metadata")
    for key, value in metadata.items():
        param = f"metadata.{key}"
        if not isinstance(value, str):
            raise ApiError(400, f"Invalid type for '{param}': expected a string.", code="invalid_type", param=param)
        longest = dialect.metadata_lengths.get(key, _METADATA_VALUE_CHARACTERS)
        if len(key) > _METADATA_KEY_CHARACTERS or len(value) > longest:
            message = (
                f"Invalid '{param}': keys hold {_METADATA_KEY_CHARACTERS} and values {longest} characters at most."
            )
            raise ApiError(400, message, code="string_above_max_length", param=param)
    if len(metadata) > _METADATA_PAIRS:
        message = "Invalid 'metadata': 16 pairs at most."
        raise ApiError(400, message, code="object_above_max_properties", param="metadata")
    if dialect.metadata == "named":
        metadata = {key: value for key, value in metadata.items() if key in dialect.metadata_lengths}
    return orjson.dumps(metadata).decode()
