"""What takes the place of a reservation when a shard is merged."""

import pytest

from batchkit.models import OutcomeKind, Shard, ShardId, ShardState, WorkloadId
from batchkit.provider.pricing import pricing_of
from batchkit.steps.answers import ShardAnswers
from batchkit.steps.budgeting import settled
from batchkit.store.bulk import Successes
from batchkit.store.rows import AnswerFacts, AttemptRow

MODEL = "openai/gpt-oss-20b"


def shard(*, tokens=1_000.0, usd=0.1):
    """Return a shard of ten requests."""
    return Shard(
        id=ShardId(1),
        workload_id=WorkloadId(1),
        number=1,
        state=ShardState.ENDED,
        endpoint="/v1/chat/completions",
        window="24h",
        key="key",
        path="path",
        sha256="digest",
        line_count=10,
        byte_count=100,
        first_seq=0,
        last_seq=9,
        input_file_id=None,
        batch_id=None,
        submitting_since=None,
        not_before=0.0,
        refusals=0,
        waits=0,
        next_lines=10,
        next_window="24h",
        list_scans=0,
        estimated_tokens=tokens,
        estimated_usd=usd,
    )


def answers(succeeded=0, *, model=MODEL, prompt=40, kinds=()):
    """Return answers with 40 tokens in and 10 out, and failed attempts of these kinds."""
    facts = tuple([value] * succeeded for value in AnswerFacts("stop", prompt, prompt and 10, prompt and 50, model))
    found = ShardAnswers(succeeded=succeeded, successes=Successes([], [], [], facts))
    found.attempts = [AttemptRow(1, number, 1, 0, kind.value) for number, kind in enumerate(kinds)]
    return found


def usd(count):
    """Return the price of so many answers, in a batch."""
    return pricing_of("groq").price(MODEL, 40 * count, 10 * count)


def test_answers_cost_what_they_used():
    """Tokens and prices are those of the answers; the estimate that stays is that of the requests with an answer."""
    values = settled("groq", shard(), answers(6, kinds=[OutcomeKind.EXPIRED] * 4))
    assert values == {
        "estimated_tokens": 600.0,
        "estimated_usd": pytest.approx(0.06),
        "spent_tokens": 300.0,
        "spent_usd": pytest.approx(usd(6)),
    }


def test_a_request_in_doubt_counts_as_its_estimate():
    """It may have been paid for: the mean estimate of a request of its shard."""
    values = settled("groq", shard(), answers(6, kinds=[OutcomeKind.IN_DOUBT, OutcomeKind.NO_ANSWER]))
    assert (values["spent_tokens"], values["estimated_tokens"]) == (300.0 + 200.0, 800.0)
    assert values["spent_usd"] == pytest.approx(usd(6) + 0.02)


def test_answers_that_do_not_tell_their_tokens_count_as_their_estimates():
    """A server without usage could otherwise never reach a budget."""
    values = settled("groq", shard(), answers(6, prompt=None))
    assert values["spent_tokens"] == 600.0
    assert values["spent_usd"] == pytest.approx(0.06)


def test_a_model_that_answers_under_another_name_costs_as_estimated_per_token():
    """Its own price is not known, but that of the model that was asked is in the estimate."""
    values = settled("groq", shard(), answers(6, model="nobody/knows"))
    assert values["spent_usd"] == pytest.approx(300 * 0.1 / 1_000)


def test_what_never_ran_costs_nothing():
    """A batch that failed as a whole releases its reservation; a shard without one has nothing to settle."""
    assert set(settled("groq", shard(), None).values()) == {0.0}
    assert settled("groq", shard(tokens=None), answers(6)) == {}


def test_without_a_price_only_tokens_are_settled():
    """A budget in tokens stores no price."""
    values = settled("custom", shard(usd=None), answers(6))
    assert values == {"estimated_tokens": 600.0, "spent_tokens": 300.0}
