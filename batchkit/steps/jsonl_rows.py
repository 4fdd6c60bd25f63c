"""Results as lines of a JSONL file: the provider's line shape with our fields.

A line is joined from bytes that are JSON already: the body as it is stored, and pieces that are built once for all requests
with the same ending. Building an object and serialising it would take as long as all the work of the database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from batchkit.files import jsonl
from batchkit.models import RequestState
from batchkit.store.results import Ending

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batchkit.models import ShardId
    from batchkit.store.results import LineRow

_NULL = b"null"


class _Frame(NamedTuple):
    """The constant pieces of a line, around its request id, body and error.

    ``end`` closes the line after an error; ``rest`` follows the body of a line without an error.
    """

    status: bytes
    response: bytes
    is_answered: bool
    is_failed: bool
    end: bytes
    rest: bytes


class _Frames(dict[int, _Frame]):
    """The frame for the number of each ending, built at its first use."""

    def __init__(self, batch_ids: Mapping[ShardId, str | None]) -> None:
        super().__init__()
        self._batch_ids = batch_ids

    def __missing__(self, number: int) -> _Frame:
        state, status_code, attempts, shard_id = Ending.of(number)
        status = b',"status":' + jsonl.dumps(state)
        response = status + b',"response":{"status_code":' + jsonl.dumps(status_code) + b',"request_id":'
        batch_id = jsonl.dumps(self._batch_ids.get(shard_id))
        end = b',"attempts":%d,"batch_id":%b}\n' % (attempts, batch_id)
        is_failed = state == RequestState.FAILED
        frame = _Frame(status, response, status_code is not None, is_failed, end, b'},"error":null' + end)
        self[number] = frame
        return frame


class LineWriter:
    """Renders rows as lines; ``batch_ids`` maps shards to their batches."""

    def __init__(self, batch_ids: Mapping[ShardId, str | None]) -> None:
        self._frames = _Frames(batch_ids)

    def render(self, rows: Iterable[LineRow]) -> bytes:
        """Return a block of rows as lines."""
        frames, dumps = self._frames, jsonl.dumps_text
        pieces: list[bytes] = []
        for row in rows:
            custom_id, request_id, ending, _, _, body, reused_from = row
            frame = frames[ending]
            if body is None or frame.is_failed or reused_from is not None:
                pieces += self._unusual_line(row, frame)
            else:
                pieces += (
                    b'{"custom_id":',
                    dumps(custom_id),
                    frame.response,
                    dumps(request_id),
                    b',"body":',
                    body,
                    frame.rest,
                )
        return b"".join(pieces)

    @staticmethod
    def _unusual_line(row: LineRow, frame: _Frame) -> tuple[bytes, ...]:
        custom_id, request_id, _, code, message, body, reused_from = row
        head = b'{"custom_id":' + jsonl.dumps(custom_id)
        end = frame.end
        if reused_from is not None:
            end = b',"reused_from":' + jsonl.dumps(reused_from) + end
        error = jsonl.dumps({"code": code, "message": message}) if frame.is_failed else _NULL
        if body is None and not frame.is_answered:
            return head, frame.status, b',"response":null,"error":', error, end
        body = _NULL if body is None else body
        return head, frame.response, jsonl.dumps(request_id), b',"body":', body, b'},"error":', error, end
