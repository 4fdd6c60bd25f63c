"""The routes of files, batches and models: the key, the count of calls, and the faults of calls.

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

from batchkit.emulator.contract.ids import new_request_id
from batchkit.emulator.contract.replies import ApiError, HangUp, Refusal, json_reply
from batchkit.emulator.dialects.refusals import refusal_body
from batchkit.emulator.http import admin, files, model_list
from batchkit.emulator.http.keys import check_key
from batchkit.emulator.state import batch_lists, batch_store
from batchkit.emulator.state.query import Query

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request

    from batchkit.emulator.contract.replies import Connections
    from batchkit.emulator.faults import Call, HttpFault
    from batchkit.emulator.state.world import World

    Handler = Callable[[World, Request, Call, Sequence[HttpFault]], Awaitable[Response]]


def make_app(world: World, connections: Connections, api_key: str | None) -> Starlette:
    """Return the application. ``api_key`` None accepts any key that is not empty."""
    dialect = world.dialect
    routes = [*_ROUTES, *_batch_routes(dialect.batches_path), *files.upload_routes(dialect)]

    async def unknown_url(request: Request, error: Exception) -> Response:
        return _written(world, _unknown_url(world, request, error))

    app = Starlette(
        routes=[
            *(
                Route(dialect.base_path + path, _endpoint(world, operation, handler, api_key), methods=[method])
                for method, path, operation, handler in routes
            ),
            *files.storage_routes(world),
            *admin.routes(world),
        ],
        exception_handlers={HTTPException: unknown_url},
    )
    app.state.connections = connections
    return app


def _endpoint(
    world: World, operation: str, handler: Handler, api_key: str | None
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            response = _written(world, await _answer(world, operation, handler, api_key, request))
        except ClientDisconnect:
            # A client that disconnects during its request reads no answer.
            return Response(status_code=400)
        now = world.clock.now()
        response.headers.setdefault("x-request-id", new_request_id(now))
        if world.dialect.shape == "groq":
            response.headers.setdefault("x-groq-region", "emulator")
        response.headers.setdefault("cache-control", "private, max-age=0, no-store, no-cache, must-revalidate")
        response.headers.setdefault("vary", "Origin")
        # The provider time: created_at and expires_at are on the same clock.
        response.headers.setdefault("date", formatdate(now, usegmt=True))
        return response

    return endpoint


def _written(world: World, response: Response) -> Response:
    """Return an answer in which a refusal has the provider's form."""
    if not isinstance(response, Refusal):
        return response
    status, body = refusal_body(world.dialect, response.status_code, response.error)
    return json_reply(body, status=status, headers=response.given_headers)


async def _answer(world: World, operation: str, handler: Handler, api_key: str | None, request: Request) -> Response:
    body: dict[str, Any] = {}
    problem: ApiError | None = None
    if operation == "batches.create":
        try:
            body = await _json_body(request)
        except ApiError as error:
            problem = error
    elif operation == "files.create":
        body = {"content_length": request.headers.get("content-length", 0)}
    object_id = request.path_params.get("id") or _input_file(body)
    call = world.arrive(operation, str(object_id), body)
    faults = world.script.call_faults(call)
    try:
        check_key(request.headers, world.dialect.key_headers, api_key)
        for fault in faults:
            if delay := fault.delay_seconds(call):
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


def _input_file(body: dict[str, Any]) -> str:
    """Return the file that the body of a create names."""
    named = body.get("input_file_id") or body.get("input_files") or ""
    return str(named[0] if isinstance(named, list) and named else named)


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


def _unknown_url(world: World, request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = f"Unknown request URL: {request.method} {request.url.path}. Please check the URL for typos"
    if world.dialect.shape == "groq":
        message += ", or see the docs at https://console.groq.com/docs/"
    return ApiError(status, message, code="unknown_url").reply()


async def _create_batch(world: World, _request: Request, call: Call, faults: Sequence[HttpFault]) -> Response:
    return json_reply(await run_in_threadpool(batch_store.create_batch, world, call.body, faults))


async def _list_batches(world: World, request: Request, call: Call, faults: Sequence[HttpFault]) -> Response:
    query = Query(request.query_params.getlist("id"), request.query_params)
    return json_reply(batch_lists.list_batches(world, query, call, faults))


async def _get_batch(world: World, _request: Request, call: Call, _faults: Sequence[HttpFault]) -> Response:
    return json_reply(batch_store.get_batch(world, call.object_id))


async def _cancel_batch(world: World, _request: Request, call: Call, _faults: Sequence[HttpFault]) -> Response:
    return json_reply(await run_in_threadpool(batch_store.cancel_batch, world, call.object_id))


_ROUTES: tuple[tuple[str, str, str, Handler], ...] = (
    ("GET", "/files", "files.list", files.list_files),
    ("GET", "/files/{id}", "files.retrieve", files.get_file),
    ("GET", "/files/{id}/content", "files.content", files.get_content),
    ("DELETE", "/files/{id}", "files.delete", files.delete_file),
    ("GET", "/models", "models.list", model_list.list_models),
    ("GET", "/models/{id:path}", "models.retrieve", model_list.get_model),
)


def _batch_routes(path: str) -> tuple[tuple[str, str, str, Handler], ...]:
    return (
        ("POST", path, "batches.create", _create_batch),
        ("GET", path, "batches.list", _list_batches),
        ("GET", f"{path}/{{id}}", "batches.retrieve", _get_batch),
        ("POST", f"{path}/{{id}}/cancel", "batches.cancel", _cancel_batch),
    )
