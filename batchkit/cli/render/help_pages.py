"""Help pages that show every option's names, value and text in full in a terminal of 80 columns.

An option whose names leave no room beside them has its text on the next line; no text is cut.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Group
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text
from typer.core import TyperArgument, TyperCommand, TyperGroup

from batchkit.cli.render import console

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console, RenderableType

_ARGUMENTS = "Arguments"
_OPTIONS = "Options"
_COMMANDS = "Commands"
#: The widest column of names; in a narrow terminal it is a share of the width.
_NAMES_WIDTH = 28
_NAMES_SHARE = 0.35
_GAP = 2
#: The width that a panel needs for its borders and their padding.
_BORDERS = 4
_OPTION = r"(?<![\w-])--?[A-Za-z][\w-]*"


class VerbCommand(TyperCommand):
    """A verb with a help page of ours."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words; the message of a wrong value begins with what is wrong, not with the validator's class."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line. The framework writes braces, which elsewhere mean a choice, around what is required."""
        arguments = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, TyperArgument)]
        return [self.options_metavar or "", *map(_usage_of, arguments)]

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - the name is the framework's
        """Print the help page."""
        _print_page(self, ctx)


class VerbGroup(TyperGroup):
    """A group of verbs with a help page of ours."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - as above
        """Print the help page."""
        _print_page(self, ctx)


def _usage_of(argument: Any) -> str:
    word = str(argument.metavar or argument.name)
    return (word if argument.required else f"[{word}]") + ("" if argument.nargs == 1 else "...")


def _print_page(command: Any, ctx: Any) -> None:
    out = console.stdout()
    out.print(Padding(Text(command.get_usage(ctx), "bold"), 1))
    if command.help:
        out.print(Padding(Text.from_markup(command.help, emoji=False), (0, 1, 1, 1)))
    entries = [(_panel_of(parameter), _entry_of(parameter)) for parameter in _shown(command.get_params(ctx))]
    if isinstance(command, TyperGroup):
        commands = [command.get_command(ctx, name) for name in command.list_commands(ctx)]
        entries += [(_panel_of_command(found), _entry_of_command(found)) for found in _shown(commands)]
    for title in _titles(entries):
        rows = [row for panel, row in entries if panel == title]
        out.print(Panel(_table(out, rows), title=title, title_align="left", border_style="dim"))


def _shown(parts: Iterable[Any]) -> list[Any]:
    return [part for part in parts if part is not None and not getattr(part, "hidden", False)]


def _titles(entries: Iterable[tuple[str, Any]]) -> list[str]:
    """Return the panels: arguments and plain options first, the others in the order of their first entry."""
    titles = dict.fromkeys(panel for panel, _ in entries)
    first = [title for title in (_ARGUMENTS, _OPTIONS) if title in titles]
    return [*first, *(title for title in titles if title not in first)]


def _panel_of(parameter: Any) -> str:
    default = _ARGUMENTS if isinstance(parameter, TyperArgument) else _OPTIONS
    return getattr(parameter, "rich_help_panel", None) or default


def _panel_of_command(command: Any) -> str:
    return getattr(command, "rich_help_panel", None) or _COMMANDS


def _entry_of(parameter: Any) -> tuple[Text, Text]:
    """Return the names with the value that follows them, and the text."""
    explanation = parameter.help or ""
    if (default := _default_of(parameter)) is not None:
        explanation += f" (default {default})"
    if parameter.required:
        explanation += " (required)"
    text = Text(explanation)
    text.highlight_regex(_OPTION, "cyan")
    return _names_of(parameter), text


def _names_of(parameter: Any) -> Text:
    if isinstance(parameter, TyperArgument):
        return Text(str(parameter.metavar or parameter.name), "bold yellow")
    # The short form comes first, as in a shell's own help.
    names = Text(", ", "dim").join(Text(name, "bold cyan") for name in sorted(parameter.opts, key=len))
    for name in parameter.secondary_opts:
        names.append(", ", "dim").append(name, "bold magenta")
    return names.append(f" {parameter.metavar}", "yellow") if parameter.metavar else names


def _default_of(parameter: Any) -> str | None:
    """Return the default if the text does not name it; a flag that is off and a missing value have none."""
    value = parameter.default
    if not parameter.show_default or value is None or isinstance(value, bool):
        return None
    return str(value.value if isinstance(value, Enum) else value)


def _entry_of_command(command: Any) -> tuple[Text, Text]:
    summary = (command.help or "").partition("\n\n")[0]
    return Text(command.name, "bold cyan"), Text.from_markup(summary, emoji=False)


def _table(out: Console, rows: Sequence[tuple[Text, Text]]) -> RenderableType:
    width = out.width - _BORDERS
    widest = min(_NAMES_WIDTH, int(width * _NAMES_SHARE))
    beside = max((names.cell_len for names, _ in rows if names.cell_len <= widest), default=widest)
    return Group(*(line for row in rows for line in _lines(out, row, beside, width)))


def _lines(out: Console, row: tuple[Text, Text], beside: int, width: int) -> Iterator[Text]:
    names, explanation = row
    margin = beside + _GAP
    lines = list(explanation.wrap(out, width - margin))
    if names.cell_len <= beside:
        names = names.copy()
        names.pad_right(margin - names.cell_len)
        yield names.append_text(lines.pop(0)) if lines else names
    else:
        yield from names.wrap(out, width)
    for line in lines:
        yield Text(" " * margin).append_text(line)
