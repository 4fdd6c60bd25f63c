"""Scorers: the score of an answer, 0 to 1 unless stated otherwise. A scorer that cannot decide returns a reason, and never 0.

Texts are compared as the answer's value reads (see ``answers.Reading``): a choice, a number, a text; with ``field`` a dotted path
into a JSON answer (``person.name``, ``items.0``).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from batchkit.evaluation.scorers.base import (
    DETAIL_CHARACTERS,
    NO_ANSWER,
    NO_EXPECTED,
    SCORER_ERROR,
    FoundValue,
    Reduction,
    Score,
    ScorerBase,
    SuiteFacts,
    pick,
)
from batchkit.evaluation.scorers.documents import JsonEqual, JsonFields, SchemaValid
from batchkit.evaluation.scorers.judge import (
    JUDGED,
    Human,
    Judge,
    Opponent,
)
from batchkit.evaluation.scorers.letters import AnswerLetter
from batchkit.evaluation.scorers.normalising import normalised
from batchkit.evaluation.scorers.number import Number
from batchkit.evaluation.scorers.number_reading import read_number
from batchkit.evaluation.scorers.texts import (
    REGEX_CHARACTERS,
    ChoiceScorer,
    Contains,
    Exact,
    Normalised,
    Regex,
    Similarity,
    TokenF1,
)
from batchkit.evaluation.scorers.tools import ToolCall
from batchkit.evaluation.scorers.user_functions import Python

__all__ = [
    "DETAIL_CHARACTERS",
    "JUDGED",
    "NO_ANSWER",
    "NO_EXPECTED",
    "REGEX_CHARACTERS",
    "SCORER_ERROR",
    "AnswerLetter",
    "ChoiceScorer",
    "Contains",
    "Exact",
    "FoundValue",
    "Human",
    "JsonEqual",
    "JsonFields",
    "Judge",
    "Normalised",
    "Number",
    "Opponent",
    "Python",
    "Reduction",
    "Regex",
    "SchemaValid",
    "Score",
    "Scorer",
    "ScorerBase",
    "Similarity",
    "SuiteFacts",
    "TokenF1",
    "ToolCall",
    "normalised",
    "pick",
    "read_number",
]

Scorer = Annotated[
    Exact
    | Normalised
    | ChoiceScorer
    | Number
    | Contains
    | Regex
    | JsonFields
    | JsonEqual
    | SchemaValid
    | Similarity
    | TokenF1
    | AnswerLetter
    | ToolCall
    | Python
    | Judge,
    Field(discriminator="kind"),
]
