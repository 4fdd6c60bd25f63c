"""Only the documented transitions of a shard are possible, and every output line has exactly one outcome."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from batchkit.errors import StateConflict
from batchkit.lifecycle import LineCodes, classify, decide
from batchkit.models import OutcomeKind, OutputLine, RequestState, RetryPolicy, ShardState
from batchkit.store import shards
from tests.factories import NOW, add_shard, add_workload
from tests.properties.odd_json import texts, values

#: The edges of the state diagram in the design.
ROADS = {
    ("planned", "uploaded"),
    ("uploaded", "submitting"),
    ("uploaded", "planned"),
    ("submitting", "submitted"),
    ("submitting", "uploaded"),
    ("submitted", "ended"),
    ("planned", "sending"),
    ("sending", "ended"),
    ("ended", "merged"),
    ("planned", "withdrawn"),
    ("uploaded", "withdrawn"),
}
COLUMNS: dict[str, Any] = {"lane": "sync", "input_file_id": "file", "submitting_since": NOW, "merged_at": NOW}


def test_only_documented_transitions_are_possible(store, effort):
    """In a random walk, a legal transition succeeds once, and any other is a conflict that changes nothing."""
    with store.write() as connection:
        workload = add_workload(connection)

    @effort(quick=8, deep=1_000)
    @given(targets=st.lists(st.sampled_from(ShardState), max_size=25))
    def holds(targets: list[ShardState]) -> None:
        with store.write() as connection:
            shard = add_shard(connection, workload, lines=1)
            for target in targets:
                before = shards.get(connection, shard.id)
                legal = (before.state, target) in ROADS
                try:
                    shards.transition(connection, before, target, at=NOW, batch_id=f"batch-{shard.id}", **COLUMNS)
                except StateConflict:
                    assert not legal
                    assert shards.get(connection, shard.id) == before
                    continue
                assert legal
                after = shards.get(connection, shard.id)
                assert after.state is target
                # A caller with the outdated state gets a conflict.
                try:
                    shards.transition(connection, before, target, at=NOW)
                except StateConflict:
                    assert shards.get(connection, shard.id) == after
                else:
                    raise AssertionError("the same step was made twice")

    holds()


lines = st.builds(
    OutputLine,
    custom_id=texts,
    status_code=st.none() | st.integers(0, 999),
    request_id=st.none() | texts,
    body=values,
    error_code=st.none() | texts,
    error_message=st.none() | texts,
    has_error=st.booleans(),
)


def test_every_line_has_one_outcome(effort):
    """A success has all fields of a success, any other line has a message, and the next state is legal."""

    @effort(quick=60, deep=5_000)
    @given(
        line=lines,
        counts=st.tuples(st.integers(0, 9), st.integers(0, 9)),
        budgets=st.tuples(st.integers(1, 9), st.integers(1, 9)),
        cancelling=st.booleans(),
    )
    def holds(line: OutputLine, counts: tuple[int, int], budgets: tuple[int, int], cancelling: bool) -> None:
        outcome = classify(line, LineCodes())
        is_success = bool(line.body) and not line.has_error and line.status_code in range(200, 300)
        named = line.error_code in ("batch_expired", "expired", "batch_cancelled", "cancelled", "canceled")
        assert (outcome.kind is OutcomeKind.SUCCEEDED) == (is_success and not named)
        assert outcome.kind is OutcomeKind.SUCCEEDED or outcome.code
        verdict = decide(
            outcome.kind,
            attempts=sum(counts),
            expiries=counts[1],
            policy=RetryPolicy(*budgets),
            cancelling=cancelling,
        )
        assert verdict.attempts == sum(counts) + 1
        assert verdict.expiries - counts[1] in (0, 1)
        assert verdict.state is not RequestState.IN_FLIGHT
        assert (verdict.state is RequestState.SUCCEEDED) == (outcome.kind is OutcomeKind.SUCCEEDED)
        assert verdict.state is not RequestState.PENDING or not cancelling

    holds()
