"""The batches of the emulated provider as HTTP clients see them: create, read, list and cancel.

Object and paging: console.groq.com/docs/batch; refusals at creation: OpenAI's texts, because Groq's are not documented.
"""

from __future__ import annotations

import base64
import binascii
import math
from typing import TYPE_CHECKING, Any

import orjson

from batchkit.emulator.contract.ids import new_batch_id, stable_hash
from batchkit.emulator.contract.replies import ApiError
from batchkit.emulator.contract.windows import window_seconds
from batchkit.emulator.faults.calls import IdFilter, ListPages, UnknownFileRefused, no_such_batch
from batchkit.emulator.requests.validation import ENDPOINTS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from batchkit.emulator.faults import Call, HttpFault
    from batchkit.emulator.state.world import World

_TIMES = ("in_progress_at", "finalizing_at", "completed_at", "failed_at", "cancelling_at", "cancelled_at")
_FINAL = ("completed", "failed", "expired", "cancelled")
_ABOVE_ALL = 1 << 62
_METADATA_PAIRS = 16
_METADATA_KEY_CHARACTERS = 64
_METADATA_VALUE_CHARACTERS = 512


def batch_object(world: World, row: sqlite3.Row) -> dict[str, Any]:
    """Return the JSON object of a batch, with keys in Groq's order, as changed by the scenario."""
    ended_at = row[f"{row['status']}_at"] if row["status"] in _FINAL else math.inf
    rules = world.script.rules(world.ordinal(row))
    final = world.clock.now() >= ended_at + rules.files_named_after_seconds
    times = {key: None if row[key] is None else int(row[key]) for key in (*_TIMES, "expires_at", "expired_at")}
    shown = {
        "id": row["id"],
        "object": "batch",
        "endpoint": row["endpoint"],
        "input_file_id": row["input_file_id"],
        "completion_window": row["completion_window"],
        "status": row["status"],
        "output_file_id": row["output_file_id"] if final else None,
        "error_file_id": row["error_file_id"] if final else None,
        "created_at": int(row["created_at"]),
        **times,
        "request_counts": {"completed": row["completed"], "failed": row["failed"], "total": row["total"]},
        "metadata": None if row["metadata"] is None else orjson.loads(row["metadata"]),
        "errors": None if row["errors"] is None else orjson.loads(row["errors"]),
        "project_id": world.project_id,
    }
    return world.script.show(world.ordinal(row), shown)


def create_batch(world: World, body: dict[str, Any], faults: Sequence[HttpFault]) -> dict[str, Any]:
    """Create a batch. Raises ``ApiError`` 400 for a malformed request.

    An input file that does not exist is accepted, as by OpenAI; the batch fails validation later.
    """
    endpoint, window, seconds, metadata = _checked(body)
    input_file_id = body["input_file_id"]
    for fault in faults:
        known = world.database.row("SELECT 1 FROM files WHERE id = ? AND deleted_at IS NULL", (input_file_id,))
        if isinstance(fault, UnknownFileRefused) and known is None:
            raise fault.refusal(input_file_id)
    now = world.clock.now()
    batch_id = new_batch_id(now)
    with world.write() as connection:
        cursor = connection.execute(
            """
            INSERT INTO batches (id, endpoint, input_file_id, completion_window, metadata, status, created_at, expires_at, listings_before)
            VALUES (?, ?, ?, ?, ?, 'validating', ?, ?, ?)
            """,
            (
                batch_id,
                endpoint,
                input_file_id,
                window,
                metadata,
                int(now),
                int(now) + seconds,
                world.calls().get("batches.list", 0),
            ),
        )
        rules = world.script.rules((cursor.lastrowid or 0) - world.batch_baseline)
        due_at = None if rules.stuck_in == "validating" else now + rules.validating_seconds
        connection.execute("UPDATE batches SET due_at = ? WHERE id = ?", (due_at, batch_id))
        row = connection.execute("SELECT * FROM batches WHERE id = ?", (batch_id,)).fetchone()
    world.wake.set()
    return batch_object(world, row)


def _checked(body: dict[str, Any]) -> tuple[str, str, int, str | None]:
    for key in ("input_file_id", "endpoint", "completion_window"):
        if key not in body:
            raise ApiError(400, f"Missing required parameter: '{key}'.", code="missing_required_parameter", param=key)
        if not isinstance(body[key], str):
            raise ApiError(400, f"Invalid type for '{key}': expected a string.", code="invalid_type", param=key)
    endpoint, window = body["endpoint"], body["completion_window"]
    if endpoint not in ENDPOINTS:
        raise _invalid_value("endpoint", endpoint, ENDPOINTS)
    seconds = window_seconds(window)
    if seconds is None:
        raise _invalid_value("completion_window", window, ("durations from 24h to 7d",))
    return endpoint, window, seconds, _checked_metadata(body.get("metadata"))


def _invalid_value(param: str, value: str, supported: Sequence[str]) -> ApiError:
    choices = ", ".join(f"'{choice}'" for choice in supported)
    return ApiError(
        400, f"Invalid value: '{value}'. Supported values are: {choices}.", code="invalid_value", param=param
    )


def _checked_metadata(metadata: Any) -> str | None:
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        raise ApiError(400, "Invalid type for 'metadata': expected an object.", code="invalid_type", param="metadata")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise ApiError(
                400,
                f"Invalid type for 'metadata.{key}': expected a string.",
                code="invalid_type",
                param=f"metadata.{key}",
            )
        if len(key) > _METADATA_KEY_CHARACTERS or len(value) > _METADATA_VALUE_CHARACTERS:
            message = f"Invalid 'metadata.{key}': keys hold 64 and values 512 characters at most."
            raise ApiError(400, message, code="string_above_max_length", param=f"metadata.{key}")
    if len(metadata) > _METADATA_PAIRS:
        message = "Invalid 'metadata': 16 pairs at most."
        raise ApiError(400, message, code="object_above_max_properties", param="metadata")
    return orjson.dumps(metadata).decode()


def get_batch(world: World, batch_id: str) -> dict[str, Any]:
    """Read a batch. Raises ``ApiError`` 404."""
    return batch_object(world, _visible(world, batch_id))


def _visible(world: World, batch_id: str) -> sqlite3.Row:
    row = world.database.row("SELECT * FROM batches WHERE id = ?", (batch_id,))
    if row is None or _is_hidden(world, row, in_list=False):
        rules = world.script.rules(0 if row is None else world.ordinal(row))
        raise no_such_batch(batch_id, rules.gone_status)
    return row


def _is_hidden(world: World, row: sqlite3.Row, *, in_list: bool) -> bool:
    listings = world.calls().get("batches.list", 0) - row["listings_before"]
    return world.script.hides(world.ordinal(row), row["status"], listings, in_list=in_list)


def cancel_batch(world: World, batch_id: str) -> dict[str, Any]:
    """Cancel a batch. Raises ``ApiError``: 404, and 409 for a batch that has ended in another way."""
    row = _visible(world, batch_id)
    rules = world.script.rules(world.ordinal(row))
    with world.write() as connection:
        now = world.clock.now()
        connection.execute(
            "UPDATE batches SET status = 'cancelling', cancelling_at = ?, due_at = ? WHERE id = ? AND status IN ('validating', 'in_progress')",
            (now, now + rules.cancelling_seconds, batch_id),
        )
        row = connection.execute("SELECT * FROM batches WHERE id = ?", (batch_id,)).fetchone()
    world.wake.set()
    if row["status"] not in {"cancelling", "cancelled"} and rules.cancel_ended_status >= 400:  # noqa: PLR2004 - HTTP class
        raise ApiError(rules.cancel_ended_status, f"Cannot cancel a batch with status '{row['status']}'.")
    return batch_object(world, row)


def filtered(ids: Sequence[str], faults: Sequence[HttpFault]) -> Sequence[str]:
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


def batches_by_id(world: World, ids: Sequence[str], call: Call) -> dict[str, Any]:
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
    found = [row for row in rows if not _is_hidden(world, row, in_list=False)]
    found.sort(key=lambda row: stable_hash(world.script.seed, call.ordinal, row["id"]))
    return {"object": "list", "data": [batch_object(world, row) for row in found]}


def list_batches(world: World, cursor: str | None, faults: Sequence[HttpFault]) -> dict[str, Any]:
    """Return one page of all batches, newest first. Raises ``ApiError`` 400 for a cursor that was never returned."""
    how = next((fault.how for fault in faults if isinstance(fault, ListPages)), None)
    if cursor is not None and how == "refuse-cursor":
        raise _bad_cursor()
    before = None if cursor is None else _read_cursor(world, cursor)
    if how == "repeat":
        before = None
    if how == "empty-page" and cursor is None:
        return {"object": "list", "data": [], "paging": {"next_cursor": _make_cursor(None)}}
    size = world.script.limits.page_size
    rows, more = _page(world, before, size)
    page: dict[str, Any] = {"object": "list", "data": [batch_object(world, row) for row in rows]}
    if more and rows and how != "single-page":
        last = rows[-2] if how == "overlap" and len(rows) > 1 else rows[-1]
        page["paging"] = {"next_cursor": _make_cursor(last["id"])}
    elif how == "null-cursor":
        page["paging"] = {"next_cursor": None}
    elif how != "no-paging":
        page["paging"] = {}
    return page


def _page(world: World, before: int | None, size: int) -> tuple[list[sqlite3.Row], bool]:
    """Return ``size`` visible rows below the sequence ``before``, and whether there are more."""
    visible: list[sqlite3.Row] = []
    position = _ABOVE_ALL if before is None else before
    query = "SELECT * FROM batches WHERE sequence < ? ORDER BY sequence DESC LIMIT ?"
    while len(visible) <= size and (rows := world.database.rows(query, (position, size + 1))):
        position = rows[-1]["sequence"]
        visible += (row for row in rows if not _is_hidden(world, row, in_list=True))
    return visible[:size], len(visible) > size


def _make_cursor(batch_id: str | None) -> str:
    return "cursor_" + base64.urlsafe_b64encode(orjson.dumps({"id": batch_id})).decode().rstrip("=")


def _read_cursor(world: World, cursor: str) -> int | None:
    try:
        encoded = cursor.removeprefix("cursor_")
        decoded = orjson.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        batch_id = decoded["id"]
    except (ValueError, binascii.Error, KeyError, TypeError):
        raise _bad_cursor() from None
    if batch_id is None:
        return None
    row = world.database.row("SELECT sequence FROM batches WHERE id = ?", (batch_id,))
    if row is None:
        raise _bad_cursor()
    return int(row["sequence"])


def _bad_cursor() -> ApiError:
    return ApiError(400, "Invalid cursor.", code="invalid_value", param="cursor")
