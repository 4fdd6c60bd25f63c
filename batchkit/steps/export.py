"""export: one line per request, in input order, in the provider's own line shape plus ours."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from batchkit import jsonl
from batchkit.errors import UsageError
from batchkit.models import RequestState
from batchkit.spool import disk_errors, part_of, sync_directory
from batchkit.store import results, shards

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from batchkit.models import ShardId, Workload
    from batchkit.store.engine import Store
    from batchkit.store.results import ExportRow

_ROWS_PER_ADVANCE = 2_000

CSV_COLUMNS = (
    "custom_id",
    "status",
    "answer",
    "finish_reason",
    "status_code",
    "error_code",
    "error_message",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "attempts",
    "batch_id",
)


def export(store: Store, workload: Workload, target: Path, *, advance: Callable[[int], None]) -> int:
    """Write all requests of a workload to ``target`` (``.jsonl`` or ``.csv``); returns how many.

    The file appears whole, by a rename, or not at all. A request that is not done yet has the status ``pending`` or
    ``in_flight``. Memory does not grow with the workload. Raises ``UsageError`` for another file type, ``SpoolError``.
    """
    render = _renderer(target)
    part = part_of(target)
    count = 0
    with store.read() as connection:
        batch_ids = shards.batch_ids(connection, workload.id)
        with disk_errors("write", target):
            target.absolute().parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb", buffering=1 << 20) as handle:
                for data in render(results.stream(connection, workload.id), batch_ids):
                    handle.write(data)
                    count += 1
                    if count % _ROWS_PER_ADVANCE == 0:
                        advance(_ROWS_PER_ADVANCE)
                handle.flush()
            part.replace(target)
            sync_directory(target.absolute().parent)
    advance(count % _ROWS_PER_ADVANCE)
    return count


def check_target(target: Path) -> None:
    """Raise ``UsageError`` when ``target`` is of no type that ``export`` writes."""
    _renderer(target)


def _renderer(target: Path) -> Callable[[Iterator[ExportRow], dict[ShardId, str | None]], Iterator[bytes]]:
    match target.suffix.lower():
        case ".jsonl" | ".ndjson":
            return _as_jsonl
        case ".csv":
            return _as_csv
        case other:
            raise UsageError(
                f"cannot export to {target}: {other or 'no file type'} is not written",
                hint="name a file that ends in .jsonl or .csv",
            )


def _batch_id(row: ExportRow, batch_ids: dict[ShardId, str | None]) -> str | None:
    """The batch that gave the result; the last one that carried the request when there is none."""
    return batch_ids.get(row.shard_id if row.result_shard_id is None else row.result_shard_id)


def _as_jsonl(rows: Iterator[ExportRow], batch_ids: dict[ShardId, str | None]) -> Iterator[bytes]:
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
            "batch_id": _batch_id(row, batch_ids),
        }
        yield jsonl.dumps(line) + b"\n"


def _as_csv(rows: Iterator[ExportRow], batch_ids: dict[ShardId, str | None]) -> Iterator[bytes]:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        writer.writerow(
            (
                row.custom_id,
                row.state,
                answer_text(row.body),
                row.finish_reason,
                row.status_code,
                row.error_code,
                row.error_message,
                row.prompt_tokens,
                row.completion_tokens,
                row.total_tokens,
                row.attempts,
                _batch_id(row, batch_ids),
            )
        )
        # One row at a time, and the header together with the first: the caller counts what it is given.
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()


def answer_text(body: str | None) -> str | None:
    """Pick the text of an answer: a chat message's content, or a transcript; None when it has none."""
    if body is None:
        return None
    value = jsonl.loads_leniently(body.encode())
    if not isinstance(value, dict):
        return value if isinstance(value, str) else None
    choices = value.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        message = choices[0].get("message")
        content = message.get("content") if isinstance(message, dict) else None
        return content if isinstance(content, str) else None
    text = value.get("text")
    return text if isinstance(text, str) else None
