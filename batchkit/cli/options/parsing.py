"""The values of the options of the verbs that begin with a table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.annotation.parameters import Parameters

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


def choices_of(word: str | None) -> tuple[str, ...]:
    """Read the choices. Raises ``UsageError`` for none: an empty variable of a script must not ask without rules."""
    choices = listed(word)
    if word is not None and not choices:
        raise UsageError("--choices names nothing", hint="write the words with commas between them: --choices yes,no")
    return choices


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
