"""The vector of an answer of ``/embeddings``."""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Final

import msgspec

from batchkit.files import jsonl

_FLOAT_BYTES: Final = 4


class _Entry(msgspec.Struct):
    embedding: list[float] | str


class _Answer(msgspec.Struct):
    data: list[_Entry]


_read: Final = jsonl.typed_reader(_Answer)


def embedding_of(body: bytes | None) -> list[float] | None:
    """Return the vector of a stored answer to one input, also of one in base64 (little-endian floats of 32 bits).

    None for an answer to several inputs, which has several vectors, and for any other body.
    """
    if body is None:
        return None
    try:
        entries = _read(body).data
    except jsonl.UNREADABLE:
        return None
    if len(entries) != 1:
        return None
    vector = entries[0].embedding
    return _decoded(vector) if isinstance(vector, str) else vector


def _decoded(text: str) -> list[float] | None:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(data) % _FLOAT_BYTES:
        return None
    return list(struct.unpack(f"<{len(data) // _FLOAT_BYTES}f", data))
