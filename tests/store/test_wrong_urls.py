"""A URL that names something that does not exist is an error at once, without waiting; an unreachable server is an outage."""

from __future__ import annotations

import socket
import threading

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from batchkit.errors import ConfigurationError, StoreUnavailable
from batchkit.store.engine import Store
from tests.factories import add_workload


def read(url):
    """Open a store, and read something."""
    store = Store(url)
    try:
        with store.read() as connection:
            connection.execute(text("SELECT 1"))
    finally:
        store.close()


def changed(url, **parts):
    """Return a URL with some parts replaced."""
    return make_url(url).set(**parts).render_as_string(hide_password=False)


def assert_wrong(caught, words):
    """Check that an error says what is wrong with the URL, and what to do."""
    assert caught.value.exit_code == 2
    assert words in caught.value.message
    assert "BATCHKIT_DATABASE_URL" in (caught.value.hint or "")


def test_database_that_does_not_exist(postgres_url):
    """The server has no such database."""
    with pytest.raises(ConfigurationError) as caught:
        read(changed(postgres_url, database="no such database"))
    assert_wrong(caught, 'database "no such database" does not exist')
    assert "createdb" in (caught.value.hint or "")


def test_user_that_does_not_exist(postgres_url):
    """The server has no such user."""
    with pytest.raises(ConfigurationError) as caught:
        read(changed(postgres_url, username="nobody_of_that_name"))
    assert_wrong(caught, 'role "nobody_of_that_name" does not exist')


def test_host_that_does_not_exist():
    """The name does not resolve."""
    with pytest.raises(ConfigurationError) as caught:
        read("postgresql://me:secret@no-such-host.invalid/name")
    assert_wrong(caught, "no-such-host.invalid")
    assert "secret" not in caught.value.message


class Refusing:
    """A server that refuses every connection with an error in Postgres's wording."""

    def __init__(self, code, message):
        fields = b"".join(
            [b"S", b"FATAL\0", b"V", b"FATAL\0", b"C", code.encode(), b"\0", b"M", message.encode(), b"\0", b"\0"]
        )
        self._reply = b"E" + (len(fields) + 4).to_bytes(4, "big") + fields
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"postgresql://me:s3cr3t@127.0.0.1:{self._listener.getsockname()[1]}/name?sslmode=disable"

    def __enter__(self):
        threading.Thread(target=self._refuse, daemon=True).start()
        return self

    def __exit__(self, *_exception):
        self._listener.close()

    def _refuse(self):
        try:
            while True:
                client, _ = self._listener.accept()
                with client:
                    client.recv(4096)
                    client.sendall(self._reply)
        except OSError:
            return


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("28P01", 'password authentication failed for user "me"'),
        ("28000", 'no pg_hba.conf entry for host "127.0.0.1", user "me", database "name", no encryption'),
        ("28000", 'Peer authentication failed for user "me"'),
        ("28000", 'role "me" does not exist'),
        ("3D000", 'database "name" does not exist'),
        ("08P01", "no such database: name"),
        ("08P01", "no such user: me"),
        ("08P01", "bouncer config error"),
    ],
)
def test_refused_login_is_a_wrong_url(code, message):
    """In the wording of Postgres and of poolers."""
    with Refusing(code, message) as server, pytest.raises(ConfigurationError) as caught:
        read(server.url)
    assert_wrong(caught, message)
    assert "s3cr3t" not in caught.value.message


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("57P03", "the database system is starting up"),
        ("57P03", "the database system is shutting down"),
        ("57P03", "the database system is in recovery mode"),
        ("53300", "sorry, too many clients already"),
        ("53300", "remaining connection slots are reserved for roles with the SUPERUSER attribute"),
        ("08P01", "query_wait_timeout"),
    ],
)
def test_temporary_refusal_is_an_outage(code, message):
    """Such a refusal passes by itself."""
    with Refusing(code, message) as server, pytest.raises(StoreUnavailable) as caught:
        read(server.url)
    assert message in caught.value.message
    assert caught.value.exit_code == 4


def test_database_that_is_dropped_in_the_middle_is_an_outage(postgres_server):
    """The URL was right when the command began, and requests may have been sent by then, so it is no usage error."""
    name = postgres_server.create()
    store = Store(postgres_server.url_of(name))
    try:
        with store.read() as connection:
            connection.execute(text("SELECT 1"))
        postgres_server.drop(name)
        for _ in range(2):
            with pytest.raises(StoreUnavailable), store.read() as connection:
                connection.execute(text("SELECT 1"))
    finally:
        store.close()


def test_sessions_are_named_after_their_process(postgres_store):
    """An administrator sees program, host and process; a name given in the URL is kept."""
    with postgres_store.write() as connection:
        add_workload(connection)
        name = connection.execute(text("SHOW application_name")).scalar_one()
    assert name.startswith("batchkit ")
    given = Store(
        changed(
            postgres_store.url.render_as_string(hide_password=False),
            query={**postgres_store.url.query, "application_name": "mine"},
        )
    )
    with given.read() as connection:
        assert connection.execute(text("SHOW application_name")).scalar_one() == "mine"
    given.close()
