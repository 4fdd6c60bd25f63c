"""Shell completion of workloads, scenarios and models, without side effects and without errors."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.main import get_command

import batchkit as package
from batchkit.cli import app as command_line
from batchkit.cli.options import completion
from batchkit.emulator import provider_names, scenario_names
from batchkit.store.engine import Store
from tests import factories
from tests.forked import ForkedCommand

NEWEST_FIRST = ["weekly", "nightly-2", "nightly-1"]


def asked(line):
    """Return the variables with which a shell asks for the completions of a line, whose last word is being typed."""
    return {
        "_BATCHKIT_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }


@pytest.fixture
def completed(tmp_path):
    """Return a function that returns the completions of a line and the content of stderr."""

    def run(line, **environment):
        given = {**os.environ, **asked(line), **environment}
        ended = ForkedCommand((), Path.cwd(), given, tmp_path / "printed").completed(60)
        return ended.stdout.split(), ended.stderr

    return run


def offered(verb, parameter, incomplete="", **params):
    """Return the completions of a parameter of a verb, when the command line has ``params`` already."""
    command = get_command(command_line.app).commands[verb]  # type: ignore[attr-defined] # the root is a group
    (found,) = [known for known in command.params if parameter in (known.name, *known.opts)]
    return [item.value for item in found.shell_complete(SimpleNamespace(params=params), incomplete)]


@pytest.fixture
def named(database_url, monkeypatch):
    """Point the environment to a database with three workloads."""
    store = Store(database_url)
    with store.write() as connection:
        for name in reversed(NEWEST_FIRST):
            factories.add_workload(connection, name)
    store.close()
    monkeypatch.setenv("BATCHKIT_DATABASE_URL", database_url)


@pytest.mark.usefixtures("named")
def test_a_shell_gets_the_names_of_workloads(completed):
    """The names that begin with the typed text are offered, newest first."""
    assert completed("batchkit status nightly") == (["nightly-2", "nightly-1"], "")


@pytest.mark.parametrize(
    ("verb", "parameter"),
    [
        *((verb, "name") for verb in ("status", "watch", "export", "report", "cancel", "resubmit", "clean")),
        *((verb, "--name") for verb in ("run", "submit", "annotate", "transcribe", "moderate")),
        ("moderate", "--workload"),
    ],
)
@pytest.mark.usefixtures("named")
def test_every_name_of_a_workload_is_completed(verb, parameter):
    """Every verb that takes a name completes it."""
    assert offered(verb, parameter) == NEWEST_FIRST
    assert offered(verb, parameter, "w") == ["weekly"]


@pytest.mark.usefixtures("named")
def test_the_database_is_the_one_on_the_command_line(completed, sqlite_template, tmp_path):
    """A flag before the name overrides the environment."""
    assert offered("status", "name", database_url=f"sqlite:///{sqlite_template}") == []
    assert completed(f"batchkit status --database-url sqlite:///{sqlite_template} nightly") == ([], "")
    assert offered("status", "name", home=tmp_path / "nowhere") == NEWEST_FIRST, "the URL beats the folder"


def test_completion_creates_nothing_and_prints_nothing(completed):
    """Without a database there are no names, no new folder, and no output on stderr, whatever the variables are."""
    before = list(Path().iterdir())
    assert completed("batchkit status n", BATCHKIT_WINDWO="48h") == ([], "")
    assert list(Path().iterdir()) == before


def test_reading_names_leaves_no_file_behind(completed, sqlite_template, tmp_path):
    """A folder that holds only a database holds only the database afterwards."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "batchkit.db").write_bytes(sqlite_template.read_bytes())
    assert completed(f"batchkit export --home {folder} n") == ([], "")
    assert [path.name for path in folder.iterdir()] == ["batchkit.db"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda: Path("batchkit.toml").write_text("[batchkit\n"),
        lambda: Path(".env").write_text("BATCHKIT_LEASE_SECONDS=soon\n"),
        lambda: Path("damaged.db").write_bytes(b"no database at all" * 1_000),
    ],
    ids=["settings file", "variable", "database"],
)
def test_errors_are_left_to_the_command(spoil, completed):
    """Completion offers no names and shows no traceback."""
    spoil()
    assert completed("batchkit status n", BATCHKIT_DATABASE_URL="sqlite:///damaged.db") == ([], "")


def test_a_database_that_does_not_answer_does_not_block_the_shell(monkeypatch):
    """Completion returns while the connection still waits for its first byte."""
    monkeypatch.setattr(completion, "_LONGEST_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/db"
        assert offered("status", "name", database_url=url) == []


def test_scenarios_are_completed():
    """The ready-made scenarios and the providers are offered; the shell itself completes files."""
    assert offered("emulator", "--scenario") == scenario_names()
    assert offered("emulator", "--provider") == provider_names()
    ended = subprocess.run(
        [sys.executable, "-c", "from batchkit.cli import main; main()"],
        capture_output=True,
        check=False,
        text=True,
        env={
            **os.environ,
            **asked("batchkit emulator --scenario expire"),
            "PYTHONPATH": str(Path(package.__file__).parent.parent),
        },
    )
    words = ended.stdout.split()
    assert (words, ended.stderr) == ([name for name in scenario_names() if name.startswith("expire")], "")
    assert words


def test_models_are_completed_by_verb():
    """Chats, transcripts and moderation have their own models; after commas the last one is completed."""
    assert offered("annotate", "--model", "openai/") == ["openai/gpt-oss-120b", "openai/gpt-oss-20b"]
    assert offered("annotate", "--model", "mine,qwen") == ["mine,qwen/qwen3-32b"]
    assert "whisper-large-v3" in offered("transcribe", "--model")
    assert not set(offered("transcribe", "--model")) & set(offered("annotate", "--model"))
    assert offered("moderate", "--model") == ["meta-llama/llama-guard-4-12b"]
