"""What a request asks of the rate limits before it runs, and what its answer used."""

from __future__ import annotations

from typing import Any

from batchkit.emulator.answers.answers import WRONG_TYPES, prompt_tokens
from batchkit.emulator.answers.audio import audio_seconds
from batchkit.emulator.answers.model_request import count_tokens
from batchkit.emulator.contract.endpoints import (
    CHAT,
    CHAT_DRY_RUN,
    COMPLETIONS,
    EMBEDDINGS,
    MODERATIONS,
    RESPONSES,
    SPEECH,
    TRANSCRIPTIONS,
    TRANSLATIONS,
)
from batchkit.emulator.contract.rates import Demand

HEARING = (TRANSCRIPTIONS, TRANSLATIONS)
_LIMIT_MEMBERS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_LEAST_SECONDS = 10.0
"""The shortest audio that Groq counts (console.groq.com/docs/speech-to-text)."""


def demand_of(url: str, body: dict[str, Any], completion_tokens: int) -> Demand:
    """Return the tokens or the seconds of audio that a request asks for; ``completion_tokens`` stand for a limit that it lacks.

    A malformed body asks for nothing: it is refused when it is answered.
    """
    try:
        if url in HEARING:
            return Demand(seconds=max(_LEAST_SECONDS, audio_seconds(body)))
        asked = _prompt_tokens(url, body)
        if url in (CHAT, CHAT_DRY_RUN, COMPLETIONS, RESPONSES):
            asked += next((int(body[name]) for name in _LIMIT_MEMBERS if body.get(name)), completion_tokens)
        return Demand(tokens=max(0, asked))
    except WRONG_TYPES:
        return Demand()


def tokens_used(url: str, body: dict[str, Any], answered: Any) -> int:
    """Return the tokens that a successful answer used; speech is counted by its text."""
    if url == SPEECH:
        return count_tokens(body["input"])
    usage = answered.get("usage") if isinstance(answered, dict) else None
    return int(usage["total_tokens"]) if usage else 0


def _prompt_tokens(url: str, body: dict[str, Any]) -> int:
    if url in (CHAT, CHAT_DRY_RUN):
        return prompt_tokens(body["messages"])
    given = body["prompt" if url == COMPLETIONS else "input"]
    if url in (EMBEDDINGS, MODERATIONS, COMPLETIONS) and isinstance(given, list):
        return sum(map(count_tokens, given))
    return count_tokens(given) if isinstance(given, str) else sum(4 + count_tokens(str(item)) for item in given)
