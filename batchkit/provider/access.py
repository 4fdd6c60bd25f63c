"""Checks of the API's address and key before the first request.

The key is checked here because the HTTP library quotes a malformed header in its error, and the header holds the key.
"""

from __future__ import annotations

import hashlib
import ipaddress

import httpx
from pydantic import SecretStr

from batchkit.errors import ConfigurationError


def parse_base_url(base_url: str, *, allow_insecure_http: bool) -> httpx.URL:
    """Parse the API's address.

    Raises ``ConfigurationError`` when it is malformed, carries a user name, a query or a fragment (they would be logged), or
    is ``http://`` to another machine without ``allow_insecure_http``: the key would be sent unencrypted.
    """
    url = _parse(base_url)
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError(
            "the base URL must start with https:// and name a host",
            hint="correct --base-url or BATCHKIT_BASE_URL, such as https://api.example.com/v1",
        )
    if url.userinfo or url.query or url.fragment:
        raise ConfigurationError("the base URL must not carry a user name, a password, a query or a fragment")
    try:
        url.host.encode("idna")
    except UnicodeError:
        raise ConfigurationError("the base URL names a host that cannot exist") from None
    if url.scheme == "http" and not allow_insecure_http and not is_loopback(url.host):
        raise ConfigurationError(
            f"http://{url.host} would carry the API key in the clear",
            hint="use https://, or set BATCHKIT_ALLOW_INSECURE_HTTP=true if the network to that host is safe",
        )
    return url


def is_loopback(host: str) -> bool:
    """Return whether ``host`` is this machine: 127.0.0.0/8, ::1, or a ``localhost`` name (RFC 6761, section 6.3)."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        name = host.lower().rstrip(".")
        return name == "localhost" or name.endswith(".localhost")


def reveal_key(api_key: SecretStr | str) -> str:
    """Return the key for a header, without surrounding blanks.

    Raises ``ConfigurationError`` when it is empty or has characters that no header may have (RFC 9110, section 5.5); the error does
    not quote it.
    """
    key = (api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key).strip()
    if not key:
        raise ConfigurationError("the API key is empty")
    if not all("!" <= character <= "~" for character in key):
        raise ConfigurationError("the API key holds a blank or a character outside ASCII", hint="copy it again")
    return key


def credential_digest(base_url: str, api_key: SecretStr | str) -> str:
    """Return 16 hex digits that identify a pair of address and key without revealing the key.

    A trailing slash, surrounding blanks and the case of the host make no difference.
    Raises ``ConfigurationError`` when ``base_url`` is malformed.
    """
    key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
    address = str(_parse(base_url)).rstrip("/")
    return hashlib.sha256(f"batchkit credential\n{address}\n{key.strip()}".encode()).hexdigest()[:16]


def _parse(base_url: str) -> httpx.URL:
    try:
        return httpx.URL(base_url.strip())
    except httpx.InvalidURL:
        # The library's message may quote a part of a password.
        raise ConfigurationError(
            "the base URL cannot be read",
            hint="correct --base-url or BATCHKIT_BASE_URL, such as https://api.example.com/v1",
        ) from None
