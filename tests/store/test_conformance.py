"""The store against a model: after any order of steps the counts add up, and no answer is lost or bought again."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import func, select

from batchkit.lifecycle import OPEN_SHARD_STATES, SHARD_TRANSITIONS
from batchkit.models import RequestState, ShardId, ShardState
from batchkit.store import requests, shards, workloads
from batchkit.store.bulk import bulk_for
from batchkit.store.tables import requests as request_rows
from batchkit.store.tables import results as result_rows
from tests.factories import AUDIO, CHAT, NOW, add_shard, add_workload, failure, success

STEPS = 60
ROAD: dict[ShardState, dict[str, Any]] = {
    ShardState.PLANNED: {"input_file_id": "file"},
    ShardState.UPLOADED: {"submitting_since": NOW},
    ShardState.SUBMITTING: {},
    ShardState.SUBMITTED: {},
}


@dataclass
class Model:
    """The expected content of the store: each request's state and shard, and each shard's state and endpoint."""

    state: dict[int, RequestState] = field(default_factory=dict)
    shard_of: dict[int, ShardId] = field(default_factory=dict)
    shard_state: dict[ShardId, ShardState] = field(default_factory=dict)
    endpoint: dict[ShardId, str] = field(default_factory=dict)

    def shard_requests(self, shard_id):
        """Return the requests that wait for a shard's answer."""
        return [
            seq
            for seq, state in sorted(self.state.items())
            if state is RequestState.IN_FLIGHT and self.shard_of[seq] == shard_id
        ]

    def pending(self):
        """Return the requests that wait for another attempt, by shard."""
        waiting: dict[ShardId, list[int]] = {}
        for seq, state in sorted(self.state.items()):
            if state is RequestState.PENDING:
                waiting.setdefault(self.shard_of[seq], []).append(seq)
        return waiting

    def set(self, seqs, state):
        """Put requests into a state."""
        self.state |= dict.fromkeys(seqs, state)

    def shards_in(self, *states):
        """Return the shards that are in one of the states."""
        return [shard_id for shard_id, state in sorted(self.shard_state.items()) if state in states]


class Walk:
    """Random steps, applied to the store and to the model; the same seed repeats the walk."""

    def __init__(self, connection, workload, seed):
        self.connection = connection
        self.workload = workload
        self.random = random.Random(seed)  # noqa: S311 - a walk that can be repeated, no secret
        self.model = Model()

    def step(self):
        """Take one random step."""
        steps = [self.advance, self.merge, self.withdraw, self.resubmit, self.cancel_pending, self.reopen]
        self.random.choices(steps, weights=[8, 5, 2, 3, 1, 1])[0]()

    def split(self):
        """Cut shards of two endpoints over the same range, as a split does."""
        seqs = list(range(40))
        endpoints = {seq: self.random.choice([CHAT, AUDIO]) for seq in seqs}
        for endpoint in (CHAT, AUDIO):
            own = [seq for seq in seqs if endpoints[seq] == endpoint]
            for start in range(0, len(own), 7):
                shard = add_shard(self.connection, self.workload, seqs=own[start : start + 7], endpoint=endpoint)
                self.model.set(own[start : start + 7], RequestState.IN_FLIGHT)
                self.model.shard_of |= dict.fromkeys(own[start : start + 7], shard.id)
                self.model.shard_state[shard.id] = ShardState.PLANNED
                self.model.endpoint[shard.id] = endpoint

    def _pick(self, *states):
        found = self.model.shards_in(*states)
        return shards.get(self.connection, self.random.choice(found)) if found else None

    def advance(self):
        """Move a shard to its next state."""
        shard = self._pick(*ROAD)
        if shard is None:
            return
        states = [state for state in ShardState if state is not ShardState.SENDING]  # of the other lane
        target = states[states.index(shard.state) + 1]
        assert target in SHARD_TRANSITIONS[shard.state]
        values: dict[str, Any] = ROAD[shard.state].copy()
        if target is ShardState.SUBMITTED:
            values["batch_id"] = f"batch-{shard.id}"
        shards.transition(self.connection, shard, target, at=NOW, **values)
        self.model.shard_state[shard.id] = target

    def merge(self):
        """Give every request of an ended shard a result in one transaction."""
        shard = self._pick(ShardState.ENDED)
        if shard is None:
            return
        shard_requests = self.model.shard_requests(shard.id)
        assert [request.seq for request in requests.of_shard(self.connection, shard)] == shard_requests
        won = self.random.sample(shard_requests, self.random.randint(0, len(shard_requests)))
        verdicts = {
            seq: self.random.choice([RequestState.PENDING, RequestState.FAILED, RequestState.CANCELLED])
            for seq in shard_requests
            if seq not in won
        }
        bulk = bulk_for(self.connection)
        bulk.set_states(self.workload.id, [(seq, state.value, 1, 0) for seq, state in verdicts.items()])
        assert requests.mark_succeeded(self.connection, shard) == len(won)
        failed = [seq for seq, state in verdicts.items() if state is RequestState.FAILED]
        bulk.add_results(
            [success(shard, seq) for seq in won] + [failure(shard, seq, code=f"code-{seq % 3}") for seq in failed]
        )
        shards.transition(
            self.connection,
            shard,
            ShardState.MERGED,
            at=NOW,
            merged_at=NOW,
            next_lines=self.random.choice([5, 9]),
            not_before=self.random.choice([0, NOW + 10]),
        )
        self.model.set(won, RequestState.SUCCEEDED)
        self.model.state |= verdicts
        self.model.shard_state[shard.id] = ShardState.MERGED

    def withdraw(self):
        """Withdraw a shard that was not sent."""
        shard = self._pick(ShardState.PLANNED, ShardState.UPLOADED)
        if shard is None:
            return
        shard_requests = self.model.shard_requests(shard.id)
        target = self.random.choice([RequestState.PENDING, RequestState.CANCELLED])
        assert requests.move_back(self.connection, shard, target) == len(shard_requests)
        shards.transition(self.connection, shard, ShardState.WITHDRAWN, at=NOW)
        self.model.set(shard_requests, target)
        self.model.shard_state[shard.id] = ShardState.WITHDRAWN

    def resubmit(self):
        """Cut a shard from the first pending requests of a group."""
        groups = requests.resubmit_groups(self.connection, self.workload.id, now=NOW + 10)
        waiting = self.model.pending()
        assert sorted(shard_id for group in groups for shard_id in group.shard_ids) == sorted(waiting)
        if not groups:
            return
        group = self.random.choice(groups)
        assert {self.model.endpoint[shard_id] for shard_id in group.shard_ids} == {group.destination.endpoint}
        page = requests.pending_after(
            self.connection, self.workload.id, shard_ids=group.shard_ids, after_seq=-1, limit=group.lines
        )
        seqs = [request.seq for request in page]
        expected = sorted(seq for shard_id in group.shard_ids for seq in waiting[shard_id])
        assert seqs == expected[: group.lines]
        number = shards.next_number(self.connection, self.workload.id)
        new_id = shards.add(
            self.connection,
            workload_id=self.workload.id,
            number=number,
            destination=group.destination,
            window=group.window,
            key=f"{self.workload.id}-{number}",
            path="path",
            sha256="0",
            line_count=len(seqs),
            byte_count=1,
            first_seq=seqs[0],
            last_seq=seqs[-1],
            next_lines=group.lines,
            next_window=group.window,
            waits=group.waits,
            at=NOW,
        )
        rows = [(seq, place, 1) for place, seq in enumerate(seqs)]
        assert bulk_for(self.connection).move_to_shard(self.workload.id, new_id, rows) == len(seqs)
        self.model.set(seqs, RequestState.IN_FLIGHT)
        self.model.shard_of |= dict.fromkeys(seqs, new_id)
        self.model.shard_state[new_id] = ShardState.PLANNED
        self.model.endpoint[new_id] = group.destination.endpoint

    def cancel_pending(self):
        """Cancel the pending requests."""
        waiting = [seq for seqs in self.model.pending().values() for seq in seqs]
        assert requests.cancel_pending(self.connection, self.workload.id) == len(waiting)
        self.model.set(waiting, RequestState.CANCELLED)

    def reopen(self):
        """Make failed or cancelled requests pending again."""
        failed = self.random.choice([True, False])
        states = {RequestState.CANCELLED, RequestState.FAILED} if failed else {RequestState.CANCELLED}
        # Only for a withdrawn or merged shard: an open one has no such requests.
        back = [seq for seq, is_in in self.model.state.items() if is_in in states]
        assert requests.reopen(self.connection, self.workload.id, failed=failed) == len(back)
        self.model.set(back, RequestState.PENDING)

    def check(self):
        """Compare everything that the store reports with the model."""
        workload = workloads.get(self.connection, self.workload.id)
        counts = workloads.count_requests(self.connection, workload)
        told = {state: getattr(counts, state.value) for state in RequestState}
        modelled = Counter(self.model.state.values())
        assert told == {state: modelled[state] for state in RequestState}
        assert sum(told.values()) == counts.total == len(self.model.state)
        scan = select(request_rows.c.state, func.count()).where(request_rows.c.workload_id == workload.id)
        scanned = {state: count for state, count in self.connection.execute(scan.group_by(request_rows.c.state))}  # noqa: C416 - rows are not pairs to dict()
        assert scanned == {state.value: count for state, count in told.items() if count}
        finals = select(result_rows.c.seq, result_rows.c.state).where(result_rows.c.workload_id == workload.id)
        assert {seq: state for seq, state in self.connection.execute(finals)} == {  # noqa: C416 - as above
            seq: state.value
            for seq, state in self.model.state.items()
            if state in {RequestState.SUCCEEDED, RequestState.FAILED}
        }
        reasons = workloads.failure_reasons(self.connection, workload.id)
        assert sum(reason.count for reason in reasons) == counts.failed
        owes = bool(counts.unresolved or self.model.shards_in(*OPEN_SHARD_STATES))
        assert (workload in workloads.open_workloads(self.connection)) is owes
        assert shards.open_count(self.connection, workload.id, at_most=1_000) == len(
            self.model.shards_in(*OPEN_SHARD_STATES)
        )


@pytest.mark.parametrize("seed", range(5))
def test_counts_add_up_after_every_step(store, seed):
    """Counts sum to the total and equal a full scan after each of many random steps; no success is ever undone."""
    with store.write() as connection:
        neighbour = add_workload(connection, "neighbour")
        add_shard(connection, neighbour, lines=50, state=ShardState.WITHDRAWN)
        walk = Walk(connection, add_workload(connection), seed)
        walk.split()
        walk.check()
        won: set[int] = set()
        for _ in range(STEPS):
            walk.step()
            walk.check()
            succeeded = {seq for seq, state in walk.model.state.items() if state is RequestState.SUCCEEDED}
            assert won <= succeeded
            won = succeeded
        assert workloads.count_requests(connection, workloads.get(connection, neighbour.id)).pending == 50
    assert won, "a walk that answers nothing proves nothing"
