"""The charts of a workload, and their titles."""

from __future__ import annotations

import pytest

from batchkit.models import RequestState, ShardState
from batchkit.reports import workload_charts
from batchkit.reports.facts import read_facts
from batchkit.store import events
from batchkit.store.bulk import bulk_for
from tests.factories import NOW, add_shard, add_workload


@pytest.mark.parametrize(
    ("seconds", "bins"),
    [
        ([61.0], [("1 min 01 s", 1)]),
        ([60.0, 60.0, 90.0, 100.0], [("1 min 00 s", 2), ("1 min 05 s", 0), ("1 min 10 s", 0), ("1 min 15 s", 0), ("1 min 20 s", 0), ("1 min 25 s", 0), ("1 min 30 s", 1), ("1 min 35 s", 0), ("1 min 40 s", 1)]),
        ([0.0, 86_400.0], [("0 s", 1), ("3 h 00 min", 0), ("6 h 00 min", 0), ("9 h 00 min", 0), ("12 h 00 min", 0), ("15 h 00 min", 0), ("18 h 00 min", 0), ("21 h 00 min", 0), ("1 d 0 h", 1)]),
    ],
)  # fmt: skip
def test_durations_are_counted_in_round_columns(seconds, bins):
    """Columns have widths of round times, and no duration is lost."""
    assert workload_charts.duration_bins(seconds) == bins


@pytest.mark.parametrize("longest", [11.0, 1_000.0, 86_400.0 * 7, 86_400.0 * 10_000])
def test_there_are_never_too_many_columns(longest):
    """Seven days, or the years that a clock jump makes of them, are drawn in a dozen columns."""
    bins = workload_charts.duration_bins([0.0, longest / 3, longest])

    assert len(bins) <= 12
    assert sum(count for _, count in bins) == 3


@pytest.fixture
def facts_of(sqlite_runner):
    """Return a function that reads the facts of a workload that ``make`` creates."""

    def read(make):
        with sqlite_runner.store.write() as connection:
            workload = add_workload(connection)
            make(connection, workload)
        return read_facts(sqlite_runner, workload)

    return read


def test_the_title_states_when_half_was_answered(facts_of):
    """Two merges are a minute apart; after the second, more than half of the results are there."""

    def make(connection, workload):
        add_shard(connection, workload, state=ShardState.MERGED, lines=4, succeeded=4, at=NOW + 60)
        add_shard(connection, workload, state=ShardState.MERGED, lines=6, succeeded=5, failed=1, at=NOW + 120)

    chart = workload_charts.progress(facts_of(make))

    assert chart is not None
    assert chart.title == "Half of the results were in after 2 min 00 s"
    assert "10 of 10 within 2 min 00 s, of which 1 failed." in chart.chart
    assert "line bad" in chart.chart


def test_nothing_is_drawn_before_the_first_batch(facts_of):
    """Before the first batch there are no charts."""
    facts = facts_of(lambda connection, workload: add_shard(connection, workload, state=ShardState.PLANNED))

    assert [
        workload_charts.progress(facts),
        workload_charts.timeline(facts),
        workload_charts.durations(facts),
        workload_charts.attempts(facts),
    ] == [None] * 4


def test_the_timeline_follows_the_journal(facts_of):
    """A batch is drawn from its submission until its end was observed, on a track until its merge."""

    def make(connection, workload):
        shard = add_shard(connection, workload, state=ShardState.MERGED, lines=2)
        for kind, at in (("submitting -> submitted", 10), ("submitted -> ended", 70), ("ended -> merged", 110)):
            events.record(connection, workload.id, kind, at=NOW + at, shard_id=shard.id)

    drawn = workload_charts.timeline(facts_of(make))

    assert drawn is not None
    (line,) = drawn.lines
    assert (drawn.title, line.label, line.value) == ("1 batch over time", "1", "1 min 00 s")
    assert 'x="0%" width="100%"' in line.span
    assert 'x="0%" width="60%"' in line.span


def test_requests_that_were_sent_again_are_counted(facts_of):
    """The title has the share of requests with more than one attempt; high numbers of attempts share a column."""

    def make(connection, workload):
        add_shard(connection, workload, state=ShardState.MERGED, lines=4)
        bulk_for(connection).set_states(
            workload.id, [(2, RequestState.SUCCEEDED, 2, 1), (3, RequestState.SUCCEEDED, 12, 9)]
        )

    chart = workload_charts.attempts(facts_of(make))

    assert chart is not None
    assert chart.title == "50.0 % of requests needed more than one attempt"
    assert "1 attempts: 2; 2 attempts: 1; 3 attempts: 0" in chart.chart
    assert "9+ attempts: 1" in chart.chart
