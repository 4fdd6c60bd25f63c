"""What a worker's flow opens is closed when nothing of it is under way any more."""

from __future__ import annotations

import asyncio
import threading

from batchkit.flows import leading
from batchkit.flows.reporting import PrefectObserver, ReportThread

from batchkit.engine.runtime import Runner
from tests.flows.support import Kept


def test_a_worker_closes_its_runner_only_when_a_list_that_is_read_beside_the_pass_has_been_read(tmp_path, monkeypatch):
    """A pass does not wait for a long list of batches; the process does, or the reading would begin anew with every pass."""
    monkeypatch.setenv("BATCHKIT_HOME", str(tmp_path / "home"))
    closed = threading.Event()
    close = Runner.close

    def close_and_tell(runner, *reason):
        closed.set()
        close(runner, *reason)

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
