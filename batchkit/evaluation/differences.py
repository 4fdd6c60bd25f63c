"""What differs between two runs beside their answers: rows, labels, prompts, models, parameters, rules and scorers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from batchkit import formatting
from batchkit.evaluation.suite import Suite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batchkit.evaluation.measure import Pairing, Rows

_SHOWN = 5
_VALUE_CHARACTERS = 60


class ChangedScorers(NamedTuple):
    """The labels of scorers that differ from those of an earlier suite: changed, new and gone ones."""

    changed: tuple[str, ...]
    new: tuple[str, ...]
    gone: tuple[str, ...]


class RowDifferences(NamedTuple):
    """How the rows of two runs differ. ``relabelled`` are the places in this run of the paired rows whose labels changed.

    ``relabelled`` and ``edited`` (rows whose other columns changed) are None if one of the runs did not record that. ``can_pair`` is
    False if the rows have no key and the table is another one.
    """

    paired: int
    new: int
    gone: int
    relabelled: tuple[int, ...] | None
    edited: int | None
    can_pair: bool = True


def changed_scorers(now: Suite, then: Suite) -> ChangedScorers:
    """Return which scorers differ."""
    today = {scorer.label: Suite.scorer_definition(scorer) for scorer in now.scorers}
    earlier = {scorer.label: Suite.scorer_definition(scorer) for scorer in then.scorers}
    # A scorer without a column of its own has that of the suite.
    column_changed = now.expected != then.expected
    changed = tuple(
        scorer.label
        for scorer in now.scorers
        if scorer.label in earlier
        and (
            today[scorer.label] != earlier[scorer.label]
            or (column_changed and scorer.needs_expected and scorer.expected is None)
        )
    )
    return ChangedScorers(
        changed,
        tuple(label for label in today if label not in earlier),
        tuple(label for label in earlier if label not in today),
    )


def row_differences(rows: Rows, earlier: Rows, pairing: Pairing) -> RowDifferences:
    """Compare the rows of two runs."""
    paired = len(pairing.now)
    relabelled = edited = None
    if rows.labels is not None and earlier.labels is not None:
        differs = rows.labels[pairing.now] != earlier.labels[pairing.then]
        relabelled = tuple(int(place) for place in pairing.now[differs])
    if rows.contents is not None and earlier.contents is not None:
        edited = int(np.count_nonzero(rows.contents[pairing.now] != earlier.contents[pairing.then]))
    can_pair = paired > 0 or any(rows.keys)
    return RowDifferences(paired, len(rows.keys) - paired, len(earlier.keys) - paired, relabelled, edited, can_pair)


def described(now: Suite, then: Suite, rows: RowDifferences, *, same_prompts: bool = True) -> Iterator[str]:
    """Yield a sentence for each difference between two runs.

    ``same_prompts`` is whether they recorded the same digests of the prompts that both have, which include the content of examples.
    """
    datasets, earlier = ([rows.name for rows in suite.dataset.datasets] for suite in (now, then))
    yield from _names("dataset", datasets, earlier)
    yield from _of_rows(rows)
    yield from _of_prompts(now, then)
    if now.examples != then.examples:
        yield "the examples changed"
    elif now.examples is not None and now.named_prompts == then.named_prompts and not same_prompts:
        yield "the rows of the examples changed"
    yield from _names("model", now.models, then.models)
    yield from _of_parameters(now, then)
    if now.answers != then.answers:
        yield "the rules for answers changed"
    if now.samples != then.samples:
        yield f"samples of each row: {then.samples} -> {now.samples}"
    if now.images != then.images:
        yield "the image columns changed"
    scorers = changed_scorers(now, then)
    for label in scorers.changed:
        yield f"the scorer {label!r} changed"
    for label in scorers.new:
        yield f"the scorer {label!r} is new"
    for label in scorers.gone:
        yield f"the scorer {label!r} is gone"
    if now.missing != then.missing:
        yield f"failed answers: `missing: {then.missing}` -> `missing: {now.missing}`"


def _of_rows(rows: RowDifferences) -> Iterator[str]:
    if not rows.can_pair:
        yield "the table changed, and without a `key` no row can be paired"
        return
    if rows.new or rows.gone:
        yield (f"rows: {rows.new:,} new, {rows.gone:,} gone; {formatting.counted(rows.paired, 'row')} in both runs")
    if rows.relabelled:
        yield f"labels changed in {len(rows.relabelled):,} of {formatting.counted(rows.paired, 'row')}"
    if rows.edited:
        yield f"other columns changed in {rows.edited:,} of {formatting.counted(rows.paired, 'row')}"


def _of_prompts(now: Suite, then: Suite) -> Iterator[str]:
    today, earlier = now.named_prompts, then.named_prompts
    yield from _names("prompt", tuple(today), tuple(earlier))
    for name, prompt in today.items():
        if name in earlier and prompt != earlier[name]:
            yield f"the prompt {name!r} changed" if len(today) > 1 else "the prompt changed"


def _names(what: str, now: Sequence[str], then: Sequence[str]) -> Iterator[str]:
    new = [name for name in now if name not in then]
    gone = [name for name in then if name not in now]
    for names, how in ((new, "new"), (gone, "gone")):
        if names:
            listed = ", ".join(map(repr, names[:_SHOWN])) + (" ..." if len(names) > _SHOWN else "")
            told = f"the {what} {listed} is {how}" if len(names) == 1 else f"the {what}s {listed} are {how}"
            yield f"{told}, compared with nothing" if how == "new" else told


def _of_parameters(now: Suite, then: Suite) -> Iterator[str]:
    today, earlier = now.parameters.model_dump(mode="json"), then.parameters.model_dump(mode="json")
    for name, value in today.items():
        if value != earlier[name]:
            yield f"the parameter {name}: {_shown(earlier[name])} -> {_shown(value)}"


def _shown(value: Any) -> str:
    text = "not set" if value is None or value == [] else str(value)
    return text if len(text) <= _VALUE_CHARACTERS else text[: _VALUE_CHARACTERS - 1] + "…"


def judges_changed(now: Suite, then: Suite) -> frozenset[str]:
    """Return the labels of judges that are new or ask something else: their judgements of an earlier run would have to be bought."""
    earlier = {judge.label: judge.judgements_of() for judge in then.judges}
    return frozenset(judge.label for judge in now.judges if judge.judgements_of() != earlier.get(judge.label))
