"""The user's rules for answers, as they are stored with the workload."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from batchkit.answers.check import AnswerCheck
from batchkit.answers.patterns import BoundedPattern


def _pattern(value: str) -> str:
    try:
        BoundedPattern(value)
    except ValueError as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return value


#: A valid regular expression.
Pattern = Annotated[str, AfterValidator(_pattern)]


class AnswerRules(BaseModel):
    """The rules for valid answers.

    ``json_schema`` belongs to the format ``json``, with ``model_path`` (``package.module:Model``) for a pydantic model of the user's that
    makes the final check; ``choices`` to ``choice``; ``pattern``, which must match the whole answer, to ``pattern``; ``minimum`` and
    ``maximum`` to ``number``; ``tools``, as the requests have them, to ``tools``: without them any call is taken. ``tries`` is the number of attempts that return an answer or an error, including the first.
    ``max_tokens_cap`` is the largest token limit with which a truncated answer is requested again; ``model_caps`` has the output
    limits of single models.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["any", "json", "choice", "pattern", "number", "tools", "transcript", "safety", "speech"] = "any"
    json_schema: dict[str, Any] | None = None
    model_path: str | None = None
    choices: tuple[str, ...] = ()
    pattern: Pattern | None = None
    minimum: float | None = None
    maximum: float | None = None
    tools: tuple[dict[str, Any], ...] = ()
    max_tokens_cap: PositiveInt = 16_384
    model_caps: dict[str, PositiveInt] = Field(default_factory=dict)
    tries: PositiveInt = 3

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.format == "choice" and not self.choices:
            raise ValueError("a choice needs its choices")
        if self.format == "pattern" and self.pattern is None:
            raise ValueError("the format pattern needs a pattern")
        folded = [choice.strip().casefold() for choice in self.choices]
        if len(set(folded)) < len(folded) or "" in folded:
            raise ValueError("the choices must differ in more than case and space, and none may be empty")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"the minimum {self.minimum:g} is above the maximum {self.maximum:g}")
        return self

    @model_serializer(mode="wrap")
    def _without_no_tools(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the field that older versions do not know while it is empty: workloads compare their rules as text."""
        fields: dict[str, Any] = written(self)
        if not fields.get("tools"):
            fields.pop("tools", None)
        return fields

    def cap_for(self, model: str) -> int:
        """Return the largest token limit with which a model is asked again."""
        return min(self.max_tokens_cap, self.model_caps.get(model, self.max_tokens_cap))


def load_rules(text: str | None) -> AnswerRules | None:
    """Return the rules that a workload stores; None if it has none."""
    return None if text is None else AnswerRules.model_validate_json(text)


@lru_cache(maxsize=16)
def check_for(text: str) -> AnswerCheck:
    """Return the check for the rules that a workload stores. Raises as ``AnswerCheck``.

    Cached, because each merge asks for it, and making one compiles the schema or starts a process.
    """
    return AnswerCheck(AnswerRules.model_validate_json(text))
