"""The scorer of calls of tools."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

from batchkit.evaluation.scorers.base import Score, ScorerBase, error, wrong
from batchkit.evaluation.scorers.documents import expected_document
from batchkit.evaluation.scorers.equal_documents import first_difference
from batchkit.files import jsonl


class _Call(NamedTuple):
    name: str
    #: None if the expected value has none: they are not compared.
    arguments: Any


class ToolCall(ScorerBase):
    """1 if the model called the expected tools, by exact name, with the expected arguments.

    The expected column holds ``{"name": ..., "arguments": {...}}``, a list of such calls, the provider's form of them, or the name of
    the tool. ``arguments`` are equal, or a ``subset``: a call may have more of them; with ``names`` they are not compared. ``ordered``
    compares the order of the calls. Needs ``answers: {format: tools}``.
    """

    needs_format: ClassVar[str | None] = "tools"

    kind: Literal["tool_call"] = "tool_call"
    arguments: Literal["equal", "subset", "names"] = "equal"
    ordered: bool = False

    def _compare(self, given: Any, truth: Any) -> Score:
        wanted = _calls_of(truth)
        if wanted is None:
            return error("the expected value is neither a tool call nor a list of them")
        found = _calls_of(given) if isinstance(given, (list, dict)) else None
        if found is None:
            return error("the answer is not read as tool calls: set `answers: {format: tools}`")
        if len(found) != len(wanted):
            return wrong(f"{len(found)} calls, expected {len(wanted)}: {_names(found)}")
        left = list(found)
        for call in wanted:
            candidates = left[:1] if self.ordered else left
            problems = [self._problem(one, call) for one in candidates]
            if None not in problems:
                named = [problem for problem, one in zip(problems, candidates, strict=True) if one.name == call.name]
                return wrong((named and named[0]) or f"{call.name} was not called, but {_names(candidates)}")
            left.pop(problems.index(None))
        return Score(1.0)

    def _problem(self, found: _Call, wanted: _Call) -> str | None:
        if found.name != wanted.name:
            return f"{found.name} was called, expected {wanted.name}"
        if self.arguments == "names" or wanted.arguments is None:
            return None
        difference = first_difference(found.arguments, wanted.arguments, subset=self.arguments == "subset")
        return (
            None if difference is None else f"the arguments of {wanted.name} differ in: {difference or 'all of them'}"
        )


def _calls_of(value: Any) -> list[_Call] | None:
    if isinstance(value, str):
        document = expected_document(value)
        if not document.exists:
            return [_Call(value.strip(), None)] if value.strip().isprintable() and " " not in value.strip() else None
        value = document.value
    items = [value] if isinstance(value, (dict, str)) else value
    if not isinstance(items, (list, tuple)):
        return None
    calls = [_call_of(item) for item in items]
    return None if None in calls else [call for call in calls if call is not None]


def _call_of(item: Any) -> _Call | None:
    if isinstance(item, str):
        return _Call(item, None)
    if not isinstance(item, dict):
        return None
    function = item.get("function")
    content = function if isinstance(function, dict) else item
    name, arguments = content.get("name"), content.get("arguments")
    if not isinstance(name, str):
        return None
    if isinstance(arguments, str):
        try:
            arguments = jsonl.loads_exactly(arguments) if arguments.strip() else {}
        except (jsonl.MalformedJson, UnicodeEncodeError):
            return None
    return _Call(name, arguments) if arguments is None or isinstance(arguments, dict) else None


def _names(calls: list[_Call]) -> str:
    return ", ".join(call.name for call in calls) or "none"
