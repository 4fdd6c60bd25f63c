from __future__ import annotations

import pytest

from batchkit.engine.waves import WaveKind
from batchkit.models import BatchProblem, FailureReason, ShardState
from batchkit.reports import workload_markdown
from batchkit.steps.context import StepReport
from batchkit.store.waits import OpenShards
from tests.flows.support import NOW, make_batch, make_progress, make_wave, make_workload


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Nightly Évals_2", "nightly-vals-2"),
        ("a/b", "a-b"),
        ("日本", "workload"),
        ("-" * 9, "workload"),
        ("x" * 99, "x" * 60),
    ],
)
def test_a_key_has_only_what_prefect_allows(name, key):
    """An artifact key consists of lower case letters, digits and dashes, whatever the workload's name."""
    assert workload_markdown.key_part(name) == key


@pytest.mark.parametrize(
    ("kind", "shards", "name"),
    [
        (WaveKind.MERGE, 50, "merge 50 shards"),
        (WaveKind.SUBMIT, 1, "submit 1 shard"),
        (WaveKind.RESUBMIT, 0, "resubmit"),
    ],
)
def test_a_wave_is_named_after_its_work(kind, shards, name):
    """A task run is named after its action and the number of shards."""
    assert workload_markdown.wave_name(kind, shards) == name


def test_a_wave_is_reported_by_its_counts():
    """The log has the counts of a wave, without zeros."""
    report = StepReport({"merged": 2, "failed": 0, "succeeded": 1_200})

    assert workload_markdown.wave_line(make_wave(), report) == "merge 2 shards: 2 merged, 1,200 succeeded"


@pytest.mark.parametrize(
    ("succeeded", "remote_done", "percent"), [(0, 0, 0), (5, 3, 80), (9, 1, 99.9), (9, 7, 99.9), (10, 0, 100)]
)
def test_progress_counts_answers_at_the_provider(succeeded, remote_done, percent):
    """Answers that are still at the provider count as done, but 100 % means that everything has arrived."""
    assert workload_markdown.percent(make_progress(succeeded=succeeded, remote_done=remote_done)) == percent


def test_progress_of_a_workload_is_one_line():
    """The line has the counts that are not zero, and the open batches by status."""
    running = OpenShards(3, 5, 0, 0, 0, None, NOW - 3_600, NOW + 86_400, 0)
    progress = make_progress(
        succeeded=4,
        failed=1,
        expired_attempts=2,
        batches={"in_progress": 3},
        open_work={ShardState.SUBMITTED: running},
        read_at=NOW,
    )

    assert workload_markdown.progress_line(progress) == (
        "5 of 10 answered (50.0 %), 5 downloaded; 1 failed; 5 in flight; 2 attempts expired without an answer; the requests were sent again;"
        " waiting for 3 batches at the provider (3 in_progress), since 14:06 UTC, at the latest until Mon 15:06 UTC"
    )


def test_provider_texts_do_not_break_the_summary():
    """Texts of the provider stay within their cell of the failures table: short, one line, without Markdown."""
    sample = "bad | cell\n# heading <script> `code` " + "x" * 500
    failures = (FailureReason("a|b", None, 3, sample),)
    text = workload_markdown.summary(make_progress(succeeded=7, failed=3, failures=failures))

    (row,) = [line for line in text.splitlines() if line.startswith("| 3 |") and "bad" in line]
    assert row.startswith(r"| 3 |  | a\|b | bad \| cell \# heading \<script\> \`code\` x")
    assert len(row) < 300


def test_the_summary_says_how_to_get_the_results():
    """The summary ends with commands that can be pasted into a shell, whatever the name is."""
    text = workload_markdown.summary(make_progress(make_workload(name="my run"), succeeded=8, failed=2))

    assert "batchkit export 'my run' 'my run.results.jsonl'" in text
    assert "batchkit resubmit 'my run' --failed" in text
    assert "| total | 100 |" in text


def test_a_batch_with_problems_is_a_row():
    """A row has the batch's counts, and the provider's first problem with its line."""
    problem = BatchProblem("no such model", line=7)

    (row,) = workload_markdown.attention_rows(make_progress(attention=(make_batch(problems=(problem,)),)))

    assert row == {
        "batch": "batch_1",
        "status": "expired",
        "requests": 10,
        "completed": 4,
        "failed": 1,
        "the provider says": "line 7: no such model",
        "expires": "2025-06-15 15:06 UTC",
    }


@pytest.mark.parametrize("moment", [10**18, -(10**18)])
def test_an_impossible_time_is_shown_unchanged(moment):
    """An impossible time from the provider does not break the table."""
    (row,) = workload_markdown.attention_rows(make_progress(attention=(make_batch(expires_at=moment),)))

    assert row["expires"] == str(moment)
