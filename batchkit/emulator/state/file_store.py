"""The files of the emulated provider: rows in the database, bytes beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchkit.emulator.contract.ids import FileId, new_file_id
from batchkit.emulator.contract.replies import ApiError
from batchkit.emulator.dialects.objects import deletion_shown, file_shown
from batchkit.emulator.faults.calls import no_such_file

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from batchkit.emulator.state.query import Query
    from batchkit.emulator.state.world import World

_PAGE = 10_000
_ACTIVE = "('validating', 'in_progress', 'finalizing', 'cancelling')"


def file_object(world: World, row: sqlite3.Row) -> dict[str, Any]:
    """Return the JSON object of a file (console.groq.com/docs/api-reference, Files: no status, no expiry)."""
    return file_shown(world.dialect, row, ready=is_ready(world, row))


def is_ready(world: World, row: sqlite3.Row) -> bool:
    """Return whether a batch may use a file: some providers process it first."""
    return row["ready_at"] is None or world.clock.now() >= row["ready_at"]


def adopt_upload(world: World, source: Path, filename: str, file_id: FileId | None = None) -> dict[str, Any]:
    """Move an uploaded file into the store, under a new id unless one was promised, and return its object.

    Raises ``ApiError`` 400 if the account holds as many files as it may.
    """
    now = world.clock.now()
    most = world.script.limits.max_files
    if most is not None:
        held = world.database.row("SELECT count(*) AS held FROM files WHERE purpose = 'batch' AND deleted_at IS NULL")
        if held is not None and held["held"] >= most:
            message = (
                f"Too many files: at most {most} batch files can be kept. Delete some that are not needed any more."
            )
            raise ApiError(400, message, code="file_limit_exceeded")
    file_id = file_id or new_file_id(now, world.dialect.ids)
    size = source.stat().st_size
    source.replace(world.file_path(file_id))
    seconds = world.script.file_ready_seconds()
    with world.write() as connection:
        insert_file(connection, file_id, "batch", filename, size=size, at=now)
        if seconds:
            connection.execute("UPDATE files SET ready_at = ? WHERE id = ?", (now + seconds, file_id))
    return file_object(world, find_file(world, file_id))


def insert_file(
    connection: sqlite3.Connection, file_id: str, purpose: str, filename: str, *, size: int, at: float
) -> None:
    """Register a file whose bytes are in place; a repetition changes nothing."""
    connection.execute(
        "INSERT OR IGNORE INTO files (id, purpose, filename, bytes, created_at) VALUES (?, ?, ?, ?, ?)",
        (file_id, purpose, filename, size, int(at)),
    )


def find_file(world: World, file_id: str) -> sqlite3.Row:
    """Read a file that is not deleted. Raises ``ApiError`` 404."""
    row = world.database.row("SELECT * FROM files WHERE id = ? AND deleted_at IS NULL", (file_id,))
    if row is None:
        raise no_such_file(file_id)
    return row


def list_files(world: World, query: Query) -> dict[str, Any]:
    """List the files that are not deleted, newest first: all, or a page by ``after`` or by number.

    Raises ``ApiError`` 400 for parameters that make no sense.
    """
    rows = world.database.rows("SELECT * FROM files WHERE deleted_at IS NULL ORDER BY sequence DESC")
    start, size, more = 0, len(rows), {}
    match world.dialect.list_style:
        case "after":
            size, after = query.number("limit", _PAGE, 1, _PAGE), query.others.get("after")
            start = next((place for place, row in enumerate(rows, 1) if row["id"] == after), 0)
            page = rows[start : start + size]
            ends = (
                {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
            )
            more = {**ends, "has_more": start + size < len(rows)}
        case "page":
            size = query.number("page_size", 100, 1, _PAGE)
            start, more = query.number("page", 0, 0, _PAGE) * size, {"total": len(rows)}
        case "cursor" | "bare":
            pass
    data = [file_object(world, row) for row in rows[start : start + size]]
    return {"object": "list", "data": data, **more}


def delete_file(world: World, file_id: str) -> dict[str, Any]:
    """Delete a file; its bytes stay until no running batch reads them. Raises ``ApiError`` 404."""
    find_file(world, file_id)
    with world.write() as connection:
        connection.execute("UPDATE files SET deleted_at = ? WHERE id = ?", (int(world.clock.now()), file_id))
    sweep_deleted(world, file_id)
    return deletion_shown(world.dialect, file_id)


def sweep_deleted(world: World, file_id: str) -> None:
    """Remove the bytes of a deleted file unless a running batch reads them."""
    row = world.database.row(
        f"SELECT 1 FROM files WHERE id = ? AND deleted_at IS NOT NULL AND id NOT IN (SELECT input_file_id FROM batches WHERE status IN {_ACTIVE})",  # noqa: S608 - constants
        (file_id,),
    )
    if row is not None:
        world.file_path(FileId(file_id)).unlink(missing_ok=True)
