"""Kinds of Groq's refusals, read from status, code and message.

Groq documents few codes (console.groq.com/docs/errors, /docs/spend-limits: 400 ``blocked_api_access`` at a spend limit); the
words of other servers of the same shape are read as well.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from batchkit.models import RefusalKind

_ACCOUNT_STATUSES: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN})
_ACCOUNT_CODES: Final = frozenset(
    {
        "account_deactivated",
        "account_disabled",
        "access_terminated",
        "billing_hard_limit_reached",
        "billing_not_active",
        "blocked_api_access",
        "expired_api_key",
        "insufficient_balance",
        "insufficient_quota",
        "insufficient_credits",
        "invalid_api_key",
        "not_available_for_plan",
        "organization_restricted",
        "organization_suspended",
        "payment_required",
        "project_suspended",
        "spend_limit_exceeded",
        "spend_limit_reached",
    }
)
# A permission for one model says nothing of the others (console.groq.com/docs/model-permissions).
_MODEL_CODE: Final = re.compile(r"model[_ ]")
_ACCOUNT_WORDS: Final = re.compile(
    r"spend(?:ing)?[ _-]limit|blocked[ _]api[ _]access|api access (?:is|has been) blocked|billing (?:is not|not) active"
    r"|(?:organization|organisation|account|project) (?:has been |is )?(?:restricted|suspended|deactivated|disabled|blocked)"
    r"|insufficient (?:balance|quota|credits?|funds)|exceeded your current quota",
    re.IGNORECASE,
)
_LOST_FILE_PARAMS: Final = frozenset({"input_file_id", "file_id"})
_LOST_FILE_WORDS: Final = re.compile(
    r"(?:cannot|can't|can not|could not|couldn't|unable to) (?:find|locate|access|open|read|download) (?:the |your )?(?:input )?file"
    r"|(?:no such|missing) (?:input )?file|\bfile\b[^.]{0,80}\b(?:not[ _]found|does not exist|no longer exists)"
    r"|file[ _]not[ _]found",
    re.IGNORECASE,
)
_NO_ROOM_WORDS: Final = re.compile(
    r"token_limit_exceeded|too_many_(?:tasks|batches|requests)|too many (?:tasks|batches|requests)|rate[ _]limit|queue|capacity|enqueued"
    r"|quota|try again later|overloaded|temporarily unavailable",
    re.IGNORECASE,
)


def refusal_kind(  # noqa: PLR0911 - a list of rules, each of which decides
    *, status: int | None, code: str | None, message: str | None, param: str | None = None
) -> RefusalKind:
    """Return the kind of a refusal: of a call, of a whole batch, or of one line of its output.

    ``status`` is the HTTP status, None where there is none. A code that is known decides; the message is read only where
    the code says nothing.
    """
    code = (code or "").lower()
    words = message or ""
    if code in _ACCOUNT_CODES:
        return RefusalKind.ACCOUNT
    if status in _ACCOUNT_STATUSES:
        # 401 and 402 are about the account whatever else they say.
        is_of_a_model = status == HTTPStatus.FORBIDDEN and _MODEL_CODE.match(code) is not None
        return RefusalKind.CONTENT if is_of_a_model else RefusalKind.ACCOUNT
    if param in _LOST_FILE_PARAMS:
        return RefusalKind.LOST_FILE
    if _NO_ROOM_WORDS.search(code):
        return RefusalKind.NO_ROOM
    if _LOST_FILE_WORDS.search(code) or _LOST_FILE_WORDS.search(words):
        return RefusalKind.LOST_FILE
    if _ACCOUNT_WORDS.search(words):
        return RefusalKind.ACCOUNT
    if not _is_telling(code) and _NO_ROOM_WORDS.search(words):
        return RefusalKind.NO_ROOM
    is_about_lines = _CONTENT_WORDS.search(code) or _CONTENT_WORDS.search(words)
    return RefusalKind.CONTENT if is_about_lines else RefusalKind.UNCLEAR


# What lines are made of: whoever names one of these has read the file.
_CONTENT_WORDS: Final = re.compile(
    r"\blines?\b|custom[ _]?id|json|model|messages?\[|messages\.|'messages'|\burl\b|endpoint|\bmethod\b|\bbody\b|parameter|propert"
    r"|schema|duplicate|context[ _]length|max_tokens|\btokens\b|\brole\b|decommissioned|too large|too long|empty",
    re.IGNORECASE,
)
#: Codes that only repeat that there was an error.
_EMPTY_CODES: Final = frozenset(
    {
        "",
        "error",
        "unknown",
        "batch_failed",
        "invalid_request",
        "invalid_request_error",
        "bad_request",
        "server_error",
        "api_error",
    }
)


def _is_telling(code: str) -> bool:
    return code not in _EMPTY_CODES and not code.startswith("http_")
