"""The chat parameters that Groq refuses with 400 (console.groq.com/docs/openai, /docs/reasoning, /docs/vision, /docs/tool-use)."""

from __future__ import annotations

from typing import Any

from batchkit.emulator.refusals import refused

_UNSUPPORTED = ("logprobs", "logit_bias", "top_logprobs")
_MAX_TOOLS = 128
_MAX_IMAGES = 5
_MAX_STOPS = 4
_EFFORTS = {
    "openai/gpt-oss-20b": ("low", "medium", "high"),
    "openai/gpt-oss-120b": ("low", "medium", "high"),
    "qwen/qwen3-32b": ("none", "default"),
}
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


def check_chat(body: dict[str, Any]) -> None:
    """Refuse what Groq refuses. Raises ``RequestRefused``."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise refused(400, "'model' : property 'model' is missing")
    for key in _UNSUPPORTED:
        if body.get(key):
            raise refused(400, f"'{key}' : property '{key}' is unsupported", param=key)
    if body.get("n") not in {None, 1}:
        raise refused(400, "'n' : number must be at most 1", param="n")
    _check_messages(body.get("messages"))
    _check_tools(body)
    _check_response_format(body.get("response_format"))
    _check_reasoning(body)
    stops = body.get("stop")
    if isinstance(stops, list) and len(stops) > _MAX_STOPS:
        raise refused(400, f"'stop' : maximum number of items is {_MAX_STOPS}", param="stop")


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise refused(400, "'messages' : minimum number of items is 1", param="messages")
    for index, message in enumerate(messages):
        where = f"messages.{index}"
        if not isinstance(message, dict):
            raise refused(400, f"'{where}' : value must be an object", param=where)
        if message.get("role") not in _ROLES:
            raise refused(400, f"'{where}.role' : unknown role", param=f"{where}.role")
        if "name" in message and message["role"] != "tool":
            raise refused(400, f"'{where}.name' : property 'name' is unsupported", param=f"{where}.name")
        content = message.get("content")
        if isinstance(content, list):
            images = sum(isinstance(part, dict) and part.get("type") == "image_url" for part in content)
            if images > _MAX_IMAGES:
                raise refused(
                    400, f"Too many images provided. This model supports up to {_MAX_IMAGES} images", param=where
                )


def _check_tools(body: dict[str, Any]) -> None:
    tools = body.get("tools") or []
    if len(tools) > _MAX_TOOLS:
        raise refused(400, f"'tools' : maximum number of items is {_MAX_TOOLS}", param="tools")
    names = set()
    for index, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise refused(400, f"'tools.{index}.function.name' : property is missing", param="tools")
        names.add(function["name"])
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and (choice.get("function") or {}).get("name") not in names:
        raise refused(400, "Tool choice names a function that is not in tools", param="tool_choice")
    if choice == "required" and not tools:
        raise refused(400, "Tool choice is required, but no tools were given", param="tool_choice")


def _check_response_format(wanted: Any) -> None:
    if wanted is None:
        return
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind not in {"text", "json_object", "json_schema"}:
        raise refused(
            400, "'response_format.type' : value must be one of text, json_object, json_schema", param="response_format"
        )
    if kind == "json_schema":
        described = wanted.get("json_schema")
        if not isinstance(described, dict) or not isinstance(described.get("name"), str):
            raise refused(400, "'response_format.json_schema.name' : property is missing", param="response_format")


def _check_reasoning(body: dict[str, Any]) -> None:
    effort, words = body.get("reasoning_effort"), _EFFORTS.get(body["model"])
    if effort is not None and words is not None and effort not in words:
        raise refused(
            400, f"reasoning_effort must be one of {', '.join(words[:-1])} or {words[-1]}", param="reasoning_effort"
        )
    shape = body.get("reasoning_format")
    if shape is None:
        return
    if "include_reasoning" in body:
        raise refused(400, "cannot specify both reasoning_format and include_reasoning", param="reasoning_format")
    if shape not in {"parsed", "raw", "hidden"}:
        raise refused(400, "'reasoning_format' : value must be one of parsed, raw, hidden", param="reasoning_format")
    structured = (body.get("response_format") or {}).get("type", "text") != "text"
    if shape == "raw" and (structured or body.get("tools")):
        raise refused(
            400, "reasoning_format must be parsed or hidden with JSON mode or tool use", param="reasoning_format"
        )
