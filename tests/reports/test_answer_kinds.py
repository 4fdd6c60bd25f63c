"""The kinds of answers: what fell rows were answered before and now, what was mistaken for what, and what the limit of tokens cut."""

from __future__ import annotations

from collections import Counter

import pytest

from batchkit.emulator.faults.answers import CutAnswers
from batchkit.evaluation.results import scored_rows, summary
from batchkit.evaluation.scorers.letters import AnswerLetter
from batchkit.evaluation.scorers.texts import ChoiceScorer
from batchkit.reports.answer_kinds import (
    Kind,
    are_labels,
    commonest_flip,
    cut_sentences,
    kind_tables,
    label_reader,
    read_kinds,
)
from batchkit.reports.evaluation_rows import WorstRows
from batchkit.reports.evaluation_sides import load_sides, with_context
from batchkit.reports.writing import write_report
from tests.evaluation.support import LARGE, REVIEWS, SMALL, make_answer, night, reviews_suite, wrong
from tests.reports.conftest import running


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Return a runner with two runs: in the second the small model is often wrong, and answers of the large one are cut."""
    folder = tmp_path_factory.mktemp("kinds")
    suite = reviews_suite(folder, 40, REVIEWS.replace("fall: 0.05", "fall: 0.05, level: 0.05"))
    cut = CutAnswers(fraction=0.2, models=frozenset({LARGE}))
    for faults in ((), (wrong(0.6), cut)):
        with running(folder, *faults) as runner:
            night(runner, suite)
    with running(folder) as runner:
        yield runner


def test_flips_are_counted_by_what_was_answered_before_and_now(compared):
    """The counts of a model are those of its rows that fell; answers without a label are a kind of their own."""
    found = summary(compared, "reviews-2")
    sides = load_sides(compared, found)
    kinds = read_kinds(compared, sides, compared.find("reviews-2"))
    fell = Counter(row.model for row in scored_rows(compared, "reviews-2") if row.flipped == "down")
    (table,) = kind_tables(sides, kinds)

    assert {model: sum(count for kind, count in kinds.flips["accuracy"].items() if kind.arm == arm)
            for arm, model in enumerate((SMALL, LARGE))} == fell  # fmt: skip
    assert {(kind.first, kind.second) for kind in kinds.flips["accuracy"] if kind.arm == 0} == {
        ("negative", "positive"),
        ("positive", "negative"),
    }
    assert any(line.cells == (LARGE, "positive → (no answer)") for line in table.lines)
    assert sum(int(line.value) for line in table.lines) == fell.total()
    assert commonest_flip(kinds) == f"{table.lines[0].cells[1]}, {table.lines[0].value} times"
    (sentence,) = cut_sentences(sides, kinds)
    assert sentence == (
        f"answers that the limit of tokens has cut (finish_reason length), {LARGE}: {kinds.cut[1]} of 40; before 0 of 40"
    )


def test_a_run_alone_shows_what_was_mistaken_for_what(compared):
    """Without a run before, the answers of all wrong rows are counted by the expected label."""
    found = summary(compared, "reviews-2")
    sides = load_sides(compared, found)
    alone = type(sides)(sides.evaluation, sides.suite, sides.scores, None)
    kinds = read_kinds(compared, alone, compared.find("reviews-2"))
    (table,) = kind_tables(alone, kinds)

    assert kinds.flips == {}
    assert table.columns[1] == "Expected → answered"
    assert set(kinds.mistakes["accuracy"]) == {Kind(0, "negative", "positive"), Kind(0, "positive", "negative")}


def test_a_fallen_row_has_its_former_answer_and_the_other_models(compared):
    """The former answer is that of the same row and model, with its end and tokens; the other model's answer has its score."""
    workload = compared.find("reviews-2")
    sides = load_sides(compared, summary(compared, "reviews-2"))
    worst = WorstRows(80)
    read_kinds(compared, sides, workload, worst.add)
    shown = with_context(compared, sides, workload, worst.read(compared, workload))
    before = {row.seq: row for row in scored_rows(compared, "reviews-1")}
    fell = [row for row in shown if row.flipped == "down"]

    assert fell
    for row in fell:
        assert row.former is not None
        assert row.former.answer.text == f'{{"label":"{before[row.place - 1].expected}"}}'
        assert (row.former.run, row.former.finish_reason) == ("reviews-1", "stop")
        assert (row.former.prompt_tokens or 0) > 0
    assert all(row.former is None for row in shown if row.flipped is None)
    for row in shown:
        (beside,) = row.beside
        assert beside.name == (LARGE if row.model == SMALL else SMALL)
        assert beside.scores[0][0] == "accuracy"


def test_cleaned_answers_of_the_run_before_are_named(tmp_path, page_text):
    """The page is written without them, and says so."""
    suite = reviews_suite(tmp_path, 12)
    for faults in ((), (wrong(0.9),)):
        with running(tmp_path, *faults) as runner:
            night(runner, suite)
    with running(tmp_path) as runner:
        runner.clean("reviews-1", keep_results=False)
        text = page_text(write_report(runner, "reviews-2", tmp_path / "page.html", rows=50).read_text())

    assert "The answers of reviews-1 were cleaned, so only those of this run are shown." in text
    assert "what was mistaken for what" in text
    assert "What fell is not shown: the answers of reviews-1 were cleaned." in text


@pytest.mark.parametrize(
    ("scorer", "answer", "label"),
    [
        (ChoiceScorer(field="label"), make_answer({"label": " yes "}), "yes"),
        (ChoiceScorer(field="label"), make_answer({"other": "yes"}), "(no answer)"),
        (ChoiceScorer(), make_answer("yes", status="failed"), "(no answer)"),
        (ChoiceScorer(), make_answer(""), "(empty)"),
        (ChoiceScorer(), make_answer("w" * 70), "w" * 60 + "…"),
        (AnswerLetter(), make_answer("I think the answer is (b)."), "B"),
        (AnswerLetter(), make_answer("no idea"), "(no letter)"),
    ],
)
def test_a_label_is_read_as_its_scorer_reads_it(scorer, answer, label):
    """A field, a letter or the whole text; long labels are cut."""
    assert label_reader(scorer)(answer) == label


def test_free_texts_are_no_labels():
    """If every answer is of its own kind, a list of them tells nothing."""
    assert are_labels(Counter({Kind(0, "a", "b"): 3}))
    assert are_labels(Counter({Kind(0, "a", str(number)): 1 for number in range(10)}))
    assert not are_labels(Counter({Kind(0, "a", str(number)): 1 for number in range(11)}))
    assert not are_labels(Counter({Kind(0, "a", str(number)): 2 for number in range(2_001)}))
