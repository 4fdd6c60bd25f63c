"""Recipe files: the options of ``annotate``, ``transcribe`` and ``moderate`` as YAML.

The keys are the keyword arguments of the Python functions of these names, so the same content makes the same requests and the
same default name in all forms. A schema's path begins in the file's folder; outputs are relative to the working directory, as on
the command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from batchkit.annotation.parameters import Parameters
from batchkit.annotation.presets import read_json
from batchkit.annotation.recipe import RowPolicy
from batchkit.answers.rules import Pattern
from batchkit.answers.schemas import ClosedSchema
from batchkit.errors import UsageError
from batchkit.files.checked_yaml import invalid, read_yaml
from batchkit.files.yaml_text import yaml_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import ValidationInfo

    from batchkit.files.checked_yaml import Place

RecipeKind = Literal["annotate", "transcribe", "moderate", "speak"]
#: The keys that define the answer; only one of them may be used.
ANSWER_KEYS = ("schema", "choices", "pattern", "number", "tools")


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _schema(value: Any, info: ValidationInfo) -> Any:
    """Return the schema of a file; the import path of a pydantic model is unchanged."""
    if isinstance(value, str) and info.context is not None:
        path = Path(info.context["folder"]) / value
        if ":" in value and not path.exists():
            return value
        try:
            value = read_json(path, "schema")
        except UsageError as error:
            raise ValueError(error.message) from None
    if isinstance(value, dict):
        try:
            ClosedSchema(value)
        except UsageError as error:
            raise ValueError(error.message) from None
    return value


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]


class _TableRecipe(BaseModel):
    """The keys that all have. None is the same as a missing key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    query: str | None = None
    separator: str | None = None
    key: str | None = None
    limit: Count | None = None
    name: str | None = None
    output: str | None = None
    raw_csv: bool | None = None
    tries: Count | None = None
    on_empty: RowPolicy | None = None
    bad_rows: RowPolicy | None = None
    max_cost: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    max_total_tokens: Count | None = None


class AnnotateRecipe(_TableRecipe):
    """The keys of ``annotate``."""

    prompt: str | None = None
    models: Texts | None = None
    system: str | None = None
    prefill: str | None = None
    messages: str | None = None
    examples: str | None = None
    examples_count: Count | None = None
    examples_seed: int | None = None
    examples_nearest: bool | None = None
    samples: Count | None = None
    images: Texts | None = None
    shrink_images: bool | None = None
    allow_paths: bool | None = None
    schema_: Annotated[dict[str, Any] | str | None, BeforeValidator(_schema)] = Field(default=None, alias="schema")
    choices: Texts | None = None
    pattern: Pattern | None = None
    number: tuple[float | None, float | None] | None = None
    tools: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)] | None = None
    instruct: bool | None = None
    parameters: Parameters | None = None
    review: str | None = None
    reviewed: str | None = None
    gold: Texts | None = None
    weights: Literal["gold", "dawid-skene"] | None = None


class TranscribeRecipe(_TableRecipe):
    """The keys of ``transcribe``."""

    audio: str | None = None
    model: str | None = None
    translate: bool | None = None
    language: str | None = None
    prompt: str | None = None
    allow_paths: bool | None = None
    timestamps: Annotated[tuple[Literal["segment", "word"], ...], BeforeValidator(_listed)] | None = None
    temperature: float | None = None


class ModerateRecipe(_TableRecipe):
    """The keys of ``moderate``."""

    text: str | None = None
    model: str | None = None
    is_answer: bool | None = None
    prompt_column: str | None = None
    only: Literal["safe", "unsafe"] | None = None


class SpeakRecipe(_TableRecipe):
    """The keys of ``speak``."""

    text: str | None = None
    voice: str | None = None
    model: str | None = None
    response_format: str | None = None
    speed: float | None = None


_MODELS: dict[RecipeKind, type[_TableRecipe]] = {
    "annotate": AnnotateRecipe,
    "transcribe": TranscribeRecipe,
    "moderate": ModerateRecipe,
    "speak": SpeakRecipe,
}


def read_recipe_file(path: Path, kind: RecipeKind) -> dict[str, Any]:
    """Return the keyword arguments of a recipe file, with ``parameters`` as ``Parameters`` and a schema's file as its content.

    Raises ``InputInvalid`` with every problem by line and column, and ``InputUnreadable``.
    """
    model = _MODELS[kind]
    file, flaws = read_yaml(path, what="a recipe", example="`prompt: ...`, `models: [...]`")
    try:
        recipe = model.model_validate(file.document, context={"folder": path.absolute().parent})
    except ValidationError as error:
        raise invalid([*flaws, *file.flaws_of(error, model)]) from None
    keywords = _given(recipe)
    flaws += [file.flaw(place, reason, points_at_key=True) for place, reason in _contradictions(keywords)]
    if flaws:
        raise invalid(flaws)
    return keywords


def combined(recipe: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's keyword arguments merged with those of flags, which win; ``parameters`` are merged one by one.

    A flag that defines the answer replaces every key of the recipe that does.
    """
    defines_answer = any(key in flags for key in ANSWER_KEYS)
    kept = {key: value for key, value in recipe.items() if not (defines_answer and key in ANSWER_KEYS)}
    both = {**kept, **flags}
    if "parameters" in recipe and "parameters" in flags:
        given = flags["parameters"]
        update = {name: getattr(given, name) for name in given.model_fields_set}
        both["parameters"] = recipe["parameters"].model_copy(update=update)
    return both


def recipe_text(keywords: Mapping[str, Any], kind: RecipeKind) -> str:
    """Return keyword arguments as a self-contained recipe file, with the content of prompt and schema files.

    Raises ``UsageError`` for a schema that cannot be read.
    """
    try:
        recipe = _MODELS[kind].model_validate(dict(keywords), context={"folder": Path.cwd()})
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        raise UsageError(f"{'.'.join(map(str, found['loc']))}: {found['msg'].removeprefix('Value error, ')}") from None
    return yaml_text(recipe.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True))


def _given(recipe: BaseModel) -> dict[str, Any]:
    """Return the keys that a file sets, by the names of the keyword arguments."""
    named = {field.alias or name: getattr(recipe, name) for name, field in type(recipe).model_fields.items()}
    return {name: value for name, value in named.items() if value is not None}


def _contradictions(keywords: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    first, *others = [key for key in ANSWER_KEYS if key in keywords] or [""]
    for key in others:
        yield (key,), f"`{first}` and `{key}` exclude each other: an answer has one format"
