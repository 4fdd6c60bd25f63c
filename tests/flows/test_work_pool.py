"""The documented way to use many machines: a Prefect work pool, and workers that share a workload through one Postgres."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from batchkit import flows
from batchkit.emulator.faults import calls
from batchkit.engine.runtime import Runner
from batchkit.models import ShardState
from batchkit.store import shard_leases
from tests.flows.support import wait_until
from tests.surroundings.proofs import assert_bought_once, assert_complete
from tests.workloads import write_mixed

PREFECT = str(Path(sys.executable).with_name("prefect"))
REQUESTS = 600
WORKERS = 2


@pytest.fixture
def database_url(postgres_url):
    """Workers on several machines need Postgres."""
    return postgres_url


@contextmanager
def started(command, folder, environment):
    """Start a command and terminate it at the end of the block."""
    folder.mkdir()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_workers_of_a_pool_share_a_workload(prefect_server, open_harness, tmp_path):
    """The commands of the README create a pool, the deployments and two workers; passes on both finish one workload."""
    # Uploads are so slow that the first worker is still busy when the second one has started.
    harness = open_harness(calls.SlowReplies(on=("files.create",), seconds=0.5), speed=40_000)
    harness.split(write_mixed(tmp_path / "input.jsonl", REQUESTS), shard_lines=2)
    environment = {
        **os.environ,
        "PREFECT_API_URL": prefect_server.api_url,
        "GROQ_API_KEY": harness.emulator.api_key,
        "BATCHKIT_BASE_URL": harness.emulator.base_url,
        "BATCHKIT_DATABASE_URL": harness.database_url,
        "BATCHKIT_HOME": str(harness.home),
        "BATCHKIT_POLL_INTERVAL_SECONDS": "0.1",
    }

    def prefect(*words):
        subprocess.run(
            [PREFECT, *words], cwd=tmp_path, env=environment, check=True, stdin=subprocess.DEVNULL, capture_output=True
        )

    def pass_on_each_worker():
        for _ in range(WORKERS):
            prefect("deployment", "run", "advance_workloads/batchkit")

    prefect("work-pool", "create", "batchkit", "--type", "process")
    prefect("deploy", "--all", "--prefect-file", str(Path(flows.__path__[0]) / "prefect.yaml"))
    worker = (PREFECT, "worker", "start", "--pool", "batchkit", "--limit", "1")
    with (
        started(worker, tmp_path / "worker-1", environment),
        started(worker, tmp_path / "worker-2", environment),
        Runner(harness.runner.settings) as watching,
    ):
        workload = watching.find("work")
        pass_on_each_worker()
        owners = set()

        def look():
            with watching.store.read() as connection:
                owners.update(shard_leases.lease_owners(connection))
            return ShardState.PLANNED not in watching.progress(workload.id).shards

        assert wait_until(look, 120)
        pass_on_each_worker()
        assert wait_until(lambda: watching.progress(workload.id).is_finished, 120)

    assert len(owners) >= WORKERS, owners
    assert_bought_once(harness.emulator, REQUESTS)
    assert_complete(harness.export(), REQUESTS)
