"""A proxy to Postgres that breaks at the worst moment: a COMMIT gets through, and its reply does not come back."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

from sqlalchemy.engine import make_url

_COMMIT = b"COMMIT\x00"
_CHUNK_BYTES = 1 << 16


class LossyPostgres:
    """Forwards connections to the Unix socket of ``url``; while ``is_losing``, some replies to commits get lost.

    The connection is lost with the reply. The distance between two losses grows by ``step``, so that everything gets through
    in the end. After ``with``, ``url`` leads through the proxy, and ``lost`` counts the lost replies.
    """

    def __init__(self, url: str, *, step: int) -> None:
        self._given = make_url(url)
        self._step = step
        self._next = step
        self._lock = threading.Lock()
        self._commits = 0
        self.lost = 0
        self.is_losing = False

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._listener.close()

    @property
    def url(self) -> str:
        """Return the URL that leads through this proxy."""
        through = self._given.set(host="127.0.0.1", port=self._listener.getsockname()[1], query={"sslmode": "disable"})
        return through.render_as_string(hide_password=False)

    def _accept(self) -> None:
        folder = Path(str(self._given.query["host"]))
        # The end of the proxy closes the socket.
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(folder / ".s.PGSQL.5432"))
                is_lost = threading.Event()
                threading.Thread(target=self._forth, args=(client, server, is_lost), daemon=True).start()
                threading.Thread(target=self._back, args=(server, client, is_lost), daemon=True).start()

    def _forth(self, client: socket.socket, server: socket.socket, is_lost: threading.Event) -> None:
        # Either end may hang up at any time.
        with suppress(OSError):
            while data := client.recv(_CHUNK_BYTES):
                if data.endswith(_COMMIT) and self._loses():
                    is_lost.set()
                server.sendall(data)
        _hang_up(server)

    def _back(self, server: socket.socket, client: socket.socket, is_lost: threading.Event) -> None:
        # As above.
        with suppress(OSError):
            # The data that arrives now answers the commit, so the commit is done.
            while (data := server.recv(_CHUNK_BYTES)) and not is_lost.is_set():
                client.sendall(data)
        for end in (client, server):
            _hang_up(end)
            end.close()

    def _loses(self) -> bool:
        with self._lock:
            self._commits += self.is_losing
            if not self.is_losing or self._commits < self._next:
                return False
            self.lost += 1
            self._next += self._step * (self.lost + 1)
            return True


def _hang_up(end: socket.socket) -> None:
    # The other end may have hung up already.
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
