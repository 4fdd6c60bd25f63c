"""Synchronous calls: bodies, and a plain socket that sends exactly the bytes of a test."""

from __future__ import annotations

import socket
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

if TYPE_CHECKING:
    import httpx

    from tests.emulator.support import Client

MODEL = "openai/gpt-oss-20b"
CHAT = "/chat/completions"


def chat_body(text: str = "hello", **more: Any) -> dict[str, Any]:
    """Return a chat request."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


def ask(client: Client, text: str = "hello", *, name: str | None = None, **more: Any) -> httpx.Response:
    """Send a chat request; ``name`` is its name in the ledger."""
    headers = {} if name is None else {"x-client-request-id": name}
    return client.http.post(CHAT, json=chat_body(text, **more), headers=headers)


def statuses(client: Client, count: int, **more: Any) -> list[int]:
    """Send different chat requests one after the other, and return their statuses."""
    return [ask(client, f"question {number}", **more).status_code for number in range(count)]


def refusal(response: httpx.Response) -> dict[str, Any]:
    """Return the error of a refusal."""
    return dict(response.json()["error"])


def raw_request(body: bytes, *headers: str, path: str = "/openai/v1/chat/completions") -> bytes:
    """Return the bytes of a POST with a length."""
    return b"".join((raw_head(f"Content-Length: {len(body)}", *headers, path=path), body))


def raw_head(*headers: str, path: str = "/openai/v1/chat/completions", version: str = "1.1") -> bytes:
    """Return the head of a POST."""
    lines = (f"POST {path} HTTP/{version}", "Host: x", "Authorization: Bearer k", *headers)
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class RawConnection(AbstractContextManager["RawConnection"]):
    """A connection of one test."""

    def __init__(self, client: Client) -> None:
        address = urlsplit(client.emulator.base_url)
        self.socket = socket.create_connection((str(address.hostname), address.port or 0), timeout=10)
        self._received = b""

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def read(self) -> tuple[int, dict[str, str], bytes]:
        """Read one answer: its status, its headers and its body."""
        head = self._until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        while len(self._received) < int(headers["content-length"]):
            self._more()
        length = int(headers["content-length"])
        body, self._received = self._received[:length], self._received[length:]
        return int(first.split(" ")[1]), headers, body

    def read_continue(self) -> bytes:
        """Read an interim answer."""
        return self._until(b"\r\n\r\n")

    def rest(self) -> bytes:
        """Read until the server closes."""
        while data := self.socket.recv(65_536):
            self._received += data
        return self._received

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._received:
            self._more()
        head, _, self._received = self._received.partition(mark)
        return head

    def _more(self) -> None:
        data = self.socket.recv(65_536)
        assert data, f"the connection closed after {self._received!r}"
        self._received += data


RAW_CHAT = orjson.dumps(chat_body())
