"""What a user sees of a whole run (result lines, notes, exit code), and the provider's ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from batchkit.cli.render.outcome import exit_code
from batchkit.store import events
from tests.observing import Watching
from tests.workloads import mixed_line, write_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batchkit.emulator import Ledger
    from batchkit.engine.progress import Progress
    from tests.steps.conftest import Harness

#: Two shards, one for chat and one for audio: the smallest mixed workload.
COUNT = 20


@dataclass(frozen=True)
class Seen:
    """A finished run. ``journal`` holds what ``status --history`` shows, newest first."""

    progress: Progress
    lines: list[dict[str, Any]]
    notes: list[str]
    ledger: Ledger
    sent: list[dict[str, Any]]
    journal: list[str]

    @property
    def exit_code(self) -> int:
        """Return the exit code of the command."""
        return exit_code(self.progress)

    def with_status(self, status: str) -> list[dict[str, Any]]:
        """Return the result lines with this status."""
        return [line for line in self.lines if line["status"] == status]

    def noted(self, words: str) -> bool:
        """Return whether a note with these words was shown."""
        return any(words in note for note in self.notes)

    def check_places(self) -> None:
        """Check for one line per request in input order, no answer on the wrong row, and one batch per shard."""
        assert [line["custom_id"] for line in self.lines] == [line["custom_id"] for line in self.sent]
        for request, line in zip(self.sent, self.lines, strict=True):
            if line["status"] == "succeeded":
                assert line["error"] is None
                assert line["response"]["status_code"] == 200
                body = line["response"]["body"]
                if "choices" in body:
                    assert body["model"] == request["body"]["model"]
                    assert _beginning(request) in str(body["choices"])
        keys = [batch.metadata["batchkit_key"] for batch in self.ledger.batches if batch.metadata]
        assert len(set(keys)) == len(self.ledger.batches)

    def check_all_succeeded(self, *, bought_twice: int = 0) -> None:
        """Check for exit code 0, every answer on its row, and nothing paid for twice beyond ``bought_twice``."""
        self.check_places()
        assert self.exit_code == 0
        assert {line["status"] for line in self.lines} == {"succeeded"}
        assert self.ledger.totals.bought_twice == bought_twice

    def check_failed(self, count: int, *codes: str, bought_twice: int = 0) -> None:
        """Check for exit code 3: ``count`` requests failed with these codes, the rest succeeded, and nothing else was bought twice."""
        self.check_places()
        assert self.exit_code == 3
        assert len(self.with_status("failed")) == count > 0
        assert {line["error"]["code"] for line in self.with_status("failed")} == set(codes)
        assert {reason.code for reason in self.progress.failures} == set(codes)
        assert len(self.with_status("succeeded")) == len(self.sent) - count
        assert self.ledger.totals.bought_twice == bought_twice


def _beginning(request: dict[str, Any]) -> str:
    content = request["body"]["messages"][0]["content"]
    return "Echo: " if isinstance(content, list) else f"Echo: {content[:8]}"


def taking_turns(arguments: str, rows: Mapping[str, Any]) -> pytest.MarkDecorator:
    """Parametrize a test with named rows; each row runs on one kind of database, alternating between the two.

    For rows that differ only on the wire, which the database does not see.
    """
    kinds = ("sqlite", "postgres")
    params = []
    for number, (name, row) in enumerate(rows.items()):
        values = row if "," in arguments else (row,)
        params.append(pytest.param(kinds[number % 2], *values, id=f"{kinds[number % 2]}-{name}"))
    return pytest.mark.parametrize(f"database_url,{arguments}", params, indirect=["database_url"])


def run(
    harness: Harness, requests: Sequence[dict[str, Any]] | None = None, *, stop_at: float | None = None, **options: Any
) -> Seen:
    """Run requests (by default a small mixed workload) until they are final or until ``stop_at``, and return what was seen."""
    sent = [mixed_line(number) for number in range(COUNT)] if requests is None else list(requests)
    source = write_lines(harness.home.parent / "input.jsonl", sent)
    workload = harness.split(source, **{"shard_lines": 50, **options})
    notes: list[str] = []
    progress = harness.runner.process(
        workload.id,
        stop_at=stop_at,
        observer=Watching(
            on_wave=lambda _wave, report: notes.extend(report.notes), on_wait=lambda wait: notes.extend(wait.notes)
        ),
    )
    with harness.runner.store.read() as connection:
        journal = [event.detail or "" for event in events.newest(connection, workload.id, limit=1_000)]
    return Seen(progress, harness.export(), notes, harness.emulator.ledger(), sent, journal)
