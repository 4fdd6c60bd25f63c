"""The text of the command line: verbs, options, help, errors, start-up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.text import Text
from typer.main import get_command

import batchkit as package
from batchkit.cli import app as command_line
from batchkit.cli.options import common
from batchkit.cli.render import console
from batchkit.errors import ConfigurationError, InputInvalid, InputProblem, StoreUnavailable
from batchkit.settings import Settings

VERBS = (
    "run",
    "submit",
    "watch",
    "status",
    "export",
    "report",
    "view",
    "eval",
    "runs",
    "compare",
    "annotate",
    "transcribe",
    "moderate",
    "cancel",
    "resubmit",
    "clean",
    "serve",
    "doctor",
    "demo",
    "emulator",
)
WHERE = ("--home", "--database-url")
PROMISED = {
    "run": (
        *("--name", "--output", "--window", "--max-window", "--shard-lines", "--shard-bytes", "--max-attempts"),
        *("--max-expiries", "--poll-interval", "--timeout", "--dry-run", "--json", "--no-prefect", "--verbose"),
        *("--on-finish", "--base-url", "--accept-other-key", *WHERE),
    ),
    "submit": ("--name", "--window", "--shard-lines", "--dry-run", "--json", "--no-prefect", "--timeout", *WHERE),
    "watch": (
        "--on-finish",
        "--json",
        "--timeout",
        "--poll-interval",
        "--no-prefect",
        "--accept-other-key",
        "--base-url",
        *WHERE,
    ),
    "status": ("--json", "--exit-code", "--history", *WHERE),
    "export": ("--scored", "--raw-csv", *WHERE),
    "eval": ("--run", "--against", "--report", "--deploy", *WHERE),
    "runs": ("--limit", "--json", *WHERE),
    "compare": ("--json", *WHERE),
    "report": ("--output", "--rows", "--open", *WHERE),
    "view": ("--port", "--host", "--open", *WHERE),
    "annotate": (
        *("--prompt", "--system", "--schema", "--choices", "--pattern", "--number", "--tools", "--model", "--samples"),
        *("--image", "--shrink-images", "--key", "--limit", "--query", "--tries", "--review", "--dry-run", "--output"),
        *("--submit-only", "--no-prefect", "--timeout", "--json", "--recipe", "--print-recipe", *WHERE),
    ),
    "transcribe": ("--recipe", "--audio", "--translate", "--language", "--timestamps", "--dry-run", "--output", *WHERE),
    "moderate": ("--recipe", "--text", "--workload", "--only", "--as", "--dry-run", "--output", *WHERE),
    "cancel": ("--wait", "--json", *WHERE),
    "resubmit": ("--failed", "--no-wait", "--json", *WHERE),
    "clean": ("--keep-results", "--yes", *WHERE),
    "serve": ("--interval", "--view", "--on-finish", *WHERE),
    "doctor": ("--json", *WHERE),
    "demo": ("--home", "--no-prefect"),
    "emulator": (
        *("--host", "--port", "--scenario", "--speed", "--directory", "--api-key", "--provider"),
        *("--list-scenarios", "--list-faults"),
    ),
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_its_options(batchkit, verb):
    """The help has a paragraph, examples that begin with the verb, and every promised option."""
    ended = batchkit(verb, "--help")
    assert ended.code == 0
    assert "For example:" in ended.out
    assert f"batchkit {verb}" in ended.out
    for option in PROMISED[verb]:
        assert option in ended.out


def test_the_examples_of_the_help_can_be_pasted_from_a_terminal_of_80_columns():
    """No example is broken across lines, which a shell would take for two commands."""
    root = get_command(command_line.app)
    for name, verb in root.commands.items():  # type: ignore[attr-defined] # the root is a group
        for example in (line for line in verb.help.splitlines() if line.startswith("  [cyan]")):
            assert len(Text.from_markup(example)) < 79, (name, example)


@pytest.mark.parametrize("width", ["40", "80", "120"])
def test_help_fits_the_terminal(batchkit, monkeypatch, width):
    """This includes narrow terminals."""
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setenv("TERMINAL_WIDTH", width)
    assert max(len(line.rstrip()) for line in batchkit("run", "--help").out.splitlines()) <= int(width)


def test_every_option_has_a_help_text():
    """The help text of every option of every verb ends like a sentence."""
    root = get_command(command_line.app)
    for name, verb in root.commands.items():  # type: ignore[attr-defined] # the root is a group
        for parameter in verb.params:
            if parameter.name != "help":
                assert parameter.help, (name, parameter.name)
                assert parameter.help.endswith("."), (name, parameter.name)


def test_the_defaults_in_the_help_are_those_of_the_settings(batchkit):
    """The help repeats numbers from the settings; the two must not diverge."""
    text = " ".join(batchkit("run", "--help").out.replace("│", " ").split())
    fields = Settings.model_fields
    for name in ("max_attempts", "max_expiries", "poll_interval_seconds"):
        assert f"(default {fields[name].default})" in text, name
    assert f"default {fields['home'].default})" in text


def test_all_verbs_are_listed(batchkit):
    """The list includes the verbs of ``db``."""
    text = batchkit("--help").out
    for verb in (*VERBS, "db", "provider"):
        assert f" {verb} " in text
    text = batchkit("db", "--help").out
    assert " upgrade " in text
    assert " check " in text
    assert " index " in text


def test_the_version_is_printed(batchkit):
    """Bug reports need ``--version``."""
    ended = batchkit("--version")
    assert (ended.code, ended.out) == (0, f"batchkit {package.__version__}\n")


@pytest.mark.parametrize("words", [["nonsense"], ["run"], ["run", "x.jsonl", "--nonsense"], ["export", "only-a-name"]])
def test_bad_usage_is_exit_code_2(batchkit, words):
    """Arguments that cannot be parsed are refused on stderr."""
    ended = batchkit(*words)
    assert ended.code == 2
    assert ended.out == ""
    assert "Usage" in ended.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", "."), "error: .: is a directory"),
        (("status", "--history", "3"), "error: --history shows the events of one workload"),
        (("run", "input.jsonl", "--base-url", "ftp://x"), "hint: correct --base-url or BATCHKIT_BASE_URL"),
        (("run", "input.jsonl", "--base-url", "http://x"), "set BATCHKIT_ALLOW_INSECURE_HTTP=true"),
        (("eval", "--deploy", "missing"), "error: the folder missing cannot be read: No such file or directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_slip_of_the_user_is_exit_code_2_and_says_what_is_wrong(batchkit, monkeypatch, words, told):
    """What is reported is the slip itself, and not what follows from it."""
    monkeypatch.setenv("GROQ_API_KEY", "any")
    ended = batchkit(*words)
    assert ended.code == 2, ended.err
    assert told in " ".join(ended.err.split())


#: The system refuses to say whether this is there, as for a path in a folder that is closed to the user.
_UNKNOWABLE = "x" * 300


@pytest.mark.parametrize(
    "words",
    [
        ("run", _UNKNOWABLE),
        ("annotate", _UNKNOWABLE, "--prompt", "x", "-m", "m"),
        ("annotate", f"sqlite:///{_UNKNOWABLE}", "--query", "SELECT 1", "--prompt", "x", "-m", "m"),
        ("status", "--home", _UNKNOWABLE),
        ("status", "--database-url", f"sqlite:///{_UNKNOWABLE}"),
        ("eval", "--deploy", _UNKNOWABLE),
        ("demo", "--no-prefect", "--home", _UNKNOWABLE),
        ("emulator", "--directory", _UNKNOWABLE, "--port", "0"),
    ],
    ids=" ".join,
)
def test_a_path_that_cannot_be_asked_about_is_no_bug(batchkit, monkeypatch, words):
    """The message has the system's reason."""
    monkeypatch.setenv("GROQ_API_KEY", "any")
    ended = batchkit(*words)
    assert ended.code in {2, 4}, ended.err
    assert "File name too long" in " ".join(ended.err.split())


def test_a_file_that_is_given_twice_is_named(batchkit, source, monkeypatch):
    """Also by a link. Otherwise each of its lines would be reported."""
    monkeypatch.setenv("GROQ_API_KEY", "any")
    link = source.with_name("link.jsonl")
    link.symlink_to(source)
    ended = batchkit("run", source, link)
    assert ended.code == 2
    assert f"error: {link}: the same file is given twice" in ended.err


def test_a_home_that_is_a_file_is_named(batchkit, source, monkeypatch):
    """The system's own message would be that the file exists."""
    monkeypatch.setenv("GROQ_API_KEY", "any")
    ended = batchkit("run", source, "--home", source)
    assert "input.jsonl is a file, not a folder" in ended.err


def test_the_usage_line_has_no_signs_of_a_choice(batchkit):
    """Words that must be given stand bare, others in brackets."""
    assert "batchkit export [OPTIONS] NAME OUT" in batchkit("export", "--help").out
    assert "batchkit run [OPTIONS] SOURCE..." in batchkit("run", "--help").out
    assert "batchkit moderate [OPTIONS] [TABLE]..." in batchkit("moderate", "--help").out
    assert "batchkit watch [OPTIONS] [NAME]" in batchkit("watch", "one", "two").err


def test_a_wrong_setting_is_exit_code_2(batchkit, source):
    """An unknown window is refused before anything is read."""
    ended = batchkit("run", source, "--window", "1h")
    assert ended.code == 2
    assert "error: a setting is wrong: window" in ended.err


def test_an_error_has_a_message_and_a_hint(capfd):
    """The message and the hint each have their own line."""
    console.complain(console.stderr(), ConfigurationError("there is no API key", hint="set GROQ_API_KEY"))
    assert capfd.readouterr().err == "error: there is no API key\nhint: set GROQ_API_KEY\n"


def test_an_invalid_input_shows_its_first_problems(capfd):
    """Twenty problems are shown with file and line, then the number of further ones."""
    problems = [InputProblem("x.jsonl", line, "custom_id is missing") for line in range(1, 51)]
    console.complain(console.stderr(), InputInvalid(problems, 1_234))
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "x.jsonl:1: custom_id is missing"
    assert lines[19] == "x.jsonl:20: custom_id is missing"
    assert lines[20] == "... and 1,214 more"
    assert lines[21] == "error: the input has 1,234 problems; nothing was sent"


def test_an_error_has_its_exit_code(batchkit, monkeypatch):
    """An unreachable store gives 4: the same command resumes later."""

    def fail(*_words, **_more):
        raise StoreUnavailable("the database is away", hint="run it again")

    monkeypatch.setattr("batchkit.api.existing.snapshots", fail)
    ended = batchkit("status")
    assert ended.code == 4
    assert "the database is away" in ended.err


def test_a_bug_is_exit_code_1_with_its_traceback_in_a_file(batchkit, monkeypatch, tmp_path):
    """The terminal gets a short message, and the file gets the traceback."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(common, "Where", None)
    ended = batchkit("status")
    assert ended.code == 1
    assert "this is a bug in batchkit: TypeError" in ended.err
    assert "Traceback" not in ended.err
    (log,) = tmp_path.glob("batchkit-*.log")
    assert str(log) in ended.err
    assert "Traceback" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_a_bug_shows_its_traceback_when_asked(batchkit, monkeypatch):
    """With -v the traceback is on the terminal."""
    monkeypatch.setattr(common, "Where", None)
    ended = batchkit("export", "a", "b.jsonl", "-v")
    assert ended.code == 1
    assert "Traceback" in ended.err


def start(*words, **environment):
    """Start the real command in its own process."""
    path = str(Path(package.__file__).parent.parent)
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )


_OTHER_PROVIDERS = "|".join(f"batchkit.provider.{name}" for name in ("profiles", "mistral", "openai.lines", "together"))


@pytest.mark.parametrize(
    ("words", "forbidden"),
    [("--help", "sqlalchemy|httpx|pydantic"), ("status", f"httpx|alembic|{_OTHER_PROVIDERS}")],
)
def test_help_and_status_load_only_what_they_need(words, forbidden, sqlite_url):
    """Prefect, the emulator's server and other slow imports stay out of quick commands."""
    code = (
        "import sys\n"
        "from batchkit.cli.app import run_command\n"
        f"run_command([{words!r}])\n"
        f"heavy = set(sys.modules) & set('prefect|uvicorn|fastapi|fsspec|{forbidden}'.split('|'))\n"
        "sys.exit(', '.join(heavy) or 0)\n"
    )
    ended = start("-c", code, BATCHKIT_SPOOL_URL="s3://bucket/folder", BATCHKIT_DATABASE_URL=sqlite_url)
    assert (ended.returncode, ended.stderr.replace(_HINT, "")) == (0, "")


_HINT = "hint: `batchkit run requests.jsonl` starts one\n"


def test_the_package_can_be_run_as_a_module():
    """``python -m batchkit`` is the same command with the same exit codes."""
    ended = start("-m", "batchkit", "--version")
    assert (ended.returncode, ended.stdout) == (0, f"batchkit {package.__version__}\n")
    assert start("-m", "batchkit", "export", "a", "b.jsonl").returncode == 2


def test_there_is_no_colour_without_a_terminal():
    """A pipe gets no escape sequences, and neither does a user who set NO_COLOR."""
    assert "\x1b" not in start("-m", "batchkit", "--help").stdout
    assert "\x1b[3" not in start("-m", "batchkit", "--help", NO_COLOR="1", FORCE_COLOR="1").stdout


def test_an_ascii_terminal_works():
    """Characters that the terminal's encoding lacks are replaced without an error."""
    ended = start("-m", "batchkit", "--help", PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert ended.returncode == 0
    assert ended.stdout.isascii()
