"""The objects that a worker's flow opens are closed when none of its work is running any more."""

from __future__ import annotations

import asyncio
import threading

import pytest
from batchkit.flows.reporting import PrefectObserver, ReportThread

from batchkit.engine.runtime import Runner
from batchkit.engine.waves import DriveUntil
from tests.flows.support import Kept
from tests.notifications.hook import running_hook
from tests.workloads import write_mixed


@pytest.fixture
def leading():
    """Return the module, whose import loads Prefect."""
    from batchkit.flows import leading  # noqa: PLC0415 - as above

    return leading


def test_a_worker_closes_its_runner_only_after_a_list_scan_beside_the_pass(leading, tmp_path, monkeypatch):
    """A pass does not wait for a long list scan; the process does, or every pass would start the scan again."""
    monkeypatch.setenv("BATCHKIT_HOME", str(tmp_path / "home"))
    closed = threading.Event()
    close = Runner.close

    def close_and_tell(runner, *reason, **limits):
        closed.set()
        close(runner, *reason, **limits)

    monkeypatch.setattr(Runner, "close", close_and_tell)
    monkeypatch.setattr(leading, "_prefect_observer", lambda *_given: PrefectObserver(Kept(), ReportThread(), {}))
    closed_before_the_end: list[bool] = []

    async def one_pass():
        async with leading.open_lead() as lead:
            lead.runner.threads.begin(lambda: closed_before_the_end.append(closed.wait(1)))
            assert not closed_before_the_end

    asyncio.run(one_pass())

    assert closed.is_set()
    assert closed_before_the_end == [False]


def test_concurrent_workers_report_the_end_of_a_workload_once(leading, open_harness, tmp_path, monkeypatch):
    """The notification is delivered when the worker's flow closes, and the leases are free by then."""
    from batchkit.flows import tasks  # noqa: PLC0415 - imports Prefect

    harness = open_harness()
    workload = harness.split(write_mixed(tmp_path / "input.jsonl", 40), shard_lines=20)
    monkeypatch.setattr(leading, "_prefect_observer", lambda *_given: PrefectObserver(Kept(), ReportThread(), {}))

    async def perform(wave):
        return await asyncio.to_thread(leading.current_lead.get().run_wave, wave)

    monkeypatch.setattr(tasks, "perform", perform)

    async def worker():
        async with leading.open_lead() as lead:
            await lead.drive(workload, DriveUntil.FINISHED)

    async def both():
        # Run each in its own context, as two processes would.
        await asyncio.gather(asyncio.create_task(worker()), asyncio.create_task(worker()))

    with running_hook() as hook:
        settings = harness.runner.settings.model_copy(update={"notify_url": hook.url})
        monkeypatch.setattr(leading, "load_settings", lambda: settings)
        asyncio.run(both())
        assert hook.kinds == ["finished"]
