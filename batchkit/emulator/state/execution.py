"""Runs batches: one thread that executes pending steps, one small committed step at a time.

A batch's row holds its status, the place reached in the input, the sizes of the unfinished result files, and the emulated
time of its next step. Each step reads on from there, appends to the files, and commits the new place together with the
ledger's counts. After a kill the step is repeated from the same place: bytes beyond the committed sizes are cut off first,
so neither the files nor the ledger count anything twice.

Timestamps are those of the schedule (creation + validation + lines x pace), not the time when this thread executes the step,
so a busy machine does not make batches expire.
"""

from __future__ import annotations

import logging
import math
from threading import Event, Thread
from typing import TYPE_CHECKING

import orjson

from batchkit.emulator.contract.ids import FileId
from batchkit.emulator.contract.outcome import CANCELLED, EXPIRED
from batchkit.emulator.requests.validation import Checks, Validation, problem, validate_file
from batchkit.emulator.state.chunks import Chunk, execute, leave_unexecuted, read_chunk, record_carried
from batchkit.emulator.state.file_store import sweep_deleted
from batchkit.emulator.state.publishing import publish

if TYPE_CHECKING:
    import sqlite3

    from batchkit.emulator.contract.rules import BatchRules
    from batchkit.emulator.state.world import World

_log = logging.getLogger(__name__)

_IDLE_SECONDS = 0.5
_PACE_SECONDS = 0.005


class Engine:
    """Advances all batches of a world, from ``start`` until ``stop``."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="emulator-engine", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current step."""
        self._stopping.set()
        self._world.wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            # Cleared before the query, so that a batch that is created during the query is not missed.
            self._world.wake.clear()
            wait_seconds = self._work_until_idle()
            if not self._stopping.is_set():
                self._world.wake.wait(min(wait_seconds, _IDLE_SECONDS))

    def _work_until_idle(self) -> float:
        """Execute every pending step; return the real seconds until the next one."""
        world = self._world
        while not self._stopping.is_set():
            batch = world.database.row(
                "SELECT * FROM batches WHERE due_at IS NOT NULL ORDER BY due_at, sequence LIMIT 1"
            )
            if batch is None:
                return math.inf
            wait = batch["due_at"] - world.clock.now()
            if wait > 0:
                return world.clock.real_seconds(wait)
            try:
                step(world, batch)
            except Exception:  # noqa: BLE001 - any error concerns this batch only
                # A batch that cannot continue must not stop the others.
                _log.exception("batch %s cannot continue", batch["id"])
                _suspend(world, batch)
        return 0.0


def step(world: World, batch: sqlite3.Row) -> None:
    """Execute the pending step of a batch."""
    rules = world.script.rules(world.ordinal(batch))
    match batch["status"]:
        case "validating":
            _validate(world, batch, rules)
        case "in_progress":
            _progress(world, batch, rules)
        case "finalizing":
            if rules.stuck_in == "finalizing":
                _suspend(world, batch)
            else:
                publish(world, batch, rules, "completed")
        case "cancelling":
            error = CANCELLED if rules.cancelled_lines_listed else None
            if leave_unexecuted(world, batch, error):
                publish(world, batch, rules, rules.cancel_ends_as, held=error)


def _validate(world: World, batch: sqlite3.Row, rules: BatchRules) -> None:
    if rules.stuck_in == "validating":
        _suspend(world, batch)
        return
    result = _checked(world, batch, rules)
    good = result.total > 0 and not (result.bad_lines and rules.bad_lines == "reject_batch") and rules.refusal is None
    errors = [rules.refusal] if rules.refusal is not None else result.problems
    at = batch["due_at"]
    with world.write() as connection:
        if good:
            due_at = None if rules.stuck_in == "in_progress" else at
            connection.execute(
                "UPDATE batches SET status = 'in_progress', in_progress_at = ?, total = ?, errors = ?, skipped_lines = ?, due_at = ?, "
                "model = coalesce(model, ?) WHERE id = ? AND status = 'validating'",
                (
                    at,
                    result.total,
                    _json(errors),
                    orjson.dumps(result.bad_lines).decode(),
                    due_at,
                    result.model,
                    batch["id"],
                ),
            )
        else:
            connection.execute(
                "UPDATE batches SET status = 'failed', failed_at = ?, errors = ?, due_at = NULL WHERE id = ? AND status = 'validating'",
                (at, _json(errors), batch["id"]),
            )
    if not good:
        sweep_deleted(world, batch["input_file_id"])


def _json(errors: list[dict[str, object]]) -> str | None:
    return orjson.dumps(errors).decode() if errors else None


def _checked(world: World, batch: sqlite3.Row, rules: BatchRules) -> Validation:
    file_id = batch["input_file_id"]
    known = world.database.row("SELECT purpose FROM files WHERE id = ? AND deleted_at IS NULL", (file_id,))
    if known is None or rules.input_lost:
        message = f"Cannot find file {file_id}, or organization does not have access to it."
        return Validation(problems=[problem("invalid_request", message, param="file_id")])
    if known["purpose"] != "batch":
        return Validation(
            problems=[problem("invalid_request", f"File {file_id} has not the purpose 'batch'.", param="file_id")]
        )
    listed = world.served_models(batch["due_at"]) if world.dialect.unknown_models == "fail-batch" else None
    checks = Checks(world.dialect, batch["endpoint"], rules, world.script.limits, batch["model"], listed)
    return validate_file(world.file_path(FileId(file_id)), checks)


def _progress(world: World, batch: sqlite3.Row, rules: BatchRules) -> None:
    """Execute the lines whose time has come, or end the batch when its window runs out."""
    if rules.stuck_in == "in_progress":
        _suspend(world, batch)
        return
    done, total, pace = batch["lines_done"], batch["total"], rules.seconds_per_line
    now = world.clock.now()
    end = _window_end(batch, rules)
    within_window = _lines_by(batch, end, pace)
    unreachable = batch["held"] or within_window < total
    if done >= min(total, within_window) and unreachable and now >= end:
        error = EXPIRED if rules.expired_lines_listed else None
        if leave_unexecuted(world, batch, error):
            publish(world, batch, rules, "expired", held=error)
        return
    wanted = min(total, within_window, _lines_by(batch, now, pace)) - done
    chunk = read_chunk(world, batch, wanted) if wanted > 0 else Chunk(batch["input_offset"], batch["line_number"])
    executed = execute(world, batch, chunk, batch["in_progress_at"] + done * pace) if chunk.lines else None
    with world.write() as connection:
        if executed is not None:
            record_carried(connection, batch, chunk, executed)
        row = connection.execute("SELECT * FROM batches WHERE id = ?", (batch["id"],)).fetchone()
        _schedule(world, connection, row, pace)


def _window_end(batch: sqlite3.Row, rules: BatchRules) -> float:
    """Return the time at which a batch expires; some providers only name one and let it run on."""
    return math.inf if rules.never_expires else float(batch["expires_at"])


def _lines_by(batch: sqlite3.Row, when: float, pace: float) -> int:
    """Return the number of lines that are executed by a provider time."""
    if not pace or when == math.inf:
        return int(batch["total"])
    return max(0, int((when - batch["in_progress_at"]) / pace))


def _schedule(world: World, connection: sqlite3.Connection, batch: sqlite3.Row, pace: float) -> None:
    """Schedule the step after a chunk: the next chunk, the window's end, or finalizing. A concurrent cancellation has its own time."""
    started, done, total = batch["in_progress_at"], batch["lines_done"], batch["total"]
    rules = world.script.rules(world.ordinal(batch))
    end = _window_end(batch, rules)
    reachable = min(total, _lines_by(batch, end, pace))
    if done < reachable:
        # Without a minimum, a slow pace at high speed would wake the thread for every single line.
        ahead = max(1, math.ceil(_PACE_SECONDS * world.clock.speed / pace)) if pace else 0
        due_at = started + min(done + ahead, reachable) * pace
    elif batch["held"] or reachable < total:
        due_at = None if end == math.inf else end
    else:
        finished_at = min(started + total * pace, end)
        connection.execute(
            "UPDATE batches SET status = 'finalizing', finalizing_at = ?, due_at = ? WHERE id = ? AND status = 'in_progress'",
            (finished_at, finished_at + rules.finalizing_seconds, batch["id"]),
        )
        return
    connection.execute("UPDATE batches SET due_at = ? WHERE id = ? AND status = 'in_progress'", (due_at, batch["id"]))


def _suspend(world: World, batch: sqlite3.Row) -> None:
    """Leave a batch in its status; only a new scenario or a cancellation continues it."""
    with world.write() as connection:
        connection.execute(
            "UPDATE batches SET due_at = NULL WHERE id = ? AND status = ?", (batch["id"], batch["status"])
        )
