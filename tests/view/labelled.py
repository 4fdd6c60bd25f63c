"""A finished annotation by three models that disagree about some rows, whose right labels are known."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import update

from batchkit.engine.runtime import Runner
from batchkit.settings import load_settings
from batchkit.store.tables import shards
from tests.annotation.test_row_answers import Table
from tests.workloads import write_lines

if TYPE_CHECKING:
    from pathlib import Path

    from batchkit.models import Workload

LABELS = ("positive", "negative", "mixed")
THREE = ("openai/gpt-oss-20b", "openai/gpt-oss-120b", "llama-3.1-8b-instant")
_GOODS = ("kettle", "lamp", "backpack", "keyboard", "tent", "bicycle lock", "headphones")
_SAID = (
    "does what it should, every single day",
    "stopped working after a week, and nobody answers",
    "is fine, but the lid is loose and the manual is in a language that I cannot read",
    "arrived in pieces; the second one is great",
    "is the third that we bought: the children love it",
)


def right(number: int) -> str:
    """Return the label of a row, whose number starts at 0."""
    return LABELS[number % 5 % 3]


def is_disputed(number: int) -> bool:
    """Whether the models disagree about a row."""
    return number % 4 == 1


def rows(count: int) -> list[dict[str, Any]]:
    """Return reviews of goods."""
    return [
        {
            "id": f"review-{number}",
            "product": _GOODS[number % len(_GOODS)],
            "text": f"The {_GOODS[number % len(_GOODS)]} {_SAID[number % len(_SAID)]}. (order {number})",
            "gold": right(number) if number % 2 else "",
        }
        for number in range(count)
    ]


def annotate(home: Path, database_url: str, folder: Path, count: int, **options: Any) -> Workload:
    """Make the annotation; of every fourth row the second model gives another label."""
    path = write_lines(folder / "goods.jsonl", rows(count))
    settings = load_settings(home=home, database_url=database_url, api_key="gsk_none", base_url="http://127.0.0.1:1")
    with Runner(settings) as runner:
        table = Table(runner, path)
        given = {"models": THREE, "choices": LABELS, "key": "id", **options}
        workload: Workload = table.annotation(**given)
        answers = []
        for number in range(count):
            other = LABELS[(LABELS.index(right(number)) + 1) % 3] if is_disputed(number) else right(number)
            answers += [right(number), other, right(number)][: len(given["models"])]
        table.settle(workload, answers)
        with runner.store.write() as connection:
            # As after the merge of its only batch.
            merged = {"state": "merged", "batch_id": f"batch_{workload.id}", "input_file_id": "file_1"}
            ended = {"merged_at": time.time(), "succeeded": len(answers), "prompt_tokens": 100, "completion_tokens": 20}
            connection.execute(update(shards).where(shards.c.workload_id == workload.id).values({**merged, **ended}))
        return workload
