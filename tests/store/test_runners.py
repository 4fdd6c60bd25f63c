"""Runners: one row per process, updated in place, deleted when the process ends or has not been seen for a while."""

from __future__ import annotations

from dataclasses import replace

from batchkit.models import WorkloadId
from batchkit.store import runners
from batchkit.store.runners import RunnerRow
from tests.factories import NOW, add_workload

ROW = RunnerRow("host|boot|42|9|abc", "watch", "host", None, NOW, "3 batches at the provider", NOW - 60, NOW + 60)


def test_a_row_is_read_back_whole_and_refreshed_in_place(store):
    """A process has one row, however often the row is written."""
    with store.write() as connection:
        workload = add_workload(connection)
        runners.put(connection, replace(ROW, workload_id=workload.id))
        later = replace(ROW, workload_id=workload.id, seen_at=NOW + 30, waiting_for=None, since=None, until=None)
        runners.put(connection, later)
        assert runners.of_workload(connection, workload.id, seen_after=0) == [later]
        assert runners.owners(connection) == {ROW.owner}
    assert later.pid == "42"


def test_a_process_that_drives_everything_is_found_behind_one_that_drives_the_workload(store):
    """A process that drives all open workloads drives each of them; another workload's runner does not."""
    with store.write() as connection:
        mine, other = add_workload(connection), add_workload(connection, "other")
        all_of_them = replace(ROW, owner="a", seen_at=NOW + 5)
        alone = replace(ROW, owner="b", workload_id=mine.id)
        elsewhere = replace(ROW, owner="c", workload_id=other.id)
        for row in (all_of_them, alone, elsewhere):
            runners.put(connection, row)
        assert runners.of_workload(connection, mine.id, seen_after=NOW - 1) == [alone, all_of_them]
        assert runners.of_workload(connection, mine.id, seen_after=NOW) == [all_of_them]
        assert runners.of_workload(connection, WorkloadId(99), seen_after=NOW + 5) == []


def test_rows_are_removed_by_name_and_by_age(store):
    """Exactly the named rows are removed, or those not seen since the given time."""
    with store.write() as connection:
        for number in range(3):
            runners.put(connection, replace(ROW, owner=str(number), seen_at=NOW + number))
        runners.remove(connection, ["1", "unknown"])
        assert runners.owners(connection) == {"0", "2"}
        runners.remove_unseen(connection, before=NOW + 2)
        assert runners.owners(connection) == {"2"}
        runners.remove(connection, [])
        assert runners.owners(connection) == {"2"}


def test_characters_that_cannot_be_stored_are_replaced(store):
    """A provider's message may hold characters that no database accepts."""
    with store.write() as connection:
        runners.put(connection, replace(ROW, waiting_for="bad\x00word\ud800"))
        (found,) = runners.of_workload(connection, WorkloadId(1), seen_after=0)
    assert found.waiting_for is not None
    assert "\x00" not in found.waiting_for
