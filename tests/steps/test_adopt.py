"""Batches that another client created become a workload: nothing is lost, nothing is bought before the user says so."""

from __future__ import annotations

import multiprocessing
import threading
from contextlib import ExitStack, contextmanager

import pytest

from batchkit.emulator import Scenario
from batchkit.emulator.faults import batches, lines
from batchkit.engine.waves import DriveUntil
from batchkit.errors import UsageError, WorkloadConflict
from batchkit.files import jsonl
from batchkit.models import BatchStatus, OutcomeKind, RequestCounts, ShardState
from batchkit.steps import merge, poll, unfinished
from batchkit.steps.split import SplitOptions
from batchkit.store import events, requests, shard_leases, shards, workloads
from tests.foreign import FAULTS_OF_ALL, ROWS_OF_ALL, ForeignClient, create_all, ids, rows
from tests.lazy import LazyModule
from tests.properties.scripted import Ending
from tests.steps.adopting_process import adopt_at_once
from tests.steps.timed import succeeded
from tests.workloads import CHAT

openai = LazyModule("openai")

#: Rows 3 and 4 expire the first time that a batch has them.
EXPIRE = lines.ExpireLines(custom_ids=ids((3, 4)), attempts=1)


@pytest.fixture
def world(open_harness):
    """Return a function that opens a harness with another client on its emulator."""
    with ExitStack() as stack:

        def start(*faults, **scenario):
            harness = open_harness(*faults, **scenario)
            return harness, stack.enter_context(ForeignClient(harness.emulator))

        yield start


def adopt(harness, *batch_ids, name="theirs", runner=None, **options):
    """Adopt batches and fetch what they have; return the progress and what was said."""
    runner = runner or harness.runner
    notes: list[str] = []
    workload = runner.adopt(list(batch_ids), name=name, options=SplitOptions(), note=notes.append, **options)
    return runner.process(workload.id, until=DriveUntil.ONE_PASS), notes


def executed(harness):
    """Return how many requests were executed and paid for."""
    return harness.emulator.ledger().totals.requests_executed


def statuses(harness):
    """Return the custom_ids of the export in its order, with their statuses."""
    return [(line["custom_id"], line["status"]) for line in harness.export("theirs")]


def test_everything_that_batches_of_another_client_hold_is_adopted_and_the_rest_is_sent_once(world, tmp_path):
    """Expired, refused, failed at validation, deleted input, the same requests twice: all in file order; only what is missing is bought."""
    harness, client = world(*FAULTS_OF_ALL)
    with openai.OpenAI(base_url=harness.emulator.base_url, api_key=harness.emulator.api_key) as sdk:
        source = tmp_path / "sdk.jsonl"
        # Its last line has no end, and expires.
        source.write_bytes(b"".join(map(_line, rows(range(10)))).rstrip())
        uploaded = sdk.files.create(file=source, purpose="batch")
        first = sdk.batches.create(input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h")
    made = create_all(client, client.wait(first.id))
    bought = executed(harness)

    progress, notes = adopt(harness, *[batch["id"] for batch in made])

    assert executed(harness) == bought
    assert (progress.counts.total, progress.counts.succeeded, progress.counts.failed) == (38, 28, 10)
    assert [custom_id for custom_id, _ in statuses(harness)] == [f"row-{n}" for n in ROWS_OF_ALL]
    with harness.runner.store.read() as connection:
        kinds = requests.failed_by_kind(connection, progress.workload.id)
    assert kinds == {OutcomeKind.EXPIRED: 5, OutcomeKind.REFUSED: 2, OutcomeKind.MISSING: 3}
    assert any("does not give out its input file" in note for note in notes)

    assert harness.runner.reopen("theirs", failed=False) == 8
    harness.runner.process(progress.workload.id)
    assert executed(harness) == bought + 8
    with harness.runner.store.read() as connection:
        assert not shards.has_any(connection, progress.workload.id, (ShardState.WITHDRAWN,))
    assert [custom_id for custom_id, status in statuses(harness) if status == "failed"] == ["row-5", "row-31"]
    assert harness.runner.reopen("theirs", failed=True) == 2


def _theirs(timed, folder):
    """Create a batch of three requests past batchkit, and adopt it; return the batch and the runner."""
    source = folder / "theirs.jsonl"
    source.write_bytes(b"".join(map(_line, rows(range(3)))))
    file = timed.provider.upload_file(source, source.name)
    batch = timed.provider.create_batch(
        input_file_id=file.id, endpoint=CHAT, window="24h", metadata={"batchkit_key": "theirs"}
    )
    runner = timed.open(poll_interval_seconds=1_200, max_poll_interval_seconds=1_200)
    runner.adopt([batch.id], name="theirs", options=SplitOptions())
    return batch, runner


def test_watch_sends_nothing_of_an_adopted_workload_before_resubmit(timed, tmp_path):
    """A running batch is watched to its end; what expires in it fails, and is sent after a resubmit only."""
    timed.provider.takes_seconds = 1e9
    batch, runner = _theirs(timed, tmp_path)
    assert timed.process(runner, name="theirs", seconds=1).counts.in_flight == 3
    output = _line(succeeded(rows((0,))[0]))
    timed.provider.end(batch.id, Ending(BatchStatus.EXPIRED, output=output, counts=RequestCounts(3, 1, 0)))

    progress = timed.process(runner, name="theirs")

    assert (progress.is_finished, progress.counts.succeeded, progress.counts.failed) == (True, 1, 2)
    assert timed.provider.calls["create"] == 1
    assert runner.reopen("theirs", failed=False) == 2
    timed.provider.takes_seconds = 60
    assert timed.process(runner, name="theirs").all_succeeded
    assert timed.provider.calls["create"] == 2


def test_a_running_batch_that_is_overdue_is_cancelled_by_the_users_word_only(timed, tmp_path):
    """Whoever created a batch may still want it: it is said that it is late, and `cancel` cancels it."""
    timed.provider.takes_seconds, timed.provider.expires_after = 1e9, 60.0
    batch, runner = _theirs(timed, tmp_path)

    progress = timed.process(runner, name="theirs", seconds=4 * 3_600)

    assert (progress.counts.in_flight, timed.provider.calls["cancel"]) == (3, 0)
    with runner.store.read() as connection:
        told = [event.detail or "" for event in events.newest(connection, progress.workload.id, limit=20)]
    assert sum("only `batchkit cancel` cancels" in detail for detail in told) == 1
    runner.request_cancel("theirs")
    timed.process(runner, name="theirs", seconds=1)
    assert timed.provider.batches[batch.id].status == BatchStatus.CANCELLING


@pytest.mark.parametrize("is_first_merged_last", [False, True])
def test_a_success_in_any_batch_wins_whatever_the_order(world, is_first_merged_last):
    """A request that failed in one batch and succeeded in another has its answer, merged first or last, and no error overwrites it."""
    harness, client = world(
        lines.FailLines(custom_ids=ids((1,)), attempts=1), lines.ExpireLines(custom_ids=ids((0,)), attempts=1)
    )
    order = [client.create(rows(range(3))), client.create(rows((1, 0)))]
    progress = harness.runner.adopt([batch["id"] for batch in order], name="theirs", options=SplitOptions())
    context = harness.runner._context()
    poll.poll(context, progress.id)
    with harness.runner.store.write() as connection:
        claimed = shard_leases.claim(
            connection,
            progress.id,
            ShardState.ENDED,
            owner=context.owner,
            now=context.clock(),
            lease_seconds=30,
            limit=9,
        )
    in_turn = sorted((shard.id for shard in claimed), reverse=is_first_merged_last)
    for shard_id in in_turn:
        merge.merge(context, progress.id, [shard_id])
        with harness.runner.store.read() as connection:
            counted = harness.runner.progress(progress.id)
        assert counted.counts.total == 3

    assert statuses(harness) == [(f"row-{n}", "succeeded") for n in range(3)]
    assert counted.is_finished
    with harness.runner.store.read() as connection:
        assert sum(shard.line_count for shard in shards.in_states(connection, progress.id, tuple(ShardState))) == 3


def test_ids_that_repeat_with_other_requests_are_refused_or_kept_apart(world):
    """The same custom_id with another body stops the adoption; with --separate each batch keeps its own, also when it is sent again."""
    harness, client = world(EXPIRE)
    one, two = client.create(rows(range(5))), client.create(rows(range(5), temperature=0.5))
    both = (one["id"], two["id"])
    with pytest.raises(UsageError, match=r"5 custom_ids repeat with other requests, .*'row-0' in .* and "):
        adopt(harness, *both)
    assert harness.runner.known("theirs") is None

    progress, _ = adopt(harness, *both, separate=True)

    assert (progress.counts.total, progress.counts.succeeded) == (10, 8)
    assert harness.runner.reopen("theirs", failed=False) == 2
    harness.runner.process(progress.workload.id)
    expected = [(f"{batch}:row-{n}", "succeeded") for batch in both for n in range(5)]
    assert statuses(harness) == expected


def test_a_file_of_requests_replaces_a_deleted_input_after_a_check(world, tmp_path):
    """A file with other requests is refused; the right one, compressed or without a last newline, lets the missing ones be sent."""
    harness, client = world(EXPIRE)
    batch = client.create(rows(range(5)))
    client.delete(batch["input_file_id"])
    source = tmp_path / "sent.jsonl"
    for wrong, reason in (
        (rows(range(4)), "it has 4 requests, and the batch has 5"),
        (rows(range(1, 6)), "a custom_id that it lacks, 'row-0'"),
    ):
        source.write_bytes(b"".join(map(_line, wrong)))
        with pytest.raises(UsageError, match=reason):
            adopt(harness, batch["id"], requests=[source])
    source.write_bytes(b"\xef\xbb\xbf" + b"\r\n\n".join(_line(row).rstrip() for row in rows(range(5))))

    progress, _ = adopt(harness, batch["id"], requests=[source])

    assert harness.runner.reopen("theirs", failed=False) == 2
    assert harness.runner.process(progress.workload.id).all_succeeded


def test_answers_without_requests_are_kept_and_never_sent_again(world):
    """Of a batch whose input is gone the answers are adopted; what no file names is counted, and nothing can be reopened."""
    harness, client = world(lines.DropLines(custom_ids=ids((2,))), EXPIRE)
    batch = client.create(rows(range(5)))
    client.delete(batch["input_file_id"])

    # The hold ends before the answers are merged: what is not known cannot become pending all the same.
    workload = harness.runner.adopt([batch["id"]], name="theirs", options=SplitOptions())
    assert harness.runner.reopen("theirs", failed=False) == 0
    progress = harness.runner.process(workload.id)

    found = harness.runner.adopted(progress.workload.id)
    assert (progress.counts.succeeded, progress.counts.total + found.unnamed, found.rest) == (2, 5, {})
    assert harness.runner.reopen("theirs", failed=True) == 0
    assert harness.runner.unsendable(progress.workload.id) == progress.counts.failed
    assert harness.runner.progress(progress.workload.id).is_finished


def test_a_batch_whose_requests_are_not_known_is_refused(world, tmp_path):
    """Its input is gone, and it runs or hides its answers: those would belong to nobody. So is a file without answers."""
    harness, client = world(batches.StuckBatches())
    batch = client.create(rows(range(3)), waits=False)
    # The validation needs the file.
    while client.batch(batch["id"])["status"] == "validating":
        pass
    client.delete(batch["input_file_id"])
    with pytest.raises(UsageError, match="not all of its requests are known"):
        adopt(harness, batch["id"])
    harness.emulator.set_scenario(Scenario(faults=(batches.HideFiles(),)))
    hidden = client.create(rows(range(3)))
    client.delete(hidden["input_file_id"])
    with pytest.raises(UsageError, match="names no file for them"):
        adopt(harness, hidden["id"])
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"\n{}\n")
    with pytest.raises(UsageError, match="the files hold no answer"):
        adopt(harness, outputs=[empty])
    assert harness.runner.known("theirs") is None


def test_a_batch_belongs_to_one_workload(world):
    """A batch that a workload holds, adopted or our own, is refused with its name; an unknown one with the provider's word."""
    harness, client = world()
    batch = client.create(rows(range(3)))
    adopt(harness, batch["id"])
    assert adopt(harness, batch["id"])[0].counts.succeeded == 3
    with pytest.raises(WorkloadConflict, match="belongs to workload 'theirs' already"):
        adopt(harness, batch["id"], name="other")
    with pytest.raises(WorkloadConflict, match="'theirs' exists already"):
        adopt(harness, client.create(rows(range(3, 5)))["id"])
    with pytest.raises(UsageError, match="batch_unknown"):
        adopt(harness, "batch_unknown", name="other")
    harness.run(4)
    ours = next(made.id for made in harness.emulator.ledger().batches if made.metadata)
    with pytest.raises(WorkloadConflict, match="belongs to workload 'work' already"):
        adopt(harness, ours, name="other")


def test_of_two_processes_that_adopt_a_batch_at_once_exactly_one_wins(world, tmp_path):
    """The other one names the workload that holds it, and leaves nothing behind."""
    harness, client = world()
    batch = client.create(rows(range(3)))
    settings = {
        "home": tmp_path / "home",
        "database_url": harness.database_url,
        "provider": harness.emulator.dialect.name,
        "base_url": harness.emulator.base_url,
        "api_key": harness.emulator.api_key,
    }
    # SQLite has one writer, so that its transactions cannot meet; Postgres' meet between the check and the insertion.
    step = "write" if harness.database_url.startswith("sqlite") else "_add_shard"
    spawn = multiprocessing.get_context("spawn")
    barrier, ended = spawn.Barrier(2), spawn.Queue()
    processes = [
        spawn.Process(target=adopt_at_once, args=(barrier, ended, settings, batch["id"], name), kwargs={"step": step})
        for name in ("one", "other")
    ]
    for process in processes:
        process.start()
    outcomes = dict(ended.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(60)
    assert outcomes.keys() == {"adopted", "refused"}, outcomes
    winner = outcomes["adopted"]
    assert outcomes["refused"] == f"batch {batch['id']} belongs to workload {winner!r} already"
    with harness.runner.store.read() as connection:
        assert [workload.name for workload in workloads.every(connection)] == [winner]
    assert harness.runner.process(harness.runner.find(winner).id, until=DriveUntil.ONE_PASS).all_succeeded


class KilledError(BaseException):
    """The process dies here."""


class UnexpectedError(RuntimeError):
    """An error that no code handles."""


def test_the_same_adoption_resumes_after_a_death_at_each_of_its_points(world, monkeypatch):
    """Each run ends one effect later than the one before it, killed or by an error; the last one has everything, and nothing was bought."""
    harness, client = world(EXPIRE)
    batch_ids = [client.create(rows(range(5)))["id"], client.create(rows((5, 3, 4)))["id"]]
    bought, deaths, died = executed(harness), 0, [True]
    while died:
        kind = (KilledError, UnexpectedError)[deaths % 2]
        runner = harness.open_runner()
        with monkeypatch.context() as patch:
            if kind is KilledError:
                # A killed process cleans nothing up.
                patch.setattr(unfinished, "abandon", lambda _context, _workload: None)
            died = _die_after(patch, runner, deaths, kind)
            try:
                progress, _ = adopt(harness, *batch_ids, runner=runner)
            except kind:
                assert died
        runner.close()
        deaths += bool(died)

    assert deaths > 12
    assert (progress.counts.total, progress.counts.succeeded, progress.counts.failed) == (6, 6, 0)
    assert [custom_id for custom_id, _ in statuses(harness)] == [f"row-{n}" for n in range(6)]
    assert executed(harness) == bought
    assert {path.name for path in harness.runner.spool.root.iterdir()} == {progress.workload.directory}


def _die_after(patch, runner, effects, kind):
    """Raise ``kind`` at the next commit, download or written file after so many, before or after it; return a list that then has it."""
    died: list[BaseException] = []
    passed: list[int] = []

    def reach():
        if died:
            return
        if len(passed) == effects:
            died.append(kind())
            raise died[0]
        passed.append(1)

    def around(effect):
        def called(*given, **named):
            reach()
            result = effect(*given, **named)
            reach()
            return result

        return called

    write = runner.store.write

    @contextmanager
    def commit(**given):
        is_mine = threading.current_thread() is threading.main_thread()
        with write(**given) as connection:
            yield connection
            if is_mine:
                reach()
        if is_mine:
            reach()

    patch.setattr(runner.store, "write", commit)
    patch.setattr(runner.spool, "keep", around(runner.spool.keep))
    patch.setattr(runner.provider, "download_file", around(runner.provider.download_file))
    return died


def _line(row):
    return jsonl.dumps(row) + b"\n"
