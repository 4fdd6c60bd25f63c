"""The provider is unreachable, revokes the key, or another client changes or deletes our objects there."""

from __future__ import annotations

import gc
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from batchkit.emulator import Emulator, Scenario
from batchkit.emulator.faults import batches, calls
from batchkit.engine.waves import DriveUntil
from batchkit.errors import ProviderUnreachable
from batchkit.models import FileId
from tests.flows.support import wait_until
from tests.observing import Watching
from tests.steps.conftest import Harness
from tests.surroundings.proofs import Meddled, assert_bought_once, assert_complete
from tests.workloads import read_lines, write_mixed

# A server that is stopped during a call leaves connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")

REQUESTS = 60


@pytest.fixture
def once():
    """Return a function that runs an action only once, the first time that a moment comes."""

    def at(moment, act):
        first = threading.Lock()

        def meddle(now):
            if now == moment and first.acquire(blocking=False):
                act()

        return meddle

    return at


# Unreachable


class Interrupted:
    """An emulator that can go away and come back at the same address, with all its data."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self._is_there = True
        self._back: threading.Timer | None = None

    def go(self, *, for_seconds: float | None = None) -> None:
        """Go away, for some seconds or until ``come_back``."""
        self.emulator.__exit__(None, None, None)
        self._is_there = False
        if for_seconds is not None:
            self._back = threading.Timer(for_seconds, self.come_back)
            self._back.start()

    def come_back(self) -> None:
        """Serve again."""
        self.emulator.__enter__()
        self._is_there = True

    def close(self) -> None:
        """Shut down permanently."""
        if self._back is not None:
            self._back.join()
        if self._is_there:
            self.emulator.__exit__(None, None, None)


@pytest.fixture
def open_interrupted(database_url, tmp_path):
    """Return a function that opens a harness on an emulator that may go away, with the controls of that emulator."""
    with ExitStack() as stack:

        def start(**overrides):
            # Clients that keep connecting to a port of the system's choice may end up taking that port themselves.
            port = next(port for port in range(20_000 + os.getpid() % 5_000, 30_000) if _is_free(port))
            interrupted = Interrupted(Emulator(tmp_path / "emulator", speed=SPEED, port=port))
            interrupted.come_back()
            stack.callback(interrupted.close)
            harness = Harness(interrupted.emulator, database_url, tmp_path / "home", stack)
            quick = {"http_attempts": 1, "http_timeout_seconds": 2, "settle_seconds": 0.2}
            harness.runner = harness.open_runner(**quick, **overrides)
            return harness, interrupted

        yield start
    # Fail here, and not in an unrelated test.
    gc.collect()


def _is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


#: A provider hour passes in 0.36 s.
SPEED = 10_000.0


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("<upload_file", marks=pytest.mark.slow),
        pytest.param("<create_batch", marks=pytest.mark.slow),
        ">get_batches",
        pytest.param(">download_file", marks=pytest.mark.slow),
    ],
)
def test_an_hour_without_the_provider_is_waited_for(open_interrupted, once, moment):
    """A provider that goes away in mid-run, and returns after an hour of its clock, neither ends the run nor makes it buy twice."""
    harness, provider = open_interrupted(outage_seconds=20.0)
    go = once(moment, lambda: provider.go(for_seconds=3_600 / SPEED))
    harness.runner._given_provider = Meddled(harness.runner.provider, go)

    progress = harness.run(REQUESTS)

    assert progress.all_succeeded
    assert_bought_once(harness.emulator, REQUESTS)
    assert_complete(harness.export(), REQUESTS)


@pytest.mark.slow
def test_a_provider_that_stays_unreachable_ends_the_run(open_interrupted, once):
    """The run ends with a message when the outage is longer than ``outage_seconds``; the next run resumes after the outage."""
    harness, provider = open_interrupted(outage_seconds=0.3)
    harness.runner._given_provider = Meddled(harness.runner.provider, once("<create_batch", provider.go))

    with pytest.raises(ProviderUnreachable, match="could not be reached for") as caught:
        harness.run(REQUESTS)

    provider.come_back()
    assert caught.value.exit_code == 4
    assert "run the same command again" in str(caught.value.hint)
    harness.runner = harness.open_runner(settle_seconds=0.2)
    assert harness.run(REQUESTS).all_succeeded
    assert_bought_once(harness.emulator, REQUESTS)
    assert_complete(harness.export(), REQUESTS)


# The key


@pytest.mark.usefixtures("own_folder")
def test_a_key_that_is_revoked_in_mid_run(batchkit, open_emulator, source):
    """The command stops at once and prints the provider's message, with exit code 4; it resumes when the key is valid again."""
    emulator = open_emulator(batches.SlowBatches(seconds_per_line=50_000))
    words = ("run", source, "--name", "work", "--no-prefect", "--shard-lines", "10", "--output", "out.jsonl")

    def revoke_in_mid_run():
        assert wait_until(lambda: emulator.ledger().totals.batches == 4)
        emulator.set_scenario(Scenario(faults=(calls.BadKey(),)))

    with ThreadPoolExecutor(1) as pool:
        revoking = pool.submit(revoke_in_mid_run)
        ended = batchkit(*words)
        revoking.result()
    emulator.set_scenario("clean")
    again = batchkit(*words)

    assert ended.code == 4, ended.err
    assert "Invalid API Key" in ended.err
    assert "bug" not in ended.err
    assert again.code == 0, again.err
    assert_bought_once(emulator, 30)
    assert_complete(read_lines(Path("out.jsonl")), 30)


@pytest.mark.usefixtures("own_folder")
def test_another_key_in_mid_run_sends_nothing(batchkit, open_emulator, source, monkeypatch):
    """With a key that did not submit the batches, the command is refused before any call, and names the settings to check."""
    emulator = open_emulator(speed=1)
    batchkit("submit", source, "--name", "work", "--no-prefect")
    before = emulator.ledger().calls
    monkeypatch.setenv("GROQ_API_KEY", "gsk_of_another_organisation")

    ended = batchkit("run", source, "--name", "work", "--no-prefect")

    assert ended.code == 2, ended.err
    assert "another key" in ended.err
    assert "GROQ_API_KEY" in ended.err
    assert "gsk_of_another_organisation" not in ended.err
    assert emulator.ledger().calls == before


# Another client


@pytest.fixture
def open_meddled(open_harness, once):
    """Return a function that opens a harness where another client changes our objects at a given moment."""

    def start(*faults, moment, act, **overrides):
        harness = open_harness(*faults)
        runner = harness.runner = harness.open_runner(settle_seconds=0.1, **overrides)
        other = harness.open_runner().provider
        runner._given_provider = Meddled(runner.provider, once(moment, lambda: act(harness, other)))
        return harness

    return start


def _cancel_all(harness, other):
    for batch in harness.emulator.ledger().batches:
        other.cancel_batch(batch.id)


def _delete_inputs(harness, other):
    for upload in harness.emulator.ledger().uploads:
        other.delete_file(upload.id)


def _delete_answers(harness, other):
    for batch in harness.emulator.ledger().batches:
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id is not None:
                other.delete_file(FileId(file_id))


def test_batches_that_another_client_cancels(open_meddled):
    """When another client cancels a batch, its unanswered requests are sent again."""
    harness = open_meddled(batches.SlowBatches(seconds_per_line=2_000), moment=">get_batches", act=_cancel_all)

    progress = harness.run(REQUESTS)

    assert progress.all_succeeded
    assert harness.emulator.ledger().totals.bought_twice == 0
    assert_complete(harness.export(), REQUESTS)


@pytest.mark.slow
@pytest.mark.parametrize("faults", [[], [calls.UnknownFileRefused()]], ids=["fails later", "refused at once"])
@pytest.mark.parametrize("moment", [">create_batch", ">get_batches"])
def test_input_files_that_another_client_deletes(open_meddled, faults, moment):
    """Input files that disappear before or after their batch was created are uploaded again, and nothing is bought twice."""
    harness = open_meddled(*faults, moment=moment, act=_delete_inputs)

    progress = harness.run(REQUESTS)

    assert progress.all_succeeded
    assert harness.emulator.ledger().totals.bought_twice == 0
    assert_complete(harness.export(), REQUESTS)


@pytest.mark.slow
def test_answers_that_another_client_deletes(open_meddled):
    """Answers that disappear before they were fetched are searched for, and then only those requests are sent again."""
    harness = open_meddled(moment=">download_file", act=_delete_answers)

    progress = harness.run(REQUESTS)

    ledger = harness.emulator.ledger()
    assert progress.all_succeeded
    assert 0 < ledger.totals.bought_twice == ledger.totals.requests_executed - REQUESTS
    assert_complete(harness.export(), REQUESTS)


@pytest.mark.slow
def test_a_batch_that_is_gone_is_distinguished_from_a_running_one(open_meddled):
    """When all our objects are deleted between submitting and polling, the run reports it, and finishes."""
    harness = open_meddled(
        batches.GoneBatches(batches=frozenset({1, 2})), moment=">get_batches", act=_delete_inputs, stuck_seconds=0.3
    )
    workload = harness.split(write_mixed(harness.home.parent / "input.jsonl", REQUESTS), shard_lines=20)
    harness.runner.process(workload.id, until=DriveUntil.SUBMITTED)
    notes: list[str] = []

    progress = harness.runner.process(workload.id, observer=Watching(on_wait=lambda wait: notes.extend(wait.notes)))

    assert progress.all_succeeded
    assert any("is gone at the provider" in note for note in notes)
    assert_complete(harness.export(), REQUESTS)
