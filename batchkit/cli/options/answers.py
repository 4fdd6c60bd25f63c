"""The options of the answers: the rules that they must keep, and how often a bad one is asked again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_PANEL = "Answer format"

Schema = Annotated[
    str | None,
    typer.Option(
        "--schema",
        metavar="FILE",
        help="JSON that a JSON Schema describes, formats included: a file, or a pydantic model by its path, "
        "package.module:Model. Nothing outside the schema is read.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Choices = Annotated[
    str | None,
    typer.Option(
        "--choices",
        metavar="A,B,C",
        help="One of these words, signs included.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Pattern = Annotated[
    str | None,
    typer.Option(
        "--pattern",
        metavar="REGEX",
        help="A text that a regular expression matches as a whole, within a second.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Number = Annotated[
    str | None,
    typer.Option(
        "--number",
        metavar="MIN..MAX",
        help="A number within bounds, either of which may be left out.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Tools = Annotated[
    Path | None,
    typer.Option(
        "--tools",
        metavar="FILE",
        help="Calls of tools, whose arguments conform: a JSON file with the list of tools, as the API takes it.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
ToolChoice = Annotated[
    str | None,
    typer.Option(
        "--tool-choice",
        metavar="WORD",
        help="auto, required, none, or the name of a tool.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Tries = Annotated[
    int | None,
    typer.Option(
        "--tries",
        metavar="N",
        min=1,
        help="How often a request is asked before a bad answer is its last: with more tokens when it was cut off, else with"
        " another seed (default 3).",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
NoInstruct = Annotated[
    bool,
    typer.Option(
        "--no-instruct",
        metavar="",
        help="Do not tell the model in the system message what the answer must be, where it takes no schema.",
        rich_help_panel=_PANEL,
    ),
]
