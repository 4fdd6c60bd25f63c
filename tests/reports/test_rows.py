"""Single requests: the question, the answer, and the limits of their length."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batchkit.files import jsonl
from batchkit.reports.rows import (
    Beside,
    Former,
    ShownRow,
    answer_of,
    error_text,
    prompt_of,
    text_limit,
    within,
    worst_rows,
)
from batchkit.reports.text import Cut
from batchkit.steps.split import SplitOptions
from tests.reports.conftest import running
from tests.workloads import audio_line, chat_line, vision_line, write_lines

_OPTIONS = SplitOptions()


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        (chat_line("a", "What is it?"), "What is it?"),
        (vision_line("b"), "What is this?\n[image https://example.com/b.jpg]"),
        (audio_line("c"), "https://example.com/c.mp3"),
        ({"body": {"messages": [{"role": "user", "content": "no"}, {"role": "user", "content": "yes"}]}}, "yes"),
        ({"body": {"messages": [{"role": "system", "content": "alone"}]}}, "alone"),
        (
            {
                "body": {
                    "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]
                }
            },
            "[image]",
        ),
        ({"body": {"messages": [{"role": "user", "content": [{"type": "sound"}, 5]}]}}, "[sound]"),
        ({"body": {"messages": []}}, ""),
        ({"body": {"messages": [None, {"role": "user"}]}}, ""),
        ({"body": 5}, None),
        ([], None),
        (None, None),
    ],
)
def test_the_question_is_the_last_user_message(line, asked):
    """It is text, or the address of an image or a recording; an odd line causes no error."""
    assert prompt_of(line) == asked


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"choices": [{"message": {"content": "yes"}}]}, "yes"),
        ({"text": "a transcript"}, "a transcript"),
        ({"choices": [{"message": {"content": None, "tool_calls": [{"id": 1}]}}]}, '[{"id":1}]'),
        ({"choices": [{"message": {"content": ""}}]}, ""),
        ({"choices": []}, ""),
        ({"choices": "none"}, ""),
        ([], ""),
    ],
)
def test_the_answer_is_text_or_tool_calls(body, answer):
    """It is the content, the transcript, or the calls as JSON; an odd body is an empty answer."""
    assert answer_of(jsonl.dumps(body)) == answer


def test_no_answer_is_empty():
    """A request without a body has no answer."""
    assert answer_of(None) == ""


def test_an_error_is_one_line():
    """It has status, code and the provider's message, as far as they are known."""
    assert error_text(400, "bad", "It is bad.") == "400 bad: It is bad."
    assert error_text(None, "bad", None) == "bad"
    assert error_text(None, None, "It is bad.") == "It is bad."
    assert error_text(200, None, None) == ""


def row(text):
    """Return a row with a text."""
    return ShownRow(1, Cut("id"), "failed", 1, Cut(text), Cut(text), Cut(""), (), "", None, None)


@pytest.mark.parametrize("rows", [1, 10, 500, 2_000])
def test_a_page_of_any_length_has_a_limited_size(rows):
    """The more rows there are, the shorter are their texts; rows that still do not fit are left out from the end."""
    each = text_limit(rows)
    kept = within([row("x" * each) for _ in range(rows)], 1_600_000, 700)

    assert each >= 160
    assert len(kept) * (2 * each + 700) <= 1_600_000
    assert len(kept) == min(rows, 1_600_000 // (2 * each + 702))


def test_scores_and_expected_texts_count_towards_the_size():
    """Every text of a row is counted."""
    scored = replace(row("x"), scores=(("s" * 1_000, "1"),), expected=Cut("e" * 1_000))

    assert len(within([scored] * 10, 10_000, 0)) == 4
    assert len(within([row("x")] * 10, 10_000, 0)) == 10


def test_former_answers_and_those_of_other_models_count_towards_the_size():
    """Their texts are counted, and the markup around them."""
    former = Former("run", Cut("f" * 1_000), Cut(""), "stop", 1, 1)
    beside = (Beside("m", Cut("b" * 500), (("accuracy", "1"),)),) * 2

    assert len(within([replace(row("x"), former=former)] * 20, 10_000, 0)) == 6
    assert len(within([replace(row("x"), beside=beside)] * 20, 10_000, 0)) == 7


def test_rows_are_read_back_from_the_sent_requests(tmp_path):
    """The prompt comes from the shard's file, the model from the request, the answer and the tokens from the result.

    Answers are in the database: when the files are lost, the rows are still there, and state that the prompts are missing.
    """
    with running(tmp_path) as runner:
        source = write_lines(tmp_path / "in.jsonl", [chat_line("one", "Say hello.")])
        workload = runner.split([source], name="w", options=_OPTIONS)
        (before,) = worst_rows(runner, workload, limit=5)
        runner.process(workload.id)
        (after,) = worst_rows(runner, workload, limit=5)
        for path in runner.spool.root.rglob("shards/*.jsonl"):
            path.unlink()
        (bereft,) = worst_rows(runner, workload, limit=5)

    assert (before.state, before.answer.text) == ("in_flight", "")
    assert (after.place, after.custom_id.text, after.state, after.attempts) == (1, "one", "succeeded", 1)
    assert after.prompt == Cut("Say hello.")
    assert "Say hello." in after.answer.text
    assert after.model == "openai/gpt-oss-20b"
    assert (after.prompt_tokens or 0) > 0
    assert bereft == replace(after, prompt=None, model="")


def test_remote_files_are_fetched_up_to_a_limit(tmp_path):
    """A spool at a URL returns only whole files, so only a few of them are fetched for their prompts."""
    spool = {"spool_url": f"file://{tmp_path / 'remote'}", "shard_lines": 1}
    with running(tmp_path, **spool) as runner:
        workload = runner.split(
            [write_lines(tmp_path / "in.jsonl", map(chat_line, "abcdef"))], name="w", options=_OPTIONS
        )
    with running(tmp_path, **spool) as another:
        rows = worst_rows(another, workload, limit=9)

    assert [row.prompt is not None for row in rows] == [True] * 4 + [False] * 2
