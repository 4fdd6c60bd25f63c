"""States, their transitions, and the outcomes of output lines. Pure: no clock, no files, no database.

A shard goes forward; requests may be sent several times::

    shard    planned -> uploaded -> submitting -> submitted -> ended -> merged
                ^          |  ^         |
                |          |  └─────────┘  only when it is certain that no batch exists
                └──────────┘               only when the uploaded file is gone
             planned | uploaded -> withdrawn   the provider takes no such file, the user cancelled, or a deadline is near

    of the sync lane   planned -> sending -> ended -> merged

    request  pending -> in_flight -> succeeded | failed | cancelled
                ^          |            |
                └──────────┘            └ failed | cancelled -> pending only when the user asks (resubmit, resubmit --failed)
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, assert_never

from batchkit.models import LineOutcome, OutcomeKind, OutputLine, RequestState, RetryPolicy, ShardState

if TYPE_CHECKING:
    from collections.abc import Mapping

SHARD_TRANSITIONS: Mapping[ShardState, frozenset[ShardState]] = {
    ShardState.PLANNED: frozenset({ShardState.UPLOADED, ShardState.SENDING, ShardState.WITHDRAWN}),
    ShardState.UPLOADED: frozenset({ShardState.SUBMITTING, ShardState.PLANNED, ShardState.WITHDRAWN}),
    ShardState.SUBMITTING: frozenset({ShardState.SUBMITTED, ShardState.UPLOADED}),
    ShardState.SUBMITTED: frozenset({ShardState.ENDED}),
    ShardState.SENDING: frozenset({ShardState.ENDED}),
    ShardState.ENDED: frozenset({ShardState.MERGED}),
    ShardState.MERGED: frozenset(),
    ShardState.WITHDRAWN: frozenset(),
}

REQUEST_TRANSITIONS: Mapping[RequestState, frozenset[RequestState]] = {
    RequestState.PENDING: frozenset({RequestState.IN_FLIGHT, RequestState.CANCELLED, RequestState.FAILED}),
    RequestState.IN_FLIGHT: frozenset(
        {RequestState.SUCCEEDED, RequestState.FAILED, RequestState.PENDING, RequestState.CANCELLED},
    ),
    RequestState.SUCCEEDED: frozenset(),
    RequestState.FAILED: frozenset({RequestState.PENDING}),
    RequestState.CANCELLED: frozenset({RequestState.PENDING}),
}

#: Shards in these states are open: their requests are in flight.
OPEN_SHARD_STATES = (
    ShardState.PLANNED,
    ShardState.UPLOADED,
    ShardState.SUBMITTING,
    ShardState.SUBMITTED,
    ShardState.SENDING,
    ShardState.ENDED,
)

#: Outcomes of attempts that were not executed, or not for the request's sake: they prove nothing against the request.
UNEXECUTED = (OutcomeKind.EXPIRED, OutcomeKind.CANCELLED, OutcomeKind.MISSING, OutcomeKind.ACCOUNT)
#: Outcomes of attempts that may have been executed and paid for, although there is no answer.
DOUBTFUL = (OutcomeKind.IN_DOUBT, OutcomeKind.NO_ANSWER)

_RETRYABLE_STATUSES = frozenset({0, 408, 409, 425, 429, 498})
_SERVER_ERROR = 500
_STATUS_DIGITS = 3


@dataclass(frozen=True, slots=True)
class LineCodes:
    """The error codes of output lines: of requests that were never executed, and parts of codes of errors that pass.

    The defaults are OpenAI's (Batch guide, "Errors"), which most servers share. ``relayed`` are codes that say only that the server
    behind this one refused, each with the words before that server's status in the message; see ``as_relayed``. ``own`` are the
    codes of outcomes that we caused ourselves: lines that we wrote about calls of the sync lane, or of a batch that we stopped.
    """

    expired: frozenset[str] = frozenset({"batch_expired", "expired"})
    cancelled: frozenset[str] = frozenset({"batch_cancelled", "cancelled", "canceled"})
    transient: tuple[str, ...] = (
        "timeout",
        "timed_out",
        "connection",
        "unavailable",
        "overloaded",
        "capacity",
        "rate_limit",
        "server_error",
    )
    own: Mapping[str, OutcomeKind] = field(default_factory=dict)
    relayed: Mapping[str, str] = field(default_factory=dict)


def is_retryable_status(status_code: int) -> bool:
    """Whether the same request may succeed later: 408, 409, 425, 429, 498, 5xx and the odd 0."""
    return status_code in _RETRYABLE_STATUSES or status_code >= _SERVER_ERROR


def as_relayed(line: OutputLine, codes: LineCodes) -> OutputLine:
    """Return a line whose error another server relays with the status that the message names, so that the status decides.

    Without a status in the message that server did not reply: the code stays, and counts as one that passes.
    """
    words = codes.relayed.get(line.error_code or "")
    if words is None or line.status_code is not None or line.error_message is None:
        return line
    status = line.error_message.partition(words)[2][:_STATUS_DIGITS]
    if len(status) < _STATUS_DIGITS or not (status.isascii() and status.isdecimal()):
        return line
    return replace(line, status_code=int(status), error_code=None)


def classify(line: OutputLine, codes: LineCodes) -> LineOutcome:
    """Return the outcome of one output line for its request; ``codes`` are those of the provider.

    Success is a body, a 2xx status and no error at either level: a 4xx may hide inside ``response`` while ``error`` is null.
    """
    code, message = line.error_code, line.error_message
    status = line.status_code
    if code is not None and code in codes.own:
        return LineOutcome(codes.own[code], status, code, message)
    if code in codes.expired:
        return LineOutcome(OutcomeKind.EXPIRED, status, code, message)
    if code in codes.cancelled:
        return LineOutcome(OutcomeKind.CANCELLED, status, code, message)
    if status is not None and 200 <= status < 300 and line.body and not line.has_error:  # noqa: PLR2004 - 2xx
        return LineOutcome(OutcomeKind.SUCCEEDED, status)
    if status is None or 200 <= status < 300:  # noqa: PLR2004 - 2xx that carries an error or no body
        transient = code is None or code in codes.relayed or any(word in code for word in codes.transient)
        kind = OutcomeKind.TRANSIENT if transient else OutcomeKind.REFUSED
        return LineOutcome(kind, status, code or "empty_response", message or "the provider returned no response body")
    kind = OutcomeKind.TRANSIENT if is_retryable_status(status) else OutcomeKind.REFUSED
    return LineOutcome(kind, status, code or f"http_{status}", message or f"the provider answered with status {status}")


def outranks(new: OutcomeKind, old: OutcomeKind) -> bool:
    """Whether ``new`` replaces ``old`` when two lines of one batch are for the same request: a success wins, else the first line."""
    return new is OutcomeKind.SUCCEEDED and old is not OutcomeKind.SUCCEEDED


@dataclass(frozen=True, slots=True)
class RequestDecision:
    """The next state of a request and its counters after an attempt."""

    state: RequestState
    attempts: int
    expiries: int


def decide(
    kind: OutcomeKind,
    *,
    attempts: int,
    expiries: int,
    policy: RetryPolicy,
    cancelling: bool,
    holding: bool = False,
) -> RequestDecision:
    """Return the next state of a request after one attempt.

    ``attempts`` and ``expiries`` are the counts before the attempt. An attempt that was not executed (expired, missing, cancelled by
    the provider) does not use up the error budget; both budgets end. ``cancelling`` says that the user asked to stop, so that
    nothing unresolved is sent again; ``holding`` that nothing is sent again until the user asks for it, so that a request without an
    answer has failed for now.
    """
    attempts += 1
    is_spent = False
    match kind:
        case OutcomeKind.SUCCEEDED:
            return RequestDecision(RequestState.SUCCEEDED, attempts, expiries)
        case OutcomeKind.REFUSED:
            is_spent = True
        case OutcomeKind.TRANSIENT:
            is_spent = attempts - expiries >= policy.max_attempts
        case OutcomeKind.NO_ANSWER:
            is_spent = not policy.resends_doubts or attempts - expiries >= policy.max_attempts
        case OutcomeKind.INVALID:
            is_spent = attempts - expiries >= min(policy.max_invalid, policy.max_attempts)
        case OutcomeKind.ACCOUNT | OutcomeKind.UNSENT:
            # Neither proves anything about the request: both budgets stay unchanged. A failure counts its attempt.
            if cancelling or not holding:
                attempts -= 1
        case OutcomeKind.EXPIRED | OutcomeKind.CANCELLED | OutcomeKind.MISSING | OutcomeKind.IN_DOUBT:
            # Nor does the end of a process, which leaves requests in doubt.
            expiries += 1
            fails = kind is OutcomeKind.IN_DOUBT and not policy.resends_doubts
            is_spent = not cancelling and (fails or expiries >= policy.max_expiries)
        case _ as never:
            assert_never(never)
    if is_spent:
        return RequestDecision(RequestState.FAILED, attempts, expiries)
    state = RequestState.FAILED if holding else RequestState.PENDING
    return RequestDecision(RequestState.CANCELLED if cancelling else state, attempts, expiries)
