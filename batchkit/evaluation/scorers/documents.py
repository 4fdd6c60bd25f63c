"""Scorers of JSON documents."""

from __future__ import annotations

import math
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from batchkit.answers.schemas import ClosedSchema
from batchkit.answers.wording import unfenced
from batchkit.datasets.values import as_json
from batchkit.evaluation.scorers.base import NO_ANSWER, FoundValue, Score, ScoreAnswer, ScorerBase, error, pick, wrong
from batchkit.evaluation.scorers.equal_documents import first_difference, is_same_number
from batchkit.evaluation.suite_parts import read_schema
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchkit.annotation.request_answer import RequestAnswer


def expected_document(truth: Any) -> FoundValue:
    """Return the document of an expected value: a value that is none of text, or JSON text."""
    if not isinstance(truth, str):
        return FoundValue(truth, exists=True)
    try:
        return FoundValue(jsonl.loads_exactly(truth), exists=True)
    except (jsonl.MalformedJson, UnicodeEncodeError):
        return FoundValue(None, exists=False)


class JsonFields(ScorerBase):
    """The share of ``fields`` (dotted paths) that are equal in the answer and in the expected document.

    The expected column holds an object, or an object as JSON text. Integers are equal if they are the same, other numbers within
    1e-9, texts without blanks around them.
    """

    kind: Literal["json_fields"] = "json_fields"
    fields_: tuple[str, ...] = Field(alias="fields", min_length=1)
    ignore_case: bool = False

    def _compare(self, given: Any, truth: Any) -> Score:
        document = expected_document(truth)
        if not document.exists:
            return error("the expected value is not JSON")
        if not isinstance(document.value, (dict, list)):
            return error("the expected value is not a JSON object")
        wrong_paths = [
            path for path in self.fields_ if not self._is_same(pick(given, path), pick(document.value, path))
        ]
        share = 1 - len(wrong_paths) / len(self.fields_)
        return Score(share) if not wrong_paths else wrong(f"differs in: {', '.join(wrong_paths)}")._replace(value=share)

    def _is_same(self, given: FoundValue, truth: FoundValue) -> bool:
        one, other = (found.value if _is_number(found.value) else as_json(found.value) for found in (given, truth))
        if isinstance(one, str) and isinstance(other, str):
            one, other = one.strip(), other.strip()
            return one.casefold() == other.casefold() if self.ignore_case else one == other
        if _is_number(one) and _is_number(other):
            return is_same_number(one, other)
        return bool(one == other)


class JsonEqual(ScorerBase):
    """1 if the answer is the expected JSON document: integers and texts the same, other numbers within 1e-9.

    ``ignore`` has dotted paths that are not compared, with ``*`` for any key or place in a list. ``unordered`` compares lists without
    their order. A fence around the answer's JSON is taken off.
    """

    kind: Literal["json_equal"] = "json_equal"
    ignore: tuple[str, ...] = ()
    unordered: bool = False

    def _compare(self, given: Any, truth: Any) -> Score:
        document = expected_document(truth)
        if not document.exists:
            return error("the expected value is not JSON")
        if isinstance(given, str):
            try:
                given = jsonl.loads_exactly(unfenced(given))
            except (jsonl.MalformedJson, UnicodeEncodeError) as problem:
                return wrong(f"not JSON: {problem}")
        ignored = tuple(tuple(path.split(".")) for path in self.ignore)
        difference = first_difference(given, document.value, ignored=ignored, unordered=self.unordered)
        return Score(1.0) if difference is None else wrong(f"differs in: {difference or 'the document'}")


class SchemaValid(ScorerBase):
    """1 if the answer is JSON that conforms to ``schema`` (a file, or the schema itself); an answer that does not parse scores 0."""

    kind: Literal["schema_valid"] = "schema_valid"
    needs_expected: ClassVar[bool] = False
    json_schema: Annotated[dict[str, Any], read_schema] = Field(alias="schema")

    @cached_property
    def _compiled(self) -> ClosedSchema:
        return ClosedSchema(self.json_schema)

    def prepared(self) -> ScoreAnswer:
        """Return the scorer with its compiled schema."""
        _ = self._compiled
        return super().prepared()

    def _score(self, row: Mapping[str, Any], answer: RequestAnswer, expected: str | None) -> Score:  # noqa: ARG002 - a schema needs no row
        broken_rules = (answer.error_code or "").partition("_")[0] in {"answer", "generation"}
        if answer.status != "succeeded" and not broken_rules:
            return Score(None, NO_ANSWER, answer.error_code or answer.status)
        try:
            value = answer.value if isinstance(answer.value, (dict, list)) else jsonl.loads(answer.text or "")
        except (jsonl.MalformedJson, UnicodeEncodeError) as problem:
            return wrong(f"not JSON: {problem}")
        violation = self._compiled.problem(value)
        return Score(1.0) if violation is None else wrong(violation)


def _is_number(value: Any) -> bool:
    if isinstance(value, (float, Decimal)):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)
