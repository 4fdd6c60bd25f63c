"""What a run shows about its judges: their agreement with people and with each other, and their bias for a place in pairs."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchkit.evaluation.pairwise import position_bias
from batchkit.stats.agreement import agreement
from batchkit.stats.intervals import mean_interval
from batchkit.stats.ratings import RatingAgreement

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from batchkit.evaluation.pairwise import JudgedPair
    from batchkit.evaluation.scorers import Judge, Score
    from batchkit.stats.agreement import AgreementReport


@dataclass(frozen=True, slots=True)
class JudgeAgreement:
    """The agreement of a judge with people on the same answers: the share of equal labels in ``rows``, and Cohen's kappa.

    ``kappa`` is None, with a ``reason``, where it is undefined. ``scorer`` is the judge's label, with its model if there are several.
    """

    scorer: str
    rows: int
    same: float
    low: float
    high: float
    kappa: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class AgreementOfJudges:
    """The agreement of several judges of the same answers.

    ``judged`` has for each of the ``models`` the number of answers that it gave a score, of ``answers`` that were sent to them.
    ``unanimous`` is the share of those with several scores on which all judges agree. ``fleiss`` and ``alpha`` are Fleiss' kappa of
    labels and Krippendorff's alpha of labels (``level`` nominal) or scores (interval); None, with a ``reason``, where it is undefined.
    """

    scorer: str
    models: tuple[str, ...]
    judged: tuple[int, ...]
    answers: int
    unanimous: float | None
    fleiss: float | None
    alpha: float | None
    level: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class JudgeBias:
    """How far the order of the two answers decided what a model said about ``pairs`` (see ``PositionBias``), with 95 % intervals."""

    scorer: str
    model: str
    pairs: int
    changed: float
    changed_low: float
    changed_high: float
    for_first: float
    for_first_low: float
    for_first_high: float


@dataclass(frozen=True, slots=True)
class JudgeFigures:
    """What a run shows about its judges."""

    with_people: tuple[JudgeAgreement, ...] = ()
    between: tuple[AgreementOfJudges, ...] = ()
    biases: tuple[JudgeBias, ...] = ()

    def __add__(self, other: JudgeFigures) -> JudgeFigures:
        """Return the figures of all judges of both."""
        return JudgeFigures(
            self.with_people + other.with_people, self.between + other.between, self.biases + other.biases
        )


class JudgeCounts:
    """Counts the judgements of one scorer. Memory grows with the pairs, not with other answers."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._labelled: list[list[tuple[str, str]]] = [[] for _ in judge.models]
        self._labels: Counter[tuple[str | None, ...]] = Counter()
        self._ratings = RatingAgreement(len(judge.models))
        self._judged = [0] * len(judge.models)
        self._answers = 0
        self._pairs: list[list[JudgedPair]] = [[] for _ in judge.models]
        self._clusters = [array("q") for _ in judge.models]
        self._numbers: dict[Hashable, int] = {}

    def add_labelled(self, label: str, said: Sequence[str | None]) -> None:
        """Count an answer that people have labelled, with what each judge said about it."""
        for pairs, word in zip(self._labelled, said, strict=True):
            if word is not None:
                pairs.append((label, word))

    def add(self, scores: Sequence[Score], said: Sequence[str | None]) -> None:
        """Count an answer: the score of each judge, and what it said."""
        self._answers += 1
        for place, score in enumerate(scores):
            self._judged[place] += score.value is not None
        if self._judge.scores:
            self._labels[
                tuple(word if score.value is not None else None for word, score in zip(said, scores, strict=True))
            ] += 1
        else:
            self._ratings.add([score.value for score in scores])

    def add_pairs(self, scores: Sequence[Score], pairs: Sequence[JudgedPair | None], together: Hashable) -> None:
        """Count a pair by each judge; pairs with the same ``together`` are one cluster."""
        self.add(scores, [None if score.value is None else f"{score.value:g}" for score in scores])
        number = self._numbers.setdefault(together, len(self._numbers))
        for place, pair in enumerate(pairs):
            if pair is not None:
                self._pairs[place].append(pair)
                self._clusters[place].append(number)

    def figures(self) -> JudgeFigures:
        """Return what was counted."""
        judge = self._judge
        people = [
            _with_people(label, pairs) for label, pairs in zip(judge.labels_of_judges, self._labelled, strict=True)
        ]
        biases = [
            (model, position_bias(pairs, clusters))
            for model, pairs, clusters in zip(judge.models, self._pairs, self._clusters, strict=True)
        ]
        return JudgeFigures(
            tuple(found for found in people if found is not None),
            (self._between(),) if len(judge.models) > 1 and self._answers else (),
            tuple(
                JudgeBias(judge.label, model, bias.pairs, *bias.changed[:3], *bias.for_first[:3])
                for model, bias in biases
                if bias is not None
            ),
        )

    def _between(self) -> AgreementOfJudges:
        found: AgreementReport = agreement(self._labels) if self._judge.scores else self._ratings.report()
        return AgreementOfJudges(
            scorer=self._judge.label,
            models=self._judge.models,
            judged=tuple(self._judged),
            answers=self._answers,
            unanimous=found.unanimous,
            fleiss=found.fleiss.value,
            alpha=found.alpha.value,
            level=found.level,
            reason=found.alpha.reason,
        )


def _with_people(label: str, pairs: Sequence[tuple[str, str]]) -> JudgeAgreement | None:
    interval = mean_interval([float(wanted == word) for wanted, word in pairs])
    if interval is None:
        return None
    cohen = agreement(pairs).cohen[0, 1]
    return JudgeAgreement(label, len(pairs), interval.mean, interval.low, interval.high, cohen.value, cohen.reason)
