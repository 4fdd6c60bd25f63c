"""The body of ``/v1/chat/completions``."""

from __future__ import annotations

import re
from typing import Any, Final

from batchkit.preflight.findings import (
    PreflightFindings,
    Repeated,
    check_range,
    describe,
    is_integer,
    is_number,
    one_of,
)
from batchkit.preflight.messages import texts
from batchkit.provider.groq.models import (
    API,
    GUARD_MODELS,
    INTEGERS,
    MAX_BASE64_REQUEST_BYTES,
    MAX_IMAGES,
    MAX_STOP,
    MAX_TOOLS,
    MESSAGE_FIELDS,
    NAME,
    ONLY_N,
    OPENAI,
    PART_TYPES,
    RANGES,
    REASONING,
    REASONING_EFFORTS,
    REASONING_EFFORTS_OF_MODELS,
    REASONING_FORMATS,
    RESPONSE_FORMATS,
    ROLES,
    TOOL_CHOICES,
    UNSUPPORTED,
    VISION,
)

_is_name: Final = re.compile(NAME).fullmatch
_CONTENT: Final = "give a string or a list of content parts"


PLAIN_PARAMETERS: Final = frozenset(
    {
        "model",
        "messages",
        "max_completion_tokens",
        "max_tokens",
        "seed",
        "response_format",
        "reasoning_effort",
        *RANGES,
    },
)


def are_plain(body: dict[str, Any]) -> bool:
    """Whether the parameters, all of them in ``PLAIN_PARAMETERS``, are valid by the quick rules; ``model`` and ``messages`` are checked already.

    False only means that ``check`` must examine them.
    """
    for name, value in body.items():
        if name in RANGES:
            low, high = RANGES[name]
            if type(value) not in (int, float) or not low <= value <= high:
                return False
        elif name in INTEGERS:
            if type(value) is not int or value < 1:
                return False
        elif name == "reasoning_effort":
            if value not in REASONING_EFFORTS_OF_MODELS.get(body["model"].lower(), REASONING_EFFORTS):
                return False
        elif name == "response_format" and not _is_plain_format(value, body):
            return False
    return True


def _is_plain_format(wanted: Any, body: dict[str, Any]) -> bool:
    if type(wanted) is not dict:
        return False
    kind = wanted.get("type")
    if kind == "json_schema":
        schema = wanted.get("json_schema")
        return type(schema) is dict and type(name := schema.get("name")) is str and _is_name(name) is not None
    return kind == "json_object" and _ask_for_json(body)


def check(body: dict[str, Any], model: str | None, line_bytes: int, findings: PreflightFindings) -> None:
    """Check the parameters of a chat request; each refusal names the page that states it."""
    _check_messages(body, model, line_bytes, findings)
    for name in UNSUPPORTED:
        if body.get(name) is not None:
            findings.refuse(f"body.{name} is not supported and answered with 400; leave it out ({OPENAI})")
    n = body.get("n")
    if n is not None and not (is_number(n) and n == ONLY_N):
        findings.refuse(
            f"body.n is {describe(n)}; only {ONLY_N} is supported, use another line for another answer ({OPENAI})"
        )
    for name, bounds in RANGES.items():
        check_range(body, name, bounds, API, findings)
    for name in INTEGERS:
        value = body.get(name)
        if value is not None and not is_integer(value):
            findings.refuse(f"body.{name} is {describe(value)}; give an integer or leave it out ({API})")
        elif value is not None and value < 1 and name != "seed":
            findings.warn(f"body.{name} is below 1, which allows no answer")
    _check_stop(body, findings)
    has_tools = _check_tools(body, findings)
    is_json = _check_response_format(body, findings)
    _check_effort(body.get("reasoning_effort"), model, findings)
    _check_reasoning(body, has_tools=has_tools, is_json=is_json, findings=findings)


# Messages


def _check_messages(body: dict[str, Any], model: str | None, line_bytes: int, findings: PreflightFindings) -> None:
    if "messages" not in body:
        findings.refuse(f"body.messages is missing; give the conversation as a list of messages ({API})")
        return
    messages = body["messages"]
    if not isinstance(messages, list) or not messages:
        findings.refuse(f"body.messages is {describe(messages)}; give at least one message in a list ({API})")
        return
    problems = Repeated()
    image_urls: list[str] = []
    for index, message in enumerate(messages):
        _check_message(message, f"body.messages[{index}]", problems, image_urls, findings)
    problems.report(findings)
    if len(image_urls) > MAX_IMAGES:
        findings.refuse(
            f"body.messages hold {len(image_urls):,} images; at most {MAX_IMAGES} go in one request, "
            f"spread them over several lines ({VISION})",
        )
    if line_bytes > MAX_BASE64_REQUEST_BYTES and any(url[:5].lower() == "data:" for url in image_urls):
        findings.refuse(
            f"the line has {line_bytes:,} bytes with images as base64; at most {MAX_BASE64_REQUEST_BYTES:,} are accepted, "
            f"scale the images down or give their addresses ({VISION})",
        )
    if (
        model is not None
        and model.lower() in GUARD_MODELS
        and any(isinstance(message, dict) and message.get("role") == "system" for message in messages)
    ):
        findings.warn("body.messages has a system message, which the guard model does not need")


def _check_message(
    message: Any, where: str, problems: Repeated, image_urls: list[str], findings: PreflightFindings
) -> None:
    if not isinstance(message, dict):
        problems.add(where, f"is {describe(message)}; write an object with role and content ({API})")
        return
    role = message.get("role")
    if "role" not in message:
        problems.add(where, f"has no role; give {one_of(sorted(ROLES))} ({API})")
    elif not isinstance(role, str) or role not in ROLES:
        problems.add(where, f"has the role {describe(role)}; give {one_of(sorted(ROLES))} ({API})")
    # The tool-use page has a name in its tool message, and a function message needs one.
    if message.get("name") is not None and role not in ("tool", "function"):
        problems.add(where, f"has a name, which is not supported and answered with 400; leave it out ({OPENAI})")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        problems.add(where, f"has no tool_call_id; name the tool call that it answers ({API})")
    if not MESSAGE_FIELDS.issuperset(message):
        findings.warn(
            "body.messages have fields besides role, content, name, tool_calls, tool_call_id, function_call and "
            "reasoning (Groq has refused such messages with 400)",
        )
    content = message.get("content")
    if isinstance(content, list) and content:
        for index, part in enumerate(content):
            _check_part(part, f"{where}.content[{index}]", problems, image_urls, findings)
    elif not isinstance(content, str):
        _explain_content(message, where, problems)


def _explain_content(message: dict[str, Any], where: str, problems: Repeated) -> None:
    """Add the problem of content that is neither text nor a list of parts; an assistant's tool calls need no content."""
    content = message.get("content")
    if content is not None:
        problems.add(where, f"has content that is {describe(content)}; {_CONTENT} ({API})")
    elif message.get("role") != "assistant":
        problems.add(where, f"has no content; {_CONTENT} ({API})")
    elif not message.get("tool_calls") and not message.get("function_call"):
        problems.add(where, f"has neither content nor tool_calls; an assistant's message needs one of them ({API})")


def _check_part(part: Any, where: str, problems: Repeated, image_urls: list[str], findings: PreflightFindings) -> None:
    if not isinstance(part, dict):
        problems.add(where, f"is {describe(part)}; write an object with a type ({API})")
        return
    kind = part.get("type")
    if not isinstance(kind, str):
        problems.add(where, f"has no type; give {one_of(sorted(PART_TYPES))} ({API})")
    elif kind == "text":
        if not isinstance(part.get("text"), str):
            problems.add(where, f"has no text; give it as a string ({API})")
    elif kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else None
        if isinstance(url, str) and url:
            image_urls.append(url)
        else:
            image_urls.append("")
            problems.add(where, f'has no image; write "image_url": {{"url": "https://... or data:..."}} ({VISION})')
    elif kind not in PART_TYPES:
        findings.warn(f"body.messages have content parts of a type other than {one_of(sorted(PART_TYPES))}")


# Parameters


def _check_stop(body: dict[str, Any], findings: PreflightFindings) -> None:
    stop = body.get("stop")
    if stop is None or isinstance(stop, str):
        return
    if not isinstance(stop, list) or not all(isinstance(sequence, str) for sequence in stop):
        shown = "a list with values other than strings" if isinstance(stop, list) else describe(stop)
        findings.refuse(f"body.stop is {shown}; give a string or a list of up to {MAX_STOP} strings ({API})")
    elif len(stop) > MAX_STOP:
        findings.refuse(f"body.stop has {len(stop):,} sequences; keep at most {MAX_STOP} ({API})")


def _check_tools(body: dict[str, Any], findings: PreflightFindings) -> bool:
    """Check the tools; returns whether there are any."""
    choice = body.get("tool_choice")
    if choice is not None and not isinstance(choice, dict) and choice not in TOOL_CHOICES:
        findings.refuse(
            f"body.tool_choice is {describe(choice)}; give {one_of(TOOL_CHOICES)}, or an object that names a function ({API})",
        )
    tools = body.get("tools")
    if tools is None:
        return False
    if not isinstance(tools, list):
        findings.refuse(f"body.tools is {describe(tools)}; give a list of tools ({API})")
        return False
    if len(tools) > MAX_TOOLS:
        findings.refuse(f"body.tools has {len(tools):,} tools; keep at most {MAX_TOOLS} ({API})")
    problems = Repeated()
    for index, tool in enumerate(tools):
        _check_tool(tool, f"body.tools[{index}]", problems)
    problems.report(findings)
    return bool(tools)


def _check_tool(tool: Any, where: str, problems: Repeated) -> None:
    if not isinstance(tool, dict):
        problems.add(where, f"is {describe(tool)}; write an object with type and function ({API})")
        return
    kind = tool.get("type")
    if not isinstance(kind, str):
        problems.add(where, f'has no type; write "type": "function" ({API})')
    elif kind == "function":
        function = tool.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or _is_name(name) is None:
            problems.add(where, f"has no function name of 1-64 letters, digits, _ and -; give it one ({API})")


def _check_response_format(body: dict[str, Any], findings: PreflightFindings) -> bool:
    """Check the format; returns whether the answer must be JSON."""
    wanted = body.get("response_format")
    if wanted is None:
        return False
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if not isinstance(kind, str) or kind not in RESPONSE_FORMATS:
        shown = f"has the type {describe(kind)}" if isinstance(wanted, dict) else f"is {describe(wanted)}"
        findings.refuse(f'body.response_format {shown}; write {{"type": ...}} with {one_of(RESPONSE_FORMATS)} ({API})')
        return False
    if kind == "json_schema":
        schema = wanted.get("json_schema")
        name = schema.get("name") if isinstance(schema, dict) else None
        if not isinstance(name, str) or _is_name(name) is None:
            findings.refuse(
                "body.response_format.json_schema has no name of 1-64 letters, digits, _ and -; "
                f'write {{"name": ..., "schema": ...}} ({API})',
            )
    elif kind == "json_object" and not _ask_for_json(body):
        findings.warn("body.response_format is json_object, but no message asks for JSON")
    return kind != "text"


def _ask_for_json(body: dict[str, Any]) -> bool:
    return any("JSON" in text or "json" in text or "json" in text.lower() for text in texts(body.get("messages")))


def _check_effort(effort: Any, model: str | None, findings: PreflightFindings) -> None:
    if effort is None:
        return
    known = REASONING_EFFORTS_OF_MODELS.get((model or "").lower())
    if not isinstance(effort, str) or (known is not None and effort in REASONING_EFFORTS and effort not in known):
        whose = f" for {model}" if known is not None else ""
        findings.refuse(
            f"body.reasoning_effort is {describe(effort)}; give {one_of(known or REASONING_EFFORTS)}{whose} ({REASONING})"
        )
    elif effort not in REASONING_EFFORTS:
        findings.warn(f"body.reasoning_effort is none of {', '.join(REASONING_EFFORTS)}")


def _check_reasoning(body: dict[str, Any], *, has_tools: bool, is_json: bool, findings: PreflightFindings) -> None:
    wanted = body.get("reasoning_format")
    if wanted is None:
        return
    if wanted not in REASONING_FORMATS:
        findings.refuse(f"body.reasoning_format is {describe(wanted)}; give {one_of(REASONING_FORMATS)} ({REASONING})")
    if body.get("include_reasoning") is not None:
        findings.refuse(f"body.reasoning_format and body.include_reasoning exclude each other; keep one ({API})")
    if wanted == "raw" and (has_tools or is_json):
        with_what = one_of([word for word, there in (("JSON mode", is_json), ("tools", has_tools)) if there])
        findings.refuse(
            f"body.reasoning_format is 'raw' together with {with_what}, which is answered with 400; "
            f"give 'parsed' or 'hidden' ({REASONING})",
        )
