"""Answers are stored in input order, so that an export reads adjacent rows."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from batchkit.emulator.faults.batches import ShuffleOutput
from batchkit.steps import answers


def stored(harness, order):
    """Return (shard, seq) of every answer, sorted by ``order``."""
    with harness.runner.store.read() as connection:
        return [tuple(row) for row in connection.execute(text(f"SELECT shard_id, seq FROM bodies ORDER BY {order}"))]  # noqa: S608 - a column


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_shuffled_answers_are_stored_in_input_order(open_harness):
    """Whatever the order of a batch's answers, each shard's answers are stored in input order.

    On Postgres several merges write at once, so the row positions prove nothing there.
    """
    harness = open_harness(ShuffleOutput())

    assert harness.run(120).all_succeeded

    shards: dict[int, list[int]] = {}
    for shard, seq in stored(harness, "rowid"):
        shards.setdefault(shard, []).append(seq)
    assert sum(map(len, shards.values())) == 120
    assert list(shards.values()) == [sorted(seqs) for seqs in shards.values()]


def test_answers_that_exceed_the_memory_limit_are_all_stored(open_harness, monkeypatch):
    """Answers that do not fit into memory together are stored in pieces; none is missing or stored twice."""
    monkeypatch.setattr(answers, "_HELD_BYTES", 3_000)
    harness = open_harness(ShuffleOutput())

    assert harness.run(120).all_succeeded

    assert [seq for _, seq in stored(harness, "seq")] == list(range(120))
    assert [line["status"] for line in harness.export()] == ["succeeded"] * 120
