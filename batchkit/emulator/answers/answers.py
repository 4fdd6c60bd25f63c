"""Deterministic answers to requests: the same body always gets the same text.

Plain chat echoes the last user message, so that a test can see which request an answer belongs to. Bodies follow
console.groq.com/docs/api-reference and, for ``usage``, ``x_groq`` and ``service_tier``, Groq's own recorded replies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from batchkit.emulator.answers.audio import audio_body
from batchkit.emulator.answers.compound import executed_tools, is_compound, usage_breakdown
from batchkit.emulator.answers.instructions import instructed
from batchkit.emulator.answers.model_request import ModelRequest, check_served, count_tokens
from batchkit.emulator.answers.other_endpoints import completion_body, embeddings_body, moderation_body, response_body
from batchkit.emulator.answers.schema_answers import SchemaUnsupported, conforming
from batchkit.emulator.answers.speech import speech_body
from batchkit.emulator.contract.endpoints import (
    CHAT,
    CHAT_DRY_RUN,
    COMPLETIONS,
    EMBEDDINGS,
    MODERATIONS,
    RESPONSES,
    SPEECH,
    TRANSCRIPTIONS,
    TRANSLATIONS,
)
from batchkit.emulator.contract.ids import completion_id, id_suffix, stable_hash
from batchkit.emulator.contract.refusals import RequestRefused, refused
from batchkit.emulator.requests.chat_requests import check_chat

if TYPE_CHECKING:
    from collections.abc import Callable

_ECHO_CHARACTERS = 4_000
_FLAGGED = (
    ("kill", "S1"), ("hack", "S2"), ("steal", "S2"), ("libel", "S5"), ("home address", "S7"), ("bomb", "S9"), ("nerve gas", "S9"),
    ("suicide", "S11"),
)  # fmt: skip
_REASONING_MODELS = ("openai/gpt-oss", "qwen/qwen3", "deepseek-r1")
WRONG_TYPES = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError, OverflowError)
"""What a body of the wrong shape raises when it is read."""


def answer(asked: ModelRequest) -> tuple[int, Any]:
    """Return the HTTP status and the response body of a request; refusals are 4xx bodies, not exceptions."""
    try:
        return 200, _ANSWERS[asked.url](asked)
    except RequestRefused as refusal:
        return refusal.status, {"error": refusal.error}
    except WRONG_TYPES:
        # Fields are read by name, so a value of the wrong type causes an error only when it is used.
        return 400, {"error": refused(400, "the request body has a value of the wrong type").error}


@dataclass(slots=True)
class _Draft:
    """The model's output: content or tool calls, its reasoning, and its finish reason."""

    content: str | None
    reasoning: str = ""
    tool_calls: list[dict[str, Any]] | None = None
    finish_reason: str = "stop"


def chat_body(asked: ModelRequest) -> dict[str, Any]:
    """Answer a chat completion. Raises ``RequestRefused`` where the provider answers 4xx."""
    body = asked.body
    check_chat(body, known_only=asked.dialect.unknown_parameters == "refused")
    check_served(asked)
    compound = is_compound(body["model"])
    if compound and asked.service_tier == "batch":
        raise refused(400, f"The model `{body['model']}` is not supported by the Batch API.", param="model")
    prompt = _last_user_text(body["messages"])
    draft = _draft(body, prompt, asked)
    _cut_to_limits(draft, body)
    message: dict[str, Any] = {"role": "assistant"}
    if draft.content is not None:
        message["content"] = _with_thoughts(draft, body)
    if draft.reasoning and _reasoning_format(body) == "parsed":
        message["reasoning"] = draft.reasoning
    if draft.tool_calls:
        message["tool_calls"] = draft.tool_calls
    if compound:
        message["executed_tools"] = executed_tools(body["model"], prompt)
    usage = _usage(body, draft)
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": draft.finish_reason}
    answered = {
        "id": completion_id(asked.entropy * 3),
        "object": "chat.completion",
        "created": asked.created,
        "model": body["model"],
        "choices": [choice],
        "usage": usage,
        "usage_breakdown": usage_breakdown(usage) if compound else None,
        "system_fingerprint": f"fp_{stable_hash(body['model']) & 0xFFFFFFFFFF:010x}",
        "x_groq": {"id": asked.request_id, "seed": body.get("seed") or asked.entropy & 0x7FFFFFFF},
        "service_tier": asked.service_tier,
    }
    return answered if asked.dialect.shape == "groq" else _without_extras(answered)


def _without_extras(answered: dict[str, Any]) -> dict[str, Any]:
    """Return a completion without the members that Groq alone adds."""
    usage = {
        key: value for key, value in answered["usage"].items() if key.startswith(("prompt_tok", "compl", "total_tok"))
    }
    usage.pop("completion_time", None)
    left = {key: value for key, value in answered.items() if key not in {"usage_breakdown", "x_groq", "service_tier"}}
    return left | {"usage": usage}


def _draft(body: dict[str, Any], prompt: str, asked: ModelRequest) -> _Draft:
    model = body["model"].lower()
    if "llama-guard" in model:
        return _Draft(_safety(prompt))
    reasoning = ""
    if model.startswith(_REASONING_MODELS) and body.get("reasoning_effort") != "none":
        reasoning = f"The user wants an answer to: {prompt[:200]}"
    scripted = next((reply.content for reply in asked.replies if reply.says(body["model"], prompt)), None)
    if scripted is not None:
        return _Draft(scripted, reasoning)
    tool = _tool_to_call(body)
    if tool is not None:
        arguments = conforming_or_refused(tool.get("parameters") or {"type": "object"}, prompt, "tool_use_failed")
        function = {"name": tool["name"], "arguments": orjson.dumps(arguments).decode()}
        call = {"id": f"call_{id_suffix(asked.entropy)[:10]}", "type": "function", "function": function}
        return _Draft(None, reasoning, [call], "tool_calls")
    return _Draft(_written(body, prompt), reasoning)


def _written(body: dict[str, Any], prompt: str) -> str:
    """Return the model's output: the answer that the response format or an instruction requests, else an echo of the prompt."""
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        value = conforming_or_refused(wanted["json_schema"].get("schema") or {}, prompt, "json_validate_failed")
        return orjson.dumps(value).decode()
    text = instructed(body["messages"], prompt)
    if text is not None:
        return text
    if wanted.get("type") == "json_object":
        return orjson.dumps({"echo": prompt[:_ECHO_CHARACTERS]}).decode()
    return f"Echo: {prompt[:_ECHO_CHARACTERS]}"


def conforming_or_refused(schema: Any, prompt: str, code: str) -> Any:
    """Return a value for a schema, or refuse like a model that cannot produce one. Raises ``RequestRefused``."""
    try:
        return conforming(schema, prompt)
    except SchemaUnsupported as error:
        message = f"Failed to generate a value for the schema ({error}). See 'failed_generation' for more details."
        raise refused(400, message, code=code, failed_generation="") from None


def _safety(prompt: str) -> str:
    lowered = prompt.lower()
    category = next((category for word, category in _FLAGGED if word in lowered), None)
    return "safe" if category is None else f"unsafe\n{category}"


def _tool_to_call(body: dict[str, Any]) -> dict[str, Any] | None:
    """Return the tool to call: the required one, or the first one unless a tool's result is already there."""
    tools, choice = body.get("tools"), body.get("tool_choice", "auto")
    if not tools or choice == "none":
        return None
    functions: list[dict[str, Any]] = [tool["function"] for tool in tools if tool["type"] == "function"]
    if not functions:
        return None
    if isinstance(choice, dict):
        name = choice["function"]["name"]
        return next(function for function in functions if function["name"] == name)
    if choice != "required" and body["messages"][-1].get("role") == "tool":
        return None
    return functions[0]


def _reasoning_format(body: dict[str, Any]) -> str:
    included = body.get("include_reasoning")
    if included is not None:
        return "parsed" if included else "hidden"
    given = body.get("reasoning_format")
    if given is not None:
        return str(given)
    structured = body.get("tools") or (body.get("response_format") or {}).get("type", "text") != "text"
    # gpt-oss models always have a separate reasoning field; the others put it into the content unless that must be JSON.
    return "parsed" if structured or body["model"].startswith("openai/gpt-oss") else "raw"


def _with_thoughts(draft: _Draft, body: dict[str, Any]) -> str | None:
    if draft.reasoning and _reasoning_format(body) == "raw":
        return f"<think>\n{draft.reasoning}\n</think>\n{draft.content}"
    return draft.content


def _cut_to_limits(draft: _Draft, body: dict[str, Any]) -> None:
    """Apply ``stop`` and the token limit; JSON that the limit cuts is a failure, as in Groq's JSON mode."""
    if draft.content is None:
        return
    stops = body.get("stop") or []
    for stop in filter(None, [stops] if isinstance(stops, str) else stops):
        draft.content = draft.content.partition(stop)[0]
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if limit is None or count_tokens(draft.content) <= limit:
        return
    kept = draft.content.encode()[: limit * 4].decode(errors="ignore")
    if (body.get("response_format") or {}).get("type", "text") != "text":
        message = "Failed to generate JSON: max completion tokens reached before generating a valid document."
        raise refused(400, message, code="json_validate_failed", failed_generation=kept)
    draft.content, draft.finish_reason = kept, "length"


def prompt_tokens(messages: list[dict[str, Any]]) -> int:
    """Return the tokens of a conversation: those of its texts, and four for each message."""
    return sum(4 + count_tokens(_text(message.get("content"))) for message in messages)


def _usage(body: dict[str, Any], draft: _Draft) -> dict[str, Any]:
    read_tokens = prompt_tokens(body["messages"])
    reasoning_tokens = count_tokens(draft.reasoning)
    written = (
        draft.content
        if draft.content is not None
        else draft.tool_calls[0]["function"]["arguments"]
        if draft.tool_calls
        else ""
    )
    completion_tokens = max(1, count_tokens(written)) + reasoning_tokens
    prompt_seconds, completion_seconds = read_tokens / 10_000, completion_tokens / 500
    usage: dict[str, Any] = {
        "queue_time": 0.01,
        "prompt_tokens": read_tokens,
        "prompt_time": prompt_seconds,
        "completion_tokens": completion_tokens,
        "completion_time": completion_seconds,
        "total_tokens": read_tokens + completion_tokens,
        "total_time": prompt_seconds + completion_seconds,
    }
    if reasoning_tokens:
        usage["completion_tokens_details"] = {"reasoning_tokens": reasoning_tokens}
    return usage


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return ""


def _last_user_text(messages: list[dict[str, Any]]) -> str:
    for message in reversed(messages):
        if message.get("role") in {"user", "tool"}:
            return _text(message.get("content"))
    return _text(messages[-1].get("content"))


_ANSWERS: dict[str, Callable[[ModelRequest], Any]] = {
    CHAT: chat_body,
    CHAT_DRY_RUN: chat_body,
    COMPLETIONS: completion_body,
    EMBEDDINGS: embeddings_body,
    MODERATIONS: moderation_body,
    RESPONSES: response_body,
    SPEECH: speech_body,
    TRANSCRIPTIONS: audio_body,
    TRANSLATIONS: audio_body,
}
