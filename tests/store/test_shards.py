"""Shards: rows, guarded transitions, leases, and races for them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError

from batchkit.errors import StateConflict
from batchkit.lifecycle import SHARD_TRANSITIONS
from batchkit.models import Destination, ShardState
from batchkit.store import events, shard_leases, shards
from batchkit.store.engine import Store
from batchkit.store.shards import ShardTotals
from batchkit.store.tables import shards as shard_rows
from tests.factories import AUDIO, NOW, add_shard, add_workload

EDGES = [(source, target) for source, targets in SHARD_TRANSITIONS.items() for target in sorted(targets)]
DEMANDED: dict[ShardState, dict[str, Any]] = {
    ShardState.UPLOADED: {"input_file_id": "file-x"},
    ShardState.SUBMITTING: {"submitting_since": NOW},
    ShardState.SUBMITTED: {"batch_id": "batch-x"},
    ShardState.SENDING: {"lane": "sync"},
}


def kinds(connection, workload):
    """Return the kinds of the workload's events, oldest first."""
    return [event.kind for event in reversed(events.newest(connection, workload.id, limit=1_000))]


def claim(connection, workload, *, owner="a", now=NOW, limit=100, state=ShardState.PLANNED, lease_seconds=60):
    """Claim shards and return their numbers."""
    taken = shard_leases.claim(
        connection, workload.id, state, owner=owner, now=now, lease_seconds=lease_seconds, limit=limit
    )
    return [shard.number for shard in taken]


def test_added_shard_is_read_back_whole(store):
    """A new shard is planned, free and due at once, and has an event."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard_id = shards.add(
            connection,
            workload_id=workload.id,
            number=shards.next_number(connection, workload.id),
            destination=Destination(AUDIO),
            window="48h",
            key="key",
            path="évals/shards/key.jsonl",
            sha256="ab",
            line_count=2,
            byte_count=2**40,
            first_seq=2**40,
            last_seq=2**40 + 7,
            next_lines=100,
            next_window="7d",
            waits=3,
            at=NOW,
        )
        shard = shards.get(connection, shard_id)
        event = events.newest(connection, workload.id, limit=1)[0]
    assert (shard.state, shard.number, shard.endpoint, shard.window) == (ShardState.PLANNED, 1, AUDIO, "48h")
    assert (shard.path, shard.byte_count, shard.first_seq, shard.last_seq) == (
        "évals/shards/key.jsonl",
        2**40,
        2**40,
        2**40 + 7,
    )
    assert (shard.next_lines, shard.next_window, shard.waits, shard.refusals) == (100, "7d", 3, 0)
    assert (shard.input_file_id, shard.batch_id, shard.submitting_since, shard.not_before) == (None, None, None, 0)
    assert (event.kind, event.shard_number, event.at) == ("(none) -> planned", shard.number, NOW)


def test_numbers_count_up_from_one_in_each_workload(store):
    """Every workload numbers its own shards."""
    with store.write() as connection:
        first, second = add_workload(connection, "first"), add_workload(connection, "second")
        numbers = [add_shard(connection, workload).number for workload in (first, first, second, first)]
    assert numbers == [1, 2, 1, 3]


@pytest.mark.parametrize("column", ["key", "number"])
def test_key_and_number_are_unique(store, column):
    """A second shard of the same key, or of the same number in a workload, is refused."""
    with store.write() as connection:
        workload = add_workload(connection)
        first, second = add_shard(connection, workload), add_shard(connection, workload)
    same = {column: getattr(first, column)}
    with pytest.raises(IntegrityError), store.write() as connection:
        connection.execute(update(shard_rows).where(shard_rows.c.id == second.id).values(**same))


@pytest.mark.parametrize(("source", "target"), EDGES, ids=lambda state: state.value)
def test_transition_moves_frees_and_records(store, source, target):
    """Each allowed transition writes the state, gives the lease back, and leaves one event that names it."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, state=source, lease_owner="a", lease_until=NOW + 60)
        shards.transition(connection, shard, target, at=NOW + 5, owner="a", detail="why", **DEMANDED.get(target, {}))
        moved = shards.get(connection, shard.id)
        event = events.newest(connection, workload.id, limit=1)[0]
        assert shard_leases.lease_owners(connection) == set()
    assert moved.state is target
    assert (event.kind, event.detail, event.shard_number, event.at) == (
        f"{source} -> {target}",
        "why",
        shard.number,
        NOW + 5,
    )


@pytest.mark.parametrize("source", ShardState, ids=lambda state: state.value)
def test_transition_that_is_not_in_the_table_is_refused(store, source):
    """Any other transition is a StateConflict before a row is changed."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, state=source)
        journal = kinds(connection, workload)
        for target in set(ShardState) - SHARD_TRANSITIONS[source]:
            with pytest.raises(StateConflict):
                shards.transition(connection, shard, target, at=NOW, **DEMANDED.get(target, {}))
        assert shards.get(connection, shard.id) == shard
        assert kinds(connection, workload) == journal


def test_second_of_two_transitions_changes_no_row(store):
    """A transition from an outdated state raises StateConflict and leaves no event."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload)
        shards.transition(connection, shard, ShardState.UPLOADED, at=NOW, input_file_id="file-first")
    with pytest.raises(StateConflict, match="no longer planned"), store.write() as connection:
        shards.transition(connection, shard, ShardState.UPLOADED, at=NOW, input_file_id="file-second")
    with store.read() as connection:
        assert shards.get(connection, shard.id).input_file_id == "file-first"
        assert kinds(connection, workload).count("planned -> uploaded") == 1


@pytest.mark.parametrize("holder", ["b", None])
def test_transition_requires_that_the_lease_is_still_held(store, holder):
    """With an owner given, a lease that was lost or given up is a StateConflict that changes nothing."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, lease_owner=holder, lease_until=holder and NOW + 60)
        journal = kinds(connection, workload)
        with pytest.raises(StateConflict):
            shards.transition(connection, shard, ShardState.UPLOADED, at=NOW, owner="a", input_file_id="file-x")
        assert shards.get(connection, shard.id) == shard
        assert kinds(connection, workload) == journal


def test_conflict_rolls_back_the_whole_transaction(store):
    """Changes made in the transaction before the conflict are not kept."""
    with store.write() as connection:
        workload = add_workload(connection)
        moved, other = add_shard(connection, workload), add_shard(connection, workload, state=ShardState.ENDED)
        journal = kinds(connection, workload)
    stale = replace(other, state=ShardState.SUBMITTED)

    def move_both() -> None:
        with store.write() as connection:
            shards.transition(connection, moved, ShardState.WITHDRAWN, at=NOW)
            shards.transition(connection, stale, ShardState.ENDED, at=NOW)

    with pytest.raises(StateConflict):
        move_both()
    with store.read() as connection:
        assert shards.get(connection, moved.id) == moved
        assert kinds(connection, workload) == journal


def test_lease_may_be_kept_across_a_transition(store):
    """A runner that continues with the shard keeps its lease."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, lease_owner="a", lease_until=NOW + 60)
        shards.transition(
            connection, shard, ShardState.UPLOADED, at=NOW, owner="a", keep_lease=True, input_file_id="file-x"
        )
        assert shard_leases.lease_owners(connection) == {"a"}


def test_transition_that_the_state_forbids_is_refused_by_the_database(store):
    """Without the file or batch that the new state needs, nothing is written."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload)
    with pytest.raises(IntegrityError), store.write() as connection:
        shards.transition(connection, shard, ShardState.UPLOADED, at=NOW)
    with store.read() as connection:
        assert shards.get(connection, shard.id) == shard
        assert kinds(connection, workload)[-1] == "(none) -> planned"


@pytest.mark.parametrize(
    ("state", "columns"),
    [
        (ShardState.PLANNED, {"state": "unheard-of"}),
        (ShardState.PLANNED, {"state": None}),
        (ShardState.PLANNED, {"line_count": 0}),
        (ShardState.PLANNED, {"state": "submitting", "input_file_id": "f"}),
        (ShardState.UPLOADED, {"input_file_id": None}),
        (ShardState.SUBMITTING, {"input_file_id": None}),
        (ShardState.SUBMITTING, {"submitting_since": None}),
        (ShardState.PLANNED, {"path": None}),
        (ShardState.SUBMITTED, {"batch_id": None}),
        (ShardState.ENDED, {"batch_id": None}),
        (ShardState.MERGED, {"batch_id": None}),
        (ShardState.PLANNED, {"workload_id": 4711}),
    ],
    ids=str,
)
def test_impossible_shard_is_refused(store, state, columns):
    """A row without the columns that its state needs, or without a workload, never gets into the database."""
    with store.write() as connection:
        shard = add_shard(connection, add_workload(connection), state=state)
    with pytest.raises(IntegrityError), store.write() as connection:
        connection.execute(update(shard_rows).where(shard_rows.c.id == shard.id).values(**columns))


def test_batch_belongs_to_one_shard_only(store):
    """Adopting the same batch for two shards is refused."""
    with store.write() as connection:
        workload = add_workload(connection)
        taken = add_shard(connection, workload, state=ShardState.SUBMITTED)
        shard = add_shard(connection, workload, state=ShardState.SUBMITTING)
    with pytest.raises(IntegrityError), store.write() as connection:
        shards.transition(connection, shard, ShardState.SUBMITTED, at=NOW, batch_id=taken.batch_id)


def test_values_are_set_under_the_lease_only(store):
    """Columns are written while the lease is held and the state is as read; otherwise the call is a StateConflict."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, lease_owner="a", lease_until=NOW + 60)
        other = add_shard(connection, workload, lease_owner="a", lease_until=NOW + 60)
        shards.set_values(connection, shard, owner="a", not_before=NOW + 9, refusals=2)
        assert shards.get(connection, shard.id) == replace(shard, not_before=NOW + 9, refusals=2)
        assert shards.get(connection, other.id) == other
        with pytest.raises(StateConflict):
            shards.set_values(connection, shard, owner="b", refusals=3)
        with pytest.raises(StateConflict):
            shards.set_values(connection, replace(shard, state=ShardState.UPLOADED), owner="a", refusals=3)
        assert shards.get(connection, shard.id).refusals == 2


def test_claim_takes_the_lowest_numbers_in_order(store):
    """No more shards than asked for, by number, and never one that another owner holds."""
    with store.write() as connection:
        workload = add_workload(connection)
        for _ in range(5):
            add_shard(connection, workload)
        assert claim(connection, workload, owner="a", limit=2) == [1, 2]
        assert claim(connection, workload, owner="b", limit=2) == [3, 4]
        assert claim(connection, workload, owner="c", limit=2) == [5]
        assert claim(connection, workload, owner="d", limit=2) == []
        assert claim(connection, workload, owner="a", limit=0) == []


def test_claim_is_ordered_by_number_and_not_by_age(store):
    """Claims follow the numbers even where the rows are stored in another order."""
    with store.write() as connection:
        workload = add_workload(connection)
        made = [add_shard(connection, workload) for _ in range(5)]
        for number, shard in zip((50, 20, 40, 10, 30), made, strict=True):
            connection.execute(update(shard_rows).where(shard_rows.c.id == shard.id).values(number=number))
        assert claim(connection, workload, owner="a", limit=2) == [10, 20]
        assert claim(connection, workload, owner="b", limit=9) == [30, 40, 50]


def test_claim_takes_new_shards_first_and_then_those_that_are_due_for_longest(store):
    """A shard that is postponed again and again does not keep the others waiting, whatever its number."""
    with store.write() as connection:
        workload = add_workload(connection)
        for pause_ended in (2, 30, 20, 0, 10, 0):
            add_shard(connection, workload, not_before=NOW - pause_ended if pause_ended else 0)
        assert claim(connection, workload, owner="a", limit=1, now=NOW) == [4]
        assert claim(connection, workload, owner="b", limit=3, now=NOW) == [2, 3, 6]
        assert claim(connection, workload, owner="c", limit=9, now=NOW) == [1, 5]


def test_claim_sees_its_state_and_workload_only(store):
    """Shards in other states or of other workloads are left alone."""
    with store.write() as connection:
        workload, other = add_workload(connection, "first"), add_workload(connection, "second")
        for state in ShardState:
            add_shard(connection, workload, state=state)
        add_shard(connection, other, state=ShardState.ENDED)
        ended = list(ShardState).index(ShardState.ENDED) + 1
        assert claim(connection, workload, state=ShardState.ENDED) == [ended]
        assert claim(connection, other, owner="b", state=ShardState.ENDED) == [1]


def test_shard_is_claimed_only_when_due(store):
    """``not_before`` is exact to the second: the shard is due at that very second."""
    with store.write() as connection:
        workload = add_workload(connection)
        add_shard(connection, workload, not_before=NOW + 10)
        assert claim(connection, workload, now=NOW + 9.999) == []
        assert claim(connection, workload, now=NOW + 10) == [1]


def test_expired_lease_is_taken_over(store):
    """A lease is valid up to and including its end; after it anyone may claim the shard, and the last holder has lost it."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload)
        assert claim(connection, workload, owner="a", now=NOW, lease_seconds=60) == [1]
        assert claim(connection, workload, owner="b", now=NOW + 60) == []
        assert claim(connection, workload, owner="b", now=NOW + 60.001) == [1]
        with pytest.raises(StateConflict):
            shards.transition(connection, shard, ShardState.UPLOADED, at=NOW, owner="a", input_file_id="file-x")


def test_own_lease_is_claimed_again(store):
    """A runner that claims again gets the shards it already holds, with a new end."""
    with store.write() as connection:
        workload = add_workload(connection)
        add_shard(connection, workload)
        assert claim(connection, workload, owner="a", now=NOW, lease_seconds=10) == [1]
        assert claim(connection, workload, owner="a", now=NOW + 5, lease_seconds=10) == [1]
        assert claim(connection, workload, owner="b", now=NOW + 14) == []


def test_released_shards_are_free(store):
    """Leases are given up by shard or all at once, and only those of the owner."""
    with store.write() as connection:
        workload = add_workload(connection)
        made = [add_shard(connection, workload) for _ in range(4)]
        claim(connection, workload, owner="a", limit=3)
        claim(connection, workload, owner="b")
        shard_leases.release(connection, "a", [made[0].id, made[3].id])
        assert claim(connection, workload, owner="c") == [1]
        shard_leases.release(connection, "a", [])
        assert claim(connection, workload, owner="d") == []
        shard_leases.release(connection, "a")
        assert claim(connection, workload, owner="d") == [2, 3]
        assert shard_leases.lease_owners(connection) == {"b", "c", "d"}


def test_renewed_leases_hold_longer(store):
    """Renewing extends every lease of the owner and no others."""
    with store.write() as connection:
        workload = add_workload(connection)
        for _ in range(3):
            add_shard(connection, workload)
        claim(connection, workload, owner="a", limit=2, lease_seconds=10)
        claim(connection, workload, owner="b", lease_seconds=10)
        shard_leases.renew_leases(connection, "a", NOW + 100)
        assert claim(connection, workload, owner="c", now=NOW + 50) == [3]


def test_racing_runners_never_share_a_shard(store):
    """Runners that claim at the same moment share the shards: none twice, none left over."""
    runners, count = 4, 40
    with store.write() as connection:
        workload = add_workload(connection)
        for _ in range(count):
            add_shard(connection, workload, lines=1)
    start = threading.Barrier(runners)

    def run(owner: str) -> list[int]:
        taken: list[int] = []
        start.wait()
        while True:
            with store.write() as connection:
                numbers = [
                    shard.number
                    for shard in shard_leases.claim(
                        connection,
                        workload.id,
                        ShardState.PLANNED,
                        owner=owner,
                        now=NOW,
                        lease_seconds=60,
                        limit=3,
                    )
                    if shard.number not in taken
                ]
                if not numbers:
                    return taken
                taken += numbers
                connection.execute(
                    update(shard_rows)
                    .where(shard_rows.c.workload_id == workload.id, shard_rows.c.lease_owner == owner)
                    .values(not_before=NOW + 1)
                )

    with ThreadPoolExecutor(runners) as pool:
        taken = list(pool.map(run, [f"runner-{number}" for number in range(runners)]))
    assert sorted(number for numbers in taken for number in numbers) == list(range(1, count + 1))


def test_claim_skips_rows_that_another_transaction_is_claiming(postgres_store, postgres_url):
    """On Postgres a claim does not wait for rows that are being claimed: it takes the next ones."""
    with postgres_store.write() as connection:
        workload = add_workload(connection)
        for _ in range(4):
            add_shard(connection, workload)
    # Use a separate store: the writes of one store must not be nested.
    other = Store(postgres_url)
    with postgres_store.write() as first, other.write() as second:
        assert claim(first, workload, owner="a", limit=2) == [1, 2]
        assert claim(second, workload, owner="b", limit=2) == [3, 4]
    other.close()


@pytest.mark.parametrize("forbidden", [("hashjoin", "mergejoin", "hashagg", "sort"), ("nestloop", "seqscan")], ids=str)
def test_claim_keeps_its_limit_under_any_plan(postgres_store, forbidden):
    """However Postgres joins the candidates to their rows, no more are claimed than asked for."""
    with postgres_store.write() as connection:
        workload = add_workload(connection)
        for _ in range(10):
            add_shard(connection, workload)
    with postgres_store.write() as connection:
        for kind in (*forbidden, "material", "memoize"):
            connection.execute(text(f"SET LOCAL enable_{kind} = off"))
        assert claim(connection, workload, owner="a", limit=3) == [1, 2, 3]


def test_racing_transitions_have_one_winner(store):
    """Of two runners that move the same shard at the same moment, one succeeds and the other gets a StateConflict."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload)
    start = threading.Barrier(2)

    def move(file_id: str) -> bool:
        start.wait()
        try:
            with store.write() as connection:
                shards.transition(connection, shard, ShardState.UPLOADED, at=NOW, input_file_id=file_id)
        except StateConflict:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        won = list(pool.map(move, ["file-a", "file-b"]))
    assert sorted(won) == [False, True]
    with store.read() as connection:
        assert shards.get(connection, shard.id).input_file_id == ("file-a" if won[0] else "file-b")
        assert kinds(connection, workload).count("planned -> uploaded") == 1


def test_shards_are_read_by_state_in_order(store):
    """Only the given states, by number; no states give no shards."""
    with store.write() as connection:
        workload = add_workload(connection)
        states = [ShardState.ENDED, ShardState.PLANNED, ShardState.MERGED, ShardState.ENDED]
        made = [add_shard(connection, workload, state=state) for state in states]
        add_shard(connection, add_workload(connection, "other"), state=ShardState.ENDED)
        assert shards.in_states(connection, workload.id, (ShardState.ENDED, ShardState.MERGED)) == [
            made[0],
            made[2],
            made[3],
        ]
        assert shards.in_states(connection, workload.id, ()) == []


def test_totals_by_state_sum_the_shards_and_count_merges(store):
    """Totals hold lines, expired attempts, tokens (beyond 32 bits too) and the newest merge; states without a shard are absent."""
    with store.write() as connection:
        workload = add_workload(connection)
        assert shards.totals_by_state(connection, workload.id) == {}
        add_shard(connection, workload, lines=2)
        add_shard(connection, workload, lines=3)
        for owner, at, prompt, completion, expired in (
            (workload, NOW + 9, 2**33, 5, 2),
            (workload, NOW + 4, 1, 2, 1),
            (add_workload(connection, "other"), NOW, 100, 100, 100),
        ):
            add_shard(
                connection,
                owner,
                lines=7,
                state=ShardState.MERGED,
                at=at,
                prompt_tokens=prompt,
                completion_tokens=completion,
                expired=expired,
            )
        assert shards.totals_by_state(connection, workload.id) == {
            ShardState.PLANNED: ShardTotals(2, 5, 0, 0, 0, None),
            ShardState.MERGED: ShardTotals(2, 14, 3, 2**33 + 1, 7, NOW + 9),
        }


def test_shards_that_were_cut_again_are_counted_by_whether_they_were_sent(store):
    """Such shards come after the whole input in numbering; a withdrawn one no longer holds any request."""
    with store.write() as connection:
        workload, other = add_workload(connection), add_workload(connection, "other")
        assert shards.resubmitted(connection, workload.id, request_count=10) == (0, 0)
        for owner, lines, state in (
            (workload, 7, ShardState.MERGED),
            (other, 50, ShardState.MERGED),
            (workload, 3, ShardState.PLANNED),
            (other, 50, ShardState.PLANNED),
        ):
            add_shard(connection, owner, lines=lines, state=state)
        assert shards.resubmitted(connection, workload.id, request_count=10) == (0, 0)
        for lines, state in (
            (4, ShardState.PLANNED),
            (2, ShardState.UPLOADED),
            (5, ShardState.SUBMITTED),
            (1, ShardState.MERGED),
            (9, ShardState.WITHDRAWN),
        ):
            add_shard(connection, workload, lines=lines, state=state)
        assert shards.resubmitted(connection, workload.id, request_count=10) == (6, 6)


def test_a_shard_in_some_states_is_found(store):
    """One shard in one of the states is enough; another workload's is not."""
    with store.write() as connection:
        workload = add_workload(connection)
        add_shard(connection, workload)
        add_shard(connection, add_workload(connection, "other"), state=ShardState.MERGED)
        assert shards.has_any(connection, workload.id, (ShardState.MERGED, ShardState.PLANNED))
        assert not shards.has_any(connection, workload.id, (ShardState.MERGED, ShardState.ENDED))
        assert not shards.has_any(connection, workload.id, ())


def test_next_due_is_the_earliest_of_a_state(store):
    """Other states do not count; without a shard there is no due time."""
    with store.write() as connection:
        workload = add_workload(connection)
        assert shards.next_due(connection, workload.id, ShardState.PLANNED) is None
        add_shard(connection, workload, not_before=NOW + 9)
        add_shard(connection, workload, not_before=NOW + 5)
        add_shard(connection, workload, state=ShardState.ENDED, not_before=NOW + 1)
        assert shards.next_due(connection, workload.id, ShardState.PLANNED) == NOW + 5
        assert shards.next_due(connection, workload.id, ShardState.SUBMITTED) is None


def test_open_shards_are_those_that_owe_answers(store):
    """Merged and withdrawn shards owe no answer; all others count, up to the limit."""
    with store.write() as connection:
        workload = add_workload(connection)
        for state in ShardState:
            add_shard(connection, workload, state=state)
        assert shards.open_count(connection, workload.id, at_most=100) == len(ShardState) - 2
        assert shards.open_count(connection, workload.id, at_most=2) == 2


def test_last_merge_is_the_newest(store):
    """There is none before the first merge; later it is the largest time, whatever the order of numbers."""
    with store.write() as connection:
        workload = add_workload(connection)
        add_shard(connection, workload)
        assert shards.last_merged_at(connection, workload.id) is None
        add_shard(connection, workload, state=ShardState.MERGED, at=NOW + 9)
        add_shard(connection, workload, state=ShardState.MERGED, at=NOW + 4)
        assert shards.last_merged_at(connection, workload.id) == NOW + 9


def test_batches_and_refusals_of_a_workload(store):
    """The map has every shard of the workload and none of another; only refused shards count as refused."""
    with store.write() as connection:
        workload = add_workload(connection)
        waiting = add_shard(connection, workload, refusals=2)
        merged = add_shard(connection, workload, state=ShardState.MERGED)
        refused = add_shard(connection, workload, state=ShardState.WITHDRAWN, refusals=1)
        failed = add_shard(connection, workload, state=ShardState.MERGED, refusals=1)
        add_shard(connection, add_workload(connection, "other"), state=ShardState.WITHDRAWN, refusals=1)
        every = (waiting, merged, refused, failed)
        assert shards.batch_ids(connection, workload.id) == {shard.id: shard.batch_id for shard in every}
        assert shards.refused_count(connection, workload.id) == 2


def test_cleaned_shards_are_marked(store):
    """The time of cleaning is written to every shard of the workload and to no other."""
    with store.write() as connection:
        workload, other = add_workload(connection, "first"), add_workload(connection, "second")
        for owner in (workload, workload, other):
            add_shard(connection, owner)
        shards.mark_cleaned(connection, workload.id, at=NOW + 3)
        cleaned = connection.execute(select(shard_rows.c.cleaned_at).order_by(shard_rows.c.id)).scalars().all()
    assert cleaned == [NOW + 3, NOW + 3, None]


def test_events_are_read_newest_first(store):
    """The events of one workload alone, limited."""
    with store.write() as connection:
        workload, other = add_workload(connection, "first"), add_workload(connection, "second")
        for number in range(3):
            events.record(connection, workload.id, f"kind {number}", at=NOW + number, detail="größe\n'")
        events.record(connection, other.id, "kind 9", at=NOW)
        newest = events.newest(connection, workload.id, limit=2)
        assert [(event.kind, event.at, event.detail) for event in newest] == [
            ("kind 2", NOW + 2, "größe\n'"),
            ("kind 1", NOW + 1, "größe\n'"),
        ]
        assert newest[0].shard_number is None


def test_a_creation_whose_reply_is_abandoned_gets_its_whole_grace_period(store):
    """A runner closed during a creation restarts the grace period before it gives up the lease; other shards stay unchanged."""
    with store.write() as connection:
        workload = add_workload(connection)
        held: dict[str, Any] = {"looks": 3, "lease_until": NOW + 60}
        ours = add_shard(connection, workload, state=ShardState.SUBMITTING, lease_owner="us", **held)
        theirs = add_shard(connection, workload, state=ShardState.SUBMITTING, lease_owner="them", **held)
        shard_leases.leave_submitting(connection, "us", now=NOW + 50)
        shard_leases.release(connection, "us")
        left, kept = shards.get(connection, ours.id), shards.get(connection, theirs.id)

    assert (left.submitting_since, left.list_scans) == (NOW + 50, 0)
    assert (kept.submitting_since, kept.list_scans) == (theirs.submitting_since, 3)


def test_impossible_times_of_a_submitted_shard_are_reset_but_not_its_wait_for_an_overdue_batch(store):
    """Lease and intent from a clock ahead of ours end even while a batch runs; ending the other wait would give the batch up."""
    longest = shard_leases.LongestWaits(not_before=0, lease=600, past=60)
    with store.write() as connection:
        workload = add_workload(connection)
        ahead: dict[str, Any] = {
            "not_before": NOW + 3_000,
            "refusals": 1,
            "lease_owner": "them",
            "lease_until": NOW + 86_400,
            "submitting_since": NOW + 86_400,
            "looks": 3,
        }
        late = add_shard(connection, workload, state=ShardState.SUBMITTED, **ahead)
        ended = add_shard(connection, workload, state=ShardState.ENDED, not_before=NOW + 3_000)
        shard_leases.end_impossible_waits(connection, workload.id, now=NOW, longest=longest)
        late, ended = shards.get(connection, late.id), shards.get(connection, ended.id)
        lease = select(shard_rows.c.lease_owner, shard_rows.c.lease_until).where(shard_rows.c.id == late.id)
        assert tuple(connection.execute(lease).one()) == ("them", 0)

    assert (late.not_before, late.refusals) == (NOW + 3_000, 1)
    assert (late.submitting_since, late.list_scans) == (NOW, 0)
    assert ended.not_before == 0
