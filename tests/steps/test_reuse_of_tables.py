"""Reuse by what makes requests: tables, whose samples stay several draws, and evaluations, which never compare a run with itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from batchkit.annotation.presets import annotation
from batchkit.annotation.workload_from_table import ensure_workload
from batchkit.datasets import open_table
from batchkit.errors import WorkloadConflict
from batchkit.evaluation import runs
from batchkit.models import ReuseMode
from batchkit.steps.split import SplitOptions
from tests.evaluation.support import reviews_suite, write_reviews
from tests.steps.asking import Asking, answered
from tests.workloads import chat_line, write_lines

if TYPE_CHECKING:
    from pathlib import Path

    from batchkit.models import Workload

TEXTS = ["a", "b", "a", "c", "a"]
MODE_OF = {ReuseMode.OFF: "--no-reuse", ReuseMode.ON: "--reuse", ReuseMode.URLS: "--reuse-urls"}


@pytest.fixture
def asking(timed, tmp_path) -> Asking:
    """Return workloads on a test clock, whose every draw is different; runs once per kind of database."""
    made = Asking(timed, tmp_path)
    timed.provider.answer = lambda line: answered(
        chat_line(line["custom_id"], f"{line['custom_id']} {len(made.sent())}")
    )
    return made


def annotate(asking: Asking, name: str, texts: list[str], samples: int) -> Workload:
    """Ask a question about each row some times, and drive that to its end."""
    path = write_lines(asking.folder / f"{name}.jsonl", [{"text": text} for text in texts])
    recipe = annotation("What of {{ text }}?", models=["openai/gpt-oss-20b"], samples=samples)
    options = SplitOptions(default_reuse=ReuseMode.ON, shard_lines=4)
    workload = ensure_workload(asking.runner, open_table([str(path)]), recipe, name=name, options=options)
    assert asking.finish(name).all_succeeded
    return workload


def draws(asking: Asking, name: str, samples: int) -> list[list[Any]]:
    """Return the answers of each row."""
    texts = asking.texts(name)
    return [texts[start : start + samples] for start in range(0, len(texts), samples)]


def test_samples_of_a_row_are_drawn_apart_and_equal_rows_share_them(asking):
    """Three draws for each different row, whatever number of rows is like it."""
    workload = annotate(asking, "first", TEXTS, 3)

    assert sum(asking.sent().values()) == 3 * 3
    assert asking.runner.find("first").repeated_requests == 6
    of_row = draws(asking, "first", 3)
    assert of_row[0] == of_row[2] == of_row[4]
    assert len({text for row in of_row for text in row}) == 9
    assert workload.reuse == "on"


def test_a_row_that_is_asked_again_gets_the_same_draws(asking):
    """In another table, with more rows and more samples, only the new draws are bought."""
    annotate(asking, "first", TEXTS, 2)
    before = draws(asking, "first", 2)

    annotate(asking, "second", ["d", "c", "a"], 3)

    of_row = draws(asking, "second", 3)
    assert (of_row[1][:2], of_row[2][:2]) == (before[3], before[0])
    assert len({text for row in of_row for text in row}) == 9
    assert sum(asking.sent().values()) == 3 * 2 + 3 + 1 + 1


def test_an_evaluation_reuses_within_its_run_only(asking, tmp_path: Path):
    """A run buys equal rows once; the next run of the same suite buys all of them again."""
    output = answered(chat_line("any"))
    output["response"]["body"]["choices"][0]["message"]["content"] = '{"label": "positive"}'
    asking.timed.provider.answer = lambda line: {**output, "custom_id": line["custom_id"]}
    file = reviews_suite(tmp_path, 6)
    table = write_reviews(tmp_path, 6)
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, *(f"again-{line}" for line in lines[1:])]) + "\n")
    for number in (1, 2):
        evaluation = runs.begin(asking.runner, file)
        options = SplitOptions(reuse=ReuseMode.ON)
        while (workload := runs.next_workload(asking.runner, evaluation, options=options)) is not None:
            assert (workload.reused_requests, workload.repeated_requests) == (0, 12)
            asking.finish(workload.name)
        runs.conclude(asking.runner, evaluation)
        assert sum(asking.sent().values()) == 12 * number


@pytest.mark.parametrize("made_with", list(ReuseMode))
def test_the_option_of_a_workload_cannot_be_changed(asking, made_with):
    """The same input with another form of reuse is refused, and the options are named; without the option it resumes."""
    workload = asking.split("work", ["a", "b"], reuse=made_with)
    for other in set(ReuseMode) - {made_with}:
        with pytest.raises(WorkloadConflict) as refused:
            asking.split("work", ["a", "b"], reuse=other)
        assert f"prepared with {MODE_OF[made_with]}, " in str(refused.value)
        assert f"leave out {MODE_OF[other]}, " in str(refused.value.hint)
    for option in (made_with, None):
        again = asking.split("work", ["a", "b"], reuse=option, default_reuse=ReuseMode.URLS)
        assert (again.id, again.reuse) == (workload.id, None if made_with is ReuseMode.OFF else made_with.value)


def test_a_split_that_was_cut_short_may_begin_again_with_another_option(asking, monkeypatch):
    """Nothing of it was sent: the option of the command that finishes it counts."""
    with monkeypatch.context() as patched:
        patched.setattr("batchkit.steps.split.workloads.finish_split", lambda *_, **__: 1 / 0)
        patched.setattr("batchkit.steps.unfinished.abandon", lambda *_: None)
        with pytest.raises(ZeroDivisionError):
            asking.split("work", ["a", "a"], reuse=ReuseMode.ON)

    workload = asking.split("work", ["a", "a"], reuse=ReuseMode.OFF)

    assert (workload.reuse, workload.repeated_requests) == (None, 0)
    asking.finish("work")
    assert sum(asking.sent().values()) == 2
