"""The input, line by line: checked, counted, and refused as a whole with all that is wrong with it."""

from __future__ import annotations

from heapq import nsmallest
from typing import TYPE_CHECKING, Any, NamedTuple

from batchkit import jsonl, preflight, sources
from batchkit.errors import InputInvalid, Problem
from batchkit.preflight.findings import describe
from batchkit.sharding import MAX_FILE_BYTES
from batchkit.uniqueness import SeenIds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

#: How many problems are shown; all are counted.
SHOWN_PROBLEMS = 20

_LINES_PER_ADVANCE = 2_000


class CheckedLine(NamedTuple):
    """A line that may be sent; ``line`` is its bytes as they stand in the input, without the newline."""

    custom_id: str
    endpoint: str
    model: str
    line: bytes
    record: Any
    warnings: tuple[str, ...]


class InputCheck:
    """One pass over the input. ``digest`` is complete, and ``line_count`` final, when ``lines`` is exhausted."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        max_line_bytes: int,
        digest: sources.Digest | None,
        advance: Callable[[int], None],
    ) -> None:
        self._paths = paths
        self._max_line_bytes = min(max_line_bytes, MAX_FILE_BYTES) - 1
        self._digest = digest
        self._advance = advance
        self._problems: list[tuple[int, Problem]] = []
        self._problem_count = 0
        self._seen = SeenIds()
        self.line_count = 0

    def lines(self) -> Iterator[CheckedLine]:
        """Yield the lines while there is no problem; read on to the end in any case.

        Raises ``InputInvalid`` at the end when there were problems, and ``InputUnreadable``.
        """
        unreported = 0
        for path, number, line in sources.read_lines(
            self._paths, max_line_bytes=self._max_line_bytes, digest=self._digest
        ):
            self.line_count += 1
            unreported += 1
            if unreported == _LINES_PER_ADVANCE:
                self._advance(unreported)
                unreported = 0
            checked = self._check(path, number, line)
            if checked is not None and not self._problem_count:
                yield checked
        self._advance(unreported)
        suspects = self._seen.suspects()
        if suspects:
            self._find_repeated(suspects)
        if self._problem_count:
            first = nsmallest(SHOWN_PROBLEMS, self._problems, key=lambda entry: entry[0])
            raise InputInvalid([problem for _, problem in first], self._problem_count)
        if not self.line_count:
            raise InputInvalid([Problem(_names(self._paths), 1, "the input is empty: there is nothing to do")], 1)

    def _check(self, path: Path, number: int, line: bytes) -> CheckedLine | None:
        if len(line) > self._max_line_bytes:
            self._add_problem(
                path, number, f"the line is longer than a shard file may be ({self._max_line_bytes + 1:,} bytes)"
            )
            return None
        try:
            record = jsonl.loads(line)
        except jsonl.MalformedJson as error:
            reason = "the line is blank" if not line.strip() else f"not a JSON object: {error}"
            self._add_problem(path, number, reason)
            return None
        found = preflight.inspect(record, len(line))
        if found.custom_id is not None:
            self._seen.add(found.custom_id)
        for reason in found.reasons:
            self._add_problem(path, number, reason)
        if found.reasons or found.custom_id is None or found.endpoint is None or found.model is None:
            return None
        return CheckedLine(found.custom_id, found.endpoint, found.model, line, record, found.warnings)

    def _add_problem(self, path: Path, number: int, reason: str, *, position: int | None = None) -> None:
        self._problem_count += 1
        if len(self._problems) < SHOWN_PROBLEMS or position is not None:
            self._problems.append((position or self.line_count, Problem(str(path), number, reason)))

    def _find_repeated(self, suspects: set[int]) -> None:
        """Read the input again for the few ids that may be repeated, by their text."""
        first_seen: dict[str, tuple[Path, int]] = {}
        shown = 0
        position = 0
        for path, number, line in sources.read_lines(self._paths, max_line_bytes=self._max_line_bytes):
            position += 1
            try:
                record = jsonl.loads(line)
            except jsonl.MalformedJson:
                continue
            custom_id = record.get("custom_id") if isinstance(record, dict) else None
            if not isinstance(custom_id, str) or hash(custom_id) not in suspects:
                continue
            if custom_id not in first_seen:
                first_seen[custom_id] = (path, number)
                continue
            if shown < SHOWN_PROBLEMS:
                shown += 1
                where = f"{first_seen[custom_id][0]}:{first_seen[custom_id][1]}"
                reason = f"custom_id {describe(custom_id)} is used already at {where}; every request needs its own"
                self._add_problem(path, number, reason, position=position)
            else:
                self._problem_count += 1


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(str(path) for path in paths)
