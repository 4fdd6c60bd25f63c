"""On Postgres: a row that another session locks is reported, and only work that needs the row waits for it."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace

import psycopg
import pytest

from batchkit.errors import OutcomeUnknown, RowsHeld
from batchkit.models import ShardState
from batchkit.store import shards
from tests.steps.timed import TimedRun

PEER = "psql of a peer"


@pytest.fixture
def timed(postgres_url, tmp_path):
    """Return a workload on a test clock, on Postgres."""
    with ExitStack() as stack:
        yield TimedRun(stack, postgres_url, tmp_path)


def opened(timed, **settings):
    """Open a runner with a very short lock timeout."""
    runner = timed.open(**settings)
    runner.store.limits = replace(runner.store.limits, lock_seconds=0.2)
    return runner


@contextmanager
def held(url, statement):
    """Run a statement as another session, and hold its locks for longer than the lock timeout."""
    with psycopg.connect(url.replace("+psycopg", ""), application_name=PEER) as peer:
        peer.execute(statement)
        peer.execute("SELECT pg_sleep(0.3)")
        yield
        peer.rollback()


def hold_shards(url):
    """Lock every shard from another session."""
    return held(url, "SELECT * FROM shards FOR UPDATE")


def bring_to(timed, runner, state):
    """Split a workload, and bring its one shard to a state in which work on it is pending soon."""
    timed.split(runner, 4)
    if state is ShardState.PLANNED:
        return
    provider = timed.provider
    create, download = provider.create_batch, provider.download_file

    def lose(*_arguments, **_values):
        raise OutcomeUnknown("no answer")

    if state is ShardState.SUBMITTING:
        provider.create_batch = lose
    if state is ShardState.ENDED:
        provider.download_file = lose
    timed.process(runner, seconds=100 if state is ShardState.ENDED else 30)
    timed.clock.advance(30)
    provider.create_batch, provider.download_file = create, download
    with runner.store.read() as connection:
        assert shards.has_any(connection, runner.find("work").id, (state,))


@pytest.mark.parametrize(
    "state", [ShardState.PLANNED, ShardState.SUBMITTING, ShardState.SUBMITTED, ShardState.ENDED], ids=str
)
def test_the_holder_of_a_pending_shard_is_reported(timed, postgres_url, state):
    """No work waits for the row, and the session that holds the shard is reported until the row is free."""
    runner = opened(timed)
    bring_to(timed, runner, state)
    timed.waits.clear()

    with hold_shards(postgres_url):
        timed.process(runner, seconds=200 if state is ShardState.SUBMITTED else 10)

    trouble = timed.waits[-1].trouble
    assert trouble is not None
    assert f"({PEER}" in trouble.what
    assert trouble.gives_up_at is not None
    timed.waits.clear()
    assert timed.process(runner).all_succeeded
    assert all(wait.trouble is None for wait in timed.waits)
    timed.assert_bought_once()


def test_the_holder_of_a_batch_that_has_ended_is_reported_and_ends_the_command(timed, postgres_url):
    """Only the row of the batch is held: the command says who holds it, and ends with exit code 4 after an outage."""
    runner = opened(timed, outage_seconds=20)
    bring_to(timed, runner, ShardState.SUBMITTED)
    timed.waits.clear()

    with held(postgres_url, "SELECT * FROM batches FOR UPDATE"), pytest.raises(RowsHeld, match=PEER) as caught:
        timed.process(runner, seconds=600)

    assert caught.value.exit_code == 4
    assert timed.waits[-1].trouble is not None
    assert timed.process(runner).all_succeeded
    timed.assert_bought_once()


def test_a_shard_that_is_held_forever_ends_the_command_after_an_outage(timed, postgres_url):
    """The command ends with exit code 4 and the holder's name; when the holder is gone, the same command resumes."""
    runner = opened(timed, outage_seconds=20)
    bring_to(timed, runner, ShardState.PLANNED)
    began = timed.clock()

    with hold_shards(postgres_url), pytest.raises(RowsHeld, match=PEER) as caught:
        timed.process(runner)

    assert caught.value.exit_code == 4
    assert 20 <= timed.clock() - began < 60
    assert timed.process(runner).all_succeeded


def test_a_peer_that_reads_is_not_reported_as_the_holder_of_a_shard(timed, postgres_url):
    """With a long export beside a writer, only the session whose transaction could have locked the row is reported."""
    runner = opened(timed)
    bring_to(timed, runner, ShardState.PLANNED)

    with held(postgres_url, "SELECT * FROM shards"):
        assert runner.store.held_for_long("shards") is None
        with hold_shards(postgres_url):
            error = runner.store.held_for_long("shards")
    assert error is not None
    assert error.message.count(PEER) == 1


@pytest.mark.parametrize("was_stopped", [False, True], ids=["for the first time", "after a stop"])
def test_a_command_begins_while_another_session_holds_the_row_of_its_workload(timed, postgres_url, was_stopped):
    """Clearing the stop reason can be written later: the work starts meanwhile, and nothing waits for the row."""
    runner = opened(timed, outage_seconds=5)
    timed.split(runner, 10)
    if was_stopped:
        timed.process(runner, seconds=30)
    assert (runner.find("work").stopped_at is not None) is was_stopped
    timed.waits.clear()

    with held(postgres_url, "UPDATE workloads SET created_at = created_at"):
        assert timed.process(runner).all_succeeded

    assert all(wait.trouble is None for wait in timed.waits)
