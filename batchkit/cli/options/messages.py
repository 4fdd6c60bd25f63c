"""The options of a question: which models are asked, and the messages and images that they get."""

from __future__ import annotations

from typing import Annotated

import typer

from batchkit.cli.options import completion

PANEL = "Requests"

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "--models",
        "-m",
        metavar="MODEL",
        help="The model to ask; several (with commas, or by repeating the option) act as several annotators.",
        rich_help_panel=PANEL,
        show_default=False,
        autocompletion=completion.chat_models,
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        "-p",
        metavar="TEXT",
        help="The user message, a Jinja2 template: {{ column }} is the row's own; @FILE reads it from a file. Required here or"
        " in the recipe.",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]
System = Annotated[
    str | None,
    typer.Option(
        "--system",
        metavar="TEXT",
        help="The system message, a template as well; @FILE reads it from a file.",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]
Prefill = Annotated[
    str | None,
    typer.Option(
        "--prefill",
        metavar="TEXT",
        help="How the answer begins, as a template; best with --stop.",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]
Messages = Annotated[
    str | None,
    typer.Option(
        "--messages",
        metavar="COLUMN",
        help="A column with conversations, lists of messages with role and content, which stand before the question.",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]
Samples = Annotated[
    int | None,
    typer.Option(
        "--samples",
        metavar="N",
        min=1,
        help="Answers per row and model; each counts as an annotator (default 1).",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]
Image = Annotated[
    list[str] | None,
    typer.Option(
        "--image",
        metavar="COLUMN",
        help="A column of images (addresses, paths of files below the table's folder, or bytes; lists too); up to 5 images go"
        " with a row.",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]
ShrinkImages = Annotated[
    bool,
    typer.Option(
        "--shrink-images",
        metavar="",
        help="Scale images down that are over 33 megapixels, or do not fit into a request of 4 MB; convert other formats, colours"
        " for print, and animations (their first picture).",
        rich_help_panel=PANEL,
    ),
]
AllowPaths = Annotated[
    bool,
    typer.Option(
        "--allow-paths",
        metavar="",
        help="Read images also from files outside of the table's folder (../, absolute paths, file: addresses, links that lead"
        " out): only for a table that you trust, because the files are sent to the provider.",
        rich_help_panel=PANEL,
    ),
]
