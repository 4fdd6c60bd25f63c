"""The base of all tables, whatever the source of their rows."""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Self

from batchkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa


class Table(ABC):
    """Rows in a fixed order, of columns whose types are known before the first row is returned.

    ``name`` is for people: a file's name without its endings. ``limit`` is the number of rows to read, None for all.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.limit: int | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(self.schema.names)

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns with the types and the metadata of their source (``rows`` has the marks of fields). Raises as ``batches``."""
        return self._find_schema()

    def batches(self, *, rows: int = 10_000) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, at most ``rows`` at a time; may be called again. Memory does not grow with the table.

        Raises ``InputUnreadable`` and ``UsageError``.
        """
        left = self.limit
        if left == 0:
            return
        for batch in self._read(rows):
            if left is None:
                yield batch
            else:
                yield batch[:left]
                left -= min(left, len(batch))
                if not left:
                    return

    def head(self, count: int) -> Self:
        """Return the same table with at most the first ``count`` rows."""
        table = copy.copy(self)
        table.__dict__.pop("schema", None)
        table.limit = count if self.limit is None else min(count, self.limit)
        return table

    def digest(self) -> str:
        """Return a SHA-256 in hex of the files' bytes in order, or of the query and its database."""
        content = self._content_digest()
        if self.limit is None:
            return content
        return hashlib.sha256(f"{content}:{self.limit}".encode()).hexdigest()

    @abstractmethod
    def _find_schema(self) -> pa.Schema: ...

    @abstractmethod
    def _read(self, rows: int) -> Iterator[pa.RecordBatch]: ...

    @abstractmethod
    def _content_digest(self) -> str: ...


def check_same_columns(names: Sequence[str], found: Sequence[str], first: Path, path: Path) -> None:
    """Raise ``UsageError`` unless a file has the columns of the first one, in any order."""
    missing = [name for name in names if name not in found]
    added = [name for name in found if name not in names]
    if missing or added:
        difference = (
            f"lacks the column {missing[0]!r} of {first}"
            if missing
            else f"has the column {added[0]!r}, which {first} lacks"
        )
        raise UsageError(f"{path} {difference}", hint="files that are read as one table have the same columns")
