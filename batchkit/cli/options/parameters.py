"""The options that the API takes as parameters of the model."""

from __future__ import annotations

from typing import Annotated

import typer

_PANEL = "Model parameters"

Temperature = Annotated[
    float | None,
    typer.Option("--temperature", metavar="X", help="0 to 2.", rich_help_panel=_PANEL, show_default=False),
]
TopP = Annotated[
    float | None, typer.Option("--top-p", metavar="X", help="0 to 1.", rich_help_panel=_PANEL, show_default=False)
]
MaxCompletionTokens = Annotated[
    int | None,
    typer.Option(
        "--max-completion-tokens",
        metavar="N",
        help="The longest answer in tokens, those of its reasoning among them.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Stop = Annotated[
    list[str] | None,
    typer.Option(
        "--stop", metavar="TEXT", help="Where an answer ends; up to 4.", rich_help_panel=_PANEL, show_default=False
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="N",
        help="The seed of the first sample; the next samples get the next ones.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
ResponseFormat = Annotated[
    str | None,
    typer.Option(
        "--response-format",
        metavar="WORD",
        help="text, json_object or json_schema (default by the schema and what the model takes).",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
ReasoningFormat = Annotated[
    str | None,
    typer.Option(
        "--reasoning-format", metavar="WORD", help="parsed, raw or hidden.", rich_help_panel=_PANEL, show_default=False
    ),
]
ReasoningEffort = Annotated[
    str | None,
    typer.Option(
        "--reasoning-effort",
        metavar="WORD",
        help="none or default (Qwen 3), low, medium or high (gpt-oss).",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
IncludeReasoning = Annotated[
    bool | None,
    typer.Option(
        "--include-reasoning/--no-include-reasoning",
        help="Whether the reasoning comes with the answer; excludes --reasoning-format.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
