"""Finding out what the user's words name: files, folders, patterns, a saved data set, or a query on a database."""

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
from batchkit.datasets.sql import SqlTable
from batchkit.datasets.streams import check_file, first_bytes, reading
from batchkit.errors import InputUnreadable, UsageError
from batchkit.files import jsonl
from batchkit.files.outputs import are_same

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
}
_COMPRESSED: Final = (".gz", ".zst", ".zstd")
_READ: Final = "what is read ends in .csv, .jsonl (both also .gz or .zst), .parquet, .arrow or .feather"
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def open_table(words: Sequence[str], *, query: str | None = None) -> Table:
    """Open what the words name as one table.

    Each word is a file, a pattern (``part-*.csv``), or a folder whose files are taken in the order of their names, all of
    one kind; or the folder of a Hugging Face data set (``save_to_disk``). One word may be a database URL instead, with the ``query``
    that makes the rows. Raises ``UsageError`` and ``InputUnreadable``.
    """
    words = [str(word) for word in words]
    if not words:
        raise UsageError("no table is named", hint=_READ)
    urls = [word for word in words if _URL.match(word)]
    if urls or query is not None:
        return _open_query(words, urls, query)
    folder = Path(words[0])
    if len(words) == 1 and (saved := _saved_dataset(folder)) is not None:
        return ArrowTable(folder.absolute().name, saved, "dataset")
    paths = [path for word in words for path in _expand(word)]
    for path in paths:
        check_file(path)
    first = Path(words[0])
    name = first.absolute().name if first.is_dir() else _stem(paths[0])
    return _open_files(name, paths)


def is_among(path: Path, words: Sequence[str]) -> bool:
    """Whether a file is one of those that the words name, or would be when it is written. Raises ``UsageError``."""
    return any(_names(word, path) for word in map(str, words) if not _URL.match(word))


def _names(word: str, path: Path) -> bool:
    place = Path(word)
    if place.is_dir():
        saved = _saved_dataset(place)
        if saved is not None:
            return any(are_same(path, file) for file in saved)
        is_read = _ending(path) in _KINDS and not path.name.startswith((".", "_"))
        return is_read and are_same(path.absolute().parent, place)
    if not place.exists() and glob.has_magic(word):
        return _fits(Path(os.path.abspath(path)).parts, Path(os.path.abspath(word)).parts)  # noqa: PTH100 - also where no file is
    return are_same(path, place)


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path match those of a pattern, in which ``**`` stands for any folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _open_query(words: Sequence[str], urls: Sequence[str], query: str | None) -> Table:
    if len(words) > 1 or not urls:
        raise UsageError(
            "a query is asked of one database",
            hint="name one URL, sqlite:///file.db or postgresql://user@host/database, and no file beside it",
        )
    if query is None or not query.strip():
        raise UsageError("a database is no table by itself", hint="say which rows: --query 'select ... order by ...'")
    return SqlTable(urls[0], query)


def _open_files(name: str, paths: Sequence[Path]) -> Table:
    kinds = {path: _kind(path) for path in paths}
    different = next((path for path in paths if kinds[path] != kinds[paths[0]]), None)
    if different is not None:
        raise UsageError(
            f"{paths[0]} and {different} are files of different kinds", hint="one table is made of files of one kind"
        )
    match kinds[paths[0]]:
        case "csv":
            return CsvTable(name, paths)
        case "jsonl":
            return JsonlTable(name, paths)
        case kind:
            return ArrowTable(name, paths, kind)


def _expand(word: str) -> list[Path]:
    path = Path(word)
    if path.is_dir():
        if _saved_dataset(path) is not None:
            raise UsageError(f"{word} is a data set, and one of several words", hint="name one data set alone")
        return _files_of(path)
    if not path.exists() and glob.has_magic(word):
        # A path's own glob takes no absolute pattern.
        matches = map(Path, glob.glob(word, recursive=True))  # noqa: PTH207 - as said
        found = sorted(path for path in matches if path.is_file())
        if not found:
            raise UsageError(f"no file matches {word}", hint="check the pattern and the working directory")
        return found
    return [path]


def _files_of(folder: Path) -> list[Path]:
    with reading(folder):
        files = sorted(
            path
            for path in folder.iterdir()
            # Marks and checksums that other programs leave among their data begin so.
            if path.is_file() and not path.name.startswith((".", "_")) and _ending(path) in _KINDS
        )
    if not files:
        raise UsageError(f"the folder {folder} holds no file that is read", hint=_READ)
    return files


def _without_compression(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() in _COMPRESSED else path


def _ending(path: Path) -> str:
    return _without_compression(path).suffix.lower()


def _stem(path: Path) -> str:
    return _without_compression(path).stem


def _kind(path: Path) -> str:
    kind = _KINDS.get(_ending(path))
    if kind is None:
        raise InputUnreadable(path, f"{path.suffix or 'no ending'}: not a table that is read", _READ)
    if kind in {"parquet", "arrow"} and path.suffix.lower() in _COMPRESSED:
        raise InputUnreadable(path, "is compressed as a whole", "unpack it: its columns are compressed already")
    if kind == "parquet" and not first_bytes(path).startswith(b"PAR1"):
        raise InputUnreadable(path, "is not a Parquet file", "check what wrote it, or give it the ending of what it is")
    return kind


def _saved_dataset(folder: Path) -> list[Path] | None:
    """Find the files of a data set that ``save_to_disk`` wrote; None when the folder is none. Raises ``UsageError``."""
    if (splits := folder / "dataset_dict.json").is_file():
        names = _member(splits, "splits")
        raise UsageError(
            f"{folder} holds several splits: {', '.join(map(str, names))}",
            hint=f"name one: {folder / str(next(iter(names), 'train'))}",
        )
    state = folder / "state.json"
    if not state.is_file():
        return None
    files = [folder / Path(entry["filename"]).name for entry in _member(state, "_data_files")]
    if not files:
        raise UsageError(f"{folder} is a data set without rows")
    return files


def _member(path: Path, name: str) -> list[Any]:
    with reading(path):
        data = path.read_bytes()
    try:
        found = jsonl.loads(data)[name]
    except (jsonl.MalformedJson, KeyError, TypeError):
        found = None
    if not isinstance(found, list):
        raise InputUnreadable(path, f"says nothing of {name}", "save the data set again with save_to_disk")
    return found
