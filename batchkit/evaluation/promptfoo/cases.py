"""Tests of a configuration: the variables of each, and what is expected of its answer."""

from __future__ import annotations

import csv
import io
import itertools
import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from batchkit.errors import UsageError
from batchkit.evaluation.promptfoo.prompts import model_of
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from batchkit.evaluation.promptfoo.reading import Source
    from batchkit.files.checked_yaml import Place

_MOST_TESTS: Final = 10_000
#: promptfoo.dev/docs/configuration/test-cases: `[not-]type[(threshold)][: value]`; anything else is the expected text.
_EXPECTED: Final = re.compile(r"(not-)?([a-z][a-z0-9-]*)(?:\((\d*\.?\d+)\))?\s*(?::\s*(.*))?", re.DOTALL)
_CSV_TYPES: Final = frozenset(
    {
        *("equals", "contains", "icontains", "contains-all", "contains-any", "icontains-all", "icontains-any"),
        *("starts-with", "regex", "is-json", "contains-json", "is-xml", "contains-xml", "is-sql", "contains-sql"),
        *("is-html", "contains-html", "javascript", "python", "similar", "llm-rubric", "factuality", "webhook"),
        *("model-graded-factuality", "model-graded-closedqa", "answer-relevance", "context-recall", "g-eval"),
        *("context-relevance", "context-faithfulness", "levenshtein", "rouge-n", "bleu", "latency", "cost", "f1"),
        *("perplexity", "perplexity-score", "classifier", "moderation", "is-refusal", "select-best", "word-count"),
    }
)
_OTHER_NAMES: Final = {"grade": "llm-rubric", "fn": "javascript", "eval": "javascript"}
_VARIABLE: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_TEMPLATE: Final = re.compile(r"\{[{%]")
_READ_KEYS: Final = frozenset({"vars", "assert", "description", "options"})


@dataclass(frozen=True, slots=True)
class Assertion:
    """What is expected of an answer; ``model`` is the grader's, ``where`` its place for people."""

    kind: str
    where: str
    value: Any = None
    threshold: float | None = None
    metric: str | None = None
    model: str | None = None


@dataclass(slots=True)
class ImportedTest:
    """A test: its variables, and its assertions."""

    variables: dict[str, Any]
    assertions: list[Assertion] = field(default_factory=list)
    description: str | None = None


@dataclass(frozen=True, slots=True)
class _Default:
    variables: Mapping[str, Any]
    assertions: tuple[tuple[Mapping[str, Any], str], ...]
    model: str | None


@dataclass(frozen=True, slots=True)
class _Raw:
    """A test as it is written, its place for people, and those of its assertions."""

    test: Mapping[str, Any]
    where: str
    where_assertion: Callable[[int], str]

    def assertions(self) -> list[tuple[Mapping[str, Any], str]]:
        """Return the assertions with their places."""
        given = self.test.get("assert")
        listed = given if isinstance(given, list) else []
        return [(_mapping(one), self.where_assertion(n)) for n, one in enumerate(listed) if isinstance(one, dict)]


def read_tests(source: Source) -> list[ImportedTest]:
    """Return the tests, one for each combination of variables with several values. Raises ``InputInvalid`` if there are none."""
    found: list[ImportedTest] = []
    default = _default(source)
    for raw in _raw_tests(source):
        for test in _test(source, raw, default):
            if len(found) == _MOST_TESTS:
                raise UsageError(f"{source.path} has more than {_MOST_TESTS:,} tests", hint="import a part of it")
            found.append(test)
    if not found:
        raise source.error(
            ("tests",) if "tests" in source.document else (), "the configuration has no `tests` to import"
        )
    return found


def _default(source: Source) -> _Default:
    given, where = source.document.get("defaultTest"), source.where(("defaultTest",))
    if isinstance(given, str):
        paths = source.files(given, where)
        raw = _of_other_file(_mapping(source.value(paths[0]) if paths else None), where)
    else:
        raw = _Raw(_mapping(given), where, lambda nth: source.where(("defaultTest", "assert", nth)))
    _note_other_keys(source, raw.test, where)
    return _Default(_mapping(raw.test.get("vars")), tuple(raw.assertions()), _grader(raw.test))


def _raw_tests(source: Source) -> Iterator[_Raw]:
    given = source.document.get("tests")
    listed = given if isinstance(given, list) else [] if given is None else [given]
    for number, entry in enumerate(listed):
        place: Place = ("tests", number) if isinstance(given, list) else ("tests",)
        where = source.where(place)
        reference = entry.get("path") if isinstance(entry, dict) and "vars" not in entry else entry
        if isinstance(reference, str):
            for path in source.files(reference, where):
                yield from _of_file(source, path)
        elif isinstance(entry, dict):
            yield _Raw(entry, where, partial(_where_assertion, source, place))
        else:
            source.notes.add(where, "this is no test")


def _where_assertion(source: Source, place: Place, nth: int) -> str:
    return source.where((*place, "assert", nth))


def _of_other_file(test: Mapping[str, Any], where: str) -> _Raw:
    return _Raw(test, where, lambda _nth: where)


def _of_file(source: Source, path: Path) -> Iterator[_Raw]:
    suffix = path.suffix.lower()
    if suffix in {".csv", ".tsv"}:
        yield from _of_csv(source, path)
    elif suffix in {".yaml", ".yml", ".json", ".jsonl"}:
        value = source.value(path)
        for number, entry in enumerate(value if isinstance(value, list) else [value], 1):
            where = f"{path.name}, test {number:,}"
            if isinstance(entry, dict):
                yield _of_other_file(entry, where)
            else:
                source.notes.add(where, "this is no test")
    else:
        source.notes.add(str(path.name), "tests are read from .csv, .yaml, .json and .jsonl files only")


def _of_csv(source: Source, path: Path) -> Iterator[_Raw]:
    reader = csv.DictReader(
        io.StringIO(source.text(path), newline=""), delimiter="\t" if path.suffix == ".tsv" else ","
    )
    try:
        for number, row in enumerate(reader, 1):
            where = f"{path.name}, row {number:,}"
            cells = {str(name).strip(): text or "" for name, text in row.items() if isinstance(name, str)}
            test: dict[str, Any] = {"vars": {}, "assert": []}
            metric, threshold = cells.get("__metric"), cells.get("__threshold")
            for name, text in cells.items():
                if name.startswith("__expected"):
                    if text.strip():
                        test["assert"].append(_of_cell(text.strip(), metric))
                elif name == "__description":
                    test["description"] = text
                elif not name.startswith("__"):
                    test["vars"][name] = text
                elif text.strip() and name not in {"__metric", "__threshold"}:
                    source.notes.add(where, f"the column {name} has no counterpart")
            if threshold:
                test["threshold"] = threshold
            yield _of_other_file(test, where)
    except csv.Error as error:
        raise UsageError(f"{path}: not CSV: {error}", hint="correct it, or leave it out") from None


def _of_cell(text: str, metric: str | None) -> dict[str, Any]:
    """Return the assertion of a cell."""
    match = _EXPECTED.fullmatch(text)
    kind = "" if match is None else _OTHER_NAMES.get(match[2], match[2])
    if match is None or kind not in _CSV_TYPES or (match[4] is None and kind not in {"is-json", "contains-json"}):
        return {"type": "equals", "value": text, "metric": metric}
    value: Any = match[4]
    if kind.removeprefix("i") in {"contains-all", "contains-any"}:
        value = [part.strip() for part in (value or "").split(",")]
    return {"type": (match[1] or "") + kind, "value": value, "threshold": match[3], "metric": metric}


def _test(source: Source, raw: _Raw, default: _Default) -> Iterator[ImportedTest]:
    where = raw.where
    _note_other_keys(source, raw.test, where)
    given = raw.test.get("vars")
    if isinstance(given, str):
        paths = source.files(given, where)
        given = source.value(paths[0]) if paths else None
    variables = {**default.variables, **_mapping(given)}
    choices = {name: _values(source, value, where) for name, value in variables.items()}
    model = _grader(raw.test) or default.model
    description = raw.test.get("description")
    # Those of all tests first: so they have the same place among the assertions of each.
    asserted = [*default.assertions, *raw.assertions()]
    for values in itertools.product(*choices.values()):
        own = dict(zip(choices, values, strict=True))
        test = ImportedTest(own, description=description if isinstance(description, str) else None)
        for one, place in asserted:
            test.assertions += _assertions(source, one, own, place, model)
        yield test


def _values(source: Source, value: Any, where: str) -> list[Any]:
    """Return the values of a variable: each of a list makes a test of its own; a file stands for its content."""
    values = value if isinstance(value, list) and value else [value]
    found = []
    for one in values:
        if isinstance(one, str) and one.startswith("file://"):
            paths = [path for path in source.files(one, where) if path.suffix in _TEXT_SUFFIXES]
            if not paths:
                source.notes.add(where, f"{one} is no text, so the variable is empty")
            found += [
                source.value(path) if path.suffix in _VALUE_SUFFIXES else source.text(path) for path in paths
            ] or [None]
        else:
            found.append(one)
    return found


_VALUE_SUFFIXES: Final = frozenset({".json", ".yaml", ".yml"})
_TEXT_SUFFIXES: Final = frozenset({".txt", ".md", ".csv", ".html", ".xml", *_VALUE_SUFFIXES})


def _assertions(
    source: Source, raw: Mapping[str, Any], variables: Mapping[str, Any], where: str, model: str | None
) -> Iterator[Assertion]:
    reference = raw.get("$ref")
    if isinstance(reference, str):
        template = _mapping(source.document.get("assertionTemplates")).get(reference.rpartition("/")[2])
        raw = {**_mapping(template), **{name: value for name, value in raw.items() if name != "$ref"}}
    kind = raw.get("type")
    if kind == "assert-set":
        source.notes.add(where, "an assert-set is taken apart: each of its assertions is a scorer")
        for one in _mappings(raw.get("assert")):
            if one.get("type") != "assert-set":
                yield from _assertions(source, one, variables, where, model)
        return
    if not isinstance(kind, str):
        source.notes.add(where, "an assertion without a `type`")
        return
    for name in ("weight", "transform", "config", "rubricPrompt", "contextTransform"):
        if raw.get(name) not in (None, 1):
            source.notes.add(where, f"`{name}` of an assertion has no counterpart")
    value = raw.get("value")
    if isinstance(value, str) and value.startswith("file://") and kind not in {"python", "javascript"}:
        paths = source.files(value, where)
        value = source.text(paths[0]) if paths else None
    yield Assertion(
        kind,
        where,
        _filled(value, variables),
        _number(raw.get("threshold")),
        raw["metric"] if isinstance(raw.get("metric"), str) and raw["metric"].strip() else None,
        _model(raw.get("provider")) or model,
    )


def _filled(value: Any, variables: Mapping[str, Any]) -> Any:
    """Return a value with the test's variables in it."""
    if isinstance(value, list):
        return [_filled(part, variables) for part in value]
    if not isinstance(value, str) or "{{" not in value:
        return value
    return _VARIABLE.sub(lambda match: text(variables[match[1]]) if match[1] in variables else match[0], value)


def is_template(value: Any) -> bool:
    """Whether a value is a template that was not filled in with variables."""
    return _TEMPLATE.search(value) is not None if isinstance(value, str) else False


def text(value: Any) -> str:
    """Return a value as a template shows it."""
    if isinstance(value, str):
        return value
    return "" if value is None else jsonl.dumps(value).decode()


def _note_other_keys(source: Source, test: Mapping[str, Any], where: str) -> None:
    for name in test:
        if name not in _READ_KEYS:
            source.notes.add(where, f"`{name}` of a test has no counterpart")
    for name in _mapping(test.get("options")):
        if name != "provider":
            source.notes.add(where, f"the option `{name}` of a test has no counterpart")


def _grader(test: Mapping[str, Any]) -> str | None:
    return _model(_mapping(test.get("options")).get("provider"))


def _model(provider: Any) -> str | None:
    """Return the model of a grading provider, which may be named for each purpose."""
    if isinstance(provider, dict):
        provider = provider.get("id", provider.get("text"))
        if isinstance(provider, dict):
            provider = provider.get("id")
    return model_of(provider) if isinstance(provider, str) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return {str(name): member for name, member in value.items()} if isinstance(value, dict) else {}


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [_mapping(entry) for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None
