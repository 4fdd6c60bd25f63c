"""A proxy to Postgres that can be cut silently: connections stay open, and no more data passes."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

from sqlalchemy.engine import make_url

_CHUNK_BYTES = 1 << 16


class CutPostgres:
    """Forwards connections to the Unix socket of ``url`` until ``cut`` is called; the property ``url`` leads through the proxy."""

    def __init__(self, url: str) -> None:
        self._given = make_url(url)
        self._is_cut = threading.Event()
        self._ends: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        # Closing the socket alone does not wake a thread in ``accept``.
        for end in (self._listener, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    @property
    def url(self) -> str:
        """Return the URL that leads through this proxy."""
        through = self._given.set(host="127.0.0.1", port=self._listener.getsockname()[1], query={"sslmode": "disable"})
        return through.render_as_string(hide_password=False)

    def cut(self) -> None:
        """Stop forwarding data, on existing and future connections."""
        self._is_cut.set()

    def _accept(self) -> None:
        folder = Path(str(self._given.query["host"]))
        # The end of the proxy closes the socket.
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(folder / ".s.PGSQL.5432"))
                self._ends += [client, server]
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        # Either end may hang up at any time.
        with suppress(OSError):
            while data := one.recv(_CHUNK_BYTES):
                if not self._is_cut.is_set():
                    other.sendall(data)
            if not self._is_cut.is_set():
                other.shutdown(socket.SHUT_RDWR)
