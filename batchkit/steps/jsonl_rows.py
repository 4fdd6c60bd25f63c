"""Results as lines of a JSONL file: the provider's own line shape plus ours.

A line is put together from bytes that are JSON already: the body as it is stored, and pieces that are written once for all
requests that ended in the same way. To build an object and write it would cost as much as all that the database does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from batchkit.files import jsonl
from batchkit.models import RequestState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batchkit.models import ShardId
    from batchkit.store.results import LineRow

    #: State, status code, attempts and shard.
    _Ending = tuple[str, int | None, int, ShardId]

_NULL = b"null"


class _Frame(NamedTuple):
    """What stands around request id, body and error of a line.

    ``end`` closes the line after an error; ``rest`` is what follows the body of a line that has none.
    """

    status: bytes
    response: bytes
    is_answered: bool
    is_failed: bool
    end: bytes
    rest: bytes


class _Frames(dict["_Ending", _Frame]):
    """The frame for each way in which requests ended, made when it is first asked for."""

    def __init__(self, batch_ids: Mapping[ShardId, str | None]) -> None:
        super().__init__()
        self._batch_ids = batch_ids

    def __missing__(self, ending: _Ending) -> _Frame:
        state, status_code, attempts, shard_id = ending
        status = b',"status":' + jsonl.dumps(state)
        response = status + b',"response":{"status_code":' + jsonl.dumps(status_code) + b',"request_id":'
        batch_id = jsonl.dumps(self._batch_ids.get(shard_id))
        end = b',"attempts":%d,"batch_id":%b}\n' % (attempts, batch_id)
        is_failed = state == RequestState.FAILED
        frame = _Frame(status, response, status_code is not None, is_failed, end, b'},"error":null' + end)
        self[ending] = frame
        return frame


class LineWriter:
    """Writes rows as lines; ``batch_ids`` names the batch of each shard."""

    def __init__(self, batch_ids: Mapping[ShardId, str | None]) -> None:
        self._frames = _Frames(batch_ids)

    def render(self, rows: Iterable[LineRow]) -> bytes:
        """Write a block of rows."""
        frames, dumps = self._frames, jsonl.dumps_text
        pieces: list[bytes] = []
        for row in rows:
            custom_id, request_id, state, status_code, attempts, shard_id, _, _, body = row
            frame = frames[state, status_code, attempts, shard_id]
            if body is None or frame.is_failed:
                pieces += self._seldom(row, frame)
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
    def _seldom(row: LineRow, frame: _Frame) -> tuple[bytes, ...]:
        custom_id, request_id, _, _, _, _, code, message, body = row
        head = b'{"custom_id":' + jsonl.dumps(custom_id)
        error = jsonl.dumps({"code": code, "message": message}) if frame.is_failed else _NULL
        if body is None and not frame.is_answered:
            return head, frame.status, b',"response":null,"error":', error, frame.end
        body = _NULL if body is None else body
        return head, frame.response, jsonl.dumps(request_id), b',"body":', body, b'},"error":', error, frame.end
