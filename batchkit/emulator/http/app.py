"""The HTTP side: routes, the key, the count of calls, and the faults of calls.

Every call is counted, its key is checked, the scenario may refuse it, it is executed, and the scenario may change the answer.
"""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from batchkit.emulator.contract.ids import FileId, fresh_entropy, new_request_id
from batchkit.emulator.contract.replies import ApiError, Download, HangUp, json_reply
from batchkit.emulator.http import admin, synchronous
from batchkit.emulator.http.uploads import read_form
from batchkit.emulator.state import batch_store, file_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request

    from batchkit.emulator.contract.replies import Connections
    from batchkit.emulator.faults import Call, HttpFault
    from batchkit.emulator.state.world import World

    Handler = Callable[[World, Request, Call, Sequence[HttpFault]], Awaitable[Response]]

_PREFIX = "/openai/v1"
_JSON_OPERATIONS = frozenset({"batches.create", "chat.completions"})


def make_app(world: World, connections: Connections, api_key: str | None) -> Starlette:
    """Return the application. ``api_key`` None accepts any key that is not empty."""
    app = Starlette(
        routes=[
            *(
                Route(_PREFIX + path, _endpoint(world, operation, handler, api_key), methods=[method])
                for method, path, operation, handler in _ROUTES
            ),
            *admin.routes(world),
        ],
        exception_handlers={HTTPException: _unknown_url},
    )
    app.state.connections = connections
    return app


def _endpoint(
    world: World, operation: str, handler: Handler, api_key: str | None
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            response = await _answer(world, operation, handler, api_key, request)
        except ClientDisconnect:
            # A client that disconnects during its request reads no answer.
            return Response(status_code=400)
        now = world.clock.now()
        response.headers.setdefault("x-request-id", new_request_id(now))
        response.headers.setdefault("x-groq-region", "emulator")
        response.headers.setdefault("cache-control", "private, max-age=0, no-store, no-cache, must-revalidate")
        response.headers.setdefault("vary", "Origin")
        # The provider time: created_at and expires_at are on the same clock.
        response.headers.setdefault("date", formatdate(now, usegmt=True))
        return response

    return endpoint


async def _answer(world: World, operation: str, handler: Handler, api_key: str | None, request: Request) -> Response:
    body: dict[str, Any] = {}
    problem: ApiError | None = None
    if operation in _JSON_OPERATIONS:
        try:
            body = await _json_body(request)
        except ApiError as error:
            problem = error
    elif operation == "files.create":
        body = {"content_length": request.headers.get("content-length", 0)}
    object_id = request.path_params.get("id") or body.get("input_file_id") or ""
    call = world.arrive(operation, str(object_id), body)
    faults = world.script.call_faults(call)
    try:
        _check_key(request, api_key)
        for fault in faults:
            if delay := fault.delay_seconds():
                await asyncio.sleep(delay)
            refusal = fault.refuse(call)
            if refusal is not None:
                if not (isinstance(refusal, HangUp) and refusal.after_bytes is not None):
                    await _drain(request)
                return refusal
        if problem is not None:
            raise problem
        response = await handler(world, request, call, faults)
    except ApiError as error:
        await _drain(request)
        response = error.reply()
    for fault in faults:
        response = fault.alter(call, response)
    return response


async def _drain(request: Request) -> None:
    """Read the rest of the body: a client that is still sending would otherwise see a broken pipe instead of the refusal."""
    try:
        async for _ in request.stream():
            pass
    except RuntimeError:
        # The body was read already.
        return


async def _json_body(request: Request) -> dict[str, Any]:
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"could not parse the request body as JSON: {error}") from None
    if not isinstance(body, dict):
        raise ApiError(400, "the request body must be a JSON object")
    return body


def _check_key(request: Request, api_key: str | None) -> None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or (api_key is not None and token != api_key):
        raise ApiError(401, "Invalid API Key", code="invalid_api_key")


async def _unknown_url(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = (
        f"Unknown request URL: {request.method} {request.url.path}. Please check the URL for typos, "
        "or see the docs at https://console.groq.com/docs/"
    )
    return ApiError(status, message, code="unknown_url").reply()


async def _create_file(world: World, request: Request, _call: Call, _faults: Sequence[HttpFault]) -> Response:
    limit = world.script.limits.max_bytes
    target = world.directory / "parts" / f"upload-{fresh_entropy():032x}"
    try:
        form = await read_form(request, target, limit_bytes=limit)
        purpose = form.text("purpose")
        if purpose != "batch":
            message = f"Invalid value for 'purpose': {purpose!r}. Supported values are: 'batch'"
            raise ApiError(400, message, code="invalid_value", param="purpose")
        if form.filename is None:
            raise ApiError(400, "Missing required parameter: 'file'.", code="missing_required_parameter", param="file")
        if not form.filename.endswith(".jsonl"):
            raise ApiError(400, "Invalid file format for Batch API. Must be .jsonl", param="file")
        if form.file_bytes > limit:
            raise ApiError(400, f"File is too large. The limit is {limit} bytes.", param="file")
        if not form.file_bytes:
            raise ApiError(400, "File is empty.", param="file")
        _check_first_line(form.first_line)
        shown = await run_in_threadpool(file_store.adopt_upload, world, target, form.filename)
    finally:
        target.unlink(missing_ok=True)
    return json_reply(shown)


def _check_first_line(line: bytes) -> None:
    """Refuse a file that is plainly no JSONL; later lines are checked when a batch uses it, as by OpenAI."""
    try:
        valid = isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        valid = False
    if not valid:
        raise ApiError(
            400,
            "Invalid file format for Batch API: line 1 is not a JSON object.",
            code="invalid_json_line",
            param="file",
        )


async def _list_files(world: World, _request: Request, _call: Call, _faults: Sequence[HttpFault]) -> Response:
    return json_reply({"object": "list", "data": file_store.list_files(world)})


async def _get_file(world: World, _request: Request, call: Call, _faults: Sequence[HttpFault]) -> Response:
    return json_reply(file_store.file_object(file_store.find_file(world, call.object_id)))


async def _get_content(world: World, _request: Request, call: Call, _faults: Sequence[HttpFault]) -> Response:
    row = file_store.find_file(world, call.object_id)
    return Download(world.file_path(FileId(row["id"])), row["bytes"])


async def _delete_file(world: World, _request: Request, call: Call, _faults: Sequence[HttpFault]) -> Response:
    return json_reply(await run_in_threadpool(file_store.delete_file, world, call.object_id))


async def _create_batch(world: World, _request: Request, call: Call, faults: Sequence[HttpFault]) -> Response:
    return json_reply(await run_in_threadpool(batch_store.create_batch, world, call.body, faults))


async def _list_batches(world: World, request: Request, call: Call, faults: Sequence[HttpFault]) -> Response:
    ids = batch_store.filtered(request.query_params.getlist("id"), faults)
    if ids:
        return json_reply(batch_store.batches_by_id(world, ids, call))
    return json_reply(batch_store.list_batches(world, request.query_params.get("cursor"), faults))


async def _get_batch(world: World, _request: Request, call: Call, _faults: Sequence[HttpFault]) -> Response:
    return json_reply(batch_store.get_batch(world, call.object_id))


async def _cancel_batch(world: World, _request: Request, call: Call, _faults: Sequence[HttpFault]) -> Response:
    return json_reply(await run_in_threadpool(batch_store.cancel_batch, world, call.object_id))


_ROUTES: tuple[tuple[str, str, str, Handler], ...] = (
    ("POST", "/files", "files.create", _create_file),
    ("GET", "/files", "files.list", _list_files),
    ("GET", "/files/{id}", "files.retrieve", _get_file),
    ("GET", "/files/{id}/content", "files.content", _get_content),
    ("DELETE", "/files/{id}", "files.delete", _delete_file),
    ("POST", "/batches", "batches.create", _create_batch),
    ("GET", "/batches", "batches.list", _list_batches),
    ("GET", "/batches/{id}", "batches.retrieve", _get_batch),
    ("POST", "/batches/{id}/cancel", "batches.cancel", _cancel_batch),
    ("POST", "/chat/completions", "chat.completions", synchronous.chat),
    ("POST", "/audio/transcriptions", "audio.transcriptions", synchronous.audio),
    ("POST", "/audio/translations", "audio.translations", synchronous.audio),
    ("GET", "/models", "models.list", synchronous.list_models),
    ("GET", "/models/{id:path}", "models.retrieve", synchronous.get_model),
)
