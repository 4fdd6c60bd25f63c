"""Printed commands can be pasted: they call the program as the user called it."""

from __future__ import annotations

import sys

import pytest

from batchkit.cli.options import common


@pytest.mark.parametrize(
    ("called", "words"),
    [
        ("batchkit", ["batchkit"]),
        (".venv/bin/batchkit", [".venv/bin/batchkit"]),
        ("/opt/app/bin/batchkit", ["/opt/app/bin/batchkit"]),
        ("/opt/lib/batchkit/__main__.py", [sys.executable, "-m", "batchkit"]),
        ("/usr/bin/pytest", ["batchkit"]),
    ],
)
def test_the_program_is_printed_as_it_was_called(monkeypatch, called, words):
    """It was called by its path, by its module, or by its name."""
    monkeypatch.setattr(sys, "argv", [called, "run"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert common.executable() == words
    assert common.Where().command("status", "my run").startswith(" ".join(words))


def test_a_program_on_the_path_is_printed_by_its_name(monkeypatch, tmp_path):
    """The name is enough, whatever path the shell resolved."""
    program = tmp_path / "batchkit"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(program), "run"])
    assert common.executable() == ["batchkit"]


@pytest.mark.parametrize(
    ("line", "verb"), [(("watch", "x"), "watch"), (("-v", "run", "in.jsonl"), "run"), ((), "batchkit")]
)
def test_the_verb_is_the_first_word_that_is_no_flag(line, verb):
    """Other processes show this verb as the command that works on a workload."""
    token = common.COMMAND_LINE.set(line)
    try:
        assert common.verb() == verb
    finally:
        common.COMMAND_LINE.reset(token)
