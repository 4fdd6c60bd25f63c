"""The lists of batches, in the style of each provider: a cursor, the id of the last entry, page numbers, or everything at once.

Cursor and ids of a query: console.groq.com/docs/batch. ``after``: OpenAI's reference. Page numbers: Mistral's. Newest first in all.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

import orjson

from batchkit.emulator.contract.ids import stable_hash
from batchkit.emulator.contract.replies import ApiError
from batchkit.emulator.faults.calls import IdFilter, ListPages
from batchkit.emulator.state.batch_store import batch_object, is_hidden

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from batchkit.emulator.faults import Call, HttpFault
    from batchkit.emulator.state.query import Query
    from batchkit.emulator.state.world import World

_ABOVE_ALL = 1 << 62
_FILES_PER_QUERY = 20


def list_batches(world: World, query: Query, call: Call, faults: Sequence[HttpFault]) -> Any:
    """Return what a list call is answered with. Raises ``ApiError`` 400 for parameters that make no sense."""
    dialect = world.dialect
    ids = _filtered(query.ids, faults)
    if dialect.lookup == "ids" and ids:
        return _batches_by_id(world, ids, call)
    wanted = query.others.get("input_file_ids")
    if dialect.lookup == "input-files" and wanted:
        return _batches_of_files(world, wanted.split(","))
    how = next((fault.how for fault in faults if isinstance(fault, ListPages)), None)
    return _STYLES[dialect.list_style](world, query, how)


def _filtered(ids: Sequence[str], faults: Sequence[HttpFault]) -> Sequence[str]:
    """Return the ids that a filter selects; none means that there is no filter."""
    match next((fault.how for fault in faults if isinstance(fault, IdFilter)), None):
        case "ignored":
            return []
        case "last-only":
            return ids[-1:]
        case "joined":
            return [",".join(ids)] if ids else []
        case _:
            return ids


def _batches_by_id(world: World, ids: Sequence[str], call: Call) -> dict[str, Any]:
    """Read up to 200 batches; unknown ids are left out, the order is unrelated to that of the ids, there is no paging.

    Raises ``ApiError`` 400 for more ids.
    """
    limit = world.script.limits.ids_per_query
    if len(ids) > limit:
        raise ApiError(
            400, f"Too many ids: at most {limit} batch ids can be requested at once.", code="invalid_value", param="id"
        )
    marks = ", ".join("?" * len(ids))
    rows = world.database.rows(f"SELECT * FROM batches WHERE id IN ({marks})", ids)  # noqa: S608 - placeholders
    found = [row for row in rows if not is_hidden(world, row, in_list=False)]
    found.sort(key=lambda row: stable_hash(world.script.seed, call.ordinal, row["id"]))
    return {"object": "list", "data": _objects(world, found)}


def _batches_of_files(world: World, file_ids: Sequence[str]) -> dict[str, Any]:
    """Return the batches of up to 20 input files, newest first. Raises ``ApiError`` 400 for more."""
    if len(file_ids) > _FILES_PER_QUERY:
        message = f"Too many input_file_ids: at most {_FILES_PER_QUERY}."
        raise ApiError(400, message, code="invalid_value", param="input_file_ids")
    marks = ", ".join("?" * len(file_ids))
    sql = f"SELECT * FROM batches WHERE input_file_id IN ({marks}) ORDER BY sequence DESC"  # noqa: S608 - placeholders
    found = [row for row in world.database.rows(sql, file_ids) if not is_hidden(world, row, in_list=True)]
    return _with_ends(_objects(world, found), more=False)


def _objects(world: World, rows: Sequence[sqlite3.Row]) -> list[dict[str, Any]]:
    return [batch_object(world, row, in_list=True) for row in rows]


def _by_cursor(world: World, query: Query, how: str | None) -> dict[str, Any]:
    cursor = query.others.get("cursor")
    if cursor is not None and how == "refuse-cursor":
        raise _bad_cursor("cursor")
    before = None if cursor is None else _read_cursor(world, cursor)
    if how == "repeat":
        before = None
    if how == "empty-page" and cursor is None:
        return {"object": "list", "data": [], "paging": {"next_cursor": _make_cursor(None)}}
    rows, more = _page(world, before, world.script.limits.page_size)
    page: dict[str, Any] = {"object": "list", "data": _objects(world, rows)}
    if more and rows and how != "single-page":
        last = rows[-2] if how == "overlap" and len(rows) > 1 else rows[-1]
        page["paging"] = {"next_cursor": _make_cursor(last["id"])}
    elif how == "null-cursor":
        page["paging"] = {"next_cursor": None}
    elif how != "no-paging":
        page["paging"] = {}
    return page


def _by_last_id(world: World, query: Query, how: str | None) -> dict[str, Any]:
    limits = world.script.limits
    size = query.number("limit", limits.page_size, 1, limits.max_page_size)
    after = query.others.get("after")
    if after is not None and how == "refuse-cursor":
        raise _bad_cursor("after")
    before = None
    if after is not None and how != "repeat":
        row = world.database.row("SELECT sequence FROM batches WHERE id = ?", (after,))
        if row is None:
            raise _bad_cursor("after")
        before = int(row["sequence"]) + (how == "overlap")
    if how == "empty-page" and after is None:
        return _with_ends([], more=True)
    rows, more = _page(world, before, size)
    page = _with_ends(_objects(world, rows), more=more and how != "single-page")
    if not more and how == "no-paging":
        del page["has_more"]
    elif not more and how == "null-cursor":
        page["has_more"] = None
    return page


def _with_ends(data: list[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return {"object": "list", "data": data, **ends, "has_more": more}


def _by_page(world: World, query: Query, how: str | None) -> dict[str, Any]:
    limits = world.script.limits
    size = query.number("page_size", limits.page_size, 1, limits.max_page_size)
    number = query.number("page", 0, 0, _ABOVE_ALL)
    if number and how == "refuse-cursor":
        raise _bad_cursor("page")
    after = query.moment("created_after")
    visible = [row for row in _all(world) if after is None or row["created_at"] > after]
    if how == "single-page":
        visible = visible[:size]
    start = {"repeat": 0, "overlap": max(0, number * (size - 1)), "empty-page": (number - 1) * size}.get(
        how or "", number * size
    )
    rows = visible[start : start + size] if start >= 0 else []
    page: dict[str, Any] = {"object": "list", "data": _objects(world, rows), "total": len(visible)}
    if how == "no-paging":
        del page["total"]
    elif how == "null-cursor":
        page["total"] = None
    return page


def _everything(world: World, _query: Query, how: str | None) -> list[dict[str, Any]]:
    visible = [] if how == "empty-page" else _all(world)
    return _objects(world, visible[: world.script.limits.page_size] if how == "single-page" else visible)


def _all(world: World) -> list[sqlite3.Row]:
    rows = world.database.rows("SELECT * FROM batches ORDER BY sequence DESC")
    return [row for row in rows if not is_hidden(world, row, in_list=True)]


_STYLES: dict[str, Callable[[World, Query, str | None], Any]] = {
    "cursor": _by_cursor,
    "after": _by_last_id,
    "page": _by_page,
    "bare": _everything,
}


def _page(world: World, before: int | None, size: int) -> tuple[list[sqlite3.Row], bool]:
    """Return ``size`` visible rows below the sequence ``before``, and whether there are more."""
    visible: list[sqlite3.Row] = []
    position = _ABOVE_ALL if before is None else before
    query = "SELECT * FROM batches WHERE sequence < ? ORDER BY sequence DESC LIMIT ?"
    while len(visible) <= size and (rows := world.database.rows(query, (position, size + 1))):
        position = rows[-1]["sequence"]
        visible += (row for row in rows if not is_hidden(world, row, in_list=True))
    return visible[:size], len(visible) > size


def _make_cursor(batch_id: str | None) -> str:
    return "cursor_" + base64.urlsafe_b64encode(orjson.dumps({"id": batch_id})).decode().rstrip("=")


def _read_cursor(world: World, cursor: str) -> int | None:
    try:
        encoded = cursor.removeprefix("cursor_")
        decoded = orjson.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        batch_id = decoded["id"]
    except (ValueError, binascii.Error, KeyError, TypeError):
        raise _bad_cursor("cursor") from None
    if batch_id is None:
        return None
    row = world.database.row("SELECT sequence FROM batches WHERE id = ?", (batch_id,))
    if row is None:
        raise _bad_cursor("cursor")
    return int(row["sequence"])


def _bad_cursor(param: str) -> ApiError:
    return ApiError(400, f"Invalid {param}.", code="invalid_value", param=param)
