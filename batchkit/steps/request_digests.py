"""What a request asks, as a digest: requests with the same digest may share an answer.

A digest covers the provider and its address, the endpoint, the bytes of the body as they are sent, and the number of the sample:
answers of another address never count, and several samples of one row stay several draws.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import msgspec

from batchkit.files import jsonl
from batchkit.models import ReuseMode
from batchkit.preflight import PLAIN_ENDPOINT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Bytes of a digest: among ten million of them, two are equal by chance once in 10^24 times.
DIGEST_BYTES: Final = 16
#: The letters of the names of members with an address (``url``, ``image_url``), as JSON may write them.
_ESCAPED_LETTERS: Final = tuple(b"\\u00%x" % ord(letter) for letter in "urlURL")
#: A reader of addresses skips these.
_SKIPPED: Final = "".join(map(chr, range(0x21)))
#: The only addresses that hold what they name.
_OWN: Final = "data:"


class _Line(msgspec.Struct, gc=False):
    body: msgspec.Raw


_read_lines: Final = jsonl.typed_lines_reader(_Line)
_read_line: Final = jsonl.typed_reader(_Line)


class RequestDigests:
    """Makes the digests of requests.

    ``scope`` names the provider and its address. With ``has_samples`` the custom_ids end with ``:`` and the number of the sample.
    """

    def __init__(self, mode: ReuseMode, *, scope: str, has_samples: bool) -> None:
        self._takes_addresses = mode is ReuseMode.URLS
        self._has_samples = has_samples
        self._begun = blake2b(f"{scope}\n".encode(), digest_size=DIGEST_BYTES)

    def of_lines(
        self, lines: list[bytes], custom_ids: Iterable[str], endpoints: Sequence[str], *, block: bytes = b""
    ) -> list[bytes | None]:
        r"""Return the digests of some lines; None for a request whose answer is not to be reused.

        Such a request names a remote image or recording, whose content may change. ``endpoints`` is empty when all lines go to
        ``PLAIN_ENDPOINT``. ``block`` has the lines, each followed by ``\n``; it is made if it is not given.
        """
        bodies = _bodies(block or b"".join(line + b"\n" for line in lines), lines)
        digests: list[bytes | None] = []
        for place, (body, custom_id) in enumerate(zip(bodies, custom_ids, strict=True)):
            if body is None or (not self._takes_addresses and _may_name(body) and names_remote_content(body)):
                digests.append(None)
                continue
            sample = custom_id.rpartition(":")[2] if self._has_samples else ""
            begun = self._begun.copy()
            begun.update(f"{endpoints[place] if endpoints else PLAIN_ENDPOINT}\n{sample}\n".encode())
            begun.update(body)
            digests.append(begun.digest())
        return digests


def _bodies(block: bytes, lines: list[bytes]) -> list[bytes | None]:
    """Return the body of each line as it is written there; None where it cannot be told."""
    read = jsonl.read_typed_lines(_read_lines, block, lines)
    if read is not None:
        return [bytes(line.body) for line in read]
    found: list[bytes | None] = []
    for line in lines:
        try:
            found.append(bytes(_read_line(line).body))
        except jsonl.UNREADABLE:
            found.append(None)
    return found


def _may_name(body: bytes) -> bool:
    """Return whether a member's name may be that of an address; most bodies are not parsed."""
    lowered = body.lower()
    return b"url" in lowered or (b"\\u00" in lowered and any(letter in lowered for letter in _ESCAPED_LETTERS))


def names_remote_content(body: bytes) -> bool:
    """Return whether a request's body has the address of something that the provider fetches, such as an image or a recording."""
    try:
        waiting: list[Any] = [jsonl.loads(body)]
    except jsonl.MalformedJson:
        return True
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            for name, member in value.items():
                if isinstance(member, str) and _is_address_name(name.lower()):
                    if not member.lstrip(_SKIPPED).lower().startswith(_OWN):
                        return True
                else:
                    waiting.append(member)
    return False


def _is_address_name(name: str) -> bool:
    return name == "url" or name.endswith("_url")
