"""An answer is reused where it is valid by the rules of the workload that asks, whatever other rules said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from batchkit.answers.rules import AnswerRules, check_for
from batchkit.store import reuse
from tests.steps.asking import Asking, answered, question_of
from tests.steps.timed import refused

if TYPE_CHECKING:
    from pathlib import Path

YES_OR_NO = AnswerRules(format="choice", choices=("yes", "no"), tries=1).model_dump_json()
COLOURS = AnswerRules(format="choice", choices=("red", "blue"), tries=1).model_dump_json()
MODEL = """
from pathlib import Path
from pydantic import BaseModel, field_validator

class Grade(BaseModel):
    value: int

    @field_validator("value")
    @classmethod
    def check(cls, value):
        if value > int(Path(__file__).with_name("highest").read_text()):
            raise ValueError("too high")
        return value
"""


@pytest.fixture
def asking(timed, tmp_path) -> Asking:
    """Return workloads of questions on a test clock; runs once per kind of database."""
    return Asking(timed, tmp_path)


def says(asking: Asking, texts: dict[str, str]) -> None:
    """Answer each question with its text from now on."""

    def answer(line: dict[str, Any]) -> dict[str, Any]:
        output = answered(line)
        output["response"]["body"]["choices"][0]["message"]["content"] = texts[question_of(line)]
        return output

    asking.timed.provider.answer = answer


def states(asking: Asking, name: str) -> list[str]:
    """Return the states of a workload's requests in input order."""
    workload_id = asking.runner.find(name).id
    query = "SELECT state FROM requests WHERE workload_id = :workload_id ORDER BY seq"
    return [state for (state,) in asking.rows(query, workload_id=workload_id)]


def test_answers_are_checked_by_the_rules_of_the_workload_that_asks(asking):
    """An answer that conforms is reused, whether its own workload accepted or rejected it; any other question is sent."""
    says(asking, {"a": "yes", "b": "red", "c": "no", "d": "blue"})
    asking.run("donor", ["a", "b", "c", "d"], answer_rules=YES_OR_NO)
    assert states(asking, "donor") == ["succeeded", "failed", "succeeded", "failed"]
    before = asking.sent()

    workload = asking.split("work", ["d", "c", "b", "a", "b"], answer_rules=COLOURS)

    assert workload.reused_requests == 3
    says(asking, {"a": "red", "c": "blue"})
    assert asking.finish("work").all_succeeded
    assert asking.texts("work") == ["blue", "blue", "red", "red", "red"]
    assert asking.sent() - before == {"a": 1, "c": 1}


def test_a_success_is_not_checked_again_by_the_same_rules(asking, monkeypatch):
    """Nor by a workload without rules: no answer is read."""
    says(asking, {"a": "yes", "b": "no"})
    asking.run("donor", ["a", "b"], answer_rules=YES_OR_NO)
    read: list[object] = []
    kept_answers = reuse.kept_answers

    def noted(*given: Any) -> Any:
        read.append(given)
        return kept_answers(*given)

    monkeypatch.setattr(reuse, "kept_answers", noted)

    asking.split("same", ["a", "b"], answer_rules=YES_OR_NO)
    asking.split("none", ["a", "b"])

    assert read == []
    assert states(asking, "same") == states(asking, "none") == ["succeeded"] * 2
    asking.split("other", ["a", "b"], answer_rules=COLOURS)
    assert len(read) == 1


def test_a_rejected_answer_is_sent_again_by_the_same_rules(asking):
    """It would be rejected again."""
    says(asking, {"a": "maybe"})
    asking.run("donor", ["a"], answer_rules=YES_OR_NO)
    says(asking, {"a": "yes"})

    asking.run("work", ["a", "a"], answer_rules=YES_OR_NO)

    assert states(asking, "work") == ["succeeded"] * 2
    assert asking.sent() == {"a": 2}


def test_without_rules_any_answer_is_valid(asking):
    """Also one that was rejected where it was bought; a refusal is no answer."""
    says(asking, {"a": "maybe"})
    asking.run("donor", ["a"], answer_rules=YES_OR_NO)
    asking.timed.provider.answer = lambda line: refused(line, 400, "bad_thing", "No.")
    asking.run("refused", ["b"], answer_rules=YES_OR_NO)
    asking.run("refused without rules", ["c"])
    says(asking, {"b": "b", "c": "c"})

    asking.run("work", ["a", "b", "c"])

    assert asking.texts("work") == ["maybe", "b", "c"]
    assert asking.sent() == {"a": 1, "b": 2, "c": 2}


def test_an_answer_that_is_valid_somewhere_is_found_among_many(asking):
    """Several workloads have answers to a question: the one that conforms is taken, however many do not."""
    for number in range(4):
        says(asking, {"a": "green"})
        asking.run(f"donor {number}", ["a"], answer_rules=COLOURS)
    says(asking, {"a": "blue"})
    asking.run("good", ["a"], answer_rules=COLOURS)
    before = asking.sent()

    asking.run("work", ["a"], answer_rules=AnswerRules(format="choice", choices=("blue",)).model_dump_json())

    assert asking.texts("work") == ["blue"]
    assert asking.sent() == before


@pytest.mark.usefixtures("_model_of_grades")
def test_a_model_of_the_users_checks_every_answer_again(asking, tmp_path: Path):
    """Its code may have changed, so that an answer is valid no more, or valid now."""
    rules = AnswerRules(format="json", model_path="grades_of_a_test:Grade", tries=1).model_dump_json()
    highest = tmp_path / "highest"
    highest.write_text("5")
    says(asking, {"a": '{"value": 3}', "b": '{"value": 9}'})
    asking.run("donor", ["a", "b"], answer_rules=rules)
    assert states(asking, "donor") == ["succeeded", "failed"]
    before = asking.sent()

    highest.write_text("10")
    asking.run("wider", ["b", "a"], answer_rules=rules)
    assert asking.texts("wider") == ['{"value": 9}', '{"value": 3}']
    assert asking.sent() == before

    highest.write_text("2")
    says(asking, {"a": '{"value": 1}', "b": '{"value": 2}'})
    asking.run("narrower", ["a", "b"], answer_rules=rules)
    assert asking.texts("narrower") == ['{"value": 1}', '{"value": 2}']
    assert asking.sent() - before == {"a": 1, "b": 1}


@pytest.fixture
def _model_of_grades(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a model that accepts grades up to a number in a file."""
    (tmp_path / "grades_of_a_test.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    check_for.cache_clear()
