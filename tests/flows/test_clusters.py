"""Flows whose waves run on a cluster."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from batchkit.flows import entry
from batchkit.flows.clusters import open_cluster

from batchkit.errors import ConfigurationError
from tests.surroundings.proofs import assert_bought_once, assert_complete
from tests.workloads import read_lines, write_mixed

REQUESTS = 60


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_a_task_runner_that_is_not_installed_is_an_error_before_any_work(monkeypatch, open_settings, kind):
    """Without the package of its cluster, a command or a flow ends with an error that names the package to install."""
    monkeypatch.setitem(sys.modules, f"prefect_{kind}", None)
    settings = open_settings(task_runner=kind)

    with pytest.raises(ConfigurationError) as caught:
        entry.open_mirror(settings, on_note=print)
    with pytest.raises(ConfigurationError):
        open_cluster(settings).__aenter__().send(None)

    assert caught.value.hint == f"pip install 'groq-batchkit[{kind}]'"


@pytest.mark.slow
def test_a_run_on_a_local_dask_cluster(prefect_server, open_harness, tmp_path):
    """The installed command with a Dask cluster gives the same results, and nothing is bought twice."""
    harness = open_harness()
    write_mixed(tmp_path / "input.jsonl", REQUESTS)
    command = subprocess.run(
        [sys.executable, "-m", "batchkit", "run", "input.jsonl", "-v", "--output", "out.jsonl", "--shard-lines", "2"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PREFECT_API_URL": prefect_server.api_url,
            "GROQ_API_KEY": harness.emulator.api_key,
            "BATCHKIT_BASE_URL": harness.emulator.base_url,
            "BATCHKIT_DATABASE_URL": harness.database_url,
            "BATCHKIT_POLL_INTERVAL_SECONDS": "0.2",
            "BATCHKIT_TASK_RUNNER": "dask",
            "BATCHKIT_PARALLEL_WAVES": "2",
        },
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert command.returncode == 0, command.stderr
    assert "Creating a new Dask cluster" in command.stderr
    assert_complete(read_lines(tmp_path / "out.jsonl"), REQUESTS)
    assert_bought_once(harness.emulator, REQUESTS)
