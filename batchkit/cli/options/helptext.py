"""Docstrings as help texts: paragraphs flow with the terminal's width, examples keep their lines."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from rich.markup import escape

if TYPE_CHECKING:
    from collections.abc import Callable

_INDENT = "    "


def help_of(command: Callable[..., object]) -> str:
    """Turn a command's docstring into Typer's rich markup."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(_paragraph(paragraph) for paragraph in paragraphs)


def _paragraph(text: str) -> str:
    if text.startswith(_INDENT):
        return "\n".join(f"  [cyan]{escape(line.removeprefix(_INDENT))}[/cyan]" for line in text.splitlines())
    return escape(" ".join(text.split()))
