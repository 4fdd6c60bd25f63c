"""A configuration and the files that it names, as a stranger may have written them: bounded, and only below its folder."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batchkit.errors import InputInvalid, InputUnreadable, UsageError
from batchkit.files import jsonl
from batchkit.files.checked_yaml import invalid, read_yaml, read_yaml_value
from batchkit.files.paths import is_regular
from batchkit.formatting import counted, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.files.checked_yaml import Place

_MOST_BYTES: Final = 10_000_000
_MOST_FILES: Final = 1_000
_MOST_NOTES: Final = 100
_NOTE_CHARACTERS: Final = 300
_FILE: Final = "file://"
_TOO_LARGE: Final = 2**63


class Notes:
    """What has no counterpart, or another meaning, with the place where it stands; what many places share is said once."""

    def __init__(self) -> None:
        self._places: dict[str, dict[str, None]] = {}

    def add(self, where: str, text: str) -> None:
        """Add a sentence about a place."""
        places = self._places.setdefault(printable(text, _NOTE_CHARACTERS), {})
        places[printable(where, _NOTE_CHARACTERS)] = None

    def lines(self) -> list[str]:
        """Return the sentences, each on one line."""
        shown = list(self._places.items())
        lines = [
            f"{next(iter(places))}: {text}"
            + (f" (also in {counted(len(places) - 1, 'other place')})" if len(places) > 1 else "")
            for text, places in shown[:_MOST_NOTES]
        ]
        rest = len(shown) - len(lines)
        return [*lines, f"and {rest:,} more"] if rest else lines


class Source:
    """A configuration, its notes, and the files below its folder. Raises ``InputInvalid`` and ``InputUnreadable``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file, flaws = read_yaml(
            path, what="a promptfoo configuration", example="`prompts: ...`, `providers: ...`, `tests: ...`"
        )
        if flaws:
            raise invalid(flaws)
        self.document: dict[str, Any] = _plain(self.file.document)
        self.notes = Notes()
        self._folder = path.absolute().parent
        self._read = 0

    def where(self, place: Place) -> str:
        """Return a place of the configuration for people."""
        return f"{self.path}:{self.file.flaw(place, '').line}"

    def note(self, place: Place, text: str) -> None:
        """Add a note about a place of the configuration."""
        self.notes.add(self.where(place), text)

    def error(self, place: Place, reason: str) -> InputInvalid:
        """Return the error of a place without which there is no suite."""
        return invalid([self.file.flaw(place, reason, points_at_key=True)])

    def is_file(self, text: str) -> bool:
        """Whether a text names a file: with ``file://``, or as the path of one that is there."""
        if text.startswith(_FILE):
            return True
        if "\n" in text or len(text) > 300 or not Path(text).suffix:  # noqa: PLR2004 - longer than any path
            return False
        return any(True for _ in self._matches(text))

    def files(self, reference: str, where: str) -> list[Path]:
        """Return the files that a reference names, which may be a pattern; what cannot be read is noted."""
        name = reference.removeprefix(_FILE)
        if "://" in name:
            self.notes.add(where, f"{name} is not read: only files are")
            return []
        found = list(self._matches(name))
        if not found:
            self.notes.add(where, f"there is no file {name} below the folder of the configuration; only these are read")
        return found

    def _matches(self, name: str) -> Iterator[Path]:
        """Yield the files of a path or pattern, no others than those below the configuration's folder.

        A configuration of a stranger's must not take a secret of this machine into a data set.
        """
        try:
            folder = self._folder.resolve()
            named = self._folder / name
            paths = sorted(map(Path, glob.glob(str(named), recursive=True))) if glob.has_magic(name) else [named]  # noqa: PTH207 - the folder is absolute
            yield from (path for path in paths if is_regular(path) and path.resolve().is_relative_to(folder))
        except (OSError, RuntimeError, ValueError):
            return  # half a character, a circle of links

    def text(self, path: Path) -> str:
        """Return the content of a file. Raises ``InputUnreadable``."""
        self._count()
        try:
            with path.open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
            if len(content) > _MOST_BYTES:
                raise InputUnreadable(path, f"is larger than {_MOST_BYTES // 1_000_000} MB", "import a part of it")
            return content.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise InputUnreadable(path, f"cannot be read: {reason}", "correct it, or leave it out") from error

    def value(self, path: Path) -> Any:
        """Return the content of a file of YAML, JSON or JSON Lines. Raises ``InputInvalid`` and ``InputUnreadable``."""
        self._count()
        if path.suffix in {".yaml", ".yml"}:
            return _plain(read_yaml_value(path, what="a promptfoo configuration"))
        text = self.text(path)
        try:
            if path.suffix == ".jsonl":
                return [jsonl.loads(line) for line in text.splitlines() if line.strip()]
            return jsonl.loads(text)
        except jsonl.MalformedJson as error:
            raise InputUnreadable(path, f"is not JSON: {error}", "correct it, or leave it out") from None

    def _count(self) -> None:
        self._read += 1
        if self._read > _MOST_FILES:
            raise UsageError(f"{self.path} names more than {_MOST_FILES:,} files", hint="import a part of it")


def _plain(value: Any) -> Any:
    """Return a value of YAML as JSON could hold it: keys are texts, a set is a list, bytes and endless numbers are texts."""
    if isinstance(value, dict):
        return {str(name): _plain(member) for name, member in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(member) for member in value]
    if isinstance(value, int) and abs(value) >= _TOO_LARGE:
        return str(value)
    return value.decode(errors="replace") if isinstance(value, bytes) else value
