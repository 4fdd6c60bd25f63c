"""Files to keep: the rows of a filter as a stream, one answer as it was received, the report of a page."""

from __future__ import annotations

import re
from typing import IO, TYPE_CHECKING, Any, Final, cast

from starlette.responses import Response, StreamingResponse

from batchkit.api.remembered import remembered
from batchkit.datasets import require_extra
from batchkit.errors import UnknownWorkload, UsageError
from batchkit.steps import csv_rows
from batchkit.steps.jsonl_rows import LineWriter
from batchkit.steps.replaced import ReplacedHalves
from batchkit.store import report_rows, results, shards
from batchkit.view.finding import Asked, every

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from starlette.requests import Request

    from batchkit.models import ShardId, Workload
    from batchkit.store.results import ExportRow
    from batchkit.view.app import View

    BatchIds = Mapping[ShardId, str | None]
    Batches = Iterator[Sequence[int]]

#: Each row may have an answer of a megabyte.
_AT_ONCE: Final = 32
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_KINDS: Final = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}


def download(view: View, request: Request) -> Response:
    """Stream the requests of a filter in the lines and columns of ``batchkit export``."""
    query = request.query_params
    workload = view.reader.find(query.get("name", ""))
    kind = query.get("format", "csv")
    if kind not in _KINDS:
        raise UsageError(f"{kind[:30]!r} is no format", hint="csv, jsonl or parquet")
    if kind == "parquet":
        require_extra()
    asked = Asked.of(query)
    total = workload.request_count or 0
    places = every(view.reader, workload, asked, total=total, at_once=_AT_ONCE)
    with view.reader.store.read() as connection:
        batch_ids = shards.batch_ids(connection, workload.id)
    write: dict[str, Callable[[View, Workload, Batches, BatchIds], Iterator[bytes]]] = {
        "csv": _csv,
        "jsonl": _jsonl,
        "parquet": _parquet,
    }
    return StreamingResponse(
        write[kind](view, workload, places, batch_ids),
        media_type=_KINDS[kind],
        headers=_attachment(f"{workload.name}.{kind}"),
    )


def answer(view: View, request: Request) -> Response:
    """Return one answer as it was received."""
    query = request.query_params
    workload = view.reader.find(query.get("name", ""))
    place = query.get("place", "")
    seq = int(place) - 1 if place.isascii() and place.isdigit() and len(place) < 19 else -1  # noqa: PLR2004 - digits of 64 bits
    with view.reader.store.read() as connection:
        row = next(iter(report_rows.report_rows(connection, workload.id, [seq])), None)
    if row is None or row.body is None:
        raise UnknownWorkload(f"{workload.name} has no answer to request {place[:30]!r}")
    return Response(row.body, media_type="application/json", headers=_attachment(f"{workload.name}-{place}.json"))


def report(view: View, request: Request) -> Response:
    """Return the file that ``batchkit report`` writes."""
    require_extra()
    from batchkit.reports.writing import default_target, report_page  # noqa: PLC0415 - an extra

    name = request.query_params.get("name", "")
    runner = view.reader.as_runner
    workload = runner.known(name)
    output = None if workload is None else remembered(workload)
    gold, weights = ((), None) if output is None else (output.gold, output.weights)
    text = report_page(runner, name, gold=gold, weights=weights)
    return Response(
        text.encode(), media_type="text/html; charset=utf-8", headers=_attachment(default_target(name).name)
    )


def _attachment(name: str) -> dict[str, str]:
    safe = _UNSAFE.sub("-", name).strip("-.") or "batchkit"
    return {"content-disposition": f'attachment; filename="{safe}"'}


def _csv(view: View, workload: Workload, places: Batches, batch_ids: BatchIds) -> Iterator[bytes]:
    def batch_id(row: ExportRow) -> str | None:
        return batch_ids.get(row.shard_id if row.result_shard_id is None else row.result_shard_id)

    def rows() -> Iterator[ExportRow]:
        for some in places:
            with view.reader.store.read() as connection:
                found = results.of_places(connection, workload.id, some)
            yield from found

    return csv_rows.render(rows(), batch_id, replaced=ReplacedHalves())


def _jsonl(view: View, workload: Workload, places: Batches, batch_ids: BatchIds) -> Iterator[bytes]:
    lines = LineWriter(batch_ids)
    for some in places:
        with view.reader.store.read() as connection:
            found = results.lines_of_places(connection, workload.id, some)
        yield lines.render(found)


def _parquet(view: View, workload: Workload, places: Batches, batch_ids: BatchIds) -> Iterator[bytes]:
    from batchkit.steps import parquet_rows  # noqa: PLC0415 - half a second, and an extra

    def parts() -> Iterator[Sequence[Sequence[Any]]]:
        for some in places:
            with view.reader.store.read() as connection:
                found = results.columns_of_places(connection, workload.id, some)
            yield found

    pipe = _Pipe()
    for _ in parquet_rows.write(parts(), batch_ids, cast("IO[bytes]", pipe), replaced=ReplacedHalves()):
        yield pipe.taken()
    yield pipe.taken()


class _Pipe:
    """A file that holds only what was written since the last ``taken``: a Parquet file is written from its beginning to its end."""

    closed = False
    mode = "wb"

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> int:
        """Take some bytes."""
        self._pieces.append(bytes(data))
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        """Return how many bytes were written in all."""
        return self._size

    def flush(self) -> None:
        """No-op: the bytes are taken whenever some rows are done."""

    def close(self) -> None:
        """No-op: the end of the file is taken last."""

    def taken(self) -> bytes:
        """Return what was written since the last call."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data

    def readable(self) -> bool:
        """Return False."""
        return False

    def writable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return False."""
        return False
