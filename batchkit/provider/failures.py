"""Failed exchanges as errors of ``batchkit.errors``, by what they prove.

=========================================================  =====================================================
what happened                                              what it becomes
=========================================================  =====================================================
ConnectError (refused, DNS, TLS, certificate),             ``ProviderUnreachable``: the request was never sent
ConnectTimeout, PoolTimeout, ProxyError,
UnsupportedProtocol, InvalidURL
any other transport error: ReadError, WriteError, ...      ``OutcomeUnknown``: some of it was sent
408, 425, 499, 5xx, any other unexpected status            ``OutcomeUnknown``
402, and any status with a message about the account       ``AccountRefused``
429, 498                                                   ``RateLimited``
no such path: ``unknown_url``, 405 for a POST              ``ProviderUnreachable``: the API is not at this address
404, 410 with an HTML page                                 ``OutcomeUnknown``: the API did not say that it is gone
other 4xx, 3xx                                             ``ProviderRefused`` and its kinds
=========================================================  =====================================================

The first row is complete: the library raises those errors only while it waits for or opens a connection; a kept-alive
connection is never opened again, so a reset there is a ReadError, WriteError or RemoteProtocolError. Those prove nothing for a
request with an effect: a server may process a request and die before it answers, and even a broken write may follow a body
that arrived completely.

By the standards 408 and 425 mean "not processed" (RFC 9110, section 15.5.9; RFC 8470, section 5.2), and 499 that a proxy gave up
waiting. But gateways send them for requests that they have forwarded, so they count as unknown.

For a call that must not happen twice (``must_be_certain``) three more kinds count as unknown: a redirect, because 303 follows a
*completed* POST (RFC 9110, section 15.4.4); 409, which may be about the object that the call has just made; and a 4xx whose body
is not a JSON object: the API did not write it, and a gateway may replace a reply after the request was processed.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx

from batchkit.errors import (
    AccountRefused,
    Forbidden,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    ProviderRefused,
    ProviderUnreachable,
    RateLimited,
    TooLarge,
    Unauthorized,
)
from batchkit.files.jsonl import MalformedJson, loads_leniently
from batchkit.models import RefusalKind
from batchkit.provider.headers import rate_limit_reset, retry_after
from batchkit.provider.retry import NotTheApi, TryAgain

if TYPE_CHECKING:
    from batchkit.provider.reading import Reply

_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)
_CAPACITY_EXCEEDED = 498  # not in the registry; console.groq.com/docs/flex-processing
_CLIENT_CLOSED_REQUEST = 499  # not in the registry; used by nginx and similar servers
_UNKNOWN_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, _CLIENT_CLOSED_REQUEST})
_RATE_LIMITED = frozenset({HTTPStatus.TOO_MANY_REQUESTS, _CAPACITY_EXCEEDED})
_MISSING = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_KINDS: dict[int, type[ProviderRefused]] = {
    HTTPStatus.UNAUTHORIZED: Unauthorized,
    HTTPStatus.FORBIDDEN: Forbidden,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.GONE: NotFound,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: TooLarge,
}

QUOTE_CHARS = 300
_SHORTEST_SECRET_CHARS = 8
_ENCODED_RUN = re.compile(r"[A-Za-z0-9+/=_-]{100,}")
# Also control characters and direction marks, which a terminal or a log viewer would interpret.
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")


@dataclass(frozen=True, slots=True)
class Refusal:
    """The content of an error body; None for absent members.

    ``hint`` is ours: what to do next. ``retry_after_seconds`` is a wait that the message names. ``kind`` is the kind of the
    refusal; ``is_unknown_path``: the API has no such path.
    """

    message: str | None = None
    code: str | None = None
    type: str | None = None
    param: str | None = None
    hint: str | None = None
    retry_after_seconds: float | None = None
    kind: RefusalKind = RefusalKind.CONTENT
    is_unknown_path: bool = False


#: Reads an error body: takes the status and the parsed JSON, None when it is not JSON. Each provider has its own.
Explain = Callable[[int, object], Refusal]


class Quoter:
    """Makes foreign text fit for a message: without the key and encoded payloads, one line, ~300 characters."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return "Quoter()"

    def __call__(self, text: str) -> str:
        """Return ``text`` without the key and long encoded runs, on one line, cut at the end."""
        # Before anything is cut: half a key would be a leak, too.
        if len(self._secret) >= _SHORTEST_SECRET_CHARS:
            text = text.replace(self._secret, "[key]")
        text = _ENCODED_RUN.sub(lambda run: f"[{len(run[0])} characters]", text)
        text = _BLANKS.sub(" ", text).strip()
        return text if len(text) <= QUOTE_CHARS else text[: QUOTE_CHARS - 3] + "..."

    def optional(self, text: str | None) -> str | None:
        """Quote a text that may be absent."""
        return None if text is None else self(text)


def from_transport(error: httpx.RequestError | httpx.InvalidURL, call: str, quote: Quoter) -> ProviderError | TryAgain:
    """Return the error for an exception of the HTTP library during ``call`` (such as ``POST /batches``)."""
    certificate = _is_certificate_error(error)
    cause = without_frames(error, quote)
    reason = f"{type(cause).__name__}: {cause}".removesuffix(": ")
    if isinstance(error, _NEVER_SENT):
        hint = "check the network, the proxy settings and the base URL"
        if certificate:
            hint = "the server's certificate is not trusted: check the clock, SSL_CERT_FILE and any proxy in between"
        elif isinstance(error, httpx.PoolTimeout):
            hint = "all connections were busy: allow fewer transfers at the same time"
        unreachable = ProviderUnreachable(f"{call}: no connection ({reason})", hint=hint)
        unreachable.__cause__ = cause
        return unreachable if certificate else TryAgain(unreachable)
    unknown = OutcomeUnknown(f"{call}: sent, but not answered ({reason})")
    unknown.__cause__ = cause
    return TryAgain(unknown)


def from_response(
    reply: Reply,
    call: str,
    *,
    explain: Explain,
    quote: Quoter,
    now: float,
    must_be_certain: bool,
    address_hint: str,
) -> ProviderError | TryAgain:
    """Return the error for a reply that is not a success. ``now`` is in Unix seconds.

    ``address_hint`` is the hint for replies that only a wrong address explains.
    """
    status = reply.status
    payload = parsed(reply)
    refusal = explain(status, payload)
    message = f"{call}: HTTP {status}{_details(reply, refusal, quote)}"
    if status in _UNKNOWN_STATUSES or not _is_refusal(status):
        after = retry_after(reply.headers, now=now)
        return TryAgain(OutcomeUnknown(message, hint=refusal.hint), after_seconds=after)
    if refusal.is_unknown_path or (status == HTTPStatus.METHOD_NOT_ALLOWED and call.startswith("POST ")):
        nowhere = ProviderUnreachable if isinstance(payload, dict) else OutcomeUnknown
        return NotTheApi(nowhere(message, hint=address_hint), repeats=False)
    # A 413 of a gateway means that the body is too large, as one of the API does.
    is_page = (
        is_html(reply.headers) and status >= HTTPStatus.BAD_REQUEST and status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    )
    if is_page and (must_be_certain or status in _MISSING):
        return NotTheApi(OutcomeUnknown(message, hint=address_hint), repeats=False)
    if must_be_certain and _is_uncertain(status, payload):
        return TryAgain(OutcomeUnknown(message, hint=refusal.hint))
    code, kind, param = quote.optional(refusal.code), quote.optional(refusal.type), quote.optional(refusal.param)
    if status in _RATE_LIMITED and refusal.kind is not RefusalKind.ACCOUNT:
        after = retry_after(reply.headers, now=now)
        if after is None:
            after = refusal.retry_after_seconds
        if after is None:
            after = rate_limit_reset(reply.headers, now=now)
        limited = RateLimited(
            message, status=status, code=code, type=kind, param=param, hint=refusal.hint, retry_after_seconds=after
        )
        return TryAgain(limited, after_seconds=after)
    refused = _KINDS.get(status, ProviderRefused)
    if (refusal.kind is RefusalKind.ACCOUNT) != issubclass(refused, AccountRefused):
        refused = AccountRefused if refusal.kind is RefusalKind.ACCOUNT else ProviderRefused
    hint = address_hint if is_page else refusal.hint
    if status < HTTPStatus.BAD_REQUEST:
        hint = "redirects are not followed, so that the key stays with its host: correct the base URL"
    error = refused(message, status=status, code=code, type=kind, param=param, hint=hint)
    return NotTheApi(error, repeats=False) if is_page else error


def unreadable(call: str, reply: Reply, quote: Quoter, *, address_hint: str) -> TryAgain:
    """Return the error for a success with a body that is not JSON."""
    message = f"{call}: HTTP {reply.status}, but its body is not JSON{_body_details(reply, quote)}"
    return NotTheApi(OutcomeUnknown(message, hint=address_hint if is_html(reply.headers) else None), repeats=True)


def is_html(headers: Mapping[str, str]) -> bool:
    """Return whether the reply is an HTML page: a gateway wrote it, never the API."""
    return "html" in headers.get("content-type", "").lower()


def without_frames(error: Exception, quote: Quoter) -> Exception:
    """Return a copy of a library's exception for use as a cause: without traceback and chain, its message quoted.

    The library's frames hold the request's headers; a traceback printed with its local variables would show the key.
    """
    # The message of a LocalProtocolError quotes the invalid header, which may be the one with the key.
    return type(error)("" if isinstance(error, httpx.LocalProtocolError) else quote(str(error)))


def _is_refusal(status: int) -> bool:
    return HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.INTERNAL_SERVER_ERROR


def _is_uncertain(status: int, payload: object) -> bool:
    return status < HTTPStatus.BAD_REQUEST or status == HTTPStatus.CONFLICT or not isinstance(payload, dict)


def _is_certificate_error(error: BaseException) -> bool:
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, ssl.SSLCertVerificationError):
            return True
        link = link.__cause__ or link.__context__
    return False


def parsed(reply: Reply) -> object:
    """Return the JSON of a reply's body; None when it is not JSON."""
    try:
        payload: object = loads_leniently(reply.content)
    except MalformedJson:
        return None
    return payload


def _details(reply: Reply, refusal: Refusal, quote: Quoter) -> str:
    if reply.redirect_target is not None:
        return f", a redirect to {quote(reply.redirect_target.partition('?')[0])}"
    if refusal.message:
        return f": {quote(refusal.message)}" + (f" ({quote(refusal.code)})" if refusal.code else "")
    return _body_details(reply, quote)


def _body_details(reply: Reply, quote: Quoter) -> str:
    if not reply.content.strip():
        return ", without a body"
    if is_html(reply.headers):
        return ", an HTML page: a gateway answered, not the API"
    return f": {quote(reply.content.decode(errors='replace'))}"
