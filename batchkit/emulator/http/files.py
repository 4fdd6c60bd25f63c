"""Files over HTTP: uploads in a form, or as Together's SDK makes them, reads, downloads and deletions.

Together's SDK asks for an address with a form that has no file, sends the bytes there without its key, and then asks for them to
be checked. Its API also takes a form with the file at ``/files/upload``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from batchkit.emulator.contract.ids import FileId, fresh_entropy, new_file_id
from batchkit.emulator.contract.replies import ApiError, Download, json_reply
from batchkit.emulator.http.uploads import Form, read_form
from batchkit.emulator.state import file_store
from batchkit.emulator.state.query import Query

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from starlette.requests import Request

    from batchkit.emulator.dialects.dialect import Dialect
    from batchkit.emulator.faults import Call, HttpFault
    from batchkit.emulator.http.app import Handler
    from batchkit.emulator.state.world import World

_STORAGE = "/_storage/"
_NO_LIMIT = 1 << 62


def upload_routes(dialect: Dialect) -> tuple[tuple[str, str, str, Handler], ...]:
    """Return the routes by which files come in, below the base path."""
    if not dialect.upload_by_redirect:
        return (("POST", "/files", "files.create", _create_file),)
    return (
        ("POST", "/files/upload", "files.create", _create_file),
        ("POST", "/files", "files.create", _promise_file),
        ("POST", "/files/{id}/preprocess", "files.retrieve", _accept_promised),
    )


async def _create_file(world: World, request: Request, _call: Call, _faults: Sequence[HttpFault]) -> Response:
    limit = world.script.limits.max_bytes or _NO_LIMIT
    target = _part(world, f"upload-{fresh_entropy():032x}")
    try:
        form = await read_form(request, target, limit_bytes=limit)
        _check_purpose(world.dialect, form)
        name = _given_name(world.dialect, form)
        if form.file_bytes > limit:
            raise ApiError(400, f"File is too large. The limit is {limit} bytes.", param="file")
        if not form.file_bytes:
            raise ApiError(400, "File is empty.", param="file")
        _check_first_line(form.first_line)
        shown = await run_in_threadpool(file_store.adopt_upload, world, target, name)
    finally:
        target.unlink(missing_ok=True)
    return json_reply(shown)


def _part(world: World, name: str) -> Path:
    return world.directory / "parts" / name


def _check_purpose(dialect: Dialect, form: Form) -> None:
    purpose = form.text("purpose")
    if purpose != dialect.upload_purpose:
        message = f"Invalid value for 'purpose': {purpose!r}. Supported values are: '{dialect.upload_purpose}'"
        raise ApiError(400, message, code="invalid_value", param="purpose")


def _given_name(dialect: Dialect, form: Form) -> str:
    """Return the name of an uploaded file, which Together wants in a field of its own. Raises ``ApiError`` 400 without one."""
    if form.filename is None:
        raise ApiError(400, "Missing required parameter: 'file'.", code="missing_required_parameter", param="file")
    return _checked_name(form.text("file_name") if dialect.upload_by_redirect else form.filename)


def _checked_name(name: str | None) -> str:
    if name is None:
        message = "Missing required parameter: 'file_name'."
        raise ApiError(400, message, code="missing_required_parameter", param="file_name")
    if not name.endswith(".jsonl"):
        raise ApiError(400, "Invalid file format for Batch API. Must be .jsonl", param="file")
    return name


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


async def _promise_file(world: World, request: Request, _call: Call, _faults: Sequence[HttpFault]) -> Response:
    """Answer with the address that takes the bytes, and the id that the file will have."""
    target = _part(world, f"form-{fresh_entropy():032x}")
    try:
        form = await read_form(request, target, limit_bytes=0)
    finally:
        target.unlink(missing_ok=True)
    _check_purpose(world.dialect, form)
    if form.filename is not None:
        raise ApiError(400, "A form with the file goes to /files/upload.", param="file")
    name = _checked_name(form.text("file_name"))
    file_id = new_file_id(world.clock.now(), world.dialect.ids)
    _part(world, f"{file_id}.name").write_text(name)
    address = str(request.base_url).rstrip("/") + _STORAGE + file_id
    return Response(status_code=302, headers={"location": address, "x-together-file-id": file_id})


def storage_routes(world: World) -> list[Route]:
    """Return the route that takes the bytes of promised files; it needs no key, its address is the secret."""

    async def put(request: Request) -> Response:
        file_id, limit = str(request.path_params["id"]), world.script.limits.max_bytes or _NO_LIMIT
        if not _part(world, f"{file_id}.name").exists():
            return Response("no such upload", 404)
        size = 0
        with _part(world, f"{file_id}.upload").open("wb") as file:
            async for piece in request.stream():
                size += len(piece)
                if size <= limit:
                    file.write(piece)
        return Response("too large", 413) if size > limit else Response()

    return [Route(_STORAGE + "{id}", put, methods=["PUT"])] if world.dialect.upload_by_redirect else []


async def _accept_promised(world: World, _request: Request, call: Call, _faults: Sequence[HttpFault]) -> Response:
    name, source = _part(world, f"{call.object_id}.name"), _part(world, f"{call.object_id}.upload")
    if not name.exists() or not source.exists():
        raise ApiError(404, f"No file was uploaded as {call.object_id}.", param="id")
    with source.open("rb") as file:
        _check_first_line(file.readline())
    shown = await run_in_threadpool(file_store.adopt_upload, world, source, name.read_text(), FileId(call.object_id))
    name.unlink()
    return json_reply(shown)


async def list_files(world: World, request: Request, _call: Call, _faults: Sequence[HttpFault]) -> Response:
    """List the files that are not deleted, newest first, in the provider's style."""
    return json_reply(file_store.list_files(world, Query((), request.query_params)))


async def get_file(world: World, _request: Request, call: Call, _faults: Sequence[HttpFault]) -> Response:
    """Return a file's object. Raises ``ApiError`` 404."""
    return json_reply(file_store.file_object(world, file_store.find_file(world, call.object_id)))


async def get_content(world: World, _request: Request, call: Call, _faults: Sequence[HttpFault]) -> Response:
    """Return a file's bytes. Raises ``ApiError`` 404."""
    row = file_store.find_file(world, call.object_id)
    return Download(world.file_path(FileId(row["id"])), row["bytes"])


async def delete_file(world: World, _request: Request, call: Call, _faults: Sequence[HttpFault]) -> Response:
    """Delete a file. Raises ``ApiError`` 404."""
    shown: dict[str, Any] = await run_in_threadpool(file_store.delete_file, world, call.object_id)
    return json_reply(shown)
