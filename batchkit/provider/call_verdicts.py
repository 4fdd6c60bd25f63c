"""What the end of one call means: for its request, and for the next ones. Pure; it never raises."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from batchkit.files.jsonl import MalformedJson, loads_leniently
from batchkit.models import RefusalKind
from batchkit.provider import wire
from batchkit.provider.call_reply import CallEnd
from batchkit.provider.failures import QUOTE_CHARS, Quoter
from batchkit.provider.headers import LONGEST_WAIT_SECONDS, rate_limit_reset, retry_after
from batchkit.provider.rate_limits import LimitDimension, LimitPeriod, limit_of_words, limits_of_headers

if TYPE_CHECKING:
    from batchkit.provider.call_reply import CallReply
    from batchkit.provider.dialect import Dialect
    from batchkit.provider.failures import Refusal
    from batchkit.provider.rate_limits import HeaderLimit, NamedLimit

#: A wait up to this many seconds is one for a limit per minute; a longer one parks the model.
LONGEST_SHORT_WAIT_SECONDS: Final = 90.0
_CAPACITY_EXCEEDED: Final = 498  # console.groq.com/docs/flex-processing
_CLIENT_CLOSED_REQUEST: Final = 499  # of gateways that gave up waiting
#: Replies that say nothing of the request: it may be sent again.
_PASSING_STATUSES: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, _CLIENT_CLOSED_REQUEST})
_READ_BYTES: Final = 64_000
_NO_ROOM_STATUSES: Final = frozenset({_CAPACITY_EXCEEDED, HTTPStatus.SERVICE_UNAVAILABLE})
_NO_PATH_STATUSES: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED})
_QUOTE: Final = Quoter("")


class CallVerdict(StrEnum):
    """What the end of a call means."""

    #: An answer, or a refusal of this request that stays: it becomes an output line.
    ANSWER = "answer"
    #: A limit that has room again within a minute or so; the wait is known, or not.
    LIMITED_SHORT = "limited_short"
    #: A limit of hours or of the day.
    LIMITED_LONG = "limited_long"
    #: The server has no room now.
    CAPACITY = "capacity"
    #: The request asks for more than the whole limit: waiting never helps.
    TOO_LARGE_FOR_LIMIT = "too_large_for_limit"
    #: The service tier does not exist for this account: a configuration error.
    TIER = "tier"
    #: The server, or a gateway before it, failed.
    SERVER_ERROR = "server_error"
    #: The account or its key: all requests will be refused.
    ACCOUNT = "account"
    #: A redirect, which is not followed: a configuration error.
    REDIRECT = "redirect"
    #: Another server, or no such endpoint: a configuration error.
    WRONG_ADDRESS = "wrong_address"
    #: Nothing reached the API.
    NOT_SENT = "not_sent"
    #: It may have been executed and billed.
    IN_DOUBT = "in_doubt"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallJudgement:
    """The meaning of one call's end.

    ``wait_seconds`` is how long the server asks to wait, None if it does not say. ``limits`` are those of the headers, ``named`` is the
    one that a refusal names. ``message`` is for people, ``hint`` what to do about it where that is known; ``code`` is that of the error
    body.
    """

    verdict: CallVerdict
    wait_seconds: float | None = None
    limits: tuple[HeaderLimit, ...] = ()
    named: NamedLimit | None = None
    message: str = ""
    hint: str | None = None
    code: str | None = None


def judge(reply: CallReply, *, dialect: Dialect, now: float) -> CallJudgement:
    """Return what the end of a call means. ``now`` is in Unix seconds."""
    if reply.end is not CallEnd.ANSWERED or reply.status is None:
        verdict = CallVerdict.NOT_SENT if reply.end is CallEnd.NOT_SENT else CallVerdict.IN_DOUBT
        return CallJudgement(verdict=verdict, message=reply.message)
    limits = limits_of_headers(reply.headers, dialect.calls)
    is_page = "html" in reply.headers.get("content-type", "").lower()
    if reply.is_success:
        if is_page:
            message = f"{reply.message}, an HTML page: another server answered, not the API"
            return CallJudgement(verdict=CallVerdict.WRONG_ADDRESS, message=message, hint=dialect.hints.address)
        return CallJudgement(verdict=CallVerdict.ANSWER, limits=limits)
    payload = _parsed(reply.body)
    refusal = wire.explain(reply.status, payload, hints=dialect.hints)
    named = limit_of_words(refusal.message)
    is_of_api = isinstance(payload, dict) and not is_page
    verdict = _verdict(reply.status, refusal, named, is_of_api=is_of_api, is_no_path=_is_no_path(refusal, payload))
    wait = retry_after(reply.headers, now=now)
    if wait is None:
        wait = refusal.retry_after_seconds
    if verdict is CallVerdict.LIMITED_SHORT:
        if wait is None:
            wait = rate_limit_reset(reply.headers, now=now)
        if _is_long(wait, named):
            verdict = CallVerdict.LIMITED_LONG
    return CallJudgement(
        verdict=verdict,
        wait_seconds=None if wait is None else min(wait, LONGEST_WAIT_SECONDS),
        limits=limits,
        named=named,
        message=_message(reply, refusal, verdict, named),
        hint=_hint(refusal, verdict, dialect),
        code=refusal.code,
    )


def _parsed(body: bytes) -> object:
    if len(body) > _READ_BYTES:
        return None
    try:
        payload: object = loads_leniently(body)
    except MalformedJson:
        return None
    return payload


def _is_no_path(refusal: Refusal, payload: object) -> bool:
    """Return whether the API has no such endpoint: the second form is that of FastAPI."""
    return refusal.is_unknown_path or payload == {"detail": "Not Found"}


def _verdict(  # noqa: PLR0911 - a table of cases
    status: int, refusal: Refusal, named: NamedLimit | None, *, is_of_api: bool, is_no_path: bool
) -> CallVerdict:
    if status // 100 == 3:  # noqa: PLR2004 - RFC 9110, section 15.4
        return CallVerdict.REDIRECT
    is_too_large = status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    # A 413 is about a limit when it names one; any other one is about the size of the body.
    is_of_limit = is_too_large and (named is not None or refusal.type == "tokens")
    if is_of_limit or (status == HTTPStatus.TOO_MANY_REQUESTS and named is not None and named.is_hopeless):
        return CallVerdict.TOO_LARGE_FOR_LIMIT
    if refusal.kind is RefusalKind.ACCOUNT:
        return CallVerdict.ACCOUNT
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return CallVerdict.LIMITED_SHORT
    if status in _NO_ROOM_STATUSES:
        return CallVerdict.CAPACITY
    if status in _PASSING_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return CallVerdict.SERVER_ERROR
    if _is_of_tier(status, refusal):
        return CallVerdict.TIER
    if status in _NO_PATH_STATUSES and (is_no_path or not is_of_api):
        return CallVerdict.WRONG_ADDRESS
    # The page of a gateway says nothing of the request, unless it is too large for the gateway.
    return CallVerdict.ANSWER if is_of_api or is_too_large else CallVerdict.SERVER_ERROR


def _is_of_tier(status: int, refusal: Refusal) -> bool:
    """Return whether the service tier is refused.

    One such refusal: "`service_tier` `auto` is not available for this org", 400, ``invalid_request_error``.
    """
    return status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY} and (
        refusal.param == "service_tier" or "service_tier" in (refusal.message or "")[:QUOTE_CHARS]
    )


def _is_long(wait: float | None, named: NamedLimit | None) -> bool:
    if wait is not None:
        return wait > LONGEST_SHORT_WAIT_SECONDS
    return named is not None and named.period in {LimitPeriod.HOUR, LimitPeriod.DAY}


def _message(reply: CallReply, refusal: Refusal, verdict: CallVerdict, named: NamedLimit | None) -> str:
    if verdict is CallVerdict.REDIRECT:
        target = reply.headers.get("location", "").partition("?")[0]
        return f"{reply.message}, a redirect to {_QUOTE(target)}, which is not followed"
    if verdict is CallVerdict.TOO_LARGE_FOR_LIMIT:
        return f"{reply.message}: {_too_large(named)}"
    return f"{reply.message}: {_QUOTE(refusal.message)}" if refusal.message else reply.message


def _too_large(named: NamedLimit | None) -> str:
    """Return that waiting never helps, and by how much the request has to shrink."""
    if named is None or named.limit is None or named.requested is None or not named.is_hopeless:
        return (
            "the request asks for more than the whole limit of tokens, so that waiting never helps: lower its "
            "max_completion_tokens, or shorten it"
        )
    asked = f"the request asks for {named.requested:,.0f}, the limit is {named.limit:,.0f} {named}, so that waiting never helps"
    if named.dimension not in {LimitDimension.TOKENS, LimitDimension.OUTPUT_TOKENS}:
        return f"{asked}: make it smaller"
    return f"{asked}: lower its max_completion_tokens by {named.requested - named.limit:,.0f} or more, or shorten it"


def _hint(refusal: Refusal, verdict: CallVerdict, dialect: Dialect) -> str | None:
    if verdict in {CallVerdict.REDIRECT, CallVerdict.WRONG_ADDRESS}:
        return dialect.hints.address
    if verdict is CallVerdict.TIER:
        return "ask for a service tier that the account has, or for none"
    return refusal.hint if verdict in {CallVerdict.ACCOUNT, CallVerdict.ANSWER} else None
