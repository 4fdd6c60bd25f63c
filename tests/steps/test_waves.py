"""Waves run in parallel, and runners share the pending work."""

from __future__ import annotations

import threading

import pytest

from batchkit.engine.waves import Wait, WaveKind, Waves
from tests.observing import to_the_end
from tests.surroundings.proofs import Meddled, assert_bought_once, assert_complete
from tests.workloads import write_mixed

LONG = 20.0


def waves_of(drive, runner):
    """Do everything that a drive asks for; return the groups of waves."""
    groups: list[Waves] = []

    def run_waves(waves):
        groups.append(waves)
        return runner.run_waves(waves)

    to_the_end(drive, runner, run_waves=run_waves)
    return groups


def test_merging_continues_while_others_are_uploaded(open_harness, tmp_path):
    """An answer file is fetched while a shard is uploaded: each waits until the other begins, and both continue."""
    harness = open_harness(speed=20_000_000)
    runner = harness.open_runner(transfers=1, poll_interval_seconds=0.001)
    fetching, uploading = threading.Event(), threading.Event()
    met = []

    def meddle(moment):
        if moment == ">download_file" and not fetching.is_set():
            fetching.set()
            met.append(uploading.wait(LONG))
        elif moment == ">upload_file" and fetching.is_set():
            uploading.set()

    runner._given_provider = Meddled(runner.provider, meddle)
    workload = harness.split(write_mixed(tmp_path / "input.jsonl", 48), shard_lines=1)

    progress = runner.process(workload.id)

    assert met == [True]
    assert progress.all_succeeded
    assert_bought_once(harness.emulator, 48)
    assert_complete(harness.export(), 48)


def test_a_wave_leaves_work_for_other_runners(open_harness, tmp_path):
    """The first wave takes a quarter of the pending work, but enough for all transfers; two runners take different shards."""
    harness = open_harness()
    other = harness.open_runner()
    workload = harness.split(write_mixed(tmp_path / "input.jsonl", 100), shard_lines=1)

    ((mine,),) = [harness.runner.drive(workload.id).next()]
    ((theirs,),) = [other.drive(workload.id).next()]

    assert (mine.kind, theirs.kind) == (WaveKind.SUBMIT, WaveKind.SUBMIT)
    assert len(mine.shard_ids) == 25
    assert len(theirs.shard_ids) == 19
    assert not set(mine.shard_ids) & set(theirs.shard_ids)


@pytest.mark.parametrize("parallel", [1, 3])
def test_merge_waves_run_in_parallel_as_configured(open_harness, tmp_path, parallel):
    """The settings decide how many merge waves run at once, each with its own shards, and the workload finishes."""
    harness = open_harness()
    runner = harness.open_runner(parallel_waves=parallel)
    workload = harness.split(write_mixed(tmp_path / "input.jsonl", 30), shard_lines=2)

    groups = waves_of(runner.drive(workload.id), runner)

    merges = [[wave for wave in group if wave.kind is WaveKind.MERGE] for group in groups]
    assert max(map(len, merges)) == parallel
    for group in merges:
        ids = [shard_id for wave in group for shard_id in wave.shard_ids]
        assert len(set(ids)) == len(ids)
    assert_bought_once(harness.emulator, 30)
    assert_complete(harness.export(), 30)


def test_an_error_of_one_wave_reaches_the_drive_when_all_have_ended(open_harness, tmp_path):
    """The observer hears of each wave, and the drive gets the error: it waits, and then repeats the same waves."""
    harness = open_harness()
    runner = harness.open_runner(parallel_waves=2)
    workload = harness.split(write_mixed(tmp_path / "input.jsonl", 20), shard_lines=5)
    drive = runner.drive(workload.id)
    first = drive.next()
    assert isinstance(first, tuple)

    with pytest.raises(RuntimeError, match="have not been reported"):
        drive.next()
    drive.report([ValueError("a bug"), *runner.run_waves(first)[1:]])
    wait = drive.next()

    assert isinstance(wait, Wait)
    assert "ValueError: a bug" in wait.notes[0]
    assert to_the_end(drive, runner, run_waves=runner.run_waves).all_succeeded
    assert_bought_once(harness.emulator, 20)
