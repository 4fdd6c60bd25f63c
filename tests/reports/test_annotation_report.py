"""The page of an annotation: what was asked, what each annotator answered, and how far they agree with each other and with people."""

from __future__ import annotations

import pytest

import batchkit
from batchkit.emulator import Emulator, Scenario
from batchkit.emulator.scenarios.scenario import Reply
from batchkit.settings import load_settings
from tests.steps.conftest import QUICK, SPEED
from tests.workloads import write_lines

SMALL, LARGE = "openai/gpt-oss-20b", "openai/gpt-oss-120b"
REPLIES = (
    Reply(match="first", content="good"),
    Reply(match="second", content="good", models=(SMALL,)),
    Reply(match="second|third", content="bad"),
    Reply(match="bread", content="4", models=(SMALL,)),
    Reply(match="bread", content="5"),
)


@pytest.fixture
def annotate(tmp_path, monkeypatch):
    """Return a function that annotates rows and returns the page of the workload."""
    monkeypatch.chdir(tmp_path)
    with Emulator(tmp_path / "emulator", Scenario(replies=REPLIES), speed=SPEED) as emulator:
        settings = load_settings(
            home=tmp_path / "home", **{**QUICK, "api_key": emulator.api_key, "base_url": emulator.base_url}
        )

        def annotated(rows, **options):
            table = write_lines(tmp_path / "rows.jsonl", rows)
            name = "rows"
            batchkit.annotate(
                table, "What of {{ text }}?", models=[SMALL, LARGE], name=name, settings=settings, **options
            )
            return batchkit.report(name, tmp_path / "page.html", settings=settings).read_text()

        yield annotated


def test_the_page_shows_what_was_asked_and_answered(annotate, page_text):
    """Prompt, models, shares of labels, agreement, figures against people, and the disputed rows first."""
    rows = [{"text": "first <b>", "kind": "good"}, {"text": "second", "kind": "bad"}, {"text": "third", "kind": ""}]
    page = annotate(rows, system="Be <brief>.", choices=["good", "bad"], gold="kind", output="out.csv")
    text = page_text(page)

    assert "<brief>" not in page
    for told in ("What every row was asked", "Be <brief>.", "What of {{ text }}?", "one of good, bad"):
        assert told in text
    for told in ("Agreement of 2 annotators", "Rows to review: 1 disputed.", "answer: annotators and people"):
        assert told in text
    assert f"{LARGE} 2 0 1.000 (0.34 to 1.00) 1.000 1.000" in text
    assert "answer: vote and people, by label" in text
    assert (
        f"Answers: answer The share of each answer, by annotator Annotator Answer Bar Share {SMALL} good 66.7 %" in text
    )
    assert page.index('class="id">2:') < page.index('class="id">1:')
    assert '<option value="disputed">annotators disagree (2)</option>' in page


def test_numbers_have_errors(annotate, page_text):
    """Ratings are compared with those of people by their differences."""
    page = annotate([{"text": "bread", "stars": 4}], number=(1, 5), gold="stars", output="out.csv")
    text = page_text(page)

    assert "a number from 1 to 5" in text
    assert f"{LARGE} 1 0 1.000 1.000" in text
    assert "answer interval 1" in text


def test_an_unfinished_annotation_shows_what_was_asked(annotate, page_text):
    """Its answers are not read."""
    page = annotate([{"text": "first"}], choices=["good", "bad"], timeout_seconds=0, output="out.csv")

    assert "What every row was asked" in page_text(page)
    assert "Agreement of" not in page_text(page)
