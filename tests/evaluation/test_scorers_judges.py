"""Judges by template, several judges of one answer, and answers that are judged in pairs."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from batchkit.annotation.template import Template
from batchkit.evaluation.pairwise import PAIRWISE_ANSWERS, pair_score, pairwise_prompt, position_bias
from batchkit.evaluation.scorers import SCORER_ERROR, Score, Scorer
from batchkit.evaluation.scorers.judge import combined
from tests.evaluation.scored import scorer_of
from tests.evaluation.support import make_answer

RUBRIC = {"kind": "judge", "model": "m", "template": "rubric", "criteria": "It names {{ the }} city, and nothing else."}
FACTS = {"kind": "judge", "model": "m", "template": "factuality", "expected": 'the "right" answer', "question": "asked"}


def shown(judge, row):
    """Render the judge's prompt for a row."""
    columns = ["model_answer", *row]
    rendered = Template(judge.prompt.user, columns, title="prompt").render({**row, "model_answer": "It is {Rome}."})
    assert judge.prompt.system.startswith("You grade")
    return rendered


def test_a_rubric_grades_from_one_to_five():
    """By the suite's own criteria, which are no template."""
    judge = scorer_of(RUBRIC)
    text = shown(judge, {})
    assert "<criteria>\nIt names {{ the }} city, and nothing else.\n</criteria>" in text
    assert "<answer>\nIt is {Rome}.\n</answer>" in text
    assert "<question>" not in text
    assert judge.answers.rules().format == "json"
    assert [judge.score_of(make_answer({"reasoning": "", "score": score})).value for score in (1, 3, 5)] == [0, 0.5, 1]
    assert judge.score_of(make_answer({"reasoning": ""})).reason == SCORER_ERROR
    assert "<reference>\nParis\n</reference>" in shown(scorer_of({**RUBRIC, "expected": "t"}), {"t": "Paris"})


def test_facts_are_compared_with_the_expected_text():
    """Grades between right and wrong; a row without an expected text is not judged."""
    judge = scorer_of(FACTS)
    row = {'the "right" answer': "Paris", "asked": "Where?"}
    text = shown(judge, row)
    assert "<expected>\nParis\n</expected>" in text
    assert "<question>\nWhere?\n</question>" in text
    found = [judge.score_of(make_answer({"verdict": word})).value for word in ("same", "more", "less", "contradicts")]
    assert found == [1, 0.6, 0.4, 0]
    assert judge.is_judgeable(row)
    assert not judge.is_judgeable({**row, 'the "right" answer': " "})
    assert scorer_of(RUBRIC).is_judgeable({})
    assert [column for _, column in judge.columns()] == ['the "right" answer', "asked"]
    lenient = scorer_of({**FACTS, "scores": {"same": 1, "more": 1, "less": 0, "contradicts": 0}})
    assert lenient.score_of(make_answer({"verdict": "more"})).value == 1


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({**RUBRIC, "criteria": " "}, "needs `criteria`"),
        ({**FACTS, "expected": None}, "name it in `expected`"),
        ({**FACTS, "scores": {"same": 1}}, "give each verdict a score"),
        ({**RUBRIC, "template": "pairwise"}, "there is no template 'pairwise'; there are: rubric, factuality"),
        ({**RUBRIC, "template": 3}, "Input should be 'rubric' or 'factuality'"),
        ({**RUBRIC, "question": 3}, "Input should be a valid string"),
        ({"kind": "judge", "model": "m"}, "Field required"),
        ({"kind": "judge", "model": "m", "prompt": "x", "answers": {"minimum": 1}, "criteria": "x"}, "belong to a `template`"),
    ],
)  # fmt: skip
def test_a_template_without_its_parts_is_refused(config, said):
    """Before anything is asked."""
    with pytest.raises(ValidationError, match=said.replace("`", "`")):
        scorer_of(config)


def test_a_template_is_stored_with_what_it_filled_in():
    """The prompt belongs to the suite's version, and another one of the suite's replaces it."""
    for config in (RUBRIC, FACTS):
        judge = scorer_of(config)
        stored = judge.model_dump(mode="json", by_alias=True)
        assert "<answer>" in stored["prompt"]["user"]
        assert TypeAdapter(Scorer).validate_python(stored) == judge
    own = scorer_of({**RUBRIC, "prompt": "Grade {{ model_answer }}"})
    assert (own.prompt.user, own.verdict) == ("Grade {{ model_answer }}", "score")


def test_later_fields_are_stored_only_where_they_are_used():
    """A suite that does not use them keeps its version."""
    plain = {"kind": "judge", "model": "m", "prompt": "x", "answers": {"minimum": 1, "maximum": 5}}
    stored = [scorer_of(config).model_dump(mode="json") for config in ("exact", "number", "choice", plain)]
    stored.append(scorer_of({"kind": "python", "function": "a:b"}).model_dump(mode="json"))
    later = {
        "reduce",
        "decimal",
        "thousands",
        "currency",
        "percent",
        "choices",
        "template",
        "criteria",
        "question",
        "seconds",
    }
    assert [later & set(fields) for fields in stored] == [set()] * 5
    assert scorer_of({"kind": "number", "decimal": ",", "reduce": "any"}).model_dump(mode="json").keys() >= {
        "decimal",
        "reduce",
    }


def test_scores_of_several_judges_become_one():
    """Their mean or their majority; a judge that did not judge has no vote."""
    silent = Score(None, SCORER_ERROR, "the judge: expired")
    good, bad, half = Score(1.0, None, "good"), Score(0.0, None, "bad"), Score(0.6)
    assert combined([good, bad, half]).value == pytest.approx(1.6 / 3)
    assert combined([good, bad, silent]) == (0.5, None, "good, bad, the judge: expired")
    assert [
        combined(scores, "majority").value
        for scores in ([good, half, bad], [bad, bad, good], [good, bad], [good, silent])
    ] == [1, 0, 0.5, 1]
    assert combined([silent, silent]) == silent
    assert combined([]).reason == SCORER_ERROR


def test_a_pair_is_judged_in_both_orders():
    """Contradicting orders are a tie; one order alone decides, without saying anything about the order."""
    assert pair_score("first", "second") == pair_score("first", "second")
    assert [(found.score, found.is_consistent) for found in (
        pair_score("first", "second"), pair_score("second", "first"), pair_score("first", "first"), pair_score("second", "second"),
        pair_score("tie", "tie"), pair_score("tie", "second"), pair_score("first", None), pair_score(None, "first"), pair_score(None, None),
    )] == [(1, True), (0, True), (0.5, False), (0.5, False), (0.5, True), (0.75, False), (1, None), (0, None), (None, None)]  # fmt: skip


def test_the_bias_of_a_judge_for_a_place_is_measured():
    """From no bias to a judge that always takes the first answer."""
    fair = position_bias([("first", "second"), ("second", "first"), ("tie", "tie"), (None, "first")])
    assert (fair.pairs, fair.changed, fair.lean) == (3, 0, 0)
    blind = position_bias([("first", "first")] * 4)
    assert (blind.pairs, blind.changed, blind.lean) == (4, 1, 1)
    assert position_bias([("second", "second"), ("first", "second")]).lean == -0.5
    assert position_bias([("first", "tie")]).lean == 1
    assert (position_bias([]).changed, position_bias([("tie", "tie")]).lean) == (None, None)


def test_the_prompt_of_a_pair_shows_both_answers():
    """In the order of its columns, and the answer is one word."""
    prompt = pairwise_prompt(criteria="Short.", question="asked")
    text = Template(prompt.user, ["asked", "first_answer", "second_answer"], title="prompt").render(
        {"asked": "Where?", "first_answer": "Rome", "second_answer": "Paris"}
    )
    assert text.index("Where?") < text.index("Rome") < text.index("Paris") < text.index("Short.")
    assert PAIRWISE_ANSWERS.rules().choices == ("first", "second", "tie")
