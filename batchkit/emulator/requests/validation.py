"""The validation of a batch's input file before it runs: one problem for each bad line, lines count from 1.

Codes and texts: ``invalid_method`` as on console.groq.com/docs/batch, all others as OpenAI's, because Groq's are not
documented. A dialect renames codes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from batchkit.emulator.contract.endpoints import REQUIRED
from batchkit.emulator.contract.models import no_such_model
from batchkit.emulator.dialects.lines import request_read

if TYPE_CHECKING:
    from pathlib import Path

    from batchkit.emulator.contract.rules import BatchRules, Limits
    from batchkit.emulator.dialects.dialect import Dialect

ValidationProblem = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Checks:
    """What a file is checked against. ``model`` is the job's, ``served`` the models of which others fail the batch; None is any."""

    dialect: Dialect
    endpoint: str
    rules: BatchRules
    limits: Limits
    model: str | None = None
    served: frozenset[str] | None = None


@dataclass(slots=True)
class Validation:
    """``total`` counts good lines, ``bad_lines`` the numbers of the others; ``problems`` holds the first ones by line.

    ``model`` is the one that the first good line names.
    """

    total: int = 0
    problems: list[ValidationProblem] = field(default_factory=list)
    bad_lines: list[int] = field(default_factory=list)
    model: str | None = None


def problem(code: str, message: str, *, param: str | None = None) -> ValidationProblem:
    """Return an entry of a batch's ``errors`` that names no line."""
    return {"code": code, "message": message, "param": param, "line": None}


def validate_file(path: Path, checks: Checks) -> Validation:
    """Check a whole input file, line by line."""
    result = Validation()
    seen = _Seen()
    limits, codes = checks.limits, checks.dialect.codes
    with path.open("rb") as source:
        for number, raw in enumerate(source, 1):
            if limits.max_lines is not None and number > limits.max_lines:
                message = f"The batch input file contains more than {limits.max_lines} requests."
                return Validation(problems=[problem("too_many_tasks", message)])
            found = _check_line(raw, checks, seen)
            if found is None:
                result.total += 1
            else:
                result.bad_lines.append(number)
                if len(result.problems) < limits.errors_shown:
                    result.problems.append({**found, "code": codes.get(found["code"], found["code"]), "line": number})
    result.model = seen.first_model
    if not result.total and not result.problems:
        result.problems.append(problem("empty_file", "The batch input file contains no requests."))
    return result


@dataclass(slots=True)
class _Seen:
    """The ids and models of the lines so far."""

    custom_ids: set[str] = field(default_factory=set)
    first_model: str | None = None


def _check_line(raw: bytes, checks: Checks, seen: _Seen) -> ValidationProblem | None:
    longest = checks.limits.max_line_bytes
    if longest is not None and len(raw) > longest:
        return problem("line_too_large", f"This line has {len(raw)} bytes; the limit is {longest}.")
    try:
        request = orjson.loads(raw)
    except orjson.JSONDecodeError:
        request = None
    if not isinstance(request, dict):
        return problem("invalid_json_line", "This line is not parseable as valid JSON.")
    found = _check_envelope(request, checks)
    if found is not None:
        return found
    request = request_read(checks.dialect, request, checks.endpoint, checks.model)
    return _check_body(request["body"], request["url"], checks) or _check_uniqueness(request, checks.rules, seen)


def _check_envelope(request: dict[str, Any], checks: Checks) -> ValidationProblem | None:
    for key in checks.dialect.line_keys:
        if request.get(key) is None:
            return problem("missing_required_parameter", f"Missing required parameter: '{key}'.", param=key)
    found = _check_id(request["custom_id"], checks) or _check_address(request, checks)
    if found is None and not isinstance(request["body"], dict):
        found = problem("invalid_type", "Invalid type for 'body': expected an object.", param="body")
    return found


def _check_id(custom_id: Any, checks: Checks) -> ValidationProblem | None:
    if not isinstance(custom_id, str) or not custom_id:
        return problem("invalid_type", "Invalid type for 'custom_id': expected a string.", param="custom_id")
    longest = checks.dialect.max_id_characters
    if longest is not None and len(custom_id) > longest:
        message = f"Invalid 'custom_id': it has more than {longest} characters."
        return problem("string_above_max_length", message, param="custom_id")
    return None


def _check_address(request: dict[str, Any], checks: Checks) -> ValidationProblem | None:
    """Check the method and the url of a line, if the provider's lines have them."""
    dialect = checks.dialect
    if "method" in dialect.line_keys and request["method"] != "POST":
        message = f"Invalid value: '{request['method']}'. Supported values are: 'POST'"
        return problem("invalid_method", message, param="method")
    if "url" not in dialect.line_keys:
        return None
    if dialect.single_url and request["url"] != checks.endpoint:
        message = "The URL provided for this request does not match the batch endpoint."
        return problem("invalid_url", message, param="url")
    allowed = (checks.endpoint,) if checks.rules.single_url else dialect.endpoints
    if request["url"] not in allowed:
        choices = ", ".join(f"'{choice}'" for choice in allowed)
        message = f"Invalid value: '{request['url']}'. Supported values are: {choices}"
        return problem("invalid_url", message, param="url")
    return None


def _check_body(body: dict[str, Any], url: str, checks: Checks) -> ValidationProblem | None:
    for key in REQUIRED[url]:
        if body.get(key) is None:
            param = f"body.{key}"
            return problem("invalid_request", f"Missing required parameter: '{param}'.", param=param)
    model = str(body["model"])
    if model in checks.rules.refused_models:
        return problem("model_not_found", no_such_model(model), param="body.model")
    if checks.served is not None and model not in checks.served:
        message = f"The provided model '{model}' is not supported by the Batch API."
        return problem("model_not_found", message, param="body.model")
    if body.get("stream"):
        return problem("streaming_unsupported", "Streaming is not supported in batch requests.", param="body.stream")
    return None


def _check_uniqueness(request: dict[str, Any], rules: BatchRules, seen: _Seen) -> ValidationProblem | None:
    custom_id, model = request["custom_id"], str(request["body"]["model"])
    if rules.duplicate_custom_ids == "reject":
        if custom_id in seen.custom_ids:
            message = f"The custom_id '{custom_id}' is used by more than one request."
            return problem("duplicate_custom_id", message, param="custom_id")
        seen.custom_ids.add(custom_id)
    if seen.first_model is None:
        seen.first_model = model
    if rules.single_model and model != seen.first_model:
        message = f"All requests of a batch must use one model; '{model}' is a second one."
        return problem("model_mismatch", message, param="body.model")
    return None
