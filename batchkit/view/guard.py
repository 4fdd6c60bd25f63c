"""Who may ask: pages of other sites may not, and beyond this machine only who knows the token.

A site in the same browser can send requests here, and can make a name of its own mean this machine (DNS rebinding); so the
name that was asked for (Host) and the site that asks (Origin, Sec-Fetch-Site) are checked, and each change needs a token that only
our own pages hold.
"""

from __future__ import annotations

import hmac
import re
import secrets
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: The header with the token of a change, as the script of our pages sends it.
CHANGE_HEADER: Final = "x-batchkit-change"
#: Cookies do not know ports: several pages on one host have each their own.
_COOKIE: Final = "batchkit_view_"
_TOKEN_BYTES: Final = 24
_READING: Final = frozenset({"GET", "HEAD"})
_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST: Final = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]]+))(?::\d{1,5})?")
_SAFE: Final = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Refuses what does not come from one of our pages, or from a person who typed the address.

    ``address_token`` is None on loopback. ``change_token`` is in every page of ours, and in no other.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._host = host.lower()
        self._is_local = is_loopback(host)
        self.address_token = None if self._is_local else secrets.token_urlsafe(_TOKEN_BYTES)
        self.change_token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._cookie = _COOKIE + secrets.token_hex(4)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it; all answers say how a browser must treat them."""
        if scope["type"] != "http":
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _SAFE.items():
                    headers[name] = value
            await send(message)

        refused = self._refusal(scope)
        await (refused or self._app)(scope, receive, send_safely)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            return _refused(f"{host[:100]!r} is not a name of this page: open the address that `batchkit view` printed")
        if scope["method"] not in _READING:
            return self._refusal_of_change(headers, host)
        if headers.get("sec-fetch-site") in {"cross-site", "same-site"} and headers.get("sec-fetch-mode") != "navigate":
            return _refused("another site may not read this page")
        return self._refusal_of_stranger(scope, headers)

    def _is_ours(self, host: str) -> bool:
        """Whether a Host is an address, which no site can claim, or a name of this machine. The port may be that of a tunnel."""
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = (match["six"] or match["name"]).lower()
        if self._is_local:
            return name in _LOCAL_NAMES or is_loopback(name)
        try:
            ip_address(name)
        except ValueError:
            return name in {"localhost", self._host, socket.gethostname().lower(), socket.getfqdn().lower()}
        return True

    def _refusal_of_change(self, headers: Headers, host: str) -> Response | None:
        origin = urlsplit(headers.get("origin", ""))
        if origin.netloc.lower() != host.lower():
            return _refused("a change must come from a page of this address")
        if not _equal(headers.get(CHANGE_HEADER, ""), self.change_token):
            return _refused("this page is of an earlier `batchkit view`: reload it")
        return None if self._is_known(headers) else _refused("the address lacks its token")

    def _refusal_of_stranger(self, scope: Scope, headers: Headers) -> Response | None:
        """Refuse who has no token. Who brings it in the address keeps it in a cookie, so that it is in no history of links."""
        if self._is_known(headers):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = dict(query).get("token", "")
        if self.address_token is None or not _equal(given, self.address_token):
            return _refused("the address lacks its token: open the one that `batchkit view` printed")
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        response = RedirectResponse(f"{scope['path']}?{rest}" if rest else scope["path"], status_code=303)
        response.set_cookie(self._cookie, self.address_token, httponly=True, samesite="strict")
        return response

    def _is_known(self, headers: Headers) -> bool:
        if self.address_token is None:
            return True
        kept = dict(part.strip().partition("=")[::2] for part in headers.get("cookie", "").split(";"))
        return _equal(kept.get(self._cookie, ""), self.address_token)


def _equal(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _refused(why: str) -> Response:
    return PlainTextResponse(f"refused: {why}\n", status_code=403)
