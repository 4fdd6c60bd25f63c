"""Reading a suite's YAML, with the line and column of everything that is wrong in it, all at once."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from batchkit.errors import InputInvalid, InputUnreadable, Problem
from batchkit.evaluation.suite import Place, Suite

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Flaw(Problem):
    """A problem of a suite; ``line`` and ``column`` start at 1."""

    column: int = 1

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}: {self.reason}"


@dataclass(frozen=True, slots=True)
class SuiteFile:
    """A suite and the file that it was read from, which knows where everything stands."""

    path: Path
    suite: Suite
    root: yaml.Node

    def complaint(self, flaws: Iterable[tuple[Place, str]]) -> InputInvalid | None:
        """Make an error of what is wrong at some places; None when nothing is."""
        found = [_flaw(self.path, self.root, place, reason) for place, reason in flaws]
        return _invalid(found) if found else None


def load_suite(path: str | Path) -> SuiteFile:
    """Read and check a suite. Raises ``InputInvalid`` with every problem by line, and ``InputUnreadable``."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputUnreadable(path, f"cannot be read: {reason}", "name the YAML file of a suite") from error
    root, document = _parse(path, text)
    flaws = list(_repeated_keys(path, root))
    if "folder" in document:
        flaws.append(_flaw(path, root, ("folder",), "there is no key 'folder'", points_at_key=True))
    try:
        folder = str(path.absolute().parent)
        suite = Suite.model_validate({**document, "folder": folder}, context={"folder": folder})
    except ValidationError as error:
        flaws += [_flaw_of(path, root, found) for found in error.errors(include_url=False)]
        raise _invalid(flaws) from None
    flaws += [_flaw(path, root, place, reason) for place, reason in suite.contradictions()]
    if flaws:
        raise _invalid(flaws)
    return SuiteFile(path, suite, root)


def _parse(path: Path, text: str) -> tuple[yaml.Node, dict[Any, Any]]:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        said = getattr(error, "problem", None) or str(error)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise _invalid([Flaw(str(path), line, f"this is no YAML: {said}", column)]) from None
    if root is None or not isinstance(document, dict):
        raise _invalid([Flaw(str(path), 1, "a suite is a mapping: `name: ...`, `dataset: ...`, `models: ...`")])
    return root, document


def _invalid(flaws: list[Flaw]) -> InputInvalid:
    ordered = sorted(flaws, key=lambda flaw: (flaw.line, flaw.column))
    return InputInvalid(list(ordered[:_SHOWN]), len(ordered))


def _flaw_of(path: Path, root: yaml.Node, error: Any) -> Flaw:
    place: Place = error["loc"]
    if error["type"] == "extra_forbidden":
        name = str(place[-1])
        near = get_close_matches(name, sorted(_keys_at(place)), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return _flaw(path, root, place, f"there is no key {name!r}{hint}", points_at_key=True)
    if error["type"] == "missing":
        return _flaw(path, root, place, f"the key {str(place[-1])!r} is missing")
    reason = error["msg"].removeprefix("Value error, ")
    if error["type"] == "string_type" and isinstance(error["input"], bool):
        reason = "YAML takes this for true or false: put it in quotes"
    if error["type"] == "union_tag_invalid":
        near = get_close_matches(
            str(error["input"].get("kind")), error["ctx"]["expected_tags"].replace("'", "").split(", "), n=1
        )
        reason = f"there is no scorer {error['input'].get('kind')!r}{f'; did you mean {near[0]!r}?' if near else ''} ({error['ctx']['expected_tags']})"
    shown = [str(part) for part in place if isinstance(part, str)]
    return _flaw(path, root, place, f"{shown[-1]}: {reason}" if shown else reason)


def _flaw(path: Path, root: yaml.Node, place: Place, reason: str, *, points_at_key: bool = False) -> Flaw:
    mark = _mark(root, place, points_at_key=points_at_key)
    return Flaw(str(path), mark.line + 1, reason, mark.column + 1)


def _mark(node: yaml.Node, place: Place, *, points_at_key: bool) -> yaml.Mark:
    """Find where a place is written; of one that is not written at all, what it should be in."""
    mark = node.start_mark
    for part in place:
        if isinstance(node, yaml.MappingNode):
            entry = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if entry is not None:
                key, node = entry
                mark = key.start_mark if points_at_key else node.start_mark
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            mark = node.start_mark
    return mark


def _repeated_keys(path: Path, node: yaml.Node) -> Iterator[Flaw]:
    """Find keys that a mapping has twice: YAML's reader keeps the last one without a word."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated_keys(path, item)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                mark = key.start_mark
                yield Flaw(str(path), mark.line + 1, f"the key {key.value!r} is there twice", mark.column + 1)
            seen.add(str(key.value))
            yield from _repeated_keys(path, value)


def _keys_at(place: Place) -> set[str]:
    """Name the keys that could stand where one stands that could not."""
    models: list[type[BaseModel]] = [Suite]
    for part in place[:-1]:
        if not isinstance(part, str):
            continue
        tagged = [model for model in models if part in _kinds(model)]
        inside = [
            found
            for model in models
            for name, field in model.model_fields.items()
            if part in {name, field.alias}
            for found in _models_in(field.annotation)
        ]
        models = tagged or inside or models
    keys = {field.alias or name for model in models for name, field in model.model_fields.items()}
    return keys - {"folder"}


def _kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    kind = model.model_fields.get("kind")
    return get_args(kind.annotation) if kind is not None else ()


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]
