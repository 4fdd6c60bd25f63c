"""Answers, suites and tables for tests of evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchkit.annotation.request_answer import RequestAnswer
from batchkit.emulator.answers.schema_answers import conforming
from batchkit.emulator.faults.answers import WrongAnswers
from batchkit.evaluation import runs
from batchkit.evaluation.suite_file import load_suite

if TYPE_CHECKING:
    from pathlib import Path

    from batchkit.evaluation.suite_file import SuiteFile

GUESS = {"type": "object", "properties": {"label": {"enum": ["positive", "negative"]}}, "required": ["label"]}
SMALL, LARGE = "openai/gpt-oss-20b", "openai/gpt-oss-120b"

RIGHT, WRONG = '{"label":"positive"}', '{"label":"negative"}'

REVIEWS = """
name: reviews
dataset: {path: reviews.csv, key: id}
prompt: "Is this review positive or negative? {{ text }}"
models: [openai/gpt-oss-20b, openai/gpt-oss-120b]
answers:
  schema: {type: object, properties: {label: {enum: [positive, negative]}}, required: [label], additionalProperties: false}
expected: label
slices: [language]
scorers:
  - {kind: choice, name: accuracy, field: label}
alarms:
  - {scorer: accuracy, fall: 0.05}
"""


def make_answer(value: Any = None, **values: Any) -> RequestAnswer:
    """Make an answer that succeeded, or whatever the values say."""
    given: dict[str, Any] = {
        "custom_id": "1:gpt-oss-20b:1",
        "seq": 0,
        "prompt": "prompt",
        "model": SMALL,
        "sample": 1,
        "status": "succeeded",
        "value": value,
        "text": value if isinstance(value, str) else None,
        "error_code": None,
        "error_message": None,
        "finish_reason": "stop",
        "attempts": 1,
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "cost_usd": None,
        "batch_id": "batch_1",
        "shard_id": 1,
    }
    return RequestAnswer(**{**given, **values})


def write_suite(folder: Path, text: str = REVIEWS, name: str = "reviews.yaml") -> Path:
    """Write a suite."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def write_reviews(folder: Path, count: int = 24) -> Path:
    """Write reviews whose labels are what the emulator answers, so that it is right about all of them."""
    path = folder / "reviews.csv"
    lines = ["id,text,language,label,seen,judged"]
    for number in range(count):
        text = f"review number {number}"
        label = conforming(GUESS, f"Is this review positive or negative? {text}")["label"]
        seen, judged = ("some answer", "fair") if number < 4 else ("", "")
        lines.append(f"r{number},{text},{'de' if number % 3 else 'en'},{label},{seen},{judged}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def reviews_suite(folder: Path, count: int = 24, text: str = REVIEWS) -> SuiteFile:
    """Write a suite with its table, and load it."""
    write_reviews(folder, count)
    return load_suite(write_suite(folder, text))


def wrong(fraction, model=SMALL):
    """Make a model wrong about a share of the rows."""
    return WrongAnswers(contents=(RIGHT, WRONG), fraction=fraction, models=frozenset({model}))


def drive(runner, evaluation):
    """Drive a run's workloads until there is none to drive."""
    while (workload := runs.next_workload(runner, evaluation)) is not None:
        runner.process(workload.id)


def night(runner, file, *, against=None, **more):
    """Do a whole run."""
    evaluation = runs.begin(runner, file, against=against, **more)
    drive(runner, evaluation)
    return runs.conclude(runner, evaluation, against=against).summary


def means(found, scorer="accuracy"):
    """Give the means over all rows by model."""
    return {metric.model: metric.mean for metric in found.metrics if metric.slice is None and metric.scorer == scorer}
