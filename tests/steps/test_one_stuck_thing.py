"""One shard, file, list or clock in trouble does not keep the others from finishing."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from batchkit.errors import OutcomeUnknown, ProviderUnreachable, RateLimited, RowsHeld, StateConflict, TornDownload
from batchkit.models import ShardState
from batchkit.steps import answer_files, cancel, merge, poll, resubmit, settle, submit
from batchkit.store import shard_leases, shards, workloads
from batchkit.store.engine import Store
from tests.observing import Watching
from tests.steps.timed import TimedRun, refused, succeeded

if TYPE_CHECKING:
    from batchkit.steps.context import StepContext

STEPS = {"submit": submit, "poll": poll, "settle": settle, "merge": merge, "resubmit": resubmit, "cancel": cancel}


def fail_for(monkeypatch, module, name, choose, error=None):
    """Make a function fail when ``choose`` accepts its arguments; return the calls that failed."""
    failed: list[object] = []
    original = getattr(module, name)

    def patched(*args, **kwargs):
        if choose(*args):
            failed.append(args)
            raise error or RuntimeError("planted")
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, patched)
    return failed


def is_second(shard):
    """Return whether this is the second shard."""
    return getattr(shard, "number", shard) == 2


@pytest.mark.parametrize(
    ("module", "name", "of_shard"),
    [
        (submit, "_upload", lambda _context, _workload, shard: is_second(shard)),
        (submit, "_create", lambda _context, _workload, shard: is_second(shard)),
        (poll, "_judge", lambda _context, shard, *_rest: is_second(shard)),
        (answer_files, "_fetch_now", lambda _context, _workload, shard_id: is_second(shard_id)),
        (merge, "_merge_once", lambda _context, _workload, fetched: is_second(fetched.shard)),
        (merge, "_store", lambda _connection, _workload, shard, *_rest: is_second(shard)),
    ],
    ids=["upload", "create", "poll", "fetch", "merge", "store"],
)
def test_an_unexpected_error_of_one_shard_is_that_shards(timed, monkeypatch, caplog, module, name, of_shard):
    """It fails three times in a row: the others finish meanwhile, the traceback is logged, and in the end it finishes too."""
    failed: list[float] = []
    original = getattr(module, name)

    def patched(*args, **kwargs):
        if of_shard(*args) and len(failed) < 3:
            failed.append(timed.clock())
            raise RuntimeError("planted")
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, patched)
    runner = timed.open()
    timed.split(runner, 40, shard_lines=10)

    assert timed.process(runner).all_succeeded
    timed.assert_bought_once()
    assert len(failed) == 3
    assert "RuntimeError: planted" in caplog.text
    assert failed[2] - failed[1] > 0


def test_an_error_that_stays_ends_the_command_when_nothing_else_is_left(timed, monkeypatch):
    """The other shards are merged by then; the error is raised unchanged, because it is a bug."""
    fail_for(monkeypatch, merge, "_merge_once", lambda _context, _workload, fetched: is_second(fetched.shard))
    runner = timed.open()
    timed.split(runner, 40, shard_lines=10)

    with pytest.raises(RuntimeError, match="planted"):
        timed.process(runner)

    assert runner.progress(runner.find("work").id).counts.succeeded == 30


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_fails_now_and_then_delays_the_drive_only(timed, monkeypatch, step):
    """Each of its first two calls raises an unexpected error."""
    failed: list[str] = []
    original = getattr(STEPS[step], step)

    def patched(*args, **kwargs):
        if len(failed) < 2:
            failed.append(step)
            raise RuntimeError("planted")
        return original(*args, **kwargs)

    monkeypatch.setattr(STEPS[step], step, patched)
    runner = timed.open(resubmit_linger_seconds=0)
    timed.split(runner, 20, shard_lines=10)
    if step == "settle":
        lose_replies(timed, 1)
    if step == "resubmit":
        begun = timed.clock()
        timed.provider.answer = lambda line: (
            refused(line, 503, "unavailable", "busy") if timed.clock() < begun + 100 else succeeded(line)
        )

    assert timed.process(runner).is_finished
    assert failed == [step] * 2


def lose_replies(timed, count):
    """Make the first ``count`` creations succeed without a reply."""
    create = timed.provider.create_batch
    lost: list[str] = []

    def create_without_reply(**call):
        made = create(**call)
        if len(lost) < count:
            lost.append(made.id)
            raise OutcomeUnknown("the reply was lost")
        return made

    timed.provider.create_batch = create_without_reply


def test_locked_rows_postpone_their_shard(timed, monkeypatch):
    """The other shards are merged and the holder is reported; when the rows are free, the shard is merged as well."""
    held_until = timed.clock() + 400
    fail_for(
        monkeypatch,
        merge,
        "_store",
        lambda _connection, _workload, shard, *_rest: is_second(shard) and timed.clock() < held_until,
        RowsHeld("rows of requests are held by process 77 of host a"),
    )
    runner = timed.open()
    timed.split(runner, 40, shard_lines=10)
    merged_at = []
    runner_progress = runner.find("work")

    progress = runner.process(
        runner_progress.id,
        observer=Watching(
            on_wave=lambda _wave, report: merged_at.extend([timed.clock()] * report.counts.get("merged", 0)),
            on_wait=timed.waits.append,
        ),
    )

    assert progress.all_succeeded
    assert sorted(merged_at)[2] < held_until <= sorted(merged_at)[3]
    assert any(wait.trouble and "process 77" in wait.trouble.what for wait in timed.waits)


def test_noting_an_output_waits_for_a_locked_row(timed, monkeypatch):
    """The output path is noted before the work starts, and waits for the row as the work itself does."""
    runner = timed.open()
    timed.split(runner, 10)
    held_until = timed.clock() + 100
    held = RowsHeld("rows of workloads are held by process 77 of host a")
    fail_for(monkeypatch, workloads, "set_values", lambda *_rest: timed.clock() < held_until, held)

    runner.set_output(runner.find("work").id, "results.jsonl")

    assert timed.clock() >= held_until
    assert runner.find("work").output == "results.jsonl"


def test_rows_that_are_locked_forever_end_the_command_after_an_outage(timed, monkeypatch):
    """The command ends with exit code 4 and the holder's name after ``outage_seconds``."""
    error = RowsHeld("rows of requests are held by process 77 of host a")
    fail_for(monkeypatch, merge, "_store", lambda *_args: True, error)
    runner = timed.open(outage_seconds=900)
    timed.split(runner, 10)
    began = timed.clock()

    with pytest.raises(RowsHeld, match="process 77") as caught:
        timed.process(runner)

    assert caught.value.exit_code == 4
    assert 900 <= timed.clock() - began < 3 * 900


def test_a_slow_file_does_not_delay_the_others(timed, monkeypatch):
    """Its transfer continues beside the polls and merges of the other shards, and the file is used once it is complete."""
    monkeypatch.setattr(merge, "_SLOW_SECONDS", 0.2)
    arrives = threading.Event()
    download = timed.provider.download_file
    downloads = []

    def slow_download(file_id, path):
        downloads.append(file_id)
        if len(downloads) == 1:
            assert arrives.wait(30)
        return download(file_id, path)

    timed.provider.download_file = slow_download
    runner = timed.open()
    timed.split(runner, 80, shard_lines=10)
    merged = []

    def on_wave(_wave, report):
        merged.extend([1] * report.counts.get("merged", 0))
        if len(merged) == 7:
            arrives.set()

    assert runner.process(runner.find("work").id, observer=Watching(on_wave=on_wave)).all_succeeded
    assert len(merged) == 8
    assert len(downloads) == len(set(downloads)) == 8


def test_only_a_few_shards_of_a_wave_wait_for_held_rows(timed, monkeypatch):
    """Each waits as long as a lock may; the holder is named after two of them, and all are merged once the rows are free."""
    waited: list[int] = []
    shown: list[int] = []
    merge_once = merge._merge_once

    def held(context, workload, fetched, **options):
        if not shown:
            waited.append(fetched.shard.number)
            raise RowsHeld("process 77 holds the rows of requests")
        return merge_once(context, workload, fetched, **options)

    monkeypatch.setattr(merge, "_merge_once", held)
    runner = timed.open()
    timed.split(runner, 80, shard_lines=10)

    def on_wave(_wave, report):
        if any("process 77" in note for note in report.notes):
            shown.append(len(waited))

    assert runner.process(runner.find("work").id, observer=Watching(on_wave=on_wave)).all_succeeded
    assert shown == [2]
    timed.assert_bought_once()


def test_a_file_that_has_arrived_is_merged_while_slow_files_take_every_transfer(timed, monkeypatch):
    """It arrived after its merge had stopped waiting; the next merge needs no transfer for it."""
    monkeypatch.setattr(merge, "_SLOW_SECONDS", 0.2)
    left, merged = threading.Event(), threading.Event()
    download = timed.provider.download_file
    waits = [left, merged]

    def slow_download(file_id, path):
        assert waits.pop(0).wait(30)
        return download(file_id, path)

    timed.provider.download_file = slow_download
    runner = timed.open(transfers=1)
    timed.split(runner, 20, shard_lines=10)

    def on_wave(_wave, report):
        if report.counts.get("still fetching"):
            left.set()
        if report.counts.get("merged"):
            merged.set()

    assert runner.process(runner.find("work").id, observer=Watching(on_wave=on_wave)).all_succeeded


def test_a_pass_ends_although_files_that_failed_are_due_again_at_once(timed):
    """The command polls, and ends at its time."""
    downloads = []

    def failing_download(file_id, _path):
        downloads.append(file_id)
        if len(downloads) > 1_000:
            pytest.fail("the pass does not end")
        raise TornDownload("too slow")

    timed.provider.download_file = failing_download
    # The pause after a failed download is a share of this.
    runner = timed.open(settle_seconds=1e-7)
    timed.split(runner, 30, shard_lines=10)
    began = timed.clock()

    assert not timed.process(runner, seconds=90).is_finished
    assert timed.clock() - began <= 90
    assert len(set(downloads)) == 3


def test_a_slow_upload_does_not_delay_the_others(timed, monkeypatch):
    """It continues beside the creations, polls and merges of the other shards; its own batch is created when it is complete."""
    monkeypatch.setattr(submit, "_SLOW_SECONDS", 0.2)
    arrives = threading.Event()
    upload = timed.provider.upload_file
    uploads = []

    def slow_upload(path, filename):
        uploads.append(filename)
        if len(uploads) == 1:
            assert arrives.wait(30)
        return upload(path, filename)

    timed.provider.upload_file = slow_upload
    timed.provider.takes_seconds = 1.0
    # Each pass before the first poll waits for the slow upload.
    runner = timed.open(poll_interval_seconds=1)
    timed.split(runner, 80, shard_lines=10)
    merged, notes = [], []

    def on_wave(_wave, report):
        notes.extend(report.notes)
        merged.extend([1] * report.counts.get("merged", 0))
        if len(merged) == 7:
            arrives.set()

    assert runner.process(runner.find("work").id, observer=Watching(on_wave=on_wave)).all_succeeded
    assert len(merged) == 8
    assert len(uploads) == len(set(uploads)) == 8
    assert "1 slow upload still on the way" in notes
    timed.assert_bought_once()


@pytest.mark.parametrize("kind", ["refused", "broken", "lost"])
def test_a_slow_upload_that_fails_is_begun_again(timed, monkeypatch, kind):
    """Nobody waits for it when it fails: the next wave for its shard sends the file once more."""
    monkeypatch.setattr(submit, "_SLOW_SECONDS", 0.2)
    errors = {
        "refused": RateLimited("later", status=429, retry_after_seconds=5),
        "broken": RuntimeError("planted"),
        "lost": OutcomeUnknown("no answer"),
    }
    fails = threading.Event()
    upload = timed.provider.upload_file
    uploads = []

    def slow_upload(path, filename):
        uploads.append(filename)
        if len(uploads) == 1:
            assert fails.wait(30)
            raise errors[kind]
        return upload(path, filename)

    timed.provider.upload_file = slow_upload
    timed.provider.takes_seconds = 1.0
    # Each pass before the first poll waits for the slow upload.
    runner = timed.open(poll_interval_seconds=1)
    timed.split(runner, 20, shard_lines=10)

    def on_wave(_wave, report):
        if report.counts.get("merged"):
            fails.set()

    assert runner.process(runner.find("work").id, observer=Watching(on_wave=on_wave)).all_succeeded
    assert len(uploads) == 3
    timed.assert_bought_once()


def test_a_workload_that_is_cancelled_during_a_slow_upload_buys_nothing_more(timed, monkeypatch):
    """The shard is withdrawn beside the upload, and no batch is created when the upload is complete."""
    monkeypatch.setattr(submit, "_SLOW_SECONDS", 0.2)
    arrives, arrived = threading.Event(), threading.Event()
    upload = timed.provider.upload_file

    def slow_upload(path, filename):
        assert arrives.wait(30)
        remote = upload(path, filename)
        arrived.set()
        return remote

    timed.provider.upload_file = slow_upload
    runner = timed.open()
    timed.split(runner, 10)

    progress = runner.process(
        runner.find("work").id, observer=Watching(on_wait=lambda _wait: runner.request_cancel("work"))
    )
    arrives.set()
    assert arrived.wait(30)

    assert progress.counts.cancelled == 10
    assert timed.provider.calls["create"] == 0


def test_a_list_that_takes_long_does_not_hold_up_the_merges(timed, monkeypatch):
    """A lost creation is searched for in an endless list; the other shards are merged meanwhile."""
    monkeypatch.setattr("batchkit.engine.pending._SETTLE_SECONDS", 0.05)
    goes_on = threading.Event()
    scan = timed.provider.list_batches

    def slow_scan(**_filter):
        assert goes_on.wait(30)
        yield from scan()

    timed.provider.list_batches = slow_scan
    lose_replies(timed, 1)
    runner = timed.open(transfers=1)
    timed.split(runner, 40, shard_lines=10)
    merged = []

    def on_wave(_wave, report):
        merged.extend([1] * report.counts.get("merged", 0))
        if len(merged) == 3:
            goes_on.set()

    assert runner.process(runner.find("work").id, observer=Watching(on_wave=on_wave)).all_succeeded
    timed.assert_bought_once()


@pytest.mark.parametrize("kind", ["ends", "fails"])
def test_a_slow_list_that_settled_nothing_is_read_again(timed, monkeypatch, kind):
    """The first scan, beside a pass, ends without the batch or with an unexpected error; the next scan finds the batch."""
    monkeypatch.setattr("batchkit.engine.pending._SETTLE_SECONDS", 0.05)
    goes_on = threading.Event()
    scan = timed.provider.list_batches
    scans = []

    def slow_scan(**_filter):
        scans.append(timed.clock())
        if len(scans) > 1:
            yield from scan()
            return
        assert goes_on.wait(30)
        if kind == "fails":
            raise RuntimeError("planted")

    timed.provider.list_batches = slow_scan
    lose_replies(timed, 1)
    runner = timed.open()
    timed.split(runner, 10)

    def on_wait(_wait):
        if scans:
            goes_on.set()

    stop_at = timed.clock() + 300
    watching = Watching(on_wait=on_wait)
    assert runner.process(runner.find("work").id, stop_at=stop_at, observer=watching).all_succeeded
    timed.assert_bought_once()


def test_a_shard_whose_file_is_slow_is_not_asked_for_again_at_once(timed, monkeypatch):
    """The pass ends, and the next wave for the shard comes after a pause during which the transfer continues."""
    monkeypatch.setattr(merge, "_SLOW_SECONDS", 0.2)
    arrives = threading.Event()
    download = timed.provider.download_file

    def slow_download(file_id, path):
        assert arrives.wait(30)
        return download(file_id, path)

    timed.provider.download_file = slow_download
    runner = timed.open()
    timed.split(runner, 10)
    told = []

    def on_wave(_wave, report):
        if report.counts.get("still fetching"):
            told.append("still fetching")
            if told.count("still fetching") == 3:
                arrives.set()

    assert runner.process(
        runner.find("work").id,
        observer=Watching(on_wave=on_wave, on_wait=lambda _wait: told.append("wait")),
    ).all_succeeded
    first = told.index("still fetching")
    assert told[first : first + 5] == ["still fetching", "wait"] * 2 + ["still fetching"]


def test_an_outage_is_reported_from_its_first_pass_with_its_end(timed):
    """The report says what is unreachable, since when, how many tries were made, and when the command gives up."""
    timed.provider.takes_seconds = 3_000.0
    runner = timed.open(outage_seconds=900, poll_interval_seconds=15)
    timed.split(runner)
    timed.process(runner, seconds=20)
    began = timed.clock()

    def on_call(name):
        if timed.clock() < began + 400:
            raise ProviderUnreachable(f"{name}: no connection")

    timed.provider.on_call = on_call
    timed.waits.clear()

    assert timed.process(runner).all_succeeded
    troubles = [wait.trouble for wait in timed.waits if wait.trouble is not None]
    assert troubles[0].since - began < 60
    assert len(troubles) > 6
    assert "no connection" in troubles[0].what
    assert [trouble.tries for trouble in troubles] == list(range(1, len(troubles) + 1))
    assert all(trouble.gives_up_at == pytest.approx(troubles[0].since + 900, abs=1) for trouble in troubles)
    assert timed.waits[-1].trouble is None


@pytest.mark.parametrize(
    ("state", "behind_seconds"),
    [("lost creations", 86_400.0), ("refused for want of room", 30 * 86_400.0), ("pending requests", 86_400.0)],
)
def test_waits_started_by_a_clock_ahead_of_ours_are_over(timed, state, behind_seconds):
    """A process ends in the middle of a wait, and the clock of the next one is days behind."""
    ahead = timed.open(clock=lambda: timed.clock() + behind_seconds, resubmit_linger_seconds=3_000)
    timed.split(ahead, 20, shard_lines=10)
    if state == "lost creations":
        lose_replies(timed, 2)
    elif state == "refused for want of room":
        timed.provider.on_call = lambda name: (
            (_ for _ in ()).throw(OutcomeUnknown("busy")) if name == "upload" else None
        )
    else:
        timed.provider.answer = lambda line: refused(line, 503, "unavailable", "busy")
    timed.process(ahead, seconds=150)
    ahead.close()
    timed.provider.on_call = lambda _call: None
    timed.provider.answer = succeeded
    began = timed.clock()
    behind = timed.open()

    assert timed.process(behind).all_succeeded
    assert timed.clock() - began < 4_000
    if state != "pending requests":
        timed.assert_bought_once()


def test_a_lease_too_long_for_any_clock_of_ours_is_over(timed):
    """A lease of a dead machine whose clock was a day ahead is ignored; a lease of one minute is kept."""
    runner = timed.open()
    timed.split(runner, 20, shard_lines=10)
    workload = runner.find("work")
    now = timed.clock()
    for holder, until in (("ahead|x|1|1|1", now + 86_400), ("right|x|1|1|1", now + 60)):
        with runner.store.write() as connection:
            shard_leases.claim(
                connection, workload.id, ShardState.PLANNED, owner=holder, now=now, lease_seconds=until - now, limit=1
            )

    timed.process(runner, seconds=30)

    with runner.store.read() as connection:
        states = [shard.state for shard in shards.in_states(connection, workload.id, tuple(ShardState))]
    assert states == [ShardState.SUBMITTED, ShardState.PLANNED]
    assert timed.process(runner).all_succeeded


def test_a_cancel_that_is_rolled_back_is_not_counted(timed, monkeypatch):
    """Another runner takes over one shard at that moment: only committed cancellations are reported."""
    runner = timed.open()
    timed.split(runner, 30, shard_lines=10)
    workload = runner.find("work")
    runner.request_cancel("work")
    context: StepContext = runner._context()
    monkeypatch.setattr(
        cancel,
        "shards",
        SimpleNamespace(**{**vars(shards), "transition": _transition_unless_second}),
    )

    report = cancel.cancel(context, workload.id)

    counts = runner.progress(workload.id).counts
    assert report.counts["cancelled"] == counts.cancelled == 20


def _transition_unless_second(connection, shard, *args, **kwargs):
    if shard.number == 2:
        raise StateConflict("another runner has taken it on")
    return shards.transition(connection, shard, *args, **kwargs)


def test_rows_locked_in_one_step_do_not_delay_the_other_steps(timed, monkeypatch):
    """While the status of a batch cannot be written, ended shards are merged and planned shards are sent."""
    runner = timed.open()
    timed.split(runner, 20, shard_lines=10)
    timed.process(runner, seconds=100)
    timed.split(runner, 5, name="other")
    held = fail_for(monkeypatch, poll, "poll", lambda *_args: True, RowsHeld("held by process 77 of host a"))

    timed.process(runner, name="other", seconds=150)

    assert held
    assert timed.provider.calls["create"] == 3


@pytest.mark.parametrize("table", ["shards", "batches", "requests"])
def test_a_row_locked_by_another_session_does_not_keep_other_shards_from_finishing(postgres_url, tmp_path, table):
    """On Postgres: the batch of one shard can be neither polled nor merged; all others are, and then that one is too."""
    with ExitStack() as stack:
        timed = TimedRun(stack, postgres_url, tmp_path)
        runner = timed.open()
        runner.store.limits = replace(runner.store.limits, lock_seconds=0.2)
        timed.split(runner, 40, shard_lines=10)
        timed.process(runner, seconds=30)
        other = Store(postgres_url)
        stack.callback(other.close)
        column = "id" if table == "shards" else "shard_id"
        with other.write() as holder:
            number = holder.execute(text("SELECT min(id) FROM shards")).scalar_one()
            held = f"SELECT * FROM {table} WHERE {column} = :number FOR UPDATE"  # noqa: S608 - names of this test
            assert holder.execute(text(held), {"number": number}).all()
            timed.process(runner, seconds=600)
            counts = runner.progress(runner.find("work").id).counts
            holder.rollback()

        assert counts.succeeded == 30
        assert timed.process(runner).all_succeeded
        timed.assert_bought_once()
