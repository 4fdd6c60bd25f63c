"""Workloads of questions on a test clock, with reuse: each question has its own answer, so that a wrong one is noticed."""

from __future__ import annotations

from collections import Counter
from copy import copy
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from batchkit.engine.waves import DriveUntil
from batchkit.files import jsonl
from batchkit.models import ReuseMode
from batchkit.steps.split import SplitOptions
from tests.workloads import chat_line, read_lines, write_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from batchkit.engine.progress import Progress
    from batchkit.models import Workload
    from tests.steps.timed import TimedRun

#: Every table that has rows of requests, and the rest of a removed workload.
TABLES = ("workloads", "shards", "requests", "batches", "results", "bodies", "attempts", "cleaned_answers")


def question_of(line: dict[str, Any]) -> str:
    """Return the question of an input line."""
    question: str = line["body"]["messages"][0]["content"]
    return question


def answered(line: dict[str, Any]) -> dict[str, Any]:
    """Return the output line of a request whose answer repeats its question."""
    message = {"role": "assistant", "content": f"answer to {question_of(line)}"}
    body = {
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
    return {"custom_id": line["custom_id"], "response": {"status_code": 200, "body": body}, "error": None}


class Asking:
    """Splits and drives workloads of questions; ``timed`` has the provider and the clock."""

    def __init__(self, timed: TimedRun, folder: Path, **settings: Any) -> None:
        self.timed = timed
        self.folder = folder
        # An hour passes between two passes.
        self.runner = timed.open(lease_seconds=10_000_000.0, **settings)
        timed.provider.answer = answered
        self._created: list[bytes] = []
        timed.provider._on_create = self._created.append
        self.asked: dict[str, list[str]] = {}

    def beside(self) -> Asking:
        """Return the same with a runner of its own, as another process would have."""
        other = copy(self)
        other.runner = self.timed.open(lease_seconds=10_000_000.0)
        return other

    def lines(self, name: str, questions: Iterable[str]) -> list[dict[str, Any]]:
        """Return a request for each question; the custom_id is its place."""
        return [chat_line(f"{name}-{number}", question) for number, question in enumerate(questions)]

    def split(self, name: str, questions: Sequence[str], **options: Any) -> Workload:
        """Split a workload of questions with reuse, in shards of 4 requests."""
        self.asked[name] = list(questions)
        return self.split_lines(name, self.lines(name, questions), **options)

    def split_lines(self, name: str, lines: Iterable[Any], **options: Any) -> Workload:
        """Split a workload of any lines, as ``split`` does."""
        source = write_lines(self.folder / f"{name}.jsonl", lines)
        given = {"reuse": ReuseMode.ON, "shard_lines": 4, **options}
        return self.runner.split([source], name=name, options=SplitOptions(**given))

    def run(self, name: str, questions: Sequence[str], **options: Any) -> Progress:
        """Split a workload and drive it to its end."""
        self.split(name, questions, **options)
        return self.finish(name)

    def finish(self, name: str) -> Progress:
        """Drive a workload to its end, one pass after the other, and check its counts after each of them."""
        return self.passes(name, lambda _progress: None)

    def passes(self, name: str, after_each: Callable[[Progress], object]) -> Progress:
        """Drive a workload as ``finish`` does, and call a function after each pass."""
        workload = self.runner.find(name)
        for _ in range(60):
            progress = self.runner.process(workload.id, until=DriveUntil.ONE_PASS)
            self.check_counts(name)
            if progress.is_finished:
                return progress
            after_each(progress)
            self.timed.clock.advance(3_600)
        raise AssertionError(f"{name} does not end: {progress.counts}")

    def check_counts(self, name: str) -> None:
        """Fail unless the counts that a user sees are those of the rows, and add up to the input."""
        workload = self.runner.find(name)
        counts = self.runner.progress(workload.id).counts
        query = "SELECT state, count(*) FROM requests WHERE workload_id = :workload_id GROUP BY state"
        rows = dict(self.rows(query, workload_id=workload.id))
        seen = {state: getattr(counts, state) for state in ("pending", "in_flight", "succeeded", "failed", "cancelled")}
        assert {state: count for state, count in seen.items() if count} == rows
        assert sum(seen.values()) == counts.total == workload.request_count

    def sent(self) -> Counter[str]:
        """Return how often each question was sent in a batch."""
        return Counter(question_of(jsonl.loads(line)) for data in self._created for line in data.splitlines())

    def export(self, name: str) -> list[dict[str, Any]]:
        """Export a workload and read it back."""
        target = self.folder / f"{name}-out.jsonl"
        self.runner.export(name, target)
        return read_lines(target)

    def texts(self, name: str) -> list[str | None]:
        """Return the answers in input order, None for a request without one."""
        bodies = [(row["response"] or {}).get("body") or {} for row in self.export(name)]
        return [body["choices"][0]["message"]["content"] if "choices" in body else None for body in bodies]

    def check_answers(self, name: str) -> None:
        """Fail unless every request succeeded with the answer to its own question."""
        assert self.texts(name) == [f"answer to {question}" for question in self.asked[name]]
        assert [row["custom_id"] for row in self.export(name)] == [f"{name}-{n}" for n in range(len(self.asked[name]))]

    def clean(self, name: str, *, keep_results: bool = False) -> None:
        """Clean a workload."""
        self.runner.clean(name, keep_results=keep_results)

    def rows(self, query: str, **bound: Any) -> list[tuple[Any, ...]]:
        """Run a query on the database."""
        with self.runner.store.read() as connection:
            return [tuple(row) for row in connection.execute(text(query), bound)]

    def left(self) -> dict[str, int]:
        """Return the number of rows of each table that has any."""
        counts = {table: self.rows(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}  # noqa: S608 - names of this module
        return {table: count for table, count in counts.items() if count}
