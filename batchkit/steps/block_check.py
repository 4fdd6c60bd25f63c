"""Checking a block of lines: pure, so that another process can do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from batchkit import preflight
from batchkit.files import jsonl

if TYPE_CHECKING:
    from batchkit.preflight import LineRules


class BlockVerdict(Struct, array_like=True, gc=False):
    """The result of a block's check. ``custom_ids`` and ``lengths`` have one entry per line that is not blank.

    ``lengths`` are in bytes, without the line ends. The custom_id of a line is empty when it cannot be read.
    ``endpoints`` is empty when every line goes to ``preflight.PLAIN_ENDPOINT``; a line with problems may have an empty endpoint.
    ``problems`` are pairs of the line's index in the block and the reason, in order. ``blanks`` are the indexes of blank lines, in
    order: they are no requests. ``models`` are those of lines without a problem, each once. ``line_models`` has the model of each line
    where the rules allow one model in a file, else nothing.
    """

    custom_ids: list[str]
    lengths: list[int]
    endpoints: list[str]
    problems: list[tuple[int, str]]
    blanks: list[int] = []
    models: list[str] = []
    line_models: list[str] = []


def check_block(block: bytes, *, rules: LineRules, max_line_bytes: int) -> BlockVerdict:
    r"""Check lines that each end with ``\n``."""
    lines = lines_of(block)
    plain = _plain(block, lines, rules, max_line_bytes)
    if plain is not None:
        return plain
    blanks = [index for index, line in enumerate(lines) if is_blank(line, max_line_bytes)]
    if blanks:
        plain = _plain(*without_lines(lines, blanks), rules, max_line_bytes)
        if plain is not None:
            plain.blanks = blanks
            return plain
    verdict = BlockVerdict([], [], [], [], blanks)
    models: set[str] = set()
    for index, line in enumerate(lines):
        if is_blank(line, max_line_bytes):
            continue
        custom_id, endpoint, model, reasons = _check_line(line, rules, max_line_bytes)
        verdict.lengths.append(len(line))
        verdict.custom_ids.append(custom_id or "")
        verdict.endpoints.append(endpoint or "")
        verdict.problems.extend((index, reason) for reason in reasons)
        if rules.has_one_model:
            verdict.line_models.append(model or "")
        if model is not None and not reasons:
            models.add(model)
    verdict.models = sorted(models)
    return verdict


def is_blank(line: bytes, max_line_bytes: int) -> bool:
    """Whether a line is blank; of one that is too long, only the beginning is known."""
    return len(line) <= max_line_bytes and not line.strip()


def lines_of(block: bytes) -> list[bytes]:
    r"""Return the lines of a block, each of which ends with ``\n``, without their ends."""
    lines = block.split(b"\n")
    lines.pop()
    return lines


def without_lines(lines: list[bytes], indexes: list[int]) -> tuple[bytes, list[bytes]]:
    """Return a block without the lines at ``indexes``, and its lines."""
    left_out = set(indexes)
    kept = [line for index, line in enumerate(lines) if index not in left_out]
    return b"".join(line + b"\n" for line in kept), kept


def _plain(block: bytes, lines: list[bytes], rules: LineRules, max_line_bytes: int) -> BlockVerdict | None:
    """Return the verdict of a block of plain chats of allowed lengths; None for any other block."""
    lengths = list(map(len, lines))
    if max(lengths, default=0) > max_line_bytes:
        return None
    chats = preflight.plain_chats(block, lines, rules)
    if chats is None:
        return None
    verdict = BlockVerdict([chat.custom_id for chat in chats], lengths, [], [])
    models = [chat.body.model for chat in chats]
    verdict.models = sorted(set(models))
    if rules.has_one_model:
        verdict.line_models = models
    return verdict


def _check_line(
    line: bytes, rules: LineRules, max_line_bytes: int
) -> tuple[str | None, str | None, str | None, tuple[str, ...]]:
    try:
        record = read_line(line, max_line_bytes)
    except jsonl.MalformedJson as error:
        return None, None, None, (str(error),)
    found = preflight.inspect(record, len(line), rules)
    return found.custom_id, found.endpoint, found.model, found.reasons


def read_line(line: bytes, max_line_bytes: int) -> object:
    """Parse one line of the input. Raises ``MalformedJson`` with a complete reason."""
    if len(line) > max_line_bytes:
        raise jsonl.MalformedJson(f"the line is longer than a shard file may be ({max_line_bytes + 1:,} bytes)")
    try:
        return jsonl.loads(line)
    except jsonl.MalformedJson as error:
        raise jsonl.MalformedJson(f"not a JSON object: {error}") from error
