"""Servers on loopback over databases of both kinds, and what asks them."""

from __future__ import annotations

import http.client
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import pytest

from batchkit.files import jsonl
from batchkit.settings import load_settings
from batchkit.view.server import ViewServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@dataclass
class Reply:
    """An answer of the server."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """Return the body as text."""
        return self.body.decode()

    @property
    def words(self) -> str:
        """Return the text of a page without its tags, style and script."""
        import html  # noqa: PLC0415 - here alone

        body = re.sub(r"<(style|script)>.*?</\1>", " ", self.text, flags=re.DOTALL)
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


class Browsing:
    """Asks a server as a browser does."""

    def __init__(self, server: ViewServer) -> None:
        self.server = server
        self.root = server.root

    def get(self, path: str, headers: Mapping[str, str] | None = None, **query: Any) -> Reply:
        """Ask for a page."""
        return self.ask("GET", f"{path}?{urlencode(query)}" if query else path, headers or {})

    def post(self, path: str, headers: Mapping[str, str] | None = None, **fields: Any) -> Reply:
        """Send a change as our own page does."""
        token = re.search(r'data-token="([^"]+)"', self.get("/").text)
        assert token
        given = {"Origin": self.root, "X-Batchkit-Change": token[1], **(headers or {})}
        return self.ask("POST", path, given, urlencode(fields))

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: str | None = None) -> Reply:
        """Send a request with these headers."""
        connection = http.client.HTTPConnection(urlsplit(self.root).netloc, timeout=60)
        try:
            connection.request(method, path, body=body, headers=dict(headers))
            reply = connection.getresponse()
            return Reply(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def value(self, reply: Reply) -> Any:
        """Read an answer that is JSON."""
        assert reply.headers["content-type"] == "application/json", reply.text
        return jsonl.loads(reply.body)


@contextmanager
def serving(home: Path, database_url: str, **more: Any) -> Iterator[Browsing]:
    """Serve a database on a free port of loopback; there is no key."""
    settings = load_settings(home=home, database_url=database_url)
    with ViewServer(settings, port=0, **more) as server:
        yield Browsing(server)


@pytest.fixture
def view(database_url, tmp_path) -> Iterator[Browsing]:
    """Return a server over the test's own database; runs once on each kind."""
    with serving(tmp_path / "home", database_url) as opened:
        yield opened


@pytest.fixture
def sqlite_view(sqlite_url, tmp_path) -> Iterator[Browsing]:
    """Return a server over a SQLite file, for what does not depend on the kind of database."""
    with serving(tmp_path / "home", sqlite_url) as opened:
        yield opened
