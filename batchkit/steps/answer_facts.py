"""Facts of an answer's body, read in two ways: by a lenient reader, and in columns for answers of the usual shape.

Only this module of the merge knows which members of a body become columns of ``results``. A property test compares the two
readers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from batchkit.files import jsonl
from batchkit.store.rows import AnswerFacts

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_TOKENS: Final = 2**31 - 1
_MAX_WORD_CHARS: Final = 200

_Tokens = Annotated[int, Meta(ge=0, le=_MAX_TOKENS)]


class _Usage(Struct, gc=False):
    prompt_tokens: _Tokens | None = None
    completion_tokens: _Tokens | None = None
    total_tokens: _Tokens | None = None


class _Choice(Struct, gc=False):
    finish_reason: Literal["stop", "length", "tool_calls", "function_call", "content_filter"] | None = None


class PlainBody(Struct, gc=False):
    """A body of the usual shape; a body without choices and without a text is no answer."""

    choices: list[_Choice] = []
    text: str | None = None
    usage: _Usage | None = None
    error: None = None
    model: str | None = None
    service_tier: str | None = None


_NO_USAGE: Final = _Usage()
_NO_CHOICES: Final = [_Choice()]


def fact_columns(bodies: list[PlainBody]) -> tuple[list[Any], ...] | None:
    """Return the facts of answers: a column for each field of ``AnswerFacts``.

    None when one of the bodies has neither a choice nor a text, or a name that cannot be stored unchanged.
    """
    choices = [body.choices for body in bodies]
    if not all(choices):
        if any(not body.choices and body.text is None for body in bodies):
            return None
        choices = [body.choices or _NO_CHOICES for body in bodies]
    usages = [body.usage or _NO_USAGE for body in bodies]
    models, distinct_models = _shared([body.model for body in bodies])
    tiers, distinct_tiers = _shared([body.service_tier for body in bodies])
    if not are_storable(distinct_models | distinct_tiers):
        return None
    columns: dict[str, list[Any]] = {
        "finish_reason": [of_body[0].finish_reason for of_body in choices],
        "prompt_tokens": [usage.prompt_tokens for usage in usages],
        "completion_tokens": [usage.completion_tokens for usage in usages],
        "total_tokens": [usage.total_tokens for usage in usages],
        "model": models,
        "service_tier": tiers,
    }
    return tuple(columns[name] for name in AnswerFacts._fields)


def facts_of(body: Any) -> AnswerFacts:
    """Return the facts of any body, as far as it has them."""
    if not isinstance(body, dict):
        return AnswerFacts()
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    usage = body.get("usage")
    return AnswerFacts(
        finish_reason=_word(choice, "finish_reason") or _end_of_response(body),
        prompt_tokens=_tokens(usage, "prompt_tokens", "input_tokens"),
        completion_tokens=_tokens(usage, "completion_tokens", "output_tokens"),
        total_tokens=_tokens(usage, "total_tokens"),
        model=_word(body, "model"),
        service_tier=_word(body, "service_tier"),
    )


def are_storable(texts: Iterable[str | None]) -> bool:
    """Return whether each text is stored unchanged: see ``jsonl.storable_word``."""
    given = [text for text in texts if text is not None]
    lengths = set(map(len, given)) or {1}
    return min(lengths) > 0 and max(lengths) <= _MAX_WORD_CHARS and "".join(given).isprintable()


def _shared(texts: list[str | None]) -> tuple[list[str | None], set[str | None]]:
    """Return the texts and the different ones among them.

    When all are equal, as they mostly are, they become one shared text: a shard's facts stay in memory until its merge ends.
    """
    first = texts[0] if texts else None
    # Comparing takes half the time of hashing new texts.
    if texts.count(first) == len(texts):
        return [first] * len(texts), {first}
    return texts, set(texts)


def _word(value: Any, name: str) -> str | None:
    word = value.get(name) if isinstance(value, dict) else None
    return jsonl.storable_word(word) if isinstance(word, str) else None


def _end_of_response(body: dict[str, Any]) -> str | None:
    """Return how an answer of the responses API ended, in the words of chats."""
    if body.get("object") != "response":
        return None
    reason = _word(body.get("incomplete_details"), "reason")
    return {None: "stop", "max_output_tokens": "length"}.get(reason, reason)


def _tokens(value: Any, *names: str) -> int | None:
    """Return a count by the first of its names that is there: chats and responses have different ones."""
    given = value if isinstance(value, dict) else {}
    count = next((given[name] for name in names if name in given), None)
    return count if type(count) is int and 0 <= count <= _MAX_TOKENS else None
