"""Kinds of refusals, read from status, code and message.

Providers document few codes (Groq: console.groq.com/docs/errors, /docs/spend-limits: 400 ``blocked_api_access`` at a spend limit); those of
all are read, because one server may speak with the words of another.  Messages may quote text of the user, so they are read only when the code
explains nothing, and only for whole phrases.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from batchkit.models import RefusalKind

_CAPACITY_EXCEEDED: Final = 498  # console.groq.com/docs/flex-processing
_ACCOUNT_STATUSES: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN})
_NO_ROOM_STATUSES: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, _CAPACITY_EXCEEDED})
_ACCOUNT_CODES: Final = frozenset(
    {
        "access_terminated",
        "account_deactivated",
        "account_disabled",
        "account_not_active",
        "account_suspended",
        "arrearage",
        "authentication_error",
        "billing_hard_limit_reached",
        "billing_not_active",
        "blocked_api_access",
        "budget_exceeded",
        "exceeded_current_quota_error",
        "expired_api_key",
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_quota",
        "invalid_api_key",
        "invalid_authentication",
        "not_available_for_plan",
        "organization_deactivated",
        "organization_restricted",
        "organization_suspended",
        "payment_required",
        "project_suspended",
        "spend_limit_exceeded",
        "spend_limit_reached",
    }
)
_NO_ROOM_CODE: Final = re.compile(
    r"rate_?limit|token_limit_exceeded|too_many_(?:tasks|batches|requests|jobs)|queue|capacity|quota|overloaded"
    r"|unavailable|throttl|resource_?exhausted"
)
_LOST_FILE_CODE: Final = re.compile(
    r"file_(?:not_found|missing|deleted|expired)|(?:no_such|missing|unknown)_(?:input_)?file"
)
#: Codes that say only that there was an error, or that something was not found or invalid.
_EMPTY_CODE: Final = re.compile(
    r"|error|unknown|none|null|batch_failed|failed|(?:invalid|bad)_?request(?:_?error)?|invalid_(?:value|parameter|argument)"
    r"|(?:resource_)?not_?found(?:_?error)?|server_error|internal(?:_?server)?_?error|api_error|permissions?_error|tokens|requests"
    r"|http_\d+|\d+"
)

_MODEL_CODE: Final = re.compile(r"model[_ ]")
_MODEL_PHRASES: Final = re.compile(
    r"\bmodel\b[^.]{0,80}\b(?:blocked|not (?:allowed|available|enabled|permitted)|restricted|terms)\b"
    r"|\baccess to (?:the |this )?model\b",
    re.IGNORECASE,
)
_LIMIT_OF_MONEY: Final = r"(?:spend(?:ing)?|budget|billing)(?:[ -](?:hard |soft )?limit)?"
_ACCOUNT_PHRASES: Final = re.compile(
    rf"\b{_LIMIT_OF_MONEY} (?:has been |have been |was |is )?(?:reached|exceeded|hit|used up)"
    rf"|\b(?:reached|exceeded|hit|over) (?:\w+ ){{0,4}}{_LIMIT_OF_MONEY}"
    r"|\bblocked[ _]api[ _]access|\bapi access (?:is |was |has been )?(?:blocked|suspended|disabled|restricted)"
    r"|\bbilling (?:is not|is in|not) \w*active|\bbilling is inactive|\bnot active, please check your billing"
    r"|\b(?:organi[sz]ation|account|project|workspace) (?:\S+ )?(?:has been |is |was )?"
    r"(?:restricted|suspended|deactivated|disabled|blocked|terminated)\b"
    r"|\binsufficient (?:account )?(?:balance|quota|credits?|funds)|\bcredit balance is too low|\bpayment required"
    r"|\bexceeded your current quota|\b(?:invalid|incorrect|expired|revoked) api[ _-]key",
    re.IGNORECASE,
)
_LOST_FILE_PARAMS: Final = frozenset({"input_file_id", "file_id"})
_FILE: Final = r"(?:the |your |this )?(?:input |batch )?file"
_LOST_FILE_PHRASES: Final = re.compile(
    r"\b(?:cannot|can't|can not|could not|couldn't|unable to|failed to)"
    rf" (?:find|locate|access|open|read|retrieve|load|fetch|download) {_FILE}\b"
    rf"|\b(?:no such|missing|unknown) (?:input |batch )?file\b"
    r"|\bfile\b[^.]{0,80}\b(?:(?:was |is |were )?not[ _]found|(?:does not|doesn't|no longer) exists?"
    r"|(?:was|has been|is|been) (?:deleted|removed)|(?:has|is) expired)"
    r"|\bfile[ _]not[ _]found",
    re.IGNORECASE,
)
#: Phrases of a message about the content of a file or a request, not about the input file as a whole.
_INSIDE_PHRASES: Final = re.compile(
    r"\b(?:on |at |in )?line \d|\b(?:image|audio|video|media|url|too (?:large|long|big|many)|exceeds?|format|purpose|empty|json)\b",
    re.IGNORECASE,
)
_NO_ROOM_PHRASES: Final = re.compile(
    r"\brate[ -]?limit(?:ed\b| (?:has been |was |is )?(?:reached|exceeded|hit))|\bexceed\w* (?:\w+ ){0,4}rate[ -]?limits?"
    r"|\btoo[ _]many[ _](?:\w+ ){0,3}(?:tasks|batches|jobs)|\btoo many requests\b(?! (?:in|for) (?:the |this |your |a |one )?(?:file|batch|input))"
    r"|\btoken_limit_exceeded|\benqueued (?:\w+ ){0,3}(?:limit|quota|tokens)|\btokens? enqueued"
    r"|\bqueue (?:is |was |has been )?(?:currently )?(?:full|at capacity|too long|limit)|\b(?:full|long) queue\b"
    r"|\b(?:at|over|exceed\w*|insufficient|no|not enough|out of|lack of|limited|maximum|free) (?:\w+ ){0,3}capacity\b"
    r"|\bcapacity (?:\w+ ){0,3}(?:exceeded|reached|exhausted|unavailable|limit|constraints?)|\bfor want of capacity"
    r"|\bquota (?:\w+ ){0,3}(?:exceeded|reached|exhausted)|\bexceed\w* (?:\w+ ){0,4}quota\b"
    r"|\b(?:try|retry) again (?:later|in \d|after|soon)|\bretry (?:later|after)\b"
    r"|\boverloaded\b|\btemporarily (?:unavailable|busy|overloaded)|\bservice (?:is )?unavailable|\bserver is busy"
    r"|\bresources? (?:has been |have been |is |are )?exhausted",
    re.IGNORECASE,
)

# Parts of lines: a refusal that names one of these has read the file.
_CONTENT_CODE: Final = re.compile(
    r"line|custom_?id|json|model|message|url|endpoint|method|body|param|propert|schema|duplicate|context|token|role|format"
    r"|tool|prompt|content|too_(?:large|long|many)|empty"
)
_CONTENT_PHRASES: Final = re.compile(
    r"\blines?\b|custom[ _]?id|json|model|messages?\[|messages\.|'messages'|\burl\b|endpoint|\bmethod\b|\bbody\b|parameter|propert|\bfield\b"
    r"|\bvalues?\b|requests in|\bimage\b|\baudio\b|schema|duplicate|context[ _]length|max_tokens|\btokens\b|\brole\b|decommissioned|too large|too long|empty",
    re.IGNORECASE,
)


def refusal_kind(*, status: int | None, code: str | None, message: str | None, param: str | None = None) -> RefusalKind:
    """Return the kind of a refusal of a call, of a whole batch, or of one line of its output.

    ``status`` is the HTTP status, None without one. A known code decides first, then the status; the message is read only when
    the code explains nothing.
    """
    if is_account_refusal(status=status, code=code, message=message, param=param):
        return RefusalKind.ACCOUNT
    code, text = _telling(code, message)
    if status == HTTPStatus.FORBIDDEN:
        # It is about one object, or it would be of the account.
        return RefusalKind.LOST_FILE if param in _LOST_FILE_PARAMS else RefusalKind.CONTENT
    if _NO_ROOM_CODE.search(code):
        return RefusalKind.NO_ROOM
    if _is_lost_file(code, text, message or "", param):
        return RefusalKind.LOST_FILE
    if status in _NO_ROOM_STATUSES or _NO_ROOM_PHRASES.search(text):
        return RefusalKind.NO_ROOM
    is_about_lines = param or _CONTENT_CODE.search(code) or _CONTENT_PHRASES.search(message or "")
    return RefusalKind.CONTENT if is_about_lines else RefusalKind.UNCLEAR


def is_account_refusal(*, status: int | None, code: str | None, message: str | None, param: str | None = None) -> bool:
    """Return whether ``refusal_kind`` is ``ACCOUNT``, in a seventh of its time: a merge asks for each line with an error."""
    code, text = _telling(code, message)
    if code in _ACCOUNT_CODES:
        return True
    if status == HTTPStatus.FORBIDDEN and _is_of_one_object(code, text, param):
        return False
    return status in _ACCOUNT_STATUSES or _ACCOUNT_PHRASES.search(text) is not None


def _telling(code: str | None, message: str | None) -> tuple[str, str]:
    """Return the code in lower case, and the message if the code explains nothing, else an empty text."""
    code = (code or "").strip().lower()
    return code, "" if _EMPTY_CODE.fullmatch(code) is None else message or ""


def _is_of_one_object(code: str, text: str, param: str | None) -> bool:
    """Return whether a 403 is about one model or file: other ones may be allowed (console.groq.com/docs/model-permissions)."""
    return param in _LOST_FILE_PARAMS or bool(_MODEL_CODE.match(code) or _MODEL_PHRASES.search(text))


def _is_lost_file(code: str, text: str, message: str, param: str | None) -> bool:
    if _LOST_FILE_CODE.search(code):
        return True
    if _INSIDE_PHRASES.search(message):
        return False
    return param in _LOST_FILE_PARAMS or _LOST_FILE_PHRASES.search(text) is not None
