"""Finds the requests of a filter: by an index at once, else range by range for a quarter of a second, and then says how far it got."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from batchkit.annotation.recipe import load_recipe
from batchkit.errors import UsageError
from batchkit.files.jsonl import answer_text
from batchkit.models import RequestState
from batchkit.store import names, request_rows
from batchkit.store.request_rows import RequestFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from batchkit.models import Workload
    from batchkit.view.reader import Reader

    #: Whether an answer, as JSON in UTF-8, has a label.
    HasLabel = Callable[[bytes], bool]

_SCAN_SECONDS: Final = 0.25
_FIRST_RANGE: Final = 2_000
_LARGEST_RANGE: Final = 128_000
_ANSWERS_AT_ONCE: Final = 64
_QUICK_SECONDS: Final = 0.03
_TEXT_CHARS: Final = 500
MATCHES: Final = {"exact": "is", "prefix": "begins with", "contains": "contains"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the fields of the filter hold; empty: anything."""

    state: str = ""
    error: str = ""
    model: str = ""
    label: str = ""
    custom_id: str = ""
    match: str = "exact"

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Asked:
        """Read the fields of an address."""
        given = {name: query.get(name, "").strip()[:_TEXT_CHARS] for name in ("state", "error", "model", "label")}
        if given["state"] not in {"", *(state.value for state in RequestState)}:
            raise UsageError(f"{given['state']!r} is no state of a request")
        match = query.get("match", "exact")
        return cls(
            **given, custom_id=query.get("id", "").strip()[:_TEXT_CHARS], match=match if match in MATCHES else "exact"
        )

    @property
    def fields(self) -> dict[str, str]:
        """Return the fields as an address has them, without empty ones."""
        found = {
            "state": self.state,
            "error": self.error,
            "model": self.model,
            "label": self.label,
            "id": self.custom_id,
        }
        kept = {name: value for name, value in found.items() if value}
        return {**kept, "match": self.match} if self.custom_id else kept

    def filter(self, connection: Connection) -> RequestFilter | None:
        """Return the filter for the store; None if nothing can fit, as no answer names such a model."""
        model = None
        if self.model:
            model = next((number for number, name in names.every(connection).items() if name == self.model), None)
            if model is None:
                return None
        return RequestFilter(
            state=RequestState(self.state) if self.state else None,
            error=self.error or None,
            model=model,
            custom_id=self.custom_id or None,
            match=self.match,  # type: ignore[arg-type] # one of ``MATCHES``
        )


@dataclass(frozen=True, slots=True)
class Found:
    """Places of requests. ``is_scan``: no index serves the filter. ``scanned`` is how many requests of the input were read so far.

    ``after`` is where the next page begins, None at the end; ``before`` where the one before ends, None at the beginning.
    """

    seqs: tuple[int, ...]
    is_scan: bool = False
    scanned: int = 0
    after: str | None = None
    before: int | None = None


def find(
    connection: Connection, workload: Workload, asked: Asked, *, total: int, after: str, before: str, limit: int
) -> Found:
    """Return the next requests of a filter; ``after`` and ``before`` are as an address has them."""
    wanted = asked.filter(connection)
    if wanted is None:
        return Found(())
    if asked.label or not request_rows.is_direct(connection, wanted):
        has_label = label_test(workload, asked.label)
        start = _place(after, -1)
        return _scanned(connection, workload, wanted, has_label=has_label, after=start, total=total, limit=limit)
    if wanted.match == "prefix" and wanted.custom_id is not None:
        seqs = request_rows.by_prefix(connection, workload.id, wanted.custom_id, after=after or None, limit=limit + 1)
        more = len(seqs) > limit
        last = request_rows.listed(connection, workload.id, seqs[limit - 1 : limit]) if more else []
        return Found(tuple(seqs[:limit]), after=last[0].custom_id if last else None)
    if before:
        seqs = request_rows.page(connection, workload.id, wanted, before=_place(before, 0), limit=limit + 1)
        more = len(seqs) > limit
        seqs = seqs[-limit:]
        return Found(tuple(seqs), after=str(seqs[-1]) if seqs else None, before=seqs[0] if more else None)
    start = _place(after, -1)
    seqs = request_rows.page(connection, workload.id, wanted, after=start, limit=limit + 1)
    more = len(seqs) > limit
    seqs = seqs[:limit]
    return Found(tuple(seqs), after=str(seqs[-1]) if more else None, before=seqs[0] if seqs and start >= 0 else None)


def every(reader: Reader, workload: Workload, asked: Asked, *, total: int, at_once: int) -> Iterator[Sequence[int]]:
    """Yield the places of all requests of a filter, some at a time and in input order; each read is a short one of its own."""
    has_label = label_test(workload, asked.label)
    first, size = 0, at_once
    while first < total:
        with reader.store.read() as connection:
            wanted = asked.filter(connection)
            if wanted is None:
                return
            is_direct = not asked.label and asked.match != "prefix" and request_rows.is_direct(connection, wanted)
            if is_direct:
                seqs = request_rows.page(connection, workload.id, wanted, after=first - 1, limit=at_once)
                first = seqs[-1] + 1 if len(seqs) == at_once else total
            else:
                last = min(first + size, total) - 1
                found = request_rows.scan(connection, workload.id, wanted, first=first, last=last, limit=at_once)
                first = found[-1] + 1 if len(found) == at_once else last + 1
                seqs = _labelled(connection, workload, found, has_label, at_once).kept
        if seqs:
            yield seqs


def label_test(workload: Workload, label: str) -> HasLabel | None:
    """Return the test of a label: one that an answer to the recipe has, else the whole text of the answer. None without a label."""
    if not label:
        return None
    recipe = None if workload.recipe is None else load_recipe(workload.recipe)
    if recipe is None or recipe.kind == "evaluate":
        return lambda body: (answer_text(body) or "").strip() == label
    from batchkit.annotation.columns import value_columns  # noqa: PLC0415 - an extra
    from batchkit.annotation.voting import Voting, label_text  # noqa: PLC0415 - as above
    from batchkit.answers.check import AnswerCheck  # noqa: PLC0415 - as above

    check, columns = AnswerCheck(recipe.answer_rules({})), value_columns(recipe)
    voting = Voting(recipe, columns)
    named = (*voting.labels, *voting.numbers)

    def has_label(body: bytes) -> bool:
        value: Any = check.read(body).value
        if value is None:
            return False
        spread = columns.spread(value)
        return any(label_text(spread, name) == label for name in named)

    return has_label


def _place(text: str, otherwise: int) -> int:
    is_number = text.isascii() and text.isdigit() and len(text) < 19  # noqa: PLR2004 - digits of 64 bits
    return int(text) if is_number else otherwise


def _scanned(
    connection: Connection,
    workload: Workload,
    wanted: RequestFilter,
    *,
    has_label: HasLabel | None,
    after: int,
    total: int,
    limit: int,
) -> Found:
    found: list[int] = []
    first, size, until = after + 1, _FIRST_RANGE, time.monotonic() + _SCAN_SECONDS
    while first < total and len(found) < limit and time.monotonic() < until:
        began = time.monotonic()
        last = min(first + size, total) - 1
        room = limit - len(found)
        some = request_rows.scan(
            connection, workload.id, wanted, first=first, last=last, limit=size if has_label else room
        )
        fit = _labelled(connection, workload, some, has_label, room, until=until)
        found += fit.kept
        first = fit.read_to + 1 if fit.is_cut else last + 1
        if not has_label and len(some) == room:
            first = some[-1] + 1
        if time.monotonic() - began < _QUICK_SECONDS:
            size = min(size * 2, _LARGEST_RANGE)
    return Found(tuple(found), is_scan=True, scanned=min(first, total), after=str(first - 1) if first < total else None)


class _Fit(NamedTuple):
    """Places whose answers have a label; if it ``is_cut``, those after ``read_to`` were not read."""

    kept: list[int]
    read_to: int
    is_cut: bool


def _labelled(
    connection: Connection,
    workload: Workload,
    places: Sequence[int],
    has_label: HasLabel | None,
    room: int,
    *,
    until: float = math.inf,
) -> _Fit:
    if has_label is None:
        return _Fit(list(places), places[-1] if places else -1, is_cut=False)
    kept: list[int] = []
    for start in range(0, len(places), _ANSWERS_AT_ONCE):
        some = places[start : start + _ANSWERS_AT_ONCE]
        bodies = request_rows.answers(connection, workload.id, some)
        for place in some:
            if place in bodies and has_label(bodies[place]):
                kept.append(place)
                if len(kept) == room:
                    return _Fit(kept, place, is_cut=True)
        if time.monotonic() > until and start + _ANSWERS_AT_ONCE < len(places):
            return _Fit(kept, some[-1], is_cut=True)
    return _Fit(kept, places[-1] if places else -1, is_cut=False)
