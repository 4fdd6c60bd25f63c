"""``batchkit.toml``: the settings of a project, in the working directory or in the nearest folder above it.

``[batchkit]`` holds settings by their names, ``[notify]`` those of notifications without their ``notify_``, ``[provider]`` the name
and the address of the provider and, in ``[provider.profile]``, what differs from a known one. The file may be shared
with others, so it holds no key, no command and no password. Relative paths begin in its folder.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from batchkit.errors import ConfigurationError
from batchkit.formatting import or_rather

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

FILE_NAME = "batchkit.toml"
_MAIN = "batchkit"
_NOTIFY = "notify"
_NOTIFY_PREFIX = "notify_"
_PROVIDER = "provider"
_PROFILE = "profile"
#: The keys of the table, with the settings that they give.
_OF_PROVIDER = {"name": "provider", "base_url": "base_url", _PROFILE: "provider_profile"}
#: Settings that the file may not give, with what to do instead.
_REFUSED = {
    "api_key": "this file must not hold a key: set it in the environment or in .env",
    "on_finish": "this file must not hold a command: set BATCHKIT_ON_FINISH in the environment, or give --on-finish",
}
_PATHS = ("home", "shared_folder")
_RELATIVE_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)(?!/|:memory:)(.+)")
_PASSWORD = re.compile(r"://[^:/@\s]*:\S*@")
_SECRET_OPTION = re.compile(r"[?&][^=&]*(?:password|secret|token|credential|api_key|account_key)[^=&]*=", re.IGNORECASE)
_SYNTAX = re.compile(r"(?P<reason>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL)
_HINT = "correct the file and run the same command again"


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """A checked file: ``values`` by the names of the settings.

    ``path`` is relative when the file lies in the working directory; ``places`` are the table and the key of each setting.
    """

    path: Path
    text: str
    tables: dict[str, Any]
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def place_of(self, name: str) -> str:
        """Return ``FILE:LINE`` of a setting."""
        return f"{self.path}:{self._line_of(self.places[name])}"

    def place_within(self, location: tuple[int | str, ...]) -> tuple[str, ...]:
        """Return the keys of the entry that is nearest to a place in the values: a setting's name, then keys and indexes in it."""
        keys = self.places[str(location[0])]
        for part in location[1:]:
            if not isinstance(part, str) or not _has(self.tables, (*keys, part)):
                break
            keys = (*keys, part)
        return keys

    def _line_of(self, keys: tuple[str, ...]) -> int:
        """Return the line, from 1, at which the statement begins that gives an entry.

        The shortest beginning of the file that parses and has the entry ends with that statement; the longest one that parses
        without it ends just before. So the line is found for every way of writing an entry, without a second reader of TOML.
        """
        lines = self.text.split("\n")
        before = 0
        for end in range(1, len(lines) + 1):
            try:
                tables = tomllib.loads("\n".join(lines[:end]))
            except tomllib.TOMLDecodeError:
                continue  # within a value of several lines
            if _has(tables, keys):
                break
            before = end
        return before + 1

    def wrong(self, problems: Iterable[tuple[tuple[str, ...], str]]) -> ConfigurationError:
        """Make the error of problems, each with the keys of its entry: one line for each, in the file's order."""
        ordered = sorted((self._line_of(keys), reason) for keys, reason in problems)
        return ConfigurationError("\n".join(f"{self.path}:{line}: {reason}" for line, reason in ordered), hint=_HINT)


def read_settings_file(
    names: Iterable[str], *, profile_names: Callable[[], Sequence[str]], check: Callable[[dict[str, Any]], object]
) -> SettingsFile | None:
    """Read and check the nearest file, None when there is none.

    ``names`` are the settings that there are, ``profile_names`` returns the entries of a provider's profile. ``check`` is called with the
    values and raises ``ValidationError``. Raises ``ConfigurationError`` with the line of every problem.
    """
    path = _nearest_file()
    if path is None:
        return None
    file = _parse(path)
    tables = _keys_by_table(names)
    problems = [*_collect(file, tables), *_unknown_in_profile(file, profile_names)]
    unknown = {keys for keys, _ in problems}
    try:
        check(file.values)
    except ValidationError as error:
        for found in error.errors(include_url=False):
            keys = file.place_within(found["loc"])
            if keys not in unknown:
                problems.append((keys, f"{keys[-1]}: {found['msg'].removeprefix('Value error, ')}"))
    if problems:
        raise file.wrong(problems)
    return file


def _nearest_file() -> Path | None:
    folder = Path.cwd()
    if (folder / FILE_NAME).is_file():
        return Path(FILE_NAME)
    return next((found for parent in folder.parents if (found := parent / FILE_NAME).is_file()), None)


def _parse(path: Path) -> SettingsFile:
    try:
        text = path.read_text(encoding="utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}", hint=_HINT) from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not text in UTF-8", hint="save the file as UTF-8") from None
    try:
        return SettingsFile(path, text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        found = _SYNTAX.fullmatch(str(error))
        reason, line, column = found.group("reason", "line", "column") if found else (str(error), None, None)
        place = f"{line}:{column}" if line else str(text.rstrip().count("\n") + 1)
        raise ConfigurationError(f"{path}:{place}: not valid TOML: {reason}", hint=_HINT) from None


def _keys_by_table(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Map each table's keys to the settings that they give."""
    tables: dict[str, dict[str, str]] = {_MAIN: {}, _NOTIFY: {}, _PROVIDER: _OF_PROVIDER}
    for name in names:
        if name.startswith(_NOTIFY_PREFIX):
            tables[_NOTIFY][name.removeprefix(_NOTIFY_PREFIX)] = name
        elif name not in _REFUSED and name not in {"provider", "provider_profile"}:
            tables[_MAIN][name] = name
    return tables


def _collect(file: SettingsFile, tables: dict[str, dict[str, str]]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Put what can be used into the file's values; yields the problems of the rest."""
    for table, content in file.tables.items():
        if table not in tables:
            yield (table,), _unknown_table(table, content, tables)
        elif not isinstance(content, dict):
            yield (table,), f"{table} is a table: write its entries below [{table}]"
        else:
            for key, value in content.items():
                name = tables[table].get(key)
                if name is None:
                    yield (table, key), _unknown_key(table, key, tables)
                elif (reason := _secret_in(name, value)) is not None:
                    yield (table, key), reason
                elif name in file.values:
                    yield (table, key), f"{key} is given twice: {file.place_of(name)} has it too"
                else:
                    file.values[name] = _from_folder(name, value, file.path.absolute().parent)
                    file.places[name] = (table, key)


def _unknown_in_profile(
    file: SettingsFile, names: Callable[[], Sequence[str]]
) -> Iterator[tuple[tuple[str, ...], str]]:
    profile = file.values.get(_OF_PROVIDER[_PROFILE])
    if not isinstance(profile, dict):
        return
    known = names()
    for key in profile:
        if key not in known:
            reason = f"a profile has no {key!r}{or_rather(key, known)}"
            if key in _OF_PROVIDER:
                reason = f"{key} does not belong here: write it below [{_PROVIDER}]"
            elif key.startswith("key"):
                reason = f"{key}: the key of a server of your own is in BATCHKIT_API_KEY, whatever this file says"
            yield (_PROVIDER, _PROFILE, key), reason


def _unknown_table(table: str, content: Any, tables: dict[str, dict[str, str]]) -> str:
    if not isinstance(content, dict):
        return _unknown_key("", table, tables)
    return f"there is no table {table!r} (there are: {', '.join(tables)}){or_rather(table, tables)}"


def _unknown_key(table: str, key: str, tables: dict[str, dict[str, str]]) -> str:
    """Write what is wrong with a key that the table does not have, and which it may be meant to be."""
    plain = key.lower().replace("-", "_").removeprefix("batchkit_")
    plain = "api_key" if plain.endswith("_api_key") else plain
    if plain in _REFUSED:
        return f"{key}: {_REFUSED[plain]}"
    for other, keys in tables.items():
        if other != table:
            own = next((mine for mine, name in keys.items() if plain in {mine, name}), None)
            if own is not None:
                return f"{key} does not belong here: write {own} below [{other}]"
    return f"there is no setting {key!r}{or_rather(plain, tables.get(table, tables[_MAIN]))}"


def _secret_in(name: str, value: Any) -> str | None:
    """Write why a value may not stand in the file, None when it may. The address of a web hook may have options of any kind."""
    if not isinstance(value, str):
        return None
    if _PASSWORD.search(value) or (not name.startswith(_NOTIFY_PREFIX) and _SECRET_OPTION.search(value)):
        return f"{name}: this file must not hold a password: set BATCHKIT_{name.upper()} in the environment or in .env"
    return None


def _from_folder(name: str, value: Any, folder: Path) -> Any:
    """Let a relative path, and that of a SQLite file, begin in the file's folder."""
    if not isinstance(value, str):
        return value
    if name in _PATHS:
        return str(folder / Path(value).expanduser())
    if name == "database_url" and (sqlite := _RELATIVE_SQLITE.fullmatch(value)):
        return f"{sqlite[1]}{folder / sqlite[2]}"
    return value


def _has(tables: Any, keys: tuple[str, ...]) -> bool:
    for key in keys:
        if not isinstance(tables, dict) or key not in tables:
            return False
        tables = tables[key]
    return True
