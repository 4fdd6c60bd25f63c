"""A loopback proxy in front of an emulator that sends one file too slowly to finish."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAUSE_SECONDS = 0.2


class Trickle:
    """A proxy that sends the first downloaded file at five bytes a second until ``released``, and everything else at once."""

    def __init__(self, base_url: str) -> None:
        behind = urlsplit(base_url)
        self._behind = f"{behind.hostname}:{behind.port}"
        self._lock = threading.Lock()
        self._slow_path: str | None = None
        #: Set when the first byte of the slow file has been sent.
        self.began = threading.Event()
        self.released = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self.server.server_address[1]}{behind.path}"

    def is_slow(self, path: str) -> bool:
        """Return whether this is the slow file."""
        with self._lock:
            if path.endswith("/content") and self._slow_path is None:
                self._slow_path = path
            return path == self._slow_path and not self.released.is_set()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        trickle = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_arguments: Any) -> None:
                """Print nothing."""

            def do_GET(self) -> None:
                """Forward a call."""
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                connection = HTTPConnection(trickle._behind, timeout=60)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                data = answer.read()
                connection.close()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in {"transfer-encoding", "content-length", "connection", "date", "server"}:
                        self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                if self.command == "GET" and trickle.is_slow(self.path):
                    self._send_slowly(data)
                else:
                    self.wfile.write(data)

            def _send_slowly(self, data: bytes) -> None:
                sent = 0
                try:
                    while sent < len(data) and not trickle.released.is_set():
                        self.wfile.write(data[sent : sent + 1])
                        self.wfile.flush()
                        sent += 1
                        trickle.began.set()
                        trickle.released.wait(_PAUSE_SECONDS)
                    self.wfile.write(data[sent:])
                except OSError:
                    self.close_connection = True

            do_POST = do_DELETE = do_GET  # noqa: N815 - http.server sets these names

        return Handler


@contextmanager
def trickling(base_url: str) -> Iterator[Trickle]:
    """Run the proxy in front of ``base_url``."""
    trickle = Trickle(base_url)
    thread = threading.Thread(target=trickle.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield trickle
    finally:
        trickle.released.set()
        trickle.server.shutdown()
        trickle.server.server_close()
        thread.join()
