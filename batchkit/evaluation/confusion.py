"""Labels against labels: the confusion matrix, and precision, recall and F1 of each class."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: The classes of a matrix; the rarer ones are one class together.
MOST_CLASSES: Final = 30
OTHER: Final = "other"


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class: the figures are None where they divide by nothing; ``support`` is the number of rows that expect the class."""

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    answered: int


@dataclass(frozen=True, slots=True)
class Average:
    """The figures over all classes; None without rows."""

    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class Confusion:
    """The confusion matrix of labels.

    ``classes`` begin with the most frequent one; ``has_other`` says that the last is all rarer ones together. ``counts`` are rows of
    expected classes by columns of answered classes, with a last column for answers without a valid label. ``macro`` is the mean over
    the classes that rows expect, ``micro`` that of all rows: its recall is the accuracy, its precision leaves out rows without a
    valid answer.
    """

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    per_class: tuple[ClassFigures, ...]
    macro: Average
    micro: Average
    accuracy: float | None
    rows: int
    unanswered: int
    has_other: bool


def confusion(
    expected: Iterable[str], answered: Iterable[str | None], *, most_classes: int = MOST_CLASSES
) -> Confusion:
    """Compare labels row by row; None is an answer without a valid label, which is wrong. Raises ``ValueError`` for unequal lengths.

    Labels are compared as they stand. Whether an answer is right is decided before rare classes become one: two rare classes are not the same.
    """
    pairs = Counter(zip(expected, answered, strict=True))
    frequency: Counter[str] = Counter()
    for (wanted, given), count in pairs.items():
        frequency[wanted] += count
        if given is not None:
            frequency[given] += 0
    # Expected classes first, by their rows; then classes that are only answered.
    order = sorted(frequency, key=lambda label: (-frequency[label], label))
    has_other = len(order) > most_classes
    classes = order[: most_classes - 1] if has_other else order
    names = (*classes, _free_name(classes)) if has_other else tuple(classes)
    place = {label: number for number, label in enumerate(classes)}
    counts = [[0] * (len(names) + 1) for _ in names]
    right = [0] * len(names)
    for (wanted, given), count in pairs.items():
        row = place.get(wanted, len(names) - 1)
        counts[row][len(names) if given is None else place.get(given, len(names) - 1)] += count
        if wanted == given:
            right[row] += count
    per_class = tuple(_figures(name, number, counts, right[number]) for number, name in enumerate(names))
    rows, unanswered = pairs.total(), sum(row[-1] for row in counts)
    accuracy = _share(sum(right), rows)
    return Confusion(
        tuple(names),
        tuple(map(tuple, counts)),
        per_class,
        _macro(per_class),
        Average(precision := _share(sum(right), rows - unanswered), accuracy, _f1(precision, accuracy)),
        accuracy,
        rows,
        unanswered,
        has_other,
    )


def _free_name(taken: Sequence[str]) -> str:
    name = OTHER
    while name in taken:
        name = f"{name} "
    return name


def _figures(label: str, number: int, counts: Sequence[Sequence[int]], right: int) -> ClassFigures:
    support, answered = sum(counts[number]), sum(row[number] for row in counts)
    precision, recall = _share(right, answered), _share(right, support)
    return ClassFigures(label, precision, recall, _f1(precision, recall), support, answered)


def _macro(per_class: Sequence[ClassFigures]) -> Average:
    """Return the means over the classes with rows; a class that is never answered counts with 0."""
    wanted = [figures for figures in per_class if figures.support]
    return Average(
        _share(sum(figures.precision or 0.0 for figures in wanted), len(wanted)),
        _share(sum(figures.recall or 0.0 for figures in wanted), len(wanted)),
        _share(sum(figures.f1 or 0.0 for figures in wanted), len(wanted)),
    )


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _f1(precision: float | None, recall: float | None) -> float | None:
    if precision is None and recall is None:
        return None
    first, second = precision or 0.0, recall or 0.0
    return 2 * first * second / (first + second) if first + second else 0.0
