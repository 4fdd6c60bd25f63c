"""Calls of tools: their arguments conform to the tool's parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchkit.answers.reasons import InvalidAnswer
from batchkit.answers.schemas import ClosedSchema
from batchkit.errors import ConfigurationError
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batchkit.answers.chat import ToolCall


class ToolChecks:
    """Checks calls by the tools of the request; without tools any call is taken. Raises ``ConfigurationError`` for their schemas."""

    def __init__(self, tools: Sequence[Mapping[str, Any]]) -> None:
        self._parameters: dict[str, ClosedSchema | None] = {}
        for tool in tools:
            function = tool.get("function")
            if isinstance(function, dict) and isinstance(name := function.get("name"), str):
                self._parameters[name] = _compiled(name, function.get("parameters"))
        # What a provider calls on its own side has no name here.
        self._are_all_known = len(self._parameters) == len(tools) > 0

    def values(self, calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
        """Return the calls as ``{"name", "arguments"}``. Raises ``InvalidAnswer``."""
        if not calls:
            raise InvalidAnswer("the model called no tool")
        return [{"name": call.name, "arguments": self._arguments(call)} for call in calls]

    def _arguments(self, call: ToolCall) -> dict[str, Any]:
        if self._are_all_known and call.name not in self._parameters:
            raise InvalidAnswer(f"the model called {call.name}, which is none of: {', '.join(self._parameters)}")
        arguments = _object(call)
        schema = self._parameters.get(call.name)
        problem = None if schema is None else schema.problem(arguments)
        if problem is not None:
            raise InvalidAnswer(f"the arguments of {call.name}: {problem}")
        return arguments


def _compiled(name: str, parameters: Any) -> ClosedSchema | None:
    if parameters is None:
        return None
    if not isinstance(parameters, dict):
        raise ConfigurationError(f"the parameters of the tool {name} are not a JSON Schema", hint="give an object")
    try:
        return ClosedSchema(parameters)
    except ConfigurationError as error:
        raise ConfigurationError(f"the tool {name}: {error.message}", hint=error.hint) from None


def _object(call: ToolCall) -> dict[str, Any]:
    """Return the arguments of a call: an object, its JSON, or the JSON of its JSON, as some models write it."""
    value = call.arguments
    for _ in range(2):
        if not isinstance(value, str):
            break
        try:
            value = jsonl.loads_exactly(jsonl.without_lone_surrogates(value.encode())) if value.strip() else {}
        except jsonl.MalformedJson as error:
            raise InvalidAnswer(f"the arguments of {call.name} are not JSON: {error}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidAnswer(f"the arguments of {call.name} are not an object")
    return value
