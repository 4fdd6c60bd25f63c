"""The package as a library: its public names, and the verbs as functions."""

from __future__ import annotations

import subprocess
import sys

import pytest

import batchkit
from batchkit.emulator import Emulator
from batchkit.errors import UnknownWorkload
from tests.workloads import read_lines, write_mixed


@pytest.fixture
def settings(database_url, tmp_path):
    """Give settings for an emulator of the test's own."""
    with Emulator(tmp_path / "emulator", "expire-30", speed=432_000) as emulator:
        yield batchkit.load_settings(
            api_key=emulator.api_key,
            base_url=emulator.base_url,
            database_url=database_url,
            home=tmp_path / "home",
            poll_interval_seconds=0.05,
            resubmit_linger_seconds=0,
        )


def test_the_verbs_run_a_workload_from_file_to_results(settings, tmp_path):
    """Run, status, export and clean do what the command line does, and report it in types."""
    source = write_mixed(tmp_path / "input.jsonl", 40)

    progress = batchkit.run(source, output=tmp_path / "out.jsonl", settings=settings)

    assert progress.all_succeeded
    assert len(read_lines(tmp_path / "out.jsonl")) == 40
    assert [picture.workload.name for picture in batchkit.status(settings=settings)] == ["input"]
    assert batchkit.export("input", tmp_path / "out.csv", settings=settings) == 40
    assert batchkit.resubmit("input", failed=True, settings=settings) == 0
    batchkit.clean("input", settings=settings)
    assert batchkit.status(settings=settings) == []


def test_submitting_and_watching_are_two_halves_of_a_run(settings, tmp_path):
    """What is submitted today can be watched tomorrow."""
    source = write_mixed(tmp_path / "input.jsonl", 40)

    batchkit.submit([source], name="later", settings=settings)

    assert batchkit.watch("later", settings=settings).all_succeeded


def test_a_cancelled_workload_is_finished(settings, tmp_path):
    """Cancelling waits until nothing runs any more."""
    source = write_mixed(tmp_path / "input.jsonl", 40)
    batchkit.submit(str(source), settings=settings)

    assert batchkit.cancel("input", settings=settings).is_finished


def test_an_unknown_name_is_said_to_be_unknown(settings):
    """A verb on a name that does not exist names it and says how to find the right one."""
    with pytest.raises(UnknownWorkload, match="nowhere") as raised:
        batchkit.watch("nowhere", settings=settings)
    assert "batchkit status" in str(raised.value.hint)


def test_every_public_name_exists():
    """Each exported name can be had, and nothing else is exported."""
    for name in batchkit.__all__:
        assert getattr(batchkit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        batchkit.nothing  # noqa: B018 - the access is the point


def test_importing_the_package_is_light():
    """Importing batchkit loads neither Prefect nor the database nor the HTTP client."""
    code = (
        "import sys, batchkit;"
        "print([name for name in ('prefect', 'sqlalchemy', 'httpx', 'alembic', 'uvicorn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
