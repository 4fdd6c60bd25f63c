"""Text from providers and file names is shown on a terminal and never interpreted by it."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path

import pytest

from batchkit.cli.render import console
from batchkit.emulator.faults.batches import FailBatches, RenameStatus
from batchkit.emulator.faults.calls import RefuseCalls
from batchkit.emulator.faults.lines import FailLines
from batchkit.errors import UsageError
from batchkit.provider.failures import Quoter
from tests.workloads import chat_line, write_lines

# These set the title, clear the screen, move the cursor, colour by an 8-bit character, return to the start of the line and
# reverse the direction of writing; the last would be bold red if it were markup.
EVIL = "\x1b]0;owned\x07 \x1b[2J\x1b[1A \x9b31m \x00\x08\x7f over\rwritten \u202edesrever\u2066 [bold red]x[/bold red] [/] [link=file:///x]y"
RUN = ("--no-prefect", "-v", "--max-attempts", "1")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def obeyed(said):
    """Return the characters that a terminal would interpret, apart from colours."""
    return [
        char
        for char in _COLOURS.sub("", said)
        if (unicodedata.category(char) == "Cc" and char != "\n") or unicodedata.bidirectional(char) in _TURNING
    ]


@pytest.fixture
def shown(monkeypatch, batchkit):
    """Return a function that runs a command and returns its output, in colours as on a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")

    def run(*words):
        ended = batchkit(*words)
        assert "this is a bug" not in ended.err
        return ended.out + ended.err

    return run


def test_a_providers_messages_are_shown_literally(shown, open_emulator, source):
    """This covers every verb: refusals of requests and batches, statuses, and logs and tracebacks with -v."""
    open_emulator(
        FailLines(count=3, message=EVIL, code=EVIL, type=EVIL),
        FailBatches(batches=frozenset({2}), message=EVIL, code=EVIL),
        RenameStatus(shown=EVIL),
    )
    said = shown("run", source, *RUN, "--shard-lines", "10")
    assert "[bold red]x[/bold red]" in said
    assert "owned" in said
    said += shown("status", "input", "--history", "100") + shown("status") + shown("resubmit", "input", "--no-wait")
    assert said.count("[bold red]x") >= 4
    assert obeyed(said) == []


@pytest.mark.parametrize("operation", ["files.create", "batches.create"])
def test_a_refusal_is_shown_literally(shown, open_emulator, source, operation):
    """The message and the headers of an error response are covered."""
    headers = {"x-request-id": "id \x9b31m [bold red]"}
    open_emulator(RefuseCalls(on=(operation,), status=401, message=EVIL, code=EVIL, headers=headers))
    said = shown("run", source, *RUN)
    assert "[bold red]x[/bold red]" in said
    assert obeyed(said) == []


def test_file_names_are_shown_literally(shown, open_emulator):
    """Names of inputs, results and the home are covered, in errors, commands to copy and reports."""
    open_emulator()
    name = EVIL.replace("/", "|").replace("\x00", "")
    source = write_lines(Path(f"{name}.jsonl"), [chat_line("row-1")])
    torn = write_lines(Path(f"torn {name}.jsonl"), [b"{"])
    said = [
        shown("run", source, *RUN),
        shown("run", torn, *RUN, "--name", "torn"),
        shown("run", f"missing {name}", *RUN, "--name", "missing"),
        shown("run", source, *RUN, "--name", "plain", "--output", f"{name}.csv", "--home", name),
        shown("export", "plain", f"again {name}.csv", "--home", name),
        shown("export", "plain", f"{name}.unknown", "--home", name),
        shown("status", name),
        shown("status", "plain", "--home", name),
        shown("status", "nothing", "--home", name),
        shown("run", source, *RUN, "--name", "other", "--timeout", "0", "--home", name),
    ]
    assert ["[bold red]x" in part for part in said] == [True] * len(said)
    assert obeyed("".join(said)) == []


def test_custom_ids_and_models_are_shown_literally(shown, open_emulator, tmp_path):
    """Lines that are refused before anything is sent are quoted, not interpreted."""
    open_emulator()
    # Short, because long values are quoted only in part.
    evil = "[red]x\x1b[2J\x9b31m"
    lines = [
        chat_line(evil),
        {**chat_line("row"), "url": evil},
        {**chat_line("other"), evil: 1},
        chat_line("x", model=evil),
    ]
    said = shown("run", write_lines(tmp_path / "input.jsonl", lines), *RUN)
    said += shown("run", write_lines(tmp_path / "models.jsonl", lines[3:]), *RUN, "--dry-run")
    assert said.count("[red]x") >= 3
    assert obeyed(said) == []


def test_quoted_text_is_one_harmless_line():
    """Text for places other than our console, such as Prefect's logs, is made harmless where it is quoted."""
    quoted = Quoter("gsk_made_up")(EVIL)
    assert "[bold red]x[/bold red]" in quoted
    assert obeyed(quoted) == []
    assert "\n" not in quoted


def test_an_error_keeps_its_lines(capfd):
    """Our own line breaks survive, because a traceback is read line by line, and so do words of any language."""
    console.say(console.stderr(), "first\nsecond\tcolumn")
    console.complain(
        console.stderr(), UsageError("日本語 naïve \U0001f468\u200d\U0001f469\u200d\U0001f467 عربى", hint="[ok]")
    )
    assert capfd.readouterr().err == (
        "first\nsecond  column\nerror: 日本語 naïve \U0001f468\u200d\U0001f469\u200d\U0001f467 عربى\nhint: [ok]\n"
    )


def test_a_live_panel_is_not_disturbed(open_emulator, source):
    """On a real terminal, Rich moves the cursor itself, and no foreign text does."""
    emulator = open_emulator(FailLines(count=3, message=EVIL, code=EVIL), RenameStatus(shown=EVIL), speed=100_000)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "batchkit", "run", str(source), *RUN, "--output", "[bold red]z.csv"]
    environment = {**os.environ, "BATCHKIT_BASE_URL": emulator.base_url, "TERM": "xterm-256color"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    said = b""
    with suppress(OSError):  # a closed terminal raises this
        while chunk := os.read(ours, 1 << 16):
            said += chunk
    os.close(ours)
    assert process.wait(60) == 3
    text = said.decode()
    assert "\x1b[?25l" in text, "this was no terminal"
    assert "writing [bold red]z.csv" in _COLOURS.sub("", text)
    for sequence in ("\x1b]", "\x1b[2J", "\x9b", "\x08", "\x07", "\x00", "\u202e", "\u2066", "over\rwritten"):
        assert sequence not in text


def test_an_open_emulator_warns_on_the_terminal(tmp_path):
    """It warns when bound to all addresses; with the default address it does not."""
    said = {}
    for host in ("0.0.0.0", "127.0.0.1"):  # noqa: S104 - what is warned about
        command = [sys.executable, "-m", "batchkit", "emulator", "--host", host, "--port", "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"http://{host}:")
        process.send_signal(signal.SIGINT)
        _, said[host] = process.communicate(timeout=30)
    assert "warning" in said["0.0.0.0"]  # noqa: S104 - as above
    assert "anyone who can reach this address" in said["0.0.0.0"]  # noqa: S104 - as above
    assert "warning" not in said["127.0.0.1"]
