"""The validation of a batch's input file before it runs: one problem for each bad line, lines count from 1.

Codes and texts: ``invalid_method`` as on console.groq.com/docs/batch, all others as OpenAI's, because Groq's are not
documented.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from batchkit.emulator.contract.models import no_such_model

if TYPE_CHECKING:
    from pathlib import Path

    from batchkit.emulator.contract.rules import BatchRules
    from batchkit.emulator.scenarios.scenario import ScenarioLimits

CHAT = "/v1/chat/completions"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
TRANSLATIONS = "/v1/audio/translations"
ENDPOINTS = (CHAT, TRANSCRIPTIONS, TRANSLATIONS)

ValidationProblem = dict[str, Any]


@dataclass(slots=True)
class Validation:
    """``total`` counts good lines, ``bad_lines`` the numbers of the others; ``problems`` holds the first ones by line."""

    total: int = 0
    problems: list[ValidationProblem] = field(default_factory=list)
    bad_lines: list[int] = field(default_factory=list)


def problem(code: str, message: str, *, param: str | None = None) -> ValidationProblem:
    """Return an entry of a batch's ``errors`` that names no line."""
    return {"code": code, "message": message, "param": param, "line": None}


def validate_file(path: Path, endpoint: str, rules: BatchRules, limits: ScenarioLimits) -> Validation:
    """Check a whole input file, line by line."""
    result = Validation()
    seen = _Seen()
    with path.open("rb") as source:
        for number, raw in enumerate(source, 1):
            if number > limits.max_lines:
                message = f"The batch input file contains more than {limits.max_lines} requests."
                return Validation(problems=[problem("too_many_tasks", message)])
            found = _check_line(raw, endpoint, rules, seen)
            if found is None:
                result.total += 1
            else:
                result.bad_lines.append(number)
                if len(result.problems) < limits.errors_shown:
                    result.problems.append({**found, "line": number})
    if not result.total and not result.problems:
        result.problems.append(problem("empty_file", "The batch input file contains no requests."))
    return result


@dataclass(slots=True)
class _Seen:
    """The ids and models of the lines so far."""

    custom_ids: set[str] = field(default_factory=set)
    models: set[str] = field(default_factory=set)


def _check_line(raw: bytes, endpoint: str, rules: BatchRules, seen: _Seen) -> ValidationProblem | None:
    try:
        request = orjson.loads(raw)
    except orjson.JSONDecodeError:
        request = None
    if not isinstance(request, dict):
        return problem("invalid_json_line", "This line is not parseable as valid JSON.")
    return (
        _check_envelope(request, endpoint, rules)
        or _check_body(request["body"], request["url"], rules)
        or _check_uniqueness(request, rules, seen)
    )


def _check_envelope(request: dict[str, Any], endpoint: str, rules: BatchRules) -> ValidationProblem | None:
    for key in ("custom_id", "method", "url", "body"):
        if request.get(key) is None:
            return problem("missing_required_parameter", f"Missing required parameter: '{key}'.", param=key)
    if not isinstance(request["custom_id"], str) or not request["custom_id"]:
        return problem("invalid_type", "Invalid type for 'custom_id': expected a string.", param="custom_id")
    if request["method"] != "POST":
        message = f"Invalid value: '{request['method']}'. Supported values are: 'POST'"
        return problem("invalid_method", message, param="method")
    allowed = (endpoint,) if rules.single_url else ENDPOINTS
    if request["url"] not in allowed:
        choices = ", ".join(f"'{choice}'" for choice in allowed)
        message = f"Invalid value: '{request['url']}'. Supported values are: {choices}"
        return problem("invalid_url", message, param="url")
    if not isinstance(request["body"], dict):
        return problem("invalid_type", "Invalid type for 'body': expected an object.", param="body")
    return None


def _check_body(body: dict[str, Any], url: str, rules: BatchRules) -> ValidationProblem | None:
    required = ("model", "messages") if url == CHAT else ("model", "url")
    for key in required:
        if body.get(key) is None:
            param = f"body.{key}"
            return problem("invalid_request", f"Missing required parameter: '{param}'.", param=param)
    if str(body["model"]) in rules.refused_models:
        return problem("model_not_found", no_such_model(str(body["model"])), param="body.model")
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
    if rules.single_model:
        seen.models.add(model)
        if len(seen.models) > 1:
            message = f"All requests of a batch must use one model; '{model}' is a second one."
            return problem("model_mismatch", message, param="body.model")
    return None
