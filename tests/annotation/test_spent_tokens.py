"""Every answer that was paid for is in the sums: also those that did not count, whether asked for again with success or not."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from batchkit.annotation import presets
from batchkit.annotation.row_answers import read_row_answers, write_output_table
from batchkit.annotation.totals import totals
from batchkit.annotation.workload_from_table import ensure_workload
from batchkit.datasets import open_table
from batchkit.emulator.faults import answers
from batchkit.reports.spending import read_spending

MODELS = ["openai/gpt-oss-20b", "openai/gpt-oss-120b"]
ROWS = 20
SCHEMA = {
    "type": "object",
    "properties": {"label": {"enum": ["a", "b"]}},
    "required": ["label"],
    "additionalProperties": False,
}


def test_bad_answers_are_in_tokens_and_cost(open_harness, tmp_path):
    """The tokens of rows, of models and of the workload are the same; a healed and a failed request count each attempt once."""
    harness = open_harness(
        answers.GarbleAnswers(fraction=0.3, attempts=1),
        answers.GarbleAnswers(custom_ids=frozenset({"7:gpt-oss-20b:1"})),
    )
    (tmp_path / "table.csv").write_text("text\n" + "".join(f"text {number}\n" for number in range(1, ROWS + 1)))
    recipe = presets.annotation("What is it? {{ text }}", models=MODELS, schema=SCHEMA)
    workload = ensure_workload(harness.runner, open_table([str(tmp_path / "table.csv")]), recipe)

    progress = harness.runner.process(workload.id)

    assert (progress.counts.failed, progress.counts.succeeded) == (1, 2 * ROWS - 1)
    given = [answer for row in read_row_answers(harness.runner, workload) for answer in row.answers]
    assert sum(answer.attempts for answer in given) > len(given) + 5
    usage = progress.usage
    told = [(answer.prompt_tokens or 0, answer.completion_tokens or 0) for answer in given]
    assert (sum(into for into, _ in told), sum(out for _, out in told)) == (
        usage.prompt_tokens,
        usage.completion_tokens,
    )
    with harness.runner.store.read() as connection:
        spending = read_spending(connection, harness.runner.find(workload.name), usage)
    assert sum(spent.prompt_tokens for spent in spending.models) == usage.prompt_tokens
    assert sum(spent.completion_tokens for spent in spending.models) == usage.completion_tokens
    assert totals(harness.runner, workload).cost_usd == pytest.approx(spending.cost_usd)
    write_output_table(harness.runner, workload, tmp_path / "out.parquet")
    written = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert sum(written["prompt_tokens"]) == usage.prompt_tokens
    assert sum(written["cost_usd"]) == pytest.approx(spending.cost_usd)
