"""The user's own function over one row and its answer. It runs in the process of a ``BoundedCheck``."""

from __future__ import annotations

import inspect
import pickle
from typing import TYPE_CHECKING, Any

from batchkit.answers.importing import import_by_path
from batchkit.errors import ConfigurationError
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Callable


def loaded(order: bytes) -> Any:
    """Return the function of an order: its import path, the function itself if no path leads to it, and types that it will meet."""
    path, content, _types = pickle.loads(order)  # noqa: S301 - the parent wrote it
    return import_by_path(path) if content is None else pickle.loads(content)  # noqa: S301 - as above


def check_of(call: Any) -> Callable[[bytes], bytes]:
    """Return the check of pickled pairs of a row and an answer by a function; it returns a number, a text or null as JSON.

    A text says what the function returned if that is no number. Raises ``ConfigurationError`` for what cannot be called with a row
    and an answer.
    """
    name = getattr(call, "__qualname__", repr(call))
    if not callable(call):
        raise ConfigurationError(f"{name} is not a function")
    if inspect.iscoroutinefunction(call):
        raise ConfigurationError(f"{name} is a coroutine function; write an ordinary one")
    try:
        signature = inspect.signature(call)
    except ValueError:
        signature = None  # a few functions of C have none
    if signature is not None:
        try:
            signature.bind({}, None)
        except TypeError as error:
            raise ConfigurationError(f"{name} cannot be called with a row and an answer: {error}") from None

    def check(content: bytes) -> bytes:
        row, answer = pickle.loads(content)  # noqa: S301 - the parent wrote it
        return jsonl.dumps(_plain(call(row, answer)))

    return check


def _plain(value: Any) -> float | str | None:
    """Return a function's result as a number; a text for one that is no finite number."""
    if value is None:
        return None
    if not hasattr(value, "__float__"):
        return f"{repr(value)[:100]}, which is not a number"
    number = float(value)
    return number if number - number == 0 else str(number)
