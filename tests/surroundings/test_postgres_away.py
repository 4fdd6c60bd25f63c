"""Postgres is restarted, or its connections are cut: a run survives a short outage, and the next run resumes after a long one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from batchkit.emulator import Emulator, Scenario
from batchkit.emulator.faults import calls, lines
from batchkit.engine.runtime import Runner
from batchkit.engine.waves import Wait, WaveKind
from batchkit.settings import load_settings
from batchkit.steps.split import SplitOptions
from tests.flows.support import wait_until
from tests.observing import work
from tests.steps.conftest import QUICK, SPEED
from tests.surroundings.lossy_postgres import LossyPostgres
from tests.surroundings.proofs import Meddled, Times, assert_bought_once, assert_complete
from tests.workloads import read_lines, write_mixed

REQUESTS = 60
FAULTS = (lines.ExpireLines(fraction=0.3, attempts=1),)
#: The calls around which the connections are cut: uploading, creating, polling, merging.
CALLS = ("upload_file", "create_batch", "get_batches", "download_file")


@pytest.fixture
def emulator(tmp_path):
    """Start an emulator on which some requests expire once, so that there is something to resubmit."""
    with Emulator(tmp_path / "emulator", Scenario(faults=FAULTS), speed=SPEED) as running:
        yield running


@pytest.fixture
def open_runner(emulator, tmp_path):
    """Return a function that opens a runner on a database."""
    with ExitStack() as stack:

        def start(url, *, meddle=None, **overrides):
            given = {"api_key": emulator.api_key, "base_url": emulator.base_url, **QUICK, **overrides}
            settings = load_settings(home=tmp_path / "home", database_url=url, **given)
            runner = stack.enter_context(Runner(settings))
            if meddle is not None:
                runner._given_provider = Meddled(runner.provider, meddle)
            return runner

        yield start


def _split(runner, tmp_path, advance=lambda _lines: None):
    return runner.split(
        [write_mixed(tmp_path / "input.jsonl", REQUESTS)],
        name="work",
        options=SplitOptions(shard_lines=10),
        advance=advance,
    )


def _run(runner, tmp_path, advance=lambda _lines: None):
    return runner.process(_split(runner, tmp_path, advance).id)


def test_cut_connections_do_not_end_a_run(open_runner, own_postgres, own_database, emulator, tmp_path):
    """Connections cut while splitting, uploading, creating, polling and merging only delay the run."""
    cut = Times(2, lambda: own_postgres.cut_connections(own_database))
    runner = open_runner(own_postgres.url_of(own_database), meddle=cut)

    progress = _run(runner, tmp_path, advance=lambda _lines: cut("splitting"))
    runner.export("work", tmp_path / "out.jsonl")

    assert progress.all_succeeded
    assert set(cut.seen) >= {"splitting", *(f">{call}" for call in CALLS), *(f"<{call}" for call in CALLS)}
    assert_complete(read_lines(tmp_path / "out.jsonl"), REQUESTS)
    assert_bought_once(emulator, REQUESTS)


@pytest.mark.slow
def test_the_outcome_of_a_commit_without_a_reply_is_read(open_runner, own_postgres, own_database, emulator, tmp_path):
    """A transaction whose commit got no reply is neither repeated nor forgotten, wherever it happens."""
    with LossyPostgres(own_postgres.url_of(own_database), step=5) as lossy:
        runner = open_runner(lossy.url, settle_seconds=0.3)
        lossy.is_losing = True

        progress = _run(runner, tmp_path)
        lossy.is_losing = False
        runner.export("work", tmp_path / "out.jsonl")

    assert lossy.lost > 4
    assert progress.all_succeeded
    assert_complete(read_lines(tmp_path / "out.jsonl"), REQUESTS)
    assert_bought_once(emulator, REQUESTS)


def test_a_shard_whose_commit_got_no_reply_keeps_its_file(open_runner, own_postgres, own_database, emulator, tmp_path):
    """Shards for requests that are sent again have their files, whichever commit of the resubmission got no reply."""
    with LossyPostgres(own_postgres.url_of(own_database), step=1) as lossy:
        runner = open_runner(lossy.url)

        def run_waves(waves):
            lossy.is_losing = waves[0].kind is WaveKind.RESUBMIT and lossy.lost < 4
            return runner.run_waves(waves)

        workload = _split(runner, tmp_path)
        drive = runner.drive(workload.id)
        while isinstance(step := work(drive, run_waves), Wait):
            lossy.is_losing = False
            runner._wait(max(step.until - runner.clock(), 0))

    assert lossy.lost >= 3
    assert step.progress.all_succeeded
    assert_bought_once(emulator, REQUESTS)


@pytest.mark.slow
def test_a_restart_of_the_server_does_not_end_a_run(open_runner, own_postgres, own_database, emulator, tmp_path):
    """The run waits for a server that is restarted while batches are uploaded and while they are merged."""
    restarts = Times(1, lambda: (own_postgres.stop(), own_postgres.start()))
    moments = {">upload_file", "<download_file"}

    def restart(moment):
        if moment in moments:
            restarts(moment)

    runner = open_runner(own_postgres.url_of(own_database), meddle=restart)

    progress = _run(runner, tmp_path)
    runner.export("work", tmp_path / "out.jsonl")

    assert progress.all_succeeded
    assert set(restarts.seen) == moments
    assert_complete(read_lines(tmp_path / "out.jsonl"), REQUESTS)
    assert_bought_once(emulator, REQUESTS)


@pytest.mark.usefixtures("own_folder")
def test_a_server_that_stays_unreachable_ends_the_command(
    batchkit, open_emulator, own_postgres, own_database, source, monkeypatch
):
    """After a long outage the command reports what is missing, with exit code 4; the same command then resumes."""
    emulator = open_emulator(calls.SlowReplies(on=("files.create",), seconds=0.4))
    monkeypatch.setenv("BATCHKIT_DATABASE_URL", own_postgres.url_of(own_database))
    # Both commands run in this process, so that the first one's leases are not taken for those of a dead process.
    monkeypatch.setenv("BATCHKIT_LEASE_SECONDS", "0.5")
    words = ("run", source, "--name", "work", "--no-prefect", "--shard-lines", "10", "--output", "out.jsonl")

    def stop_in_mid_run():
        assert wait_until(lambda: emulator.ledger().calls.get("files.create"))
        own_postgres.stop()

    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(stop_in_mid_run)
        try:
            ended = batchkit(*words)
            stopping.result()
        finally:
            own_postgres.start()
    again = batchkit(*words)

    assert ended.code == 4, ended.err
    assert own_database in ended.err
    assert "cannot be used" in ended.err
    assert "run the same command again" in ended.err
    assert again.code == 0, again.err
    assert_complete(read_lines(Path("out.jsonl")), 30)
    assert_bought_once(emulator, 30)
