"""A chunk of a batch's input: read, executed or left unexecuted, and committed with its place and the ledger's counts."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from batchkit.emulator.answers.answers import answer
from batchkit.emulator.answers.model_request import ModelRequest
from batchkit.emulator.contract.ids import FileId, id_suffix, stable_hash, time_prefix
from batchkit.emulator.contract.outcome import EXPIRED, EmulatedOutcome, encode, unexecuted_record
from batchkit.emulator.dialects.lines import record_written, request_read
from batchkit.emulator.faults import Selectable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from io import FileIO

    from batchkit.emulator.dialects.dialect import Dialect
    from batchkit.emulator.state.world import World

_CHUNK_LINES = 500
_CHUNK_BYTES = 4_000_000
_LINES_PER_WRITE = 25


@dataclass(slots=True)
class Chunk:
    """Lines as ``(number, request)``, and the place in the input after the last line."""

    end_offset: int
    end_number: int
    lines: list[tuple[int, dict[str, Any]]] = field(default_factory=list)


@dataclass(slots=True)
class Executed:
    """The result of a chunk; ``ledger`` has ``(custom_id, executed, succeeded)`` for each line, sizes are bytes of the parts."""

    ledger: list[tuple[str, int, int]] = field(default_factory=list)
    completed: int = 0
    failed: int = 0
    held: int = 0
    output_bytes: int = 0
    error_bytes: int = 0
    held_bytes: int = 0


def read_chunk(world: World, batch: sqlite3.Row, wanted: int) -> Chunk:
    """Read up to ``wanted`` valid lines from the batch's place; lines that validation refused are skipped."""
    skipped = frozenset(orjson.loads(batch["skipped_lines"]))
    chunk = Chunk(batch["input_offset"], batch["line_number"])
    wanted = min(wanted, _CHUNK_LINES)
    with world.file_path(FileId(batch["input_file_id"])).open("rb") as source:
        source.seek(chunk.end_offset)
        size = 0
        while len(chunk.lines) < wanted and size < _CHUNK_BYTES and (raw := source.readline()):
            size += len(raw)
            chunk.end_number += 1
            if chunk.end_number not in skipped:
                request = orjson.loads(raw)
                read = request_read(world.dialect, request, batch["endpoint"], batch["model"])
                chunk.lines.append((chunk.end_number, read))
        chunk.end_offset += size
    return chunk


def execute(world: World, batch: sqlite3.Row, chunk: Chunk, when: float) -> Executed:
    """Answer every line of a chunk, dated ``when``, and append the records to the batch's unfinished files."""
    done = Executed()
    prefix = time_prefix(when)
    batch_salt = stable_hash(batch["id"])
    faults, seed = world.script.lines, world.script.seed
    served = world.served_models(when)
    carried = _carried(world, chunk) if faults else {}
    with _parts(world, batch) as (output, errors, held):
        pending: tuple[list[bytes], list[bytes], list[bytes]] = ([], [], [])
        for index, (number, request) in enumerate(chunk.lines, 1):
            custom_id = request["custom_id"]
            entropy = stable_hash(batch_salt, number)
            request_id = f"req_{prefix}{id_suffix(entropy ^ batch_salt)}"
            asked = ModelRequest(
                request["url"],
                request["body"],
                entropy,
                request_id,
                int(when),
                "batch",
                world.script.replies,
                served,
                world.dialect,
            )
            status, body = answer(asked)
            outcome = EmulatedOutcome(
                f"batch_req_out_{prefix}{id_suffix(entropy)}", custom_id, request_id, status, body
            )
            outcome.settle()
            if faults:
                line = Selectable(
                    custom_id, number, batch["total"], carried.get(custom_id, 0), str(request["body"].get("model"))
                )
                for fault in faults:
                    if fault.selects(line, seed):
                        fault.apply(outcome)
                        if outcome.held:
                            break
            _note(world.dialect, done, outcome, pending)
            if not index % _LINES_PER_WRITE:
                # Small unbuffered writes also let the thread that answers polls run.
                _write(done, pending, output, errors, held)
        _write(done, pending, output, errors, held)
    return done


def _carried(world: World, chunk: Chunk) -> dict[str, int]:
    """Return how often batches have carried the lines' custom_ids before."""
    ids = orjson.dumps([request["custom_id"] for _, request in chunk.lines]).decode()
    rows = world.database.rows(
        "SELECT custom_id, carried FROM executions WHERE custom_id IN (SELECT value FROM json_each(?))", (ids,)
    )
    return {row["custom_id"]: row["carried"] for row in rows}


def _note(
    dialect: Dialect, done: Executed, outcome: EmulatedOutcome, pending: tuple[list[bytes], list[bytes], list[bytes]]
) -> None:
    done.ledger.append((outcome.custom_id, int(outcome.executed), int(outcome.succeeded)))
    if outcome.held:
        done.held += 1
        pending[2].append(encode(unexecuted_record(outcome.line_id, outcome.custom_id, EXPIRED)))
        return
    if 200 <= outcome.status < 300:  # noqa: PLR2004 - the HTTP class
        done.completed += 1
    else:
        done.failed += 1
    pending[0].extend(encode(record_written(dialect, record)) for record in outcome.output)
    pending[1].extend(encode(record_written(dialect, record)) for record in outcome.errors)


def _write(
    done: Executed, pending: tuple[list[bytes], list[bytes], list[bytes]], output: FileIO, errors: FileIO, held: FileIO
) -> None:
    sizes = [0, 0, 0]
    for index, (records, file) in enumerate(zip(pending, (output, errors, held), strict=True)):
        if records:
            sizes[index] = write_all(file, b"".join(records))
            records.clear()
    done.output_bytes += sizes[0]
    done.error_bytes += sizes[1]
    done.held_bytes += sizes[2]


def write_all(file: FileIO, data: bytes) -> int:
    """Write all bytes to an unbuffered file and return their number."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]
    return len(data)


@contextmanager
def _parts(world: World, batch: sqlite3.Row) -> Iterator[tuple[FileIO, FileIO, FileIO]]:
    """Open the batch's unfinished files at their committed sizes; anything longer is left from a killed process."""
    opened: list[FileIO] = []
    try:
        for kind, size in (
            ("output", batch["output_bytes"]),
            ("error", batch["error_bytes"]),
            ("held", batch["held_bytes"]),
        ):
            path = world.part_path(batch["id"], kind)
            if not path.exists():
                path.touch()
            file = path.open("r+b", buffering=0)
            opened.append(file)
            file.truncate(size)
            file.seek(size)
        yield opened[0], opened[1], opened[2]
    finally:
        for file in opened:
            file.close()


def record_carried(connection: sqlite3.Connection, batch: sqlite3.Row, chunk: Chunk, done: Executed) -> None:
    """Store the result of a chunk: the ledger, the batch's counts and its new place."""
    connection.executemany(
        """
        INSERT INTO executions (custom_id, carried, executed, succeeded) VALUES (?, 1, ?, ?)
        ON CONFLICT (custom_id) DO UPDATE SET
            carried = carried + 1, executed = executed + excluded.executed, succeeded = succeeded + excluded.succeeded
        """,
        done.ledger,
    )
    connection.execute(
        """
        UPDATE batches SET input_offset = ?, line_number = ?, lines_done = lines_done + ?, completed = completed + ?,
            failed = failed + ?, held = held + ?, output_bytes = output_bytes + ?, error_bytes = error_bytes + ?,
            held_bytes = held_bytes + ?
        WHERE id = ?
        """,
        (
            chunk.end_offset,
            chunk.end_number,
            len(chunk.lines),
            done.completed,
            done.failed,
            done.held,
            done.output_bytes,
            done.error_bytes,
            done.held_bytes,
            batch["id"],
        ),
    )


def leave_unexecuted(world: World, batch: sqlite3.Row, error: dict[str, Any] | None) -> bool:
    """Store the next lines as carried but not executed, in the error file unless ``error`` is None.

    Returns True if no line is left.
    """
    if batch["in_progress_at"] is None or batch["lines_done"] >= batch["total"]:
        return True
    chunk = read_chunk(world, batch, _CHUNK_LINES)
    if not chunk.lines:
        return True
    done = Executed()
    prefix, batch_salt = time_prefix(batch["due_at"]), stable_hash(batch["id"])
    records = []
    for number, request in chunk.lines:
        done.ledger.append((request["custom_id"], 0, 0))
        if error is not None:
            line_id = f"batch_req_out_{prefix}{id_suffix(stable_hash(batch_salt, number))}"
            record = unexecuted_record(line_id, request["custom_id"], error)
            records.append(encode(record_written(world.dialect, record)))
    with _parts(world, batch) as (_, errors, _held):
        done.error_bytes = write_all(errors, b"".join(records))
    with world.write() as connection:
        record_carried(connection, batch, chunk, done)
    return False
