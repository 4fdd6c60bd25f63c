"""What a user can do with a workload besides running it: cancel, resubmit, clean, change the key."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from batchkit.emulator import Scenario
from batchkit.emulator.faults import batches, calls, lines
from batchkit.engine.progress import WorkloadState
from batchkit.engine.waves import DriveUntil
from batchkit.errors import ConfigurationError, Forbidden, ProviderUnreachable, Unauthorized, UsageError
from batchkit.models import ShardState
from batchkit.steps import poll
from batchkit.steps.split import SplitOptions
from batchkit.store import tables
from tests.steps.conftest import SPEED
from tests.workloads import write_mixed


def _submitted(harness, count=60):
    workload = harness.split(write_mixed(harness.home.parent / "input.jsonl", count), shard_lines=20)
    harness.runner.process(workload.id, until=DriveUntil.SUBMITTED)
    return workload


def test_submitting_ends_when_every_batch_exists(open_harness):
    """A run until submitted leaves one batch per shard and does not wait for any of them."""
    harness = open_harness(speed=1)

    workload = _submitted(harness)

    progress = harness.runner.progress(workload.id)
    assert progress.shards == {ShardState.SUBMITTED: 4}
    assert harness.emulator.ledger().totals.batches == 4


def test_cancelling_keeps_what_was_answered_and_ends_the_rest(open_harness):
    """After a cancel every request is succeeded, failed or cancelled, and no new batch is created."""
    # The window must outlast a stalled machine: requests that expire before the cancel are rightly sent again.
    harness = open_harness(batches.SlowBatches(seconds_per_line=2_000), speed=SPEED / 20)
    workload = _submitted(harness)

    harness.runner.request_cancel("work")
    progress = harness.runner.process(workload.id)

    assert progress.state is WorkloadState.FINISHED
    assert progress.counts.cancelled > 0
    assert progress.counts.cancelled + progress.counts.succeeded == 60
    assert harness.emulator.ledger().totals.batches == 4
    assert {line["status"] for line in harness.export()} <= {"cancelled", "succeeded"}


def test_cancelling_before_anything_was_sent_sends_nothing(open_harness, tmp_path):
    """A workload that is cancelled before its first upload ends without a single call that costs anything."""
    harness = open_harness()
    workload = harness.split(write_mixed(tmp_path / "input.jsonl", 60))

    harness.runner.request_cancel("work")
    progress = harness.runner.process(workload.id)

    assert progress.counts.cancelled == 60
    assert harness.emulator.ledger().totals.uploads == 0


def test_cancelled_requests_can_be_resubmitted(open_harness, tmp_path):
    """Resubmitting a cancelled workload sends exactly the cancelled requests."""
    harness = open_harness()
    workload = harness.split(write_mixed(tmp_path / "input.jsonl", 60))
    harness.runner.request_cancel("work")
    harness.runner.process(workload.id)

    assert harness.runner.reopen("work", failed=False) == 60
    progress = harness.runner.process(workload.id)

    assert progress.all_succeeded
    assert harness.emulator.ledger().totals.requests_executed == 60


def test_failed_requests_are_sent_again_only_when_asked(open_harness):
    """By default nothing is sent again; on request exactly the failed ones are."""
    harness = open_harness(lines.FailLines(fraction=0.3, attempts=1))
    failed = harness.run(60).counts.failed

    assert harness.runner.reopen("work", failed=False) == 0
    assert harness.runner.reopen("work", failed=True) == failed > 0
    progress = harness.runner.process(harness.runner.find("work").id)

    assert progress.all_succeeded
    assert harness.emulator.ledger().totals.requests_executed == 60 + failed
    assert harness.emulator.ledger().totals.bought_twice == 0


def test_a_finished_workload_run_again_sends_nothing(open_harness):
    """A second run has nothing to do: it makes no call that changes anything, and gives the same export."""
    harness = open_harness()
    harness.run(60)
    before, exported = harness.emulator.ledger().calls, harness.export()

    progress = harness.run(60)

    assert progress.all_succeeded
    assert harness.emulator.ledger().calls == before
    assert harness.export() == exported


def test_cleaning_removes_remote_files_local_files_and_rows(open_harness):
    """A cleaned workload leaves nothing at the provider, in the spool or in the database, except the names of models and tiers."""
    harness = open_harness(calls.LoseReply(on=("files.create",)))
    harness.run(60)

    report = harness.runner.clean("work", keep_results=False)

    assert all(upload.deleted for upload in harness.emulator.ledger().uploads)
    assert report.counts["remote files deleted"] == 9
    assert list(harness.runner.spool.root.glob("*")) == []
    with harness.runner.store.read() as connection:
        for table in set(tables.metadata.sorted_tables) - {tables.names}:
            assert connection.execute(select(func.count()).select_from(table)).scalar_one() == 0, table.name


def test_cleaning_may_keep_the_results(open_harness):
    """A workload cleaned with its results kept can still be exported."""
    harness = open_harness()
    harness.run(20)
    exported = harness.export()

    harness.runner.clean("work", keep_results=True)

    assert harness.export() == exported


def test_an_unfinished_workload_is_not_cleaned(open_harness):
    """Cleaning would lose paid results, so it is refused while work is under way."""
    harness = open_harness(speed=1)
    _submitted(harness)

    with pytest.raises(UsageError, match="unresolved"):
        harness.runner.clean("work", keep_results=False)


def test_another_key_is_refused_unless_it_is_confirmed(open_harness):
    """With another key the batches are invisible and would be bought again, so the run stops before any call."""
    harness = open_harness()
    workload = _submitted(harness)
    stranger = harness.open_runner(api_key="gsk_somebody_else")

    with pytest.raises(ConfigurationError, match="another key"):
        stranger.process(workload.id)

    vouched = harness.open_runner(api_key="gsk_somebody_else", accept_other_key=True)
    assert vouched.process(workload.id).all_succeeded


@pytest.mark.parametrize(("fault", "error"), [(calls.PlanGate(), Forbidden), (calls.BadKey(), Unauthorized)])
def test_a_refused_key_stops_the_run_at_once(open_harness, tmp_path, fault, error):
    """A refused key ends the run with the provider's reason; when the key works again, the same run finishes."""
    harness = open_harness(fault)
    workload = harness.split(write_mixed(tmp_path / "input.jsonl", 60), shard_lines=20)

    with pytest.raises(error):
        harness.runner.process(workload.id)

    harness.emulator.set_scenario("clean")
    assert harness.runner.process(workload.id).all_succeeded
    assert harness.emulator.ledger().totals.batches == 4


def test_a_provider_that_stays_unreachable_ends_the_run(open_harness, tmp_path):
    """After an outage of a certain length the run stops and says so; nothing is lost."""
    harness = open_harness(calls.DropConnection(on=("*",)))
    harness.runner = harness.open_runner(outage_seconds=0.3, http_attempts=1)
    workload = harness.split(write_mixed(tmp_path / "input.jsonl", 60), shard_lines=20)

    with pytest.raises(ProviderUnreachable, match="did not answer as it should"):
        harness.runner.process(workload.id)

    harness.emulator.set_scenario("clean")
    assert harness.runner.process(workload.id).all_succeeded


def test_a_pass_without_a_provider_reports_since_when_calls_have_failed(open_harness, tmp_path):
    """The report names the first failed call, however many passes ago, and whether the host was reached without an answer."""
    harness = open_harness(batches.StuckBatches())
    harness.runner = harness.open_runner(http_attempts=1)
    workload = harness.split(write_mixed(tmp_path / "input.jsonl", 20), shard_lines=20)
    harness.runner.process(workload.id, until=DriveUntil.SUBMITTED)
    harness.emulator.set_scenario(Scenario(faults=(calls.DropConnection(on=("*",)),)))
    began = harness.runner.clock()

    first, second = (poll.poll(harness.runner._context(), workload.id) for _ in range(2))

    assert first.outage_since is not None
    assert began <= first.outage_since <= harness.runner.clock()
    assert second.outage_since == first.outage_since
    assert first.outage is not None
    assert first.outage.startswith("GET /batches: ")
    assert first.is_reached


def test_two_runners_share_a_workload_without_harm(open_harness, tmp_path):
    """Two runners finish one workload together: one batch per shard, every request bought once."""
    harness = open_harness(lines.ExpireLines(fraction=0.3, attempts=1))
    source = write_mixed(tmp_path / "input.jsonl", 200)
    runners = [harness.runner, harness.open_runner()]

    def work(runner):
        workload = runner.split([source], name="work", options=SplitOptions(shard_lines=10))
        return runner.process(workload.id)

    with ThreadPoolExecutor(2) as pool:
        pictures = list(pool.map(work, runners))

    ledger = harness.emulator.ledger()
    keys = [batch.metadata["batchkit_key"] for batch in ledger.batches]
    assert all(progress.all_succeeded for progress in pictures)
    assert len(set(keys)) == len(keys)
    assert ledger.totals.requests_executed == 200
    assert len(harness.export()) == 200
