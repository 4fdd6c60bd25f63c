"""How a request asks for its answer format: ``response_format`` if the model has it, an instruction in the system message otherwise.

Sources: console.groq.com/docs/structured-outputs (which models accept a schema, and the rules of a strict one), /docs/text-chat and
/docs/reasoning (JSON mode, which needs the word JSON in a message).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.annotation.parameters import ResponseFormat
    from batchkit.annotation.recipe import Recipe
    from batchkit.answers.rules import AnswerRules
    from batchkit.provider.dialect import ModelFacts

_SCHEMA_NAME: Final = "answer"
_UNION_KEYWORDS: Final = ("anyOf", "oneOf", "allOf")


@dataclass(frozen=True, slots=True)
class ResponseFormatPlan:
    """The members of the body, and the instruction that is added to the system message."""

    members: dict[str, Any] = field(default_factory=dict)
    instruction: str | None = None


def plan_response_format(recipe: Recipe, model: str, facts: ModelFacts, *, has_prefill: bool) -> ResponseFormatPlan:
    """Return the plan for the format that the rules require; ``facts`` say what the model takes. A prefilled answer only gets an instruction."""
    rules = recipe.rules
    schema = rules.json_schema
    instruction = _instruction(rules) if recipe.instruct else None
    wanted = recipe.parameters.response_format
    if wanted is None and rules.format == "json" and not has_prefill:
        wanted = _format_for(schema, takes_schema=facts.takes_schema(model))
    match wanted:
        case "json_schema" if schema is not None:
            return ResponseFormatPlan({"response_format": _structured(schema, is_strict=facts.is_strict(model))})
        case "json_object":
            return ResponseFormatPlan({"response_format": {"type": "json_object"}}, instruction or _json_word(recipe))
        case "text":
            return ResponseFormatPlan({"response_format": {"type": "text"}}, instruction)
        case _:
            return ResponseFormatPlan(instruction=instruction)


def _format_for(schema: dict[str, Any] | None, *, takes_schema: bool) -> ResponseFormat | None:
    """Return the format; None for a document that is not an object, which JSON mode and schemas do not support."""
    if schema is not None and not _is_object(schema):
        return None
    return "json_schema" if schema is not None and takes_schema else "json_object"


def _is_object(schema: dict[str, Any]) -> bool:
    if "$ref" in schema:
        return True
    return schema.get("type") == "object" or ("type" not in schema and "properties" in schema)


def _structured(schema: dict[str, Any], *, is_strict: bool) -> dict[str, Any]:
    described: dict[str, Any] = {"name": _SCHEMA_NAME, "schema": schema}
    if is_strict and _is_strict(schema):
        described["strict"] = True
    return {"type": "json_schema", "json_schema": described}


def _is_strict(schema: Any) -> bool:
    """Whether every object of a schema requires all its properties and allows no others, as strict mode demands."""
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if (properties is not None or schema.get("type") == "object") and (
        schema.get("additionalProperties") is not False or set(properties or ()) != set(schema.get("required", ()))
    ):
        return False
    named = [*(properties or {}).values(), *schema.get("$defs", {}).values(), schema.get("items")]
    return all(
        _is_strict(part) for part in [*named, *(part for word in _UNION_KEYWORDS for part in schema.get(word, ()))]
    )


def _json_word(recipe: Recipe) -> str | None:
    """Return a text with the word JSON if no message has it: JSON mode refuses requests without it."""
    texts = [text or "" for prompt in recipe.prompts for text in (prompt.system, prompt.user)]
    return None if all("json" in text.lower() for text in texts if text) else "Answer in JSON."


def _instruction(rules: AnswerRules) -> str | None:
    match rules.format:
        case "json" if rules.json_schema is not None:
            schema = jsonl.dumps(rules.json_schema).decode()
            return f"Answer with JSON that conforms to this JSON Schema, and with nothing else:\n{schema}"
        case "json":
            return "Answer with one JSON object, and with nothing else."
        case "choice":
            return f"Answer with exactly one of these, and with nothing else:{_listed(rules.choices)}"
        case "pattern":
            return f"Answer with a text that this regular expression matches as a whole, and with nothing else: {rules.pattern}"
        case "number":
            return f"Answer with one number{_bounds(rules)}, and with nothing else."
        case _:
            return None


def _listed(choices: Sequence[str]) -> str:
    """Return choices side by side; one below the other if one of them has the sign that would separate them."""
    if any(";" in choice for choice in choices):
        return "".join(f"\n- {choice}" for choice in choices)
    return f" {'; '.join(choices)}"


def _bounds(rules: AnswerRules) -> str:
    match rules.minimum, rules.maximum:
        case None, None:
            return ""
        case low, None:
            return f" of at least {_as_text(low)}"
        case None, high:
            return f" of at most {_as_text(high)}"
        case low, high:
            return f" from {_as_text(low)} to {_as_text(high)}"


def _as_text(bound: float | None) -> str:
    """Return a bound with all its digits."""
    return str(int(bound)) if bound is not None and bound.is_integer() else repr(bound)
