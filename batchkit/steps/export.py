"""export: write one line per request, in input order, in the provider's line shape with our fields, or as a table."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from batchkit.errors import UsageError
from batchkit.files import jsonl, outputs
from batchkit.files.spool import disk_errors, whole_file
from batchkit.preflight.rules import EMBEDDINGS
from batchkit.steps import csv_rows
from batchkit.steps.jsonl_rows import LineWriter
from batchkit.steps.replaced import ReplacedHalves
from batchkit.store import results, shards

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from batchkit.models import ShardId, Workload, WorkloadId
    from batchkit.steps.answer_copies import AnswerCopies
    from batchkit.store.engine import Store
    from batchkit.store.results import ExportRow

    BatchIds = Mapping[ShardId, str | None]

_ROWS_PER_ADVANCE = 2_000
_WRITE_BACK_BYTES = 8_000_000

#: Writes all requests into a file, and yields numbers of rows written.
Write = Callable[["Connection", "WorkloadId", "BatchIds", IO[bytes]], Iterator[int]]
#: Takes the bodies of some results.
NoteBodies = Callable[["Iterable[bytes | None]"], None]


def export(
    store: Store,
    workload: Workload,
    target: Path,
    *,
    copies: AnswerCopies | None = None,
    raw_csv: bool = False,
    advance: Callable[[int], None],
) -> int:
    """Write all requests of a workload to ``target`` (``.jsonl``, ``.csv`` or ``.parquet``); return how many.

    The file appears complete, by a rename, or not at all. A new file gets the default permissions, a replaced one keeps its
    permissions. A request that is not final yet has the status ``pending`` or ``in_flight``. ``raw_csv`` keeps cells of a ``.csv``
    that a spreadsheet would run as formulas (see ``csv_rows``). ``copies`` takes the files of binary answers. Memory does not grow with the workload. Raises ``UsageError`` for
    another file type, and ``SpoolError``.
    """
    replaced = ReplacedHalves()
    write = _writer(target, raw_csv=raw_csv, replaced=replaced, note=_ignore if copies is None else copies.note)
    count = told = 0
    with store.read() as connection:
        batch_ids = shards.batch_ids(connection, workload.id)
        with disk_errors("write", target), whole_file(target) as handle:
            write_back = _WriteBack(handle)
            for rows in write(connection, workload.id, batch_ids, handle):
                count += rows
                if count - told >= _ROWS_PER_ADVANCE:
                    advance(count - told)
                    told = count
                    write_back.begin()
    advance(count - told)
    replaced.report(str(target))
    if copies is not None:
        copies.report()
    return count


def check_target(target: Path, *, inputs: Iterable[Path] = ()) -> None:
    """Raise ``UsageError`` when ``export`` cannot write ``target``, or when that is one of ``inputs``; nothing is created."""
    outputs.check_file(target, inputs=inputs)
    _writer(target, raw_csv=False, replaced=ReplacedHalves())


def input_files(workload: Workload) -> list[Path]:
    """Return the files that a workload was split from, by the paths of its command, and those of the table that it was made from."""
    found = [Path(workload.source), *map(Path, workload.source.split(", "))]
    recipe = {} if workload.recipe is None else jsonl.loads(workload.recipe)
    for path in recipe.get("paths", ()):
        if Path(path).is_dir():
            found += Path(path).iterdir()
        else:
            found += [Path(path), *map(Path, glob.glob(path, recursive=True))]  # noqa: PTH207 - of an absolute pattern
    return found


class _WriteBack:
    """Starts writing to the disk early, so that the final sync is short."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        self._done = 0

    def begin(self) -> None:
        """Start writing what was added since the last call, if there is enough."""
        size = self._handle.tell() - self._done
        if size >= _WRITE_BACK_BYTES:
            # On Linux this advice starts the writing and does not wait; elsewhere the final sync writes everything.
            advice = getattr(os, "POSIX_FADV_DONTNEED", None)
            if advice is not None and hasattr(os, "posix_fadvise"):
                os.posix_fadvise(self._handle.fileno(), self._done, size, advice)
            self._done += size


def _ignore(_bodies: Iterable[bytes | None]) -> None:
    pass


def _writer(target: Path, *, raw_csv: bool, replaced: ReplacedHalves, note: NoteBodies = _ignore) -> Write:
    match target.suffix.lower():
        case ".jsonl" | ".ndjson":
            return partial(_write_jsonl, note=note)
        case ".csv":
            return partial(_write_csv, raw=raw_csv, replaced=replaced, note=note)
        case ".parquet":
            if find_spec("pyarrow") is None:
                raise UsageError(
                    f"cannot export to {target}: pyarrow, which writes Parquet, is not installed",
                    hint="pip install 'groq-batchkit[parquet]'",
                )
            return partial(_write_parquet, replaced=replaced, note=note)
        case other:
            raise UsageError(
                f"cannot export to {target}: {f'no format ends in {other}' if other else 'the name has no ending'}",
                hint="name a file that ends in .jsonl, .csv or .parquet",
            )


def _write_jsonl(
    connection: Connection, workload_id: WorkloadId, batch_ids: BatchIds, handle: IO[bytes], *, note: NoteBodies
) -> Iterator[int]:
    lines = LineWriter(batch_ids)
    place = results.LINE_COLUMNS.index("body")
    for rows in results.stream_lines(connection, workload_id):
        note(row[place] for row in rows)  # type: ignore[misc] # a row's columns have types of their own
        handle.write(lines.render(rows))
        yield len(rows)


def _write_csv(
    connection: Connection,
    workload_id: WorkloadId,
    batch_ids: BatchIds,
    handle: IO[bytes],
    *,
    raw: bool,
    replaced: ReplacedHalves,
    note: NoteBodies,
) -> Iterator[int]:
    rows = _noted(results.stream(connection, workload_id), note)

    def batch_id(row: ExportRow) -> str | None:
        return batch_ids.get(row.shard_id if row.result_shard_id is None else row.result_shard_id)

    for data in csv_rows.render(rows, batch_id, raw=raw, replaced=replaced):
        handle.write(data)
        yield 1


def _write_parquet(
    connection: Connection,
    workload_id: WorkloadId,
    batch_ids: BatchIds,
    handle: IO[bytes],
    *,
    replaced: ReplacedHalves,
    note: NoteBodies,
) -> Iterator[int]:
    from batchkit.steps import parquet_rows  # noqa: PLC0415 - half a second, and an extra

    place = results.TABLE_COLUMNS.index("body")
    parts = _noted_columns(results.stream_columns(connection, workload_id), place, note)
    has_embeddings = EMBEDDINGS in shards.endpoints(connection, workload_id)
    return parquet_rows.write(parts, batch_ids, handle, replaced=replaced, has_embeddings=has_embeddings)


def _noted(rows: Iterator[ExportRow], note: NoteBodies) -> Iterator[ExportRow]:
    for row in rows:
        note((row.body,))
        yield row


def _noted_columns(parts: Iterator[list[Sequence[Any]]], place: int, note: NoteBodies) -> Iterator[list[Sequence[Any]]]:
    for part in parts:
        note(part[place])
        yield part
