"""Recipes for the common tasks: labels and extractions, transcripts, moderation."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from batchkit.annotation.parameters import Audio, Parameters, Speech
from batchkit.annotation.recipe import Prompt, Recipe
from batchkit.answers.check import AnswerCheck
from batchkit.answers.importing import import_by_path
from batchkit.answers.rules import AnswerRules
from batchkit.errors import UsageError
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Schema = str | PathLike[str] | Mapping[str, Any] | type

GUARD_MODEL = "meta-llama/llama-guard-4-12b"
TRANSCRIPTION_MODEL = "whisper-large-v3-turbo"
SPEECH_MODEL = "canopylabs/orpheus-v1-english"
#: console.groq.com/docs/speech-to-text: the only model that translates.
TRANSLATION_MODEL = "whisper-large-v3"


def annotation(
    prompt: str = "",
    *,
    models: Sequence[str],
    system: str | None = None,
    prefill: str | None = None,
    schema: Schema | None = None,
    choices: Sequence[str] = (),
    pattern: str | None = None,
    number: tuple[float | None, float | None] | None = None,
    tools: Sequence[Mapping[str, Any]] = (),
    parameters: Parameters | None = None,
    samples: int = 1,
    tries: int = 3,
    **more: Any,
) -> Recipe:
    """Return the recipe of a question to every row; ``prompt``, ``system`` and ``prefill`` are templates.

    The answer is free text, unless one of ``schema``, ``choices``, ``pattern``, ``number`` (its bounds) and ``tools`` is given.
    ``schema`` is a JSON Schema, a file that holds one, or a pydantic model, also by its import path (``package.module:Model``).
    ``more`` are fields of ``Recipe``. Raises ``UsageError``, also for tools whose parameters are no schema.
    """
    given = {
        "--schema": schema is not None,
        "--choices": bool(choices),
        "--pattern": pattern is not None,
        "--number": number is not None,
        "--tools": bool(tools),
    }
    chosen = [flag for flag, is_given in given.items() if is_given]
    if len(chosen) > 1:
        raise UsageError(
            f"{' and '.join(chosen)} exclude each other: an answer has one format", hint="keep one of them"
        )
    rules: dict[str, Any] = {"tries": tries}
    if schema is not None:
        rules |= {"format": "json", **_schema_rules(schema)}
    elif choices:
        rules |= {"format": "choice", "choices": tuple(choices)}
    elif pattern is not None:
        rules |= {"format": "pattern", "pattern": pattern}
    elif number is not None:
        rules |= {"format": "number", "minimum": number[0], "maximum": number[1]}
    elif tools:
        rules["format"] = "tools"
        parameters = (parameters or Parameters()).model_copy(update={"tools": tuple(map(dict, tools))})
    recipe = made_recipe(
        kind="annotate",
        prompts=(Prompt(system=system, user=prompt, prefill=prefill),),
        models=tuple(models),
        samples=samples,
        parameters=parameters or Parameters(),
        rules=made_rules(**rules),
        **more,
    )
    if tools:
        AnswerCheck(recipe.answer_rules({}))
    return recipe


def transcription(
    column: str,
    *,
    model: str | None = None,
    translate: bool = False,
    language: str | None = None,
    prompt: str | None = None,
    timestamps: Sequence[str] = ("segment",),
    temperature: float | None = None,
    allow_paths: bool = False,
    tries: int = 3,
    **more: Any,
) -> Recipe:
    """Return the recipe of a transcript, or with ``translate`` an English translation, of the audio that ``column`` names.

    Its cells are addresses, or paths of files below the table's folder, with ``allow_paths`` anywhere.

    Raises ``UsageError``.
    """
    try:
        audio = Audio.model_validate(
            {
                "column": column,
                "translate": translate,
                "language": language,
                "prompt": prompt,
                "timestamps": tuple(timestamps),
                "temperature": temperature,
            }
        )
    except ValidationError as error:
        raise _as_usage(error) from None
    return made_recipe(
        kind="transcribe",
        models=(model or (TRANSLATION_MODEL if translate else TRANSCRIPTION_MODEL),),
        audio=audio,
        allow_paths=allow_paths,
        rules=made_rules(format="transcript", tries=tries),
        **more,
    )


def speech(
    column: str,
    voice: str,
    *,
    model: str = SPEECH_MODEL,
    response_format: str = "wav",
    speed: float | None = None,
    tries: int = 3,
    **more: Any,
) -> Recipe:
    """Return the recipe of a recording of each text in ``column``, spoken by ``voice``. Raises ``UsageError``."""
    try:
        spoken = Speech(column=column, voice=voice, response_format=response_format, speed=speed)
    except ValidationError as error:
        raise _as_usage(error) from None
    return made_recipe(
        kind="speak", models=(model,), speech=spoken, rules=made_rules(format="speech", tries=tries), **more
    )


def moderation(
    column: str,
    *,
    model: str = GUARD_MODEL,
    is_answer: bool = False,
    prompt_column: str | None = None,
    tries: int = 3,
    **more: Any,
) -> Recipe:
    """Return the recipe of a safety check of the texts in ``column`` (console.groq.com/docs/content-moderation).

    With ``is_answer`` the texts are checked as an assistant's messages, after the user's message in ``prompt_column`` if it is given.
    Raises ``UsageError``.
    """
    if prompt_column is not None and not is_answer:
        raise UsageError("a column of prompts is only for texts that are answers", hint="add --as answer")
    text = _whole(column)
    asked = _whole(prompt_column) if prompt_column is not None else ""
    prompt = Prompt(user=asked, prefill=text) if is_answer else Prompt(user=text)
    return made_recipe(
        kind="moderate",
        prompts=(prompt,),
        models=(model,),
        rules=made_rules(format="safety", tries=tries),
        **more,
    )


def made_recipe(**fields: Any) -> Recipe:
    """Return a recipe. Raises ``UsageError`` for fields that contradict each other."""
    try:
        return Recipe(**fields)
    except ValidationError as error:
        raise _as_usage(error) from None


def made_rules(**fields: Any) -> AnswerRules:
    """Return answer rules after compiling them. Raises ``UsageError``."""
    try:
        rules = AnswerRules(**fields)
    except ValidationError as error:
        raise _as_usage(error) from None
    AnswerCheck(rules)
    return rules


def _whole(column: str) -> str:
    return "{{ row[" + jsonl.dumps(column).decode() + "] }}"


def _schema_rules(schema: Schema) -> dict[str, Any]:
    if isinstance(schema, (str, PathLike)):
        path = Path(schema)
        if isinstance(schema, str) and ":" in schema and not path.exists():
            return {"json_schema": schema_of_model(schema), "model_path": schema}
        return {"json_schema": _schema_in(path)}
    if isinstance(schema, type):
        path_of_model = f"{schema.__module__}:{schema.__qualname__}"
        return {"json_schema": _schema_of(schema, path_of_model), "model_path": path_of_model}
    return {"json_schema": dict(schema)}


def schema_of_model(path: str) -> dict[str, Any]:
    """Return the JSON Schema of a pydantic model, named by its import path. Raises ``UsageError``."""
    return _schema_of(import_by_path(path), path)


def _schema_of(model: Any, path: str) -> dict[str, Any]:
    try:
        return TypeAdapter(model).json_schema()
    except Exception as error:  # a type of the user's own may fail in any way
        raise UsageError(f"{path} has no JSON Schema: {error}", hint="name a pydantic model") from error


def _schema_in(path: Path) -> dict[str, Any]:
    schema = read_json(path, "--schema")
    if not isinstance(schema, dict):
        raise UsageError(f"{path} is not a JSON Schema: it must be an object", hint="name another --schema")
    return schema


def read_json(path: Path, flag: str) -> Any:
    """Return the content of a small JSON file that a flag names. Raises ``UsageError``."""
    try:
        return jsonl.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror or error}", hint=f"name a file with {flag}"
        ) from error
    except jsonl.MalformedJson as error:
        raise UsageError(f"{path} is not JSON: {error}", hint=f"name a file of JSON with {flag}") from error


def _as_usage(error: ValidationError) -> UsageError:
    told = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(map(str, problem["loc"]))
        reason = problem["msg"].removeprefix("Value error, ")
        told.append(f"{where}: {reason}" if where else reason)
    return UsageError("; ".join(told))
