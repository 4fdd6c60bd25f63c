"""A walk through the commands of a README, one by one in this process, with a comparison of their output."""

from __future__ import annotations

import importlib
import re
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from batchkit.cli.app import app
from batchkit.emulator.scenarios.scenario import Scenario, load_scenario
from tests.readmes import ROOT, blocks, simple_commands

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from batchkit.emulator import Emulator

#: Verbs that run as a Prefect flow by default.
_IN_FLOWS = {"annotate", "cancel", "eval", "moderate", "resubmit", "run", "speak", "submit", "transcribe", "watch"}
#: Words of commands that need more than an emulator and a database.
_ELSEWHERE = ({"serve"}, {"view"}, {"eval", "--deploy"}, {"demo"})


def _parse(command: Any, words: list[str]) -> None:
    """Let the command parse its arguments without running: an unknown verb, option or value is an error."""
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    command.make_context(command.name, list(words))


def _parse_module(module: str, words: list[str]) -> None:
    main = importlib.import_module(f"{module}.__main__" if (ROOT / module.replace(".", "/")).is_dir() else module).main
    program = typer.Typer()
    program.command()(main)
    _parse(typer.main.get_command(program), words)


def _parse_prefect(words: list[str]) -> None:
    from prefect.cli._app import _app  # noqa: PLC0415 - takes a second to load, and Prefect has no other way in

    _app.parse_args(words, exit_on_error=False, print_error=False)


def _words_of(text: str) -> list[str]:
    # Times depend on the machine, and prices on the installed genai-prices.
    return re.sub(r"cost: .*", "cost", re.sub(r"done in \d+ s", "done", text)).split()


def shows(out: str, shown: str) -> bool:
    """Return whether the words of ``shown`` are in ``out``, one after another."""
    words, part = _words_of(out), _words_of(shown)
    return any(words[place : place + len(part)] == part for place in range(len(words)))


def _check_extras(requirement: str) -> None:
    there = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    name, _, extras = requirement.removesuffix("]").partition("[")
    assert name in {"groq-batchkit", "."}, requirement
    assert set(extras.split(",")) <= set(there), requirement


def _check(words: list[str]) -> None:
    """Check a command that no test should run against the files of the repository."""
    match words:
        case ["pip", "install", requirement]:
            _check_extras(requirement)
        case [".venv/bin/python" | "python", "-m", module, *rest]:
            _parse_module(module, rest)
        case ["prefect", *rest]:
            _parse_prefect(rest)
        case [".venv/bin/pytest", *rest]:
            assert all((ROOT / word).exists() for word in rest if word.startswith("tests")), rest
        case ["psql", *_, script]:
            assert (ROOT / script).exists(), script
        case [".", _] | ["kill", _] | ["sleep", _] | ["unset", *_]:
            pass
        case ["python3", "-m", "venv", _] | [".venv/bin/pip" | ".venv/bin/batchkit", *_]:
            pass  # tests/test_docs.py and .ci/run cover these
        case _:
            raise AssertionError(f"no test knows how to do {words}")


class Walk:
    """A walk through the commands of a README. ``out`` is the output so far."""

    def __init__(self, batchkit: Callable[..., Any], emulator: Emulator, environment: pytest.MonkeyPatch) -> None:
        self.out = ""
        self._batchkit = batchkit
        self._emulator = emulator
        self._environment = environment
        self._code = 0
        self._variables: dict[str, str] = {}

    def through(self, text: str) -> None:
        """Run each block in order, and compare the text that follows a command with its output."""
        for block in blocks(text):
            match block.language:
                case "sh":
                    for line in block.text.splitlines():
                        self.line(line)
                    self.end()
                case "python":
                    exec(block.text, {})  # noqa: S102 - our own text
                case "text":
                    # The demo's output and the state diagrams have their own tests.
                    if not self.out or shows(self.out, block.text):
                        continue
                    raise AssertionError(f"not printed:\n{block.text}\nbut:\n{self.out}")

    def play(self, scenario: Scenario) -> None:
        """Give the emulator this behaviour from now on."""
        self._emulator.set_scenario(scenario)

    def line(self, line: str) -> None:
        """Run one line of a shell."""
        if line.startswith(("seq ", "zcat ")):
            self._paste(line)
            return
        for words in simple_commands(line):
            self._do([re.sub(r"\$(\w+)", self._value, word) for word in words])

    def end(self) -> None:
        """Check that no command has failed unnoticed."""
        assert self._code == 0, self.out

    def _value(self, name: re.Match[str]) -> str:
        return self._variables.get(name[1], name[0])

    def _paste(self, line: str) -> None:
        if "batchkit" in line:
            line = line.replace("batchkit", f"{sys.executable} -m batchkit") + " --no-prefect"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def _do(self, words: list[str]) -> None:
        match words:
            case ["batchkit", *rest]:
                self.end()
                self._run(rest)
            case ["echo", "exit code $?"]:
                self.out += f"exit code {self._code}\n"
                self._code = 0
            case ["cp", "-r", folder, "."]:
                shutil.copytree(ROOT / folder, Path(folder).name)
            case ["cd", folder]:
                self._environment.chdir(folder)
            case ["export", *settings]:
                self._variables |= dict(setting.split("=", 1) for setting in settings)
            case ["sqlite3", file, query]:
                with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
                    assert connection.execute(query).fetchall(), query
            case _:
                _check(words)

    def _run(self, words: list[str]) -> None:
        if any(there <= set(words) for there in _ELSEWHERE):
            _parse(typer.main.get_command(app), words)
            return
        if words[0] == "emulator" and not any(word.startswith("--list") for word in words):
            _parse(typer.main.get_command(app), words)
            scenario = words[words.index("--scenario") + 1] if "--scenario" in words else None
            self.play(load_scenario(scenario))
            return
        words = [file for word in words for file in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]
        extra = ["--no-prefect"] if words[0] in _IN_FLOWS else ["--yes"] if words[0] == "clean" else []
        ended = self._batchkit(*words, *extra)
        # A command that is printed to be copied has what this walk adds.
        self.out += ended.out.replace(" --no-prefect", "")
        self._code = ended.code
        assert ended.code in {0, 3, 5}, f"batchkit {' '.join(words)}: {ended.out}{ended.err}"
