"""Opens the table that the user names: files, folders, patterns, a saved data set, or a query on a database."""

from __future__ import annotations

import glob
import os
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batchkit.datasets.arrow_files import ArrowTable
from batchkit.datasets.csv_files import CsvTable
from batchkit.datasets.jsonl_files import JsonlTable
from batchkit.datasets.metadata import HUGGING_FACE
from batchkit.datasets.sql import SqlTable
from batchkit.datasets.streams import COMPRESSED, check_file, first_bytes, reading, without_compression
from batchkit.errors import InputUnreadable, UsageError
from batchkit.files import jsonl
from batchkit.files.outputs import are_same
from batchkit.files.paths import is_folder, is_regular, may_exist

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.datasets.table import Table

_KINDS: Final = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".arrows": "arrow",
}
_READ: Final = "the readable formats end in .csv, .jsonl (both also .gz or .zst), .parquet, .arrow or .feather"
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def open_table(parts: Sequence[str], *, query: str | None = None, separator: str | None = None) -> Table:
    """Open the named parts as one table.

    Each part is a file, a pattern (``part-*.csv``), or a folder, whose files are read in the order of their names; all are of one
    kind. A part may also be the folder of a Hugging Face data set (``save_to_disk``). A single part may be a database URL, with the
    ``query`` that selects the rows. ``separator`` is the sign between the cells of CSV files, by default the one that they seem to
    have. Raises ``UsageError`` and ``InputUnreadable``.
    """
    parts = [str(part) for part in parts]
    if not parts:
        raise UsageError("no table is named", hint=_READ)
    separator = "\t" if separator == "\\t" else separator
    if separator is not None and (len(separator) != 1 or separator in '"\r\n'):
        raise UsageError(f"{separator!r} cannot separate cells", hint="use one character: --separator '|'")
    urls = [part for part in parts if _URL.match(part)]
    if urls or query is not None:
        _check_separated("query", separator)
        return _open_query(parts, urls, query)
    folder = Path(parts[0])
    if len(parts) == 1 and (saved := _saved_dataset(folder)) is not None:
        _check_separated("dataset", separator)
        return ArrowTable(folder.absolute().name, saved, "dataset", metadata=_features_of(folder))
    paths = [path for part in parts for path in _expand(part)]
    for path in paths:
        check_file(path)
    first = Path(parts[0])
    name = first.absolute().name if is_folder(first) else _stem(paths[0])
    return _open_files(name, paths, separator)


def is_among(path: Path, parts: Sequence[str]) -> bool:
    """Whether a file is one of the named parts, or would be after it is written. Raises ``UsageError``."""
    return any(_names(part, path) for part in map(str, parts) if not _URL.match(part))


def _names(part: str, path: Path) -> bool:
    place = Path(part)
    if is_folder(place):
        saved = _saved_dataset(place)
        if saved is not None:
            return any(are_same(path, file) for file in saved)
        is_read = _ending(path) in _KINDS and not path.name.startswith((".", "_"))
        return is_read and are_same(path.absolute().parent, place)
    if not may_exist(place) and glob.has_magic(part):
        return _fits(Path(os.path.abspath(path)).parts, Path(os.path.abspath(part)).parts)  # noqa: PTH100 - also where no file is
    return are_same(path, place)


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path match those of a pattern, in which ``**`` stands for any folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _open_query(parts: Sequence[str], urls: Sequence[str], query: str | None) -> Table:
    if len(parts) > 1 or not urls:
        raise UsageError(
            "a query needs exactly one database",
            hint="name one URL, sqlite:///file.db or postgresql://user@host/database, and no file beside it",
        )
    if query is None or not query.strip():
        raise UsageError("a database URL needs a query", hint="select the rows: --query 'select ... order by ...'")
    return SqlTable(urls[0], query)


def _open_files(name: str, paths: Sequence[Path], separator: str | None) -> Table:
    kinds = {path: _kind(path) for path in paths}
    different = next((path for path in paths if kinds[path] != kinds[paths[0]]), None)
    if different is not None:
        raise UsageError(
            f"{paths[0]} and {different} are files of different kinds", hint="one table is made of files of one kind"
        )
    _check_separated(kinds[paths[0]], separator)
    match kinds[paths[0]]:
        case "csv":
            return CsvTable(name, paths, separator=separator)
        case "jsonl":
            return JsonlTable(name, paths)
        case kind:
            return ArrowTable(name, paths, kind)


def _check_separated(kind: str, separator: str | None) -> None:
    if separator is not None and kind != "csv":
        raise UsageError("only CSV files have a separator", hint="leave out --separator")


def _expand(part: str) -> list[Path]:
    path = Path(part)
    if is_folder(path):
        if _saved_dataset(path) is not None:
            raise UsageError(
                f"{part} is a data set, and cannot be combined with others", hint="name one data set alone"
            )
        return _files_of(path)
    if not may_exist(path) and glob.has_magic(part):
        # Path.glob does not accept an absolute pattern.
        matches = map(Path, glob.glob(part, recursive=True))  # noqa: PTH207 - see above
        found = sorted(path for path in matches if path.is_file())
        if not found:
            raise UsageError(f"no file matches {part}", hint="check the pattern and the working directory")
        return found
    return [path]


def _files_of(folder: Path) -> list[Path]:
    with reading(folder):
        files = sorted(
            path
            for path in folder.iterdir()
            # Other programs write markers and checksums with such names among their data.
            if path.is_file() and not path.name.startswith((".", "_")) and _ending(path) in _KINDS
        )
    if not files:
        raise UsageError(f"the folder {folder} holds no file of a readable format", hint=_READ)
    return files


def _ending(path: Path) -> str:
    return without_compression(path).suffix.lower()


def _stem(path: Path) -> str:
    return without_compression(path).stem


def _kind(path: Path) -> str:
    kind = _KINDS.get(_ending(path))
    if kind is None:
        raise InputUnreadable(path, f"{path.suffix or 'no ending'}: not a readable table format", _READ)
    if kind in {"parquet", "arrow"} and path.suffix.lower() in COMPRESSED:
        raise InputUnreadable(path, "is compressed as a whole", "unpack it: its columns are compressed already")
    if kind == "parquet" and not first_bytes(path).startswith(b"PAR1"):
        raise InputUnreadable(
            path, "is not a Parquet file", "check the program that wrote it, or correct the ending of its name"
        )
    return kind


def _saved_dataset(folder: Path) -> list[Path] | None:
    """Return the files of a data set that ``save_to_disk`` wrote; None if the folder has none. Raises ``UsageError``."""
    if is_regular(splits := folder / "dataset_dict.json"):
        names = _member(splits, "splits")
        raise UsageError(
            f"{folder} holds several splits: {', '.join(map(str, names))}",
            hint=f"name one: {folder / str(next(iter(names), 'train'))}",
        )
    state = folder / "state.json"
    if not is_regular(state):
        return None
    files = [folder / Path(entry["filename"]).name for entry in _member(state, "_data_files")]
    if not files:
        raise UsageError(f"{folder} is a data set without rows")
    return files


def _features_of(folder: Path) -> dict[bytes, bytes]:
    """Return the features of a saved data set as the metadata that its files have, if they do."""
    path = folder / "dataset_info.json"
    try:
        features = jsonl.loads(path.read_bytes()).get("features")
    except (OSError, jsonl.MalformedJson, AttributeError):
        return {}
    return {HUGGING_FACE: jsonl.dumps({"info": {"features": features}})} if features else {}


def _member(path: Path, name: str) -> list[Any]:
    with reading(path):
        data = path.read_bytes()
    try:
        found = jsonl.loads(data)[name]
    except (jsonl.MalformedJson, KeyError, TypeError):
        found = None
    if not isinstance(found, list):
        raise InputUnreadable(path, f"has no list {name!r}", "save the data set again with save_to_disk")
    return found
