"""The batches of the emulated provider as HTTP clients see them: create, read and cancel.

The inner form of the object is Groq's: console.groq.com/docs/batch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import orjson

from batchkit.emulator.contract.ids import new_batch_id
from batchkit.emulator.contract.replies import ApiError
from batchkit.emulator.dialects.objects import batch_shown
from batchkit.emulator.faults.calls import UnknownFileRefused, no_such_batch
from batchkit.emulator.state.creation import Creation, read_creation
from batchkit.emulator.state.file_store import is_ready

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from batchkit.emulator.faults import HttpFault
    from batchkit.emulator.state.world import World

_TIMES = ("in_progress_at", "finalizing_at", "completed_at", "failed_at", "cancelling_at", "cancelled_at")
_FINAL = ("completed", "failed", "expired", "cancelled")


def batch_object(world: World, row: sqlite3.Row, *, in_list: bool = False) -> dict[str, Any]:
    """Return the JSON object of a batch, as changed by the scenario and written by the provider."""
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
    if world.dialect.shape != "groq":
        shown["model"] = row["model"]
    if world.dialect.shape == "together":
        shown["file_size_bytes"] = _input_bytes(world, row)
    return batch_shown(
        world.dialect, world.script.show(world.ordinal(row), shown, _listings(world, row) if in_list else None)
    )


def _input_bytes(world: World, batch: sqlite3.Row) -> int | None:
    row = world.database.row("SELECT bytes FROM files WHERE id = ?", (batch["input_file_id"],))
    return None if row is None else int(row["bytes"])


def create_batch(world: World, body: dict[str, Any], faults: Sequence[HttpFault]) -> dict[str, Any]:
    """Create a batch. Raises ``ApiError`` 400 for a malformed request, and 409 for a key that another request has used.

    An input file that does not exist is accepted, as by OpenAI; the batch fails validation later. Returns the batch that exists
    already if the request repeats a key.
    """
    creation = read_creation(world.dialect, body)
    _check_input(world, creation.input_file_id, faults)
    now = world.clock.now()
    batch_id = new_batch_id(now, world.dialect.ids)
    with world.write() as connection:
        row = _earlier(connection, creation)
        if row is None:
            row = _insert(world, connection, batch_id, creation, now)
    world.wake.set()
    shown = batch_object(world, row)
    wrapper = world.dialect.create_wrapper
    return shown if wrapper is None else {wrapper: shown, "warning": None}


def _check_input(world: World, file_id: str, faults: Sequence[HttpFault]) -> None:
    row = world.database.row("SELECT * FROM files WHERE id = ? AND deleted_at IS NULL", (file_id,))
    if row is None:
        for fault in faults:
            if isinstance(fault, UnknownFileRefused):
                raise fault.refusal(file_id)
    elif not is_ready(world, row):
        message = f"The file {file_id} is not processed yet: a batch can be created when its status is 'processed'."
        raise ApiError(400, message, code="invalid_file_status", param="input_file_id")


def _earlier(connection: sqlite3.Connection, creation: Creation) -> sqlite3.Row | None:
    """Return the batch that was created with the same key. Raises ``ApiError`` 409 if it was another request."""
    if creation.idempotency_key is None:
        return None
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM batches WHERE idempotency_key = ?", (creation.idempotency_key,)
    ).fetchone()
    if row is None:
        return None
    kept, asked = (
        None if metadata is None else orjson.loads(metadata) for metadata in (row["metadata"], creation.metadata)
    )
    same = (row["input_file_id"], row["endpoint"], row["completion_window"]) == (
        creation.input_file_id,
        creation.endpoint,
        creation.window,
    )
    if not same or kept != asked:
        message = (
            f"Conflict: the idempotency key '{creation.idempotency_key}' was used with other parameters. "
            "Use another key, or the same parameters."
        )
        raise ApiError(409, message, kind="conflict")
    return row


def _insert(world: World, connection: sqlite3.Connection, batch_id: str, creation: Creation, now: float) -> sqlite3.Row:
    cursor = connection.execute(
        """
        INSERT INTO batches (id, endpoint, input_file_id, completion_window, metadata, status, created_at, expires_at,
            listings_before, model, idempotency_key)
        VALUES (?, ?, ?, ?, ?, 'validating', ?, ?, ?, ?, ?)
        """,
        (
            batch_id,
            creation.endpoint,
            creation.input_file_id,
            creation.window,
            creation.metadata,
            int(now),
            int(now) + creation.seconds,
            world.calls().get("batches.list", 0),
            creation.model,
            creation.idempotency_key,
        ),
    )
    rules = world.script.rules((cursor.lastrowid or 0) - world.batch_baseline)
    due_at = None if rules.stuck_in == "validating" else now + rules.validating_seconds
    connection.execute("UPDATE batches SET due_at = ? WHERE id = ?", (due_at, batch_id))
    row: sqlite3.Row = connection.execute("SELECT * FROM batches WHERE id = ?", (batch_id,)).fetchone()
    return row


def get_batch(world: World, batch_id: str) -> dict[str, Any]:
    """Read a batch. Raises ``ApiError`` 404."""
    return batch_object(world, _visible(world, batch_id))


def _visible(world: World, batch_id: str) -> sqlite3.Row:
    row = world.database.row("SELECT * FROM batches WHERE id = ?", (batch_id,))
    if row is None or is_hidden(world, row, in_list=False):
        rules = world.script.rules(0 if row is None else world.ordinal(row))
        raise no_such_batch(batch_id, rules.gone_status)
    return row


def is_hidden(world: World, row: sqlite3.Row, *, in_list: bool) -> bool:
    """Return whether a fault hides a batch."""
    return world.script.hides(world.ordinal(row), row["status"], _listings(world, row), in_list=in_list)


def _listings(world: World, row: sqlite3.Row) -> int:
    return world.calls().get("batches.list", 0) - int(row["listings_before"])


def cancel_batch(world: World, batch_id: str) -> dict[str, Any]:
    """Cancel a batch. Raises ``ApiError``: 404, and mostly 409 for a batch that has ended in another way."""
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
