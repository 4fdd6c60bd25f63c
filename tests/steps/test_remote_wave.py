"""Waves in other processes: what is transferred, who holds the shards, and what a late wave may do."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace

import pytest

from batchkit.engine.remote_wave import WaveFailed, remote_wave_of, run_remote_wave
from batchkit.engine.waves import Wait
from batchkit.errors import ConfigurationError
from batchkit.models import ShardState
from batchkit.store import shard_leases
from tests.observing import to_the_end
from tests.surroundings.proofs import Meddled, assert_bought_once, assert_complete
from tests.workloads import write_mixed

REQUESTS = 30
LONG = 30.0


@pytest.fixture
def harness(open_harness, monkeypatch, tmp_path):
    """Return a harness with a workload of 30 requests; the environment is that of a worker for it."""
    opened = open_harness()
    monkeypatch.setenv("GROQ_API_KEY", opened.emulator.api_key)
    monkeypatch.setenv("BATCHKIT_DATABASE_URL", opened.database_url)
    opened.split(write_mixed(tmp_path / "input.jsonl", REQUESTS), shard_lines=10)
    return opened


def first_wave(runner):
    """Return the description of the first wave, which submits everything."""
    (wave,) = runner.drive(runner.find("work").id).next()
    return remote_wave_of(runner, wave)


def test_another_process_does_the_waves(harness):
    """A workload whose every wave runs in another process finishes; this process never opens a provider."""
    sender = harness.runner

    def here(moment):
        assert moment.strip("<>") in {"check", "get_batches", "list_batches", "now"}

    sender._given_provider = Meddled(sender.provider, here)
    workload = sender.find("work")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:

        def elsewhere(waves):
            return [pool.submit(run_remote_wave, remote_wave_of(sender, wave)).result(LONG) for wave in waves]

        progress = to_the_end(sender.drive(workload.id), sender, run_waves=elsewhere)

    assert progress.all_succeeded
    assert_bought_once(harness.emulator, REQUESTS)
    assert_complete(harness.export(), REQUESTS)


def test_no_secret_travels(harness):
    """The description contains neither the key nor the database or its password."""
    secret = "s3cr3t-of-the-database"
    runner = harness.runner
    given = {
        "database_url": f"postgresql://me:{secret}@host/db",
        "spool_url": f"s3://me:{secret}@bucket",
        "notify_url": f"https://hooks.example.org/{secret}",
    }
    runner.settings = runner.settings.model_copy(update=given)

    sent = pickle.dumps(first_wave(runner))

    assert runner.settings.base_url.encode() in sent
    assert secret.encode() not in sent
    assert harness.emulator.api_key.encode() not in sent


def test_the_environment_of_the_worker_is_used(harness, monkeypatch, tmp_path):
    """A home folder in the worker's environment is used, whatever the sender's home is."""
    harness.home.rename(tmp_path / "elsewhere")
    monkeypatch.setenv("BATCHKIT_HOME", str(tmp_path / "elsewhere"))

    report = run_remote_wave(first_wave(harness.runner))

    assert report.counts["submitted"]
    harness.home = tmp_path / "elsewhere"
    assert harness.open_runner().process(harness.runner.find("work").id).all_succeeded
    assert len(harness.emulator.ledger().batches) == 4


def test_a_process_with_another_database_does_nothing(harness, monkeypatch, tmp_path):
    """A worker with another database reports it, even when that database has a workload with the same number."""
    remote = first_wave(harness.runner)
    monkeypatch.setenv("BATCHKIT_DATABASE_URL", f"sqlite:///{tmp_path / 'other.db'}")

    with pytest.raises(WaveFailed) as caught:
        run_remote_wave(remote)
    with pytest.raises(WaveFailed):
        run_remote_wave(replace(remote, directory="work-of-somebody-else"))

    assert isinstance(caught.value.error, ConfigurationError)
    assert "BATCHKIT_DATABASE_URL" in str(caught.value.error.hint)
    assert harness.emulator.ledger().totals.batches == 0


def test_a_process_with_another_key_does_nothing(harness, monkeypatch):
    """A worker with another key would not see the batches; it raises our own error type, which survives pickling."""
    first = first_wave(harness.runner)
    run_remote_wave(replace(first, wave=replace(first.wave, shard_ids=first.wave.shard_ids[:1])))
    monkeypatch.setenv("GROQ_API_KEY", "gsk_another")

    with pytest.raises(WaveFailed) as caught:
        run_remote_wave(first)

    arrived = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert isinstance(arrived.error, ConfigurationError)
    assert "another key" in arrived.error.message


def test_shards_that_the_sender_no_longer_holds_are_left_alone(harness):
    """Shards that were taken over before the wave began belong to another runner."""
    remote = first_wave(harness.runner)
    with harness.runner.store.write() as connection:
        shard_leases.release(connection, harness.runner.owner)
    assert len(harness.open_runner().drive(harness.runner.find("work").id).next()[0].shard_ids) == 4

    assert run_remote_wave(remote).counts == {"taken over": 4}
    assert harness.emulator.ledger().totals.batches == 0


def test_a_wave_outlives_its_sender(harness):
    """When the sender dies in the middle of a wave, the worker keeps the shards, and no other process buys them."""
    sender, other = harness.open_runner(), harness.open_runner()
    workload = sender.find("work")
    (wave,) = sender.drive(workload.id).next()
    worker = harness.open_runner(transfers=1, settle_seconds=60)
    under_way, may_continue = threading.Event(), threading.Event()

    def meddle(moment):
        if moment == ">create_batch":
            under_way.set()
            assert may_continue.wait(LONG)

    worker._given_provider = Meddled(worker.provider, meddle)
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(worker.run_wave_for, wave, owner=sender.owner, directory=workload.directory)
        assert under_way.wait(LONG)
        sender.close()
        drive = other.drive(workload.id)
        assert isinstance(drive.next(), Wait)
        may_continue.set()
        assert working.result(LONG).counts["submitted"] == 4

    assert other.process(workload.id).all_succeeded
    assert other.progress(workload.id).shards == {ShardState.MERGED: 4}
    assert_bought_once(harness.emulator, REQUESTS)
