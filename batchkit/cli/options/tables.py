"""The options of the verbs that begin with a table, each with its unit and default."""

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


class Weigh(StrEnum):
    """How votes are weighed."""

    GOLD = "gold"
    DAWID_SKENE = "dawid-skene"


REQUESTS = "Requests"
ANSWERS = "Answer format"
MODEL = "Model parameters"

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
        help="A column whose values name the rows, each its own (default the row's number).",
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
Tries = Annotated[
    int | None,
    typer.Option(
        "--tries",
        metavar="N",
        min=1,
        help="How often a request is asked before a bad answer is its last: with more tokens when it was cut off, else with"
        " another seed (default 3).",
        rich_help_panel=ANSWERS,
        show_default=False,
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "--models",
        "-m",
        metavar="MODEL",
        help="Who is asked; several, by commas or by repeating it, are as many annotators.",
        rich_help_panel=REQUESTS,
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
        rich_help_panel=REQUESTS,
        show_default=False,
    ),
]
System = Annotated[
    str | None,
    typer.Option(
        "--system",
        metavar="TEXT",
        help="The system message, a template as well; @FILE reads it from a file.",
        rich_help_panel=REQUESTS,
        show_default=False,
    ),
]
Prefill = Annotated[
    str | None,
    typer.Option(
        "--prefill",
        metavar="TEXT",
        help="How the answer begins, as a template; best with --stop.",
        rich_help_panel=REQUESTS,
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
        rich_help_panel=REQUESTS,
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
        rich_help_panel=REQUESTS,
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
        rich_help_panel=REQUESTS,
    ),
]
AllowPaths = Annotated[
    bool,
    typer.Option(
        "--allow-paths",
        metavar="",
        help="Read images also from files outside of the table's folder (../, absolute paths, file: addresses, links that lead"
        " out): only for a table that you trust, because the files are sent to the provider.",
        rich_help_panel=REQUESTS,
    ),
]
NoInstruct = Annotated[
    bool,
    typer.Option(
        "--no-instruct",
        metavar="",
        help="Do not tell the model in the system message what the answer must be, where it takes no schema.",
        rich_help_panel=ANSWERS,
    ),
]
Schema = Annotated[
    str | None,
    typer.Option(
        "--schema",
        metavar="FILE",
        help="JSON that a JSON Schema describes, formats included: a file, or a pydantic model by its path, "
        "package.module:Model. Nothing outside the schema is read.",
        rich_help_panel=ANSWERS,
        show_default=False,
    ),
]
Choices = Annotated[
    str | None,
    typer.Option(
        "--choices",
        metavar="A,B,C",
        help="One of these words, signs included.",
        rich_help_panel=ANSWERS,
        show_default=False,
    ),
]
Pattern = Annotated[
    str | None,
    typer.Option(
        "--pattern",
        metavar="REGEX",
        help="A text that a regular expression matches as a whole, within a second.",
        rich_help_panel=ANSWERS,
        show_default=False,
    ),
]
Number = Annotated[
    str | None,
    typer.Option(
        "--number",
        metavar="MIN..MAX",
        help="A number within bounds, either of which may be left out.",
        rich_help_panel=ANSWERS,
        show_default=False,
    ),
]
Tools = Annotated[
    Path | None,
    typer.Option(
        "--tools",
        metavar="FILE",
        help="Calls of tools, whose arguments conform: a JSON file with the list of tools, as the API takes it.",
        rich_help_panel=ANSWERS,
        show_default=False,
    ),
]
ToolChoice = Annotated[
    str | None,
    typer.Option(
        "--tool-choice",
        metavar="WORD",
        help="auto, required, none, or the name of a tool.",
        rich_help_panel=ANSWERS,
        show_default=False,
    ),
]
Review = Annotated[
    str | None,
    typer.Option(
        "--review",
        metavar="FILE",
        help="Write the rows that people should look at to a file of their own as well: annotators disagree, at most half of them answered, or none.",
        show_default=False,
    ),
]
Reviewed = Annotated[
    str | None,
    typer.Option(
        "--reviewed",
        metavar="FILE",
        help="What people decided, as a corrected file of --review: it is stored apart from the models' answers and wins in the output.",
        show_default=False,
    ),
]
Messages = Annotated[
    str | None,
    typer.Option(
        "--messages",
        metavar="COLUMN",
        help="A column with conversations, lists of messages with role and content, which stand before the question.",
        rich_help_panel=REQUESTS,
        show_default=False,
    ),
]
Examples = Annotated[
    str | None,
    typer.Option(
        "--examples",
        metavar="TABLE",
        help="A table of labelled rows, some of which stand answered before each question; labels are in the columns of the"
        " answer, or in those that --gold names.",
        rich_help_panel=REQUESTS,
        show_default=False,
    ),
]
ExamplesCount = Annotated[
    int | None,
    typer.Option(
        "--examples-count",
        "-n",
        metavar="N",
        min=1,
        help="How many examples a question has (default 5).",
        rich_help_panel=REQUESTS,
        show_default=False,
    ),
]
ExamplesSeed = Annotated[
    int | None,
    typer.Option(
        "--examples-seed",
        metavar="N",
        help="Which examples are drawn (default 0).",
        rich_help_panel=REQUESTS,
        show_default=False,
    ),
]
ExamplesNearest = Annotated[
    bool,
    typer.Option(
        "--examples-nearest",
        metavar="",
        help="Show the examples whose texts are most like the row's, instead of the same ones to all rows.",
        rich_help_panel=REQUESTS,
    ),
]
Gold = Annotated[
    list[str] | None,
    typer.Option(
        "--gold",
        metavar="COLUMN",
        help="A column with labels of people, where there are some: how well each annotator agrees with them is printed."
        " LABEL=COLUMN for one of several labels; may be repeated.",
        show_default=False,
    ),
]
Weighing = Annotated[
    Weigh | None,
    typer.Option(
        "--weights",
        metavar="gold|dawid-skene",
        help="Weigh the annotators' votes by their errors, learnt from the --gold rows (gold) or from how far they agree with"
        " each other (dawid-skene); the column confidence has the probability of the label.",
        show_default=False,
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option("--temperature", metavar="X", help="0 to 2.", rich_help_panel=MODEL, show_default=False),
]
TopP = Annotated[
    float | None, typer.Option("--top-p", metavar="X", help="0 to 1.", rich_help_panel=MODEL, show_default=False)
]
MaxCompletionTokens = Annotated[
    int | None,
    typer.Option(
        "--max-completion-tokens",
        metavar="N",
        help="The longest answer in tokens, those of its reasoning among them.",
        rich_help_panel=MODEL,
        show_default=False,
    ),
]
Stop = Annotated[
    list[str] | None,
    typer.Option(
        "--stop", metavar="TEXT", help="Where an answer ends; up to 4.", rich_help_panel=MODEL, show_default=False
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="N",
        help="The seed of the first sample; the next samples get the next ones.",
        rich_help_panel=MODEL,
        show_default=False,
    ),
]
ResponseFormat = Annotated[
    str | None,
    typer.Option(
        "--response-format",
        metavar="WORD",
        help="text, json_object or json_schema (default by the schema and what the model takes).",
        rich_help_panel=MODEL,
        show_default=False,
    ),
]
ReasoningFormat = Annotated[
    str | None,
    typer.Option(
        "--reasoning-format", metavar="WORD", help="parsed, raw or hidden.", rich_help_panel=MODEL, show_default=False
    ),
]
ReasoningEffort = Annotated[
    str | None,
    typer.Option(
        "--reasoning-effort",
        metavar="WORD",
        help="none or default (Qwen 3), low, medium or high (gpt-oss).",
        rich_help_panel=MODEL,
        show_default=False,
    ),
]
IncludeReasoning = Annotated[
    bool | None,
    typer.Option(
        "--include-reasoning/--no-include-reasoning",
        help="Whether the reasoning comes with the answer; excludes --reasoning-format.",
        rich_help_panel=MODEL,
        show_default=False,
    ),
]
