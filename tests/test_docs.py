"""What the README says is run: its commands, what they print, and what a wheel carries."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from batchkit.cli.app import run_command
from tests.workloads import chat_line, write_lines

if TYPE_CHECKING:
    from tests.commands import Command

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_two_lines_do_all_the_setting_up():
    """The README's first two commands each make their own environment: one runs the demo, one the tests."""
    demo, tests = (block.strip() for block in _blocks("sh")[:2])

    assert demo == "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/batchkit demo"
    assert tests == "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/pytest"


def test_the_demo_prints_what_the_readme_shows(tmp_path, monkeypatch):
    """The demo's last words are the README's, line by line; only a run's own timing may differ."""
    monkeypatch.chdir(tmp_path)
    # On the path, as in an environment that is active: the commands that it prints begin as this one does.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")

    done = subprocess.run(["batchkit", "demo"], capture_output=True, text=True, timeout=110, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == _blocks("text")[0].split()


def _commands() -> list[list[str]]:
    """Find every command that the README's table and shell blocks name."""
    in_table = re.findall(r"`((?:zcat [^`]*)?batchkit [^`]+)`", README)
    in_blocks = [line for block in _blocks("sh") for line in block.splitlines() if line.startswith("batchkit ")]
    return [shlex.split(text.replace("\\|", "|").split("|")[-1]) for text in in_table + in_blocks]


@pytest.mark.parametrize("command", _commands(), ids=" ".join)
def test_every_command_of_the_readme_is_one(command, capfd):
    """Each verb and option that the README names exists."""
    words = [word for word in command[1:] if not word.startswith("-")]
    verbs = words[:2] if words[0] == "db" else words[:1]

    assert run_command([*verbs, "--help"]) == 0

    told = capfd.readouterr().out
    for option in [word for word in command if word.startswith("--")]:
        assert option in told, f"{option} is not an option of {verbs}"


def test_the_commands_of_the_readme_work_one_after_the_other(start_command):
    """A newcomer who types the README's table from top to bottom gets through."""
    command: Command = start_command()
    write_lines(command.folder / "requests.jsonl", [chat_line(f"row-{number}") for number in range(30)])

    expected = {
        "run requests.jsonl --dry-run": 0,
        "submit requests.jsonl --no-prefect": 0,
        "watch requests --no-prefect": 0,
        "run requests.jsonl --no-prefect": 0,
        "status": 0,
        "status requests --json": 0,
        "export requests results.csv": 0,
        "resubmit requests --failed --no-prefect": 0,
        "cancel requests --no-prefect": 0,
        "db check": 0,
        "db upgrade": 0,
        "clean requests --yes": 0,
    }
    for line, code in expected.items():
        done = command.run(*shlex.split(line))
        assert done.returncode == code, f"batchkit {line}: {done.stdout}{done.stderr}"
    assert (command.folder / "results.csv").read_text().count("succeeded") == 30


def test_a_wheel_carries_everything_and_needs_nothing_beside_it(tmp_path):
    """From an unpacked wheel the database is set up and the flows are found, whatever lies in the working directory."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    site, work = tmp_path / "site", tmp_path / "work"
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    for name in ("flows", "migrations"):
        (work / name).mkdir(parents=True)
        (work / name / "__init__.py").write_text("raise RuntimeError('the wrong folder')\n")

    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import batchkit, batchkit.flows, batchkit.flows.entry\n"
        "from batchkit.store import migrate\n"
        "from batchkit.cli import main\n"
        "assert batchkit.__file__.startswith(sys.argv[1]), batchkit.__file__\n"
        "assert batchkit.flows.__file__.startswith(sys.argv[1]), batchkit.flows.__file__\n"
        "assert str(migrate.migrations_directory()).startswith(sys.argv[1])\n"
        "import batchkit.reports.page as page; page._environment().get_template('page.html')\n"
        "sys.argv = ['batchkit', 'db', 'upgrade']; main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(site)], cwd=work, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert (work / ".batchkit" / "batchkit.db").exists()
