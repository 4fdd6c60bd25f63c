"""The proxy of the environment for an address: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY. Every client here asks it."""

from __future__ import annotations

import ipaddress
from urllib.request import getproxies

import httpx

from batchkit.provider.access import is_loopback


def proxy_of(url: httpx.URL) -> httpx.URL | None:
    """Return the proxy for ``url``, None for a direct connection. Loopback never has one: it would see the key.

    The rules are those of HTTPX (https://www.python-httpx.org/environment_variables/): the variable of the scheme, else ALL_PROXY;
    a name in NO_PROXY exempts itself and the names below it, ``.name`` only those below it, ``*`` everything.

    Raises ``httpx.InvalidURL`` for an address that cannot be read.
    """
    if is_loopback(url.host):
        return None
    settings = getproxies()
    if any(_exempts(name.strip().lower(), url) for name in settings.get("no", "").split(",")):
        return None
    address = settings.get(url.scheme) or settings.get("all")
    if not address:
        return None
    return httpx.URL(address if "://" in address else f"http://{address}")


def _exempts(name: str, url: httpx.URL) -> bool:
    if not name:
        return False
    if name == "*":
        return True
    scheme, separator, rest = name.rpartition("://")
    if separator and scheme not in {"all", url.scheme}:
        return False
    host, port = _split(rest)
    if port is not None and port != (url.port or {"http": 80, "https": 443}.get(url.scheme)):
        return False
    if separator or _is_address(host) or host == "localhost":
        return url.host == host
    return url.host.endswith(host) if host.startswith(".") else url.host == host or url.host.endswith(f".{host}")


def _split(name: str) -> tuple[str, int | None]:
    """Return the host, without the brackets of an IPv6 address, and the port."""
    if _is_address(name):
        return name, None
    host, separator, port = name.rpartition(":")
    if separator and port.isascii() and port.isdigit():
        return host.strip("[]"), int(port)
    return name.strip("[]"), None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
