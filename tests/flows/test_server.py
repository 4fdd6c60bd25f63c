"""Which Prefect server a process reports to, and the notes about it."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from batchkit.flows import configured
from batchkit.flows.temporary_server import TemporaryServerFailed


@pytest.fixture
def server():
    """Return the module, whose import loads Prefect."""
    from batchkit.flows import server  # noqa: PLC0415 - as above

    return server


@pytest.fixture
def started(server, monkeypatch, prefect_api):
    """Replace temporary servers with a list of those that were started."""
    prefect_api("")
    made: list[object] = []

    def start(_home):
        made.append(SimpleNamespace(api_url="http://127.0.0.1:1/api", wait_until_ready=lambda *_given, **_more: None))
        return made[-1]

    monkeypatch.setattr(server.TemporaryServer, "start", start)
    return made


def test_the_hint_about_a_permanent_server_is_shown_once_per_home(server, started, tmp_path):
    """Each of two commands starts its own server; only the first shows how to get a permanent one, in lines of 80 columns."""
    told: list[str] = []
    for home in (tmp_path, tmp_path, tmp_path / "other"):
        home.mkdir(exist_ok=True)
        choice = server.ServerChoice(home)
        assert choice.choose(on_note=told.append, is_leaving=threading.Event()) == "http://127.0.0.1:1/api"

    assert len(started) == 3
    assert len(told) == 4
    # The command can be pasted: it is not broken by the time of day or the edge of the terminal.
    assert told[1] == told[3] == "export PREFECT_API_URL=http://127.0.0.1:4200/api"


def test_a_server_that_does_not_start_is_tried_once(server, monkeypatch, prefect_api, tmp_path):
    """The reason is reported, and the next report does not try again."""
    prefect_api("")

    def fails(_home):
        raise TemporaryServerFailed("no port")

    monkeypatch.setattr(server.TemporaryServer, "start", fails)
    choice = server.ServerChoice(tmp_path)
    with pytest.raises(server.NoServer, match="could not be started: no port"):
        choice.choose(on_note=print, is_leaving=threading.Event())
    with pytest.raises(server.NoServer, match="is gone"):
        choice.choose(on_note=print, is_leaving=threading.Event())


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("profiles.toml", '[profiles.mine]\nPREFECT_API_URL = "http://host/api"\n', True),
        ("profiles.toml", "[profiles.mine]\n", False),
        (".env", "PREFECT_API_URL=http://host/api\n", True),
        ("prefect.toml", '[api]\nurl = "http://host/api"\n', True),
        ("pyproject.toml", '[tool.prefect.api]\nurl = "http://host/api"\n', True),
        ("pyproject.toml", "[tool.other]\n", False),
    ],
)
def test_a_configured_server_is_found_without_prefect(monkeypatch, tmp_path, name, text, expected):
    """It is configured in the environment, in a profile, or in a file of the project."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(text)
    assert configured.may_be_configured() is expected
    monkeypatch.setenv("PREFECT_API_URL", "http://host/api")
    assert configured.may_be_configured()
