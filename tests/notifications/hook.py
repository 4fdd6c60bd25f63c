"""A web hook on loopback that records its requests, with replies set by the test."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = "/T1/secret-part"


@dataclass
class Hook:
    """``replies`` are the next status codes, then 200; while ``is_hanging`` is set, no request is answered.

    With ``is_trickling``, a reply sends bytes forever and never ends.
    """

    url: str = ""
    replies: list[int] = field(default_factory=list)
    location: str = ""
    is_hanging: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    is_trickling: bool = False
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def reports(self) -> list[Any]:
        """Return the received reports, oldest first, including failed tries."""
        return [jsonl.loads(body) for body in self.bodies]

    @property
    def kinds(self) -> list[str]:
        """Return the kinds of the events, oldest first."""
        return [report["kind"] for report in self.reports]


@contextmanager
def running_hook() -> Iterator[Hook]:
    """Run a hook while the ``with`` block runs."""
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.paths.append(self.path)
            hook.headers.append(dict(self.headers))
            hook.bodies.append(body)
            if hook.is_hanging.is_set():
                hook.released.wait(60)
                return
            if hook.is_trickling:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not hook.released.wait(0.05):
                    self.wfile.write(b"-")
                return
            self.send_response(hook.replies.pop(0) if hook.replies else 200)
            if hook.location:
                self.send_header("Location", hook.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hook.url = f"http://127.0.0.1:{server.server_port}{PATH}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        hook.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
