"""The clock jumps by hours during a run, as after a laptop's sleep or a manual change."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from batchkit.emulator.faults import batches, calls, lines
from batchkit.engine.outage import Outage
from batchkit.engine.runtime import Runner
from batchkit.steps.split import SplitOptions
from tests.surroundings.proofs import Meddled, assert_bought_once, assert_complete
from tests.workloads import write_mixed

REQUESTS = 60
HOUR = 3_600.0


class SetClock:
    """The real time plus an offset that a test sets."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.ahead = ahead

    def __call__(self) -> float:
        """Return the time in Unix seconds."""
        return time.time() + self.ahead


@pytest.fixture
def open_jumping(open_harness):
    """Return a function that opens a harness with a runner whose clock is set at the n-th call of a kind."""
    opened: list[Runner] = []

    def start(*faults, jumps=None, speed=432_000.0, **overrides):
        harness = open_harness(*faults, speed=speed)
        clock = SetClock()
        settings = harness.open_runner(**overrides).settings
        runner = Runner(settings, clock=clock)
        opened.append(runner)
        left = dict(jumps or {})
        seen: dict[str, int] = {}
        lock = threading.Lock()

        def meddle(moment):
            with lock:
                seen[moment] = seen.get(moment, 0) + 1
                clock.ahead += left.pop((moment, seen[moment]), 0.0)

        runner._given_provider = Meddled(runner.provider, meddle)
        harness.runner = runner
        return harness, clock, left

    yield start
    for runner in opened:
        runner.close()


@pytest.mark.slow
@pytest.mark.timeout(30)
@pytest.mark.parametrize("hours", [5, -5])
@pytest.mark.parametrize("sending", ["<upload_file", ">create_batch", "<create_batch"])
def test_a_jump_at_any_moment_is_survived(open_jumping, hours, sending):
    """The clock is set by hours while sending, and back while polling and again while fetching; the run finishes as usual."""
    jumps = {(sending, 3): hours * HOUR, (">get_batches", 2): -hours * HOUR, ("<download_file", 2): hours * HOUR}
    harness, _clock, left = open_jumping(
        lines.ExpireLines(fraction=0.3, attempts=1), jumps=jumps, settle_seconds=0.3, speed=100_000.0
    )

    progress = harness.run(REQUESTS)

    assert left == {}
    assert progress.all_succeeded
    assert_bought_once(harness.emulator, REQUESTS)
    assert_complete(harness.export(), REQUESTS)


@pytest.mark.timeout(30)
def test_a_clock_that_is_set_back_delays_nothing(open_jumping):
    """After a clock was set back by hours, uploads are retried and batches polled as usual, not hours later."""
    away = calls.DropConnection(on=("files.create",), times=2)
    harness, clock, _left = open_jumping(away, speed=50_000.0, http_attempts=1)
    workload = harness.split(write_mixed(harness.home.parent / "input.jsonl", REQUESTS), shard_lines=20)

    def wait_and_set_back(seconds):
        threading.Event().wait(seconds)
        clock.ahead -= HOUR

    harness.runner._wait = wait_and_set_back
    progress = harness.runner.process(workload.id)

    assert progress.all_succeeded


@pytest.mark.timeout(30)
def test_a_grace_that_was_slept_through_decides_nothing(open_jumping):
    """Time alone does not prove that no batch exists: a list that lags by some reads is read several times first."""
    harness, clock, _left = open_jumping(calls.LoseReply(on=("batches.create",)), batches.ListLag(calls=2))
    workload = harness.split(write_mixed(harness.home.parent / "input.jsonl", REQUESTS), shard_lines=20)

    def sleep(seconds):
        threading.Event().wait(min(seconds, 0.1))
        clock.ahead += HOUR

    harness.runner._wait = sleep
    progress = harness.runner.process(workload.id)

    assert progress.all_succeeded
    assert_bought_once(harness.emulator, REQUESTS)


@pytest.mark.slow
@pytest.mark.timeout(30)
def test_a_clock_that_is_ahead_for_a_while_costs_no_batch(open_jumping):
    """A batch that looks overdue because our clock was set days ahead is not cancelled while it runs."""
    jumps = {(">get_batches", 2): 200 * HOUR, (">get_batches", 5): -200 * HOUR}
    harness, _clock, left = open_jumping(
        batches.SlowBatches(seconds_per_line=2_000), jumps=jumps, speed=20_000.0, stuck_seconds=60.0
    )

    progress = harness.run(20)

    assert left == {}
    assert progress.all_succeeded
    assert "batches.cancel" not in harness.emulator.ledger().calls
    assert_bought_once(harness.emulator, 20)


@pytest.mark.slow
@pytest.mark.timeout(30)
def test_runners_whose_clocks_differ_by_hours_share_a_workload(open_harness, tmp_path):
    """To the runner that is ahead, every lease of the other has expired: both finish, and nothing is bought twice."""
    harness = open_harness(lines.ExpireLines(fraction=0.3, attempts=1))
    source = write_mixed(tmp_path / "input.jsonl", REQUESTS)
    harness.split(source, shard_lines=5)
    ahead = Runner(harness.runner.settings, clock=SetClock(5 * HOUR))

    def work(runner):
        workload = runner.split([source], name="work", options=SplitOptions(shard_lines=5))
        return runner.process(workload.id)

    with ahead, ThreadPoolExecutor(2) as pool:
        pictures = list(pool.map(work, [harness.runner, ahead]))

    assert all(progress.all_succeeded for progress in pictures)
    assert_bought_once(harness.emulator, REQUESTS)
    assert_complete(harness.export(), REQUESTS)


def test_a_sleep_does_not_count_as_an_outage():
    """Of the hours between two passes, only the time that a pass may take counts; a clock that was set back counts nothing."""
    outage = Outage()
    outage.meet(1_000)
    outage.wait(10)
    assert outage.meet(1_020) == 20
    outage.wait(10)
    assert outage.meet(1_020 + 8 * HOUR) == 20 + 310
    assert outage.meet(1_000) == 20 + 310
