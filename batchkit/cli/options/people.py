"""The options of labels that people gave: examples before a question, gold labels, and rows to review."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from batchkit.cli.options import messages


class Weigh(StrEnum):
    """How votes are weighed."""

    GOLD = "gold"
    DAWID_SKENE = "dawid-skene"


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
Gold = Annotated[
    list[str] | None,
    typer.Option(
        "--gold",
        metavar="COLUMN",
        help="A column with human labels, where there are some: how well each annotator agrees with them is printed."
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
Examples = Annotated[
    str | None,
    typer.Option(
        "--examples",
        metavar="TABLE",
        help="A table of labelled rows, some of which stand answered before each question; labels are in the columns of the"
        " answer, or in those that --gold names.",
        rich_help_panel=messages.PANEL,
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
        rich_help_panel=messages.PANEL,
        show_default=False,
    ),
]
ExamplesSeed = Annotated[
    int | None,
    typer.Option(
        "--examples-seed",
        metavar="N",
        help="Which examples are drawn (default 0).",
        rich_help_panel=messages.PANEL,
        show_default=False,
    ),
]
ExamplesNearest = Annotated[
    bool,
    typer.Option(
        "--examples-nearest",
        metavar="",
        help="Show the examples whose texts are most like the row's, instead of the same ones to all rows.",
        rich_help_panel=messages.PANEL,
    ),
]
