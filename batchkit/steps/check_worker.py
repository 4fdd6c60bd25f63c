"""The process that checks blocks of lines for a split: ``python -m batchkit.steps.check_worker MAX_LINE_BYTES``.

It reads the rules of lines, pickled, and then blocks from standard input and writes the result of each check to standard output. Each message begins with its length
(8 bytes, big-endian). The process ends when its input does, also when its parent was killed, and knows no secret.
"""

from __future__ import annotations

import pickle
import sys
from typing import IO, TYPE_CHECKING

import msgspec

from batchkit.steps.block_check import BlockVerdict, check_block

if TYPE_CHECKING:
    from batchkit.preflight import LineRules

_LENGTH_BYTES = 8

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(BlockVerdict).decode


def send(stream: IO[bytes], data: bytes) -> None:
    """Write one message."""
    stream.write(len(data).to_bytes(_LENGTH_BYTES, "big"))
    stream.write(data)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """Read one message; None when no whole message is left."""
    head = stream.read(_LENGTH_BYTES)
    if len(head) < _LENGTH_BYTES:
        return None
    length = int.from_bytes(head, "big")
    data = stream.read(length)
    return data if len(data) == length else None


def receive_verdict(stream: IO[bytes]) -> BlockVerdict | None:
    """Read the result of one check; None when no whole message is left."""
    data = receive(stream)
    return None if data is None else _decode(data)


def main() -> None:
    """Check blocks until the input ends."""
    max_line_bytes = int(sys.argv[1])
    pickled = receive(sys.stdin.buffer)
    if pickled is None:
        return
    rules: LineRules = pickle.loads(pickled)  # noqa: S301 - our parent process wrote it
    while (block := receive(sys.stdin.buffer)) is not None:
        send(sys.stdout.buffer, _encode(check_block(block, rules=rules, max_line_bytes=max_line_bytes)))


if __name__ == "__main__":
    main()
