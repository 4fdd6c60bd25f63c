"""Help pages show every option in full in a terminal of 80 columns."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

import pytest
import typer
from typer.core import TyperArgument, TyperGroup
from typer.main import get_command

from batchkit.cli import app as command_line
from batchkit.cli.render.help_pages import VerbCommand


def all_commands():
    """Return the words of every command, of the root and of groups, with the command."""
    found = []
    left: list[tuple[tuple[str, ...], Any]] = [((), get_command(command_line.app))]
    while left:
        words, command = left.pop()
        found.append((words, command))
        if isinstance(command, TyperGroup):
            left += [((*words, name), child) for name, child in command.commands.items()]
    return found


def plain(page):
    """Return the text of a page as one line, without its frame."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", page).split())


COMMANDS = {" ".join(words) or "batchkit": (words, command) for words, command in all_commands()}


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_shown_in_full(batchkit, monkeypatch, name, width):
    """Its names, value and text are shown uncut at any sensible width; no line is wider than the terminal."""
    words, command = COMMANDS[name]
    monkeypatch.setenv("COLUMNS", str(width))
    page = batchkit(*words, "--help").out
    assert max(len(line.rstrip()) for line in page.splitlines()) <= width
    assert "…" not in page
    assert "<" not in page, "a type stands where a flag or a value's name should"
    text = plain(page)
    for parameter in command.params:
        assert plain(parameter.help) in text, parameter.name
        if isinstance(parameter, TyperArgument):
            assert parameter.metavar in text
            continue
        names = [*sorted(parameter.opts, key=len), *parameter.secondary_opts]
        assert ", ".join(names) + (f" {parameter.metavar}" if parameter.metavar else "") in text


def test_every_option_that_takes_a_value_names_it():
    """A flag takes none."""
    for name, (_, command) in COMMANDS.items():
        for parameter in command.params:
            assert bool(parameter.metavar) != bool(getattr(parameter, "is_flag", False)), (name, parameter.name)


class Colour(Enum):
    """Values of an option."""

    RED = "red"
    BLUE = "blue"


COLOUR = typer.Option(Colour.RED, "--colour", metavar="red|blue", help="Another.")


def page_of(verb, monkeypatch, capfd, *, width=80):
    """Render the help page of a verb defined by the test."""
    own = typer.Typer(add_completion=False)
    own.command(cls=VerbCommand)(verb)
    monkeypatch.setenv("COLUMNS", str(width))
    with pytest.raises(SystemExit):
        own(["--help"])
    return capfd.readouterr().out


def test_long_names_have_their_text_below_them(monkeypatch, capfd):
    """Short names have it beside them; both begin in one column."""

    def verb(
        short: int = typer.Option(3, "--short", metavar="N", help="Beside."),
        long: str = typer.Option(..., "--a-name-that-is-longer-than-the-column", metavar="TEXT", help="Below."),
        colour: Colour = COLOUR,
    ):
        """Do nothing."""

    lines = [line.strip("│ ").rstrip() for line in page_of(verb, monkeypatch, capfd).splitlines()]
    assert "--short N          Beside. (default 3)" in lines
    below = lines.index("--a-name-that-is-longer-than-the-column TEXT") + 1
    assert lines[below] == "Below. (required)"
    assert "--colour red|blue  Another. (default red)" in lines


def test_a_flag_and_its_opposite_are_both_named(monkeypatch, capfd):
    """Neither has a value or a default."""

    def verb(
        loud: bool | None = typer.Option(None, "--loud/--no-loud", help="How."),
        quick: bool = typer.Option(False, "--quick", "-q", help="Fast."),
    ):
        """Do nothing."""

    text = plain(page_of(verb, monkeypatch, capfd))
    assert "--loud, --no-loud How. " in text
    assert "-q, --quick Fast. " in text
