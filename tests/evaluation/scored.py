"""Scores of single answers, for tests of scorers."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from batchkit.evaluation.scorers import Score, Scorer
from tests.evaluation.support import make_answer

_SCORER: TypeAdapter[Any] = TypeAdapter(Scorer)


def scorer_of(config: dict[str, Any] | str) -> Any:
    """Make a scorer as a suite writes it."""
    made: Any = _SCORER.validate_python({"kind": config} if isinstance(config, str) else config)
    return made


def score(config: dict[str, Any] | str, value: Any, truth: Any = "", *, row: Any = None, **answer: Any) -> Score:
    """Score an answer against what its row expects."""
    found: Score = scorer_of(config).prepared()({"truth": truth, **(row or {})}, make_answer(value, **answer), "truth")
    return found
