"""Results that the provider deletes soon are fetched first, and the user is told; what vanished is told as lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batchkit.cli.render import display, machine
from batchkit.engine import situation
from batchkit.files import jsonl
from batchkit.models import ShardState
from batchkit.provider.dialect import Retention
from batchkit.steps import merge
from batchkit.steps.split import SplitOptions
from batchkit.store import shards
from tests.properties.scripted import not_found
from tests.workloads import CHAT, chat_line

DAY = 86_400.0
#: Groq keeps results for 30 days: a quarter of that is left after 22.5 of them.
LATE = 23 * DAY


def told(progress):
    """Return the warning about results that vanish; None without one."""
    found = [wait for wait in situation.waits(progress) if wait.kind is situation.WaitKind.VANISHING]
    return found[0].sentence(progress.read_at, utc=True) if found else None


def sent(timed, *, requests=6, shard_lines=2, **settings):
    """Send a workload whose batches end a minute later; return the runner, which has not looked since."""
    runner = timed.open(poll_interval_seconds=30, **settings)
    timed.split(runner, requests, shard_lines=shard_lines)
    timed.process(runner, seconds=1)
    return runner


def test_what_vanishes_first_is_fetched_first(timed, monkeypatch):
    """Of batches near the end of their days the oldest comes first, whatever its number; the others follow by number."""
    merged = []
    plain = merge.merge

    def seen(context, workload_id, shard_ids):
        merged.extend(shard_ids)
        return plain(context, workload_id, shard_ids)

    monkeypatch.setattr(merge, "merge", seen)
    runner = sent(timed, requests=10)
    began = int(timed.clock())
    ages = {1: 0, 2: 24, 3: 1, 4: 28, 5: 23}
    with runner.store.read() as connection:
        numbers = {shard.batch_id: shard.number for shard in _shards(connection, runner)}
    for batch_id, number in numbers.items():
        batch = timed.provider.batches[batch_id]
        timed.provider.batches[batch_id] = replace(batch, created_at=int(began - ages[number] * DAY))
    assert timed.process(runner).all_succeeded
    with runner.store.read() as connection:
        number_of = {shard.id: shard.number for shard in _shards(connection, runner)}
    assert [number_of[shard_id] for shard_id in merged] == [4, 2, 5, 1, 3]


def test_the_user_is_told_when_results_vanish_soon(timed):
    """By status, panel, log line and JSON alike: how many, from when on, and what to do; not before three quarters are over."""
    runner = sent(timed)
    timed.clock.advance(22 * DAY)
    assert told(runner.progress(runner.find("work").id)) is None
    timed.clock.advance(LATE - 22 * DAY)
    progress = runner.progress(runner.find("work").id)
    text = told(progress)
    assert text.startswith(
        "the results of 3 batches vanish at the provider (`batchkit watch work` fetches them first), the first ones at "
    )
    assert progress.vanishing.first_at == pytest.approx(timed.provider.created_at() + 30 * DAY, abs=1)
    shown = machine.workload(progress)["waits"][-1]
    assert (shown["kind"], shown["until"], shown["count"]) == ("vanishing", progress.vanishing.first_at, 3)
    moment = display.Moment(timed.clock())
    assert "the results of 3 batches vanish" in display.plain_line(progress, moment)
    timed.clock.advance(10 * DAY)
    assert "the first ones may be gone since" in told(runner.progress(runner.find("work").id))
    assert timed.process(runner).all_succeeded
    assert told(runner.progress(runner.find("work").id)) is None


def test_a_batch_that_still_runs_is_no_reason_to_warn(timed):
    """Its results do not exist yet, however old it is."""
    timed.provider.takes_seconds, timed.provider.expires_after = 1e9, 40 * DAY
    runner = sent(timed)
    timed.clock.advance(29 * DAY)
    assert told(runner.progress(runner.find("work").id)) is None


def test_nothing_is_said_where_the_days_are_not_known(timed):
    """An unknown retention is no retention of zero or of ever."""
    runner = sent(timed)
    with runner.store.write() as connection:
        connection.exec_driver_sql("UPDATE workloads SET provider = 'kimi'")
    timed.clock.advance(100 * DAY)
    assert told(runner.progress(runner.find("work").id)) is None
    unknown = Retention()
    assert (unknown.vanishing_before(1e9), unknown.vanishes_at(1.0)) == (None, None)
    assert Retention(output_days=4).vanishes_at(None) is None


def vanish(timed):
    """Delete the output files of the batches that exist by now at the provider."""
    download = timed.provider.download_file
    lost = {f"output-{batch_id}" for batch_id in timed.provider.batches}

    def gone(file_id, path):
        if file_id in lost:
            raise not_found("file")
        return download(file_id, path)

    timed.provider.download_file = gone


def test_results_that_have_vanished_are_told_and_sent_again(timed):
    """A few looks, with growing pauses, and then it is said what is lost, and that it is paid for again."""
    runner = sent(timed)
    timed.clock.advance(31 * DAY)
    vanish(timed)
    assert timed.process(runner).all_succeeded
    notes = [note for wait in timed.waits for note in wait.notes]
    lost = [note for note in notes if "its output file is gone" in note]
    assert len(lost) == 3
    assert lost[0].endswith(
        "its output file is gone at the provider (results are kept for 30 days), and with it 2 answers;"
        " their requests are sent again, and paid for again"
    )
    assert set(timed.provider.executed.values()) == {2}


def test_vanished_results_of_an_adopted_batch_wait_for_the_users_word(timed, tmp_path):
    """They fail with their reason; `resubmit` is named, and nothing is bought before it."""
    source = tmp_path / "theirs.jsonl"
    source.write_bytes(b"".join(jsonl.dumps(chat_line(f"row-{number}")) + b"\n" for number in range(3)))
    file = timed.provider.upload_file(source, source.name)
    batch = timed.provider.create_batch(
        input_file_id=file.id, endpoint=CHAT, window="24h", metadata={"batchkit_key": "x"}
    )
    timed.clock.advance(31 * DAY)
    vanish(timed)
    runner = timed.open(poll_interval_seconds=1_200, max_poll_interval_seconds=1_200)
    runner.adopt([batch.id], name="theirs", options=SplitOptions())
    progress = timed.process(runner, name="theirs")
    assert (progress.is_finished, progress.counts.failed) == (True, 3)
    (reason,) = progress.failures
    assert (reason.code, reason.count) == ("vanished", 3)
    assert "deleted the file with its answer before it was fetched" in reason.sample
    assert timed.provider.calls["create"] == 1
    assert runner.reopen("theirs", failed=False) == 3


def _shards(connection, runner):
    return shards.in_states(connection, runner.find("work").id, tuple(ShardState))
