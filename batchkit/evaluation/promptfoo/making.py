"""From a configuration to the text of a suite and the rows of its dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from batchkit.annotation.template import Template
from batchkit.errors import UsageError
from batchkit.evaluation.promptfoo.assertions import scorers_of
from batchkit.evaluation.promptfoo.cases import read_tests
from batchkit.evaluation.promptfoo.prompts import Names, read_models, read_prompts
from batchkit.evaluation.promptfoo.reading import Source
from batchkit.files import jsonl
from batchkit.files.yaml_text import yaml_text
from batchkit.formatting import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from batchkit.evaluation.promptfoo.assertions import ImportedScorers
    from batchkit.evaluation.promptfoo.cases import ImportedTest
    from batchkit.evaluation.promptfoo.prompts import ImportedPrompt

#: The keys of a configuration that are read; every other one is noted.
_READ_KEYS: Final = frozenset(
    {"description", "prompts", "providers", "targets", "tests", "defaultTest", "evaluateOptions", "assertionTemplates"}
)
_NAME_CHARACTERS: Final = 60
_MOST_SAMPLES: Final = 1_000


@dataclass(frozen=True, slots=True)
class ImportedConfiguration:
    """A suite and its dataset as the texts of their files; ``notes`` are what has no counterpart, or another meaning."""

    suite: str
    rows: bytes
    notes: list[str]


def suite_of_configuration(path: Path, *, name: str, dataset: str) -> ImportedConfiguration:
    """Return the suite ``name`` of a configuration, whose rows will be in the file ``dataset``.

    Raises ``InputInvalid`` with the line, ``InputUnreadable``, and ``UsageError``.
    """
    source = Source(path)
    for key in source.document:
        if key not in _READ_KEYS:
            source.note((key,), f"`{printable(str(key), 40)}` has no counterpart")
    models = read_models(source)
    tests = read_tests(source)
    scorers = scorers_of(tests, models.names, source.notes)
    rows, key = _rows(tests, scorers)
    prompts = _readable(read_prompts(source), list(rows[0]), source)
    document: dict[str, Any] = {"name": name[:_NAME_CHARACTERS], "dataset": {"path": dataset, "key": key}}
    if len(prompts) == 1:
        content = prompts[0].content
        document["prompt" if isinstance(content, str) else "messages"] = content
    else:
        document["prompts"] = {
            prompt.name: prompt.content if isinstance(prompt.content, str) else {"messages": prompt.content}
            for prompt in prompts
        }
    document["models"] = models.names
    samples = _samples(source)
    if samples > 1:
        document["samples"] = samples
    if models.parameters:
        document["parameters"] = models.parameters
    document["scorers"] = scorers.scorers
    notes = source.notes.lines()
    text = _head(path, notes) + yaml_text(document) + _unfinished(scorers)
    return ImportedConfiguration(text, b"".join(jsonl.dumps(row) + b"\n" for row in rows), notes)


def _rows(tests: Sequence[ImportedTest], scorers: ImportedScorers) -> tuple[list[dict[str, Any]], str]:
    """Return a row for each test, all with the same columns, and the name of their key."""
    variables = list(dict.fromkeys(name for test in tests for name in test.variables))
    names = Names({*variables, *scorers.columns})
    key = names.new("test")
    described = names.new("description") if any(test.description for test in tests) else None
    rows = []
    for place, test in enumerate(tests):
        row: dict[str, Any] = {key: place + 1}
        if described is not None:
            row[described] = test.description
        row |= {name: test.variables.get(name) for name in variables}
        row |= {name: values.get(place) for name, values in scorers.columns.items()}
        rows.append(row)
    return rows, key


def _readable(prompts: list[ImportedPrompt], columns: list[str], source: Source) -> list[ImportedPrompt]:
    """Return the prompts whose templates can be filled in from the rows. Raises ``InputInvalid`` if there is none."""
    found = []
    for prompt in prompts:
        try:
            read = {
                column
                for text in prompt.texts
                for column in Template(text, columns, title=f"prompt {prompt.name!r}").columns
            }
        except UsageError as error:
            source.notes.add(prompt.where, f"{error.message}; the prompt is left out")
        else:
            if not read:
                source.notes.add(
                    prompt.where, f"the prompt {prompt.name!r} reads no variable: it asks the same in each test"
                )
            found.append(prompt)
    if not found:
        said = "".join(f"\n  {line}" for line in source.notes.lines())
        raise source.error(("prompts",), f"no prompt has a counterpart:{said}")
    return found


def _samples(source: Source) -> int:
    options = source.document.get("evaluateOptions")
    given = options.get("repeat") if isinstance(options, dict) else None
    for key in options if isinstance(options, dict) else ():
        if key != "repeat":
            source.note(("evaluateOptions", key), f"`{printable(str(key), 40)}` has no counterpart")
    return min(given, _MOST_SAMPLES) if isinstance(given, int) else 1


def _head(path: Path, notes: Sequence[str]) -> str:
    lines = [f"Made of {printable(path.name, 100)} by `batchkit eval --import`. Check it with --dry-run."]
    if notes:
        lines += ["", "Without a counterpart, or with another meaning:", *(f"- {note}" for note in notes)]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines) + "\n"


def _unfinished(scorers: ImportedScorers) -> str:
    if not scorers.unfinished:
        return ""
    text = yaml_text(scorers.unfinished)
    return "# Scorers to finish:\n" + "".join(f"# {line}\n" for line in text.splitlines())
