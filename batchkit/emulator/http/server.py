"""The emulator as a running server: in a thread for tests, or in the foreground for the command line."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import threading
import time
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ClassVar, Self

import uvicorn

from batchkit.emulator.dialects.providers import DEFAULT_PROVIDER, find_dialect
from batchkit.emulator.http.app import make_app
from batchkit.emulator.http.protocol import SynchronousProtocol
from batchkit.emulator.http.synchronous import Synchronous
from batchkit.emulator.scenarios.scenario import Scenario, load_scenario
from batchkit.emulator.state.execution import Engine
from batchkit.emulator.state.ledger import Ledger, take_ledger
from batchkit.emulator.state.world import World
from batchkit.errors import BatchkitError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

    from starlette.types import Scope

    from batchkit.emulator.contract.rates import PlanName

_log = logging.getLogger(__name__)

DEFAULT_SPEED = 3_600.0
"""A provider hour passes in a real second, a 24h window in 24 seconds."""

_START_SECONDS = 30.0
_GRACEFUL_SECONDS = 1.0
_SHUTDOWN_TICK_SECONDS = 0.002
_STOP_SECONDS = 10.0


class EmulatorNotStarted(BatchkitError):
    """The address cannot be used, or the server did not start."""

    exit_code: ClassVar[int] = 2


class _OpenConnections:
    """The transports of the open connections, so that a fault can break one."""

    def __init__(self) -> None:
        self._by_client: dict[tuple[str, int], asyncio.Transport] = {}

    def transport(self, scope: Scope) -> asyncio.Transport | None:
        client = scope.get("client")
        return None if client is None else self._by_client.get((client[0], client[1]))

    def protocol(self, answering: Synchronous) -> type[SynchronousProtocol]:
        """Return a protocol class that enters its connections here, and whose synchronous calls are answered by ``answering``."""
        by_client = self._by_client

        class TrackedProtocol(SynchronousProtocol):
            synchronous = answering

            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn narrows asyncio's type the same way
                super().connection_made(transport)
                if self.client is not None:
                    by_client[self.client] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                if self.client is not None:
                    by_client.pop(self.client, None)
                super().connection_lost(exc)

        return TrackedProtocol


class Emulator:
    """A batch API on loopback, served from a thread between ``__enter__`` and ``__exit__``: Groq's, or another provider's.

    ``directory`` keeps everything, so that another emulator on the same directory continues from there; without it, the
    emulator uses a temporary directory that is deleted afterwards. ``scenario`` is a ready-made name, a ``.toml`` or ``.json``
    file or a ``Scenario``; None keeps the scenario that the directory was last served with, at first ``clean``. ``speed`` is the
    number of provider seconds in a real second. ``port`` 0 takes a free one. With ``api_key`` None any key is accepted.
    Requests to models that are not listed are answered 404 model_not_found, unless ``any_model`` is set.
    ``provider`` is one of ``provider_names()``; None is the one that the directory was last served as, at first ``groq``.
    ``plan`` is the account's (free or developer), for scenarios that name none; None has no short limits and refuses nothing.
    """

    def __init__(
        self,
        directory: Path | None = None,
        scenario: Scenario | str | Path | None = None,
        *,
        speed: float = DEFAULT_SPEED,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str | None = None,
        any_model: bool = False,
        provider: str | None = None,
        plan: PlanName | None = None,
    ) -> None:
        self._given_directory = directory
        self._scenario = None if scenario is None else load_scenario(scenario)
        self._speed = speed
        self._host = host
        self._port = port
        self._accepted_key = api_key
        self._any_model = any_model
        self._provider = provider
        self._plan = plan
        self.dialect = find_dialect(provider or DEFAULT_PROVIDER)
        self.api_key = api_key or self.dialect.default_key
        self._stack = ExitStack()
        self._world: World | None = None

    @property
    def world(self) -> World:
        """Return the state of the server; only available while it runs."""
        if self._world is None:
            raise EmulatorNotStarted("the emulator is not running")
        return self._world

    @property
    def directory(self) -> Path:
        """Return the directory that keeps everything."""
        return self.world.directory

    @property
    def root_url(self) -> str:
        """Return the base URL for SDKs that add the path themselves: groq, together, mistralai."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def base_url(self) -> str:
        """Return the base URL of the API, for the openai SDK and plain HTTP clients."""
        return self.root_url + self.dialect.base_path

    def __enter__(self) -> Self:
        """Start serving. Raises ``EmulatorNotStarted`` or ``DirectoryInUse``."""
        with ExitStack() as stack:
            listener = stack.enter_context(_listen(self._host, self._port))
            self._port = listener.getsockname()[1]
            directory = self._given_directory or Path(
                stack.enter_context(TemporaryDirectory(prefix="batchkit-emulator-"))
            )
            self._world = World(
                directory,
                speed=self._speed,
                scenario=self._scenario,
                any_model=self._any_model,
                provider=self._provider,
                plan=self._plan,
            )
            stack.callback(self._close_world, self._world)
            self.dialect = self._world.dialect
            self.api_key = self._accepted_key or self.dialect.default_key
            connections = _OpenConnections()
            engine = Engine(self._world)
            engine.start()
            stack.callback(engine.stop)
            protocol = connections.protocol(Synchronous(self._world, self._accepted_key))
            server = _make_server(make_app(self._world, connections, self._accepted_key), protocol)
            _serve_in_thread(server, listener, stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving; what is committed stays in the directory."""
        self._stack.close()

    def _close_world(self, world: World) -> None:
        self._world = None
        world.close()

    def ledger(self, *, with_executions: bool = True) -> Ledger:
        """Return a snapshot of the ledger; leave the executions out if there are millions."""
        return take_ledger(self.world, with_executions=with_executions)

    def set_scenario(self, scenario: Scenario | str | Path | None) -> None:
        """Replace the scenario. Raises ``ScenarioError``."""
        self.world.set_scenario(load_scenario(scenario))


def _listen(host: str, port: int) -> socket.socket:
    try:
        if not _is_loopback(host):
            _log.warning(
                "the emulator listens on %s: anyone who can reach this address can use it and read what it holds", host
            )
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # asyncio disables Nagle's delay only for sockets that name TCP; with it every small answer takes 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise EmulatorNotStarted(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="stop the program that listens there, such as another emulator, or choose another port; 0 takes a free one"
            if error.errno == errno.EADDRINUSE
            else None,
        ) from error
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Server(uvicorn.Server):
    """A server that signals when it accepts connections, and that another thread can stop at once."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_asked = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self.accepting.set()

    async def main_loop(self) -> None:
        # uvicorn checks ten times a second whether it should end, which slows a test suite with many emulators.
        await self.on_tick(0)
        await self._stop_asked.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # For the same reason: uvicorn always sleeps a tenth of a second here.
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        deadline = time.monotonic() + _GRACEFUL_SECONDS
        while (state.connections or state.tasks) and time.monotonic() < deadline:  # noqa: ASYNC110 - uvicorn has no event for this
            await asyncio.sleep(_SHUTDOWN_TICK_SECONDS)
        for task in state.tasks:
            task.cancel()

    def stop(self) -> None:
        """End the server, from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop_asked.set)


def _make_server(app: object, protocol: type[SynchronousProtocol]) -> _Server:
    return _Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type] # uvicorn names ASGI's types by its own stubs
            http=protocol,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=60,
        )
    )


def _serve_in_thread(server: _Server, listener: socket.socket, stack: ExitStack) -> None:
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="emulator-http", daemon=True)
    thread.start()

    def stop() -> None:
        server.stop()
        thread.join(_STOP_SECONDS)

    stack.callback(stop)
    if not server.accepting.wait(_START_SECONDS):
        raise EmulatorNotStarted("the HTTP server did not start")


def serve(
    directory: Path | None = None,
    scenario: Scenario | str | Path | None = None,
    *,
    speed: float = DEFAULT_SPEED,
    host: str = "127.0.0.1",
    port: int = 0,
    api_key: str | None = None,
    any_model: bool = False,
    provider: str | None = None,
    plan: PlanName | None = None,
    on_ready: Callable[[Emulator], None] | None = None,
) -> None:
    """Serve until Ctrl-C or SIGTERM, then return; must be called from the main thread.

    ``on_ready`` gets the running emulator once it answers. The rest is as for ``Emulator``.
    """
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Emulator(
            directory,
            scenario,
            speed=speed,
            host=host,
            port=port,
            api_key=api_key,
            any_model=any_model,
            provider=provider,
            plan=plan,
        ) as emulator:
            if on_ready is not None:
                on_ready(emulator)
            stopping.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
