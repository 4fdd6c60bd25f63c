"""Tests with the real server process, which opens its port long before the slow part of its start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
from batchkit.flows.temporary_server import TemporaryServer, end_leftovers

from batchkit.owners import new_owner
from tests.flows.support import wait_until
from tests.processes import is_running

STARTER = """
    import sys
    from pathlib import Path
    from batchkit.flows.temporary_server import TemporaryServer

    server = TemporaryServer.start(Path(sys.argv[1]))
    print(server._process.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def command(tmp_path):
    """Start a command that has a temporary server; return its process and the server's process id."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(STARTER), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdin is not None
    server_pid = int(process.stdout.readline())
    yield process, server_pid
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    if is_running(server_pid):
        os.kill(server_pid, signal.SIGKILL)


def gone(pid):
    """Wait until a process is gone; return whether it was in time."""
    return wait_until(lambda: not is_running(pid))


def records(home):
    """Return the records of temporary servers."""
    return list((home / "prefect-servers").iterdir())


def test_the_server_ends_with_a_killed_command(command):
    """``kill -9`` of a command also ends its temporary server."""
    process, server_pid = command
    assert is_running(server_pid)

    process.kill()

    assert gone(server_pid)


def test_the_next_start_ends_a_leftover_server(command, tmp_path):
    """A server that could not notice that its command was killed is ended by the next start, and its record is deleted."""
    process, server_pid = command
    os.kill(server_pid, signal.SIGSTOP)
    process.kill()
    process.wait()
    assert is_running(server_pid)

    next_server = TemporaryServer.start(tmp_path)

    assert not is_running(server_pid)
    assert len(records(tmp_path)) == 1
    next_server.stop(0)
    assert records(tmp_path) == []


def test_a_leftover_server_is_ended_without_pidfd(command, tmp_path, monkeypatch):
    """Without pidfd, as on macOS, a process is identified by its start time."""
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    monkeypatch.delattr(signal, "pidfd_send_signal", raising=False)
    monkeypatch.setattr("psutil._psposix.can_use_pidfd_open", lambda: False)  # checked once per process
    process, server_pid = command
    os.kill(server_pid, signal.SIGSTOP)
    process.kill()
    process.wait()

    assert end_leftovers(tmp_path) == 1

    assert gone(server_pid)
    assert records(tmp_path) == []


def test_the_server_of_a_live_command_is_left_alone(command, tmp_path):
    """Only servers of dead commands are ended: a command beside this one keeps its server."""
    _process, server_pid = command

    assert end_leftovers(tmp_path) == 0
    assert is_running(server_pid)
    assert len(records(tmp_path)) == 1


def test_a_reused_process_id_is_left_alone(tmp_path):
    """A record whose process id now belongs to another process ends nothing, and is deleted."""
    stranger = subprocess.Popen(["sleep", "60"])
    host, namespace, pid, _start, random = new_owner().split("|")
    dead = f"{host}|{namespace}|{pid}|1|{random}"
    (tmp_path / "prefect-servers").mkdir()
    (tmp_path / "prefect-servers" / "0123abcd").write_text(f"{stranger.pid}\n{dead}\n")

    assert end_leftovers(tmp_path) == 0

    assert stranger.poll() is None
    assert records(tmp_path) == []
    stranger.kill()
    stranger.wait()


@pytest.mark.parametrize("text", ["", "nonsense", "12\n", "x\ny\n"])
def test_a_file_that_is_no_record_is_ignored(tmp_path, text):
    """A torn or foreign file among the records ends nothing and causes no error."""
    (tmp_path / "prefect-servers").mkdir()
    (tmp_path / "prefect-servers" / "torn").write_text(text)

    assert end_leftovers(tmp_path) == 0


def test_the_server_gets_no_secrets(tmp_path, monkeypatch):
    """The server's environment has neither the provider's key nor our database's address."""
    monkeypatch.setenv("GROQ_API_KEY", "gsk_made_up")
    monkeypatch.setenv("BATCHKIT_DATABASE_URL", "postgresql+psycopg://me:hunter2@host/db")
    server = TemporaryServer.start(tmp_path)

    environment = psutil.Process(server._process.pid).environ()
    server.stop(0)

    assert "gsk_made_up" not in str(environment)
    assert "hunter2" not in str(environment)
    assert "PATH" in environment
