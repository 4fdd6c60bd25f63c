"""Checking the input: its lines are counted, and an input with problems is refused as a whole, with all problems."""

from __future__ import annotations

from heapq import nsmallest
from typing import TYPE_CHECKING, Any, NamedTuple

from batchkit import preflight
from batchkit.errors import InputInvalid, InputProblem
from batchkit.files import jsonl, sources
from batchkit.files.uniqueness import SeenIds
from batchkit.preflight.findings import describe
from batchkit.steps.block_check import is_blank, lines_of, read_line, without_lines
from batchkit.steps.block_stream import checked_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from batchkit.preflight import LineRules
    from batchkit.steps.block_check import BlockVerdict

#: An input with more models than this probably invents them: no more are remembered.
MOST_MODELS = 1_000
#: How many problems are shown; all are counted.
SHOWN_PROBLEMS = 20

_TABLES = (".csv", ".tsv", ".parquet", ".arrow", ".feather")
_ASK_ABOUT_ROWS = "this takes requests as JSON Lines; `batchkit annotate` makes them from the rows of a table"
_LINES_PER_ADVANCE = 2_000


def longest_line(shard_bytes: int) -> int:
    """Return the maximum bytes of a line, without its end, for an input whose shards have at most ``shard_bytes``."""
    return shard_bytes - 1


class CheckedLine(NamedTuple):
    """A line that may be sent; ``line`` holds its bytes as in the input, without the newline."""

    custom_id: str
    endpoint: str
    model: str
    line: bytes
    record: Any
    warnings: tuple[str, ...]


class CheckedBlock(NamedTuple):
    r"""Consecutive lines that may be sent: ``data`` has them with their ``\n``, ``lengths`` are in bytes without it.

    ``endpoints`` is empty when all lines go to ``preflight.PLAIN_ENDPOINT``, else as long as the other lists. ``line_models`` has the
    model of each line where a file may have one model only, else nothing.
    """

    first_seq: int
    data: bytes
    custom_ids: list[str]
    lengths: list[int]
    endpoints: list[str]
    line_models: list[str]


class InputCheck:
    """One pass over the input: ``blocks``, or ``lines`` with the details of each.

    ``digest`` is complete, and ``line_count`` and ``blank_count`` are final, when the pass has ended. Blank lines are left out,
    wherever they are, and are not counted in ``line_count``. ``models`` are those of ``blocks``.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        rules: LineRules,
        max_line_bytes: int,
        digest: sources.Digest | None,
        advance: Callable[[int], None],
    ) -> None:
        self._paths = paths
        self._rules = rules
        self._max_line_bytes = longest_line(max_line_bytes)
        self._digest = digest
        self._advance = advance
        self._problems: list[tuple[int, InputProblem]] = []
        self._problem_count = 0
        self._seen = SeenIds()
        self.line_count = 0
        self.blank_count = 0
        self.models: set[str] = set()

    def blocks(self) -> Iterator[CheckedBlock]:
        """Yield the lines in blocks until the first problem; the input is read to its end in any case.

        Raises ``InputInvalid`` at the end when there were problems, and ``InputUnreadable``.
        """
        file = -1
        lines_before = 0
        blocks = sources.read_blocks(self._paths, max_line_bytes=self._max_line_bytes, digest=self._digest)
        for block, verdict in checked_blocks(
            blocks, rules=self._rules, max_line_bytes=self._max_line_bytes, input_bytes=sources.size_of(self._paths)
        ):
            if block.file != file:
                file, lines_before = block.file, self._position
            if verdict.problems:
                self._add_problems(block.path, self._position - lines_before + 1, verdict)
            self._seen.update(filter(None, verdict.custom_ids) if verdict.endpoints else verdict.custom_ids)
            if not self._problem_count and verdict.lengths:
                data = without_lines(lines_of(block.data), verdict.blanks)[0] if verdict.blanks else block.data
                yield CheckedBlock(
                    self.line_count, data, verdict.custom_ids, verdict.lengths, verdict.endpoints, verdict.line_models
                )
            self.line_count += len(verdict.lengths)
            self.blank_count += len(verdict.blanks)
            self._add_models(verdict.models)
            self._advance(len(verdict.lengths))
        self._conclude()

    def lines(self) -> Iterator[CheckedLine]:
        """Yield the lines one by one as ``blocks`` does, but slower."""
        unreported = 0
        for path, number, line in sources.read_lines(
            self._paths, max_line_bytes=self._max_line_bytes, digest=self._digest
        ):
            if is_blank(line, self._max_line_bytes):
                self.blank_count += 1
                continue
            self.line_count += 1
            unreported += 1
            if unreported == _LINES_PER_ADVANCE:
                self._advance(unreported)
                unreported = 0
            checked = self._check(path, number, line)
            if checked is not None and not self._problem_count:
                yield checked
        self._advance(unreported)
        self._conclude()

    @property
    def _position(self) -> int:
        """Return the number of lines read from all files, including blank ones."""
        return self.line_count + self.blank_count

    def _add_models(self, models: Iterable[str]) -> None:
        if len(self.models) < MOST_MODELS:
            self.models.update(models)

    def _conclude(self) -> None:
        suspects = self._seen.suspects()
        if suspects:
            self._find_repeated(suspects)
        if self._problem_count:
            first = nsmallest(SHOWN_PROBLEMS, self._problems, key=lambda entry: entry[0])
            problems = [problem for _, problem in first]
            if problems[0].source.lower().endswith(_TABLES):
                raise InputInvalid(problems, self._problem_count, hint=_ASK_ABOUT_ROWS)
            raise InputInvalid(problems, self._problem_count)
        if not self.line_count:
            what = "has only blank lines" if self.blank_count else "is empty"
            raise InputInvalid([InputProblem(_names(self._paths), 1, f"the input {what}: there is nothing to do")], 1)

    def _check(self, path: Path, number: int, line: bytes) -> CheckedLine | None:
        try:
            record = read_line(line, self._max_line_bytes)
        except jsonl.MalformedJson as error:
            self._add_problem(path, number, str(error), self._position)
            return None
        found = preflight.inspect(record, len(line), self._rules)
        if found.custom_id:
            self._seen.update((found.custom_id,))
        for reason in found.reasons:
            self._add_problem(path, number, reason, self._position)
        if found.reasons or found.custom_id is None or found.endpoint is None or found.model is None:
            return None
        return CheckedLine(found.custom_id, found.endpoint, found.model, line, record, found.warnings)

    def _add_problems(self, path: Path, first_number: int, verdict: BlockVerdict) -> None:
        for index, reason in verdict.problems:
            self._add_problem(path, first_number + index, reason, self._position + index + 1)

    def _add_problem(self, path: Path, number: int, reason: str, position: int, *, is_late: bool = False) -> None:
        """Count a problem, and keep it if it is one of the first, or if it is found late and may belong before them.

        ``position`` counts the lines of all files from 1.
        """
        self._problem_count += 1
        if len(self._problems) < SHOWN_PROBLEMS or is_late:
            self._problems.append((position, InputProblem(str(path), number, reason)))

    def _find_repeated(self, suspects: set[int]) -> None:
        """Read the input again and compare the text of the few ids that may be repeated."""
        first_seen: dict[str, tuple[Path, int]] = {}
        shown = 0
        position = 0
        for path, number, line in sources.read_lines(self._paths, max_line_bytes=self._max_line_bytes):
            position += 1
            if not line.strip():
                continue
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
                self._add_problem(path, number, reason, position, is_late=True)
            else:
                self._problem_count += 1


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(str(path) for path in paths)
