"""A pass over thousands of open batches makes one call per 200 of them, and commits only changes."""

from __future__ import annotations

from collections import Counter

import pytest
from sqlalchemy import event, select

from batchkit.engine.runtime import Runner
from batchkit.engine.waves import Wait
from batchkit.errors import OutcomeUnknown
from batchkit.models import Batch, ShardState, WorkloadId
from batchkit.settings import load_settings
from batchkit.store import shards
from batchkit.store.tables import batches as batch_rows
from tests.clock import FakeClock
from tests.factories import NOW, add_shard, add_workload, make_batch
from tests.properties.scripted import ScriptedProvider
from tests.scale.fill import Filling, fill
from tests.scale.idle import one_idle_pass, open_store, status_server

_CALLS = 3
_BATCHES = 200 * _CALLS


@pytest.fixture
def ask(database_url, tmp_path):
    """Return a function that runs one idle pass over real HTTP."""
    with status_server() as server:
        yield lambda: one_idle_pass(database_url, tmp_path / "home", server)


@pytest.mark.parametrize("count", [_BATCHES, pytest.param(10_000, marks=pytest.mark.slow)])
def test_an_idle_pass_asks_for_200_batches_in_one_call_and_writes_nothing(ask, database_url, count):
    """No call, statement or row is for a single batch, and the pass has no wave."""
    open_store(database_url, workloads=1, batches=count)
    ask()  # the first pass stores the owner of the key

    done = ask()

    assert done.calls == {"GET /batches": count // 200}
    assert done.rows_written == 0
    assert done.statements < 45


def test_each_open_workload_costs_at_least_one_call(ask, database_url):
    """Each workload is polled with its own call and the same few statements."""
    open_store(database_url, workloads=3, batches=50)
    ask()

    done = ask()

    assert done.calls == {"GET /batches": 3}
    assert done.rows_written == 0


class Telling(ScriptedProvider):
    """A provider whose list of batches the test sets, and which knows no single batch."""

    def __init__(self, told: dict[str, Batch]) -> None:
        super().__init__()
        self.told = told
        self.asked = 0

    def get_batches(self, ids):
        """Return the batches that the test has set."""
        self.asked += 1
        return {batch_id: self.told[batch_id] for batch_id in ids if batch_id in self.told}

    def get_batch(self, _batch_id):
        """Raise an error for a single batch."""
        raise OutcomeUnknown("the connection broke off")


@pytest.fixture
def open_runner(database_url, tmp_path):
    """Return a function that opens a runner with a provider that returns the given batches."""
    runners = []

    def opened(told: dict[str, Batch] | None = None, **settings) -> Runner:
        values = {"home": tmp_path / "home", "database_url": database_url, "api_key": "gsk_anything", **settings}
        runners.append(Runner(load_settings(**values), provider=Telling(told or {}), clock=FakeClock(NOW)))
        return runners[-1]

    yield opened
    for runner in runners:
        runner.close()


def ids_of(store) -> list[str]:
    """Return the ids of all batches in the order of their shards."""
    with store.read() as connection:
        return list(connection.scalars(select(batch_rows.c.id).order_by(batch_rows.c.shard_id)))


def first_wait(runner: Runner, workload_id: WorkloadId) -> float:
    """Run a pass that finds no work; return the seconds until the next one."""
    action = runner.drive(workload_id).next()
    assert isinstance(action, Wait)
    return action.until - runner.clock()


def test_new_counts_of_running_batches_are_committed_once_per_call(store, open_runner):
    """New counts in every batch at every poll do not sync the disk once per batch."""
    workload_id = fill(store, Filling(submitted=_BATCHES, lines=1))
    runner = open_runner()
    runner.provider.told.update({name: make_batch(name, status="validating") for name in ids_of(store)})
    written: Counter[str] = Counter()

    def note(_connection, _cursor, statement, _parameters, _context, _many) -> None:
        written.update([" ".join(statement.split()[:2])])

    event.listen(runner.store.engine, "after_cursor_execute", note)
    first_wait(runner, workload_id)

    assert written["UPDATE batches"] == runner.provider.asked == _CALLS
    with store.read() as connection:
        assert set(connection.scalars(select(batch_rows.c.status))) == {"validating"}


def test_a_shard_that_another_runner_has_ended_does_not_hold_up_the_others(store, open_runner):
    """Each ended batch of one call ends its own shard, even if another shard of the call has ended already."""
    with store.write() as connection:
        workload = add_workload(connection)
        mine = [add_shard(connection, workload, lines=1, state=ShardState.SUBMITTED) for _ in range(3)]
    runner = open_runner({str(shard.batch_id): make_batch(str(shard.batch_id), status="completed") for shard in mine})
    tell = runner.provider.get_batches

    def overtaken(ids):
        with store.write() as connection:
            shards.transition(connection, mine[1], ShardState.ENDED, at=NOW, detail="by another runner")
        return tell(ids)

    runner.provider.get_batches = overtaken
    runner.drive(workload.id).next()

    with store.read() as connection:
        assert [shards.get(connection, shard.id).state for shard in mine] == [ShardState.ENDED] * 3
        statuses = dict(connection.execute(select(batch_rows.c.shard_id, batch_rows.c.status)).all())
    assert statuses == {mine[0].id: "completed", mine[1].id: "in_progress", mine[2].id: "completed"}


def test_ended_batches_are_kept_when_another_one_cannot_be_read(store, open_runner):
    """One batch is missing from the answer and is read individually: whatever the result, the other batches are ended."""
    with store.write() as connection:
        workload = add_workload(connection)
        mine = [add_shard(connection, workload, lines=1, state=ShardState.SUBMITTED) for _ in range(3)]
    told = {str(shard.batch_id): make_batch(str(shard.batch_id), status="completed") for shard in mine[:2]}
    runner = open_runner(told)

    runner.drive(workload.id).next()

    with store.read() as connection:
        states = [shards.get(connection, shard.id).state for shard in mine]
    assert states == [ShardState.ENDED, ShardState.ENDED, ShardState.SUBMITTED]


@pytest.mark.parametrize(("batches", "seconds"), [(1, 15.0), (200, 15.0), (401, 45.0)])
def test_the_wait_between_polls_grows_with_the_calls_that_one_takes(sqlite_store, tmp_path, batches, seconds):
    """Among thousands of batches some status has always changed; they are polled no more often than a few batches."""
    workload_id = fill(sqlite_store, Filling(submitted=batches, lines=1))
    settings = load_settings(
        home=tmp_path,
        database_url=sqlite_store.url.render_as_string(),
        api_key="gsk_anything",
        poll_interval_seconds=15,
    )
    told = {name: make_batch(name, status="validating") for name in ids_of(sqlite_store)}
    with Runner(settings, provider=Telling(told), clock=FakeClock(NOW)) as runner:
        assert first_wait(runner, workload_id) == seconds


def test_the_wait_between_polls_is_never_longer_than_is_allowed(sqlite_store, tmp_path):
    """The longest poll interval holds, however many calls a poll takes."""
    workload_id = fill(sqlite_store, Filling(submitted=401, lines=1))
    settings = load_settings(
        home=tmp_path,
        database_url=sqlite_store.url.render_as_string(),
        api_key="gsk_anything",
        poll_interval_seconds=15,
        max_poll_interval_seconds=20,
    )
    provider = Telling({name: make_batch(name, status="validating") for name in ids_of(sqlite_store)})
    clock = FakeClock(NOW)
    with Runner(settings, provider=provider, clock=clock) as runner:
        drive = runner.drive(workload_id)
        assert isinstance(drive.next(), Wait)
        clock.advance(20)
        drive.next()

    assert provider.asked == 2 * _CALLS
