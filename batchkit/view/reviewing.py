"""Rows that people settle: which ones, what they show, which answers can be chosen, and what is stored.

A reviewer who takes a row claims it in the table ``reviews`` for a while; nobody else gets it until the claim ends. So several
people share one queue, and who is killed leaves no row behind.
"""

from __future__ import annotations

import threading
from array import array
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from batchkit.annotation.columns import value_columns
from batchkit.annotation.labelled import LabelledRows, WrongLabel
from batchkit.annotation.recipe import load_recipe
from batchkit.annotation.row_answers import read_row_answers
from batchkit.annotation.totals import annotators
from batchkit.annotation.voting import Review, Voting, label_text, text_of_label
from batchkit.annotation.workload_from_table import snapshot_path
from batchkit.answers.check import schema_of_values
from batchkit.datasets import Snapshot, rows_of
from batchkit.datasets.values import text_of
from batchkit.errors import UsageError
from batchkit.files import jsonl
from batchkit.reports.text import cut
from batchkit.store import overview_rows, report_rows, reviews
from batchkit.store.engine import Store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batchkit.annotation.recipe import Recipe
    from batchkit.models import Workload
    from batchkit.settings import Settings
    from batchkit.view.reader import Reader

#: A claim that is not renewed for so long may be taken over; an open page renews its own every minute.
CLAIM_SECONDS: Final = 300.0
#: The most rows of a queue; when these are settled, the next ones are found.
_MOST_ROWS: Final = 100_000
_ROWS_AT_ONCE: Final = 200
_CELL_BYTES: Final = 20_000
_NAME_BYTES: Final = 200
_MOST_CHOICES: Final = 60
_MOST_CELLS: Final = 60
_KEPT_BATCH_ROWS: Final = 1_024
_ORDER: Final = (Review.DISPUTED, Review.THIN, Review.UNANSWERED)


class Question(NamedTuple):
    """One column that a reviewer decides. Without ``choices`` it is a text or number that they write."""

    name: str
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Queue:
    """The rows of a workload that people should look at, the disputed ones first, by their numbers from 1.

    ``seqs`` are the places of their first requests, ``reasons`` index ``_ORDER``, or are its length for rows that nobody disputes.
    """

    numbers: array[int]
    seqs: array[int]
    reasons: array[int]


class ReviewRow(NamedTuple):
    """A row before a reviewer: its own columns, the answers by annotator, and what was proposed for each question."""

    number: int
    reason: str
    cells: list[tuple[str, str]]
    answers: list[tuple[str, dict[str, str]]]
    proposed: dict[str, str]
    note: str


class Reviewer(NamedTuple):
    """Who reviews: a name, and the tab of the browser, of which the same person may have several."""

    name: str
    tab: str

    @property
    def claim(self) -> str:
        """Return the name under which rows are claimed."""
        return f"{self.name} (tab {self.tab})"


class Task:
    """The review of one workload: its questions, its queue, its rows."""

    def __init__(self, reader: Reader, workload: Workload) -> None:
        if workload.recipe is None:
            raise UsageError(f"{workload.name} was made from requests and not from a table")
        self.recipe = load_recipe(workload.recipe)
        if self.recipe.kind != "annotate" or self.recipe.rules.format not in {
            "choice",
            "json",
            "number",
            "pattern",
            "any",
        }:
            raise UsageError(
                f"the answers of {workload.name} cannot be decided on this page",
                hint="correct the file of --review and give it back with --reviewed",
            )
        self._reader = reader
        self.workload = workload
        self._columns = value_columns(self.recipe)
        self._voting = Voting(self.recipe, self._columns)
        self._path = snapshot_path(reader.as_runner, workload)
        names = [field.name for field in self._columns.fields if field.name != self._columns.others]
        self.questions = tuple(Question(name, _choices(self.recipe, name)) for name in names)
        self._lock = threading.Lock()
        self._queues: dict[bool, Queue] = {}
        self._settled: dict[bool, int] = {}
        self._block: tuple[int, list[dict[str, Any]]] | None = None

    def queue(self, *, is_all: bool) -> Queue:
        """Return the rows to review; ``is_all``: also those that nobody disputes, behind the others. It is found once."""
        with self._lock:
            if is_all not in self._queues:
                self._queues[is_all] = self._find(is_all=is_all)
            return self._queues[is_all]

    def settled(self, *, is_all: bool) -> int:
        """Return how many rows at the beginning of the queue are decided, as far as known."""
        return self._settled.get(is_all, 0)

    def settle(self, place: int, *, is_all: bool) -> None:
        """Note that all rows before a place of the queue are decided."""
        self._settled[is_all] = place

    def reopen(self) -> None:
        """Note that some row is no longer decided."""
        self._settled.clear()

    def _find(self, *, is_all: bool) -> Queue:
        found = [(array("q"), array("q")) for _ in range(len(_ORDER) + 1)]
        count = 0
        for row in read_row_answers(self._reader.as_runner, self.workload):
            if row.skipped is not None:
                continue
            values = [self._columns.spread(answer.value) for answer in row.answers if answer.value is not None]
            reason = self._voting.review(values)
            if self.recipe.requests_per_row == 1 and reason is Review.DISPUTED:
                reason = None
            if reason is None and not is_all:
                continue
            numbers, seqs = found[len(_ORDER) if reason is None else _ORDER.index(reason)]
            numbers.append(row.number)
            seqs.append(row.answers[0].seq)
            count += 1
            if count >= _MOST_ROWS:
                break
        queue = Queue(array("q"), array("q"), array("b"))
        for place, (numbers, seqs) in enumerate(found):
            queue.numbers.extend(numbers)
            queue.seqs.extend(seqs)
            queue.reasons.extend([place] * len(numbers))
        return queue

    def row(self, queue: Queue, place: int, *, decided: Mapping[str, Any] | None = None, note: str = "") -> ReviewRow:
        """Return a row of the queue as the page shows it."""
        number, first = queue.numbers[place], queue.seqs[place]
        per_row = self.recipe.requests_per_row
        check = _reading(self.recipe)
        with self._reader.store.read() as connection:
            found = {
                row.seq: row
                for row in report_rows.report_rows(connection, self.workload.id, range(first, first + per_row))
            }
        answers, values = [], []
        for at, name in enumerate(annotators(self.recipe)):
            row = found.get(first + at)
            value = None if row is None or row.body is None or row.state != "succeeded" else check(row.body)
            spread = None if value is None else self._columns.spread(value)
            if spread is not None:
                values.append(spread)
            said = (
                {question.name: _shown(spread.get(question.name)) for question in self.questions}
                if spread is not None
                else {}
            )
            answers.append((_name(name), said))
        vote = dict(self._voting.vote(values).value or {}) if values else {}
        proposed = vote if decided is None else decided
        reason = queue.reasons[place]
        return ReviewRow(
            number,
            _ORDER[reason].value if reason < len(_ORDER) else "",
            [
                (_name(name), cut(text_of(value), _CELL_BYTES).text)
                for name, value in islice(self._cells(number).items(), _MOST_CELLS)
            ],
            answers,
            {
                question.name: label_text(proposed, question.name) or ""
                for question in self.questions
                if proposed.get(question.name) is not None
            },
            note,
        )

    def decision(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Return what a reviewer chose as values by columns. Raises ``UsageError`` for an answer that breaks the rules."""
        table = _Answers([question.name for question in self.questions])
        rows = LabelledRows(self.recipe, table, {}, option="review")  # type: ignore[arg-type] # it asks for name and columns only
        try:
            value = rows.value({question.name: given.get(question.name, "") for question in self.questions})
        except WrongLabel as wrong:
            raise UsageError(str(wrong)) from wrong
        if value is None:
            raise UsageError("nothing was chosen")
        return dict(self._columns.spread(value))

    def _cells(self, number: int) -> dict[str, Any]:
        """Return a row's own columns: a block of rows is kept, because the next one is often near."""
        block, place = divmod(number - 1, _KEPT_BATCH_ROWS)
        with self._lock:
            if self._block is None or self._block[0] != block:
                self._block = (block, self._read(block))
            rows = self._block[1]
        return rows[place] if place < len(rows) else {}

    def _read(self, block: int) -> list[dict[str, Any]]:
        first, last = block * _KEPT_BATCH_ROWS, (block + 1) * _KEPT_BATCH_ROWS
        rows: list[dict[str, Any]] = []
        at = 0
        for batch in Snapshot.open(self._path).batches(rows=_KEPT_BATCH_ROWS):
            if at + len(batch) > first:
                start = max(first - at, 0)
                rows += [
                    {name: _short(value) for name, value in row.items()}
                    for row in rows_of(batch.slice(start, min(last - at, len(batch)) - start))
                ]
            at += len(batch)
            if at >= last:
                break
        return rows


class Reviewing:
    """The reviews of all workloads, with the only connections of the page that can write: to the table ``reviews``."""

    def __init__(self, settings: Settings, reader: Reader) -> None:
        self._reader = reader
        self._store = Store(settings.resolved_database_url)
        self._lock = threading.Lock()
        self._tasks: dict[tuple[int, int], Task] = {}

    def close(self) -> None:
        """Close the connections."""
        self._store.close()

    def task(self, name: str) -> Task:
        """Return the review of a finished workload. Raises ``UsageError`` for another one."""
        workload = self._reader.find(name)
        with self._reader.store.read() as connection:
            key = (workload.id, overview_rows.one(connection, workload.id).last_event)
        with self._lock:
            if key in self._tasks:
                return self._tasks[key]
        if not self._reader.progress(workload.id).is_finished:
            raise UsageError(
                f"{workload.name} is not finished yet", hint="rows are reviewed when all annotators have answered"
            )
        task = Task(self._reader, workload)
        with self._lock:
            self._tasks = {known: kept for known, kept in self._tasks.items() if known[0] != workload.id}
            return self._tasks.setdefault(key, task)

    def take(self, task: Task, who: Reviewer, *, is_all: bool, skipped: frozenset[int]) -> int | None:
        """Claim the next open row that the reviewer did not skip; returns its place in the queue, None when there is none."""
        queue = task.queue(is_all=is_all)
        now = self._reader.clock()
        is_settled = True
        for start in range(task.settled(is_all=is_all), len(queue.numbers), _ROWS_AT_ONCE):
            numbers = queue.numbers[start : start + _ROWS_AT_ONCE]
            with self._reader.store.read() as connection:
                known = reviews.of_rows(connection, task.workload.id, numbers.tolist())
            for place, number in enumerate(numbers, start):
                found = known.get(number)
                if found is not None and found.decision is not None:
                    continue
                if is_settled:
                    task.settle(place, is_all=is_all)
                    is_settled = False
                is_claimed = found is not None and found.reviewer != who.claim and found.at > now - CLAIM_SECONDS
                if not is_claimed and number not in skipped and self.hold(task, who, number):
                    return place
        return None

    def done(self, task: Task) -> int:
        """Return how many rows are decided."""
        with self._reader.store.read() as connection:
            return reviews.count_decided(connection, task.workload.id)

    def hold(self, task: Task, who: Reviewer, number: int) -> bool:
        """Renew a claim; returns False if another one has the row by now."""
        now = self._reader.clock()
        with self._store.write() as connection:
            return reviews.claim(
                connection, task.workload.id, number, claim=who.claim, at=now, expired_at=now - CLAIM_SECONDS
            )

    def decide(self, task: Task, who: Reviewer, number: int, decision: Mapping[str, Any], note: str) -> bool:
        """Store a decision, with name and time; returns False if another one has the row by now."""
        with self._store.write() as connection:
            return reviews.decide(
                connection,
                task.workload.id,
                number,
                claim=who.claim,
                reviewer=who.name,
                decision=jsonl.dumps(dict(decision)).decode(),
                note=jsonl.storable_text(note) or None,
                at=self._reader.clock(),
            )

    def undo(self, task: Task, who: Reviewer, number: int) -> reviews.Reviewed | None:
        """Take a decision of the reviewer back, so that the row is before them again; returns what it was, None without one."""
        with self._store.write() as connection:
            before = reviews.of_rows(connection, task.workload.id, [number]).get(number)
            is_mine = reviews.reopen(
                connection,
                task.workload.id,
                number,
                claim=who.claim,
                reviewer=who.name,
                at=self._reader.clock(),
            )
        if not is_mine:
            return None
        task.reopen()
        return before

    def release(self, task: Task, who: Reviewer, number: int) -> None:
        """Give a row back that the reviewer skips."""
        with self._store.write() as connection:
            reviews.release(connection, task.workload.id, number, claim=who.claim)


class _Answers:
    """Stands for a table of answers of one reviewer."""

    name = "this page"

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = columns


def _reading(recipe: Recipe) -> Any:
    from batchkit.answers.check import AnswerCheck  # noqa: PLC0415 - beside its one use

    check = AnswerCheck(recipe.answer_rules({}))
    return lambda body: check.read(body).value


def _choices(recipe: Recipe, name: str) -> tuple[str, ...]:
    """Return the labels of a column, if they are a fixed set."""
    rules = recipe.rules
    if rules.format == "choice":
        return tuple(rules.choices[:_MOST_CHOICES])
    schema = schema_of_values(rules) if rules.format == "json" else {}
    properties = schema.get("properties")
    part = properties.get(name) if isinstance(properties, dict) else None
    if isinstance(part, dict) and isinstance(part.get("$ref"), str):
        part = schema.get("$defs", {}).get(part["$ref"].rpartition("/")[2])
    if not isinstance(part, dict):
        return ()
    if part.get("type") == "boolean":
        return ("true", "false")
    given = part.get("enum")
    return tuple(text_of_label(value) for value in given[:_MOST_CHOICES]) if isinstance(given, list) else ()


def _name(text: str) -> str:
    return cut(text, _NAME_BYTES).text


def _shown(value: Any) -> str:
    return cut(text_of_label(value), _CELL_BYTES).text


def _short(value: Any) -> Any:
    """Cut a cell that is kept: a block has a thousand rows."""
    return cut(text_of(value), _CELL_BYTES).text if isinstance(value, (str, bytes, list, dict)) else value
