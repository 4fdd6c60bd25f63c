"""The files of the emulated provider: rows in the database, bytes beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchkit.emulator.contract.ids import FileId, new_file_id
from batchkit.emulator.faults.calls import no_such_file

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from batchkit.emulator.state.world import World

_ACTIVE = "('validating', 'in_progress', 'finalizing', 'cancelling')"


def file_object(row: sqlite3.Row) -> dict[str, Any]:
    """Return the JSON object of a file (console.groq.com/docs/api-reference, Files): no status, no expiry."""
    return {
        "id": row["id"],
        "object": "file",
        "bytes": row["bytes"],
        "created_at": row["created_at"],
        "filename": row["filename"],
        "purpose": row["purpose"],
    }


def adopt_upload(world: World, source: Path, filename: str) -> dict[str, Any]:
    """Move an uploaded file into the store, and return its object."""
    now = world.clock.now()
    file_id = new_file_id(now)
    size = source.stat().st_size
    source.replace(world.file_path(file_id))
    with world.write() as connection:
        insert_file(connection, file_id, "batch", filename, size=size, at=now)
    return file_object(find_file(world, file_id))


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


def list_files(world: World) -> list[dict[str, Any]]:
    """List all files that are not deleted, newest first."""
    rows = world.database.rows("SELECT * FROM files WHERE deleted_at IS NULL ORDER BY sequence DESC")
    return [file_object(row) for row in rows]


def delete_file(world: World, file_id: str) -> dict[str, Any]:
    """Delete a file; its bytes stay until no running batch reads them. Raises ``ApiError`` 404."""
    find_file(world, file_id)
    with world.write() as connection:
        connection.execute("UPDATE files SET deleted_at = ? WHERE id = ?", (int(world.clock.now()), file_id))
    sweep_deleted(world, file_id)
    return {"id": file_id, "object": "file", "deleted": True}


def sweep_deleted(world: World, file_id: str) -> None:
    """Remove the bytes of a deleted file unless a running batch reads them."""
    row = world.database.row(
        f"SELECT 1 FROM files WHERE id = ? AND deleted_at IS NOT NULL AND id NOT IN (SELECT input_file_id FROM batches WHERE status IN {_ACTIVE})",  # noqa: S608 - constants
        (file_id,),
    )
    if row is not None:
        world.file_path(FileId(file_id)).unlink(missing_ok=True)
