"""YAML files with a pydantic model: all problems of a file are reported at once, with line and column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import yaml
from pydantic import BaseModel

from batchkit.errors import InputInvalid, InputProblem, InputUnreadable
from batchkit.formatting import or_rather

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pydantic import ValidationError

#: A place in a document as pydantic names it: keys and positions.
Place = tuple[str | int, ...]
_SHOWN = 20
_MOST_BYTES = 10_000_000
#: Values of a document with every alias written out: a few lines of aliases of aliases would fill any memory.
_MOST_VALUES = 200_000


@dataclass(frozen=True, slots=True)
class Flaw(InputProblem):
    """A problem of a document; ``line`` and ``column`` start at 1."""

    column: int = 1

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}: {self.reason}"


@dataclass(frozen=True, slots=True)
class YamlFile:
    """A mapping that was read from a file, with the places of its values; parts of it may stand in other files."""

    path: Path
    root: yaml.Node
    document: dict[Any, Any]

    def flaw(self, place: Place, reason: str, *, points_at_key: bool = False) -> Flaw:
        """Return a problem at a place; if the file lacks the place, at the mapping or list that should hold it."""
        return _flaw_at(_mark(self.root, place, points_at_key=points_at_key), reason)

    def unknown_key(self, place: Place, known: Iterable[str]) -> Flaw:
        """Return the problem of a key that is not ``known``."""
        return self.flaw(place, f"there is no key {str(place[-1])!r}{or_rather(place[-1], known)}", points_at_key=True)

    def flaws_of(
        self, error: ValidationError, model: type[BaseModel], *, hidden: Iterable[str] = (), added: Iterable[str] = ()
    ) -> list[Flaw]:
        """Return the problems that the model found.

        ``hidden`` are names of fields that no file has, ``added`` are keys of files that the model does not have.
        """
        found = error.errors(include_url=False)
        inside = {other["loc"][:length] for other in found for length in range(1, len(other["loc"]))}
        # A list from which invalid items were left out is not too short.
        told = [one for one in found if one["type"] != "too_short" or one["loc"] not in inside]
        return [self._flaw_of(one, model, set(hidden), set(added)) for one in told]

    def _flaw_of(self, error: Any, model: type[BaseModel], hidden: set[str], added: set[str]) -> Flaw:
        place: Place = error["loc"]
        if error["type"] == "extra_forbidden":
            known = _keys_at(place, model) - hidden
            return self.unknown_key(place, known | added if len(place) == 1 else known)
        if error["type"] == "missing":
            return self.flaw(place, f"the key {str(place[-1])!r} is missing")
        reason = error["msg"].removeprefix("Value error, ")
        if error["type"] == "string_type" and isinstance(error["input"], bool):
            reason = "YAML takes this for true or false: put it in quotes"
        shown = [str(part) for part in place if isinstance(part, str)]
        if error["type"] == "union_tag_invalid":
            kind, kinds = error["input"].get("kind"), error["ctx"]["expected_tags"]
            near = or_rather(kind, kinds.replace("'", "").split(", "))
            # The list has the plural of its items' name.
            reason = f"there is no {shown[-1].removesuffix('s')} {kind!r}{near} ({kinds})"
        return self.flaw(place, f"{shown[-1]}: {reason}" if shown else reason)


def read_yaml(path: Path, *, what: str, example: str) -> tuple[YamlFile, list[Flaw]]:
    """Read a file that holds a mapping; returns it with its repeated keys.

    ``what`` names such a file in errors ("a suite"), ``example`` is the beginning of one. Raises ``InputInvalid`` with the place,
    and ``InputUnreadable``.
    """
    root, document, repeated = _parsed(path, what)
    if root is None or not isinstance(document, dict):
        raise invalid([Flaw(str(path), 1, f"{what} is a mapping: {example}")])
    return YamlFile(path, root, document), repeated


def read_yaml_value(path: Path, *, what: str) -> Any:
    """Return the value of a file, whatever it is. Raises ``InputInvalid``, for repeated keys too, and ``InputUnreadable``."""
    _, document, repeated = _parsed(path, what)
    if repeated:
        raise invalid(repeated)
    return document


def _parsed(path: Path, what: str) -> tuple[yaml.Node | None, Any, list[Flaw]]:
    text = _text_of(path, what)
    try:
        loader = yaml.SafeLoader(text)
        # Marks name the file that they are in: a document may have parts of several.
        loader.name = str(path)
        root = loader.get_single_node()
        if root is None:
            return None, None, []
        _check_size(root)
        # First, as the construction writes out merged keys.
        repeated = _repeated_keys(root)
        return root, loader.construct_document(root), repeated
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        said = getattr(error, "problem", None) or str(error)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise invalid([Flaw(str(path), line, f"not valid YAML: {said}", column)]) from None
    except RecursionError:
        raise invalid([Flaw(str(path), 1, "not valid YAML: it is nested too deeply")]) from None
    except (ArithmeticError, ValueError) as error:
        # A number of thousands of digits, a day that does not exist.
        raise invalid([Flaw(str(path), 1, f"not valid YAML: {error}")]) from None


def _text_of(path: Path, what: str) -> str:
    hint = f"name the YAML file of {what}"
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise InputUnreadable(path, f"is larger than {_MOST_BYTES // 1_000_000} MB", hint)
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputUnreadable(path, "cannot be read: not UTF-8", hint) from error
    except (OSError, ValueError) as error:
        # No file system has a name with a zero byte.
        raise InputUnreadable(path, f"cannot be read: {getattr(error, 'strerror', None) or error}", hint) from error


def _check_size(root: yaml.Node) -> None:
    """Raise ``YAMLError`` for a document that is too large with its aliases written out, or that contains itself."""
    count = 0
    nodes = [root]
    while nodes:
        node = nodes.pop()
        count += 1
        if count > _MOST_VALUES:
            raise yaml.MarkedYAMLError(
                problem=f"with its aliases written out it has more than {_MOST_VALUES:,} values",
                problem_mark=node.start_mark,
            )
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            nodes += [part for entry in node.value for part in entry]


def invalid(flaws: Iterable[InputProblem]) -> InputInvalid:
    """Return the error of some problems, in the order of each file."""
    listed = list(flaws)
    files = list(dict.fromkeys(flaw.source for flaw in listed))
    ordered = sorted(listed, key=lambda flaw: (files.index(flaw.source), flaw.line, getattr(flaw, "column", 1)))
    return InputInvalid(list(ordered[:_SHOWN]), len(ordered))


def _mark(node: yaml.Node, place: Place, *, points_at_key: bool) -> yaml.Mark:
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


def _flaw_at(mark: yaml.Mark, reason: str) -> Flaw:
    return Flaw(mark.name, mark.line + 1, reason, mark.column + 1)


def _repeated_keys(node: yaml.Node) -> list[Flaw]:
    """Return the keys that a mapping has twice: YAML's reader silently keeps the last one."""
    found: list[Flaw] = []
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            found += _repeated_keys(item)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen and isinstance(key, yaml.ScalarNode):
                found.append(_flaw_at(key.start_mark, f"the key {name!r} is there twice"))
            seen.add(name)
            found += _repeated_keys(value)
    return found


def _keys_at(place: Place, model: type[BaseModel]) -> set[str]:
    """Return the keys that are allowed at the place of an unknown key."""
    models: list[type[BaseModel]] = [model]
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
    return {field.alias or name for model in models for name, field in model.model_fields.items()}


def _kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    kind = model.model_fields.get("kind")
    return get_args(kind.annotation) if kind is not None else ()


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]
