"""A runner pauses past the end of its lease while another one does its work: its late calls do no harm.

``test_stopped`` does the same with real processes that are stopped.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from batchkit.emulator.faults import calls
from batchkit.engine.waves import DriveUntil
from batchkit.models import BatchStatus, RequestCounts, ShardState
from batchkit.steps import poll
from tests.surroundings.proofs import Meddled, assert_bought_once, assert_complete
from tests.workloads import write_mixed

REQUESTS = 30
SHORT = {"lease_seconds": 0.2, "settle_seconds": 0.3}
TIMEOUT_SECONDS = 30.0


class Standstill:
    """A moment at which a runner and the thread that renews its leases pause, until ``let_go`` is called."""

    def __init__(self, moment: str) -> None:
        self._moment = moment
        self._once = threading.Lock()
        self._come = threading.Event()
        self._go = threading.Event()

    def of(self, runner):
        """Make a runner pause when it reaches the moment."""

        def meddle(moment):
            if moment == self._moment and self._once.acquire(blocking=False):
                runner._leases.keeper.close()
                self._come.set()
                assert self._go.wait(TIMEOUT_SECONDS)

        runner._given_provider = Meddled(runner.provider, meddle)
        return runner

    def until_reached(self):
        """Wait until the runner reaches the moment."""
        assert self._come.wait(TIMEOUT_SECONDS)

    def let_go(self):
        """Let the runner continue."""
        self._go.set()


def _finish_while_another_stands_still(harness, moment):
    """Pause a runner in a workload, finish the workload with another one, resume the first; return the calls in between."""
    standstill = Standstill(moment)
    late = standstill.of(harness.open_runner(transfers=1, **SHORT))
    other = harness.open_runner(**SHORT)
    workload = harness.split(write_mixed(harness.home.parent / "input.jsonl", REQUESTS), shard_lines=10)
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(late.process, workload.id)
        try:
            standstill.until_reached()
            assert other.process(workload.id).all_succeeded
            before = harness.emulator.ledger()
        finally:
            standstill.let_go()
        assert working.result(TIMEOUT_SECONDS).all_succeeded
    return before, other


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(">upload_file", marks=pytest.mark.slow),
        ">create_batch",
        pytest.param("<create_batch", marks=pytest.mark.slow),
        pytest.param("<download_file", marks=pytest.mark.slow),
    ],
)
def test_the_work_of_another_runner_is_not_undone(open_harness, moment):
    """Late uploads, creations and merges change nothing: no second batch, every request executed once, all answers in place."""
    harness = open_harness()

    before, other = _finish_while_another_stands_still(harness, moment)

    assert harness.emulator.ledger().totals.batches == before.totals.batches
    assert_bought_once(harness.emulator, REQUESTS)
    assert_complete(harness.export(), REQUESTS)
    assert other.progress(other.find("work").id).shards == {ShardState.MERGED: 4}


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param([], id="fails later"),
        pytest.param([calls.UnknownFileRefused()], id="refused at once", marks=pytest.mark.slow),
    ],
)
def test_a_creation_that_was_checked_and_is_sent_too_late_buys_nothing(open_harness, refusal):
    """Nothing can be checked between the last check and the sending: the late creation names a file that has been deleted."""
    harness = open_harness(*refusal)

    before, other = _finish_while_another_stands_still(harness, "!create_batch")

    after = harness.emulator.ledger()
    assert after.totals.batches == before.totals.batches + (not refusal)
    assert after.totals.requests_executed == before.totals.requests_executed == REQUESTS
    assert_complete(harness.export(), REQUESTS)
    assert _surplus(other) == ([] if refusal else [after.batches[-1].id])


@pytest.mark.slow
def test_a_second_batch_is_cancelled_at_once(open_harness):
    """Where a provider keeps its files, a late creation makes a second batch: it is cancelled and recorded."""
    harness = open_harness(calls.RefuseCalls(on=("files.delete",), status=403))

    before, other = _finish_while_another_stands_still(harness, "!create_batch")

    ledger = harness.emulator.ledger()
    assert ledger.totals.batches == before.totals.batches + 1
    assert ledger.calls["batches.cancel"] == 1
    assert_complete(harness.export(), REQUESTS)
    assert _surplus(other) == [ledger.batches[-1].id]


def _surplus(runner):
    """Return the batches that were recorded as surplus and cancelled."""
    with runner.store.read() as connection:
        told = connection.exec_driver_sql("SELECT detail FROM events WHERE kind = 'surplus batch'").scalars()
        return [detail.split()[3] for detail in told if detail.endswith("; it was cancelled")]


def test_a_snapshot_that_is_stored_late_hides_no_answers(open_harness):
    """One runner reads a running batch, another sees its end, and only then the first one writes: the answers are merged."""
    harness = open_harness()
    other, workload = (
        harness.open_runner(),
        harness.split(write_mixed(harness.home.parent / "input.jsonl", 8), shard_lines=50),
    )
    harness.runner.process(workload.id, until=DriveUntil.SUBMITTED)

    class Slow(Meddled):
        def get_batches(self, ids):
            running = {
                batch_id: replace(batch, status=BatchStatus.IN_PROGRESS, counts=RequestCounts(), output_file_id=None)
                for batch_id, batch in self._provider.get_batches(ids).items()
            }
            while not any("ended" in poll.poll(other._context(), workload.id).counts for _ in ids):
                pass
            return running

    late = replace(harness.runner._context(), provider=Slow(harness.runner.provider, lambda _moment: None))
    poll.poll(late, workload.id)

    assert other.process(workload.id).all_succeeded
    assert_bought_once(harness.emulator, 8)
