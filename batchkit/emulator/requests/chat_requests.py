"""The chat parameters that Groq refuses with 400 (console.groq.com/docs/openai, /docs/reasoning, /docs/vision, /docs/tool-use).

Names and types of the parameters are those of the official SDK's request type; a parameter beside them is answered with
"property ... is unsupported" (sourcegit-scm/sourcegit#2341).
"""

from __future__ import annotations

from typing import Any

from batchkit.emulator.contract.refusals import refused
from batchkit.emulator.requests.chat_messages import check_messages

_MAX_TOOLS = 128
_MAX_STOPS = 4
_EFFORTS = {
    "openai/gpt-oss-20b": ("low", "medium", "high"),
    "openai/gpt-oss-120b": ("low", "medium", "high"),
    "qwen/qwen3-32b": ("none", "default"),
}
_NUMBERS = {"temperature": (0, 2), "top_p": (0, 1), "frequency_penalty": (-2, 2), "presence_penalty": (-2, 2)}
_INTEGERS = ("max_completion_tokens", "max_tokens", "seed", "n")
_TYPES: tuple[tuple[type, str, tuple[str, ...]], ...] = (
    (
        bool,
        "a boolean",
        ("stream", "store", "parallel_tool_calls", "disable_tool_validation", "include_reasoning"),
    ),
    (str, "a string", ("user", "service_tier", "reasoning_effort", "reasoning_format", "citation_options")),
    (list, "an array", ("tools", "functions", "documents", "include_domains", "exclude_domains")),
    (dict, "an object", ("metadata", "stream_options", "search_settings", "compound_custom", "response_format")),
)
_KNOWN = frozenset(
    {"model", "messages", "stop", "tool_choice", "function_call", *_NUMBERS, *_INTEGERS}.union(
        *(names for _, _, names in _TYPES)
    )
)
_TOOL_CHOICES = ("none", "auto", "required")


def check_chat(body: dict[str, Any], *, known_only: bool = True) -> None:
    """Refuse what Groq refuses, with ``known_only`` also unknown parameters; null counts as left out. Raises ``RequestRefused``."""
    check_model_name(body)
    given = {name: value for name, value in body.items() if value is not None}
    for name in given if known_only else ():
        if name not in _KNOWN:
            raise refused(400, f"property '{name}' is unsupported", param=name)
    _check_types(given)
    check_messages(body.get("messages"))
    _check_stop(given.get("stop"))
    _check_tools(given)
    _check_response_format(given.get("response_format"))
    _check_reasoning(given)


def check_model_name(body: dict[str, Any]) -> None:
    """Refuse a body without a model. Raises ``RequestRefused``."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise refused(400, "'model' : property 'model' is missing", param="model")


def check_number(given: dict[str, Any], name: str, low: float, high: float) -> None:
    """Refuse a value that is not a number from ``low`` to ``high``. Raises ``RequestRefused``."""
    value = given.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise refused(400, f"'{name}' : value must be a number", param=name)
    if not low <= value <= high:
        bound = f"at least {low}" if value < low else f"at most {high}"
        raise refused(400, f"'{name}' : number must be {bound}", param=name)


def _check_types(given: dict[str, Any]) -> None:
    for name, (low, high) in _NUMBERS.items():
        check_number(given, name, low, high)
    for name in _INTEGERS:
        value = given.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int):
            raise refused(400, f"'{name}' : value must be an integer", param=name)
    for kind, expected, names in _TYPES:
        for name in names:
            if name in given and not isinstance(given[name], kind):
                raise refused(400, f"'{name}' : value must be {expected}", param=name)
    if given.get("n", 1) != 1:
        bound = "at most 1" if given["n"] > 1 else "at least 1"
        raise refused(400, f"'n' : number must be {bound}", param="n")


def _check_stop(stop: Any) -> None:
    if stop is None or isinstance(stop, str):
        return
    if not isinstance(stop, list) or not all(isinstance(sequence, str) for sequence in stop):
        raise refused(400, "'stop' : value must be a string or an array of strings", param="stop")
    if len(stop) > _MAX_STOPS:
        raise refused(400, f"'stop' : maximum number of items is {_MAX_STOPS}", param="stop")


def _check_tools(given: dict[str, Any]) -> None:
    tools = given.get("tools", [])
    if len(tools) > _MAX_TOOLS:
        raise refused(400, f"'tools' : maximum number of items is {_MAX_TOOLS}", param="tools")
    for index, tool in enumerate(tools):
        _check_tool(tool, f"tools.{index}")
    choice = given.get("tool_choice")
    if isinstance(choice, dict):
        function = choice.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if all(tool["type"] != "function" or tool["function"]["name"] != name for tool in tools):
            raise refused(400, "Tool choice names a function that is not in tools", param="tool_choice")
    elif choice is not None and choice not in _TOOL_CHOICES:
        raise refused(
            400, f"'tool_choice' : value must be one of {', '.join(_TOOL_CHOICES)}, or an object", param="tool_choice"
        )
    if choice == "required" and not tools:
        raise refused(400, "Tool choice is required, but no tools were given", param="tool_choice")


def _check_tool(tool: Any, where: str) -> None:
    if not isinstance(tool, dict):
        raise refused(400, f"'{where}' : value must be an object", param=where)
    if not isinstance(tool.get("type"), str):
        raise refused(400, f"'{where}.type' : property 'type' is missing", param=where)
    # The provider's own tools (browser_search, code_interpreter) have no function.
    if tool["type"] != "function":
        return
    function = tool.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise refused(400, f"'{where}.function.name' : property 'name' is missing", param=where)
    if not isinstance(function.get("parameters", {}), (dict, type(None))):
        raise refused(400, f"'{where}.function.parameters' : value must be an object", param=where)


def _check_response_format(wanted: Any) -> None:
    if wanted is None:
        return
    kind = wanted.get("type")
    if kind not in ("text", "json_object", "json_schema"):
        raise refused(
            400, "'response_format.type' : value must be one of text, json_object, json_schema", param="response_format"
        )
    if kind == "json_schema":
        described = wanted.get("json_schema")
        if not isinstance(described, dict) or not isinstance(described.get("name"), str):
            raise refused(
                400, "'response_format.json_schema.name' : property 'name' is missing", param="response_format"
            )
        if not isinstance(described.get("schema", {}), (dict, type(None))):
            raise refused(
                400, "'response_format.json_schema.schema' : value must be an object", param="response_format"
            )


def _check_reasoning(given: dict[str, Any]) -> None:
    effort, efforts = given.get("reasoning_effort"), _EFFORTS.get(given["model"])
    if effort is not None and efforts is not None and effort not in efforts:
        raise refused(
            400, f"reasoning_effort must be one of {', '.join(efforts[:-1])} or {efforts[-1]}", param="reasoning_effort"
        )
    shape = given.get("reasoning_format")
    if shape is None:
        return
    if "include_reasoning" in given:
        raise refused(400, "cannot specify both reasoning_format and include_reasoning", param="reasoning_format")
    if shape not in {"parsed", "raw", "hidden"}:
        raise refused(400, "'reasoning_format' : value must be one of parsed, raw, hidden", param="reasoning_format")
    structured = given.get("response_format", {}).get("type", "text") != "text"
    if shape == "raw" and (structured or given.get("tools")):
        raise refused(
            400, "reasoning_format must be parsed or hidden with JSON mode or tool use", param="reasoning_format"
        )
