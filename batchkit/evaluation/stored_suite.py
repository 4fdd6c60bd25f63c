"""The suite of a run, as the database has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.errors import UsageError
from batchkit.evaluation.suite import Suite

if TYPE_CHECKING:
    from batchkit.store.evaluations import Evaluation


def suite_of(evaluation: Evaluation) -> Suite:
    """Return the suite as it was when the run began. Raises ``UsageError`` for one that this version cannot read."""
    try:
        return Suite.model_validate_json(evaluation.definition)
    except ValueError as error:
        raise UsageError(
            f"the suite of {evaluation.name!r} cannot be read", hint="it was written by another version of batchkit"
        ) from error
