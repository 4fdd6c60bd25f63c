"""The totals of a finished workload of a table: its cost, and how far its annotators agree."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from batchkit.annotation.columns import ANSWER, value_columns
from batchkit.annotation.people import GoldMeasure, gold_columns
from batchkit.annotation.recipe import load_recipe
from batchkit.annotation.reviewed import Decisions
from batchkit.annotation.row_answers import read_row_answers
from batchkit.annotation.votes import label_properties
from batchkit.annotation.voting import Voting, label_text, number_of, text_of_label
from batchkit.annotation.workload_from_table import snapshot_path
from batchkit.datasets import Snapshot
from batchkit.errors import UsageError
from batchkit.models import RequestState
from batchkit.provider.pricing import pricing_of
from batchkit.store import attempts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batchkit.annotation.recipe import Recipe
    from batchkit.annotation.row_answers import RowAnswers
    from batchkit.annotation.voting import Review, Value
    from batchkit.annotation.weighing import WeightedVotes
    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload
    from batchkit.stats.agreement import AgreementReport
    from batchkit.stats.gold import GoldReport, NumberGoldReport

#: Formats with comparable answers: free texts always differ, and a transcript has one annotator.
_COMPARABLE = frozenset({"json", "choice", "pattern", "number", "safety"})


#: The name of the vote among the annotators.
VOTE = "vote"


@dataclass(frozen=True, slots=True)
class Totals:
    """``cost_usd`` is the cost of all answers at ``prices``, None if a price is unknown; ``bad_answers`` counts rejected answers by reason.

    ``annotators`` are named by prompt, model and sample. ``agreement`` has a report for each property that is a label or a number, or
    one for the whole answer. ``review`` counts the rows that people should look at, by the reason. ``gold`` has the figures of each
    annotator and of their vote (``VOTE``) against what people gave, by label.
    """

    cost_usd: float | None
    prices: str
    bad_answers: dict[str, int] = field(default_factory=dict)
    annotators: tuple[str, ...] = ()
    agreement: dict[str, AgreementReport] = field(default_factory=dict)
    review: dict[Review, int] = field(default_factory=dict)
    gold: dict[str, dict[str, GoldReport | NumberGoldReport]] = field(default_factory=dict)


class RowVote(NamedTuple):
    """A row with the values of its annotators' answers, None without one, and why people should look at it."""

    row: RowAnswers
    values: list[Value | None]
    review: Review | None


def totals(
    runner: Runner, workload: Workload, *, gold: Sequence[str] = (), weighted: WeightedVotes | None = None
) -> Totals:
    """Return the totals of a finished workload.

    ``gold`` names columns with labels of people (see ``gold_columns``), ``weighted`` are the votes of its output. Raises
    ``UsageError`` if the workload was not made from a table, and for ``gold``.
    """
    if workload.recipe is None:
        raise UsageError(f"the workload {workload.name!r} was not made from a table", hint="`batchkit status` shows it")
    recipe = load_recipe(workload.recipe)
    with runner.store.read() as connection:
        bad = attempts.count_bad_answers(connection, workload.id)
    if recipe.requests_per_row == 1 and recipe.audio is None and recipe.speech is None and not gold:
        # A single annotator: the sums in the database are enough.
        usage = runner.progress(workload.id).usage
        pricing = pricing_of(workload.provider, workload.lane)
        cost = pricing.price(recipe.models[0], usage.prompt_tokens, usage.completion_tokens)
        return Totals(cost, pricing.described, bad)
    return replace(totals_of_rows(runner, workload, recipe, gold=gold, weighted=weighted), bad_answers=bad)


def totals_of_rows(
    runner: Runner,
    workload: Workload,
    recipe: Recipe,
    *,
    gold: Sequence[str] = (),
    weighted: WeightedVotes | None = None,
    most_rows: int | None = None,
    counts_reviews: bool = False,
    advance: Callable[[RowVote], object] = lambda _row: None,
) -> Totals:
    """Return the totals of the first ``most_rows`` rows, by default of all, without ``bad_answers``; ``advance`` gets each row.

    With ``counts_reviews`` what reviewers decided counts as what people gave, in place of ``gold``.
    """
    columns = value_columns(recipe)
    voting = Voting(recipe, columns)
    measures = _measures(recipe, voting)
    people = _gold_measure(runner, workload, recipe, voting, () if counts_reviews else gold)
    decisions = Decisions(runner, workload) if counts_reviews else None
    if decisions is not None:
        own = {label: label for label in (*voting.labels, *voting.numbers)}
        people = GoldMeasure(recipe, voting, own, _raters(recipe))
    cost: float | None = 0.0
    review: Counter[Review] = Counter()
    for row in islice(read_row_answers(runner, workload), most_rows):
        if row.skipped is not None:
            continue
        for answer in row.answers:
            if answer.status == RequestState.SUCCEEDED or answer.prompt_tokens is not None:
                cost = None if cost is None or answer.cost_usd is None else cost + answer.cost_usd
        values = [None if answer.value is None else columns.spread(answer.value) for answer in row.answers]
        for measure in measures.values():
            measure.add(values)
        reason = None
        raters = values
        if recipe.requests_per_row > 1:
            valid = [value for value in values if value is not None]
            if (reason := voting.review(valid)) is not None:
                review[reason] += 1
            raters = [*values, _vote(voting, valid, values, weighted)]
        given = row.row if decisions is None else decisions.at(row.number)
        if people is not None and given is not None:
            people.add(given, raters)
        advance(RowVote(row, values, reason))
    agreement = {name: measure.report() for name, measure in measures.items()}
    return Totals(
        cost,
        pricing_of(workload.provider, workload.lane).described,
        annotators=annotators(recipe),
        agreement=agreement,
        review=dict(review),
        gold={} if people is None else people.reports(),
    )


def _gold_measure(
    runner: Runner, workload: Workload, recipe: Recipe, voting: Voting, gold: Sequence[str]
) -> GoldMeasure | None:
    if not gold:
        return None
    table = Snapshot.open(snapshot_path(runner, workload)).columns
    return GoldMeasure(recipe, voting, gold_columns(gold, voting, table), _raters(recipe))


def _raters(recipe: Recipe) -> list[str]:
    return [*annotators(recipe), *([VOTE] if recipe.requests_per_row > 1 else [])]


def _vote(
    voting: Voting, valid: Sequence[Value], values: Sequence[Value | None], weighted: WeightedVotes | None
) -> Value | None:
    """Return the vote of a row's annotators, in which a tie is no answer."""
    if not valid:
        return None
    vote = dict(voting.vote(valid).value)
    if weighted is not None:
        vote |= {label: value for label, (value, _) in weighted.vote(values).items()}
    return {name: value for name, value in vote.items() if value is not None}


def annotators(recipe: Recipe) -> tuple[str, ...]:
    """Return the names of a recipe's annotators, in the order of a row's requests: prompt, model and sample, as far as there are several."""
    many_prompts, many_samples = len(recipe.prompts) > 1, recipe.samples > 1
    return tuple(
        " ".join([*([prompt.name] if many_prompts else []), model, *([f"#{sample}"] if many_samples else [])])
        for prompt in recipe.prompts
        for model in recipe.models
        for sample in range(1, recipe.samples + 1)
    )


class _LabelMeasure:
    """The agreement about one column of the answers, or with ``label`` None about the whole answers."""

    def __init__(self, label: str | None) -> None:
        self._label = label
        self._counts: Counter[tuple[str | None, ...]] = Counter()

    def add(self, values: Sequence[Value | None]) -> None:
        """Count a row with the answers of its annotators, None without one."""
        self._counts[tuple(map(self._text, values))] += 1

    def report(self) -> AgreementReport:
        """Return the agreement of all rows."""
        from batchkit.stats.agreement import agreement  # noqa: PLC0415 - loads the statistics, for several annotators only

        return agreement(self._counts)

    def _text(self, value: Value | None) -> str | None:
        if value is None or self._label is not None:
            return label_text(value, self._label or "")
        return text_of_label(dict(value))


class _NumberMeasure:
    """The agreement about a column that is a number."""

    def __init__(self, name: str, annotators: int) -> None:
        from batchkit.stats.ratings import RatingAgreement  # noqa: PLC0415 - as above

        self._name = name
        self._found = RatingAgreement(annotators)

    def add(self, values: Sequence[Value | None]) -> None:
        """Count a row, as ``_LabelMeasure`` does; what is no number is no rating."""
        self._found.add([number_of(value, self._name) for value in values])

    def report(self) -> AgreementReport:
        """Return the agreement of all rows."""
        return self._found.report()


def _measures(recipe: Recipe, voting: Voting) -> dict[str, _LabelMeasure | _NumberMeasure]:
    """Return what measures the agreement about each label and number of the answers, else about the whole answers."""
    if recipe.requests_per_row == 1 or recipe.rules.format not in _COMPARABLE:
        return {}
    labels = ("safe",) if recipe.rules.format == "safety" else label_properties(recipe.rules)
    if not labels and not voting.numbers:
        return {ANSWER: _LabelMeasure(None)}
    numbers = {name: _NumberMeasure(name, recipe.requests_per_row) for name in voting.numbers}
    return {**{label: _LabelMeasure(label) for label in labels}, **numbers}
