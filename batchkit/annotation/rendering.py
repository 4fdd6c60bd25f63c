"""From the rows of a table to its requests: rows that have none are reported together, or skipped where the recipe says so."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from batchkit import preflight
from batchkit.annotation.render import KEY_REPEATED, REQUEST_REFUSED, BadRow, RowProblem, is_blank
from batchkit.annotation.skipped import SKIPPED_ROWS, SkippedRow, read_skipped
from batchkit.errors import InputInvalid, InputProblem, UsageError
from batchkit.files import jsonl
from batchkit.files.spool import disk_errors
from batchkit.files.uniqueness import SeenIds
from batchkit.steps.block_check import read_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pyarrow as pa

    from batchkit.annotation.recipe import Recipe
    from batchkit.annotation.render import Renderer
    from batchkit.datasets import Table
    from batchkit.preflight import LineRules

    #: Takes the requests of a row, and returns why they cannot be sent; None if they can.
    Inspect = Callable[[list[bytes]], str | None]

#: The copy of the table from which the requests were made, in the folder of its workload.
SNAPSHOT = "table.arrows"
SHOWN_PROBLEMS = 20
_REQUESTS = "requests.jsonl"


class RowsWithoutRequest:
    """What becomes of rows that have no request: the recipe says whether such a row is skipped or refuses the table.

    ``skipped`` counts skipped rows by their code; ``note`` gets each of them.
    """

    def __init__(self, recipe: Recipe, source: str, note: Callable[[SkippedRow], object] = lambda _row: None) -> None:
        self._recipe = recipe
        self._source = source
        self._note = note
        self._problems: list[InputProblem] = []
        self._problem_count = 0
        self._first_skipped: SkippedRow | None = None
        self.skipped: Counter[str] = Counter()

    @property
    def is_full(self) -> bool:
        """Whether further problems would only be counted."""
        return self._problem_count >= SHOWN_PROBLEMS

    def add(self, problem: RowProblem) -> None:
        """Add a row."""
        if self._recipe.skips(is_empty=problem.is_empty):
            row = problem.skipped()
            self._first_skipped = self._first_skipped or row
            self.skipped[row.code] += 1
            self._note(row)
            return
        self._problem_count += 1
        if len(self._problems) < SHOWN_PROBLEMS:
            self._problems.append(BadRow(self._source, problem.number, problem.reason))

    def report(self, rows: int) -> None:
        """Raise ``InputInvalid`` if some of the ``rows`` refuse the table, and ``UsageError`` if all of them are skipped."""
        if self._problem_count:
            error = InputInvalid(self._problems, self._problem_count)
            error.hint = "correct or leave out these rows, and run the same command again"
            if self._recipe.kind != "evaluate":
                error.hint = "correct these rows, or skip them: --on-empty skip for empty ones, --bad-rows skip for all"
            raise error
        if self._first_skipped is not None and self.skipped.total() == rows:
            raise UsageError(
                f"every row of {self._source} would be skipped, so there is nothing to ask: {listed(self.skipped)};"
                f" row {self._first_skipped.number:,}: {self._first_skipped.reason}",
                hint="nothing was sent; check the prompt and the table",
            )


def listed(skipped: Counter[str]) -> str:
    """Return counts by code as text, the most frequent first."""
    return ", ".join(f"{count:,} {code}" for code, count in skipped.most_common())


@dataclass(frozen=True, slots=True)
class Rendered:
    """The files of a rendered table: its ``requests``, and what a workload keeps; ``skipped_rows`` have no request."""

    requests: Path
    keep: dict[str, Path]
    skipped_rows: int

    def row_of(self, places: list[int]) -> list[int]:
        """Return the numbers of the rows that were asked at these places, which ascend from 0."""
        skipped = read_skipped(self.keep[SKIPPED_ROWS]) if SKIPPED_ROWS in self.keep else iter(())
        following = next(skipped, None)
        before = 0
        numbers = []
        for place in places:
            number = place + 1 + before
            while following is not None and following.number <= number:
                before, number, following = before + 1, number + 1, next(skipped, None)
            numbers.append(number)
        return numbers


def render_table(
    table: Table, renderer: Renderer, folder: Path, *, max_line_bytes: int, advance: Callable[[int], None]
) -> Rendered:
    """Write the requests of a table, the copy of the table, and its skipped rows, to files in ``folder``.

    A row of which a request is longer than ``max_line_bytes``, or would be refused, is skipped if the recipe says so; else the split
    finds it. Raises ``InputInvalid`` with all rows that refuse the table, and ``UsageError``.
    """
    from batchkit.datasets import Snapshot  # noqa: PLC0415 - an extra, which no other verb needs

    recipe = renderer.recipe
    requests, snapshot, skipped = folder / _REQUESTS, folder / SNAPSHOT, folder / SKIPPED_ROWS
    keys = SeenIds()
    inspect = (
        partial(refusal_of, rules=renderer.rules, max_line_bytes=max_line_bytes)
        if recipe.skips(is_empty=False)
        else None
    )
    count = 0
    with (
        Snapshot.writer(snapshot, table.schema) as copy,
        disk_errors("write", requests),
        requests.open("wb", buffering=1 << 20) as lines,
        skipped.open("wb", buffering=1 << 16) as told,
    ):
        rows = RowsWithoutRequest(recipe, table.name, lambda row: told.write(row.line()))
        for batch, made in rendered(table, renderer, rows, inspect):
            copy.write(batch)
            for of_row in made:
                lines.writelines(of_row)
            keys.update(keys_of(batch, renderer))
            count += batch.num_rows
            advance(batch.num_rows)
    if suspects := keys.suspects():
        repeated = repeated_rows(Snapshot.open(snapshot), renderer, suspects)
        if recipe.skips(is_empty=False):
            rows.report(count)
            rows.skipped[KEY_REPEATED] += _leave_out(repeated, requests, skipped, count, recipe.requests_per_row)
        else:
            add_until_full(repeated, rows)
    rows.report(count)
    total = rows.skipped.total()
    keep = {SNAPSHOT: snapshot, **({SKIPPED_ROWS: skipped} if total else {})}
    return Rendered(requests, keep, total)


def rendered(
    table: Table, renderer: Renderer, rows: RowsWithoutRequest, inspect: Inspect | None = None
) -> Iterator[tuple[pa.RecordBatch, Iterator[list[bytes]]]]:
    """Yield each batch of a table with the requests of its rows, which are made as they are read; a row without any has none.

    With ``inspect`` each row's requests are checked as well. Raises ``UsageError`` if the provider would refuse the first requests for their
    parameters, and for a table without rows.
    """
    from batchkit.datasets import rows_of  # noqa: PLC0415 - as above

    number = 0
    # Where refused rows are skipped, the first one is one of them.
    is_checked = renderer.recipe.skips(is_empty=False)

    def made(batch: pa.RecordBatch) -> Iterator[list[bytes]]:
        nonlocal number, is_checked
        for row in rows_of(batch.select(list(renderer.columns))):
            number += 1
            try:
                lines = renderer.requests(row, number)
                if not is_checked:
                    _check_parameters(lines, renderer)
                    is_checked = True
                _inspect(lines, number, inspect)
            except RowProblem as problem:
                rows.add(problem)
                lines = []
            yield lines

    for batch in table.batches():
        yield batch, made(batch)
    if not number:
        raise UsageError(f"{table.name} has no rows", hint="name a table with rows")


def requests_of(renderer: Renderer, row: dict[str, Any], number: int, inspect: Inspect | None = None) -> list[bytes]:
    """Return the requests of a row. Raises ``RowProblem``, also where ``inspect`` finds a reason."""
    lines = renderer.requests(row, number)
    _inspect(lines, number, inspect)
    return lines


def _inspect(lines: list[bytes], number: int, inspect: Inspect | None) -> None:
    reason = None if inspect is None else inspect(lines)
    if reason is not None:
        raise RowProblem(number, "", reason, REQUEST_REFUSED)


def refusal_of(lines: list[bytes], rules: LineRules, max_line_bytes: int) -> str | None:
    r"""Return why requests, each with its ``\n``, cannot be sent; None if they can."""
    bare = [line[:-1] for line in lines]
    is_short = max(map(len, bare), default=0) <= max_line_bytes
    if is_short and preflight.plain_chats(b"".join(lines), bare, rules) is not None:
        return None
    reasons: dict[str, None] = {}
    for line in bare:
        try:
            found = preflight.inspect(read_line(line, max_line_bytes), len(line), rules).reasons
        except jsonl.MalformedJson as error:
            found = (str(error),)
        reasons |= dict.fromkeys(map(without_body_prefix, found))
    return "; ".join(reasons) or None


def repeated_rows(table: Table, renderer: Renderer, suspects: set[int]) -> Iterator[RowProblem]:
    """Yield each row whose key an earlier row has, in order; ``suspects`` are the hashes of keys that may be repeated.

    These keys fit in a dictionary, unless the column is not a key.
    """
    seen: dict[str, int] = {}
    first = 1
    for batch in table.batches():
        for number, key in _keys(batch, renderer, first):
            if hash(key) in suspects and seen.setdefault(key, number) != number:
                why = f"the key {key!r} is that of row {seen[key]:,} already"
                yield RowProblem(number, renderer.recipe.key or "", why, KEY_REPEATED)
        first += batch.num_rows


def _keys(batch: pa.RecordBatch, renderer: Renderer, first: int) -> Iterator[tuple[int, str]]:
    from batchkit.datasets import rows_of  # noqa: PLC0415 - as above

    column = renderer.recipe.key or ""
    for number, row in enumerate(rows_of(batch.select([column])), first):
        if not is_blank(row[column]):
            yield number, renderer.key_of(row, number)


def keys_of(batch: pa.RecordBatch, renderer: Renderer) -> Iterator[str]:
    """Yield the keys of a batch's rows as they stand in custom_ids, if the recipe names a column of keys."""
    return (key for _, key in _keys(batch, renderer, 1)) if renderer.recipe.key is not None else iter(())


def add_until_full(repeated: Iterator[RowProblem], rows: RowsWithoutRequest) -> None:
    """Add repeated rows, which refuse the table, until enough are known."""
    for problem in repeated:
        rows.add(problem)
        if rows.is_full:
            return


def _leave_out(repeated: Iterator[RowProblem], requests: Path, skipped: Path, rows: int, per_row: int) -> int:
    """Move repeated rows from the requests of a table to its skipped rows; returns how many of them were not skipped before."""
    kept, told = requests.with_suffix(".kept"), skipped.with_suffix(".told")
    before = read_skipped(skipped)
    moved = 0
    with (
        disk_errors("write", kept),
        requests.open("rb") as old,
        kept.open("wb", buffering=1 << 20) as new,
        told.open("wb", buffering=1 << 16) as file,
    ):
        was_skipped, again = next(before, None), next(repeated, None)
        for number in range(1, rows + 1):
            is_again = again is not None and again.number == number
            if was_skipped is not None and was_skipped.number == number:
                file.write(was_skipped.line())
                was_skipped = next(before, None)
            elif again is not None and is_again:
                moved += len(list(islice(old, per_row))) // per_row
                file.write(again.skipped().line())
            else:
                new.writelines(islice(old, per_row))
            if is_again:
                again = next(repeated, None)
    kept.replace(requests)
    told.replace(skipped)
    return moved


def without_body_prefix(reason: str) -> str:
    """Return a preflight reason without the prefix ``body.``, as the user's parameters are named."""
    return reason.replace("body.", "")


def _check_parameters(lines: list[bytes], renderer: Renderer) -> None:
    """Check the requests of the first row as the split checks all, so that a refusal names the parameters."""
    reasons: dict[str, None] = {}
    for line in lines:
        for reason in preflight.inspect(jsonl.loads(line), len(line) - 1, renderer.rules).reasons:
            reasons[without_body_prefix(reason)] = None
    if reasons:
        raise UsageError(
            f"{renderer.dialect.title} would refuse the requests: {'; '.join(reasons)}", hint="nothing was sent"
        )
