"""The conditions under which silent result files are accepted, and a batch is taken as never created."""

from __future__ import annotations

from collections import Counter

import pytest

from batchkit.errors import ListingIncomplete, OutcomeUnknown
from batchkit.models import BatchStatus, RequestCounts, ShardState
from batchkit.steps import settle
from batchkit.store import shard_leases
from tests.properties.lab import LONG, Lab, content
from tests.properties.odd_json import written
from tests.properties.scripted import Ending, ScriptedProvider
from tests.properties.test_output_bytes import answer
from tests.properties.wording import chat_body
from tests.workloads import chat_line

ROWS = ("row-0", "row-1", "row-2")
LINES = [written(answer(custom_id, chat_body(f"answer of {custom_id}"))) for custom_id in ROWS]
PAUSE = 1_000.0
"""In seconds; longer than the pause between two list scans."""


class Counting(ScriptedProvider):
    """Counts what is read from it; ``hangs_up`` lists the numbers of the scans, from 1, that break off."""

    def __init__(self, *args, hangs_up=()):
        super().__init__(*args)
        self.reads: Counter[str] = Counter()
        self.scans = 0
        self.asked_for: list[list[str]] = []
        self._hangs_up = hangs_up

    def download_file(self, file_id, path):
        """Count a download."""
        self.reads[file_id.partition("-")[0]] += 1
        return super().download_file(file_id, path)

    def list_batches(self, *, of_files=()):
        """Count a scan when it is complete."""
        self.asked_for.append(list(of_files))
        number = self.reads["scan"] = self.reads["scan"] + 1
        yield from super().list_batches(of_files=of_files)
        if number in self._hangs_up:
            raise ListingIncomplete("page 2 of the list of batches could not be read")
        self.scans += 1


def merged(store, folder, *, status, counts, first, whole=None):
    """Merge a batch of three requests: its first download has ``first`` lines, later ones ``whole``, by default the same."""
    lab = Lab(store, folder, Counting())
    lab.split(content(written(chat_line(custom_id)) for custom_id in ROWS))
    lab.send()
    (batch_id,) = lab.provider.running()
    output = content(LINES[: first if whole is None else whole])
    torn_at = len(content(LINES[:first]))
    lab.provider.end(
        batch_id, Ending(status, output=output, counts=counts, torn=0 if whole is None else 1, torn_at=torn_at)
    )
    lab.look()
    lab.merge()
    return lab


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        (BatchStatus.COMPLETED, RequestCounts(total=3, completed=2, failed=0)),
        (BatchStatus.COMPLETED, RequestCounts(total=3, completed=1, failed=0)),
        (BatchStatus.COMPLETED, RequestCounts()),
        (BatchStatus.EXPIRED, RequestCounts()),
        (BatchStatus.CANCELLED, RequestCounts()),
    ],
    ids=str,
)
def test_unexplained_silence_is_taken_as_a_torn_download_first(store, tmp_path, status, counts):
    """A completed batch owes every line, and one that ended early without counts may owe them: the file is fetched again."""
    lab = merged(store, tmp_path, status=status, counts=counts, first=2, whole=3)
    assert [row.state for row in lab.rows()] == ["succeeded"] * 3
    assert lab.provider.reads["output"] == 2
    assert lab.counters() == dict.fromkeys(ROWS, (1, 0))


@pytest.mark.parametrize("status", [BatchStatus.EXPIRED, BatchStatus.CANCELLED])
def test_silence_of_a_batch_that_ended_early_is_accepted_with_counts(store, tmp_path, status):
    """The counts match the answers in the file: one download is enough, and the rest is sent again."""
    counts = RequestCounts(total=3, completed=2, failed=0)
    lab = merged(store, tmp_path, status=status, counts=counts, first=2)
    assert lab.provider.reads["output"] == 1
    assert [row.state for row in lab.rows()] == ["succeeded", "succeeded", "pending"]


@pytest.mark.parametrize("status", [BatchStatus.EXPIRED, BatchStatus.CANCELLED])
def test_fewer_lines_than_were_counted_are_a_torn_download_whatever_the_status(store, tmp_path, status):
    """The counts say two answers, and the file has one."""
    counts = RequestCounts(total=3, completed=2, failed=0)
    lab = merged(store, tmp_path, status=status, counts=counts, first=1, whole=2)
    assert lab.provider.reads["output"] == 2
    assert [row.state for row in lab.rows()] == ["succeeded", "succeeded", "pending"]


def lost_creation(store, folder, **script):
    """Send two shards; the creation of the first gets no reply, and no batch exists."""
    lost: list[bool] = []

    def lose_first(_data):
        if not lost:
            lost.append(True)
            raise OutcomeUnknown("the connection broke off")

    lab = Lab(store, folder, Counting(lose_first, **script))
    lab.split(content(written(chat_line(custom_id)) for custom_id in ROWS), shard_lines=2)
    lab.send()
    assert len(lab.shards(ShardState.SUBMITTING)) == 1
    return lab


def scan(lab):
    """Search for the lost batch once more, when the pause since the last scan is over."""
    lab.clock.advance(PAUSE)
    settle.settle(lab.contexts["a"], lab.id)


def test_a_lost_creation_is_given_up_after_exactly_four_complete_lists(store, tmp_path):
    """After three lists it is still searched for, however much time has passed; the fourth decides, and no fifth is read."""
    lab = lost_creation(store, tmp_path)
    lab.clock.advance(LONG)
    for scans in (1, 2, 3):
        scan(lab)
        assert lab.provider.scans == scans
        assert len(lab.shards(ShardState.SUBMITTING)) == 1, scans
    scan(lab)
    assert lab.provider.scans == 4
    assert not lab.shards(ShardState.SUBMITTING)
    assert len(lab.shards(ShardState.UPLOADED)) == 1
    scan(lab)
    assert lab.provider.scans == 4
    lab.send()
    assert set(lab.provider.bought.values()) == {1}


def test_a_list_that_broke_off_counts_for_nothing(store, tmp_path):
    """Two of six scans break off: the sixth scan is the fourth complete one."""
    lab = lost_creation(store, tmp_path, hangs_up=(2, 4))
    lab.clock.advance(LONG)
    for number in range(1, 6):
        scan(lab)
        assert len(lab.shards(ShardState.SUBMITTING)) == 1, number
    scan(lab)
    assert (lab.provider.scans, lab.provider.reads["scan"]) == (4, 6)
    assert not lab.shards(ShardState.SUBMITTING)


def test_a_batch_that_shows_in_the_fourth_list_is_adopted(store, tmp_path):
    """Even that late, no second batch is created."""
    lab = lost_creation(store, tmp_path)
    lab.clock.advance(LONG)
    for _ in range(3):
        scan(lab)
    (shard,) = lab.shards(ShardState.SUBMITTING)
    lab.provider.create_batch(
        input_file_id=shard.input_file_id, endpoint=shard.endpoint, window="24h", metadata={"batchkit_key": shard.key}
    )
    scan(lab)
    assert not lab.shards(ShardState.SUBMITTING)
    assert len(lab.shards(ShardState.SUBMITTED)) == 2
    lab.send()
    assert set(lab.provider.bought.values()) == {1}


def test_a_lost_creation_is_looked_up_by_its_input_file(store, tmp_path):
    """Where the runner that sent it may be stopped in mid-creation, its file is deleted, and the whole list decides in the end."""
    lab = lost_creation(store, tmp_path)
    (shard,) = lab.shards(ShardState.SUBMITTING)
    with store.write() as connection:
        shard_leases.claim(
            connection, lab.id, ShardState.SUBMITTING, owner="gone", now=lab.clock() + LONG, lease_seconds=1, limit=9
        )
    lab.clock.advance(2 * LONG)
    for _ in range(6):
        lab.clock.advance(LONG)
        settle.settle(lab.contexts["a"], lab.id)
    assert not lab.shards(ShardState.SUBMITTING)
    assert lab.provider.asked_for == [[shard.input_file_id]] * 4 + [[]]
