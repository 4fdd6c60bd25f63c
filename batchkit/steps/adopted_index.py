"""The requests of batches that something else created: their lines, which of them are the same request, and what contradicts.

Nothing is stored here. The files are read in several passes, so that memory holds only the requests that several batches have.
"""

from __future__ import annotations

import codecs
import hashlib
from array import array
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from batchkit import formatting, preflight
from batchkit.errors import UsageError
from batchkit.files import jsonl
from batchkit.files.spool import disk_errors
from batchkit.files.uniqueness import SeenIds
from batchkit.models import IMPORTED, Destination
from batchkit.preflight.findings import describe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from batchkit.models import Batch
    from batchkit.preflight import LineRules

_LINES_AT_ONCE = 10_000
#: An index of a database takes only a few thousand bytes.
_LONGEST_ID_BYTES = 1_000
#: How many contradictions, and how many reasons against lines, are shown; all are counted.
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class AdoptedBatch:
    """A batch with its files as far as they are known: its requests, or else its answers, which name the requests."""

    batch: Batch
    requests: Path | None
    answers: tuple[Path, ...] = ()


class AdoptedLine(NamedTuple):
    """A line of a batch: where it is in its file (bytes, the length without the newline) and what it says, without its custom_id.

    Without a file of requests offset and length are 0 and ``record`` is None.
    """

    number: int
    offset: int
    length: int
    custom_id: str
    record: Any


@dataclass(slots=True)
class _Batch:
    """What the first pass found of a batch."""

    lines: int = 0
    nameless: list[int] = field(default_factory=list)
    refused: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    destination: Destination | None = None


class AdoptedIndex:
    """The requests of some batches, in the order of the batches and of their lines.

    With ``separate`` each batch keeps its custom_ids apart, by a prefix. ``rules`` are those of the provider.
    """

    def __init__(self, adopted: Sequence[AdoptedBatch], *, rules: LineRules, separate: bool) -> None:
        self._adopted = adopted
        self._rules = rules
        self._separate = separate
        self._found = [_Batch() for _ in adopted]
        #: The requests that several lines have, by their custom_ids here: what they ask.
        self._shared: dict[str, bytes | None] = {}

    def check(self) -> None:
        """Read all lines. Raises ``UsageError`` for batches without a request, and for ids that repeat with other requests."""
        seen = SeenIds()
        for place, one in enumerate(self._adopted):
            lines = request_lines(one.requests) if one.requests is not None else _answered(one.answers)
            for line in lines:
                self._inspect(line, place)
                if line.custom_id:
                    seen.update((self.prefix(place) + line.custom_id,))
            is_running = not one.batch.is_terminal and one.batch.status != IMPORTED
            # Answers that are still to come would be for requests that are not known.
            if not self._found[place].lines or (is_running and one.requests is None):
                raise _knows_nothing(one, is_running=is_running)
        suspects = seen.suspects()
        if suspects:
            self._compare(suspects)

    def prefix(self, place: int) -> str:
        """Return what stands before the custom_ids of a batch here."""
        return f"{self._adopted[place].batch.id}:" if self._separate else ""

    def destination(self, place: int) -> Destination:
        """Return where the requests of a batch go."""
        endpoint = self._adopted[place].batch.endpoint
        found = self._found[place].destination or Destination(endpoint)
        return Destination(endpoint or found.endpoint, found.model if self._rules.has_one_model else None)

    def lines(self, place: int) -> Iterator[tuple[AdoptedLine, str, bool]]:
        """Yield the lines of a batch that name a request, with its custom_id here, and whether other lines have the same request.

        A request that its file has twice comes once.
        """
        one = self._adopted[place]
        mine: set[str] = set()
        for line in request_lines(one.requests) if one.requests is not None else _answered(one.answers):
            if not line.custom_id:
                continue
            custom_id = self.prefix(place) + line.custom_id
            is_shared = custom_id in self._shared
            if is_shared:
                if custom_id in mine:
                    continue
                mine.add(custom_id)
            yield line, custom_id, is_shared

    def notes(self) -> Iterator[str]:
        """Return sentences about lines that are odd."""
        for one, found in zip(self._adopted, self._found, strict=True):
            if found.nameless:
                lines = formatting.counted(len(found.nameless), "line")
                yield f"batch {one.batch.id}: {lines} without a usable custom_id skipped (the first one is line {found.nameless[0]})"
            if found.refused:
                reason, _ = found.reasons.most_common(1)[0]
                lines = formatting.counted(found.refused, "line")
                yield f"batch {one.batch.id}: {lines} kept that `batchkit run` would refuse ({reason})"

    def _inspect(self, line: AdoptedLine, place: int) -> None:
        found = self._found[place]
        if not line.custom_id:
            found.nameless.append(line.number)
            return
        found.lines += 1
        if line.record is None:
            return
        inspection = preflight.inspect(line.record, line.length, self._rules)
        if inspection.reasons:
            found.refused += 1
            if len(found.reasons) < _SHOWN:
                found.reasons.update(inspection.reasons[:1])
        if found.destination is None and inspection.endpoint is not None:
            found.destination = Destination(inspection.endpoint, inspection.model)

    def _compare(self, suspects: set[int]) -> None:
        """Compare the lines whose custom_ids repeat. Raises ``UsageError`` when they ask something else."""
        first: dict[str, tuple[int, bytes | None]] = {}
        conflicts: dict[str, tuple[int, int]] = {}
        for place, one in enumerate(self._adopted):
            for line in request_lines(one.requests) if one.requests is not None else _answered(one.answers):
                custom_id = self.prefix(place) + line.custom_id
                if not line.custom_id or hash(custom_id) not in suspects:
                    continue
                asked = None if line.record is None else _asked(line.record)
                if custom_id not in first:
                    first[custom_id] = (place, asked)
                    continue
                before, asked_before = first[custom_id]
                if asked != asked_before or (asked is None and before != place):
                    conflicts.setdefault(custom_id, (before, place))
                self._shared[custom_id] = asked
        if conflicts:
            raise self._conflict(conflicts)

    def _conflict(self, conflicts: dict[str, tuple[int, int]]) -> UsageError:
        shown = [
            f"{describe(custom_id)} in {self._adopted[one].batch.id}"
            + (" twice" if one == other else f" and {self._adopted[other].batch.id}")
            for custom_id, (one, other) in islice(conflicts.items(), _SHOWN)
        ]
        more = f" and {len(conflicts) - _SHOWN:,} more" if len(conflicts) > _SHOWN else ""
        are_of_one_batch = any(one == other for one, other in conflicts.values())
        repeat = "custom_id repeats" if len(conflicts) == 1 else "custom_ids repeat"
        return UsageError(
            f"{len(conflicts):,} {repeat} with other requests, or with unknown ones: {', '.join(shown)}{more}; nothing was stored",
            hint="answers to them cannot be told apart: leave that batch out"
            if are_of_one_batch
            else "adopt the batches one by one, or keep their requests apart with --separate, which puts the batch's id before each custom_id",
        )


def request_lines(path: Path) -> Iterator[AdoptedLine]:
    """Yield the lines of a file of requests that are not blank; the custom_id is empty where a line has none that can be used."""
    offset = 0
    with disk_errors("read", path), path.open("rb") as handle:
        for number, raw in enumerate(handle, 1):
            begin, text = offset, raw.removesuffix(b"\n")
            offset += len(raw)
            if number == 1 and text.startswith(codecs.BOM_UTF8):
                begin += len(codecs.BOM_UTF8)
                text = text.removeprefix(codecs.BOM_UTF8)
            if not text or text.isspace():
                continue
            try:
                record = jsonl.loads(text)
            except jsonl.MalformedJson:
                record = None
            custom_id = record.get("custom_id") if isinstance(record, dict) else None
            yield AdoptedLine(number, begin, len(text), _usable(custom_id), record)


def answer_ids(path: Path) -> Iterator[str]:
    """Yield the custom_ids of a file of answers, in its order; lines without one are left out."""
    with disk_errors("read", path), path.open("rb") as handle:
        for raw in handle:
            try:
                record = jsonl.loads_leniently(raw)
            except jsonl.MalformedJson:
                continue
            answer = jsonl.read_output_line(record)
            if answer is not None and _usable(answer.custom_id):
                yield answer.custom_id


def unknown_ids(requests: Path, answers: Sequence[Path]) -> tuple[int, str | None]:
    """Count the custom_ids of answers that a file of requests lacks, and return the first one."""
    import numpy as np  # noqa: PLC0415 - no other verb needs it

    hashes = array("q", (hash(line.custom_id) for line in request_lines(requests) if line.custom_id))
    known = np.unique(np.frombuffer(hashes, np.int64)) if hashes else np.empty(0, np.int64)
    count, first = 0, None
    for path in answers:
        ids = answer_ids(path)
        while some := list(islice(ids, _LINES_AT_ONCE)):
            is_known = np.isin(np.array([hash(custom_id) for custom_id in some], np.int64), known)
            count += len(some) - int(is_known.sum())
            if count and first is None:
                first = some[int(is_known.argmin())]
    return count, first


def _usable(custom_id: object) -> str:
    """Return a custom_id that a database can store and find; empty for any other value."""
    if not isinstance(custom_id, str) or jsonl.storable_text(custom_id) != custom_id:
        return ""
    return custom_id if len(custom_id.encode()) <= _LONGEST_ID_BYTES else ""


def _answered(paths: Sequence[Path]) -> Iterator[AdoptedLine]:
    for path in paths:
        for number, custom_id in enumerate(answer_ids(path), 1):
            yield AdoptedLine(number, 0, 0, custom_id, None)


def _asked(record: dict[str, Any]) -> bytes:
    """Return a digest of a request without its custom_id."""
    asked = {name: value for name, value in record.items() if name != "custom_id"}
    return hashlib.blake2b(jsonl.dumps(asked), digest_size=16).digest()


def _knows_nothing(one: AdoptedBatch, *, is_running: bool) -> UsageError:
    batch = one.batch
    if one.requests is not None:
        return UsageError(
            f"batch {batch.id}: no line of its input is a request with a custom_id", hint="leave this batch out"
        )
    if batch.status == IMPORTED:
        return UsageError("the files hold no answer with a custom_id", hint="give a batch's output or error file")
    what = (
        "runs, and its input file is gone: not all" if is_running else "has no answer, and its input file is gone: none"
    )
    return UsageError(
        f"batch {batch.id} ({batch.status}) {what} of its requests are known",
        hint="give the file that it was made of with --requests FILE"
        + (", or adopt it when it has ended" if is_running else ""),
    )
