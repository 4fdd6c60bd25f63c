"""Judges by template, several judges of one answer, and answers that are judged in pairs."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from batchkit.annotation.template import Template
from batchkit.evaluation.pairwise import JudgedPair, position_bias
from batchkit.evaluation.scorers import SCORER_ERROR, Score, Scorer
from batchkit.evaluation.scorers.judge import combined
from tests.evaluation.scored import scorer_of
from tests.evaluation.support import make_answer

RUBRIC = {"kind": "judge", "model": "m", "template": "rubric", "criteria": "It names {{ the }} city, and nothing else."}
FACTS = {"kind": "judge", "model": "m", "template": "factuality", "expected": 'the "right" answer', "question": "asked"}
PAIRS = {"kind": "judge", "model": "m", "template": "pairwise", "against": {"column": "reference"}}


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
        ({**RUBRIC, "template": "debate"}, "there is no template 'debate'; there are: rubric, factuality, pairwise"),
        ({**RUBRIC, "template": 3}, "Input should be 'rubric', 'factuality' or 'pairwise'"),
        ({**RUBRIC, "template": "pairwise"}, "`against`, which names what to compare with, belong together"),
        ({**RUBRIC, "against": {"model": "b"}}, "`against`, which names what to compare with, belong together"),
        ({**PAIRS, "against": {"model": "b", "column": "c"}}, "name one of `model`, `prompt` or `column`"),
        ({**PAIRS, "against": {}}, "name one of `model`, `prompt` or `column`"),
        ({**PAIRS, "human": {"answer": "a", "label": "b"}}, "a pair is won, tied or lost"),
        ({**PAIRS, "scores": {"first": 2, "tie": 1, "second": 0}}, "a pair is won, tied or lost"),
        ({**RUBRIC, "model": None}, "name the judging `model`, or several `judges`"),
        ({**RUBRIC, "judges": ["a", "b"]}, "name the judging `model`, or several `judges`"),
        ({**RUBRIC, "model": None, "judges": ["a", "a"]}, "two or more different models"),
        ({**RUBRIC, "model": None, "judges": ["a"]}, "two or more different models"),
        ({**RUBRIC, "combine": "majority"}, "`combine` belongs to several `judges`"),
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
    for config, part in ((RUBRIC, "<answer>"), (FACTS, "<answer>"), (PAIRS, "<second>")):
        judge = scorer_of(config)
        stored = judge.model_dump(mode="json", by_alias=True)
        assert part in stored["prompt"]["user"]
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
        "k",
        "against",
        "judges",
        "combine",
    }
    assert [later & set(fields) for fields in stored] == [set()] * 5
    assert scorer_of({"kind": "number", "decimal": ",", "reduce": "any"}).model_dump(mode="json").keys() >= {
        "decimal",
        "reduce",
    }


def test_scores_of_several_judges_become_one():
    """Their mean or their majority, of which a score in the middle is no part; a judge that did not judge has no say."""
    silent = Score(None, SCORER_ERROR, "the judge: expired")
    good, bad, half, fair = Score(1.0, None, "good"), Score(0.0, None, "bad"), Score(0.5), Score(0.6)

    def of(*scores, how="mean"):
        return combined({f"j{number}": score for number, score in enumerate(scores)}, how)

    assert of(good, bad, fair).value == pytest.approx(1.6 / 3)
    assert of(good, bad, silent) == (0.5, None, "j0 1, j1 0, j2 no score (expired)")
    majorities = [
        (good, fair, bad),
        (bad, bad, good),
        (good, bad),
        (good, silent),
        (good, half, half),
        (bad, bad, half),
    ]
    assert [of(*scores, how="majority").value for scores in majorities] == [1, 0, 0.5, 1, 0.5, 0]
    assert of(silent, silent) == (None, SCORER_ERROR, "j0 no score (expired), j1 no score (expired)")


@pytest.mark.parametrize(
    ("first", "second", "score", "is_of_order"),
    [
        ("first", "second", 1, False),
        ("second", "first", 0, False),
        ("first", "first", 0.5, True),
        ("second", "second", 0.5, True),
        ("tie", "tie", 0.5, False),
        ("tie", "second", 0.5, True),
    ],
)
def test_a_pair_is_won_only_in_both_orders(first, second, score, is_of_order):
    """A tie, or orders that contradict each other, are half a point."""
    pair = JudgedPair(first, second)
    assert (pair.score, pair.is_of_order) == (score, is_of_order)
    other = JudgedPair(second, first)
    assert (1 - other.score, other.is_of_order) == (score, is_of_order)


def test_one_order_alone_decides_nothing():
    """The judge failed in the other one, so that its bias for a place is not known."""
    judge = scorer_of(PAIRS)
    won = [make_answer({"reasoning": "shorter", "verdict": word}) for word in ("first", "second")]
    assert judge.score_of_pair(*won) == (1, None, "won; shown first better: shorter; shown second better: shorter")
    expired = make_answer(None, status="failed", error_code="expired")
    for orders in ([expired, won[1]], [won[0], expired]):
        assert judge.score_of_pair(*orders) == (None, SCORER_ERROR, "the judge: expired")
    decided = make_answer({"verdict": "first"})
    assert judge.score_of_pair(decided, decided) == (
        0.5,
        None,
        "the order decided; shown first better; shown second worse",
    )


def test_the_bias_of_a_judge_for_a_place_is_measured():
    """From no bias to a judge that always takes the first answer, with intervals that stay on the scale."""
    fair = position_bias([JudgedPair("first", "second"), JudgedPair("second", "first"), JudgedPair("tie", "tie")])
    assert fair is not None
    assert (fair.pairs, fair.changed.mean, fair.for_first.mean) == (3, 0, 0.5)
    assert fair.for_first.low < 0.5 < fair.for_first.high
    blind = position_bias([JudgedPair("first", "first")] * 40)
    assert blind is not None
    assert (blind.changed.mean, blind.for_first.mean, blind.for_first.high) == (1, 1, 1)
    assert 0.8 < blind.for_first.low < 1
    few = position_bias([JudgedPair("second", "second"), JudgedPair("second", "second"), JudgedPair("first", "second")])
    assert few is not None
    assert few.for_first.mean == pytest.approx(1 / 6)
    assert 0 == few.for_first.low < few.for_first.high <= 1
    together = position_bias([JudgedPair("first", "first"), JudgedPair("first", "second")] * 20, [0] * 20 + [1] * 20)
    alone = position_bias([JudgedPair("first", "first"), JudgedPair("first", "second")] * 20)
    assert together is not None
    assert alone is not None
    assert together.changed != alone.changed
    assert position_bias([]) is None


def test_the_prompt_of_a_pair_shows_both_answers():
    """In the order of its columns, and without their models; the verdict comes after the reasons."""
    judge = scorer_of({**PAIRS, "criteria": "Short.", "question": "asked", "expected": "label"})
    assert judge.columns_beside == ("judged_answer_id", "first_answer", "second_answer")
    text = Template(judge.prompt.user, ["asked", "label", *judge.columns_beside], title="prompt").render(
        {"asked": "Where?", "label": "Italy", "first_answer": "Rome", "second_answer": "Paris"}
    )
    places = [text.index(part) for part in ("Where?", "Italy", "Rome", "Paris", "Short.", "first, second, or tie")]
    assert places == sorted(places)
    assert judge.answers.json_schema["required"] == ["reasoning", "verdict"]


def test_what_is_compared_with_gets_no_score():
    """The answers of a model or a prompt; a column is of no answer, and a row in which it is empty has no score."""
    of_model = scorer_of({**PAIRS, "against": {"model": "m2"}})
    assert [of_model.concerns("p", model) for model in ("m1", "m2")] == [True, False]
    of_prompt = scorer_of({**PAIRS, "against": {"prompt": "p"}})
    assert [of_prompt.concerns(prompt, "m") for prompt in ("p", "q")] == [False, True]
    judge = scorer_of(PAIRS)
    assert judge.concerns("p", "m")
    assert [judge.is_judgeable({"reference": text}) for text in ("Rome", " ", None)] == [True, False, False]
    assert [column for _, column in judge.columns()] == ["reference"]


def test_each_of_several_judges_has_a_name():
    """That of its model without its maker, if that is enough; a single judge has the scorer's."""
    panel = {**RUBRIC, "model": None, "name": "quality"}
    assert scorer_of({**panel, "judges": ["a/x", "b/y"]}).kept_labels == ("quality", "quality:x", "quality:y")
    assert scorer_of({**panel, "judges": ["a/x", "b/x"]}).kept_labels == ("quality", "quality:a/x", "quality:b/x")
    assert scorer_of(RUBRIC).kept_labels == scorer_of(RUBRIC).labels_of_judges == ("judge",)
