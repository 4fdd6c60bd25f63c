"""Rows in the binary format of Postgres' COPY, put together here where there are millions of them.

The driver's way, row by row, takes three to four times as long. Each function gives what writes its rows into a COPY.
"""

from __future__ import annotations

from functools import partial
from itertools import chain, islice, repeat
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from batchkit.models import ShardId, WorkloadId
    from batchkit.store.bulk import BodyRow, RequestRow, SuccessRow

#: A file of COPY's binary format (postgresql.org/docs/current/sql-copy.html): a signature, flags, an extension that is
#: empty; rows; and a row of -1 columns.
_COPY_BEGIN: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END: Final = b"\xff\xff"
#: A row of ``bodies`` up to its body: the number of columns, then each one's length in bytes and its value.
_BODY_HEAD: Final = Struct(">hiqiqi")
#: The same for a row of ``requests``, up to the custom_id and behind it.
_REQUEST_HEAD: Final = Struct(">hiqi9siqiqi")
_REQUEST_TAIL: Final = Struct(">iqii")
#: The same for a row of ``results`` that is a success: what all of a shard have in common, seq and attempt, and the tokens.
_SUCCESS_COMMON: Final = Struct(">hiqiqi9sih")
_SUCCESS_PLACE: Final = Struct(">iqih")
_TOKENS: Final = Struct(">iiiiii")
_LENGTH: Final = Struct(">i")
_NULL: Final = _LENGTH.pack(-1)
#: Few enough for a piece to stay below what the C library fetches from the system each time anew.
_BODIES_PER_WRITE: Final = 64
_ROWS_PER_WRITE: Final = 500


def rows(types: Sequence[str], given: Iterable[Sequence[Any]]) -> Callable[[Any], None]:
    """Give what writes rows of these types into a COPY."""

    def write(copy: Any) -> None:
        copy.set_types(types)
        write_row = copy.write_row
        for row in given:
            write_row(row)

    return write


def requests(workload_id: WorkloadId, given: Iterable[RequestRow]) -> Callable[[Any], None]:
    """Do the same for new requests, in flight: put together here, for a third of the time."""

    def write(copy: Any) -> None:
        head, tail = partial(_REQUEST_HEAD.pack, 7, 8, workload_id, 9, b"in_flight", 8), _REQUEST_TAIL.pack
        copy.write(_COPY_BEGIN)
        left = iter(given)
        while block := list(islice(left, _ROWS_PER_WRITE)):
            pieces: list[bytes] = []
            for shard_id, seq, custom_id, offset, length in block:
                name = custom_id.encode()
                pieces += (head(shard_id, 8, seq, len(name)), name, tail(8, offset, 4, length))
            copy.write(b"".join(pieces))
        copy.write(_COPY_END)

    return write


def bodies(shard_id: ShardId, given: Sequence[BodyRow]) -> Callable[[Any], None]:
    """Do the same for ``bodies``, which are most of what is ever copied."""

    def write(copy: Any) -> None:
        texts = [body.encode() for _, body in given]
        heads = map(
            _BODY_HEAD.pack,
            repeat(3),
            repeat(8),
            repeat(shard_id),
            repeat(8),
            [seq for seq, _ in given],
            map(len, texts),
        )
        pieces = chain.from_iterable(zip(heads, texts, strict=False))
        copy.write(_COPY_BEGIN)
        while block := b"".join(islice(pieces, 2 * _BODIES_PER_WRITE)):
            copy.write(block)
        copy.write(_COPY_END)

    return write


def successes(workload_id: WorkloadId, shard_id: ShardId, given: Sequence[SuccessRow]) -> Callable[[Any], None]:
    """Do the same for results that are successes with status 200."""

    def write(copy: Any) -> None:
        common = _SUCCESS_COMMON.pack(11, 8, workload_id, 8, shard_id, 9, b"succeeded", 2, 200)
        reasons = {reason: _text(reason) for reason in {row[3] for row in given}}
        place, tokens = _SUCCESS_PLACE.pack, _TOKENS.pack
        copy.write(_COPY_BEGIN)
        left = iter(given)
        while block := list(islice(left, _ROWS_PER_WRITE)):
            pieces: list[bytes] = []
            for seq, attempt, request_id, reason, prompt, completion, total in block:
                pieces += (common, place(8, seq, 2, attempt), _text(request_id), reasons[reason])
                if prompt is None or completion is None or total is None:
                    pieces += map(_number, (prompt, completion, total))
                else:
                    pieces.append(tokens(4, prompt, 4, completion, 4, total))
            copy.write(b"".join(pieces))
        copy.write(_COPY_END)

    return write


def _text(value: str | None) -> bytes:
    if value is None:
        return _NULL
    data = value.encode()
    return _LENGTH.pack(len(data)) + data


def _number(value: int | None) -> bytes:
    return _NULL if value is None else _LENGTH.pack(4) + _LENGTH.pack(value)
