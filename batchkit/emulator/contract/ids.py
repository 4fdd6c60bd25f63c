"""Ids that look like a provider's, and the seeded hash behind every scripted decision.

Groq's ids are TypeIDs: a prefix, ``_`` and 26 characters of lower-case Crockford base32 that hold a UUID of version 7,
whose first 48 bits are the creation time in milliseconds (seen in the sample objects of console.groq.com/docs/batch).
Completions are ``chatcmpl-`` and a UUID of version 4.
"""

from __future__ import annotations

import base64
import os
from hashlib import blake2b
from typing import Literal, NewType
from uuid import UUID

FileId = NewType("FileId", str)
BatchId = NewType("BatchId", str)

IdStyle = Literal["typeid", "openai", "uuid", "unified"]
"""Groq's TypeIDs, OpenAI's prefixes, a bare UUID, or the long texts in which a LiteLLM proxy hides its own record."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
_LOW_62 = (1 << 62) - 1
_HASH_RANGE = float(1 << 64)


def stable_hash(*parts: str | int) -> int:
    """Return 128 bits that depend on ``parts`` alone: the same in every process and on every machine."""
    return int.from_bytes(
        blake2b("\x1f".join(map(str, parts)).encode("utf-8", "replace"), digest_size=16).digest(), "big"
    )


def fraction_of(*parts: str | int) -> float:
    """Return a number in [0, 1) for ``parts``, uniformly distributed and always the same for the same parts."""
    return (stable_hash(*parts) >> 64) / _HASH_RANGE


def time_prefix(seconds: float) -> str:
    """Encode a Unix time as the first 10 characters of a TypeID, shared by all ids of that millisecond."""
    milliseconds = int(seconds * 1000) & ((1 << 48) - 1)
    return "".join(_PAIRS[(milliseconds >> shift) & 1023] for shift in (40, 30, 20, 10, 0))


def id_suffix(entropy: int) -> str:
    """Encode the other 16 characters of a TypeID from the low 74 bits of ``entropy``."""
    value = 7 << 76 | ((entropy >> 62) & 0xFFF) << 64 | 2 << 62 | entropy & _LOW_62
    return (
        _PAIRS[value >> 70]
        + _PAIRS[(value >> 60) & 1023]
        + _PAIRS[(value >> 50) & 1023]
        + _PAIRS[(value >> 40) & 1023]
        + _PAIRS[(value >> 30) & 1023]
        + _PAIRS[(value >> 20) & 1023]
        + _PAIRS[(value >> 10) & 1023]
        + _PAIRS[value & 1023]
    )


def fresh_entropy() -> int:
    """Return 128 unpredictable bits: ids of files and batches must never repeat, not even across restarts."""
    return int.from_bytes(os.urandom(16), "big")


def type_id(prefix: str, seconds: float, entropy: int) -> str:
    """Return ``prefix_...`` for the Unix time ``seconds``."""
    return f"{prefix}_{time_prefix(seconds)}{id_suffix(entropy)}"


def file_id(seconds: float, entropy: int, style: IdStyle = "typeid") -> FileId:
    """Return the id of a file from its creation time and 128 bits."""
    if style == "openai":
        return FileId(f"file-{id_suffix(entropy)}{time_prefix(seconds)[4:]}")
    return FileId(_styled("file", seconds, entropy, style))


def new_file_id(seconds: float, style: IdStyle = "typeid") -> FileId:
    """Return the id of a file that is created now."""
    return file_id(seconds, fresh_entropy(), style)


def new_batch_id(seconds: float, style: IdStyle = "typeid") -> BatchId:
    """Return the id of a batch that is created now."""
    entropy = fresh_entropy()
    return BatchId(f"batch_{entropy:032x}" if style == "openai" else _styled("batch", seconds, entropy, style))


def _styled(prefix: str, seconds: float, entropy: int, style: IdStyle) -> str:
    if style == "typeid":
        return type_id(prefix, seconds, entropy)
    plain = str(UUID(int=entropy, version=4))
    if style == "uuid":
        return plain
    record = f"litellm_proxy:application/octet-stream;unified_id,{plain};kind,{prefix}"
    return base64.urlsafe_b64encode(record.encode()).decode().rstrip("=")


def new_request_id(seconds: float) -> str:
    """Return a request id, as in the ``x-request-id`` header and in ``x_groq.id``."""
    return type_id("req", seconds, fresh_entropy())


def completion_id(entropy: int) -> str:
    """Return a ``chatcmpl-`` id from 128 bits."""
    digits = f"{entropy & ((1 << 128) - 1):032x}"
    return f"chatcmpl-{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[entropy & 3]}{digits[17:20]}-{digits[20:]}"
