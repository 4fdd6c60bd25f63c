"""The scorer of numbers."""

from __future__ import annotations

from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from batchkit.datasets.values import text_of
from batchkit.evaluation.scorers.base import FoundValue, Score, ScorerBase, error, wrong
from batchkit.evaluation.scorers.number_reading import NumberFormat, number_of, read_number

if TYPE_CHECKING:
    from batchkit.annotation.request_answer import RequestAnswer

#: Twice the digits of the longest number that is read, so that a difference is exact.
_EXACT = Context(prec=10_100, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])


class Number(ScorerBase):
    """1 if the number is within ``absolute`` or ``relative`` (a share of the expected number) of the expected one.

    ``decimal`` and ``thousands`` say how both are written; by default ``1,234.5``. With ``currency`` and ``percent`` a number may
    carry such a unit, which is taken off: 3 % is 3, not 0.03.
    """

    later_fields: ClassVar[frozenset[str]] = frozenset({"decimal", "thousands", "currency", "percent"})

    kind: Literal["number"] = "number"
    absolute: float = Field(default=0.0, ge=0)
    relative: float = Field(default=1e-9, ge=0)
    read: Literal["whole", "first", "last"] = "whole"
    decimal: Literal[".", ","] = "."
    thousands: Literal[",", ".", " ", "'", "none"] | None = None
    currency: bool = False
    percent: bool = False

    @model_validator(mode="after")
    def _tells_signs_apart(self) -> Self:
        if self.thousands == self.decimal:
            raise ValueError(f"{self.decimal!r} is either the decimal sign or the sign between thousands")
        return self

    @property
    def written(self) -> NumberFormat:
        """How the numbers are written."""
        usual = "," if self.decimal == "." else "."
        thousands = None if self.thousands == "none" else self.thousands or usual
        return NumberFormat(self.decimal, thousands, self.currency, self.percent)

    def _given(self, answer: RequestAnswer) -> FoundValue:
        given = super()._given(answer)
        if self.field is None and isinstance(given.value, float) and answer.text is not None:
            # The answer's text has the digits that its float lost.
            exact = read_number(answer.text, "whole")
            if exact is not None and float(exact) == given.value:
                return FoundValue(exact, exists=True)
        return given

    def _compare(self, given: Any, truth: Any) -> Score:
        wanted = self._number(truth, "whole")
        if wanted is None:
            return error(f"the expected value {_shown(truth)} is not a number")
        found = self._number(given, self.read)
        if found is None:
            return wrong("no number in the answer")
        return Score(float(found == wanted or self._is_near(found, wanted)))

    def _number(self, value: Any, which: Literal["whole", "first", "last"]) -> Decimal | None:
        number = number_of(value)
        if number is not None or isinstance(value, (bool, int, float, Decimal)):
            return number
        if isinstance(value, (str, bytes)):
            return read_number(text_of(value), which, self.written)
        return read_number(text_of(value), which)

    def _is_near(self, found: Decimal, wanted: Decimal) -> bool:
        distance = _EXACT.subtract(found, wanted).copy_abs()
        share = _EXACT.multiply(Decimal(repr(self.relative)), wanted.copy_abs())
        return distance <= max(Decimal(repr(self.absolute)), share)


def _shown(value: Any) -> str:
    return repr(text_of(value)[:80])
