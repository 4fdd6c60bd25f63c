"""The meaning of an output line, the next state of its request, and the legal transitions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit.files.jsonl import read_output_line
from batchkit.lifecycle import (
    OPEN_SHARD_STATES,
    REQUEST_TRANSITIONS,
    SHARD_TRANSITIONS,
    LineCodes,
    RequestDecision,
    as_relayed,
    classify,
    decide,
    is_retryable_status,
    outranks,
)
from batchkit.models import LineOutcome, OutcomeKind, RequestState, RetryPolicy, ShardState

ANSWER = {"choices": [{"message": {"content": "blue"}}]}
NOT_EXECUTED = (OutcomeKind.EXPIRED, OutcomeKind.CANCELLED, OutcomeKind.MISSING)
FINAL = {RequestState.SUCCEEDED, RequestState.FAILED, RequestState.CANCELLED}


def outcome_of(response=None, error=None) -> LineOutcome:
    """Classify a line in the provider's format."""
    line = read_output_line({"custom_id": "a", "response": response, "error": error})
    assert line is not None
    return classify(line, LineCodes())


def answered(status, body, error=None) -> LineOutcome:
    """Classify a line with a response."""
    return outcome_of({"status_code": status, "request_id": "req-1", "body": body}, error)


@pytest.mark.parametrize("status", [200, 201, 299])
@pytest.mark.parametrize("error", [None, "", {}, [], {"code": None, "message": None}], ids=str)
@pytest.mark.parametrize("body", [ANSWER, {"text": "spoken"}, "plain text", [1]], ids=str)
def test_body_with_2xx_and_no_error_is_a_success(status, error, body):
    """Success is a body, a 2xx and no error; an empty error member is no error."""
    assert answered(status, body, error) == LineOutcome(OutcomeKind.SUCCEEDED, status)


@pytest.mark.parametrize("body", [None, {}, "", [], 0, False], ids=str)
def test_2xx_without_a_body_is_retried(body):
    """No answer came, whatever the status is."""
    outcome = answered(200, body)
    assert (outcome.kind, outcome.code) == (OutcomeKind.TRANSIENT, "empty_response")
    assert outcome.message


def test_missing_response_is_retried():
    """A line with neither response nor error is not final."""
    assert outcome_of().kind is OutcomeKind.TRANSIENT


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 302, 199])
def test_4xx_inside_the_response_is_a_refusal_although_error_is_null(status):
    """The provider reports a failed request with a top-level error of null and the message in the body."""
    body = {"error": {"message": "context too long", "type": "invalid_request_error", "code": "too_long"}}
    assert answered(status, body) == LineOutcome(OutcomeKind.REFUSED, status, "too_long", "context too long")


@pytest.mark.parametrize("status", [0, 408, 409, 425, 429, 498, 500, 502, 503, 504, 529, 599])
def test_temporary_errors_are_retried(status):
    """Timeouts, conflicts, limits, server errors and the odd status of 0 may pass."""
    assert is_retryable_status(status)
    assert answered(status, {"error": {"message": "busy", "code": "busy"}}).kind is OutcomeKind.TRANSIENT


@pytest.mark.parametrize(("status", "kind"), [(400, OutcomeKind.REFUSED), (503, OutcomeKind.TRANSIENT)])
@pytest.mark.parametrize("body", [None, {}, "gateway page", {"detail": "x"}], ids=str)
def test_status_without_a_message_names_itself(status, kind, body):
    """Without a code the status serves as one, and there is always a message."""
    outcome = answered(status, body)
    assert (outcome.kind, outcome.status_code, outcome.code) == (kind, status, f"http_{status}")
    assert str(status) in (outcome.message or "")


def test_2xx_with_an_error_in_its_body_is_no_success():
    """An answer that contains an error is a failure, and the error's code decides its kind."""
    assert answered(200, {"error": {"code": "content_filter", "message": "no"}}).kind is OutcomeKind.REFUSED
    assert answered(200, {"error": {"code": "server_error", "message": "oops"}}).kind is OutcomeKind.TRANSIENT
    assert answered(200, {"error": "words only"}) == LineOutcome(
        OutcomeKind.TRANSIENT, 200, "empty_response", "words only"
    )


def test_2xx_with_an_error_beside_it_is_no_success():
    """The top-level error counts even when there is a body."""
    outcome = answered(200, ANSWER, {"code": "invalid", "message": "no"})
    assert (outcome.kind, outcome.code, outcome.message) == (OutcomeKind.REFUSED, "invalid", "no")


@pytest.mark.parametrize("code", ["batch_expired", "expired"])
@pytest.mark.parametrize("response", [None, {"status_code": 0, "body": None}, {"status_code": 408}], ids=str)
def test_expired_line_was_never_executed(code, response):
    """Whatever else the line has, the code for expiry wins: it must not use up the budget of errors."""
    outcome = outcome_of(response, {"code": code, "message": "not in time"})
    assert (outcome.kind, outcome.code, outcome.message) == (OutcomeKind.EXPIRED, code, "not in time")


@pytest.mark.parametrize("code", ["batch_cancelled", "cancelled", "canceled"])
def test_cancelled_line_was_never_executed(code):
    """A line of a cancelled batch has its own kind."""
    assert outcome_of(None, {"code": code, "message": "stopped"}).kind is OutcomeKind.CANCELLED


@pytest.mark.parametrize(
    "code",
    [
        "timeout",
        "request_timed_out",
        "connection_error",
        "service_unavailable",
        "overloaded",
        "over_capacity",
        "rate_limit_exceeded",
        "internal_server_error",
    ],
)
def test_error_without_a_response_is_judged_by_its_code(code):
    """Codes of temporary errors are retried, and others are final."""
    assert outcome_of(None, {"code": code, "message": "x"}).kind is OutcomeKind.TRANSIENT
    assert outcome_of(None, {"code": "invalid_request", "message": "x"}).kind is OutcomeKind.REFUSED


@pytest.mark.parametrize(
    ("message", "kind", "code"),
    [
        ("Error code: 400 - no such thing", OutcomeKind.REFUSED, "http_400"),
        ("Error code: 503 - busy", OutcomeKind.TRANSIENT, "http_503"),
        ("tried twice; Error code: 429", OutcomeKind.TRANSIENT, "http_429"),
        ("Error code: 200 - odd", OutcomeKind.TRANSIENT, "empty_response"),
        ("Connection error.", OutcomeKind.TRANSIENT, "request_failed"),
        ("Error code: 50", OutcomeKind.TRANSIENT, "request_failed"),
        ("Error code: 4\u0665\u0660", OutcomeKind.TRANSIENT, "request_failed"),
        (None, OutcomeKind.TRANSIENT, "request_failed"),
    ],
)
def test_a_relayed_error_is_judged_by_the_status_that_its_message_names(message, kind, code):
    """A code that says only that the server behind refused is not final by itself: that server may have been busy or away."""
    codes = LineCodes(relayed={"request_failed": "Error code: "})
    line = read_output_line({"custom_id": "a", "error": {"type": "request_failed", "message": message}})
    assert line is not None
    outcome = classify(as_relayed(line, codes), codes)
    assert (outcome.kind, outcome.code) == (kind, code)


@pytest.mark.parametrize(
    ("response", "error"),
    [
        ({"status_code": 400, "body": None}, {"code": "request_failed", "message": "Error code: 503"}),
        (None, {"code": "invalid_prompt", "message": "Error code: 503"}),
    ],
)
def test_an_error_that_is_not_relayed_keeps_its_status_and_its_code(response, error):
    """A status of the line itself, or a code that says something, is not overruled by words of a message."""
    codes = LineCodes(relayed={"request_failed": "Error code: "})
    line = read_output_line({"custom_id": "a", "response": response, "error": error})
    assert line is not None
    assert as_relayed(line, codes) == line


def test_error_without_a_code_is_judged_by_its_type():
    """If only a type is given, it serves as the code."""
    assert outcome_of(None, {"type": "invalid_request_error", "message": "x"}) == LineOutcome(
        OutcomeKind.REFUSED, None, "invalid_request_error", "x"
    )


@given(
    status=st.one_of(st.none(), st.integers(-5, 1_200), st.text(), st.booleans(), st.floats()),
    body=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5)
    | st.fixed_dictionaries({}, optional={"error": st.text() | st.dictionaries(st.text(), st.text())}),
    error=st.none() | st.text() | st.dictionaries(st.sampled_from(["code", "message", "type"]), st.text()),
)
def test_every_line_has_one_outcome(status, body, error):
    """Success needs all three of its conditions, and every failure has a code and a message."""
    outcome = outcome_of({"status_code": status, "body": body}, error)
    if outcome.kind is OutcomeKind.SUCCEEDED:
        assert body
        assert type(status) is int
        assert 200 <= status <= 299
        assert not error or not any(error.values() if isinstance(error, dict) else error)
    else:
        assert outcome.code


def test_success_outranks_everything_and_nothing_outranks_success():
    """Of two lines for one request a success wins; otherwise the first one is kept."""
    for new in OutcomeKind:
        for old in OutcomeKind:
            expected = new is OutcomeKind.SUCCEEDED and old is not OutcomeKind.SUCCEEDED
            assert outranks(new, old) is expected


@pytest.mark.parametrize("cancelling", [False, True])
def test_answers_and_refusals_are_final(cancelling):
    """A success and a refusal end the request at once, on the first attempt and on the last, cancelled or not."""
    policy = RetryPolicy(max_attempts=1, max_expiries=1)
    for kind, state in ((OutcomeKind.SUCCEEDED, RequestState.SUCCEEDED), (OutcomeKind.REFUSED, RequestState.FAILED)):
        for attempts in (0, 7):
            verdict = decide(kind, attempts=attempts, expiries=0, policy=policy, cancelling=cancelling)
            assert verdict == RequestDecision(state, attempts + 1, 0)


def test_last_attempt_is_the_last():
    """The attempt that uses up the budget of errors fails; the one before it is retried."""
    policy = RetryPolicy(max_attempts=3, max_expiries=9)

    def after(attempts: int, expiries: int = 0) -> RequestDecision:
        return decide(OutcomeKind.TRANSIENT, attempts=attempts, expiries=expiries, policy=policy, cancelling=False)

    assert after(0) == RequestDecision(RequestState.PENDING, 1, 0)
    assert after(1) == RequestDecision(RequestState.PENDING, 2, 0)
    assert after(2) == RequestDecision(RequestState.FAILED, 3, 0)
    # Attempts that expired do not count as errors.
    assert after(6, expiries=5) == RequestDecision(RequestState.PENDING, 7, 5)
    assert after(7, expiries=5) == RequestDecision(RequestState.FAILED, 8, 5)


@pytest.mark.parametrize("kind", NOT_EXECUTED)
def test_last_expiry_is_the_last(kind):
    """Attempts that were not executed have their own budget, which ends as well."""
    policy = RetryPolicy(max_attempts=1, max_expiries=3)

    def after(attempts: int, expiries: int) -> RequestDecision:
        return decide(kind, attempts=attempts, expiries=expiries, policy=policy, cancelling=False)

    assert after(0, 0) == RequestDecision(RequestState.PENDING, 1, 1)
    assert after(1, 1) == RequestDecision(RequestState.PENDING, 2, 2)
    assert after(2, 2) == RequestDecision(RequestState.FAILED, 3, 3)


@pytest.mark.parametrize("kind", [OutcomeKind.TRANSIENT, *NOT_EXECUTED])
def test_cancelling_resends_nothing(kind):
    """After the user cancels, unresolved requests are cancelled and their last attempt is counted."""
    policy = RetryPolicy(max_attempts=5, max_expiries=5)
    verdict = decide(kind, attempts=1, expiries=0, policy=policy, cancelling=True)
    assert (verdict.state, verdict.attempts) == (RequestState.CANCELLED, 2)


def test_cancelled_workload_has_no_expiry_failures():
    """A request that was stopped counts as cancelled even if it was its last expiry."""
    verdict = decide(OutcomeKind.CANCELLED, attempts=0, expiries=0, policy=RetryPolicy(max_expiries=1), cancelling=True)
    assert verdict.state is RequestState.CANCELLED


@given(
    # A refusal of the account ends no request: the command stops until the user has acted. Nor does what was not sent.
    kinds=st.lists(
        st.sampled_from(sorted(set(OutcomeKind) - {OutcomeKind.ACCOUNT, OutcomeKind.UNSENT})), min_size=30, max_size=30
    ),
    max_attempts=st.integers(1, 10),
    max_expiries=st.integers(1, 10),
    cancelled_from=st.integers(0, 40),
)
def test_no_request_is_sent_forever(kinds, max_attempts, max_expiries, cancelled_from):
    """Every request is final within both budgets, whatever the outcomes are, and each attempt is counted once."""
    policy = RetryPolicy(max_attempts=max_attempts, max_expiries=max_expiries)
    verdict = RequestDecision(RequestState.PENDING, 0, 0)
    for attempt, kind in enumerate(kinds):
        before = verdict
        verdict = decide(
            kind,
            attempts=before.attempts,
            expiries=before.expiries,
            policy=policy,
            cancelling=attempt >= cancelled_from,
        )
        assert verdict.attempts == before.attempts + 1
        assert verdict.expiries - before.expiries == (kind in (*NOT_EXECUTED, OutcomeKind.IN_DOUBT))
        assert verdict.state in REQUEST_TRANSITIONS[RequestState.IN_FLIGHT]
        assert (verdict.state is RequestState.SUCCEEDED) is (kind is OutcomeKind.SUCCEEDED)
        if verdict.state in FINAL:
            break
    assert verdict.state in FINAL
    assert verdict.attempts <= max_attempts + max_expiries - 1


@given(attempts=st.integers(0, 2_000), expiries=st.integers(0, 2_000))
def test_a_refusal_of_the_account_fails_no_request(attempts, expiries):
    """However often it comes, the request stays pending with both budgets unchanged; a cancel ends it."""
    expiries = min(attempts, expiries)
    policy = RetryPolicy(max_attempts=1, max_expiries=1)
    kept = decide(OutcomeKind.ACCOUNT, attempts=attempts, expiries=expiries, policy=policy, cancelling=False)
    assert kept == RequestDecision(RequestState.PENDING, attempts, expiries)
    ended = decide(OutcomeKind.ACCOUNT, attempts=attempts, expiries=expiries, policy=policy, cancelling=True)
    assert ended.state is RequestState.CANCELLED


def test_transition_tables_are_complete():
    """Every state has its transitions, every transition leads to a state, and none leads back to the same state."""
    assert set(SHARD_TRANSITIONS) == set(ShardState)
    assert set(REQUEST_TRANSITIONS) == set(RequestState)
    for shard_state, shard_targets in SHARD_TRANSITIONS.items():
        assert shard_targets <= set(ShardState) - {shard_state}
    for request_state, request_targets in REQUEST_TRANSITIONS.items():
        assert request_targets <= set(RequestState) - {request_state}


def test_success_is_final():
    """No transition leaves a success, and a failed request can only become pending again."""
    assert REQUEST_TRANSITIONS[RequestState.SUCCEEDED] == frozenset()
    for state in (RequestState.FAILED, RequestState.CANCELLED):
        assert REQUEST_TRANSITIONS[state] == {RequestState.PENDING}


def test_every_shard_reaches_a_final_state():
    """A final state can be reached from each state, and exactly the other states are open."""
    ends = {state for state, targets in SHARD_TRANSITIONS.items() if not targets}
    assert ends == {ShardState.MERGED, ShardState.WITHDRAWN}
    assert set(OPEN_SHARD_STATES) == set(ShardState) - ends
    for state in ShardState:
        reached, edge = {state}, {state}
        while edge:
            edge = {target for source in edge for target in SHARD_TRANSITIONS[source]} - reached
            reached |= edge
        assert reached & ends


def test_batch_that_was_created_is_never_created_again():
    """Once a batch exists, no transition leads back to a state in which another one would be created."""
    reached, edge = set(), {ShardState.SUBMITTED}
    while edge:
        reached |= edge
        edge = {target for source in edge for target in SHARD_TRANSITIONS[source]} - reached
    assert reached == {ShardState.SUBMITTED, ShardState.ENDED, ShardState.MERGED}


@pytest.mark.parametrize("kind", [kind for kind in OutcomeKind if kind is not OutcomeKind.SUCCEEDED])
def test_while_a_workload_holds_nothing_becomes_pending(kind):
    """Whatever has no answer has failed with a counted attempt, so that nothing is sent; a cancellation stays one."""
    held = decide(kind, attempts=0, expiries=0, policy=RetryPolicy(), cancelling=False, holding=True)
    assert (held.state, held.attempts) == (RequestState.FAILED, 1)
    stopped = decide(kind, attempts=0, expiries=0, policy=RetryPolicy(), cancelling=True, holding=True)
    assert stopped.state == (RequestState.FAILED if kind is OutcomeKind.REFUSED else RequestState.CANCELLED)
