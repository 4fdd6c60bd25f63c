"""The custom_ids of a recipe's requests: readable and unique."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Any

from batchkit.datasets.values import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batchkit.annotation.recipe import Recipe

#: console.groq.com/docs/batch documents no limit; other providers of the same API accept at most this.
MAX_CHARS = 64
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_is_safe = re.compile(r"[A-Za-z0-9_.-]+").fullmatch
_LABEL_CHARS = 34
_SHORT_LABEL_CHARS = 18
_LONGEST_TAIL = 44
#: 60 bits: two of ten million shortened keys collide in one of twenty thousand tables.
_HASH_CHARS = 12


class RequestIds:
    """Makes the ids ``{row key}:{prompt}:{model}:{sample}`` of each row; the prompt is left out if there is only one.

    A part consists of letters, digits, ``_``, ``.`` and ``-``. A part with other characters, or one that is too long, is cleaned,
    cut, and followed by a hash of the original, so that different keys get different ids. ``text`` writes a key.
    """

    def __init__(self, recipe: Recipe, *, text: Callable[[Any], str] = text_of) -> None:
        tails = _tails(recipe, _LABEL_CHARS)
        if max(map(len, tails)) > _LONGEST_TAIL:
            tails = _tails(recipe, _SHORT_LABEL_CHARS)
        self._tails = tails
        self._key_chars = MAX_CHARS - max(map(len, tails))
        self._key = recipe.key
        self._text = text

    def key_of(self, row: dict[str, Any] | None, number: int) -> str:
        """Return the part of the ids for a row; ``number`` starts at 1. ``row`` is read only if there is a key column."""
        if self._key is None:
            return str(number)
        value = "" if row is None else row[self._key]
        return _part(self._text(value), self._key_chars)

    def of_key(self, key: str) -> list[str]:
        """Return the ids of a row's requests, in order, for a key from ``key_of``."""
        return [key + tail for tail in self._tails]


def _tails(recipe: Recipe, most_chars: int) -> list[str]:
    prompts = [_part(prompt.name, most_chars) for prompt in recipe.prompts]
    heads = [f":{name}" for name in prompts] if len(prompts) > 1 else [""]
    models = [_part(name, most_chars) for name in short_names(recipe.models)]
    samples = range(1, recipe.samples + 1)
    return [f"{head}:{model}:{sample}" for head in heads for model in models for sample in samples]


def short_names(models: Sequence[str]) -> list[str]:
    """Return the models without the name of their maker, if they are still different."""
    short = [model.rpartition("/")[2] for model in models]
    return short if len(set(short)) == len(short) else list(models)


def _part(text: str, most_chars: int) -> str:
    if len(text) <= most_chars and _is_safe(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    hashed = base64.b32encode(digest).decode()[:_HASH_CHARS].lower()
    slug = _UNSAFE.sub("-", text).strip("-")[: most_chars - _HASH_CHARS - 1].rstrip("-")
    return f"{slug}-{hashed}" if slug else hashed
