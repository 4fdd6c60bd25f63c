"""Rows of a table that hold answers in columns of their own: examples, and what people decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from batchkit.answers.check import AnswerCheck
from batchkit.datasets.values import text_of
from batchkit.errors import UsageError
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchkit.annotation.recipe import Recipe
    from batchkit.datasets import Table

ANSWER: Final = "answer"
RENAMING: Final = "--gold LABEL=COLUMN names another"
_NOT_TEXT: Final = frozenset({"integer", "number", "boolean", "array", "object", "null"})


class WrongLabel(ValueError):
    """A row whose label breaks the rules of the answer; the message says why."""


class LabelledRows:
    """Reads the answers in the rows of ``table`` as a model would write them.

    ``columns`` maps the answer (``answer``) or its properties to columns of other names, as ``renaming`` says in errors. Raises
    ``UsageError``, with ``option``, for a table that lacks a column of the answer.
    """

    def __init__(
        self, recipe: Recipe, table: Table, columns: Mapping[str, str], *, option: str, renaming: str = RENAMING
    ) -> None:
        schema = recipe.rules.json_schema or {}
        properties = schema.get("properties") if recipe.rules.format == "json" else None
        self._properties: dict[str, Any] = properties if isinstance(properties, dict) else {}
        parts = list(self._properties) or [ANSWER]
        named = {part: columns.get(part, part) for part in parts}
        self._names = {part: column for part, column in named.items() if column in table.columns}
        for part in schema.get("required", []) if self._properties else parts:
            if part not in self._names:
                raise UsageError(
                    f"{option}: {table.name} has no column {named.get(part, part)!r} with the labels",
                    hint=f"its columns are: {', '.join(table.columns)}; {renaming}",
                )
        self._check = AnswerCheck(recipe.answer_rules({}))

    @property
    def columns(self) -> frozenset[str]:
        """The columns that hold the answer."""
        return frozenset(self._names.values())

    def text(self, row: Mapping[str, Any]) -> str | None:
        """Return a row's answer as a model would write it; None for a row without one. Raises ``WrongLabel``."""
        values = {part: row[column] for part, column in self._names.items()}
        if all(not isinstance(value, (list, dict)) and not text_of(value).strip() for value in values.values()):
            return None
        if self._properties:
            typed = {part: self._typed(part, value) for part, value in values.items()}
            text = jsonl.dumps(typed).decode()
        else:
            text = text_of(values[ANSWER])
        self._value(text)
        return text

    def value(self, row: Mapping[str, Any]) -> Any:
        """Return a row's answer as the check of answers returns it; None for a row without one. Raises ``WrongLabel``."""
        text = self.text(row)
        return None if text is None else self._value(text)

    def _value(self, text: str) -> Any:
        message = {"role": "assistant", "content": text}
        reading = self._check.read(jsonl.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).decode())
        if reading.code is not None:
            raise WrongLabel(reading.message)
        return reading.value

    def _typed(self, part: str, value: Any) -> Any:
        """Return a cell of CSV as the value that its property has; an empty one is null."""
        schema = self._properties[part]
        kinds = schema.get("type") if isinstance(schema, dict) else None
        wanted = {kinds} if isinstance(kinds, str) else set(kinds or ())
        if not isinstance(value, str):
            return value if isinstance(value, (list, dict, bool, int, float)) or value is None else text_of(value)
        if not value and "string" not in wanted:
            return None
        if wanted & _NOT_TEXT:
            try:
                return jsonl.loads(value.strip().casefold() if value.strip().casefold() in {"true", "false"} else value)
            except jsonl.MalformedJson:
                return value
        return value
