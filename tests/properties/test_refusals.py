"""A file that is refused as a whole is halved until it passes, however large it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchkit.errors import TooLarge
from batchkit.models import BatchProblem, BatchStatus
from batchkit.steps import refusal
from tests.properties.ideal import Line, Says
from tests.properties.lab import LONG, Lab, content
from tests.properties.odd_json import written
from tests.properties.scripted import Ending, ScriptedProvider
from tests.properties.wording import chat_body, write
from tests.workloads import chat_line

if TYPE_CHECKING:
    from pathlib import Path

    from batchkit.models import RemoteFile

MAX_ROUNDS = 40


class NarrowProvider(ScriptedProvider):
    """Refuses files of more than ``most_lines``, and fails batches that hold one of ``culprits``, without naming it."""

    def __init__(self, most_lines: int, culprits: set[str]) -> None:
        super().__init__()
        self._most_lines = most_lines
        self._culprits = culprits

    def upload_file(self, path: Path, filename: str) -> RemoteFile:
        """Accept a shard file, unless it is too large."""
        if path.read_bytes().count(b"\n") > self._most_lines:
            raise TooLarge("too large", status=413)
        return super().upload_file(path, filename)

    def answer_all(self, ids: dict[bytes, str]) -> None:
        """End all running batches with answers."""
        for batch_id in self.running():
            shard_requests = [ids[line] for line in self.input_of(batch_id).splitlines()]
            if self._culprits.intersection(shard_requests):
                self.end(batch_id, Ending(BatchStatus.FAILED, problems=[BatchProblem("no", code="invalid")]))
            else:
                lines = [write(Line(request, Says.ANSWER, chat_body(request)), 0) for request in shard_requests]
                self.end(batch_id, Ending(output=content(lines)))


@pytest.fixture
def few_refusals(monkeypatch):
    """Lower the number of whole-file refusals, so that a small workload can exceed it."""
    monkeypatch.setattr(refusal, "MAX_REFUSED_SHARDS", 9)


@pytest.mark.usefixtures("few_refusals")
def test_all_valid_lines_pass(sqlite_store, folder, effort):
    """Halving isolates the culprits, and too large files are cut, even more of them than may be refused permanently."""

    @effort(quick=4, deep=200)
    @given(
        count=st.integers(1, 24),
        shard_lines=st.integers(1, 8),
        most_lines=st.integers(1, 4),
        culprits=st.sets(st.integers(0, 23), max_size=1),
    )
    @example(count=24, shard_lines=2, most_lines=1, culprits={3})
    def holds(count: int, shard_lines: int, most_lines: int, culprits: set[int]) -> None:
        lines = {written(chat_line(f"row-{number}")): f"row-{number}" for number in range(count)}
        provider = NarrowProvider(most_lines, {f"row-{number}" for number in culprits})
        lab = Lab(sqlite_store, folder, provider)
        lab.split(content(lines), shard_lines=shard_lines)
        for _ in range(MAX_ROUNDS):
            lab.resubmit()
            lab.send()
            provider.answer_all(lines)
            lab.clock.advance(LONG)
            lab.look()
            lab.merge()
            if all(row.state in ("succeeded", "failed") for row in lab.rows()):
                break
        expected = ["failed" if number in culprits else "succeeded" for number in range(count)]
        assert [row.state for row in lab.rows()] == expected
        assert max(provider.bought.values()) == 1

    holds()
