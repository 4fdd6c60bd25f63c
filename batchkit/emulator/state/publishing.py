"""The end of a batch: its unfinished result files become files of the provider, and its status becomes final."""

from __future__ import annotations

import os
from array import array
from typing import TYPE_CHECKING, Any, Literal

import orjson

from batchkit.emulator.contract.ids import FileId, stable_hash
from batchkit.emulator.contract.ids import file_id as file_id_of
from batchkit.emulator.contract.outcome import encode
from batchkit.emulator.dialects.lines import record_written
from batchkit.emulator.state.chunks import write_all
from batchkit.emulator.state.file_store import insert_file, sweep_deleted

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from batchkit.emulator.contract.rules import BatchRules
    from batchkit.emulator.state.world import World

_KINDS: tuple[Literal["output", "error"], ...] = ("output", "error")


def publish(
    world: World,
    batch: sqlite3.Row,
    rules: BatchRules,
    status: Literal["completed", "expired", "cancelled"],
    *,
    held: dict[str, Any] | None = None,
) -> None:
    """End a batch at the time of its scheduled step.

    Held lines go to the error file with the error ``held``, or nowhere if that is None. A repetition after a crash makes the same
    files: their ids are derived from the batch.
    """
    at = batch["due_at"]
    error_bytes = batch["error_bytes"] + (_append_held(world, batch, held) if held is not None else 0)
    sizes = {"output": batch["output_bytes"], "error": error_bytes}
    ids: dict[Literal["output", "error"], FileId] = {}
    for kind in _KINDS:
        if sizes[kind] or kind in rules.empty_files:
            ids[kind] = file_id_of(at, stable_hash(batch["id"], kind), world.dialect.ids)
            _move(world, batch, kind, sizes[kind], ids[kind], shuffled=rules.shuffled)
    with world.write() as connection:
        for kind, file_id in ids.items():
            size = world.file_path(file_id).stat().st_size
            insert_file(connection, file_id, "batch_output", f"{batch['id']}_{kind}.jsonl", size=size, at=at)
        connection.execute(
            f"UPDATE batches SET status = ?, {status}_at = ?, output_file_id = ?, error_file_id = ?, due_at = NULL WHERE id = ?",  # noqa: S608 - a literal
            (status, at, ids.get("output"), ids.get("error"), batch["id"]),
        )
    for part in (*_KINDS, "held"):
        world.part_path(batch["id"], part).unlink(missing_ok=True)
    sweep_deleted(world, batch["input_file_id"])


def _append_held(world: World, batch: sqlite3.Row, error: dict[str, Any]) -> int:
    """Copy the held lines after the error lines, with their final error, and return the number of added bytes."""
    source_path, target_path = world.part_path(batch["id"], "held"), world.part_path(batch["id"], "error")
    if not batch["held_bytes"] or not source_path.exists():
        return 0
    if not target_path.exists():
        # The move was done before a crash, with these lines in the file: any number above 0 names the file again.
        return int(batch["held_bytes"])
    added = 0
    with source_path.open("rb") as source, target_path.open("r+b", buffering=0) as target:
        target.truncate(batch["error_bytes"])
        target.seek(batch["error_bytes"])
        for line in source:
            record = orjson.loads(line)
            record["error"] = error
            added += write_all(target, encode(record_written(world.dialect, record)))
    return added


def _move(world: World, batch: sqlite3.Row, kind: str, size: int, file_id: FileId, *, shuffled: bool) -> None:
    source, target = world.part_path(batch["id"], kind), world.file_path(file_id)
    if not source.exists():
        if not target.exists():
            target.touch()
        return
    os.truncate(source, size)
    if shuffled:
        mixed = world.part_path(batch["id"], f"{kind}.mixed")
        shuffle_lines(source, mixed, world.script.seed)
        mixed.replace(target)
        source.unlink()
    else:
        source.replace(target)


def shuffle_lines(source_path: Path, target_path: Path, seed: int) -> None:
    """Copy a file with its lines in a seeded order; only their offsets are in memory."""
    offsets = array("q", [0])
    with source_path.open("rb") as source:
        for line in source:
            offsets.append(offsets[-1] + len(line))
        order = sorted(range(len(offsets) - 1), key=lambda index: stable_hash(seed, index))
        with target_path.open("wb") as target:
            for index in order:
                source.seek(offsets[index])
                target.write(source.read(offsets[index + 1] - offsets[index]))
