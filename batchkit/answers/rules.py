"""The rules: what the user asked an answer to be, as it is kept with the workload."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, model_validator

from batchkit.answers.check import AnswerCheck


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return value


#: A text that compiles.
Pattern = Annotated[str, AfterValidator(_pattern)]


class AnswerRules(BaseModel):
    """What an answer must be.

    ``json_schema`` belongs to the format ``json``, with ``model_path`` (``package.module:Model``) where a pydantic model of the
    user's own has the last word; ``choices`` to ``choice``; ``pattern``, which the whole answer must match, to ``pattern``;
    ``minimum`` and ``maximum`` to ``number``. ``tries`` counts the attempts of a request that came back with an answer or an
    error, the first included. ``max_tokens_cap`` is the most that a truncated answer is asked for again with, in tokens;
    ``model_caps`` has what single models write at most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["any", "json", "choice", "pattern", "number", "tools", "transcript", "safety"] = "any"
    json_schema: dict[str, Any] | None = None
    model_path: str | None = None
    choices: tuple[str, ...] = ()
    pattern: Pattern | None = None
    minimum: float | None = None
    maximum: float | None = None
    max_tokens_cap: PositiveInt = 16_384
    model_caps: dict[str, PositiveInt] = Field(default_factory=dict)
    tries: PositiveInt = 3

    @model_validator(mode="after")
    def _say_enough(self) -> Self:
        if self.format == "choice" and not self.choices:
            raise ValueError("a choice needs its choices")
        if self.format == "pattern" and self.pattern is None:
            raise ValueError("the format pattern needs a pattern")
        folded = [choice.strip().casefold() for choice in self.choices]
        if len(set(folded)) < len(folded) or "" in folded:
            raise ValueError("the choices must differ in more than case and space, and none may be empty")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError("the minimum is above the maximum")
        return self

    def cap_for(self, model: str) -> int:
        """Say with how many tokens at most a model is asked again."""
        return min(self.max_tokens_cap, self.model_caps.get(model, self.max_tokens_cap))


def load_rules(text: str | None) -> AnswerRules | None:
    """Read the rules that a workload keeps; None when it has none."""
    return None if text is None else AnswerRules.model_validate_json(text)


@lru_cache(maxsize=16)
def check_for(text: str) -> AnswerCheck:
    """Give the check for the rules that a workload keeps. Raises as ``AnswerCheck``."""
    return AnswerCheck(AnswerRules.model_validate_json(text))
