"""Labelled rows as finished conversations before each question (few-shot): chosen once by a seed, or the nearest to each row."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from batchkit.annotation.labelled import RENAMING, LabelledRows, WrongLabel
from batchkit.annotation.recipe import Example
from batchkit.annotation.template import Template, Unrendered
from batchkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from batchkit.annotation.recipe import Recipe
    from batchkit.datasets import Table

#: A recipe holds its examples, and each row is compared with all of them.
MOST_NEAREST: Final = 300


def with_examples(
    recipe: Recipe,
    table: Table,
    *,
    count: int,
    seed: int,
    nearest: bool,
    columns: Mapping[str, str],
    option: str = "--examples",
    renaming: str = RENAMING,
) -> Recipe:
    """Return a recipe that shows ``count`` labelled rows of ``table`` before each question.

    The rows are drawn by ``seed``; with ``nearest`` up to ``MOST_NEAREST`` are drawn, and each question gets those whose texts are most
    like its own. A row that asks the same as an example does not get it. ``columns`` maps the answer (``answer``) or its properties to
    columns of other names. Rows without a label are left out. ``option`` is what asks for the examples, ``renaming`` how it names other
    columns. Raises ``UsageError`` for a table without labelled rows, a column that it does not have, and a label that breaks the rules
    of the answer.
    """
    if recipe.images or recipe.messages is not None or len(recipe.prompts) > 1:
        raise UsageError(f"{option} belong to a single prompt without images and conversations")
    # One more than is shown, for rows that are examples themselves.
    most = MOST_NEAREST if nearest else count + 1
    rows = LabelledRows(recipe, table, columns, option=option, renaming=renaming)
    drawn = _drawn(_labelled(recipe, table, rows, option), most, random.Random(seed))  # noqa: S311 - a reproducible choice
    if not drawn:
        raise UsageError(
            f"{option}: no row of {table.name} has a label", hint="labels are in the columns of the answer"
        )
    return recipe.model_copy(update={"examples": tuple(drawn), "examples_count": count, "examples_nearest": nearest})


def chosen_for(recipe: Recipe, user: str) -> list[Example]:
    """Return the examples that a recipe shows before a question, the most similar last; never one that asks the same."""
    others = [example for example in recipe.examples if example.user != user]
    if not recipe.examples_nearest:
        return others[: recipe.examples_count]
    from rapidfuzz import fuzz, process  # noqa: PLC0415 - an extra, for this choice only

    texts = [example.user for example in others]
    near = process.extract(user, texts, scorer=fuzz.token_set_ratio, limit=recipe.examples_count)
    return [others[place] for _, _, place in reversed(near)]


def _labelled(recipe: Recipe, table: Table, rows: LabelledRows, option: str) -> Iterator[Example]:
    from batchkit.datasets import rows_of  # noqa: PLC0415 - an extra

    prompt = Template(recipe.prompts[0].user, table.columns, title="prompt")
    number = 0
    for batch in table.batches():
        for row in rows_of(batch.select(sorted(prompt.columns | rows.columns))):
            number += 1
            try:
                answer = rows.text(row)
                user = prompt.render(row)
            except (Unrendered, WrongLabel) as trouble:
                raise UsageError(f"{option}: {table.name}, row {number:,}: {trouble}") from None
            if answer is not None and user.strip():
                yield Example(user=user, assistant=answer)


def _drawn(examples: Iterator[Example], most: int, chance: random.Random) -> Sequence[Example]:
    """Draw ``most`` of the examples in one pass, each with the same probability."""
    kept: list[Example] = []
    for number, example in enumerate(examples):
        if number < most:
            kept.append(example)
        elif (place := chance.randrange(number + 1)) < most:
            kept[place] = example
    return kept
