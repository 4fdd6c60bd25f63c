"""The options of the verbs that begin with a table: which rows, where they go, and the recipe file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from batchkit.cli.options import completion


class RowPolicy(StrEnum):
    """What becomes of rows that have no request."""

    ERROR = "error"
    SKIP = "skip"


Tables = Annotated[
    list[str],
    typer.Argument(
        metavar="TABLE",
        help="CSV, JSON Lines (both also .gz, .zst), Parquet or Arrow files, a folder of them, a dataset saved by Hugging Face's"
        " library, or a database URL with --query.",
        show_default=False,
    ),
]
Query = Annotated[
    str | None,
    typer.Option("--query", metavar="SQL", help="The rows to take, where TABLE is a database URL.", show_default=False),
]
Separator = Annotated[
    str | None,
    typer.Option(
        "--separator",
        metavar="SIGN",
        help="The sign between the cells of a CSV file (default: the one after sep= in its first line, a tab in .tsv, else the"
        " comma, semicolon or tab that its header has most often).",
        show_default=False,
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="COLUMN",
        help="A column whose values identify the rows; each must be unique (default the row's number).",
        show_default=False,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", min=1, help="Take only the first N rows.", show_default=False),
]
OnEmpty = Annotated[
    RowPolicy | None,
    typer.Option(
        "--on-empty",
        metavar="error|skip",
        help="Whether a row with nothing to ask refuses the table, or is skipped: it then has its row in the output, with the"
        " status skipped and no answer (default as --bad-rows).",
        show_default=False,
    ),
]
BadRows = Annotated[
    RowPolicy | None,
    typer.Option(
        "--bad-rows",
        metavar="error|skip",
        help="The same for every row that has no request: empty and repeated keys, images that cannot be read, requests that are"
        " too long (default error).",
        show_default=False,
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="NAME",
        help="The workload's name (default the table's with a digest of everything that makes the requests).",
        show_default=False,
        autocompletion=completion.workload_names,
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Where the table goes: .parquet, .csv, .jsonl, .arrow, or table:NAME in the results database"
        " (default NAME.annotated.parquet in the working directory).",
        show_default=False,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        metavar="",
        help="Check every row, show the requests of the first ones and what all would cost; send nothing.",
    ),
]
SubmitOnly = Annotated[
    bool,
    typer.Option("--submit-only", metavar="", help="Return once everything is submitted; the same command collects."),
]
RecipeFile = Annotated[
    Path | None,
    typer.Option(
        "--recipe",
        metavar="FILE",
        help="Read options from a YAML file; options on the command line beat it.",
        show_default=False,
    ),
]
PrintRecipe = Annotated[
    bool,
    typer.Option(
        "--print-recipe", metavar="", help="Print the options of this command as a file for --recipe; send nothing."
    ),
]
