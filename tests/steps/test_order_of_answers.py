"""Where answers lie: in input order, so that an export reads what it needs side by side."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from batchkit.emulator.faults.batches import ShuffleOutput
from batchkit.steps import answers


def stored(harness, order):
    """Give (shard, seq) of every answer in some order."""
    with harness.runner.store.read() as connection:
        return [tuple(row) for row in connection.execute(text(f"SELECT shard_id, seq FROM bodies ORDER BY {order}"))]  # noqa: S608 - a column


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_shuffled_answers_are_stored_in_input_order(open_harness):
    """Whatever order a batch's answers come in, each shard's lie in that of the input.

    On Postgres several merges write at once, and the places tell nothing.
    """
    harness = open_harness(ShuffleOutput())

    assert harness.run(120).all_succeeded

    shards: dict[int, list[int]] = {}
    for shard, seq in stored(harness, "rowid"):
        shards.setdefault(shard, []).append(seq)
    assert sum(map(len, shards.values())) == 120
    assert list(shards.values()) == [sorted(seqs) for seqs in shards.values()]


def test_more_answers_than_memory_is_given_to_are_all_stored(open_harness, monkeypatch):
    """What does not wait together is stored piece by piece, and nothing is missing or twice."""
    monkeypatch.setattr(answers, "_HELD_BYTES", 3_000)
    harness = open_harness(ShuffleOutput())

    assert harness.run(120).all_succeeded

    assert [seq for _, seq in stored(harness, "seq")] == list(range(120))
    assert [line["status"] for line in harness.export()] == ["succeeded"] * 120
