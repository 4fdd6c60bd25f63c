"""The facts of a report about a workload: from shards, the journal, attempts and samples."""

from __future__ import annotations

import pytest

from batchkit.files import jsonl
from batchkit.models import BatchStatus, RequestState, ShardState, Usage
from batchkit.reports import facts
from batchkit.reports.facts import Stretch, read_facts, read_shards, timeline
from batchkit.reports.spending import read_spending
from batchkit.store import report_rows, tables, workloads
from batchkit.store.bulk import bulk_for
from batchkit.store.report_rows import Moments, ShardRow
from tests.factories import NOW, add_shard, add_workload, failure, lost_attempt


def shard(
    number, *, lines=100, window="24h", succeeded=100, failed=0, expired=0, merged_at=NOW, raw=None, status="completed"
):
    """Return a merged shard as the store returns it."""
    return ShardRow(
        number, "merged", "/v1/chat/completions", window, lines, succeeded, failed, expired, merged_at, status, raw
    )


def test_results_add_up_over_time():
    """Each merge adds its results, in the order of the merges and not of the shards."""
    steps = read_shards([shard(1, merged_at=NOW + 9, failed=5), shard(2, merged_at=NOW)]).steps

    assert [(step.at, step.succeeded, step.failed) for step in steps] == [(NOW, 100, 0), (NOW + 9, 200, 5)]


def test_thousands_of_merges_are_few_points():
    """That many points are indistinguishable; the last one, with all results, is among those that are kept."""
    steps = read_shards([shard(number, merged_at=NOW + number) for number in range(2_000)]).steps

    assert len(steps) == 200
    assert steps[-1].succeeded == 200_000


def test_expiry_is_counted_by_window_and_size():
    """Shards of similar size share a line; a batch that never ran is in none."""
    expiry = read_shards(
        [
            shard(1, lines=900, expired=90),
            shard(2, lines=1_000, expired=10),
            shard(3, lines=30, window="48h", expired=0),
            shard(4, lines=30, window="48h", status=BatchStatus.FAILED),
        ]
    ).expiry

    assert [(row.window, row.lines, row.shards, row.attempts, row.expired) for row in expiry] == [
        ("24h", 1_000, 2, 1_900, 100),
        ("48h", 50, 1, 30, 0),
    ]


@pytest.mark.parametrize(
    ("raw", "durations"),
    [
        ('{"created_at": 100, "completed_at": 160}', [60.0]),
        ('{"created_at": 100, "completed_at": null, "expired_at": 200}', [100.0]),
        ('{"created_at": 100, "completed_at": 0}', []),
        ('{"created_at": 100, "completed_at": 90}', []),
        ('{"created_at": "yesterday", "completed_at": 90}', []),
        ("[]", []),
        (None, []),
    ],
)
def test_durations_are_the_providers_or_unknown(raw, durations):
    """Times that are missing, zero or reversed do not count as durations."""
    assert read_shards([shard(1, raw=raw)]).durations == durations


def test_many_batches_share_the_lines_of_the_timeline():
    """Neighbours are combined: the line has their medians, and their first and last times."""
    moments = [Moments(number, NOW + number, NOW + number + 100, NOW + number + 110) for number in range(1, 7)]

    assert timeline(moments, now=NOW, lines=2) == [
        Stretch(1, 3, 3, 0, NOW + 1, NOW + 2, NOW + 102, NOW + 113),
        Stretch(4, 6, 3, 0, NOW + 4, NOW + 5, NOW + 105, NOW + 116),
    ]


def test_a_running_batch_lasts_until_now():
    """Its end is the time of reading, and it counts as open."""
    (stretch,) = timeline([Moments(1, NOW, None, None)], now=NOW + 60)

    assert (stretch.open_batches, stretch.ended_at, stretch.last_at) == (1, NOW + 60, NOW + 60)


def test_sampled_places_are_not_periodic():
    """In an input with alternating models, a sample contains each of them in its proportion."""
    places = report_rows.spread_places(100_000, 400)

    assert len(set(places)) == 400
    assert places == sorted(places)
    for turns in (2, 3, 10):
        seen = [sum(place % turns == turn for place in places) for turn in range(turns)]
        assert max(seen) - min(seen) < 100 / turns


def test_a_small_input_is_its_own_sample():
    """A small input is read completely."""
    assert report_rows.spread_places(3, 400) == [0, 1, 2]


def body(model, **usage):
    """Return an answer of a model."""
    return jsonl.dumps({"model": model, "choices": [{"message": {"content": "yes"}}], "usage": usage}).decode()


def answer(connection, workload, models):
    """Add a merged shard whose requests are answered by the models in turn, with ten tokens in and five out each."""
    made = add_shard(connection, workload, state=ShardState.MERGED, lines=len(models))
    table = tables.bodies
    for seq, model in enumerate(models):
        connection.execute(
            table.update()
            .where(table.c.shard_id == made.id, table.c.seq == seq)
            .values(body=body(model, total_time=seq / 10, queue_time=0.01))
        )
    return workloads.get(connection, workload.id)


def test_tokens_are_split_by_the_models_in_the_answers(store):
    """All tokens are assigned to the models that answered; they add up, and an unknown price stays unknown."""
    with store.write() as connection:
        workload = answer(connection, add_workload(connection), ["openai/gpt-oss-20b"] * 3 + ["nobody/knows"])
        spending = read_spending(connection, workload, Usage(41, 21, 62))

    assert [(spent.model, spent.prompt_tokens, spent.completion_tokens) for spent in spending.models] == [
        ("openai/gpt-oss-20b", 31, 16),
        ("nobody/knows", 10, 5),
    ]
    assert spending.models[0].cost_usd is not None
    assert spending.models[1].cost_usd is None
    assert spending.cost_usd is None
    assert not spending.is_estimate
    assert spending.request_seconds == (0.0, 0.1, 0.2, 0.3)


def test_models_of_a_recipe_are_known_without_a_sample(store):
    """Requests of a recipe alternate between its models, each with its samples in a row."""
    recipe = '{"kind": "annotate", "models": ["openai/gpt-oss-20b", "openai/gpt-oss-120b"], "samples": 2}'
    with store.write() as connection:
        workload = answer(connection, add_workload(connection, recipe=recipe), ["?"] * 6)
        spending = read_spending(connection, workload, Usage(60, 30, 90))

    assert [(spent.model, spent.prompt_tokens, spent.completion_tokens) for spent in spending.models] == [
        ("openai/gpt-oss-20b", 40, 20),
        ("openai/gpt-oss-120b", 20, 10),
    ]
    assert spending.cost_usd is not None


def test_attempts_are_counted_and_explained(store):
    """The histogram counts every request once; reasons count each attempt without an answer, or only the latest of many."""
    with store.write() as connection:
        workload = add_workload(connection)
        first = add_shard(connection, workload, state=ShardState.MERGED, lines=5, succeeded=2)
        second = add_shard(connection, workload, state=ShardState.MERGED, lines=1)
        bulk_for(connection).set_states(workload.id, [(4, "succeeded", 3, 2), (5, "in_flight", 0, 0)])
        expired = [lost_attempt(first, seq, error_code="batch_expired", error_message="too late") for seq in range(3)]
        refused = lost_attempt(second, 5, "refused", status_code=400, error_code="bad", error_message="no")
        bulk_for(connection).add_attempts([*expired, refused])

        counts, seen = report_rows.attempts_histogram(connection, workload.id, 6)
        reasons, looked_at = report_rows.attempt_reasons(connection, workload.id, limit=9)
        _, latest = report_rows.attempt_reasons(connection, workload.id, limit=9, most=2)
        sampled, part = report_rows.attempts_histogram(connection, workload.id, 6, whole_below=5)

    assert counts == {0: 1, 1: 4, 3: 1}
    assert seen.is_whole
    assert [(reason.kind, reason.code, reason.attempts, reason.sample) for reason in reasons] == [
        ("expired", "batch_expired", 3, "too late"),
        ("refused", "bad", 1, "no"),
    ]
    assert looked_at == (4, 4)
    assert latest == (1, 4)
    assert sum(sampled.values()) == part.counted <= 6


def test_the_worst_come_first(store):
    """Failed, cancelled and pending requests come first, then those with most attempts, then input order, up to the limit."""
    with store.write() as connection:
        workload = add_workload(connection)
        merged = add_shard(connection, workload, state=ShardState.MERGED, lines=10)
        add_shard(connection, workload, state=ShardState.MERGED, lines=2, request_state=RequestState.FAILED)
        add_shard(connection, workload, state=ShardState.MERGED, lines=1, request_state=RequestState.PENDING)
        add_shard(connection, workload, state=ShardState.MERGED, lines=1, request_state=RequestState.CANCELLED)
        bulk_for(connection).add_attempts([lost_attempt(merged, 7), lost_attempt(merged, 8, attempt=2)])

        assert report_rows.worst_seqs(connection, workload.id, limit=9) == [10, 11, 13, 12, 8, 7, 0, 1, 2]
        assert report_rows.worst_seqs(connection, workload.id, limit=1) == [10]


def test_a_rare_reason_is_included(store):
    """When more requests have failed than fit, each reason has its share of the rows."""
    with store.write() as connection:
        workload = add_workload(connection)
        made = add_shard(connection, workload, state=ShardState.MERGED, lines=30, request_state=RequestState.FAILED)
        results = tables.results
        connection.execute(results.delete())
        codes = ["common"] * 29 + ["rare"]
        bulk_for(connection).add_results([failure(made, seq, code=code) for seq, code in enumerate(codes)])

        assert 29 in report_rows.worst_seqs(connection, workload.id, limit=10)


def test_the_facts_are_one_snapshot(runner):
    """All facts of a workload are read in one transaction, at one time of the runner's clock."""
    with runner.store.write() as connection:
        workload = add_workload(connection)
        add_shard(connection, workload, state=ShardState.MERGED, lines=4, succeeded=4)

    found = read_facts(runner, workload)

    assert found.progress.counts.succeeded == 4
    assert found.ended_at == NOW
    assert found.attempts == {1: 4}


def test_percentiles_are_observed_values():
    """Nearest rank: half of four is the lower two, 95 % of a hundred the lower 95, and a single value is every percentile."""
    assert facts.percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert facts.percentile([float(number) for number in range(1, 101)], 0.95) == 95.0
    assert facts.percentile([7.0], 0.95) == 7.0
