"""Labels of choices and letters: what was expected and what was answered, as a scorer reads them."""

from __future__ import annotations

import pytest

from batchkit.emulator.faults.lines import FailLines
from batchkit.emulator.scenarios.scenario import Reply
from batchkit.evaluation.scorers import NO_ANSWER, NO_EXPECTED
from tests.evaluation.scored import scorer_of
from tests.evaluation.support import SMALL, make_answer, night, reviews_suite
from tests.steps.conftest import open_harness

__all__ = ["open_harness"]

QUIZ = """
name: quiz
dataset: {path: reviews.csv, key: id}
prompt: "Which letter? {{ text }}"
models: [openai/gpt-oss-20b]
expected: language
scorers:
  - {kind: answer_letter, letters: A-D}
"""


@pytest.mark.parametrize(
    ("config", "truth", "said", "labels"),
    [
        ({"kind": "choice"}, "Yes", "yes.", ("yes", "yes")),
        ({"kind": "choice"}, " Yes", " NO ", ("yes", "no")),
        ({"kind": "choice", "choices": ["Yes", "No"]}, "yes", "no.", ("Yes", "No")),
        ({"kind": "choice", "choices": ["Yes", "No"]}, "yes", "I cannot say", ("Yes", None)),
        ({"kind": "answer_letter"}, "b", "Answer: (C)", ("B", "C")),
        ({"kind": "answer_letter", "count_from": 0}, "2", "C", ("C", "C")),
        ({"kind": "answer_letter"}, "b", "A or B", ("B", None)),
    ],
)
def test_a_label_is_read_as_the_scorer_reads_it(config, truth, said, labels):
    """An answer that names none of the choices, or no letter, has no label."""
    scorer = scorer_of(config)
    row, answer = {"truth": truth}, make_answer(said)
    score = scorer.prepared()(row, answer, "truth")
    assert scorer.labels(row, answer, "truth", score) == labels
    failed = make_answer(None, status="failed", error_code="expired")
    missing = scorer.prepared()(row, failed, "truth")
    assert missing.reason == NO_ANSWER
    assert scorer.labels(row, failed, "truth", missing) == (labels[0], None)
    assert scorer.prepared()({"truth": " "}, failed, "truth").reason == NO_EXPECTED


def test_letters_have_a_confusion_matrix(open_harness_on_sqlite, tmp_path):
    """With the failed answers in their own column."""
    broken = FailLines(custom_ids=frozenset({"r0:gpt-oss-20b:1"}), status=400)
    harness = open_harness_on_sqlite(
        broken, replies=(Reply(match="number 1", content="B"), Reply(match="number", content="The answer is A."))
    )
    file = reviews_suite(tmp_path, 6, QUIZ)
    table = tmp_path / "reviews.csv"
    table.write_text(table.read_text().replace(",de,", ",a,").replace(",en,", ",B,"))
    found = night(harness.runner, file)
    (figures,) = found.labels
    assert (figures.scorer, figures.model) == ("answer_letter", SMALL)
    assert (figures.confusion.classes, figures.confusion.counts) == (("A", "B"), ((3, 1, 0), (1, 0, 1)))
