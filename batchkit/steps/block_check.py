"""Checking a block of lines: pure, so that another process can do it."""

from __future__ import annotations

from msgspec import Struct

from batchkit import preflight
from batchkit.files import jsonl


class BlockVerdict(Struct, array_like=True, gc=False):
    """The result of a block's check. Except ``endpoints`` and ``problems``, each list has one entry per line.

    ``lengths`` are in bytes, without the line ends. The custom_id of a line is empty when it cannot be read.
    ``endpoints`` is empty when every line goes to ``preflight.PLAIN_ENDPOINT``; a line with problems may have an empty endpoint.
    ``problems`` are pairs of the line's index in the block and the reason, in order.
    """

    custom_ids: list[str]
    lengths: list[int]
    endpoints: list[str]
    problems: list[tuple[int, str]]


def check_block(block: bytes, *, max_line_bytes: int) -> BlockVerdict:
    r"""Check lines that each end with ``\n``."""
    lines = block.split(b"\n")
    lines.pop()
    lengths = list(map(len, lines))
    if max(lengths) <= max_line_bytes:
        custom_ids = preflight.plain_ids(block, lines)
        if custom_ids is not None:
            return BlockVerdict(custom_ids, lengths, [], [])
    verdict = BlockVerdict([], lengths, [], [])
    for index, line in enumerate(lines):
        custom_id, endpoint, reasons = _check_line(line, max_line_bytes)
        verdict.custom_ids.append(custom_id or "")
        verdict.endpoints.append(endpoint or "")
        verdict.problems.extend((index, reason) for reason in reasons)
    return verdict


def _check_line(line: bytes, max_line_bytes: int) -> tuple[str | None, str | None, tuple[str, ...]]:
    try:
        record = read_line(line, max_line_bytes)
    except jsonl.MalformedJson as error:
        return None, None, (str(error),)
    found = preflight.inspect(record, len(line))
    return found.custom_id, found.endpoint, found.reasons


def read_line(line: bytes, max_line_bytes: int) -> object:
    """Parse one line of the input. Raises ``MalformedJson`` with a complete reason."""
    if len(line) > max_line_bytes:
        raise jsonl.MalformedJson(f"the line is longer than a shard file may be ({max_line_bytes + 1:,} bytes)")
    try:
        return jsonl.loads(line)
    except jsonl.MalformedJson as error:
        reason = "the line is blank" if not line.strip() else f"not a JSON object: {error}"
        raise jsonl.MalformedJson(reason) from error
