"""What requests will cost: input from the rows, output as a range from limits and earlier workloads."""

from __future__ import annotations

import pytest

from batchkit.annotation import presets
from batchkit.annotation.estimate import Earlier, earlier_workloads, estimate
from batchkit.annotation.parameters import Parameters
from batchkit.annotation.preview import preview
from batchkit.annotation.workload_from_table import ensure_workload
from batchkit.cli.render import priced
from batchkit.datasets import open_table
from batchkit.preflight import ModelShare
from batchkit.provider.groq.dialect import GROQ
from batchkit.provider.pricing import pricing_of
from tests.workloads import write_lines

SMALL, LARGE = "openai/gpt-oss-20b", "openai/gpt-oss-120b"
LONGEST = 100_000
GROQS = pricing_of("groq")


@pytest.mark.parametrize(
    ("share", "earlier", "expected"),
    [
        (ModelShare(10, 1_000, 500), None, (0, 500)),
        (ModelShare(10, 1_000, 0, unlimited=10), None, (0, None)),
        (ModelShare(10, 1_000, 500), Earlier(7.0, 9.0), (70, 500)),
        (ModelShare(10, 1_000, 0, unlimited=10), Earlier(7.0, 9.0), (70, 90)),
        # Retries can take more than one answer may.
        (ModelShare(10, 1_000, 50), Earlier(7.0, 9.0), (50, 50)),
    ],
)
def test_the_output_is_a_range_of_what_is_known(share, earlier, expected):
    """Nothing to the limit, what it took before to the limit, what it took before, or unknown."""
    found = estimate({SMALL: share}, GROQS, {SMALL: earlier} if earlier else {})
    (of_model,) = found.models
    assert (of_model.least_out, of_model.most_out) == expected
    least, most = expected
    assert found.least_usd == GROQS.price(SMALL, 1_000, least)
    assert found.most_usd == (None if most is None else GROQS.price(SMALL, 1_000, most))


def test_a_price_that_is_not_known_is_never_zero():
    """Neither of the model nor in total; the tokens are there all the same."""
    found = estimate({SMALL: ModelShare(1, 1_000_000, 1_000_000), "who/knows": ModelShare(1, 10, 10)}, GROQS)
    assert (found.least_usd, found.most_usd) == (None, None)
    lines = list(priced.estimate_lines(found))
    assert lines[0].startswith(f"{SMALL}: about 1,000,000 tokens in, at most 1,000,000 out; $0.")
    assert lines[1:3] == ["who/knows: about 10 tokens in, at most 10 out; price unknown", "in total: price unknown"]
    shown = priced.estimate_for_machines(found)
    assert (shown["cost_usd_at_least"], shown["models"]["who/knows"]["cost_usd_at_most"]) == (None, None)


def test_what_the_same_question_took_before_is_the_range_of_the_next_table(open_harness, tmp_path):
    """By model; of finished workloads with the same question, whatever their table and their key."""
    harness = open_harness()

    def table(name, count):
        rows = [{"id": f"k{number}", "text": f"row {number}"} for number in range(count)]
        return open_table([str(write_lines(tmp_path / f"{name}.jsonl", rows))])

    def asking(prompt="Kind? {{ text }}", **fields):
        return presets.annotation(prompt, models=[SMALL, LARGE], **fields)

    def earlier(recipe):
        with harness.runner.store.read() as connection:
            return earlier_workloads(connection, recipe)

    first = ensure_workload(harness.runner, table("first", 5), asking(key="id", bad_rows="skip"), name="first")
    ensure_workload(harness.runner, table("open", 5), asking(), name="open")
    other = ensure_workload(harness.runner, table("other", 5), asking("Really? {{ text }}"), name="other")
    assert earlier(asking()) == ({}, [])
    for workload in (first, other):
        harness.runner.process(workload.id)

    found = preview(table("next", 50), asking(limit=40), dialect=GROQ, max_line_bytes=LONGEST, earlier=earlier).estimate
    assert found.earlier == ("first",)
    usage = harness.runner.progress(first.id).usage
    assert [(of_model.model, of_model.requests) for of_model in found.models] == [(SMALL, 40), (LARGE, 40)]
    assert sum(of_model.least_out for of_model in found.models) == usage.completion_tokens * 8
    assert found.least_usd == found.most_usd
    assert "tokens out estimated from earlier workloads with these questions: first" in list(
        priced.estimate_lines(found)
    )
    limited = asking(parameters=Parameters(max_completion_tokens=5_000))
    assert (
        preview(table("next", 50), limited, dialect=GROQ, max_line_bytes=LONGEST, earlier=earlier).estimate.earlier
        == ()
    )
