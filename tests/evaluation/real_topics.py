"""A suite over real rows: messages in seven languages with their topics, from the corpus of the package chatterbot-corpus (BSD)."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import chatterbot_corpus  # type: ignore[import-untyped] # it holds data only
import yaml

from batchkit.emulator.scenarios.scenario import Reply
from batchkit.evaluation.suite_file import SuiteFile, load_suite

CORPUS = Path(chatterbot_corpus.__file__).parent / "data"
LANGUAGES = ("english", "german", "italian", "spanish", "french", "portuguese", "dutch")
TOPICS = (
    "food",
    "greetings",
    "history",
    "literature",
    "money",
    "movies",
    "politics",
    "psychology",
    "science",
    "sports",
)
#: Of one topic in one language.
_MOST = 25

SUITE = f"""
name: topics
dataset: {{path: topics.csv, key: id}}
prompt: "Which topic is this message about? {{{{ text }}}}"
models: [openai/gpt-oss-20b, openai/gpt-oss-120b]
parameters: {{temperature: 0}}
answers: {{choices: [{", ".join(TOPICS)}]}}
expected: topic
slices: [language]
scorers:
  - {{kind: choice, name: accuracy}}
alarms:
  - {{scorer: accuracy, fall: 0.05}}
  - {{scorer: accuracy, fall: 0.15, slice: language}}
report: "{{run}}.html"
"""


def rows() -> list[dict[str, str]]:
    """Return the first messages of the corpus' conversations, each text once."""
    found: dict[str, dict[str, str]] = {}
    for language in LANGUAGES:
        for topic in TOPICS:
            path = CORPUS / language / f"{topic}.yml"
            conversations = yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"] if path.exists() else []
            for number, said in enumerate(conversations[:_MOST], 1):
                text = " ".join(str(said[0]).split())
                found.setdefault(
                    text, {"id": f"{language}-{topic}-{number}", "text": text, "language": language, "topic": topic}
                )
    return list(found.values())


def write_suite(folder: Path) -> SuiteFile:
    """Write the table and its suite."""
    with (folder / "topics.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "text", "language", "topic"])
        writer.writeheader()
        writer.writerows(rows())
    path = folder / "topics.yaml"
    path.write_text(SUITE, encoding="utf-8")
    return load_suite(path)


def replies() -> tuple[Reply, ...]:
    """Return what a model that is always right says, a pattern for each topic."""
    return tuple(
        Reply(
            match=r"about\? (?:"
            + "|".join(re.escape(row["text"]) for row in rows() if row["topic"] == topic)
            + r")(?=\n|$)",
            content=topic,
        )
        for topic in TOPICS
    )
