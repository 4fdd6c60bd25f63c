"""Rows that have no request: refused together, or skipped with their reason, and the dry run says the same as the run."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from pyarrow import parquet as pq

from batchkit.annotation import presets, render
from batchkit.annotation.preview import preview
from batchkit.annotation.row_answers import read_row_answers, write_output_table
from batchkit.annotation.skipped import read_skipped
from batchkit.annotation.totals import totals
from batchkit.annotation.workload_from_table import ensure_workload
from batchkit.datasets import open_table
from batchkit.engine.runtime import Runner
from batchkit.errors import InputInvalid, SpoolError, UsageError, WorkloadConflict
from batchkit.provider.groq.dialect import GROQ
from batchkit.settings import load_settings
from batchkit.steps.split import SplitOptions
from tests.workloads import write_lines

MODELS = ["openai/gpt-oss-20b", "openai/gpt-oss-120b"]
LONGEST = 3_000
ROWS: list[dict[str, Any]] = [
    {"id": None, "text": " ", "note": None},
    {"id": "a", "text": "first", "note": "x"},
    {"id": "b", "text": "\t\n", "note": None},
    {"id": "", "text": "no key", "note": "x"},
    {"id": "c", "text": "long " * 1_000, "note": "x"},
    {"id": "a", "text": "again", "note": "x"},
    {"id": "a", "text": None, "note": None},
    {"id": "d", "text": "last", "note": None},
    {"id": "d", "text": "last again", "note": None},
]
EMPTY = {1: render.NOTHING_TO_ASK, 3: render.NOTHING_TO_ASK, 7: render.NOTHING_TO_ASK}
BAD = {
    4: render.KEY_EMPTY,
    5: render.REQUEST_REFUSED,
    6: render.KEY_REPEATED,
    9: render.KEY_REPEATED,
}


def asking(**fields):
    """Make a recipe of two models."""
    return presets.annotation("{{ text }}{{ note }}", **{"models": MODELS, "key": "id", **fields})


@pytest.fixture
def table(tmp_path):
    """Give a table of every kind of row that has no request."""
    return open_table([str(write_lines(tmp_path / "rows.jsonl", ROWS))])


@pytest.fixture
def runner(sqlite_url, tmp_path):
    """Give a runner that has nobody to send anything to."""
    settings = load_settings(
        home=tmp_path / "home", database_url=sqlite_url, api_key="gsk_test", base_url="http://127.0.0.1:9/openai/v1"
    )
    with Runner(settings) as opened:
        yield opened


def test_skipped_rows_have_their_row_with_the_reason_and_the_others_their_own_answer(open_harness, table, tmp_path):
    """Whatever the reason: empty, without a key, with one that an earlier row has, or too long."""
    harness = open_harness()
    options = SplitOptions(shard_bytes=LONGEST, shard_lines=1)
    workload = ensure_workload(harness.runner, table, asking(bad_rows="skip"), options=options)
    progress = harness.runner.process(workload.id)
    assert (workload.request_count, workload.skipped_rows) == (4, 7)
    assert (progress.counts.succeeded, progress.all_succeeded) == (4, True)
    assert "7 rows skipped" in repr(progress)

    assert write_output_table(harness.runner, workload, tmp_path / "out.parquet") == len(ROWS)
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["id"], row["text"]) for row in rows] == [(row["id"], row["text"]) for row in ROWS]
    answered = {number: row["answer"] for number, row in enumerate(rows, 1) if row["status"] == "succeeded"}
    assert answered == {2: "Echo: firstx", 8: "Echo: last"}
    skipped = {number: row for number, row in enumerate(rows, 1) if row["status"] == "skipped"}
    assert {number: row["error"] for number, row in skipped.items()} == EMPTY | BAD
    assert {(row["custom_id"], row["answer"], row["attempts"], row["cost_usd"]) for row in skipped.values()} == {
        (None, None, 0, None)
    }
    assert skipped[6]["error_message"] == "id: the key 'a' is that of row 2 already"
    assert [(row.number, row.skipped is None) for row in read_row_answers(harness.runner, workload)] == [
        (number, number in answered) for number in range(1, len(ROWS) + 1)
    ]
    assert totals(harness.runner, workload).agreement == {}
    again = ensure_workload(harness.runner, table, asking(bad_rows="skip"))
    assert (again.id, again.skipped_rows) == (workload.id, 7)


POLICIES = list(product(["error", "skip", None], ["error", "skip"]))


@pytest.mark.parametrize(("on_empty", "bad_rows"), POLICIES)
def test_each_kind_of_row_follows_its_own_policy_in_the_dry_run_as_in_the_run(runner, table, on_empty, bad_rows):
    """Empty rows follow the one for bad rows when nothing is said about them."""
    skips_empty = (on_empty or bad_rows) == "skip"
    recipe = asking(on_empty=on_empty, bad_rows=bad_rows)
    # The key of row 7 is repeated, too: a key names one row, also of those that are skipped.
    refused = {*(() if skips_empty else EMPTY), *(() if bad_rows == "skip" else {*BAD, 7})}
    options = SplitOptions(shard_bytes=LONGEST)

    def made():
        return ensure_workload(runner, table, recipe, options=options)

    def shown():
        return preview(table, recipe, dialect=GROQ, max_line_bytes=LONGEST - 1)

    if refused:
        with pytest.raises(InputInvalid) as said:
            shown()
        assert {problem.line for problem in said.value.problems} == refused
        with pytest.raises(InputInvalid, match="problem"):
            made()
        assert runner.all_workloads() == []
    else:
        found, workload = shown(), made()
        assert (found.name, found.rows) == (workload.name, len(ROWS))
        assert (found.requests, found.skipped.total()) == (workload.request_count, workload.skipped_rows) == (4, 7)
        assert sum(share.requests for share in found.models.values()) == 4
        assert {record["custom_id"].partition(":")[0] for record in found.shown} == {"a", "d"}


def test_a_request_that_is_too_long_is_named_by_its_row_however_many_were_skipped_before(runner, tmp_path):
    """The split counts requests, a person counts rows."""
    texts = ["", "x", None, "", "y", "z" * 9_000, "", "z" * 9_000]
    source = write_lines(tmp_path / "long.jsonl", [{"text": text} for text in texts])
    recipe = presets.annotation("{{ text }}", models=MODELS, on_empty="skip")
    with pytest.raises(InputInvalid) as said:
        ensure_workload(runner, open_table([str(source)]), recipe, options=SplitOptions(shard_bytes=5_000))
    assert [problem.line for problem in said.value.problems] == [6, 6, 8, 8]


@pytest.mark.parametrize("policy", [{"on_empty": "skip"}, {"bad_rows": "skip"}])
def test_a_table_of_which_nothing_is_left_is_refused_with_the_reasons(runner, tmp_path, policy):
    """In the dry run too; nothing is made."""
    (tmp_path / "blank.csv").write_text("id,text\n1,\n2, \n")
    table = open_table([str(tmp_path / "blank.csv")])
    recipe = presets.annotation("{{ text }}", models=MODELS, **policy)
    for ask in (
        lambda: ensure_workload(runner, table, recipe),
        lambda: preview(table, recipe, dialect=GROQ, max_line_bytes=LONGEST),
    ):
        with pytest.raises(
            UsageError, match=r"every row of blank would be skipped.*2 nothing_to_ask; row 1: text is empty"
        ):
            ask()
    assert runner.all_workloads() == []


def test_the_policy_is_no_part_of_the_name_and_rows_that_were_skipped_are_not_refused_silently(runner, tmp_path):
    """The same requests are not made twice; who does not skip hears that rows were skipped."""
    (tmp_path / "t.csv").write_text("id,text\n1,one\n2,\n")
    (tmp_path / "whole.csv").write_text("id,text\n1,one\n2,two\n")
    whole, table = (open_table([str(tmp_path / name)]) for name in ("whole.csv", "t.csv"))
    first = ensure_workload(runner, whole, asking_text())
    assert ensure_workload(runner, whole, asking_text(bad_rows="skip")).id == first.id
    skipping = ensure_workload(runner, table, asking_text(on_empty="skip"))
    assert ensure_workload(runner, table, asking_text(bad_rows="skip")).id == skipping.id
    with pytest.raises(WorkloadConflict, match="has skipped 1 row, as it was asked with --on-empty skip"):
        ensure_workload(runner, table, asking_text())


def asking_text(**fields):
    """Ask for the text alone."""
    return presets.annotation("{{ text }}", models=MODELS, **fields)


@pytest.mark.parametrize(
    ("recipe", "row", "code"),
    [
        (
            presets.annotation("What?", models=MODELS, images=("photo",), on_empty="skip"),
            {"photo": " "},
            "nothing_to_ask",
        ),
        (
            presets.annotation("What?", models=MODELS, images=("photo",), bad_rows="skip"),
            {"photo": "a.png"},
            "image_invalid",
        ),
        (presets.transcription("photo", on_empty="skip"), {"photo": None}, "nothing_to_ask"),
        (presets.transcription("photo", bad_rows="skip"), {"photo": "a.mp3"}, "audio_invalid"),
        (presets.moderation("photo", on_empty="skip"), {"photo": ""}, "nothing_to_ask"),
        (presets.annotation("{{ 1 // photo }}", models=MODELS, bad_rows="skip"), {"photo": 0}, "prompt_failed"),
        (presets.annotation("{{ photo }}", models=MODELS, on_empty="skip"), {"photo": float("nan")}, "nothing_to_ask"),
    ],
)
def test_the_reason_is_told_for_programs(recipe, row, code):
    """For each kind of recipe; the text for people is short, whatever the cell holds."""
    with pytest.raises(render.RowProblem) as said:
        render.Renderer(recipe, ["photo"], dialect=GROQ).requests(row, 1)
    assert said.value.code == code
    assert recipe.skips(is_empty=said.value.is_empty)


def test_a_damaged_file_of_skipped_rows_is_told(tmp_path):
    """As other damage of the disk."""
    path = tmp_path / "skipped.jsonl"
    for content in (b"[1, 2", b"7\n", b"[1]\n"):
        path.write_bytes(content)
        with pytest.raises(SpoolError, match="is damaged"):
            list(read_skipped(path))


def test_no_cell_is_told_whole():
    """A template may fail with the value in its words."""
    recipe = presets.annotation("{{ text.a.b }}{{ {}[text] }}{{ text | int(base='x') }}", models=MODELS)
    with pytest.raises(render.RowProblem) as said:
        render.Renderer(recipe, ["text"], dialect=GROQ).requests({"text": "secret " * 100_000}, 1)
    assert len(str(said.value)) < 400
