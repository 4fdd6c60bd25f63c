"""The annotation of a table for the page: what was asked, what each annotator answered, how far they agree, and with people."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchkit import formatting
from batchkit.annotation.columns import value_columns
from batchkit.annotation.recipe import load_recipe
from batchkit.annotation.totals import annotators, totals_of_rows
from batchkit.annotation.voting import Voting, label_text
from batchkit.files import jsonl
from batchkit.reports import charts
from batchkit.reports.grid import Grid
from batchkit.reports.text import Cut, cut
from batchkit.reports.views import Counted, Counts
from batchkit.stats.gold import GoldReport, NumberGoldReport

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from batchkit.annotation.recipe import Recipe
    from batchkit.annotation.totals import RowVote, Totals
    from batchkit.annotation.weighing import WeightedVotes
    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload
    from batchkit.stats.intervals import Interval

#: More rows would take minutes to read, and change the figures little.
MOST_ROWS = 50_000
_MOST_LABELS = 6
_MOST_VALUES = 12
_MOST_CLASSES = 20
_TEXT_BYTES = 6_000
_NAME_BYTES = 200


@dataclass(frozen=True, slots=True)
class AnnotationView:
    """An annotation for the template; ``asked`` are texts by their titles, ``about`` short facts."""

    about: tuple[tuple[str, str], ...]
    asked: tuple[tuple[str, Cut], ...]
    shares: tuple[Counts, ...]
    grids: tuple[Grid, ...]
    review: dict[int, str]


def annotation_view(
    runner: Runner,
    workload: Workload,
    *,
    gold: Sequence[str],
    weighted: WeightedVotes | None,
    is_finished: bool,
    most_review: int,
    counts_reviews: bool = False,
) -> AnnotationView | None:
    """Return the annotation of a workload, None if it was not made from a table by ``annotate``.

    ``review`` maps up to ``most_review`` requests of rows that people should look at, by their places in the input, to the reason.
    Answers are read only of a finished workload, up to ``MOST_ROWS`` rows. ``counts_reviews`` is as for ``totals_of_rows``. Raises as ``totals``.
    """
    recipe = None if workload.recipe is None else load_recipe(workload.recipe)
    if recipe is None or recipe.kind != "annotate":
        return None
    if not is_finished:
        return AnnotationView(tuple(_about(recipe)), tuple(_asked(recipe)), (), (), {})
    answers = _Answers(recipe, most_review)
    found = totals_of_rows(
        runner,
        workload,
        recipe,
        gold=gold,
        weighted=weighted,
        most_rows=MOST_ROWS,
        counts_reviews=counts_reviews,
        advance=answers.add,
    )
    note = ""
    if (workload.request_count or 0) > MOST_ROWS * recipe.requests_per_row:
        note = f"Of the first {MOST_ROWS:,} rows."
    return AnnotationView(
        tuple(_about(recipe)),
        tuple(_asked(recipe)),
        tuple(answers.shares(note)),
        (*_agreement(found, note), *_gold(found, note)),
        answers.review,
    )


class _Answers:
    """Counts the labels of each annotator, and keeps the requests of rows to review."""

    def __init__(self, recipe: Recipe, most_review: int) -> None:
        voting = Voting(recipe, value_columns(recipe))
        is_free = recipe.rules.format == "any"
        self._labels = () if is_free else (*voting.labels, *voting.numbers)[:_MOST_LABELS]
        self._raters = annotators(recipe)
        self._most_review = most_review
        self._counts: dict[str, list[Counter[str]]] = {
            label: [Counter() for _ in self._raters] for label in self._labels
        }
        self.review: dict[int, str] = {}

    def add(self, found: RowVote) -> None:
        """Count a row."""
        for label, counts in self._counts.items():
            for count, value in zip(counts, found.values, strict=True):
                text = label_text(value, label)
                if text is not None and (text in count or len(count) < 10 * _MOST_VALUES):
                    count[text] += 1
        if found.review is not None and len(self.review) < self._most_review:
            self.review |= {answer.seq: found.review.value for answer in found.row.answers}

    def shares(self, note: str) -> Iterator[Counts]:
        """Yield the labels of the answers with their shares by annotator; free texts have none."""
        for label, counts in self._counts.items():
            names = [name for name, _ in sum(counts, Counter()).most_common(_MOST_VALUES)]
            if names and max(map(len, counts)) < 10 * _MOST_VALUES:
                yield Counts(
                    f"Answers: {_brief(label)}",
                    ("Annotator", "Answer"),
                    tuple(self._lines(counts, names)),
                    " ".join(filter(None, (note, "" if len(names) < _MOST_VALUES else "The most frequent answers."))),
                    "Share",
                )

    def _lines(self, counts: Sequence[Counter[str]], names: Sequence[str]) -> Iterator[Counted]:
        for rater, count in zip(self._raters, counts, strict=True):
            total = count.total()
            for name in names:
                share = charts.bar([charts.Part("fill-near", count[name])], total)
                yield Counted(
                    (_brief(rater), _brief(name)), share, formatting.percent(count[name], total) if total else "-"
                )


def _about(recipe: Recipe) -> Iterator[tuple[str, str]]:
    yield "Models", _brief(", ".join(recipe.models))
    if recipe.samples > 1:
        yield "Samples", f"{recipe.samples} of each model"
    rules = recipe.rules
    kinds = {
        "any": "free text",
        "json": "an object or value that conforms to the schema",
        "choice": f"one of {', '.join(rules.choices)}",
        "pattern": f"a text that matches {rules.pattern}",
        "number": f"a number from {_bound(rules.minimum)} to {_bound(rules.maximum)}",
        "tools": "calls of tools",
    }
    yield "Answer", _brief(kinds.get(rules.format, rules.format))
    given = recipe.parameters.model_dump(mode="json", exclude_none=True, exclude_defaults=True, exclude={"tools"})
    if given:
        yield "Parameters", _brief(jsonl.dumps(given).decode())


def _bound(number: float | None) -> str:
    return "any" if number is None else f"{number:g}"


def _asked(recipe: Recipe) -> Iterator[tuple[str, Cut]]:
    for prompt in recipe.prompts:
        of_which = f" of {prompt.name}" if len(recipe.prompts) > 1 else ""
        for title, text in (
            ("System message", prompt.system),
            ("Prompt", prompt.user),
            ("Beginning of the answer", prompt.prefill),
        ):
            if text:
                yield title + of_which, cut(text, _TEXT_BYTES)
    if recipe.messages is not None:
        yield "Conversation", cut(f"the column {recipe.messages}", _TEXT_BYTES)
    if recipe.rules.json_schema is not None:
        yield "Schema", cut(jsonl.dumps(recipe.rules.json_schema).decode(), _TEXT_BYTES)


def _agreement(found: Totals, note: str) -> Iterator[Grid]:
    if not found.agreement:
        return
    reviewed = ", ".join(f"{count:,} {reason}" for reason, count in found.review.items())
    yield Grid(
        f"Agreement of {len(found.annotators)} annotators",
        "Rows that at least two annotators answered; alpha is Krippendorff's",
        ("Label", "Level", "Rows", "Unanimous", "Cohen's kappa", "Fleiss' kappa", "Alpha"),
        tuple(
            (
                _brief(label),
                report.level,
                f"{report.rated_by_two:,}",
                "-" if report.unanimous is None else f"{report.unanimous:.1%}",
                *(_number(found.value) for found in (report.mean_cohen, report.fleiss, report.alpha)),
            )
            for label, report in found.agreement.items()
        ),
        " ".join(filter(None, (f"Rows to review: {reviewed}." if reviewed else "", note))),
    )


def _gold(found: Totals, note: str) -> Iterator[Grid]:
    for label, figures in found.gold.items():
        of_labels = {name: report for name, report in figures.items() if isinstance(report, GoldReport)}
        of_numbers = {name: report for name, report in figures.items() if isinstance(report, NumberGoldReport)}
        if of_numbers:
            yield _number_grid(label, of_numbers, note)
        if of_labels:
            yield _accuracy_grid(label, of_labels, note)
            # The vote, where there is one, is the last.
            name, report = list(of_labels.items())[-1]
            yield _class_grid(label, name, report)


def _accuracy_grid(label: str, figures: Mapping[str, GoldReport], note: str) -> Grid:
    return Grid(
        f"{_brief(label)}: annotators and people",
        "Over the rows that people labelled; intervals of 95 %",
        ("Annotator", "Rows", "Unanswered", "Accuracy", "Macro F1", "Kappa"),
        tuple(
            (
                _brief(name),
                f"{report.rows:,}",
                f"{report.unanswered:,}",
                _interval(report.accuracy),
                _number(report.macro_f1),
                _number(report.kappa.value),
            )
            for name, report in figures.items()
        ),
        note,
    )


def _class_grid(label: str, name: str, report: GoldReport) -> Grid:
    shown = report.labels[:_MOST_CLASSES]
    given = [figures.label for figures in shown]
    return Grid(
        f"{_brief(label)}: {_brief(name)} and people, by label",
        "Precision, recall and F1 of each label, then how often it was answered with which label",
        ("Label of people", "Rows", "Precision", "Recall", "F1", *map(_brief, given)),
        tuple(
            (
                _brief(figures.label),
                f"{figures.gold:,}",
                *map(_interval, (figures.precision, figures.recall, figures.f1)),
                *(f"{report.confusion.get((figures.label, other), 0):,}" for other in given),
            )
            for figures in shown
        ),
        "" if len(report.labels) <= _MOST_CLASSES else f"The {_MOST_CLASSES} most frequent labels.",
    )


def _number_grid(label: str, figures: Mapping[str, NumberGoldReport], note: str) -> Grid:
    return Grid(
        f"{_brief(label)}: annotators and people",
        "Over the rows that people rated; the error is the annotator's number minus that of people",
        ("Annotator", "Rows", "Unanswered", "Mean error", "Mean absolute error", "Weighted kappa"),
        tuple(
            (
                _brief(name),
                f"{report.rows:,}",
                f"{report.unanswered:,}",
                _number(report.mean_error),
                _number(report.mean_absolute_error),
                _number(report.kappa.value),
            )
            for name, report in figures.items()
        ),
        note,
    )


def _interval(found: Interval | None) -> str:
    return "-" if found is None else f"{found.mean:.3f} ({found.low:.2f} to {found.high:.2f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _brief(text: Any) -> str:
    return cut(str(text), _NAME_BYTES).text
