"""The synchronous endpoints: chat, with or without streaming, audio, and models."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson
from starlette.responses import PlainTextResponse, StreamingResponse

from batchkit.emulator.answers.answers import answer
from batchkit.emulator.answers.model_request import ModelRequest
from batchkit.emulator.contract.endpoints import CHAT, TRANSCRIPTIONS, TRANSLATIONS
from batchkit.emulator.contract.ids import fresh_entropy, new_request_id
from batchkit.emulator.contract.models import no_such_model
from batchkit.emulator.contract.replies import ApiError, json_reply
from batchkit.emulator.dialects.objects import model_shown
from batchkit.emulator.http.uploads import read_form

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from batchkit.emulator.faults import Call, HttpFault
    from batchkit.emulator.state.world import World

_MAX_AUDIO_BYTES = 100_000_000
_PIECE_CHARACTERS = 16
_RATE_LIMITS = {
    "x-ratelimit-limit-requests": "14400",
    "x-ratelimit-remaining-requests": "14399",
    "x-ratelimit-reset-requests": "6s",
    "x-ratelimit-limit-tokens": "6000000",
    "x-ratelimit-remaining-tokens": "5999000",
    "x-ratelimit-reset-tokens": "7.66ms",
}


async def chat(world: World, _request: Request, call: Call, _faults: Sequence[HttpFault]) -> Response:
    """Answer a chat completion, as one object or as server-sent events."""
    tier = call.body.get("service_tier") or "on_demand"
    asked = _asked(world, CHAT, call.body, "on_demand" if tier == "auto" else str(tier))
    status, body = answer(asked)
    if status == 200 and call.body.get("stream"):  # noqa: PLR2004 - an HTTP status
        return StreamingResponse(_events(body, asked), media_type="text/event-stream", headers=_RATE_LIMITS)
    return json_reply(body, status=status, headers={**_RATE_LIMITS, "x-request-id": asked.request_id})


def _asked(world: World, url: str, body: dict[str, Any], tier: str) -> ModelRequest:
    now = world.clock.now()
    return ModelRequest(
        url,
        body,
        fresh_entropy(),
        new_request_id(now),
        int(now),
        tier,
        world.script.replies,
        world.served_models(now),
        world.dialect,
    )


def _events(body: dict[str, Any], asked: ModelRequest) -> Iterator[bytes]:
    """Yield the chunks of an answer: the role, the text, then the finish reason with the usage."""
    message = body["choices"][0]["message"]
    head = {key: body[key] for key in ("id", "created", "model", "system_fingerprint")} | {
        "object": "chat.completion.chunk"
    }

    def event(delta: dict[str, Any], finish_reason: str | None = None, **extra: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return b"data: " + orjson.dumps({**head, "choices": [choice], **extra}) + b"\n\n"

    is_groq = asked.dialect.shape == "groq"
    first: dict[str, Any] = {"x_groq": {"id": asked.request_id}} if is_groq else {}
    yield event({"role": "assistant", "content": ""}, **first)
    if message.get("reasoning"):
        yield event({"reasoning": message["reasoning"]})
    content = message.get("content") or ""
    for start in range(0, len(content), _PIECE_CHARACTERS):
        yield event({"content": content[start : start + _PIECE_CHARACTERS]})
    if message.get("tool_calls"):
        yield event({"tool_calls": [{"index": index, **made} for index, made in enumerate(message["tool_calls"])]})
    final: dict[str, Any] = {"x_groq": {"id": asked.request_id, "usage": body["usage"]}} if is_groq else {}
    yield event({}, body["choices"][0]["finish_reason"], **final)
    if (asked.body.get("stream_options") or {}).get("include_usage"):
        yield b"data: " + orjson.dumps({**head, "choices": [], "usage": body["usage"]}) + b"\n\n"
    yield b"data: [DONE]\n\n"


async def audio(world: World, request: Request, call: Call, _faults: Sequence[HttpFault]) -> Response:
    """Answer a transcription or translation; the audio is a multipart file or a ``url``, also in JSON."""
    url = TRANSCRIPTIONS if call.operation == "audio.transcriptions" else TRANSLATIONS
    body = await _audio_request(world, request)
    status, answered = answer(_asked(world, url, body, "on_demand"))
    return PlainTextResponse(answered) if isinstance(answered, str) else json_reply(answered, status=status)


async def _audio_request(world: World, request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").startswith("application/json"):
        try:
            body = orjson.loads(await request.body())
        except orjson.JSONDecodeError as error:
            raise ApiError(400, f"could not parse the request body as JSON: {error}") from None
        if not isinstance(body, dict):
            raise ApiError(400, "the request body must be a JSON object")
        return body
    target = world.directory / "parts" / f"audio-{fresh_entropy():032x}"
    try:
        form = await read_form(request, target, limit_bytes=0)
    finally:
        target.unlink(missing_ok=True)
    if form.file_bytes > _MAX_AUDIO_BYTES:
        raise ApiError(413, "Request Entity Too Large", code="request_too_large")
    fields: dict[str, Any] = {name: values[0] for name, values in form.fields.items() if not name.endswith("[]")}
    fields |= {name.removesuffix("[]"): values for name, values in form.fields.items() if name.endswith("[]")}
    # A form has texts only. What is not a number stays a text, for the check of the fields to refuse.
    with suppress(KeyError, ValueError):
        fields["temperature"] = float(fields["temperature"])
    return fields | ({"filename": form.filename} if form.filename is not None else {})


async def list_models(world: World, _request: Request, _call: Call, _faults: Sequence[HttpFault]) -> Response:
    """List the models that are served at the current provider time."""
    ids = sorted(world.listed_models(world.clock.now()))
    data = [model_shown(world.dialect, model_id) for model_id in ids]
    return json_reply(data if world.dialect.list_style == "bare" else {"object": "list", "data": data})


async def get_model(world: World, _request: Request, call: Call, _faults: Sequence[HttpFault]) -> Response:
    """Return one model. Raises ``ApiError`` 404 for an unknown or retired one."""
    served = world.served_models(world.clock.now())
    if served is not None and call.object_id not in served:
        raise ApiError(404, no_such_model(call.object_id), code="model_not_found")
    return json_reply(model_shown(world.dialect, call.object_id))
