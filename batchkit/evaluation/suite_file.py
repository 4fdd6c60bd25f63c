"""Reading a suite's YAML, with the line and column of everything that is wrong in it, all at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from batchkit.evaluation.suite import Suite
from batchkit.files.checked_yaml import YamlFile, invalid, read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batchkit.errors import InputInvalid
    from batchkit.files.checked_yaml import Place

#: The field that says where a suite lies, which a suite does not say itself.
_FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class SuiteFile:
    """A suite and the file that it was read from, which knows where everything stands."""

    path: Path
    suite: Suite
    file: YamlFile

    def complaint(self, flaws: Iterable[tuple[Place, str]]) -> InputInvalid | None:
        """Make an error of what is wrong at some places; None when nothing is."""
        found = [self.file.flaw(place, reason) for place, reason in flaws]
        return invalid(found) if found else None


def load_suite(path: str | Path) -> SuiteFile:
    """Read and check a suite. Raises ``InputInvalid`` with every problem by line, and ``InputUnreadable``."""
    path = Path(path)
    file, flaws = read_yaml(path, what="a suite", example="`name: ...`, `dataset: ...`, `models: ...`")
    if _FOLDER in file.document:
        flaws.append(file.unknown_key((_FOLDER,), ()))
    try:
        folder = str(path.absolute().parent)
        suite = Suite.model_validate({**file.document, _FOLDER: folder}, context={_FOLDER: folder})
    except ValidationError as error:
        raise invalid([*flaws, *file.flaws_of(error, Suite, hidden={_FOLDER})]) from None
    flaws += [file.flaw(place, reason) for place, reason in suite.contradictions()]
    if flaws:
        raise invalid(flaws)
    return SuiteFile(path, suite, file)
