"""Writes tables: the file appears completely, or not at all."""

from __future__ import annotations

import gzip
import re
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

import pyarrow as pa
import zstandard

from batchkit.datasets.arrow_files import ArrowTable
from batchkit.datasets.encoders import Encoder, encoder_of
from batchkit.datasets.streams import COMPRESSED
from batchkit.errors import UsageError
from batchkit.files.spool import disk_errors, make_private_folder, whole_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from batchkit.datasets.table import Table

_WRITTEN: Final = "name a file that ends in .jsonl, .csv (both also .gz or .zst), .parquet, .arrow or .feather"


_TABLE_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,47}")


def check_target(target: str | Path) -> None:
    """Raise ``UsageError`` if ``target`` is neither a file of a type that ``TableWriter`` writes nor ``table:NAME``."""
    if table_name_of(target) is None:
        _endings(Path(target))


def table_name_of(target: str | Path) -> str | None:
    """Return NAME of ``table:NAME``; None for a file. Raises ``UsageError`` for a name that a database accepts only in quotes."""
    prefix, colon, name = str(target).partition(":")
    if prefix != "table" or not colon:
        return None
    if _TABLE_NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name!r} cannot be the name of a table",
            hint="use letters, digits and _, a letter first, at most 48 characters",
        )
    return name


class TableWriter:
    """Writes batches of ``schema`` into a file, by its ending: JSON Lines, CSV, Parquet or Arrow (``.arrow``, ``.feather``).

    A context manager: the file appears by a rename if the ``with`` block succeeds, and not at all otherwise. A new file gets the
    default rights, a replaced one keeps its rights; a ``private`` one is readable by its owner only. In CSV, cells that a
    spreadsheet would run are protected unless ``raw_csv`` (see ``formulas``); cells are written by ``values.text_of``. In JSON Lines values
    that JSON cannot express are those of ``values.as_json``. Parquet and Arrow keep types and metadata; a column of a type that Parquet
    does not have becomes a JSON column (see ``rows``). Raises ``UsageError`` for another ending, ``SpoolError``.
    """

    def __init__(self, target: Path, schema: pa.Schema, *, raw_csv: bool = False, private: bool = False) -> None:
        self._target = target
        self._schema = schema
        self._raw_csv = raw_csv
        self._private = private
        self._kind, self._compression = _endings(target)
        self._stack = ExitStack()
        self._encoder: Encoder | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(disk_errors("write", self._target))
            handle = stack.enter_context(whole_file(self._target, private=self._private))
            handle = stack.enter_context(_compressed(handle, self._compression))
            self._encoder = encoder_of(self._kind, handle, self._schema, raw_csv=self._raw_csv)
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, traceback)

    def write(self, batch: pa.RecordBatch) -> None:
        """Write some rows with the writer's schema."""
        assert self._encoder is not None  # noqa: S101 - a bug, not the user's mistake
        with disk_errors("write", self._target), self._unfit_values():
            self._encoder.write(batch)

    @contextmanager
    def _unfit_values(self) -> Iterator[None]:
        """Convert errors about values that the format cannot hold, as seconds that are too many for Parquet's milliseconds."""
        try:
            yield
        except pa.ArrowException as error:
            raise UsageError(
                f"{self._target} cannot be written: {error}", hint="write another format: .arrow takes every value"
            ) from error

    def _finish(
        self, kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._encoder is None:
            return
        # Otherwise the garbage collector would let the Parquet writer write its end into a closed file.
        with self._unfit_values() if kind is None else suppress(Exception):
            self._encoder.close()


class Snapshot:
    """The rows of a table at the time when the requests were made, with the types of their source: an Arrow stream in the spool.

    Earlier versions made Parquet files, with types that templates read.
    """

    @staticmethod
    def writer(path: Path, schema: pa.Schema) -> TableWriter:
        """Return a writer of a snapshot; only its owner may read it."""
        with disk_errors("create the folder of", path):
            make_private_folder(path.parent)
        return TableWriter(path, schema, private=True)

    @staticmethod
    def open(path: Path) -> Table:
        """Return the table of a snapshot. Raises ``InputUnreadable``."""
        return ArrowTable(path.stem, [path], "parquet" if path.suffix == ".parquet" else "arrow")


def _endings(target: Path) -> tuple[str, str | None]:
    """Return format and compression. Raises ``UsageError``."""
    compression = target.suffix.lower() if target.suffix.lower() in COMPRESSED else None
    ending = (target.with_suffix("") if compression else target).suffix.lower()
    kinds = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}
    if compression is None:
        kinds |= {".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow"}
        kinds |= {".arrows": "stream"}
    if ending not in kinds:
        reason = f"no format ends in {target.suffix}" if target.suffix else "the name has no ending"
        raise UsageError(f"cannot write {target}: {reason}", hint=_WRITTEN)
    return kinds[ending], compression


def _compressed(handle: IO[bytes], compression: str | None) -> AbstractContextManager[Any]:
    match compression:
        case None:
            return nullcontext(handle)
        case ".gz":
            # Without name and time, the same rows give the same bytes.
            return gzip.GzipFile(filename="", fileobj=handle, mode="wb", compresslevel=6, mtime=0)
        case _:
            return zstandard.ZstdCompressor().stream_writer(handle, closefd=False)
