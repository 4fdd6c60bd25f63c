"""The models the emulator lists, with the dates they are served (console.groq.com/docs/models, /docs/deprecations)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class _Model:
    id: str
    owner: str
    context_window: int
    max_completion_tokens: int
    since: str
    until: str | None = None


_MODELS = (
    _Model("llama-3.1-8b-instant", "Meta", 131_072, 131_072, "2024-07-23", "2026-08-16"),
    _Model("llama-3.3-70b-versatile", "Meta", 131_072, 32_768, "2024-12-06", "2026-08-16"),
    _Model("meta-llama/llama-4-scout-17b-16e-instruct", "Meta", 131_072, 8_192, "2025-04-05"),
    _Model("meta-llama/llama-guard-4-12b", "Meta", 131_072, 1_024, "2025-04-29"),
    _Model("openai/gpt-oss-120b", "OpenAI", 131_072, 65_536, "2025-08-05"),
    _Model("openai/gpt-oss-20b", "OpenAI", 131_072, 65_536, "2025-08-05"),
    _Model("qwen/qwen3-32b", "Alibaba Cloud", 131_072, 40_960, "2025-05-28"),
    _Model("groq/compound", "Groq", 131_072, 8_192, "2025-09-04"),
    _Model("groq/compound-mini", "Groq", 131_072, 8_192, "2025-09-04"),
    _Model("canopylabs/orpheus-v1-english", "Canopy Labs", 4_000, 50_000, "2025-12-01"),
    _Model("whisper-large-v3", "OpenAI", 448, 448, "2023-11-06"),
    _Model("whisper-large-v3-turbo", "OpenAI", 448, 448, "2024-10-01"),
)


_BY_ID = {model.id: model for model in _MODELS}


@lru_cache(maxsize=64)
def _unix(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())


def listed_ids(when: float, chosen: Iterable[str] | None = None) -> frozenset[str]:
    """Return the models that are listed at a Unix time: the ``chosen`` ones, or Groq's until the day they are shut down."""
    return frozenset(chosen) if chosen is not None else _listed_on(int(when // 86_400))


@lru_cache(maxsize=8)
def _listed_on(day: int) -> frozenset[str]:
    when = day * 86_400
    return frozenset(
        model.id
        for model in _MODELS
        if _unix(model.since) <= when and (model.until is None or when < _unix(model.until))
    )


def model_object(model_id: str) -> dict[str, Any]:
    """Return the JSON object of a model; a model that Groq does not have gets default values."""
    model = _BY_ID.get(model_id) or _Model(model_id, "emulator", 131_072, 32_768, "2025-01-01")
    return {
        "id": model.id,
        "object": "model",
        "created": _unix(model.since),
        "owned_by": model.owner,
        "active": True,
        "context_window": model.context_window,
        "public_apps": None,
        "max_completion_tokens": model.max_completion_tokens,
    }


def no_such_model(model_id: str) -> str:
    """Return the message for a model that is not served."""
    return f"The model `{model_id}` does not exist or you do not have access to it."
