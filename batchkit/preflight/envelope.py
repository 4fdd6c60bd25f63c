"""Inspects one line: ``custom_id``, ``method``, ``url``, ``body`` and ``model``, then the body by its endpoint."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from batchkit.preflight.findings import PreflightFindings, describe, one_of
from batchkit.preflight.inputs import check_file
from batchkit.preflight.rules import CHAT, CUSTOM_ID_PORTABLE, METHOD, TRANSCRIPTIONS, TRANSLATIONS

if TYPE_CHECKING:
    from batchkit.preflight.rules import LineRules


class Inspection(NamedTuple):
    """The identity of one line and its findings.

    ``custom_id``, ``endpoint`` (the line's ``url``) and ``model`` are as given, right or wrong, and None if they are not strings.
    ``reasons`` are sentences that say what is wrong and what to do; without reasons the line may be sent.
    ``warnings`` hold no value of the line, so that equal ones can be counted.
    """

    custom_id: str | None
    endpoint: str | None
    model: str | None
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


_portable_id: Final = re.compile(CUSTOM_ID_PORTABLE).fullmatch
# Control characters (Unicode category Cc) and halves of surrogate pairs, which cannot be written as UTF-8.
_forbidden_in_id: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]").search

#: What to do with a line that batches do not take.
_ONE_BY_ONE: Final = "send it one by one, with --lane sync"

_new: Final = tuple.__new__
_PLAIN_ROLES: Final = frozenset({"system", "user", "assistant"})


def inspect(record: Any, line_bytes: int, rules: LineRules) -> Inspection:
    """Check one parsed line; ``line_bytes`` is the length of the line as it will be sent, without its newline.

    All problems of the line are reported, in the order custom_id, method, url, body, model, parameters. Whether the
    custom_id is unique in its input is not checked here. Never raises for a value that a JSON parser returned.
    """
    # Most lines of most inputs are plain text chats: they are recognised without building anything but the result.
    # Any other line, also one that causes a type error, is inspected carefully; both paths return the same result.
    try:
        custom_id = record["custom_id"]
        body = record["body"]
        model = body["model"]
        messages = body["messages"]
        if (
            type(custom_id) is str
            and type(model) is str
            and type(messages) is list
            and record["method"] == METHOD
            and record["url"] == CHAT
            and messages
            and model
            and _portable_id(custom_id)
            and model.lower() not in rules.particular_models
            and rules.plain_parameters.issuperset(body)
            and CHAT in rules.endpoints
            and len(custom_id) <= rules.max_custom_id_chars
            and (rules.max_line_bytes is None or line_bytes <= rules.max_line_bytes)
        ):
            for message in messages:
                if (
                    len(message) != 2  # noqa: PLR2004 - role and content, nothing else
                    or message["role"] not in _PLAIN_ROLES
                    or type(message["content"]) is not str
                ):
                    break
            else:
                if len(body) == 2 or rules.are_plain(body):  # noqa: PLR2004 - model and messages, nothing else
                    # The constructor of a named tuple is a Python function; this call avoids it.
                    return _new(Inspection, (custom_id, CHAT, model, (), ()))
    except (KeyError, TypeError, AttributeError):
        pass
    return inspect_carefully(record, line_bytes, rules)


def inspect_carefully(record: Any, line_bytes: int, rules: LineRules) -> Inspection:
    """Check one parsed line rule by rule, with the same result as ``inspect``."""
    if not isinstance(record, dict):
        return Inspection(
            None,
            None,
            None,
            (
                f"the line is {describe(record)}; write one JSON object with custom_id, method, url and body ({rules.page})",
            ),
            (),
        )
    findings = PreflightFindings()
    if rules.max_line_bytes is not None and line_bytes > rules.max_line_bytes:
        findings.refuse(
            f"the line has {line_bytes:,} bytes; at most {rules.max_line_bytes:,} are accepted ({rules.page})"
        )
    custom_id = _check_custom_id(record, rules, findings)
    _check_method(record, rules, findings)
    url = record.get("url")
    endpoint = _check_url(record, rules, findings)
    model = _check_body(record, endpoint, line_bytes, rules, findings)
    return Inspection(
        custom_id,
        url if isinstance(url, str) else None,
        model,
        tuple(findings.reasons),
        tuple(findings.warnings),
    )


def _check_custom_id(record: dict[str, Any], rules: LineRules, findings: PreflightFindings) -> str | None:
    if "custom_id" not in record:
        findings.refuse(f"custom_id is missing; give every line one of its own ({rules.page})")
        return None
    custom_id = record["custom_id"]
    if not isinstance(custom_id, str):
        findings.refuse(f"custom_id is {describe(custom_id)}; write it as a string ({rules.page})")
        return None
    if not custom_id:
        findings.refuse(f"custom_id is an empty string; give every line one of its own ({rules.page})")
    elif _portable_id(custom_id) is None or len(custom_id) > rules.max_custom_id_chars:
        if len(custom_id) > rules.max_custom_id_chars:
            findings.refuse(
                f"custom_id has {len(custom_id):,} characters; shorten it to at most {rules.max_custom_id_chars}",
            )
        if _forbidden_in_id(custom_id):
            findings.refuse(
                f"custom_id {describe(custom_id)} holds a control character or half of a surrogate pair; take it out",
            )
        findings.warn(
            "custom_id is longer than 64 characters or not only A-Z a-z 0-9 _ . : - (some providers refuse it)"
        )
    return custom_id


def _check_method(record: dict[str, Any], rules: LineRules, findings: PreflightFindings) -> None:
    if "method" not in record:
        findings.refuse(f'method is missing; add "method": "{METHOD}" ({rules.page})')
    elif record["method"] != METHOD:
        findings.refuse(f'method is {describe(record["method"])}; only "{METHOD}" is supported ({rules.page})')


def _check_url(record: dict[str, Any], rules: LineRules, findings: PreflightFindings) -> str | None:
    """Return the intended endpoint, also if its url is written wrongly, so that the body is checked anyway."""
    choice = one_of(rules.endpoints)
    if "url" not in record:
        findings.refuse(f"url is missing; give {choice} ({rules.page})")
        return None
    url = record["url"]
    if not isinstance(url, str):
        findings.refuse(f"url is {describe(url)}; give {choice} ({rules.page})")
        return None
    if url in rules.endpoints:
        return url
    if url in rules.sync_endpoints:
        findings.refuse(f"url is {describe(url)}, which batches do not have; {_ONE_BY_ONE} ({rules.page})")
        return url
    # The limit is far longer than any url that could be recognised.
    path = url[:256].strip().partition("?")[0].rstrip("/").lower()
    for endpoint in rules.endpoints:
        if path and ("/" + path).endswith((endpoint, endpoint.removeprefix("/v1"))):
            findings.refuse(
                f"url is {describe(url)}; write it as {endpoint}, without a host or a path before it ({rules.page})"
            )
            return endpoint
    who = "the Batch API accepts" if rules.is_of_batches else "single calls go to"
    findings.refuse(f"url is {describe(url)}; {who} {choice} ({rules.page})")
    return None


def _check_body(
    record: dict[str, Any], endpoint: str | None, line_bytes: int, rules: LineRules, findings: PreflightFindings
) -> str | None:
    if "body" not in record:
        findings.refuse(f"body is missing; it holds the parameters of the request ({rules.page})")
        return None
    body = record["body"]
    if not isinstance(body, dict):
        findings.refuse(f"body is {describe(body)}; write the parameters of the request as an object ({rules.page})")
        return None
    model = _check_model(body, endpoint, rules, findings)
    if body.get("stream") not in (None, False):
        findings.refuse("body.stream asks for a stream, which a batch does not support; leave it out")
    if rules.is_of_batches and body.get("service_tier") is not None:
        findings.warn("body.service_tier chooses a synchronous tier; a batch ignores it")
    if endpoint in {TRANSCRIPTIONS, TRANSLATIONS} and body.get("file") is not None:
        if rules.is_of_batches:
            findings.refuse(f"body.file is a file of this machine, which a batch does not carry; {_ONE_BY_ONE}")
        else:
            check_file(body["file"], findings)
    if endpoint is not None:
        rules.check_body(body, endpoint, model, line_bytes, findings)
    return model


def _check_model(
    body: dict[str, Any], endpoint: str | None, rules: LineRules, findings: PreflightFindings
) -> str | None:
    if "model" not in body:
        findings.refuse(f"body.model is missing; name the model of this request ({rules.page})")
        return None
    model = body["model"]
    if not isinstance(model, str):
        findings.refuse(f"body.model is {describe(model)}; name the model as a string ({rules.page})")
        return None
    if not model:
        findings.refuse(f"body.model is an empty string; name the model of this request ({rules.page})")
        return model
    urls = rules.model_endpoints.get(model.lower())
    if urls is not None and not urls:
        way_out = f"; {_ONE_BY_ONE}" if model.lower() in rules.sync_models else ""
        findings.refuse(f"body.model {model} is not served by the Batch API{way_out} ({rules.page})")
    elif urls and endpoint in rules.endpoints and endpoint not in urls:
        findings.refuse(f"body.model {model} does not answer on {endpoint}; send it to {one_of(urls)}")
    return model
