"""How a request is asked again after an answer that did not count."""

from __future__ import annotations

import pytest

from batchkit.answers.amend import amended
from batchkit.answers.rules import AnswerRules
from batchkit.files import jsonl
from tests.workloads import audio_line, chat_line

RULES = AnswerRules(max_tokens_cap=1_000, model_caps={"small": 300})


def again(reason: str, *, attempt_key: int = 1, rules: AnswerRules = RULES, **body):
    """Amend a chat request and give the new body."""
    line = jsonl.dumps(chat_line("row-1", **body))
    return jsonl.loads(amended(line, reason, rules, attempt_key=attempt_key))["body"]


@pytest.mark.parametrize(
    ("given", "wanted"), [(10, 40), (249, 996), (250, 1_000), (999, 1_000), (None, 1_000)], ids=repr
)
def test_a_truncated_answer_is_asked_for_with_four_times_the_tokens_up_to_the_cap(given, wanted):
    """More room, but never more than the user or the model allows; nothing else changes."""
    body = again("answer_truncated", max_completion_tokens=given)
    assert body["max_completion_tokens"] == wanted
    assert "seed" not in body


def test_a_model_is_not_asked_for_more_than_it_writes():
    """The model's own limit is a cap as well: beyond it the provider refuses the request."""
    assert again("answer_truncated", model="small", max_completion_tokens=100)["max_completion_tokens"] == 300


def test_the_older_name_of_the_limit_is_kept():
    """A request that says max_tokens keeps saying it: both names in one request would contradict each other."""
    body = again("answer_truncated", max_tokens=100)
    assert body["max_tokens"] == 400
    assert "max_completion_tokens" not in body


def test_at_the_cap_another_seed_is_all_that_is_left():
    """A request that had all tokens already is not sent again as it was."""
    body = again("answer_truncated", max_completion_tokens=1_000)
    assert body["max_completion_tokens"] == 1_000
    assert body["seed"] >= 0


@pytest.mark.parametrize("reason", ["answer_invalid", "answer_empty", "generation_failed"])
def test_other_reasons_get_another_seed(reason):
    """Each attempt has its own seed and keeps it whenever it is written again; the temperature 0 is raised to 0.2."""
    first, same, other = (
        again(reason, temperature=0),
        again(reason, temperature=0),
        again(reason, attempt_key=2, temperature=0.7),
    )
    assert first == same
    assert first["seed"] != other["seed"]
    assert 0 <= first["seed"] < 2**31
    assert (first["temperature"], other["temperature"]) == (0.2, 0.7)
    assert "temperature" not in again(reason)


def test_audio_is_asked_again_as_it_was():
    """There is neither seed nor limit in a transcription."""
    line = jsonl.dumps(audio_line("row-1"))
    assert amended(line, "answer_invalid", RULES, attempt_key=1) == line
