"""The parts that suites share: prompts, rules for answers, schemas in files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from batchkit.annotation.presets import made_rules, read_json, schema_of_model
from batchkit.annotation.recipe import Prompt, Turn
from batchkit.answers.schemas import ClosedSchema
from batchkit.errors import UsageError

if TYPE_CHECKING:
    from typing import Self

    from pydantic import ValidationInfo

    from batchkit.answers.rules import AnswerRules


def _schema_of(value: Any, info: ValidationInfo) -> Any:
    """Return the schema of a file in the suite's folder, after checking it."""
    try:
        if isinstance(value, str):
            value = read_json(Path((info.context or {}).get("folder", ".")) / value, "schema")
        if isinstance(value, dict):
            ClosedSchema(value)
    except UsageError as error:
        raise ValueError(error.message) from None
    return value


read_schema = BeforeValidator(_schema_of)


def _schema_of_model(path: str | None) -> dict[str, Any] | None:
    """Return the JSON Schema of a user's pydantic model."""
    try:
        return None if path is None else schema_of_model(path)
    except UsageError as error:
        raise ValueError(error.message) from None


class PromptMessages(BaseModel):
    """The messages of a request as Jinja2 templates over the row's columns.

    Either ``user``, with a ``system`` message before it and the beginning of the answer (``prefill``) after it, or ``messages``: a
    whole chat, which ends with a message of the user's, or with the beginning of the answer after it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str | None = None
    user: str = ""
    prefill: str | None = None
    messages: tuple[Turn, ...] = ()

    @model_validator(mode="after")
    def _is_a_question(self) -> Self:
        if not self.messages:
            if not self.user:
                raise ValueError("there is no question: the key 'user' is missing or empty")
            return self
        if self.user or self.system is not None or self.prefill is not None:
            raise ValueError("`messages` are the whole chat: leave out `system`, `user` and `prefill`")
        roles = [turn.role for turn in self.messages]
        if roles[-1:] != ["user"] and roles[-2:] != ["user", "assistant"]:
            raise ValueError(
                "the last of the `messages` is the user's; only the beginning of the answer (assistant) may follow it"
            )
        return self

    def named(self, name: str) -> Prompt:
        """Return the prompt of a recipe."""
        if not self.messages:
            return Prompt(name=name, system=self.system, user=self.user, prefill=self.prefill)
        turns = list(self.messages)
        prefill = turns.pop().content if turns[-1].role == "assistant" else None
        user = turns.pop().content
        system = turns.pop(0).content if turns and turns[0].role == "system" else None
        return Prompt(name=name, system=system, turns=tuple(turns), user=user, prefill=prefill)


#: A plain text is the user's message.
PromptText = Annotated[
    PromptMessages, BeforeValidator(lambda value: {"user": value} if isinstance(value, str) else value)
]


class SuiteAnswers(BaseModel):
    """The rules for valid answers; see ``answers.AnswerRules``. Without ``format`` the given fields decide it."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    format: Literal["any", "json", "choice", "pattern", "number", "tools"] | None = None
    json_schema: Annotated[dict[str, Any] | None, read_schema] = Field(default=None, alias="schema")
    model_path: str | None = Field(default=None, alias="pydantic")
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    tries: int = Field(default=3, ge=1)

    @model_validator(mode="after")
    def _make_sense(self) -> Self:
        try:
            self.rules()
        except UsageError as error:
            raise ValueError(error.message) from None
        return self

    def rules(self) -> AnswerRules:
        """Return the rules of a workload."""
        return made_rules(
            format=self.format or self._implied(),
            json_schema=self.json_schema or _schema_of_model(self.model_path),
            model_path=self.model_path,
            choices=self.choices,
            pattern=self.pattern,
            minimum=self.minimum,
            maximum=self.maximum,
            tries=self.tries,
        )

    def _implied(self) -> Literal["any", "json", "choice", "pattern", "number"]:
        if self.choices:
            return "choice"
        if self.json_schema is not None or self.model_path is not None:
            return "json"
        if self.pattern is not None:
            return "pattern"
        return "any" if self.minimum is None and self.maximum is None else "number"
