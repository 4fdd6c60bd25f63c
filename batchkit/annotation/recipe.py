"""The recipe: everything that the requests of a workload are made from, except the rows."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from batchkit.annotation.parameters import Audio, Parameters, Speech
from batchkit.answers.rules import AnswerRules
from batchkit.errors import UsageError
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["annotate", "transcribe", "moderate", "speak", "evaluate"]
#: What becomes of rows that have no request.
RowPolicy = Literal["error", "skip"]
#: The rules that do not affect the first requests, only how bad answers are requested again.
_NO_REQUEST = AnswerRules().model_dump(include={"tries", "max_tokens_cap", "model_caps"})


class Turn(BaseModel):
    """A message of a chat as a template."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)


class Prompt(BaseModel):
    """The messages of one request as Jinja2 templates over the row's columns.

    ``turns`` stand between the system message and the user's. ``user`` may be empty: then there is no user message (a guard model
    can check an assistant's message alone). ``prefill`` is the beginning of the answer (console.groq.com/docs/prefilling), or the
    message that a guard model checks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "prompt"
    system: str | None = None
    turns: tuple[Turn, ...] = ()
    user: str = ""
    prefill: str | None = None

    @model_serializer(mode="wrap")
    def _without_unused(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = written(self)
        if not self.turns:
            # Runs store the digest of all fields, which must not change with a field that they do not use.
            fields.pop("turns", None)
        return fields


class Example(BaseModel):
    """A question that is answered already: the rendered prompt of a labelled row, and its label as a model would answer it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str
    assistant: str


class Recipe(BaseModel):
    """The definition of a workload's requests, stored with the workload as JSON.

    Requests are row-major: for each row, each prompt, each model, ``samples`` requests. ``key`` is the column that names the rows; None
    uses their numbers (from 1). ``messages`` is a column with conversations, which stand before the question, as do ``examples_count`` of
    the ``examples`` (see ``examples.chosen_for``). ``images`` are columns; with ``allow_paths`` the files that they name may be anywhere, else only
    below the table's folder. ``table`` is the table's name for people, ``table_digest`` its SHA-256, ``query_digest`` that of the query
    whose rows it has, ``audio_digest`` that of the recordings that the column of ``audio`` names as files, ``paths`` its files,
    folders and patterns, ``limit`` the number of rows
    to use (None: all). With ``instruct`` the system message states the rules that the request has no parameter for.

    ``on_empty`` decides about rows that have nothing to ask, ``bad_rows`` about all others that have no request (keys, images, lengths),
    and about empty ones as well where ``on_empty`` is None: ``error`` refuses the table, ``skip`` sends nothing for the row.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    prompts: tuple[Prompt, ...] = Field(default=(Prompt(),), min_length=1)
    models: tuple[str, ...] = Field(min_length=1)
    samples: int = Field(default=1, ge=1)
    key: str | None = None
    parameters: Parameters = Parameters()
    messages: str | None = None
    examples: tuple[Example, ...] = ()
    examples_count: int = Field(default=5, ge=1)
    examples_nearest: bool = False
    images: tuple[str, ...] = ()
    shrink_images: bool = False
    allow_paths: bool = False
    audio: Audio | None = None
    audio_digest: str = ""
    speech: Speech | None = None
    rules: AnswerRules = AnswerRules()
    instruct: bool = True
    table: str = ""
    table_digest: str = ""
    query_digest: str = ""
    paths: tuple[str, ...] = ()
    limit: int | None = Field(default=None, ge=1)
    on_empty: RowPolicy | None = None
    bad_rows: RowPolicy = "error"

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for what, names in (("prompt", [prompt.name for prompt in self.prompts]), ("model", self.models)):
            repeated = sorted({name for name in names if list(names).count(name) > 1})
            if repeated:
                raise ValueError(f"the {what} {repeated[0]!r} occurs twice")
        return self

    def answer_rules(self, most_tokens: Mapping[str, int]) -> AnswerRules:
        """Return the rules that the workload stores: with the tools that answers may call, and the output limits of the models.

        ``most_tokens`` has limits of models at the provider.
        """
        known = {model: most_tokens[model] for model in self.models if model in most_tokens}
        tools = self.parameters.tools if self.rules.format == "tools" else ()
        return self.rules.model_copy(update={"model_caps": {**known, **self.rules.model_caps}, "tools": tools})

    @property
    def requests_per_row(self) -> int:
        """The number of requests for each row."""
        return len(self.prompts) * len(self.models) * self.samples

    def skips(self, *, is_empty: bool) -> bool:
        """Whether a row that has no request is skipped; ``is_empty``: because it has nothing to ask."""
        return (self.on_empty or self.bad_rows if is_empty else self.bad_rows) == "skip"

    def digest(self) -> str:
        """Return a SHA-256 in hex over everything that decides the requests.

        Fields with default values do not count, so that a later version with more fields gives the same digest.
        """
        chosen = self.essence().model_dump(mode="json", exclude_defaults=True)
        return hashlib.sha256(jsonl.dumps(chosen)).hexdigest()

    def essence(self) -> Self:
        """Return the recipe without the fields that affect no request: recipes with the same requests have the same essence."""
        rules = self.rules.model_copy(update=_NO_REQUEST)
        same = {
            "table": "",
            "query_digest": "",
            "paths": (),
            "allow_paths": False,
            "on_empty": None,
            "bad_rows": "error",
        }
        return self.model_copy(update={**same, "rules": rules})


def load_recipe(text: str) -> Recipe:
    """Return the recipe that a workload stores. Raises ``UsageError`` for one that this version cannot read."""
    try:
        return Recipe.model_validate_json(text)
    except ValueError as error:
        raise UsageError(
            "the recipe of this workload cannot be read", hint="it was made by another version of batchkit"
        ) from error
