"""``batchkit view``, ``serve --view`` and ``db index`` as commands."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request

from batchkit.api import serving
from batchkit.cli.prefect import flows_entry
from batchkit.engine.observer import Observer
from batchkit.store import custom_id_index
from batchkit.store.engine import Store
from batchkit.view import server
from tests.factories import add_shard, add_workload

KEY = "gsk_a_key_that_must_not_be_shown"


def start(tmp_path, *words):
    """Start a command in a folder of its own, with a key in its environment."""
    return subprocess.Popen(
        [sys.executable, "-m", "batchkit", *words],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "GROQ_API_KEY": KEY, "HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_serves_until_it_is_stopped(tmp_path, sqlite_url):
    """It prints the address, begins with the workload that was named, shows no key, and ends at SIGTERM with 0."""
    store = Store(sqlite_url)
    with store.write() as connection:
        add_shard(connection, add_workload(connection, "nightly"))
    store.close()
    command = start(tmp_path, "view", "nightly", "--port", "0", "--database-url", sqlite_url)
    try:
        assert command.stdout is not None
        url = command.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url, timeout=30) as reply:  # noqa: S310 - our own address
            page = reply.read().decode()
        assert "nightly" in page
        assert KEY not in page
        command.send_signal(signal.SIGTERM)
        out, err = command.communicate(timeout=30)
    finally:
        command.kill()
    assert (command.returncode, out) == (0, "")
    assert "Traceback" not in err


def test_an_unknown_name_is_refused(batchkit, sqlite_url):
    """Before anything is served."""
    ended = batchkit("view", "nobody", "--port", "0", "--database-url", sqlite_url)
    assert ended.code == 2
    assert "there is no workload 'nobody'" in ended.err


def test_the_index_of_custom_ids_is_built_and_removed(batchkit, store, database_url):
    """Its size is said first; both can be repeated; on nothing there is nothing to build."""
    with store.write() as connection:
        add_shard(connection, add_workload(connection), lines=100)
    given = ("--database-url", database_url)
    built = batchkit("db", "index", *given)
    assert (built.code, "the index is built, about 4.6 kB" in built.out, "about 4.6 kB" in built.err) == (0, True, True)
    assert "the index was there" in batchkit("db", "index", *given).out
    with store.read() as connection:
        assert custom_id_index.exists(connection)
    for _ in range(2):
        assert "there is no index" in batchkit("db", "index", "--drop", *given).out
    with store.read() as connection:
        assert not custom_id_index.exists(connection)


def test_the_schedule_serves_the_page_beside_it(batchkit, monkeypatch, sqlite_url):
    """``serve --view`` has the page while it drives, and ends it with the schedule."""
    asked: list[str] = []
    replies: list[int] = []

    class Served(server.ViewServer):
        def __init__(self, settings):
            super().__init__(settings, port=0)

        def __enter__(self):
            opened = super().__enter__()
            asked.append(opened.root)
            return opened

    def serve(_settings, **_more):
        with urllib.request.urlopen(asked[0], timeout=30) as reply:  # noqa: S310 - our own address
            replies.append(reply.status)

    monkeypatch.setattr(flows_entry(), "open_mirror", lambda *_given, **_named: Observer())
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    monkeypatch.setattr(server, "ViewServer", Served)
    monkeypatch.setattr(serving, "serve", serve)
    ended = batchkit("serve", "--view", "--database-url", sqlite_url)
    assert ended.code == 0, ended.err
    assert replies == [200]
    assert f"live page: {asked[0]}" in ended.err
