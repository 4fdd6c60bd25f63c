"""``annotate``, ``transcribe`` and ``moderate`` as functions."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import BaseModel

import batchkit
from batchkit.emulator import Emulator, Scenario
from batchkit.emulator.faults import answers
from batchkit.errors import InputInvalid, UsageError
from tests.annotation.test_images import image_bytes
from tests.steps.conftest import QUICK, SPEED
from tests.workloads import read_lines


class Label(BaseModel):
    """What a review is."""

    kind: Literal["praise", "blame"]
    stars: int


@pytest.fixture
def settings(sqlite_url, tmp_path):
    """Give settings for an emulator whose second annotator is of another opinion on the second row."""
    fault = answers.WrongAnswers(
        custom_ids=frozenset({"2:gpt-oss-120b:1"}),
        contents=('{"kind":"praise","stars":1}', '{"kind":"blame","stars":1}'),
    )
    with Emulator(tmp_path / "emulator", Scenario(faults=(fault,)), speed=SPEED) as emulator:
        yield batchkit.load_settings(
            api_key=emulator.api_key,
            base_url=emulator.base_url,
            database_url=sqlite_url,
            home=tmp_path / "home",
            **QUICK,
        )


def test_a_model_of_pydantic_makes_and_checks_the_answers(settings, tmp_path):
    """Several annotators, a file with all rows, and one with the disputed ones."""
    source = tmp_path / "reviews.csv"
    source.write_text("text\nnice\nnot so nice\n")
    progress = batchkit.annotate(
        source,
        "What is it? {{ text }}",
        models=["openai/gpt-oss-20b", "openai/gpt-oss-120b"],
        schema=Label,
        output=tmp_path / "out.jsonl",
        settings=settings,
    )
    assert progress.all_succeeded
    assert progress.counts.total == 4
    rows = read_lines(tmp_path / "out.jsonl")
    assert [row["text"] for row in rows] == ["nice", "not so nice"]
    assert {row["kind"] for row in rows} <= {"praise", "blame", None}
    assert all(len(row["answers"]) == 2 for row in rows)


def test_images_may_lie_anywhere_by_permission(settings, tmp_path):
    """The keyword is that of the option; without it such a row is refused."""
    (tmp_path / "table").mkdir()
    (tmp_path / "scan.png").write_bytes(image_bytes())
    source = tmp_path / "table" / "scans.csv"
    source.write_text("scan\n../scan.png\n")
    asked = {"models": "meta-llama/llama-4-scout-17b-16e-instruct", "images": ("scan",), "settings": settings}
    with pytest.raises(InputInvalid) as refused:
        batchkit.annotate(source, "What is it?", **asked)
    assert "row 1: scan: ../scan.png leads out of the table's folder" in str(refused.value.problems[0])
    assert batchkit.annotate(source, "What is it?", allow_paths=True, **asked).all_succeeded


def test_transcripts_and_verdicts_are_a_call_away(settings, tmp_path):
    """With the same options as the commands."""
    calls, prompts = tmp_path / "calls.csv", tmp_path / "prompts.jsonl"
    calls.write_text("link\nhttps://example.com/a.mp3\n")
    prompts.write_text('{"text":"bread"}\n{"text":"a bomb"}\n')
    batchkit.transcribe(calls, "link", language="en", output=tmp_path / "heard.jsonl", settings=settings)
    assert read_lines(tmp_path / "heard.jsonl")[0]["text"] == "Transcript of https://example.com/a.mp3"
    batchkit.moderate(prompts, "text", only="unsafe", output=tmp_path / "unsafe.jsonl", settings=settings)
    assert [row["categories"] for row in read_lines(tmp_path / "unsafe.jsonl")] == [["S9"]]


def test_mistakes_are_errors_of_batchkit(settings, tmp_path):
    """Before anything is sent."""
    source = tmp_path / "reviews.csv"
    source.write_text('text\nnice\n""\n')
    with pytest.raises(InputInvalid):
        batchkit.annotate(source, "{{ text }}", models="openai/gpt-oss-20b", settings=settings)
    with pytest.raises(UsageError, match="nothing to review"):
        batchkit.annotate(source, "{{ text }}", models="openai/gpt-oss-20b", review="x.csv", settings=settings)
    assert batchkit.status(settings=settings) == []
