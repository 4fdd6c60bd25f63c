"""A request to a model, and what every kind of answer needs of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchkit.emulator.contract.models import no_such_model
from batchkit.emulator.contract.refusals import refused
from batchkit.emulator.dialects.providers import GROQ

if TYPE_CHECKING:
    from batchkit.emulator.dialects.dialect import Dialect
    from batchkit.emulator.scenarios.scenario import Reply


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A request to answer: ``entropy`` makes its ids, ``created`` is the provider time in Unix seconds.

    ``replies`` are the scenario's scripted answers, ``models`` the ids of the served models; None serves any.
    """

    url: str
    body: dict[str, Any]
    entropy: int
    request_id: str
    created: int
    service_tier: str
    replies: tuple[Reply, ...] = ()
    models: frozenset[str] | None = None
    dialect: Dialect = GROQ


def check_served(asked: ModelRequest) -> None:
    """Refuse a model that is not served. Raises ``RequestRefused``."""
    model = asked.body["model"]
    if asked.models is not None and model not in asked.models:
        raise refused(404, no_such_model(model), code="model_not_found")


def count_tokens(text: str) -> int:
    """Return an estimate of the tokens: a quarter of the UTF-8 bytes, rounded up."""
    return (len(text.encode()) + 3) // 4
