"""export: one line per request, in input order, in the provider's own line shape plus ours."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from batchkit import jsonl
from batchkit.errors import UsageError
from batchkit.models import RequestState
from batchkit.spool import disk_errors, part_of, sync_directory
from batchkit.steps import csv_rows
from batchkit.store import results, shards

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

    from batchkit.models import ShardId, Workload
    from batchkit.store.engine import Store
    from batchkit.store.results import ExportRow

_ROWS_PER_ADVANCE = 2_000

Render = Callable[[Iterator["ExportRow"], Callable[["ExportRow"], str | None]], Iterator[bytes]]


def export(
    store: Store, workload: Workload, target: Path, *, raw_csv: bool = False, advance: Callable[[int], None]
) -> int:
    """Write all requests of a workload to ``target`` (``.jsonl`` or ``.csv``); returns how many.

    The file appears whole, by a rename, or not at all. It is the user's own: a new one gets the rights that any new file
    gets, one that is replaced keeps those it had. A request that is not done yet has the status ``pending`` or
    ``in_flight``. ``raw_csv`` leaves in a ``.csv`` what a spreadsheet would run as a formula (see ``csv_rows``). Memory does
    not grow with the workload. Raises ``UsageError`` for another file type, ``SpoolError``.
    """
    render = _renderer(target, raw_csv=raw_csv)
    part = part_of(target)
    count = 0
    with store.read() as connection:
        batch_ids = shards.batch_ids(connection, workload.id)
        with disk_errors("write", target):
            target.absolute().parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb", buffering=1 << 20) as handle:
                _keep_rights(target, handle)
                for data in render(results.stream(connection, workload.id), partial(_batch_id, batch_ids)):
                    handle.write(data)
                    count += 1
                    if count % _ROWS_PER_ADVANCE == 0:
                        advance(_ROWS_PER_ADVANCE)
                handle.flush()
                os.fsync(handle.fileno())
            part.replace(target)
            sync_directory(target.absolute().parent)
    advance(count % _ROWS_PER_ADVANCE)
    return count


def check_target(target: Path) -> None:
    """Raise ``UsageError`` when ``target`` is of no type that ``export`` writes."""
    _renderer(target)


def _keep_rights(target: Path, handle: IO[bytes]) -> None:
    if target.exists():
        os.fchmod(handle.fileno(), stat.S_IMODE(target.stat().st_mode))


def _renderer(target: Path, *, raw_csv: bool = False) -> Render:
    match target.suffix.lower():
        case ".jsonl" | ".ndjson":
            return _as_jsonl
        case ".csv":
            return partial(csv_rows.render, raw=raw_csv)
        case other:
            raise UsageError(
                f"cannot export to {target}: {other or 'no file type'} is not written",
                hint="name a file that ends in .jsonl or .csv",
            )


def _batch_id(batch_ids: dict[ShardId, str | None], row: ExportRow) -> str | None:
    """The batch that gave the result; the last one that carried the request when there is none."""
    return batch_ids.get(row.shard_id if row.result_shard_id is None else row.result_shard_id)


def _as_jsonl(rows: Iterator[ExportRow], batch_id_of: Callable[[ExportRow], str | None]) -> Iterator[bytes]:
    for row in rows:
        response: dict[str, Any] | None = None
        if row.status_code is not None or row.body is not None:
            response = {
                "status_code": row.status_code,
                "request_id": row.request_id,
                "body": None if row.body is None else jsonl.fragment(row.body),
            }
        error = None
        if row.state == RequestState.FAILED:
            error = {"code": row.error_code, "message": row.error_message}
        line = {
            "custom_id": row.custom_id,
            "status": row.state,
            "response": response,
            "error": error,
            "attempts": row.attempts,
            "batch_id": batch_id_of(row),
        }
        yield jsonl.dumps(line) + b"\n"
