"""The page as a running server: in a thread, for the command line, beside a schedule, and for tests."""

from __future__ import annotations

import errno
import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

import uvicorn

from batchkit.errors import UsageError
from batchkit.view.app import View, make_app
from batchkit.view.guard import Guard
from batchkit.view.rendering import link

if TYPE_CHECKING:
    from batchkit.settings import Settings

DEFAULT_PORT: Final = 8766
_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 5.0


class ViewServer:
    """Serves the pages of a database from a thread between ``__enter__`` and ``__exit__``; ``port`` 0 takes a free one.

    Raises ``UsageError`` for an address that cannot be used, and ``ConfigurationError`` for the database's.
    """

    def __init__(self, settings: Settings, *, host: str = "127.0.0.1", port: int = DEFAULT_PORT) -> None:
        self._host = host
        self._port = port
        self._token: str | None = None
        self._view = View(settings)
        self._stack = ExitStack()

    @property
    def root(self) -> str:
        """Return the address without path and token."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def url_of(self, name: str | None = None) -> str:
        """Return the address to open, with its token if it has one: the first page, or that of a workload or an evaluation run.

        Raises ``UnknownWorkload`` for another name.
        """
        path = "/" if name is None else "/run" if self._view.is_run(name) else "/workload"
        return self.root + link(path, name=name, token=self._token)

    def __enter__(self) -> Self:
        """Start serving."""
        with ExitStack() as stack:
            listener = stack.enter_context(_listen(self._host, self._port))
            self._port = listener.getsockname()[1]
            view = self._view
            stack.callback(view.close)
            guard = Guard(make_app(view), self._host)
            view.change_token = guard.change_token
            self._token = guard.address_token
            server = _server(guard)
            thread = threading.Thread(
                target=server.run, kwargs={"sockets": [listener]}, name="batchkit-view", daemon=True
            )
            thread.start()

            def stop() -> None:
                view.changes.close()
                server.should_exit = True
                thread.join(_STOP_SECONDS)

            stack.callback(stop)
            if not server.accepting.wait(_START_SECONDS):
                raise UsageError(f"the page does not start at {self.root}")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop serving."""
        self._stack.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio disables Nagle's delay only for sockets that name TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="stop the program that listens there, or choose another port; --port 0 takes a free one"
            if error.errno == errno.EADDRINUSE
            else None,
        ) from error
    return listener


class _Server(uvicorn.Server):
    """A server that signals when it accepts connections, and leaves the signals of the process alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.accepting.set()


def _server(app: Guard) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
    )
