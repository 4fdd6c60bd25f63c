"""``moderate``: texts of a table, or answers of a workload, are safe or not."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from batchkit.cli.options import answers, completion, parsing
from batchkit.cli.options.flags import CutFlags, DriveFlags, TableFlags, spread
from batchkit.datasets import require_extra
from batchkit.errors import UsageError

TEXTS = "Texts to check"


class Side(StrEnum):
    """Who wrote a text."""

    PROMPT = "prompt"
    ANSWER = "answer"


class Verdict(StrEnum):
    """What a filter lets through."""

    SAFE = "safe"
    UNSAFE = "unsafe"


Tables = Annotated[
    list[str] | None,
    typer.Argument(metavar="TABLE", help="As for annotate; not with --workload.", show_default=False),
]
TextColumn = Annotated[
    str | None,
    typer.Option(
        "--text", metavar="COLUMN", help="The column with the texts.", rich_help_panel=TEXTS, show_default=False
    ),
]
OfWorkload = Annotated[
    str | None,
    typer.Option(
        "--workload",
        metavar="NAME",
        help="Check the answers of a finished workload instead of a table.",
        rich_help_panel=TEXTS,
        show_default=False,
        autocompletion=completion.workload_names,
    ),
]
As = Annotated[
    Side | None,
    typer.Option(
        "--as",
        metavar="prompt|answer",
        help="Whether the texts are what users ask or what an assistant answers (default prompt).",
        rich_help_panel=TEXTS,
        show_default=False,
    ),
]
PromptColumn = Annotated[
    str | None,
    typer.Option(
        "--prompt-column",
        metavar="COLUMN",
        help="With --as answer: the column with what the user had asked.",
        rich_help_panel=TEXTS,
        show_default=False,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="The guard model (default Llama Guard 4).",
        show_default=False,
        autocompletion=completion.guard_models,
    ),
]
Only = Annotated[
    Verdict | None,
    typer.Option("--only", metavar="safe|unsafe", help="Write only the rows with this verdict.", show_default=False),
]


@spread
def moderate(
    table: Tables = None,
    *,
    text: TextColumn = None,
    workload: OfWorkload = None,
    side: As = None,
    prompt_column: PromptColumn = None,
    only: Only = None,
    model: Model = None,
    tries: answers.Tries = None,
    rows: TableFlags,
    cut: CutFlags,
    flags: DriveFlags,
) -> None:
    """Check the texts of a table, or the answers of a workload, with Llama Guard.

    For each row the output says whether it is safe, and which categories it violates (S1 to S14), with their names. In a workload,
    only requests with an answer are checked; the output has their custom_id.

    The same command resumes; the exit codes are those of `annotate`.

    For example:

        batchkit moderate prompts.csv --text prompt --only unsafe -o flagged.csv
        batchkit moderate chats.csv --text said --as answer --prompt-column asked
        batchkit moderate --workload nightly
    """
    require_extra()
    from batchkit.annotation import presets  # noqa: PLC0415 - --help need not wait for what tables need
    from batchkit.cli.asking import ask  # noqa: PLC0415 - as above
    from batchkit.cli.options import recipes  # noqa: PLC0415 - as above

    asked = recipes.asked(
        "moderate",
        rows,
        text=text,
        model=model,
        is_answer=None if side is None else side is Side.ANSWER,
        prompt_column=prompt_column,
        only=only,
        tries=tries,
        max_cost=cut.max_cost,
        max_total_tokens=cut.max_total_tokens,
    )
    arguments = asked.of_requests
    _check_source(table, arguments.get("text"), workload, asked.rows)
    if workload is not None:
        arguments |= {"text": parsing.ANSWER_COLUMN, "is_answer": True}
    recipe = presets.moderation(arguments.pop("text"), **arguments)
    raise typer.Exit(ask(asked, recipe, table or (), answers_of=workload, cut=cut, flags=flags))


def _check_source(table: list[str] | None, text: str | None, workload: str | None, rows: TableFlags) -> None:
    if bool(table) == bool(workload):
        raise UsageError("give either a TABLE or --workload", hint="see `batchkit moderate --help`")
    if table and text is None:
        raise UsageError("--text is missing", hint="name the column that holds the texts")
    if workload and text is not None:
        raise UsageError("--text names a column of a table, and a workload has none", hint="leave it out")
    if workload and rows.query is not None:
        raise UsageError("--query asks a database, and the rows are a workload's answers", hint="leave it out")
    if workload and rows.separator is not None:
        raise UsageError("--separator is for CSV files, and the rows are a workload's answers", hint="leave it out")
