"""``speak``: the texts of a table become audio."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from batchkit.cli.options import answers, completion, tables
from batchkit.cli.options.flags import CutFlags, DriveFlags, TableFlags, spread
from batchkit.datasets import require_extra

SPEECH = "Speech"

TextColumn = Annotated[
    str | None,
    typer.Option(
        "--text",
        metavar="COLUMN",
        help="The column with the texts. Required here or in the recipe.",
        rich_help_panel=SPEECH,
        show_default=False,
    ),
]
Voice = Annotated[
    str | None,
    typer.Option(
        "--voice",
        metavar="VOICE",
        help="Who speaks, such as autumn, diana, hannah, austin, daniel or troy. Required here or in the recipe.",
        rich_help_panel=SPEECH,
        show_default=False,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="The speech model (default canopylabs/orpheus-v1-english).",
        rich_help_panel=SPEECH,
        show_default=False,
        autocompletion=completion.speaking_models,
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="wav|...",
        help="The format of the files, as far as the provider has it (default wav).",
        rich_help_panel=SPEECH,
        show_default=False,
    ),
]
Speed = Annotated[
    float | None,
    typer.Option(
        "--speed",
        metavar="X",
        help="1 is as spoken; not every model has it.",
        rich_help_panel=SPEECH,
        show_default=False,
    ),
]


@spread
def speak(
    table: tables.Tables,
    *,
    text: TextColumn = None,
    voice: Voice = None,
    model: Model = None,
    response_format: Format = None,
    speed: Speed = None,
    tries: answers.Tries = None,
    rows: TableFlags,
    cut: CutFlags,
    flags: DriveFlags,
) -> None:
    """Speak a text of each row of TABLE, and write one audio file for each row into the folder --output.

    The folder has a file for each row, named by --key, and table.parquet with the rows and the path, the bytes and the sha256
    of their files. Batches have no speech: the texts are sent one by one, as with --lane sync, at the price per character.

    The same command resumes; the exit codes are those of `annotate`.

    For example:

        batchkit speak lines.csv --text line --voice hannah --key id -o spoken
        batchkit speak lines.csv --text line --voice troy --dry-run
    """
    require_extra()
    from batchkit.annotation import presets  # noqa: PLC0415 - --help need not wait for what tables need
    from batchkit.annotation.spoken import table_in  # noqa: PLC0415 - as above
    from batchkit.cli.asking import ask  # noqa: PLC0415 - as above
    from batchkit.cli.options import recipes  # noqa: PLC0415 - as above

    asked = recipes.asked(
        "speak",
        rows,
        text=text,
        voice=voice,
        model=model,
        response_format=response_format,
        speed=speed,
        tries=tries,
        max_cost=cut.max_cost,
        max_total_tokens=cut.max_total_tokens,
    )
    asked.require("text", "--text")
    asked.require("voice", "--voice")
    arguments = asked.of_requests
    recipe = presets.speech(arguments.pop("text"), arguments.pop("voice"), **arguments)
    folder = asked.everything.get("output")
    if folder is not None and not asked.rows.print_recipe:
        asked = replace(asked, everything={**asked.everything, "output": table_in(folder)})
    raise typer.Exit(ask(asked, recipe, table, cut=cut, flags=flags))
