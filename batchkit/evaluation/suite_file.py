"""Reads a suite's YAML, and reports all its mistakes at once, each with line and column."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from batchkit.errors import UsageError
from batchkit.evaluation.suite import Suite
from batchkit.evaluation.suite_includes import INCLUDE, read_suite
from batchkit.files.checked_yaml import YamlFile, invalid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batchkit.errors import InputInvalid
    from batchkit.files.checked_yaml import Place

_ENDINGS = frozenset({".yaml", ".yml"})
#: The field for the suite's folder, which is not part of the file.
_FOLDER = "folder"
#: Keys of a file that stand for a member of a field.
_SHORT_FOR = {"messages": "prompt", "datasets": "dataset"}


@dataclass(frozen=True, slots=True)
class SuiteFile:
    """A suite and its file, which knows the file and line of each field."""

    path: Path
    suite: Suite
    file: YamlFile

    def complaint(self, flaws: Iterable[tuple[Place, str]]) -> InputInvalid | None:
        """Return an error with the mistakes at these places; None if there are none."""
        found = [self.file.flaw(place, reason) for place, reason in flaws]
        return invalid(found) if found else None


def load_suite(path: str | Path) -> SuiteFile:
    """Read and check a suite. Raises ``InputInvalid`` with every problem by line, and ``InputUnreadable``."""
    path = Path(path)
    file, flaws = read_suite(path)
    document = dict(file.document)
    if _FOLDER in document:
        flaws.append(file.unknown_key((_FOLDER,), ()))
    for key, field in _SHORT_FOR.items():
        if key in document:
            value = document.pop(key)
            if field in document:
                flaws.append(file.flaw((key,), f"`{field}` and `{key}` exclude each other", points_at_key=True))
            else:
                document[field] = {key: value}
    try:
        folder = str(path.absolute().parent)
        suite = Suite.model_validate({**document, _FOLDER: folder}, context={_FOLDER: folder})
    except ValidationError as error:
        added = {*_SHORT_FOR, INCLUDE}
        raise invalid([*flaws, *file.flaws_of(error, Suite, hidden={_FOLDER}, added=added)]) from None
    flaws += [file.flaw(place, reason) for place, reason in suite.contradictions()]
    if flaws:
        raise invalid(flaws)
    return SuiteFile(path, suite, file)


def suites_in(folder: Path) -> list[SuiteFile]:
    """Return the checked suites of a folder, in the order of their names.

    Raises ``InputInvalid`` for a suite, ``UsageError`` for a folder without any and for two suites with one name.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix in _ENDINGS)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"the folder {folder} cannot be read: {reason}", hint="name the folder of the suites"
        ) from error
    if not paths:
        raise UsageError(f"there is no suite in {folder}", hint="suites are .yaml files directly in this folder")
    suites = [load_suite(path) for path in paths]
    by_name: dict[str, Path] = {}
    for file in suites:
        if file.suite.name in by_name:
            raise UsageError(
                f"{by_name[file.suite.name]} and {file.path} are both called {file.suite.name!r}",
                hint="give one of them another name",
            )
        by_name[file.suite.name] = file.path
    return suites
