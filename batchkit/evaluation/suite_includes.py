"""Suites made of several files: a suite may include others, whose fields are its own unless it has them itself."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import yaml

from batchkit.errors import InputInvalid, InputUnreadable
from batchkit.files.checked_yaml import YamlFile, read_yaml
from batchkit.files.outputs import are_same

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batchkit.errors import InputProblem

INCLUDE: Final = "include"
#: Fields of which a suite has one: its own replaces each of them.
_ALTERNATIVES: Final = (("prompt", "messages", "prompts"), ("dataset", "datasets"))
#: Files that include each other twice and twice again would be read without end.
_MOST_FILES: Final = 100


@dataclass(slots=True)
class _Reading:
    """What the files of one suite share: their mistakes, and how many were read."""

    flaws: list[InputProblem] = field(default_factory=list)
    files: int = 0


def read_suite(path: Path) -> tuple[YamlFile, list[InputProblem]]:
    """Read a suite with the files that it includes, as one document that knows the file and line of each value; and its mistakes.

    Fields of the including file replace those of the included ones, and a later included file those of an earlier one; mappings are
    merged key by key. Paths in an included file begin in its own folder. Raises ``InputInvalid`` and ``InputUnreadable``.
    """
    reading = _Reading()
    file = _read(path, (), reading)
    # A file that is included twice has the same mistakes twice.
    return file, list(dict.fromkeys(reading.flaws))


def _read(path: Path, including: tuple[Path, ...], reading: _Reading) -> YamlFile:
    reading.files += 1
    file, repeated = read_yaml(path, what="a suite", example="`name: ...`, `dataset: ...`, `models: ...`")
    reading.flaws += repeated
    given = file.document.get(INCLUDE)
    own = _without(file, {INCLUDE})
    if given is None:
        return own
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list):
        reading.flaws.append(file.flaw((INCLUDE,), "include: name a YAML file, or a list of them"))
        return own
    below: YamlFile | None = None
    for number, name in enumerate(names):
        place = (INCLUDE,) if isinstance(given, str) else (INCLUDE, number)
        included = _included(file, place, name, (*including, path), reading)
        if included is not None:
            below = included if below is None else _merged(included, below)
    return own if below is None else _merged(own, below)


def _included(
    file: YamlFile, place: tuple[str | int, ...], name: Any, including: tuple[Path, ...], reading: _Reading
) -> YamlFile | None:
    """Return an included file with its paths as seen from the folder of ``file``; None if it cannot be read, which is noted."""
    if reading.files > _MOST_FILES:
        return None  # it is noted
    refusal = _refusal(file, name, including, reading)
    if refusal is not None:
        reading.flaws.append(file.flaw(place, f"include: {refusal}"))
        return None
    path = file.path.parent / name
    try:
        found = _read(path, including, reading)
    except InputUnreadable as error:
        reading.flaws.append(file.flaw(place, f"include: {error.message}"))
        return None
    except InputInvalid as error:
        reading.flaws += error.problems
        return None
    folder = os.path.dirname(name)  # noqa: PTH120 - the text of the path, which may be absolute or not
    return replace(found, document=_seen_from(found.document, folder)) if folder else found


def _refusal(file: YamlFile, name: Any, including: tuple[Path, ...], reading: _Reading) -> str | None:
    """Return why a file is not read; None if it is."""
    if not isinstance(name, str) or not name:
        return "name a YAML file"
    path = file.path.parent / name
    if any(are_same(path, other) for other in including):
        return f"the files include each other in a circle: {' -> '.join(map(str, (*including, path)))}"
    if reading.files == _MOST_FILES:
        reading.files += 1
        return f"a suite includes at most {_MOST_FILES} files"
    return None


def _without(file: YamlFile, names: set[str]) -> YamlFile:
    """Return a file without some of its fields."""
    entries = [entry for entry in file.root.value if entry[0].value not in names]
    document = {name: value for name, value in file.document.items() if name not in names}
    return replace(file, root=_node(file.root, entries), document=document)


def _merged(own: YamlFile, included: YamlFile) -> YamlFile:
    """Return a file with the fields of ``own``, and those of ``included`` that it does not have."""
    replaced = {
        name for names in _ALTERNATIVES if any(name in own.document for name in names) for name in names
    } - own.document.keys()
    included = _without(included, replaced)
    document = {**included.document, **own.document}
    nodes = {key.value: (key, value) for key, value in included.root.value}
    for key, value in own.root.value:
        mine, theirs = own.document.get(key.value), included.document.get(key.value)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            document[key.value] = {**theirs, **mine}
            entries = {
                inner.value: (inner, node) for part in (nodes[key.value][1], value) for inner, node in part.value
            }
            nodes[key.value] = (key, _node(value, list(entries.values())))
        else:
            nodes[key.value] = (key, value)
    return replace(own, root=_node(own.root, list(nodes.values())), document=document)


def _node(like: yaml.Node, entries: list[tuple[yaml.Node, yaml.Node]]) -> yaml.Node:
    return yaml.MappingNode(like.tag, entries, like.start_mark, like.end_mark)


def _seen_from(document: dict[Any, Any], folder: str) -> dict[Any, Any]:
    """Return a document whose relative paths begin one folder further out."""

    def moved(path: Any) -> Any:
        if isinstance(path, list):
            return [moved(part) for part in path]
        if not isinstance(path, str) or "://" in path:
            return path
        return os.path.normpath(os.path.join(folder, path))  # noqa: PTH118 - the suite's version has the text of the path

    def with_schema(value: Any) -> Any:
        return _at(value, "schema", moved)

    def of_dataset(value: Any) -> Any:
        return _at(_at(value, "path", moved), "datasets", of_datasets) if isinstance(value, dict) else moved(value)

    def of_datasets(value: Any) -> Any:
        return [of_dataset(part) for part in value] if isinstance(value, list) else value

    def of_scorers(value: Any) -> Any:
        return [_at(with_schema(part), "answers", with_schema) for part in value] if isinstance(value, list) else value

    changes: dict[str, Callable[[Any], Any]] = {
        "dataset": of_dataset,
        "datasets": of_datasets,
        "examples": lambda value: _at(value, "path", moved),
        "answers": with_schema,
        "scorers": of_scorers,
        "report": moved,
    }
    for name, change in changes.items():
        document = _at(document, name, change)
    return document


def _at(value: Any, name: str, change: Callable[[Any], Any]) -> Any:
    """Return a mapping with a changed member; anything else, and a mapping without it, is returned unchanged."""
    return {**value, name: change(value[name])} if isinstance(value, dict) and name in value else value
