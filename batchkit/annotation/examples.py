"""Labelled rows as finished conversations before each question (few-shot): chosen once by a seed, or the nearest to each row."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

from batchkit.annotation.recipe import Example
from batchkit.annotation.template import Template, Unrendered
from batchkit.answers import AnswerCheck
from batchkit.datasets.values import text_of
from batchkit.errors import UsageError
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from batchkit.annotation.recipe import Recipe
    from batchkit.datasets import Table

#: A recipe holds its examples, and each row is compared with all of them.
MOST_NEAREST: Final = 300
_ANSWER: Final = "answer"


def with_examples(
    recipe: Recipe, table: Table, *, count: int, seed: int, nearest: bool, columns: Mapping[str, str]
) -> Recipe:
    """Return a recipe that shows ``count`` labelled rows of ``table`` before each question.

    The rows are drawn by ``seed``; with ``nearest`` up to ``MOST_NEAREST`` are drawn, and each question gets those whose texts are most
    like its own. A row that asks the same as an example does not get it. ``columns`` maps the answer (``answer``) or its properties to
    columns of other names. Rows without a label are left out. Raises ``UsageError`` for a table without labelled rows, a column that it
    does not have, and a label that breaks the rules of the answer.
    """
    if recipe.images or recipe.messages is not None or len(recipe.prompts) > 1:
        raise UsageError("--examples belong to a single prompt without images and conversations")
    # One more than is shown, for rows that are examples themselves.
    most = MOST_NEAREST if nearest else count + 1
    drawn = _drawn(_labelled(recipe, table, columns), most, random.Random(seed))  # noqa: S311 - a reproducible choice
    if not drawn:
        raise UsageError(
            f"--examples: no row of {table.name} has a label", hint="labels are in the columns of the answer"
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


def _labelled(recipe: Recipe, table: Table, columns: Mapping[str, str]) -> Iterator[Example]:
    from batchkit.datasets import rows_of  # noqa: PLC0415 - an extra

    prompt = Template(recipe.prompts[0].user, table.columns, title="prompt")
    names = _label_columns(recipe, table, columns)
    check = AnswerCheck(recipe.answer_rules())
    read = sorted(prompt.columns | set(names.values()))
    number = 0
    for batch in table.batches():
        for row in rows_of(batch.select(read)):
            number += 1
            answer = _answer(row, names)
            if answer is None:
                continue
            try:
                user = prompt.render(row)
            except Unrendered as trouble:
                raise UsageError(f"--examples: {table.name}, row {number:,}: {trouble}") from None
            reading = check.read(_completion(answer))
            if reading.code is not None:
                raise UsageError(f"--examples: {table.name}, row {number:,}: {reading.message}")
            if user.strip():
                yield Example(user=user, assistant=answer)


def _label_columns(recipe: Recipe, table: Table, columns: Mapping[str, str]) -> dict[str, str]:
    """Return the table's column of each part of an answer."""
    schema = recipe.rules.json_schema or {}
    properties = schema.get("properties") if recipe.rules.format == "json" else None
    parts = list(properties) if isinstance(properties, dict) else [_ANSWER]
    found = {part: columns.get(part, part) for part in parts}
    present = {part: column for part, column in found.items() if column in table.columns}
    required = schema.get("required", []) if isinstance(properties, dict) else parts
    for part in required:
        if part not in present:
            raise UsageError(
                f"--examples: {table.name} has no column {found.get(part, part)!r} with the labels",
                hint=f"its columns are: {', '.join(table.columns)}; --gold LABEL=COLUMN names another",
            )
    return present


def _answer(row: Mapping[str, Any], names: Mapping[str, str]) -> str | None:
    values = {part: row[column] for part, column in names.items()}
    if all(not isinstance(value, (list, dict)) and not text_of(value).strip() for value in values.values()):
        return None
    if list(values) == [_ANSWER]:
        return text_of(values[_ANSWER])
    return jsonl.dumps(values).decode()


def _completion(text: str) -> str:
    message = {"role": "assistant", "content": text}
    return jsonl.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).decode()


def _drawn(examples: Iterator[Example], most: int, chance: random.Random) -> Sequence[Example]:
    """Draw ``most`` of the examples in one pass, each with the same probability."""
    kept: list[Example] = []
    for number, example in enumerate(examples):
        if number < most:
            kept.append(example)
        elif (place := chance.randrange(number + 1)) < most:
            kept[place] = example
    return kept
