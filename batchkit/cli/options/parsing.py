"""What the words of a command line mean where it begins with a table."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from batchkit.annotation.parameters import Parameters
    from batchkit.annotation.recipe import Recipe
    from batchkit.cli.job import Manner
    from batchkit.cli.options.flags import CutFlags, TableFlags
    from batchkit.cli.table_job import TableOrder
    from batchkit.datasets import Table
    from batchkit.settings import Settings

#: The column of a workload's answers.
ANSWER_COLUMN = "text"
_FILE_SIGN = "@"
_TOOL_WORDS = frozenset({"auto", "required", "none"})
_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_BOUNDS = re.compile(rf"\s*({_NUMBER})?\s*\.\.\s*({_NUMBER})?\s*")


def text_of(word: str, flag: str) -> str:
    """Read a text that is given as itself or as ``@FILE``. Raises ``UsageError``."""
    if not word.startswith(_FILE_SIGN):
        return word
    path = Path(word.removeprefix(_FILE_SIGN))
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror or error}", hint=f"{flag} @FILE reads a file"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text in UTF-8", hint=f"save it so, or give {flag} as text") from error


def listed(word: str | None) -> tuple[str, ...]:
    """Cut a list at its commas."""
    return () if word is None else tuple(part.strip() for part in word.split(",") if part.strip())


def models_of(words: Sequence[str] | None) -> tuple[str, ...]:
    """Read the models."""
    return tuple(model for word in words or () for model in listed(word))


def bounds_of(word: str) -> tuple[float | None, float | None]:
    """Read ``MIN..MAX``. Raises ``UsageError``."""
    bounds = _BOUNDS.fullmatch(word)
    if bounds is None:
        raise UsageError(
            f"--number {word} is no range", hint="write 1..5, 0.. for no upper bound, or .. for any number"
        )
    low, high = (None if part is None else float(part) for part in bounds.groups())
    return low, high


def tools_in(path: Path | None) -> list[dict[str, Any]]:
    """Read a file with a list of tools. Raises ``UsageError``."""
    from batchkit.annotation.presets import read_json  # noqa: PLC0415 - needs the extra

    if path is None:
        return []
    tools = read_json(path, "--tools")
    if not isinstance(tools, list) or not tools or not all(isinstance(tool, dict) for tool in tools):
        raise UsageError(f"{path} holds no list of tools", hint='write [{"type": "function", "function": {...}}]')
    return tools


def tool_choice_of(word: str | None) -> str | dict[str, Any] | None:
    """Read which tool is to be called: one of the API's words, or the name of a function."""
    if word is None or word in _TOOL_WORDS:
        return word
    return {"type": "function", "function": {"name": word}}


def parameters_of(**flags: Any) -> Parameters | None:
    """Make the parameters of the flags that are not None; None when there is none. Raises ``UsageError``, in the words of the flags."""
    from pydantic import ValidationError  # noqa: PLC0415 - as above

    from batchkit.annotation.parameters import Parameters  # noqa: PLC0415 - as above

    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Parameters(**given) if given else None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        flag = f"--{str(first['loc'][0]).replace('_', '-')}"
        raise UsageError(f"{flag}: {first['msg']}", hint="see `batchkit annotate --help`") from None


def order_of(words: Sequence[str], recipe: Recipe, rows: TableFlags, cut: CutFlags, **more: Any) -> TableOrder:
    """Make the order of a command whose rows are read from ``words``; ``more`` are fields of ``TableOrder``."""
    from batchkit.annotation.workload_from_table import folder_of  # noqa: PLC0415 - as above
    from batchkit.datasets import open_table  # noqa: PLC0415 - as above

    @contextmanager
    def opened() -> Iterator[Table]:
        yield open_table(words, query=rows.query)

    return _order(recipe, opened, rows, cut, folder=folder_of(words), words=words, **more)


def order_of_answers(
    workload: str, settings: Settings, recipe: Recipe, rows: TableFlags, cut: CutFlags, **more: Any
) -> TableOrder:
    """Make the order of a command whose rows are the answers of a workload; ``more`` as for ``order_of``."""
    from batchkit.annotation.answers_table import answers_as_table  # noqa: PLC0415 - as above
    from batchkit.api import existing  # noqa: PLC0415 - as above

    @contextmanager
    def opened() -> Iterator[Table]:
        with existing.open_runner(settings) as runner, answers_as_table(runner, workload) as table:
            yield table

    return _order(recipe, opened, rows, cut, **more)


def _order(
    recipe: Recipe,
    opened: Callable[[], AbstractContextManager[Table]],
    rows: TableFlags,
    cut: CutFlags,
    **more: Any,
) -> TableOrder:
    from batchkit.cli.table_job import TableOrder  # noqa: PLC0415 - as above
    from batchkit.engine.waves import DriveUntil  # noqa: PLC0415 - as above

    until = DriveUntil.SUBMITTED if rows.submit_only else DriveUntil.FINISHED
    return TableOrder(
        recipe,
        opened,
        cut.options(),
        name=rows.name,
        output=rows.output,
        raw_csv=rows.raw_csv,
        until=until,
        **more,
    )


def carry_out(order: TableOrder, settings: Settings, manner: Manner, *, dry_run: bool) -> int:
    """Do what was ordered, or with ``dry_run`` show it; returns the exit code. Raises ``BatchkitError``."""
    from batchkit.cli import table_job  # noqa: PLC0415 - as above

    return table_job.show_requests(order, settings, manner) if dry_run else table_job.carry_out(order, settings, manner)
