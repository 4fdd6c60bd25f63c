"""``serve``, in its own process, writes the outputs that earlier commands named, on both kinds of database."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import batchkit as package
from tests.flows.support import wait_until
from tests.workloads import read_lines, write_mixed


def environment_of(harness) -> dict[str, str]:
    """Return the environment of a command in the harness, with a Prefect server that does not answer."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BATCHKIT_")}
    return {
        **kept,
        "PYTHONPATH": str(Path(package.__file__).parent.parent),
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        "GROQ_API_KEY": harness.emulator.api_key,
        "BATCHKIT_BASE_URL": harness.emulator.base_url,
        "BATCHKIT_DATABASE_URL": harness.database_url,
        "BATCHKIT_HOME": str(harness.home),
        "BATCHKIT_POLL_INTERVAL_SECONDS": "0.1",
        "BATCHKIT_MAX_POLL_INTERVAL_SECONDS": "0.3",
        "BATCHKIT_RESUBMIT_LINGER_SECONDS": "0",
    }


@pytest.mark.patient
def test_outputs_are_written_or_reported_and_then_written_by_watch(open_harness, tmp_path):
    """``serve`` writes one file; the other, whose folder was a file at the time, is written once the folder exists."""
    harness = open_harness()
    source = write_mixed(tmp_path / "input.jsonl", 30)
    folder = tmp_path / "kept"
    folder.mkdir()
    settings = harness.runner.settings
    package.submit(source, name="good", output=tmp_path / "good.csv", settings=settings)
    package.submit(source, name="bad", output=folder / "bad.jsonl", settings=settings)
    shutil.rmtree(folder)
    folder.write_text("a file where the folder was")

    log = (tmp_path / "serve.log").open("w+")
    words = [sys.executable, "-m", "batchkit", "serve", "--interval", "1"]
    serving = subprocess.Popen(
        words, env=environment_of(harness), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=tmp_path
    )
    try:
        assert wait_until(lambda: "`batchkit watch bad` tries again" in Path(log.name).read_text(), 60)
        assert wait_until((tmp_path / "good.csv").exists, 60)
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.wait(30)
        log.close()
    said = Path(log.name).read_text()
    assert f"good: results written to {tmp_path / 'good.csv'}" in said
    assert "bad: the results could not be written: " in said

    folder.unlink()
    folder.mkdir()
    ended = subprocess.run(
        [sys.executable, "-m", "batchkit", "watch", "bad", "--no-prefect"],
        env=environment_of(harness),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"results:   {folder / 'bad.jsonl'}" in ended.stdout
    assert len(read_lines(folder / "bad.jsonl")) == 30
