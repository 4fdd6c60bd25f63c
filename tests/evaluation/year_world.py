"""Rows, models and chance: which answers are wrong on which night."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from batchkit.annotation.row_answers import RowAnswers
from batchkit.datasets import rows_of
from batchkit.emulator.answers.schema_answers import conforming
from tests.evaluation.support import make_answer
from tests.evaluation.year_plan import (
    COLLAPSE,
    DECAY_PER_WEEK,
    DECAYING,
    FAILED_SHARE,
    FALL,
    FALLING,
    RELABELLED,
    REPLACED,
    SLICE,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from batchkit.datasets import Table
    from tests.evaluation.year_plan import Event

ROWS, CLUSTERS = 300, 60
#: The clusters of each slice.
SLICES = {"office": 28, "kitchen": 18, SLICE: 14}
NAMES = ("openai/gpt-oss-20b", "openai/gpt-oss-120b", "qwen/qwen3-32b", "llama-3.3-70b-versatile")
RENAMED = "openai/gpt-oss-120b-2"
MEANS = (0.90, 0.92, 0.88, 0.90)
#: A stricter scorer does not accept the spelling with a capital.
LABELS = ("positive", "negative", "Positive", "Negative")
SCHEMA = {
    "type": "object",
    "properties": {"label": {"enum": list(LABELS)}},
    "required": ["label"],
    "additionalProperties": False,
}
ASKED = "Is this review positive or negative?"

#: How rows, passages, and passages of one night differ in difficulty, in standard deviations of log odds.
_OF_ROWS, _OF_CLUSTERS, _OF_NIGHTS = 2.5, 1.0, 0.5


class World:
    """Rows with their difficulty for each model; every night draws from a generator of its own, so that nights do not depend on others."""

    def __init__(self, seed: int, models: int, planned: list[Event]) -> None:
        self.seed, self.planned = seed, {event.name: event for event in planned}
        self._count = models
        random = np.random.default_rng([seed, 0])
        rows = ROWS + REPLACED
        self.cluster = np.arange(rows) % CLUSTERS
        self.slice = np.repeat(list(SLICES), list(SLICES.values()))[self.cluster]
        self.skill = (
            random.normal(0, _OF_ROWS, (models, rows))
            + random.normal(0, _OF_CLUSTERS, (models, CLUSTERS))[:, self.cluster]
        )
        self.texts = [f"review number {row} of {seed}" for row in range(rows)]
        self.said = [str(conforming(SCHEMA, f"{ASKED} {text}")["label"]) for text in self.texts]
        self._corrected = set(random.choice(np.arange(REPLACED, ROWS), RELABELLED, replace=False).tolist())

    def models(self, night: int) -> list[str]:
        """Return the names of the models on a night."""
        names = list(NAMES[: self._count])
        if night >= self.planned["a model has a new name"].first:
            names[DECAYING] = RENAMED
        return names

    def rows(self, night: int) -> range:
        """Return the rows of the table on a night."""
        is_replaced = night >= self.planned["20 rows added, 20 removed"].first
        return range(REPLACED, ROWS + REPLACED) if is_replaced else range(ROWS)

    def write_table(self, folder: Path, night: int) -> None:
        """Write the table of a night."""
        is_corrected = night >= self.planned["labels of 9 rows corrected"].first
        lines = ["id,text,category,passage,label"]
        for row in self.rows(night):
            label = self.said[row].lower()
            if is_corrected and row in self._corrected:
                label = "negative" if label == "positive" else "positive"
            lines.append(f"r{row},{self.texts[row]},{self.slice[row]},p{self.cluster[row]},{label}")
        (folder / "reviews.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def wrong(self, night: int) -> frozenset[str]:
        """Return the requests whose answers are not the row's first label."""
        random = np.random.default_rng([self.seed, night])
        rows = np.array(self.rows(night))
        found: list[str] = []
        for place, model in enumerate(self.models(night)):
            shocks = random.normal(0, _OF_NIGHTS, CLUSTERS)[self.cluster]
            log_odds = (self.skill[place] + shocks)[rows]
            chances = self._chances(log_odds, night, place, self.slice[rows])
            found += [_request(row, model) for row in rows[random.random(rows.size) >= chances]]
        return frozenset(found)

    def failed(self, night: int) -> frozenset[str]:
        """Return the requests that fail on the provider's bad night."""
        random = np.random.default_rng([self.seed, night, 1])
        requests = [_request(row, model) for row in self.rows(night) for model in self.models(night)]
        return frozenset(name for name in requests if random.random() < FAILED_SHARE)

    def is_bad(self, night: int) -> bool:
        """Whether the provider fails on a share of the requests."""
        return night == self.planned["30 % of answers fail"].first

    def _chances(
        self, log_odds: NDArray[np.float64], night: int, place: int, slices: NDArray[np.str_]
    ) -> NDArray[np.float64]:
        target = MEANS[place]
        fall, slice_fall, decay = (
            self.planned[name]
            for name in (
                "one model falls by 0.10",
                "one model's smallest slice falls by 0.45",
                "one model decays by 0.003 a week",
            )
        )
        if place == FALLING and fall.first <= night <= fall.last:
            target -= FALL
        if place == DECAYING and night >= decay.first:
            target -= DECAY_PER_WEEK * (night - decay.first) / 7
        chances = at_mean(log_odds, target)
        if place == FALLING and slice_fall.first <= night <= slice_fall.last:
            inside = slices == SLICE
            chances[inside] = at_mean(log_odds[inside], float(chances[inside].mean()) - COLLAPSE)
        return chances


def _request(row: int | str, model: str) -> str:
    return f"r{row}:{model.rsplit('/', 1)[-1]}:1"


def at_mean(log_odds: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """Return chances with this mean that differ between rows as the log odds do."""
    low, high = -20.0, 20.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 / (1 + np.exp(-log_odds - middle))).mean() < mean else (low, middle)
    return np.asarray(1 / (1 + np.exp(-log_odds - low)))


def drawn_answers(world: World, night: int, rows_asked: Table) -> Iterator[RowAnswers]:
    """Yield the rows of a night's workload with the models' answers."""
    wrong = world.wrong(night)
    failed = world.failed(night) if world.is_bad(night) else frozenset()
    models = world.models(night)
    rows = (row for batch in rows_asked.batches() for row in rows_of(batch))
    for number, row in enumerate(rows):
        answers = []
        for place, model in enumerate(models):
            custom_id = _request(row["id"][1:], model)
            said = world.said[int(row["id"][1:])]
            label = LABELS[(LABELS.index(said) + 1) % len(LABELS)] if custom_id in wrong else said
            more = {"custom_id": custom_id, "seq": number * len(models) + place, "model": model}
            if custom_id in failed:
                more |= {"status": "failed", "error_code": "server_error"}
            answers.append(make_answer(None if custom_id in failed else {"label": label}, **more))
        yield RowAnswers(number + 1, row, tuple(answers))
