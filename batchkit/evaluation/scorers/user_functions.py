"""The scorer of a user's own function, in a process that can be given up."""

from __future__ import annotations

import math
import pickle
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from batchkit.annotation.request_answer import RequestAnswer
from batchkit.answers.bounded_check import CheckEnded, check_by_function
from batchkit.errors import ConfigurationError
from batchkit.evaluation.scorers.base import Score, ScoreAnswer, ScorerBase, error, no_answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from batchkit.files.checked_yaml import Place


class Python(ScorerBase):
    """A user's function, ``package.module:function``, called with the row and the ``RequestAnswer``; returns a bool, a number or None.

    None means that it cannot decide. An exception is stored with the answer, without a score, as is a call that takes longer than
    ``seconds``, or that ends its process. The function runs in a process of its own, which knows no key.
    """

    needs_expected: ClassVar[bool] = False
    later_fields: ClassVar[frozenset[str]] = frozenset({"seconds"})

    kind: Literal["python"] = "python"
    function: str
    seconds: float = Field(default=60.0, gt=0, le=3600)

    def contradictions(self) -> Iterator[tuple[Place, str]]:
        """Yield whether the function cannot be imported, or cannot be called with a row and an answer."""
        yield from super().contradictions()
        try:
            check_by_function(self.function, seconds=self.seconds).close()
        except ConfigurationError as problem:
            yield ("function",), problem.message

    def prepared(self) -> ScoreAnswer:
        """Return the scorer with the process of its function."""
        check = check_by_function(self.function, seconds=self.seconds, types=(RequestAnswer,))

        def score(row: Mapping[str, Any], answer: RequestAnswer, _expected: str | None) -> Score:
            if (missing := no_answer(answer)) is not None:
                return missing
            try:
                value = check.check(pickle.dumps((dict(row), answer)))
            except RecursionError:
                return error("the row is nested too deeply for another process")
            except CheckEnded as ended:
                return error(str(ended).replace("the check", "the function", 1))
            if value is None:
                return error("the function returned no score")
            if isinstance(value, str):
                return error(f"the function returned {value}")
            return Score(float(value)) if math.isfinite(value) else error(f"the function returned {value}")

        return score
